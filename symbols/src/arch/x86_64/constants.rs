//! Constants that code loads and passes on: addresses of strings, numbers.

use std::collections::BTreeSet;

use super::{
    flow::{Flow, Kind},
    values::{ARGUMENTS, Value, states},
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

impl Flow {
    /// The direct calls of a function.
    pub fn constant_calls(&self) -> Vec<ConstantCall> {
        let states = states(self, &BTreeSet::new());
        let calls = self.nodes.iter().filter_map(|(address, node)| {
            let Kind::Call { target: Some(target), .. } = node.kind else { return None };
            let state = states.get(address)?;
            let constant = |register| match state.get(register) {
                Value::Constant(value) => Some(value),
                _ => None,
            };
            Some(ConstantCall { target, arguments: ARGUMENTS.map(constant) })
        });
        calls.collect()
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
