//! Constants that code loads and passes on: addresses of strings, numbers.

use std::collections::BTreeSet;

use iced_x86::{Code, InstructionInfoFactory, OpKind, Register as Machine};

use super::{
    flow::{Flow, Kind},
    values::{ARGUMENTS, State, Value, states, states_before, writes_memory},
};
use crate::elf::Image;

/// A call and those of its arguments that are constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConstantCall {
    /// What it calls.
    pub target: u64,
    /// What the argument registers hold.
    pub arguments: [Option<u64>; 6],
}

/// A call through a table of functions, and what of the caller's own arguments it passes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MethodCall {
    /// Where the function's address is in the table.
    pub slot: u64,
    /// Which of the function's own arguments the argument registers hold.
    pub arguments: [Option<usize>; 6],
}

impl Flow {
    /// The calls of functions that a table in memory names.
    pub fn method_calls(&self) -> Vec<MethodCall> {
        let states = states(self, &BTreeSet::new());
        let calls = self.nodes.iter().filter_map(|(address, node)| {
            let instruction = &node.instruction;
            let table = instruction.code() == Code::Call_rm64 && instruction.op0_kind() == OpKind::Memory;
            let plain = instruction.memory_index() == Machine::None && !instruction.is_ip_rel_memory_operand();
            (table && plain).then_some(())?;
            let state = states.get(address)?;
            let own = |register| match state.get(register) {
                Value::Argument(position) | Value::LowArgument(position) => Some(position),
                _ => None,
            };
            Some(MethodCall { slot: instruction.memory_displacement64(), arguments: ARGUMENTS.map(own) })
        });
        calls.collect()
    }

    /// Whether the function itself, not what it calls, may change memory outside of its own stack.
    pub fn stores(&self) -> bool {
        let states = states(self, &BTreeSet::new());
        let mut factory = InstructionInfoFactory::new();
        self.nodes.iter().any(|(address, node)| {
            let elsewhere = node.kind == Kind::Plain
                && !node.instruction.is_stack_instruction()
                && writes_memory(&node.instruction, &mut factory);
            let on_stack = states.get(address).is_some_and(|state| state.stack_operand(&node.instruction).is_some());
            elsewhere && !on_stack
        })
    }

    /// The direct calls of a function; one that several ways lead to, for each of them.
    pub fn constant_calls(&self) -> Vec<ConstantCall> {
        let states = states(self, &BTreeSet::new());
        let calls = self.nodes.iter().filter_map(|(address, node)| match node.kind {
            Kind::Call { target: Some(target), .. } => Some((*address, target)),
            _ => None,
        });
        let ways = calls.flat_map(|(address, target)| {
            let constant = |state: &State, register| match state.get(register) {
                Value::Constant(value) => Some(value),
                _ => None,
            };
            let arguments = move |state: State| ARGUMENTS.map(|register| constant(&state, register));
            let states = states_before(self, &states, address).into_iter();
            states.map(move |state| ConstantCall { target, arguments: arguments(state) })
        });
        ways.collect()
    }
}

/// Where code may load one of these addresses into a register: relative to itself, or as a number below 2^32.
///
/// A search over bytes, not instructions: it may name too many places, never too few of these two kinds.
pub(crate) fn loads_of(image: &Image<'_>, wanted: &BTreeSet<u64>) -> Vec<u64> {
    let mut found = vec![];
    for segment in image.code() {
        for (index, window) in segment.bytes.windows(7).enumerate() {
            let address = segment.address.wrapping_add(index as u64);
            let loaded = match *window {
                // lea r64, [rip + displacement]
                [0x48 | 0x4c, 0x8d, operand, a, b, c, d] if operand & 0xc7 == 0x05 => {
                    let displacement = i64::from(i32::from_le_bytes([a, b, c, d]));
                    address.wrapping_add(7).wrapping_add_signed(displacement)
                }
                // mov r32, number
                [0xb8..=0xbf, a, b, c, d, ..] => u64::from(u32::from_le_bytes([a, b, c, d])),
                _ => continue,
            };
            if wanted.contains(&loaded) {
                found.push(address);
            }
        }
    }
    found
}

/// Those of `targets` that code calls, takes the address of, or that a pointer of the image's data leads to.
pub(crate) fn referenced(image: &Image<'_>, targets: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for segment in image.code() {
        for (index, window) in segment.bytes.windows(5).enumerate() {
            let &[0xe8, a, b, c, d] = window else { continue };
            let after = segment.address.wrapping_add(index as u64).wrapping_add(5);
            let target = after.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
            found.extend(targets.get(&target));
        }
    }
    found.extend(image.pointers().filter_map(|(_, to)| targets.get(&to)));
    // An executable that is loaded where it was linked to needs no relocations: the pointers are there.
    let words = image.data().flat_map(|segment| segment.bytes.as_chunks().0);
    found.extend(words.filter_map(|word| targets.get(&u64::from_le_bytes(*word))));
    found
}
