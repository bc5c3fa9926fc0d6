//! Which instructions of a function to probe.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{InstructionInfoFactory, Register as Machine};

use super::{
    flow::{Flow, Kind, Node},
    site,
    values::{ARGUMENTS, State, Value, states, writes_memory, written},
};
use crate::{
    arch::Prototype,
    elf::Image,
    probe::{Arguments, Register, Site},
};

/// The registers that may carry the pointer to the count of bytes moved.
const LENGTHS: [(Machine, Register); 3] =
    [(Machine::RCX, Register::Rcx), (Machine::R8, Register::R8), (Machine::R9, Register::R9)];

/// A call, inside a function of interest, of the function that does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Where it is.
    pub address: u64,
    /// What it calls.
    pub target: u64,
    /// What holds the pointer to the count of bytes moved.
    pub length: Register,
}

impl Flow {
    /// The first instruction that every call passes once with its arguments in place and that the kernel emulates;
    /// else the function's start.
    pub fn enter(&self, prototype: Prototype) -> (u64, Arguments) {
        self.entry_site(prototype, false).unwrap_or((self.start, prototype.arguments_at_start()))
    }

    /// The same, but fit for a return probe: where the return address is still at the top of the stack.
    pub fn enter_and_return(&self, prototype: Prototype) -> Option<(u64, Arguments)> {
        self.entry_site(prototype, true)
    }

    fn entry_site(&self, prototype: Prototype, returns: bool) -> Option<(u64, Arguments)> {
        let states = states(self, &BTreeSet::new());
        self.head().into_iter().find_map(|address| {
            let state = states.get(&address)?;
            let unmoved = !returns || state.get(Machine::RSP) == Value::Stack(0);
            let usable = unmoved && self.nodes.get(&address)?.class.is_emulated() && in_place(state, prototype);
            usable.then(|| Some((address, arguments_in(state, prototype)?)))?
        })
    }

    /// The function that this one goes on to, with its arguments in place, whatever they are.
    pub fn goes_on_to(&self, prototype: Prototype) -> Option<(Option<u64>, Option<&str>)> {
        let last = *self.head().last()?;
        let Kind::Tail { target, name } = &self.nodes.get(&last)?.kind else { return None };
        let states = states(self, &BTreeSet::new());
        in_place(states.get(&last)?, prototype).then_some((*target, name.as_deref()))
    }

    /// Emulated instructions where rax holds what the function is about to return; every return passes one.
    pub fn result_sites(&self) -> Option<Vec<u64>> {
        let settled = self.settled();
        let usable = |address: &u64| {
            let emulated = self.nodes.get(address).is_some_and(|node| node.class.is_emulated());
            emulated && self.owns(*address) && *address != self.start
        };
        let candidates: BTreeSet<u64> = settled.into_iter().filter(usable).collect();
        let alone = candidates.iter().find(|site| self.first_of(&BTreeSet::from([**site])).is_some());
        if let Some(site) = alone {
            return Some(vec![*site]);
        }
        self.first_of(&candidates).map(|sites| sites.into_iter().collect())
    }

    /// The instructions from which on, on all paths, nothing changes rax and nothing is called.
    fn settled(&self) -> BTreeSet<u64> {
        let mut factory = InstructionInfoFactory::new();
        let mut keeps = |node: &Node| match &node.kind {
            Kind::Tail { .. } => false,
            Kind::Call { .. } => node.successors.is_empty(),
            Kind::Return => true,
            Kind::Plain => !written(&node.instruction, &mut factory).iter().any(is_result),
        };
        let kept = self.nodes.iter().filter(|(_, node)| keeps(node)).map(|(address, _)| *address);
        let mut settled: BTreeSet<u64> = kept.collect();
        loop {
            let lost = |address: &u64| {
                self.nodes.get(address).is_none_or(|node| node.successors.iter().any(|next| !settled.contains(next)))
            };
            let losing: Vec<u64> = settled.iter().copied().filter(lost).collect();
            if losing.is_empty() {
                return settled;
            }
            settled.retain(|address| !losing.contains(address));
        }
    }

    /// Those of `sites` that a path from the start meets first; none if a path leaves the function without one.
    fn first_of(&self, sites: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
        self.walk(self.start, |address, _| sites.contains(&address), leaves)
    }

    /// Follows all paths from `from` until `stop`, and returns where it stopped; none if `bad` holds before that.
    fn walk(
        &self,
        from: u64,
        stop: impl Fn(u64, &Node) -> bool,
        mut bad: impl FnMut(&Node) -> bool,
    ) -> Option<BTreeSet<u64>> {
        let (mut seen, mut stopped) = (BTreeSet::new(), BTreeSet::new());
        let mut pending = vec![from];
        while let Some(address) = pending.pop() {
            if !seen.insert(address) {
                continue;
            }
            let node = self.nodes.get(&address)?;
            if stop(address, node) {
                stopped.insert(address);
            } else if bad(node) {
                return None;
            } else {
                pending.extend(&node.successors);
            }
        }
        Some(stopped)
    }

