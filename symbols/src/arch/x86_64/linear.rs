//! Functions whose code is known to be contiguous, read from start to end: Go's.

use iced_x86::{
    ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register as Machine,
};

use super::{classify, decode, site, values::written};
use crate::{
    elf::Image,
    probe::{Class, Site},
};

/// The registers that carry a method's receiver and a slice's address and length (Go's internal ABI,
/// src/cmd/compile/abi-internal.md, "amd64 architecture").
const ARGUMENTS: [Machine; 3] = [Machine::RAX, Machine::RBX, Machine::RCX];

/// The register that holds the current goroutine, and where its stack's limit is in it.
const GOROUTINE: (Machine, u64) = (Machine::R14, 0x10);

/// A function longer than this is not looked at.
const MAX_INSTRUCTIONS: usize = 1 << 16;

/// Where to probe a Go function.
pub(crate) struct GoSites {
    /// The jump that is taken when the stack must grow.
    pub enter: Site,
    /// Every return.
    pub returns: Vec<Site>,
    /// Whether the head stores the first two arguments where the caller left room for them: behind the return address.
    /// They are there whenever the function waits, if it needs them after that: Go's compiler moves a spilled argument
    /// nowhere else, and the runtime keeps what is needed up to date when it moves the stack.
    pub spills: bool,
}

/// What the head of a function stores in the room that its caller left for arguments.
#[derive(Default)]
struct Spills {
    /// How far the stack pointer is from the return address.
    frame: u64,
    stored: [bool; 2],
    /// Past the head: what is stored from here on is not stored by every call.
    over: bool,
}

impl Spills {
    fn follow(&mut self, instruction: &Instruction) {
        let stack = |instruction: &Instruction| instruction.op0_register() == Machine::RSP;
        match instruction.mnemonic() {
            _ if self.over => {}
            Mnemonic::Jbe => {}
            Mnemonic::Push => self.frame += 8,
            Mnemonic::Sub if stack(instruction) => self.frame += instruction.immediate(1),
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => self.store(instruction),
            _ => {
                let changes = |register: &Machine| *register == instruction.op0_register().full_register();
                let argument = ARGUMENTS.iter().any(changes);
                self.over = argument || instruction.flow_control() != FlowControl::Next;
            }
        }
    }

    fn store(&mut self, instruction: &Instruction) {
        let plain = instruction.memory_base() == Machine::RSP && instruction.memory_index() == Machine::None;
        for (index, register) in ARGUMENTS.into_iter().take(2).enumerate() {
            let place = self.frame + 8 + 8 * index as u64;
            if plain && instruction.op1_register() == register && instruction.memory_displacement64() == place {
                self.stored[index] = true;
            }
        }
    }
}

/// The sites of the Go function from `start` to `end`; none if the code does not look like one.
///
/// A function that grows its stack starts again, and passes the enter site again. Of a large frame the head has another
/// jump before, for a difference that wraps (src/cmd/internal/obj/x86/obj6.go, stacksplit); the last one decides.
pub(crate) fn go_sites(image: &Image<'_>, start: u64, end: u64) -> Option<GoSites> {
    let mut factory = InstructionInfoFactory::new();
    let (mut enter, mut returns, mut checks_stack) = (None, vec![], false);
    let (mut at_head, mut address) = (true, start);
    let mut spills = Spills::default();
    for _ in 0..MAX_INSTRUCTIONS {
        if address >= end {
            let spills = spills.stored == [true; 2];
            return (!returns.is_empty()).then_some(GoSites { enter: enter?, returns, spills });
        }
        let instruction = decode(image, address)?;
        spills.follow(&instruction);
        checks_stack |= at_head && (instruction.memory_base(), instruction.memory_displacement64()) == GOROUTINE;
        let jump = classify(image.code_at(address)?.get(..instruction.len())?) == Class::ConditionalJump;
        if at_head && checks_stack && jump && instruction.condition_code() == ConditionCode::be {
            enter = site(image, address);
        }
        let changed = |register: &Machine| ARGUMENTS.contains(&register.full_register());
        let straight = jump || instruction.flow_control() == FlowControl::Next;
        at_head &= straight && enter.is_none() && !written(&instruction, &mut factory).iter().any(changed);
        if instruction.flow_control() == FlowControl::Return {
            returns.push(site(image, address)?);
        }
        address = instruction.next_ip();
    }
    None
}
