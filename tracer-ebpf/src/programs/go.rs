//! Calls of Go's crypto/tls.
//!
//! A goroutine moves between threads, so it is what a call belongs to: register R14 points to its `g` wherever Go's
//! code runs (src/cmd/compile/abi-internal.md), and the assembly that makes system calls leaves it alone
//! (src/runtime/internal/syscall/asm_linux_amd64.s, before Go 1.19 src/syscall/asm_linux_amd64.s). The slot in thread
//! local storage that holds it too has another offset in programs with C in them. That a goroutine is inside the call is
//! never taken for granted: the call's return address must still stand where it stood, and the stack be deeper.
//!
//! Stacks move as well (src/runtime/stack.go, copystack): everything on them keeps its distance from their upper end,
//! which `g` tells. Places are remembered by this distance. The heap does not move, but memory that nobody needs any
//! more is used again: the bytes of a Write may be gone before it returns, as it still waits for the socket when it has
//! encrypted them. So they are taken at its entry and held by user space, until its end tells how many were written.
//! A Read's are taken at its end.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::{
    Data, GOROUTINE_CALL, GoroutineKey, Header, Released, SessionKey, flag, kind, program, socket_flag, source, switch,
};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::entries::Entries;
use crate::maps::{GO_PROCESSES, GOROUTINES, SESSIONS, SWITCHES};
use crate::memory::user;
use crate::registers::{self, GoRegisters};
use crate::ship::{self, LookForTls};
use crate::socket::{self, Class};
use crate::tls::{self, Thread};
use crate::{descriptor, shed, stack, transfer};

/// Where a `g` keeps the upper end of its stack: its first member is `stack`, `lo` then `hi` (src/runtime/runtime2.go).
const STACK_HIGH: u64 = 8;
/// Where an `itab` of `net.Conn` keeps the address of the method Read: the third of its methods by name, which begin
/// behind two pointers, a hash and four unused bytes (src/runtime/runtime2.go, src/internal/abi/iface.go).
const ITAB_READ: u64 = 24 + 2 * 8;
/// Where a `netFD` keeps its file descriptor: `pfd.Sysfd`, behind a mutex of 16 bytes (src/internal/poll/fd_unix.go).
const NETFD_DESCRIPTOR: u64 = 16;

/// Value of the map of goroutines: the TLS call that one is in.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    pub thread: Thread,
    /// Where the return address is, from the stack's upper end down.
    depth: u64,
    return_address: u64,
    /// The number of the call, whose bytes are held; 0: they are not.
    held: u64,
    /// The buffer is on the stack, and its place is counted from the upper end down.
    on_stack: u32,
    /// It makes the session, and moves no data.
    handshake: u32,
}

const _: () = assert!(size_of::<Call>() == GOROUTINE_CALL);

impl Call {
    /// Whether the code at a stack pointer runs on behalf of this call.
    #[inline(always)]
    fn contains(&self, high: u64, stack: u64) -> bool {
        let frame = high - self.depth;
        stack < frame && high - stack < (1 << 32) && user::<u64>(frame) == Some(self.return_address)
    }

    /// Whether the function that returns at a stack pointer is this call's.
    #[inline(always)]
    fn ends_at(&self, high: u64, stack: u64) -> bool {
        high - stack == self.depth && user::<u64>(stack) == Some(self.return_address)
    }
}

#[inline(always)]
fn key(pid_tgid: u64, goroutine: u64) -> GoroutineKey {
    GoroutineKey { tgid: pid_tgid >> 32, goroutine }
}

/// Binds the TLS call that this goroutine is in, if any, to the connection. Whether there is one.
#[inline(always)]
pub fn bind(pid_tgid: u64, connection: u64) -> bool {
    is_ready(pid_tgid) && bind_goroutine(pid_tgid, connection)
}

/// Whether a process has probes in Go's crypto/tls, and all of them are in place.
#[inline(always)]
fn is_ready(pid_tgid: u64) -> bool {
    // Every transfer of every traced process asks, and most machines trace no Go at all.
    let any = SWITCHES.get(switch::GO).is_some_and(|&any| any != 0);
    // SAFETY: presence only, the value is not read.
    any && unsafe { GO_PROCESSES.get(&((pid_tgid >> 32) as u32)) }.is_some()
}

/// Not inlined: its stack would add to the sources' own.
#[inline(never)]
fn bind_goroutine(pid_tgid: u64, connection: u64) -> bool {
    let (goroutine, stack) = registers::goroutine_and_stack();
    let Some(call) = GOROUTINES.get_ptr_mut(&key(pid_tgid, goroutine)) else { return false };
    let Some(high) = user::<u64>(goroutine + STACK_HIGH) else { return false };
    // SAFETY: an element of our map that only this goroutine uses.
    let call = unsafe { &mut *call };
    if !call.contains(high, stack) {
        return false;
    }
    if call.handshake == 0 {
        return call.thread.bind(connection);
    }
    let key = SessionKey { tgid: pid_tgid >> 32, session: call.thread.session };
    if let Some(session) = tls::session(&key) {
        tls::learn(session, connection, source::NESTED, pid_tgid);
    }
    true
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Handshake,
}

