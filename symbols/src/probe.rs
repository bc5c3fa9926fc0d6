//! Where a probe goes, and what it finds there.

use std::fmt;

use crate::FileOffset;

/// An instruction to put a probe on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Where it is in the file.
    pub offset: FileOffset,
    /// Its text, for people.
    pub instruction: String,
    /// What a probe on it costs.
    pub class: Class,
}

/// How the kernel runs the instruction under a probe, from `arch_uprobe_analyze_insn` in arch/x86/kernel/uprobes.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `push` of a 64-bit register: emulated.
    Push,
    /// The one-byte nop, with any prefix: emulated.
    Nop,
    /// `call` with a 32-bit displacement: emulated.
    Call,
    /// `jmp` with a displacement: emulated.
    Jump,
    /// A conditional jump: emulated.
    ConditionalJump,
    /// Anything else: single-stepped out of line, which costs tens of times as much. The longer nops are here, as only
    /// Linux 6.18 and later emulate them.
    Other,
}

impl Class {
    /// Whether the kernel emulates the instruction instead of single-stepping it.
    #[must_use]
    pub fn is_emulated(self) -> bool {
        self != Self::Other
    }
}

/// A register of the traced machine that holds a pointer argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the machine's")]
pub enum Register {
    Rcx,
    R8,
    R9,
}

impl Register {
    /// Which argument it carries into a function, counted from zero (System V ABI AMD64 3.2.3).
    pub(crate) fn argument(self) -> usize {
        match self {
            Self::Rcx => 3,
            Self::R8 => 4,
            Self::R9 => 5,
        }
    }
}

/// What the registers hold at an enter site, and how the exit site tells the count of bytes moved.
///
/// In C's forms rdi, rsi and rdx hold the first three arguments of the prototype as the caller gave them: for functions
/// that move data the session, the buffer and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arguments {
    /// The result is the count of bytes moved when it is above zero. The size is an `int`: only the low 32 bits of rdx
    /// count.
    Plain,
    /// The same, and rcx holds flags, of which 2 is to peek: what is read is read again later.
    WithFlags,
    /// The result is the count of bytes moved when it is above zero. rsi points to pieces, whose number the low 32 bits
    /// of rdx hold: each is the address of a buffer and, in 4 of another 8 bytes, its size.
    WithVector,
    /// A result above zero is success; the count of bytes moved is then a `size_t` at the address that this register
    /// holds at the enter site. The size is a `size_t`.
    WithLength(Register),
    /// rustls's: rdi holds the address of the result, rsi the cipher, rdx the address of the message and rcx the record's
    /// number. If the result is no error, its first byte is this number; less is an error.
    Rustls(u8),
    /// Go's: rax, rbx and rcx hold the `*tls.Conn`, the buffer and its size, r14 the goroutine, and rsp points to the
    /// return address, here and at the exit sites. The result is the count of bytes moved when it is above zero, in all
    /// of rax, whatever the error is. The enter site is the conditional jump (`jbe`) that is taken when the stack must
    /// grow: then the function starts again, so the call is entered when it is not taken. A goroutine may be on another
    /// thread at the exit, and its stack at another address.
    Go,
    /// The same; and where the call returns, the `*tls.Conn` and the address of the buffer also stand in memory, behind
    /// the return address.
    GoSpilled,
}

/// Where the result is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// A plain probe on each of these; eax holds the result. Every call that succeeds passes one of them. One may be
    /// passed by a call that was not entered, or twice by one call: only the first after an enter counts.
    Result(Vec<Site>),
    /// A return probe here: rax holds the result. At this site the return address is still at the top of the stack,
    /// which a return probe depends on.
    Return(Site),
    /// Nothing to attach: the function does nothing but go on to this other one, which is listed too.
    Through(String),
    /// The result is not of interest.
    Unneeded,
}

impl Exit {
    /// The sites of either kind.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        match self {
            Self::Result(sites) => sites,
            Self::Return(site) => std::slice::from_ref(site),
            Self::Through(_) | Self::Unneeded => &[],
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` ({:?})", self.offset, self.instruction, self.class)
    }
}
