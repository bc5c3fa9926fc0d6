//! Ciphertext: what a TLS library hands to its BIO, and what sockets carry.
//!
//! A library that is given memory for a BIO makes no socket calls: the application carries the ciphertext itself, from
//! any thread and at any time later (Node.js, Python's asyncio). Inside of a TLS call of a session, everything that the
//! library passes to `BIO_write` is ciphertext of that session; a socket that then sends the same bytes carries it.
//! What is compared is the head of a TLS record, of which some twenty bytes cannot be foreseen, so that a match is
//! certain ("ciphertext"). `BIO_write` is probed only in processes that may need it, and only in those are sends looked
//! at.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::tls::{FINGERPRINT, HEAD, is_hello, is_record, is_unpredictable};
use tracer_ebpf::{SessionKey, process_flag, program, source, switch};

use crate::counters::hit;
use crate::entries::Entries;
use crate::maps::{FINGERPRINTS, PROCESSES, SESSIONS, SWITCHES};
use crate::memory::user;
use crate::source::Source;
use crate::transfer::{MSG_PEEK, Transfer};
use crate::{registers, stack, tls};

/// The head of ciphertext that a process's TLS library has made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fingerprint {
    tgid: u64,
    head: [u8; FINGERPRINT],
}

/// Which session it was made for. The address alone may be another session's by the time it is sent.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Made {
    session: u64,
    id: u64,
}

/// `BIO_write(bio, data, length)`
#[uprobe]
pub fn tls_ciphertext(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    hit(program::TLS_CIPHERTEXT);
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    let Some(key) = tls::session_of_call(pid_tgid, stack) else { return 0 };
    let length: i32 = ctx.arg(2).unwrap_or(0);
    if length < FINGERPRINT as i32 {
        return 0;
    }
    made(&key, ctx.arg(1).unwrap_or(0));
    0
}

#[inline(always)]
fn made(key: &SessionKey, data: u64) {
    let Some(head) = user::<[u8; FINGERPRINT]>(data).filter(is_unpredictable) else { return };
    let Some(session) = tls::session(key) else { return };
    if session.source < source::CIPHERTEXT {
        let fingerprint = Fingerprint { tgid: key.tgid, head };
        FINGERPRINTS.put(&fingerprint, &Made { session: key.session, id: session.id }, 0);
    }
}

/// Whether what a transfer has sent is ciphertext that was made for a session, which is then on this connection.
#[inline(always)]
pub fn carries(transfer: &Transfer, pid_tgid: u64, connection: u64, source: impl Source) -> bool {
    let compares = SWITCHES.get(switch::COMPARED).is_some_and(|&processes| processes != 0);
    if !compares || !transfer.write || transfer.result < FINGERPRINT as i32 {
        return false;
    }
    // SAFETY: copied at once.
    let flags = unsafe { PROCESSES.get(&((pid_tgid >> 32) as u32)) }.copied().unwrap_or(0);
    flags & process_flag::CIPHERTEXT != 0 && sent(source, pid_tgid, connection) != 0
}

#[inline(never)]
fn sent<S: Source>(source: S, pid_tgid: u64, connection: u64) -> u32 {
    let Some(head) = head::<FINGERPRINT>(source) else { return 0 };
    let fingerprint = Fingerprint { tgid: pid_tgid >> 32, head };
    // SAFETY: copied at once.
    let Some(&Made { session, id }) = (unsafe { FINGERPRINTS.get(&fingerprint) }) else { return 0 };
    FINGERPRINTS.take(&fingerprint);
    let key = SessionKey { tgid: pid_tgid >> 32, session };
    let Some(session) = SESSIONS.get_ptr_mut(&key) else { return 1 };
    // SAFETY: an element of our map; a session is used by one call at a time in each direction.
    let session = unsafe { &mut *session };
    if session.id == id {
        tls::learn(session, connection, source::CIPHERTEXT, pid_tgid);
    }
    1
}

/// Whether what a transfer has moved begins like a TLS record.
#[inline(always)]
pub fn begins(transfer: &Transfer, source: impl Source) -> bool {
    transfer.result >= 4 && transfer.flags & MSG_PEEK == 0 && beginning(source) == RECORD
}

/// Whether the four bytes or more that a transfer has moved begin otherwise.
#[inline(always)]
pub fn is_no_record(source: impl Source) -> bool {
    beginning(source) == OTHER
}

/// What the first bytes of a transfer are; 0: they are not shown, or not in one piece.
const RECORD: u32 = 1;
const OTHER: u32 = 2;

#[inline(never)]
fn beginning<S: Source>(source: S) -> u32 {
    let Some([a, b, c, d]) = head::<4>(source) else { return 0 };
    if is_record(&[a, b, c, d, 0, 0]) { RECORD } else { OTHER }
}

/// Whether a transfer begins with a hello message.
#[inline(always)]
pub fn greets(source: impl Source) -> bool {
    begins_with_hello(source) != 0
}

#[inline(never)]
fn begins_with_hello<S: Source>(source: S) -> u32 {
    u32::from(head::<HEAD>(source).as_ref().is_some_and(is_hello))
}

/// The first bytes of a transfer, where they are in one piece.
#[inline(always)]
fn head<const N: usize>(source: impl Source) -> Option<[u8; N]> {
    let mut buffers = source.glance()?;
    let whole = buffers.advance() && buffers.current.length >= N as u64;
    if whole { user(buffers.current.base) } else { None }
}
