//! Connections and processes that come and go.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{btf_tracepoint, uprobe};
use aya_ebpf::programs::{BtfTracePointContext, ProbeContext};
use tracer_ebpf::{Close, Data, Header, Process, Socket, flag, kind, origin, program, socket_flag};

use crate::counters::hit;
use crate::entries::Entries;
use crate::maps::{ACCEPTED, CALLS, PROCESSES, SOCKETS, THREADS};
use crate::memory::kernel;
use crate::socket::{self, Class};
use crate::{config, ship, stack};

const ESTABLISHED: i32 = socket::ESTABLISHED as i32;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const CLOSE: i32 = 7;
const LAST_ACK: i32 = 9;

/// `inet_sock_set_state(sk, oldstate, newstate)`: how sockets are made, and when they end. Every change of every TCP
/// socket passes here, so a reused `struct sock` is always noticed.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    if new == SYN_SENT {
        connecting(sk);
    } else if old == SYN_RECV && new == ESTABLISHED {
        SOCKETS.take(&sk);
        ACCEPTED.put(&sk, &1, 0);
    } else if new == FIN_WAIT1 || new == LAST_ACK {
        no_more_writes(sk);
    } else if new == CLOSE {
        closed(sk);
    }
    0
}

#[inline(always)]
fn connecting(sk: u64) {
    SOCKETS.take(&sk);
    ACCEPTED.take(&sk);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if socket::is_traced(tgid) {
        hit(program::TCP_STATE);
        let _ = socket::adopt(sk, tgid, Class::Tcp, origin::CONNECT);
    }
}

#[inline(always)]
fn header(kind: u8, program: usize, flags: u16, connection: u64) -> Header {
    let pid_tgid = bpf_get_current_pid_tgid();
    Header { kind, program: program as u8, flags, captured: 0, time: ship::now(), pid_tgid, connection }
}

/// The process has closed, or has shut down its direction.
#[inline(always)]
fn no_more_writes(sk: u64) {
    let Some(socket) = SOCKETS.get_ptr_mut(&sk) else { return };
    // SAFETY: an element of our map.
    let socket: &Socket = unsafe { &*socket };
    hit(program::TCP_STATE);
    if socket.flags & socket_flag::ANNOUNCED == 0 {
        return;
    }
    let written: u32 = kernel(sk, &config::TCP_WRITE_SEQ);
    // write_seq is counted up for the FIN as well, after this change of state.
    let position = u64::from(written.wrapping_sub(socket.write_base));
    let header = header(kind::DATA, program::TCP_STATE, flag::END | flag::WRITE, socket.id);
    let _ = ship::plain(&Data { header, position, length: 0, elapsed: 0 });
}

/// The connection is over. As long as the process holds the socket (after a reset, say) it may still read what had
/// arrived, so the entry stays until the address is used again or user space removes it.
#[inline(always)]
fn closed(sk: u64) {
    ACCEPTED.take(&sk);
    let Some(socket) = SOCKETS.get_ptr_mut(&sk) else { return };
    // SAFETY: an element of our map.
    let socket: &Socket = unsafe { &*socket };
    hit(program::TCP_STATE);
    let read: u32 = kernel(sk, &config::TCP_COPIED_SEQ);
    let written: u32 = kernel(sk, &config::TCP_WRITE_SEQ);
    if socket.flags & socket_flag::ANNOUNCED != 0 {
        let flags = if socket.flags & socket_flag::SHED != 0 { flag::SHED } else { 0 };
        let close = Close {
            header: header(kind::CLOSE, program::TCP_STATE, flags, socket.id),
            read: read.wrapping_sub(socket.read_base),
            written: written.wrapping_sub(socket.write_base),
        };
        let _ = ship::plain(&close);
    }
    let held: u64 = kernel(sk, &config::SOCK_SOCKET);
    if held == 0 {
        SOCKETS.take(&sk);
    }
}

#[inline(always)]
fn process_event(kind: u8, program: usize, subject: u32) {
    hit(program);
    let header = header(kind, program, 0, 0);
    let comm = bpf_get_current_comm().unwrap_or_default();
    // Probes have to be in the new program's libraries before it calls them.
    let _ = ship::urgent(&Process { header, subject, padding: 0, comm });
}

/// `sched_process_fork(parent, child)`: children of traced processes are traced.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: copied at once.
    let Some(&flags) = (unsafe { PROCESSES.get(&tgid) }) else { return 0 };
    let child: u64 = ctx.arg(1);
    let child_tgid: u32 = kernel(child, &config::TASK_TGID);
    if child_tgid != tgid {
        socket::trace(child_tgid, flags);
        process_event(kind::FORK, program::PROCESS, child_tgid);
    }
    0
}

/// `sched_process_exec(task, old_pid, bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(_ctx: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if socket::is_traced(tgid) {
        process_event(kind::EXEC, program::PROCESS, tgid);
    }
    0
}

/// `sched_process_exit(task)`: of every thread.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    if !socket::is_traced(tgid) {
        return 0;
    }
    THREADS.take(&pid_tgid);
    CALLS.take(&pid_tgid);
    if pid_tgid as u32 == tgid {
        process_event(kind::EXIT, program::PROCESS, tgid);
    }
    0
}

/// On `_dl_debug_state`, which the dynamic linker calls before and after it has mapped libraries, and before it runs
/// any code of theirs: what debuggers stop at (glibc, elf/dl-debug.c).
#[uprobe]
pub fn loaded(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    process_event(kind::LOADED, program::LOADED, (bpf_get_current_pid_tgid() >> 32) as u32);
    0
}
