//! x86-64, System V calling convention.
//!
//! A function is decoded from its start along all its paths ([`flow`]), what the registers hold is followed
//! ([`values`]), and from both come the sites ([`sites`]) and what calls pass ([`constants`]).

mod constants;
mod flow;
mod linear;
mod sites;
mod values;

pub(crate) use constants::{ConstantCall, loads_of, referenced};
pub(crate) use flow::Flow;
pub(crate) use linear::go_sites;
pub(crate) use sites::Call;

use iced_x86::{Code, Decoder, DecoderOptions, FastFormatter, Instruction, Register as Machine};

use crate::{
    elf::Image,
    probe::{Class, Site},
};

/// The longest instruction, in bytes (Intel SDM volume 2, 2.3.11).
const MAX_LENGTH: usize = 15;

/// The instruction at an address of the image's code.
fn decode(image: &Image<'_>, address: u64) -> Option<Instruction> {
    let code = image.code_at(address)?;
    let bytes = code.get(..MAX_LENGTH).unwrap_or(code);
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The site at an address of the image's code.
pub(crate) fn site(image: &Image<'_>, address: u64) -> Option<Site> {
    let instruction = decode(image, address)?;
    let bytes = image.code_at(address)?.get(..instruction.len())?;
    let mut text = String::new();
    FastFormatter::new().format(&instruction, &mut text);
    Some(Site { offset: image.file_offset(address)?, instruction: text, class: classify(bytes) })
}

/// Name of the function at a call or jump target: its own, or behind a stub of the procedure linkage table.
fn name_of(image: &Image<'_>, target: u64) -> Option<String> {
    image.names_at(target).next().map(str::to_owned).or_else(|| stub(image, target))
}

fn stub(image: &Image<'_>, target: u64) -> Option<String> {
    let mut instruction = decode(image, target)?;
    if instruction.code() == Code::Endbr64 {
        instruction = decode(image, instruction.next_ip())?;
    }
    (instruction.code() == Code::Jmp_rm64).then_some(())?;
    slot(image, &instruction)
}

/// Name of the library function that an indirect call or jump takes from the global offset table.
fn slot(image: &Image<'_>, instruction: &Instruction) -> Option<String> {
    let relative = instruction.memory_base() == Machine::RIP && instruction.memory_index() == Machine::None;
    relative.then(|| image.slot(instruction.ip_rel_memory_address()))?.map(str::to_owned)
}

/// How the kernel treats an instruction under a probe: `push_setup_xol_ops` and `branch_setup_xol_ops` in
/// arch/x86/kernel/uprobes.c, since Linux 4.16.
///
/// A 16-bit prefix on a branch and a segment prefix on anything are refused there, so only the plain forms count.
fn classify(bytes: &[u8]) -> Class {
    match bytes {
        [0x50..=0x57] | [0x41, 0x50..=0x57] => Class::Push,
        [0x66, .., 0x90] | [0x90] if bytes.iter().rev().skip(1).all(|&prefix| prefix == 0x66) => Class::Nop,
        [0xe8, _, _, _, _] => Class::Call,
        [0xeb, _] | [0xe9, _, _, _, _] => Class::Jump,
        [0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _] => Class::ConditionalJump,
        _ => Class::Other,
    }
}

/// Where code may call or jump to `target` by a 32-bit displacement.
///
/// A search over bytes, not instructions: it may name too many places, never too few of this kind.
pub(crate) fn calls_to(image: &Image<'_>, target: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for segment in image.code() {
        for (index, window) in segment.bytes.windows(5).enumerate() {
            let &[0xe8 | 0xe9 | 0x80..=0x8f, a, b, c, d] = window else { continue };
            let address = segment.address.wrapping_add(index as u64);
            let displacement = i64::from(i32::from_le_bytes([a, b, c, d]));
            if address.wrapping_add(5).wrapping_add_signed(displacement) == target {
                found.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_as_the_kernel_does() {
        let cases: &[(&str, &[u8], Class)] = &[
            ("push rbp", &[0x55], Class::Push),
            ("push r15", &[0x41, 0x57], Class::Push),
            ("push qword ptr [rax]", &[0xff, 0x30], Class::Other),
            ("push 0", &[0x6a, 0x00], Class::Other),
            ("push rbp with another rex prefix", &[0x48, 0x55], Class::Other),
            ("nop", &[0x90], Class::Nop),
            ("xchg ax,ax", &[0x66, 0x90], Class::Nop),
            ("pause", &[0xf3, 0x90], Class::Other),
            ("xchg r8,rax", &[0x49, 0x90], Class::Other),
            ("nop dword ptr [rax]", &[0x0f, 0x1f, 0x00], Class::Other),
            ("call rel32", &[0xe8, 0, 0, 0, 0], Class::Call),
            ("call rax", &[0xff, 0xd0], Class::Other),
            ("jmp rel8", &[0xeb, 0], Class::Jump),
            ("jmp rel32", &[0xe9, 0, 0, 0, 0], Class::Jump),
            ("jmp rax", &[0xff, 0xe0], Class::Other),
            ("bnd jmp rel32", &[0xf2, 0xe9, 0, 0, 0, 0], Class::Other),
            ("je rel8", &[0x74, 0], Class::ConditionalJump),
            ("jg rel32", &[0x0f, 0x8f, 0, 0, 0, 0], Class::ConditionalJump),
            ("je rel32 with a hint", &[0x3e, 0x0f, 0x84, 0, 0, 0, 0], Class::Other),
            ("jmp rel32 with a 16-bit prefix", &[0x66, 0xe9, 0, 0, 0, 0], Class::Other),
            ("setg al", &[0x0f, 0x9f, 0xc0], Class::Other),
            ("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa], Class::Other),
            ("sub rsp,24", &[0x48, 0x83, 0xec, 0x18], Class::Other),
            ("ret", &[0xc3], Class::Other),
        ];
        for (name, bytes, class) in cases {
            assert_eq!(classify(bytes), *class, "{name}");
        }
    }
}
