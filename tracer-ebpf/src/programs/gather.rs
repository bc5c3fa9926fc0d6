//! The first bytes of a transfer from many small pieces, as one event.
//!
//! gRPC's C core sends the headers of a call in 25 pieces. As an event each, they would pass the bound of a transfer,
//! and without the first headers of a connection those that refer to them can't be known either.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_ebpf::{Data, PAYLOAD_CLASSES, flag};

use crate::counters::count;
use crate::maps::EVENTS;
use crate::memory;
use crate::ship::{self, Fixed, LookForTls, Record};
use crate::transfer::{Piece, Walk};

/// Room of one event.
const ROOM: usize = PAYLOAD_CLASSES[4];

/// A slice begins in the first half of the room and is as long as half of it at most, which the verifier understands.
const HALF: u64 = ROOM as u64 / 2;

/// Whether there may be more to gather.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    More,
    End,
}

/// What has been gathered.
struct Gathered {
    payload: *mut u8,
    length: u64,
}

/// Ships the first pieces of a vector together and moves `walk` behind them. Gives [`Piece::More`] also if there is no
/// room in the ring: then nothing has been done.
#[inline(never)]
pub fn gather(event: &mut Data, walk: &mut Walk, look: LookForTls) -> Piece {
    let Some(entry) = EVENTS.reserve_untyped::<Record<Data, ROOM>>(0) else { return Piece::More };
    let record = entry.as_ptr() as *mut Record<Data, ROOM>;
    // SAFETY: the record is ours until it is submitted.
    let mut gathered = Gathered { payload: unsafe { (&raw mut (*record).payload).cast() }, length: 0 };
    macro_rules! slices {
        ($($_number:literal)*) => {
            'all: {
                $(
                    let _ = $_number;
                    if slice(walk, &mut gathered) == Slice::End {
                        break 'all;
                    }
                )*
            }
        };
    }
    slices! { 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 }
    let length = gathered.length;
    if length == 0 {
        entry.discard(0);
        return Piece::More;
    }
    // SAFETY: as above.
    let tls = look != LookForTls::No && ship::is_tls(unsafe { &(*record).payload }, length, look);
    if tls {
        entry.discard(0);
        return Piece::Ciphertext;
    }
    event.position = walk.position;
    event.length = length as u32;
    // SAFETY: as above.
    unsafe {
        (*record).fixed = *event;
        (*record).fixed.set(length as u32, 0);
    }
    count(|counters| counters.emitted += 1);
    count(|counters| counters.bytes_captured += length);
    entry.submit(ship::wake(size_of::<Record<Data, ROOM>>() as u64));
    walk.position += length;
    if walk.left == 0 {
        return Piece::Last;
    }
    event.header.flags |= flag::CONTINUED;
    memory::forget(walk);
    Piece::More
}

/// Takes the next piece, or as much of it as there is room for. Afterwards the verifier must know nothing of the
/// numbers, or it would follow every combination of what it knows through every slice.
#[inline(never)]
fn slice(walk: &mut Walk, gathered: &mut Gathered) -> Slice {
    let result = take(walk, gathered);
    memory::forget(walk);
    memory::forget(&mut gathered.length);
    result
}

#[inline(always)]
fn take(walk: &mut Walk, gathered: &mut Gathered) -> Slice {
    // SAFETY: a local. The verifier must see the bounds, and not what the compiler makes of them.
    let at = unsafe { core::ptr::read_volatile(&raw const gathered.length) };
    if at >= HALF || !walk.buffers.advance() {
        return Slice::End;
    }
    let wanted = walk.buffers.current.length.min(walk.left).min(walk.allowed);
    // SAFETY: a local, as above.
    let mut length = unsafe { core::ptr::read_volatile(&raw const wanted) };
    if length > HALF {
        length = HALF;
    }
    if length == 0 {
        // Empty pieces are legal.
        return if walk.buffers.current.length == 0 { Slice::More } else { Slice::End };
    }
    // SAFETY: `at` is below HALF and `length` at most HALF, the payload has room for both; the helper checks the
    // process's address.
    let failed = unsafe {
        let target = gathered.payload.add(at as usize).cast::<c_void>();
        bpf_probe_read_user(target, length as u32, walk.buffers.current.base as *const c_void)
    };
    if failed != 0 {
        // The piece is shipped on its own, and the fault counted there.
        return Slice::End;
    }
    gathered.length = at + length;
    walk.buffers.current.base += length;
    walk.buffers.current.length -= length;
    walk.left -= length;
    walk.allowed -= length;
    Slice::More
}
