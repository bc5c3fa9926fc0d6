//! The one place that knows the architecture: registers of system calls and of function calls.

use core::mem::offset_of;

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs};

use crate::config;
use crate::memory::{kernel, kernel_at};

/// Size of a thread's stack in the kernel (THREAD_SIZE, arch/x86/include/asm/page_64_types.h). Not with KASAN.
#[cfg(bpf_target_arch = "x86_64")]
const THREAD_SIZE: u64 = 16 * 1024;

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

/// Where the current thread's own stack ends, below which a function that it calls works; 0: not known.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub fn user_stack() -> u64 {
    if config::HAS_TASK_REGISTERS.load() != 0 {
        // SAFETY: both helpers always succeed in process context; the verifier knows the type that they return.
        return unsafe { (*(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs)).rsp };
    }
    // As task_pt_regs does (arch/x86/include/asm/processor.h).
    // SAFETY: takes nothing, always succeeds.
    let task = unsafe { bpf_get_current_task() };
    let top = kernel::<u64>(task, &config::TASK_STACK) + THREAD_SIZE;
    let register = |offset: usize| kernel_at::<u64>(top - (size_of::<pt_regs>() - offset) as u64).unwrap_or(0);
    let from_user = register(offset_of!(pt_regs, cs)) & 3 == 3;
    if from_user { register(offset_of!(pt_regs, rsp)) } else { 0 }
}

/// Where the stack ends at a probe.
///
/// # Safety
/// `regs` is a probe's context.
#[inline(always)]
#[cfg(bpf_target_arch = "x86_64")]
pub unsafe fn stack(regs: *const pt_regs) -> u64 {
    // SAFETY: by contract.
    unsafe { (*regs).rsp }
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
