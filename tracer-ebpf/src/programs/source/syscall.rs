//! The source for kernels that forbid kprobes and trampolines: the tracepoints `sock_send_length` and
//! `sock_recv_length` (Linux 6.3, net/socket.c), which tell the socket and the result, and the registers with which
//! the thread entered its system call, which tell the memory. Nothing is attached to system calls themselves, so only
//! socket calls pay; they are seen at their end only.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use tracer_ebpf::{program, switch};

use super::{Peer, Source};
use crate::buffers::{self, Buffers, MULTI_MESSAGE_SIZE};
use crate::datagram::{self, Pending};
use crate::entries::Entries;
use crate::maps::{MESSAGES_SENT, PENDING, SWITCHES};
use crate::memory::user;
use crate::registers::{SystemCall, number, system_call};
use crate::transfer::{self, Transfer};

/// Messages of one `recvmmsg` that are looked at.
const MESSAGES: u64 = 16;

/// Value of the map of `sendmmsg` calls under way.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MessagesSent {
    vector: u64,
    sent: u64,
}

/// The memory of a transfer, by the system call's registers.
#[derive(Clone, Copy)]
struct Registers {
    call: SystemCall,
    write: bool,
}

impl Source for Registers {
    #[inline(always)]
    fn buffers(self) -> Option<Buffers> {
        let index = if self.call.number == number::SENDMMSG { next_message(&self.call) } else { 0 };
        buffers::of_system_call(&self.call, index)
    }

    #[inline(always)]
    fn peer(self, buffers: &Buffers) -> Peer {
        if self.write {
            return datagram::user_address(buffers.name).map_or(Peer::Unknown, Peer::Known);
        }
        // The kernel writes the sender's address behind this tracepoint, when the call is about to return.
        let awaited = SWITCHES.get(switch::SYS_EXIT).is_some_and(|&on| on != 0) && buffers.name != 0;
        if awaited { Peer::Later { many: u64::from(self.call.number == number::RECVMMSG) } } else { Peer::Unknown }
    }

    #[inline(always)]
    fn failed(self) {
        if self.call.number == number::SENDMMSG {
            MESSAGES_SENT.take(&bpf_get_current_pid_tgid());
        }
    }
}

/// Which message of this thread's `sendmmsg` is being sent: the kernel sends them in order and stops at a failure.
#[inline(always)]
fn next_message(call: &SystemCall) -> u64 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let [_, vector, count, ..] = call.arguments;
    // SAFETY: an element that only this thread uses.
    let before =
        unsafe { MESSAGES_SENT.get(&pid_tgid) }.filter(|before| before.vector == vector && before.sent < count);
    let index = before.map_or(0, |before| before.sent);
    if index + 1 >= count {
        MESSAGES_SENT.take(&pid_tgid);
    } else {
        let next = MessagesSent { vector, sent: index + 1 };
        MESSAGES_SENT.put(&pid_tgid, &next, 0);
    }
    index
}

#[inline(always)]
fn socket_transfer(ctx: &BtfTracePointContext, write: bool) {
    let transfer = Transfer { sk: ctx.arg(0), write, result: ctx.arg(1), flags: ctx.arg(2), entered: 0 };
    transfer::ended(&transfer, Lazy { write });
}

/// Reads the registers only when asked.
#[derive(Clone, Copy)]
struct Lazy {
    write: bool,
}

impl Lazy {
    #[inline(always)]
    fn registers(self) -> Registers {
        Registers { call: system_call(), write: self.write }
    }
}

impl Source for Lazy {
    #[inline(always)]
    fn buffers(self) -> Option<Buffers> {
        self.registers().buffers()
    }

    #[inline(always)]
    fn glance(self) -> Option<Buffers> {
        let call = system_call();
        if call.number == number::SENDMMSG { None } else { buffers::of_system_call(&call, 0) }
    }

    #[inline(always)]
    fn peer(self, buffers: &Buffers) -> Peer {
        self.registers().peer(buffers)
    }

    #[inline(always)]
    fn failed(self) {
        self.registers().failed();
    }
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    socket_transfer(&ctx, true);
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    socket_transfer(&ctx, false);
    0
}

/// Completes a received datagram with its sender's address. Attached only for processes that receive datagrams on
/// sockets without a fixed peer, because every system call on the machine pays for it.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(pending) = PENDING.get_ptr_mut(&pid_tgid) else { return 0 };
    // SAFETY: an element that only this thread uses.
    let pending = unsafe { &mut *pending };
    crate::counters::hit(program::SYSTEM_CALL_EXIT);
    if pending.many == 0 {
        complete(pending);
    } else {
        let received: i64 = ctx.arg(1);
        many(pending, received);
    }
    PENDING.take(&pid_tgid);
    0
}

#[inline(always)]
fn complete(pending: &mut Pending) {
    match datagram::user_address(pending.buffers.name) {
        Some(peer) => datagram::set_peer(&mut pending.datagram.tuple, &peer),
        None => pending.datagram.header.flags |= tracer_ebpf::flag::NO_PEER,
    }
    datagram::send(&pending.datagram, &mut pending.buffers);
}

/// All messages of one `recvmmsg`.
#[inline(always)]
fn many(pending: &mut Pending, received: i64) {
    let [_, vector, ..] = system_call().arguments;
    for index in 0..MESSAGES {
        if (index as i64) >= received {
            break;
        }
        let address = vector + index * MULTI_MESSAGE_SIZE;
        let Some(buffers) = Buffers::message(address) else { break };
        // msg_len stands behind the message header.
        let Some(length) = user::<u32>(address + MULTI_MESSAGE_SIZE - 8) else { break };
        pending.buffers = buffers;
        pending.datagram.length = length;
        complete(pending);
    }
}