#[inline(always)]
fn enter(ctx: &ProbeContext, operation: Operation) {
    // SAFETY: a probe's context is its registers.
    let registers = unsafe { registers::go(ctx.as_ptr() as *const pt_regs) };
    if registers.grows_stack {
        // The function starts again.
        return;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_ready(pid_tgid) {
        return;
    }
    hit(program::TLS_ENTER);
    let key = key(pid_tgid, registers.goroutine);
    let [session, buffer, length] = registers.arguments;
    let Some([low, high]) = user::<[u64; 2]>(registers.goroutine) else { return };
    let Some(return_address) = user::<u64>(registers.stack) else { return };
    if let Some(before) = GOROUTINES.get_ptr_mut(&key) {
        // SAFETY: an element of our map that only this goroutine uses.
        let before = unsafe { &*before };
        if before.contains(high, registers.stack) {
            // TLS over TLS, or the handshake that a read or write begins with: part of that call.
            return;
        }
        count(|counters| counters.abandoned_calls += 1);
    }
    if operation == Operation::Handshake {
        tls::forget(session);
    }
    let on_stack = buffer >= low && buffer < high;
    let write = operation == Operation::Write;
    let call = Call {
        thread: Thread {
            active: tls::DATA,
            write: u32::from(write),
            session,
            buffer: if on_stack { high - buffer } else { buffer },
            entered: ship::now(),
            ..Thread::default()
        },
        depth: high - registers.stack,
        return_address,
        held: if write { socket::new_id() } else { 0 },
        on_stack: u32::from(on_stack),
        handshake: u32::from(operation == Operation::Handshake),
    };
    if !GOROUTINES.put(&key, &call, 0) {
        count(|counters| counters.abandoned_calls += 1);
    } else if write {
        hold(&call, pid_tgid, buffer, length);
    }
}

/// Ships what a Write is about to write.
#[inline(always)]
fn hold(call: &Call, pid_tgid: u64, buffer: u64, length: u64) {
    let length = length.min(u64::from(u32::MAX));
    if length == 0 {
        return;
    }
    count(|counters| counters.bytes_seen += length);
    let header = Header {
        kind: kind::HELD,
        program: program::TLS_ENTER as u8,
        flags: flag::TLS | flag::WRITE,
        captured: 0,
        time: call.thread.entered,
        pid_tgid,
        connection: call.held,
    };
    let mut data = Data { header, position: 0, length: length as u32, elapsed: 0 };
    let _ = transfer::parts(&mut data, &Buffers::single(buffer, length), LookForTls::No);
}

/// `spilled`: it is a Read whose arguments stand behind the return address.
#[inline(always)]
fn exit(ctx: &ProbeContext, spilled: bool) {
    hit(program::TLS_EXIT);
    // SAFETY: a probe's context is its registers.
    let registers = unsafe { registers::go(ctx.as_ptr() as *const pt_regs) };
    let pid_tgid = bpf_get_current_pid_tgid();
    let key = key(pid_tgid, registers.goroutine);
    let [result, ..] = registers.arguments;
    let length = if (result as i64) < 0 { 0 } else { result };
    let cookie = tls::cookie(ctx.as_ptr());
    let Some(call) = GOROUTINES.get_ptr_mut(&key) else {
        // It waited in the call before it was traced, mostly.
        if length > 0 && is_ready(pid_tgid) && (!spilled || !not_entered(&registers, pid_tgid, length, cookie)) {
            count(|counters| {
                counters.bytes_seen += length;
                counters.bytes_lost_not_entered += length;
            });
        }
        return;
    };
    // SAFETY: an element of our map that only this goroutine uses, and that stays until it is taken out below.
    let call = unsafe { &mut *call };
    let Some(high) = user::<u64>(registers.goroutine + STACK_HIGH) else { return };
    if !call.ends_at(high, registers.stack) {
        // Inside the call that counts, and so a part of what that call has for its socket.
        count(|counters| {
            counters.bytes_seen += length;
            counters.bytes_ciphertext += length;
        });
        return;
    }
    end(call, high, pid_tgid, length, cookie);
    GOROUTINES.take(&key);
}

/// A call has ended that moved so many bytes. Not from a copy of the call: stacks are short.
#[inline(always)]
fn end(call: &mut Call, high: u64, pid_tgid: u64, length: u64, cookie: u64) {
    if length > 0 {
        locate(&call.thread, pid_tgid);
    }
    if call.held != 0 {
        release(call, pid_tgid, length, cookie);
    } else if length > 0 {
        if call.on_stack != 0 {
            call.thread.buffer = high - call.thread.buffer;
        }
        let buffers = Buffers::single(call.thread.buffer, length);
        tls::moved(&call.thread, pid_tgid, length, cookie, &buffers);
    }
}

/// A Read whose entry was not seen. Whether its arguments could be told nevertheless.
#[inline(always)]
fn not_entered(registers: &GoRegisters, pid_tgid: u64, length: u64, cookie: u64) -> bool {
    let Some([low, high]) = user::<[u64; 2]>(registers.goroutine) else { return false };
    let Some([session, buffer]) = user::<[u64; 2]>(registers.stack + 8) else { return false };
    // The type of its connection shows that it is a session.
    if descriptor_of(session, (pid_tgid >> 32) as u32).is_none() {
        return false;
    }
    let thread = Thread { session, buffer, entered: ship::now(), ..Thread::default() };
    locate(&thread, pid_tgid);
    if buffer < low || buffer >= high {
        tls::moved(&thread, pid_tgid, length, cookie, &Buffers::single(buffer, length));
    } else if let Some(mut data) = tls::advance(&thread, pid_tgid, length, cookie) {
        // Nobody needed the address any more when the stack moved, so it may be an old one.
        count(|counters| counters.bytes_seen += length);
        if shed::takes(data.header.connection) {
            shed::bytes(length);
        } else {
            transfer::unseen(&mut data);
        }
    } else {
        return false;
    }
    true
}

/// Says how many of the bytes that are held have been written.
#[inline(always)]
fn release(call: &Call, pid_tgid: u64, length: u64, cookie: u64) {
    let data = if length == 0 { None } else { tls::advance(&call.thread, pid_tgid, length, cookie) };
    // What is held has been shipped and counted as such; of a connection that is left out it is of no use.
    let data = data.filter(|data| !shed::takes(data.header.connection));
    let mut released = Released { data: data.unwrap_or_default(), call: call.held };
    released.data.header.kind = kind::RELEASED;
    let _ = ship::plain(&released);
}

/// At a session's first data: looks for its socket by its structures, which is all that is known if no socket call
/// inside the session's calls tells it.
#[inline(never)]
fn locate(thread: &Thread, pid_tgid: u64) {
    let tgid = (pid_tgid >> 32) as u32;
    let key = SessionKey { tgid: pid_tgid >> 32, session: thread.session };
    // SAFETY: an element of our map.
    if unsafe { SESSIONS.get(&key) }.is_some_and(|session| session.read != 0 || session.written != 0) {
        return;
    }
    let sk = descriptor_of(thread.session, tgid).map_or(0, descriptor::socket_of);
    if sk == 0 || socket::classify(sk) != Class::Tcp {
        return;
    }
    let Some(session) = tls::session(&key) else { return };
    if thread.connection != 0 {
        tls::learn(session, thread.connection, source::NESTED, pid_tgid);
    }
    let Some(socket) = descriptor::connection(sk, Class::Tcp, pid_tgid, program::TLS_EXIT) else { return };
    tls::learn(session, socket.id, source::FD, pid_tgid);
    if session.id == socket.id {
        socket.flags |= socket_flag::TLS;
    }
}

/// The file descriptor of a `*tls.Conn`: its first member is a `net.Conn`, which must hold a `*net.TCPConn`, whose only
/// member is a `*netFD`. What an interface holds is told by its methods: each type has its own.
#[inline(always)]
fn descriptor_of(session: u64, tgid: u32) -> Option<u64> {
    // SAFETY: the value is copied.
    let tcp_read = *unsafe { GO_PROCESSES.get(&tgid) }?;
    let [itab, connection] = user::<[u64; 2]>(session)?;
    if tcp_read == 0 || user::<u64>(itab + ITAB_READ)? != tcp_read {
        return None;
    }
    let netfd: u64 = user(connection)?;
    user(netfd + NETFD_DESCRIPTOR)
}

#[uprobe]
pub fn go_read(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, Operation::Read);
    0
}

