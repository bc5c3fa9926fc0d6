//! rustls: records that it encrypts and decrypts.
//!
//! A session of rustls is a value that programs move, and its plaintext and its socket are handled by separate calls.
//! But each direction has a boxed cipher (`Box<dyn MessageEncrypter>`, `Box<dyn MessageDecrypter>`, rustls's
//! src/crypto/cipher.rs), which stays where it is, and whose methods are given the record's number: with number 0 a key
//! is new, and so is whatever has been at this address.
//!
//! Both directions are bound on their own, by ciphertext: the head of a record that was made is the head of a piece that
//! a socket sends; the end of a record that is opened is what a socket has received last, or a socket has received the
//! record's beginning as the beginning of something. What has moved before is held by user space until then, and never
//! shown if it is never bound, or so late that the other direction has gone on: a response must not come before its
//! request.
//!
//! Where Rust puts the fields of these structures is its compiler's choice. What is found there must be a record by all
//! that is known of one; what is not is counted and left out, and so is all of a session whose ciphertext no socket
//! carries.

mod binding;
mod layout;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
pub use binding::{MadeFor, MadeKey, Position, PositionKey, Received, ReceivedKey, carries};
use binding::{advance, recognise, remember};
use layout::{APPLICATION_DATA, Inbound, LONGEST, LONGEST_ADDED, NONCE, TAG, made, opened, outbound};
use tracer_ebpf::{Data, Header, Released, SessionKey, flag, kind, program, switch};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::entries::Entries;
use crate::maps::{RUSTLS_CALLS, RUSTLS_HALVES, RUSTLS_PROCESSES, SWITCHES};
use crate::memory::user;
use crate::ship::{self, LookForTls};
use crate::{registers, shed, socket, stack, tls, transfer};

/// One direction of a session; value of the map of halves, by its cipher.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Half {
    /// The connection; 0: not known yet.
    connection: u64,
    /// The number that its bytes are held by.
    hold: u64,
    /// Bytes held, and since when.
    held: u64,
    since: u64,
    /// Records that were missed before it.
    missed: u64,
    /// The number of the next record.
    next: u64,
    cookie: u64,
}

/// The call that a thread is in; value of the map of calls.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    half: u64,
    sequence: u64,
    /// Where its result is put.
    result: u64,
    /// Where the return address is.
    stack: u64,
    entered: u64,
    /// Where the plaintext is, of what is encrypted.
    plaintext: Buffers,
    /// How long it is; of what is decrypted, how long the ciphertext is.
    length: u64,
    /// Address of the ciphertext that is decrypted.
    payload: u64,
    /// Of what is encrypted: its type; 0: it is none.
    content: u64,
    /// Of what is decrypted: its end, and what is behind a nonce's length.
    marks: [Mark; 2],
}

/// Bytes of ciphertext that are like no others: they are random to all but who has the key.
pub type Mark = [u64; TAG as usize / 8];

/// Whether a process has probes in rustls.
#[inline(always)]
fn is_ready(pid_tgid: u64) -> bool {
    // Every transfer of every traced process asks, and most machines trace no rustls at all.
    let any = SWITCHES.get(switch::RUSTLS).is_some_and(|&any| any != 0);
    // SAFETY: presence only, the value is not read.
    any && unsafe { RUSTLS_PROCESSES.get(&((pid_tgid >> 32) as u32)) }.is_some()
}

#[inline(always)]
fn enter(ctx: &ProbeContext, write: bool) {
    hit(program::TLS_ENTER);
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    let mut call = Call {
        result: ctx.arg(0).unwrap_or(0),
        half: ctx.arg(1).unwrap_or(0),
        sequence: ctx.arg(3).unwrap_or(0),
        stack,
        entered: ship::now(),
        ..Call::default()
    };
    let message: u64 = ctx.arg(2).unwrap_or(0);
    if write {
        outbound(&mut call, message)
    } else {
        inbound(&mut call, message, pid_tgid)
    }
    RUSTLS_CALLS.put(&pid_tgid, &call, 0);
}

#[inline(always)]
fn inbound(call: &mut Call, message: u64, pid_tgid: u64) {
    let Some(message) = user::<Inbound>(message) else { return };
    call.payload = message.payload;
    call.length = message.length;
    let key = SessionKey { tgid: pid_tgid >> 32, session: call.half };
    // SAFETY: an element of our map.
    let half = unsafe { RUSTLS_HALVES.get(&key) };
    let bound = half.is_some_and(|half| half.connection != 0 && half.next == call.sequence && call.sequence != 0);
    if !bound && message.length > TAG && message.length <= LONGEST + LONGEST_ADDED {
        call.marks[0] = user(message.payload + message.length - TAG).unwrap_or_default();
        if message.length >= NONCE + TAG {
            call.marks[1] = user(message.payload + NONCE).unwrap_or_default();
        }
    }
}

