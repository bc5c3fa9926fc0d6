//! Writing events into the ring.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_ringbuf_query};
use tracer_ebpf::{Data, Datagram, MAX_PAYLOAD, PAYLOAD_CLASSES, flag, tls};

use crate::config;
use crate::counters::count;
use crate::maps::EVENTS;

const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE_DATA: u64 = 0;

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shipped {
    /// It is in the ring.
    Yes,
    /// The ring is full.
    Full,
    /// It began like TLS and was taken back.
    Ciphertext,
}

/// What to do with bytes that look like TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LookForTls {
    No,
    /// Only a hello message counts.
    Hello,
    /// Any record counts: these are the first bytes seen in their direction.
    Record,
}

/// An event with a fixed part and room for payload.
pub trait Fixed: Copy + 'static {
    fn set(&mut self, captured: u32, flags: u16);
}

impl Fixed for Data {
    #[inline(always)]
    fn set(&mut self, captured: u32, flags: u16) {
        self.header.captured = captured;
        self.header.flags |= flags;
    }
}

impl Fixed for Datagram {
    #[inline(always)]
    fn set(&mut self, captured: u32, flags: u16) {
        self.header.captured = captured;
        self.header.flags |= flags;
    }
}

#[repr(C)]
pub struct Record<F, const N: usize> {
    pub fixed: F,
    pub payload: [u8; N],
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing, always succeeds.
    unsafe { bpf_ktime_get_ns() }
}

/// Wakes the reader when this event makes the ring pass the mark; otherwise it comes by itself soon enough. A wake-up
/// costs the traced process about 2 µs, so it must not happen for each event.
#[inline(always)]
pub fn wake(size: u64) -> u64 {
    // SAFETY: a query of our own ring.
    let filled = unsafe { bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), AVAILABLE_DATA) };
    let mark = u64::from(config::WAKE_AT.load());
    if filled >= mark && filled < mark + size { FORCE_WAKEUP } else { NO_WAKEUP }
}

/// Writes an event without payload.
#[inline(always)]
pub fn plain<E: Copy + 'static>(event: &E) -> Shipped {
    let wake = wake(size_of::<E>() as u64);
    write(event, wake)
}

/// Writes an event that must be read at once.
#[inline(always)]
pub fn urgent<E: Copy + 'static>(event: &E) -> Shipped {
    write(event, FORCE_WAKEUP)
}

#[inline(always)]
fn write<E: Copy + 'static>(event: &E, wake: u64) -> Shipped {
    count(|counters| counters.emitted += 1);
    let Some(mut entry) = EVENTS.reserve_untyped::<E>(0) else {
        count(|counters| counters.ring_full += 1);
        return Shipped::Full;
    };
    entry.write(*event);
    entry.submit(wake);
    Shipped::Yes
}

/// Writes an event with `captured` bytes of the process's memory behind it.
#[inline(always)]
pub fn with_payload<F: Fixed>(fixed: &F, address: u64, captured: u64, look: LookForTls) -> Shipped {
    macro_rules! classes {
        ($($smaller:literal)*; $largest:literal) => {
            $(if captured <= PAYLOAD_CLASSES[$smaller] as u64 {
                return class::<F, { PAYLOAD_CLASSES[$smaller] }>(fixed, address, captured, look);
            })*
            class::<F, { PAYLOAD_CLASSES[$largest] }>(fixed, address, captured, look)
        };
    }
    classes! { 0 1 2 3 4; 5 }
}

#[inline(always)]
fn class<F: Fixed, const N: usize>(fixed: &F, address: u64, captured: u64, look: LookForTls) -> Shipped {
    count(|counters| counters.emitted += 1);
    let Some(entry) = EVENTS.reserve_untyped::<Record<F, N>>(0) else {
        count(|counters| counters.ring_full += 1);
        return Shipped::Full;
    };
    let record = entry.as_ptr() as *mut Record<F, N>;
    // SAFETY: a local. Read as if it could have changed, or the compiler proves the bound to itself from the caller's
    // comparison, on another copy of the number, and drops what the verifier needs.
    let mut n = unsafe { core::ptr::read_volatile(&raw const captured) };
    if n > N as u64 {
        n = N as u64;
    }
    // SAFETY: the record is ours until submitted; the helper checks the process's address.
    unsafe {
        (*record).fixed = *fixed;
        let failed =
            bpf_probe_read_user((&raw mut (*record).payload).cast::<c_void>(), n as u32, address as *const c_void);
        if failed != 0 {
            (*record).fixed.set(0, flag::FAULT);
            count(|counters| {
                counters.faults += 1;
                counters.bytes_lost_fault += n;
            });
        } else if look != LookForTls::No && is_tls(&(*record).payload, n, look) {
            count(|counters| counters.emitted -= 1);
            entry.discard(NO_WAKEUP);
            return Shipped::Ciphertext;
        } else {
            (*record).fixed.set(n as u32, 0);
            count(|counters| counters.bytes_captured += n);
        }
    }
    entry.submit(wake(size_of::<Record<F, N>>() as u64));
    Shipped::Yes
}

#[inline(always)]
pub fn is_tls(payload: &[u8], captured: u64, look: LookForTls) -> bool {
    let head = [payload[0], payload[1], payload[2], payload[3], payload[4], payload[5]];
    match look {
        LookForTls::Record if captured + 1 >= tls::HEAD as u64 => tls::is_record(&head),
        LookForTls::Hello if captured >= tls::HEAD as u64 => tls::is_hello(&head),
        _ => false,
    }
}

const _: () = assert!(PAYLOAD_CLASSES[5] == MAX_PAYLOAD);