    /// The calls that pass on the function's arguments and a pointer to the count of bytes moved.
    pub fn inner_calls(&self, prototype: Prototype) -> Vec<Call> {
        let states = states(self, &BTreeSet::new());
        let calls = self.nodes.iter().filter_map(|(address, node)| {
            let Kind::Call { target: Some(target), .. } = node.kind else { return None };
            let state = states.get(address)?;
            let length = in_place(state, prototype).then(|| self.length_pointer(state, prototype, &states))??;
            Some(Call { address: *address, target, length })
        });
        calls.collect()
    }

    /// The one register that points to the count: the caller's own pointer, or a slot of this function's frame that it
    /// reads later.
    fn length_pointer(&self, at: &State, prototype: Prototype, states: &BTreeMap<u64, State>) -> Option<Register> {
        let points = |machine: Machine| match (at.get(machine), prototype.length) {
            (Value::Argument(position), Some(length)) => position == length,
            (Value::Stack(slot), None) => self.reads_slot(slot, states),
            _ => false,
        };
        let mut pointers = LENGTHS.into_iter().filter(|(machine, _)| points(*machine)).map(|(_, register)| register);
        let pointer = pointers.next()?;
        pointers.next().is_none().then_some(pointer)
    }

    fn reads_slot(&self, slot: i64, states: &BTreeMap<u64, State>) -> bool {
        self.nodes.iter().any(|(address, node)| {
            let operand = states.get(address).and_then(|state| state.stack_operand(&node.instruction));
            // The count is read into a register, so memory is the second operand; `lea` only takes the address.
            operand == Some(slot)
                && node.instruction.op1_kind() == iced_x86::OpKind::Memory
                && node.instruction.mnemonic() != iced_x86::Mnemonic::Lea
        })
    }

    /// Emulated instructions after the inner calls where rax still holds their result and the count is where it was
    /// put; every path after such a call passes one, and the function moves data in no other way.
    pub fn inner_result_sites(&self, calls: &[Call], harmless: impl Fn(&str) -> bool) -> Option<Vec<u64>> {
        let followed: BTreeSet<u64> = calls.iter().map(|call| call.address).collect();
        if followed.is_empty() || !self.only_calls(&followed, harmless) {
            return None;
        }
        let states = states(self, &followed);
        let holds = |address: u64, node: &Node| {
            let result = states.get(&address).is_some_and(|state| state.get(Machine::RAX) == Value::Result);
            result && node.class.is_emulated() && self.owns(address)
        };
        let mut factory = InstructionInfoFactory::new();
        let mut sites = BTreeSet::new();
        for call in calls {
            let after = self.nodes.get(&call.address)?.instruction.next_ip();
            let changes = |node: &Node| leaves(node) || writes_memory(&node.instruction, &mut factory);
            sites.extend(self.walk(after, holds, changes)?);
        }
        (!sites.is_empty()).then(|| sites.into_iter().collect())
    }

    fn only_calls(&self, followed: &BTreeSet<u64>, harmless: impl Fn(&str) -> bool) -> bool {
        self.nodes.iter().all(|(address, node)| match &node.kind {
            Kind::Call { name, .. } => {
                followed.contains(address) || node.successors.is_empty() || name.as_deref().is_some_and(&harmless)
            }
            Kind::Tail { .. } => false,
            Kind::Plain | Kind::Return => true,
        })
    }

    /// Addresses that the function calls or jumps to outside of itself.
    pub fn callees(&self) -> Vec<u64> {
        let target = |node: &Node| match node.kind {
            Kind::Call { target, .. } | Kind::Tail { target, .. } => target,
            Kind::Plain | Kind::Return => None,
        };
        self.nodes.values().filter_map(target).collect()
    }

    /// The site at an address of the function.
    pub fn site(&self, image: &Image<'_>, address: u64) -> Option<Site> {
        self.nodes.get(&address).and_then(|_| site(image, address))
    }
}

fn is_result(register: &Machine) -> bool {
    register.full_register() == Machine::RAX
}

fn leaves(node: &Node) -> bool {
    matches!(node.kind, Kind::Return | Kind::Tail { .. })
}

/// Whether the arguments that a probe reads are where the caller put them. A number may have been extended.
fn in_place(state: &State, prototype: Prototype) -> bool {
    let number = prototype.arguments.checked_sub(1).filter(|last| *last > 0 && prototype.length.is_none());
    ARGUMENTS.into_iter().enumerate().take(prototype.arguments).all(|(position, register)| match state.get(register) {
        Value::Argument(held) => held == position,
        Value::LowArgument(held) => held == position && number == Some(position),
        _ => false,
    })
}

fn arguments_in(state: &State, prototype: Prototype) -> Option<Arguments> {
    let Some(length) = prototype.length else { return Some(Arguments::Plain) };
    let mut held = LENGTHS.into_iter().filter(|(machine, _)| state.get(*machine) == Value::Argument(length));
    held.next().map(|(_, register)| Arguments::WithLength(register))
}