#[inline(always)]
fn exit(ctx: &RetProbeContext, write: bool) {
    hit(program::TLS_EXIT);
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(call) = RUSTLS_CALLS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let call = unsafe { &mut *call };
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    // The call has taken its return address from the stack.
    let tgid = (pid_tgid >> 32) as u32;
    if call.stack + 8 != stack || !socket::is_traced(tgid) {
        return;
    }
    call.stack = 0;
    // SAFETY: copied at once.
    let Some(&[opened_ok, made_ok]) = (unsafe { RUSTLS_PROCESSES.get(&tgid) }) else { return };
    let ok = if write { made_ok } else { opened_ok };
    let Some(tag) = user::<u8>(call.result) else { return };
    if tag < ok {
        // An error: no record was made or opened, and the next has the same number.
        return;
    }
    let record = if write { made(call) } else { opened(call) };
    let Some(record) = record.filter(|_| tag == ok) else {
        count(|counters| counters.records_unverified += 1);
        return;
    };
    let cookie = tls::cookie(ctx.as_ptr());
    let Some(half) = half(call, pid_tgid, cookie) else { return };
    half.next = call.sequence + 1;
    if half.connection == 0 {
        if write {
            remember(&record, call, half, pid_tgid);
        } else {
            recognise(call, pid_tgid);
        }
    }
    if record.content == APPLICATION_DATA && record.length != 0 {
        moved(call, half, record.length, write, pid_tgid);
    }
}

/// The direction that a call is on.
#[inline(always)]
fn half(call: &Call, pid_tgid: u64, cookie: u64) -> Option<&'static mut Half> {
    let key = SessionKey { tgid: pid_tgid >> 32, session: call.half };
    let known = RUSTLS_HALVES.get_ptr_mut(&key);
    // SAFETY: an element of our map; a cipher is used by one call at a time.
    let goes_on = known.is_some_and(|half| unsafe { call.sequence != 0 && (*half).next == call.sequence });
    if !goes_on {
        renew(&key, call.sequence, cookie);
    }
    // SAFETY: as above.
    RUSTLS_HALVES.get_ptr_mut(&key).map(|half| unsafe { &mut *half })
}

/// A direction with a new key, or one of which records have been missed: what is at its cipher's address may be another.
#[inline(never)]
fn renew(key: &SessionKey, sequence: u64, cookie: u64) -> u32 {
    let mut missed = sequence;
    if let Some(half) = RUSTLS_HALVES.get_ptr_mut(key) {
        // SAFETY: an element of our map; a cipher is used by one call at a time.
        let half = unsafe { &mut *half };
        if sequence > half.next {
            missed -= half.next;
        }
        if half.held != 0 {
            missed += 1;
            let mut released = Released { call: half.hold, ..Released::default() };
            released.data.header.kind = kind::RELEASED;
            let _ = ship::plain(&released);
        }
    }
    let new = Half { hold: socket::new_id(), missed, next: sequence, cookie, ..Half::default() };
    RUSTLS_HALVES.put(key, &new, 0);
    0
}

/// Plaintext has moved.
#[inline(always)]
fn moved(call: &Call, half: &mut Half, length: u64, write: bool, pid_tgid: u64) {
    count(|counters| counters.bytes_seen += length);
    let data =
        if half.connection == 0 { hold(half, length, write, pid_tgid) } else { advance(half, length, write, pid_tgid) };
    let Some(mut data) = data else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    if half.connection != 0 && shed::takes(half.connection) {
        return shed::bytes(length);
    }
    if write {
        data.elapsed = (data.header.time - call.entered) as u32;
    }
    let _ = transfer::parts(&mut data, &call.plaintext, LookForTls::No);
}

/// The event of plaintext whose connection is not known yet.
#[inline(always)]
fn hold(half: &mut Half, length: u64, write: bool, pid_tgid: u64) -> Option<Data> {
    let header = Header {
        kind: kind::HELD,
        program: program::TLS_EXIT as u8,
        flags: flag::TLS | if write { flag::WRITE } else { 0 },
        captured: 0,
        time: ship::now(),
        pid_tgid,
        connection: half.hold,
    };
    let position = half.held;
    if position == 0 {
        half.since = header.time;
    }
    half.held += length;
    Some(Data { header, position, length: length as u32, elapsed: 0 })
}

#[uprobe]
pub fn rustls_encrypt(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, true);
    0
}

#[uprobe]
pub fn rustls_decrypt(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, false);
    0
}

#[uretprobe]
pub fn rustls_encrypted(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(&ctx, true);
    0
}

#[uretprobe]
pub fn rustls_decrypted(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(&ctx, false);
    0
}
