//! What the registers hold at each instruction of a function.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register as Machine};

use super::flow::{Flow, Kind, Node};

/// The registers that carry arguments, in order (System V ABI AMD64 3.2.3).
pub(super) const ARGUMENTS: [Machine; 6] =
    [Machine::RDI, Machine::RSI, Machine::RDX, Machine::RCX, Machine::R8, Machine::R9];

/// The registers that a callee may change (the same section).
const CALLER_SAVED: [Machine; 9] = [
    Machine::RAX,
    Machine::RCX,
    Machine::RDX,
    Machine::RSI,
    Machine::RDI,
    Machine::R8,
    Machine::R9,
    Machine::R10,
    Machine::R11,
];

/// So far back from a call is looked for where ways to it met.
const MAX_STRAIGHT: usize = 64;

/// What a register is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything.
    Unknown,
    /// An argument of the function, as passed.
    Argument(usize),
    /// The low 32 bits of an argument, extended.
    LowArgument(usize),
    /// An address this far from where the return address is.
    Stack(i64),
    /// A number, perhaps an address of the image.
    Constant(u64),
    /// The result of one of the calls that are followed.
    Result,
}

/// One value for each general register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State([Value; 16]);

fn index(register: Machine) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

impl State {
    fn at_start() -> Self {
        let mut state = Self([Value::Unknown; 16]);
        for (position, register) in ARGUMENTS.into_iter().enumerate() {
            state.set(register, Value::Argument(position));
        }
        state.set(Machine::RSP, Value::Stack(0));
        state
    }

    pub fn get(&self, register: Machine) -> Value {
        index(register).and_then(|index| self.0.get(index)).copied().unwrap_or(Value::Unknown)
    }

    fn set(&mut self, register: Machine, value: Value) {
        if let Some(held) = index(register).and_then(|index| self.0.get_mut(index)) {
            *held = value;
        }
    }

    /// What holds on both of two paths.
    fn meet(&self, other: &Self) -> Self {
        let mut both = *self;
        for (held, other) in both.0.iter_mut().zip(&other.0) {
            if *held != *other {
                *held = Value::Unknown;
            }
        }
        both
    }

    /// The stack address that an instruction's memory operand names.
    pub fn stack_operand(&self, instruction: &Instruction) -> Option<i64> {
        let Value::Stack(base) = self.get(instruction.memory_base()) else { return None };
        let plain = instruction.memory_index() == Machine::None && instruction.segment_prefix() == Machine::None;
        plain.then(|| base.wrapping_add(instruction.memory_displacement64().cast_signed()))
    }
}

/// The states before each instruction; `followed` are the calls whose result is of interest.
pub(super) fn states(flow: &Flow, followed: &BTreeSet<u64>) -> BTreeMap<u64, State> {
    let mut factory = InstructionInfoFactory::new();
    let mut states = BTreeMap::from([(flow.start, State::at_start())]);
    let mut pending = BTreeSet::from([flow.start]);
    while let Some(address) = pending.pop_first() {
        let (Some(node), Some(before)) = (flow.nodes.get(&address), states.get(&address)) else { continue };
        let after = after(node, *before, followed.contains(&address), &mut factory);
        for next in &node.successors {
            let met = states.get(next).map_or(after, |known| known.meet(&after));
            if states.insert(*next, met) != Some(met) {
                pending.insert(*next);
            }
        }
    }
    states
}

/// What holds before an instruction, by each of the ways that met last on the way to it: compilers let calls that differ
/// in a constant share their end.
pub(super) fn states_before(flow: &Flow, states: &BTreeMap<u64, State>, address: u64) -> Vec<State> {
    let before = |address| flow.nodes.iter().filter(move |(_, node)| node.successors.contains(&address));
    let mut straight = vec![];
    let mut met = address;
    let ways: Vec<_> = loop {
        let ways: Vec<_> = before(met).collect();
        match ways[..] {
            [(only, node)] if *only != address && straight.len() < MAX_STRAIGHT => {
                straight.push(node);
                met = *only;
            }
            _ => break ways,
        }
    };
    let mut factory = InstructionInfoFactory::new();
    let mut on = |node: &Node, state| after(node, state, false, &mut factory);
    let starts: Vec<State> = match ways[..] {
        [] => states.get(&met).copied().into_iter().collect(),
        _ => ways.into_iter().filter_map(|(way, node)| Some(on(node, *states.get(way)?))).collect(),
    };
    starts.into_iter().map(|start| straight.iter().rev().fold(start, |state, node| on(node, state))).collect()
}

fn after(node: &Node, mut state: State, followed: bool, factory: &mut InstructionInfoFactory) -> State {
    let instruction = &node.instruction;
    if matches!(node.kind, Kind::Call { .. }) {
        for register in CALLER_SAVED {
            state.set(register, Value::Unknown);
        }
        if followed {
            state.set(Machine::RAX, Value::Result);
        }
        return state;
    }
    let known = known_value(instruction, &state);
    let stack = state.get(Machine::RSP);
    for register in written(instruction, factory) {
        state.set(register, Value::Unknown);
    }
    if let (Value::Stack(top), true) = (stack, instruction.is_stack_instruction()) {
        let moved = i64::from(instruction.stack_pointer_increment());
        let fixed = !matches!(instruction.code(), Code::Leaveq | Code::Enterq_imm16_imm8);
        state.set(Machine::RSP, if fixed { Value::Stack(top.wrapping_add(moved)) } else { Value::Unknown });
    }
    if let Some(value) = known {
        state.set(instruction.op0_register(), value);
    }
    state
}

/// What the first operand holds after one of the few instructions that are understood.
fn known_value(instruction: &Instruction, state: &State) -> Option<Value> {
    let source = || state.get(instruction.op1_register());
    match instruction.code() {
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if both_registers(instruction) => Some(source()),
        Code::Mov_r32_rm32 | Code::Mov_rm32_r32 | Code::Movsxd_r64_rm32 if both_registers(instruction) => {
            match source() {
                Value::Argument(position) | Value::LowArgument(position) => Some(Value::LowArgument(position)),
                _ => None,
            }
        }
        Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
            Some(Value::Constant(instruction.ip_rel_memory_address()))
        }
        Code::Lea_r64_m => state.stack_operand(instruction).map(Value::Stack),
        Code::Mov_r32_imm32 => Some(Value::Constant(instruction.immediate(1))),
        Code::Xor_r32_rm32 | Code::Xor_rm32_r32 if both_registers(instruction) => {
            (instruction.op0_register() == instruction.op1_register()).then_some(Value::Constant(0))
        }
        Code::Add_rm64_imm8 | Code::Add_rm64_imm32 => moved(instruction, state, 1),
        Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 => moved(instruction, state, -1),
        _ => None,
    }
}

fn both_registers(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register
}

fn moved(instruction: &Instruction, state: &State, sign: i64) -> Option<Value> {
    let Value::Stack(base) = state.get(instruction.op0_register()) else { return None };
    let by = instruction.immediate(1).cast_signed();
    (instruction.op0_kind() == OpKind::Register).then(|| Value::Stack(base.wrapping_add(by.wrapping_mul(sign))))
}

/// The registers that an instruction writes, perhaps.
pub(super) fn written(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> Vec<Machine> {
    let used = factory.info(instruction).used_registers();
    used.iter().filter(|used| writes(used.access())).map(|used| used.register()).collect()
}

/// Whether an instruction writes memory, perhaps.
pub(super) fn writes_memory(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    factory.info(instruction).used_memory().iter().any(|used| writes(used.access()))
}

fn writes(access: OpAccess) -> bool {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}
