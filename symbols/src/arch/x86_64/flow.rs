//! The paths through a function.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code, FlowControl, Instruction};

use super::{classify, decode, name_of, slot};
use crate::{elf::Image, probe::Class};

/// Functions of interest have some hundred instructions at most; larger ones are not analysed.
const MAX_INSTRUCTIONS: usize = 4096;

/// Functions of libc that end the process: no path goes on after them.
const NEVER_RETURN: &[&str] = &["__stack_chk_fail", "__fortify_fail", "__assert_fail", "abort", "exit", "_exit"];

/// How control goes on after an instruction, apart from its successors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the successors only.
    Plain,
    /// A call: of a known address, of a function of another library by name, or of neither.
    Call { target: Option<u64>, name: Option<String> },
    /// A jump that leaves the function for good.
    Tail { target: Option<u64>, name: Option<String> },
    /// Back to the caller.
    Return,
}

/// An instruction on some path.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub instruction: Instruction,
    pub class: Class,
    pub kind: Kind,
    pub successors: Vec<u64>,
}

/// All instructions that a call of a function may run, without what it calls.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
}

impl Flow {
    /// Decodes the function from `start`, whose code ends at `end`.
    ///
    /// None when a path meets bytes that are no instruction, or does not end within reason. A conditional jump out of
    /// the function is followed, as compilers move rare paths elsewhere; an unconditional one is a tail call.
    pub fn decode(image: &Image<'_>, start: u64, end: u64) -> Option<Self> {
        let mut nodes = BTreeMap::new();
        let mut pending = BTreeSet::from([start]);
        while let Some(address) = pending.pop_first() {
            if nodes.len() >= MAX_INSTRUCTIONS {
                return None;
            }
            let node = node(image, address, start..end)?;
            pending.extend(node.successors.iter().filter(|next| !nodes.contains_key(*next)));
            nodes.insert(address, node);
            pending.remove(&address);
        }
        Some(Self { start, end, nodes })
    }

    /// Whether the instruction is the function's own and not in code that it shares or that was moved elsewhere.
    pub(super) fn owns(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// The instructions that every call runs exactly once, from the start to the first that can go two ways.
    pub(super) fn head(&self) -> Vec<u64> {
        let mut head = vec![];
        let mut next = Some(self.start);
        while let Some(address) = next.filter(|address| !head.contains(address) && !self.is_jump_target(*address)) {
            let Some(node) = self.nodes.get(&address) else { break };
            head.push(address);
            next = match node.successors.as_slice() {
                [only] if *only == node.instruction.next_ip() => Some(*only),
                _ => None,
            };
        }
        head
    }

    fn is_jump_target(&self, address: u64) -> bool {
        let jumps = |from: &Node| from.instruction.next_ip() != address && from.successors.contains(&address);
        self.nodes.values().any(jumps)
    }
}

fn node(image: &Image<'_>, address: u64, own: std::ops::Range<u64>) -> Option<Node> {
    let instruction = decode(image, address)?;
    let bytes = image.code_at(address)?.get(..instruction.len())?;
    let next = instruction.next_ip();
    let (kind, successors) = match instruction.flow_control() {
        FlowControl::Next => (Kind::Plain, vec![next]),
        FlowControl::Return => (Kind::Return, vec![]),
        FlowControl::ConditionalBranch => (Kind::Plain, vec![next, instruction.near_branch_target()]),
        FlowControl::UnconditionalBranch => {
            let target = instruction.near_branch_target();
            if own.contains(&target) {
                (Kind::Plain, vec![target])
            } else {
                (Kind::Tail { target: Some(target), name: name_of(image, target) }, vec![])
            }
        }
        FlowControl::IndirectBranch => (Kind::Tail { target: None, name: slot(image, &instruction) }, vec![]),
        FlowControl::Call if instruction.code() == Code::Call_rel32_64 => {
            let target = instruction.near_branch_target();
            call(Some(target), name_of(image, target), next, own.end)
        }
        FlowControl::IndirectCall => call(None, slot(image, &instruction), next, own.end),
        // ud2 and its like: the process ends.
        FlowControl::Exception => (Kind::Plain, vec![]),
        FlowControl::Interrupt if instruction.code() == Code::Int3 => (Kind::Plain, vec![]),
        FlowControl::Call | FlowControl::Interrupt | FlowControl::XbeginXabortXend => return None,
    };
    Some(Node { instruction, class: classify(bytes), kind, successors })
}

/// A call with which the function's code ends does not return either: there is nothing to return to.
fn call(target: Option<u64>, name: Option<String>, next: u64, end: u64) -> (Kind, Vec<u64>) {
    let ends = next == end || name.as_deref().is_some_and(|name| NEVER_RETURN.contains(&name));
    (Kind::Call { target, name }, if ends { vec![] } else { vec![next] })
}
