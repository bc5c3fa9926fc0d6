//! The one place that knows the architecture: registers of system calls and of function calls.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs};

use crate::config;
use crate::memory::{kernel, kernel_at};

/// A system call that the current thread is in, as it was entered.
#[derive(Clone, Copy)]
pub struct SystemCall {
    pub number: u64,
    pub arguments: [u64; 6],
}

/// System call numbers that move bytes.
#[cfg(bpf_target_arch = "x86_64")]
pub mod number {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
}

/// The current thread's system call (Linux 5.15).
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub fn system_call() -> SystemCall {
    // SAFETY: both helpers always succeed in process context; the verifier knows the type that they return.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        SystemCall {
            number: (*regs).orig_rax,
            arguments: [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).r10, (*regs).r8, (*regs).r9],
        }
    }
}

/// The result register.
///
/// # Safety
/// `regs` is a probe's context.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub unsafe fn result(regs: *const pt_regs) -> u64 {
    // SAFETY: by contract.
    unsafe { (*regs).rax }
}

/// Registers at the entry or return of a Go function (src/cmd/compile/abi-internal.md).
#[derive(Clone, Copy)]
pub struct GoRegisters {
    /// The first arguments; at a return, the first is the first result.
    pub arguments: [u64; 3],
    pub goroutine: u64,
    pub stack: u64,
    /// Whether `jbe`, if that is the instruction, is taken: the stack must grow.
    pub grows_stack: bool,
}

/// # Safety
/// `regs` is a probe's context.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub unsafe fn go(regs: *const pt_regs) -> GoRegisters {
    const CARRY: u64 = 1;
    const ZERO: u64 = 1 << 6;
    // SAFETY: by contract.
    unsafe {
        GoRegisters {
            arguments: [(*regs).rax, (*regs).rbx, (*regs).rcx],
            goroutine: (*regs).r14,
            stack: (*regs).rsp,
            grows_stack: (*regs).eflags & (CARRY | ZERO) != 0,
        }
    }
}

/// The register that holds the goroutine, and the stack pointer, as they were when the current thread entered the
/// kernel.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub fn goroutine_and_stack() -> (u64, u64) {
    if config::HAS_TASK_REGISTERS.load() != 0 {
        // SAFETY: both helpers always succeed in process context; the verifier knows the type that they return.
        return unsafe {
            let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
            ((*regs).r14, (*regs).rsp)
        };
    }
    // task_pt_regs in arch/x86/include/asm/processor.h: at the upper end of the thread's kernel stack, of four pages.
    const THREAD_SIZE: u64 = 4 * 4096;
    // SAFETY: takes nothing, always succeeds.
    let task = unsafe { bpf_get_current_task() };
    let stack: u64 = kernel(task, &config::TASK_STACK);
    let regs = stack + THREAD_SIZE - size_of::<pt_regs>() as u64;
    let read = |offset: usize| kernel_at::<u64>(regs + offset as u64).unwrap_or(0);
    (read(core::mem::offset_of!(pt_regs, r14)), read(core::mem::offset_of!(pt_regs, rsp)))
}
