//! What kernels demand of the programs, as far as their instructions show it.

use std::collections::BTreeMap;

use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_CALL, BPF_JMP, BPF_K, BPF_LDX, BPF_MOV, BPF_PSEUDO_CALL, BPF_ST, BPF_STX, BPF_X, bpf_insn,
};
use aya_obj::{Object, ProgramSection};

use super::*;

/// `bpf_tail_call` (include/uapi/linux/bpf.h).
const TAIL_CALL: i32 = 12;

/// The register that points to the end of a function's frame.
const FRAME: u8 = 10;

/// `MAX_BPF_STACK` (include/linux/filter.h): frames of functions that call each other, together.
const MAX_STACK: u32 = 512;

/// Every program with the functions that it calls, as the kernel gets it.
fn programs() -> Vec<(String, ProgramSection, Vec<bpf_insn>)> {
    let mut object = Object::parse(OBJECT).unwrap();
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).unwrap();
    let program = |(name, program): (&String, &aya_obj::Program)| {
        let function = &object.functions[&program.function_key()];
        (name.clone(), program.section.clone(), function.instructions.clone())
    };
    object.programs.iter().map(program).collect()
}

fn is_call(instruction: &bpf_insn, kind: u32) -> bool {
    u32::from(instruction.code) == BPF_JMP | BPF_CALL && u32::from(instruction.src_reg()) == kind
}

/// Without one they would share a stack with whatever interrupts them: `stack.rs` of the kernel side.
#[test]
fn every_program_of_a_uprobe_has_a_tail_call() {
    let is_tail_call = |instruction: &bpf_insn| is_call(instruction, 0) && instruction.imm == TAIL_CALL;
    let mut of_uprobes = 0;
    for (name, section, instructions) in programs() {
        if matches!(section, ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. }) {
            of_uprobes += 1;
            assert!(instructions.iter().any(is_tail_call), "{name}");
        }
    }
    assert!(of_uprobes > 0);
}

/// Linux before 6.8 takes each frame for a multiple of 32 bytes (kernel/bpf/verifier.c, check_max_stack_depth).
#[test]
fn every_program_fits_the_stack() {
    let programs = programs();
    assert!(!programs.is_empty());
    for (name, _, instructions) in programs {
        let depth = depth(&functions(&instructions), 0);
        assert!(depth <= MAX_STACK, "{name}: {depth} bytes");
    }
}

/// A function of a program: its frame, and which functions it calls.
#[derive(Default)]
struct Shape {
    frame: u32,
    calls: Vec<usize>,
}

/// The functions of a program by their place in it.
fn functions(instructions: &[bpf_insn]) -> BTreeMap<usize, Shape> {
    let callee = |at: usize| {
        let instruction = &instructions[at];
        is_call(instruction, BPF_PSEUDO_CALL).then(|| (at + 1).strict_add_signed(instruction.imm as isize))
    };
    let mut functions: BTreeMap<usize, Shape> = BTreeMap::from([(0, Shape::default())]);
    functions.extend((0..instructions.len()).filter_map(callee).map(|start| (start, Shape::default())));
    for (at, pair) in instructions.windows(2).enumerate() {
        let (_, shape) = functions.range_mut(..=at).next_back().expect("the first begins at 0");
        shape.frame = shape.frame.max(reach(&pair[0], &pair[1]));
        shape.calls.extend(callee(at));
    }
    functions
}

/// How far from the frame's end an instruction, or the address that it and the next one make, lies.
fn reach(instruction: &bpf_insn, next: &bpf_insn) -> u32 {
    let code = u32::from(instruction.code);
    let offset = match code & 7 {
        BPF_LDX if instruction.src_reg() == FRAME => instruction.off.into(),
        BPF_ST | BPF_STX if instruction.dst_reg() == FRAME => instruction.off.into(),
        _ if code == BPF_ALU64 | BPF_MOV | BPF_X
            && instruction.src_reg() == FRAME
            && u32::from(next.code) == BPF_ALU64 | BPF_ADD | BPF_K
            && next.dst_reg() == instruction.dst_reg() =>
        {
            next.imm
        }
        _ => 0,
    };
    offset.min(0).unsigned_abs()
}

/// The stack that a function and what it calls need at most.
fn depth(functions: &BTreeMap<usize, Shape>, start: usize) -> u32 {
    let Shape { frame, calls } = &functions[&start];
    let deepest = calls.iter().map(|&callee| depth(functions, callee)).max().unwrap_or_default();
    frame.max(&1).next_multiple_of(32) + deepest
}