#[uprobe]
pub fn go_write(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, Operation::Write);
    0
}

#[uprobe]
pub fn go_handshake(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, Operation::Handshake);
    0
}

/// On every return instruction of Read and Write.
#[uprobe]
pub fn go_return(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(&ctx, false);
    0
}

/// The same, of a Read whose arguments stand behind the return address.
#[uprobe]
pub fn go_return_spilled(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(&ctx, true);
    0
}

/// On every return instruction of the functions that make a session: what the goroutine does next is not theirs.
#[uprobe]
pub fn go_handshake_return(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    // SAFETY: a probe's context is its registers.
    let registers = unsafe { registers::go(ctx.as_ptr() as *const pt_regs) };
    let key = key(bpf_get_current_pid_tgid(), registers.goroutine);
    let Some(call) = GOROUTINES.get_ptr_mut(&key) else { return 0 };
    let Some(high) = user::<u64>(registers.goroutine + STACK_HIGH) else { return 0 };
    // SAFETY: an element of our map that only this goroutine uses.
    if unsafe { (*call).handshake != 0 && (*call).ends_at(high, registers.stack) } {
        GOROUTINES.take(&key);
    }
    0
}

#[uprobe]
pub fn go_close(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    // SAFETY: a probe's context is its registers.
    let GoRegisters { arguments: [session, ..], .. } = unsafe { registers::go(ctx.as_ptr() as *const pt_regs) };
    tls::forget(session);
    0
}
