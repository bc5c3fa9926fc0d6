//! Programs that do nothing: what the hooks alone cost is what these cost. `tracer/examples/empty_probes.rs` attaches
//! them where the tracer attaches its own.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "programs are named by user space")]

use aya_ebpf::macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, uprobe, uretprobe};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Trampolines are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[uprobe]
pub fn empty_uprobe(_ctx: ProbeContext) -> u32 {
    0
}

#[uretprobe]
pub fn empty_uretprobe(_ctx: RetProbeContext) -> u32 {
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn empty_tracepoint(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[fentry(function = "tcp_sendmsg")]
pub fn empty_fentry(_ctx: FEntryContext) -> i32 {
    0
}

#[fexit(function = "tcp_sendmsg")]
pub fn empty_fexit(_ctx: FExitContext) -> i32 {
    0
}

#[kprobe(function = "tcp_sendmsg")]
pub fn empty_kprobe(_ctx: ProbeContext) -> u32 {
    0
}

#[kretprobe(function = "tcp_sendmsg")]
pub fn empty_kretprobe(_ctx: RetProbeContext) -> u32 {
    0
}
