//! Which stack the programs of uprobes run on.
//!
//! Linux 6.13 and later give a program of type kprobe a stack for each processor instead of the thread's own, because
//! "kprobe recursion is prevented by bpf_prog_active" (kernel/bpf/verifier.c, bpf_enable_priv_stack). That is not so of
//! uprobes: they run preemptibly (kernel/trace/bpf_trace.c, uprobe_prog_run), and a thread that hits the same probe on
//! that processor meanwhile writes over the variables of the one that was preempted. Programs with a tail call are left
//! on the thread's stack (check_max_stack_depth).

use core::arch::asm;

use aya_ebpf::EbpfContext;

use crate::maps::NO_PROGRAMS;

/// Makes the program that calls it one with a tail call, which is never made.
#[inline(always)]
pub fn of_the_thread(ctx: &impl EbpfContext) {
    let never: u64;
    // SAFETY: sets a register. The compiler does not look into it and keeps the call; the verifier does, and takes the
    // call out again when it has noted that there is one.
    unsafe { asm!("{never} = 0", never = out(reg) never) };
    if never != 0 {
        // SAFETY: not executed, and the array is empty.
        unsafe { NO_PROGRAMS.tail_call(ctx, 0) };
    }
}
