//! Which connection each direction of a session is on, by ciphertext that is like no other.
//!
//! The head of a record that was made is the head of a piece that a socket sends; the end of a record that is opened is
//! what a socket has received last, or a socket has received the record's beginning as the beginning of something.

use tracer_ebpf::tls::{HEAD, is_record};
use tracer_ebpf::{Data, Header, Released, SessionKey, Socket, flag, kind, program, socket_flag};

use super::layout::{LONGEST, NONCE, RECORD_HEAD, Record, TAG, WIRE_BASE};
use super::{Call, Half, Mark, is_ready};
use crate::buffers::Buffers;
use crate::entries::Entries;
use crate::maps::{RUSTLS_HALVES, RUSTLS_MADE, RUSTLS_POSITIONS, RUSTLS_RECEIVED, SOCKETS};
use crate::memory::user;
use crate::ship;
use crate::source::Source;
use crate::transfer::{MSG_PEEK, Transfer};
use crate::{shed, socket};

/// Records that a gap is made for at most.
const MOST_MISSED: u64 = 1 << 16;

/// Ciphertext that a process's sockets have received.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ReceivedKey {
    tgid: u64,
    mark: Mark,
}

/// By whom.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Received {
    connection: u64,
    socket: u64,
}

/// As much of a record as the shortest that carries anything has: head, a byte, its type and the tag.
const MADE: usize = 22;

/// The beginning of a record that was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MadeKey {
    tgid: u64,
    head: [u8; 24],
}

/// For whom.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MadeFor {
    half: u64,
    hold: u64,
}

/// How far a connection has come in one direction, whatever its keys were; value of the map of positions.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Position {
    bytes: u64,
    /// When it last moved.
    time: u64,
}

/// Of which connection, in which direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PositionKey {
    connection: u64,
    write: u64,
}

/// Remembers how a record begins that has been made. Not inlined, as the others below: the stack is small.
#[inline(never)]
pub(super) fn remember(record: &Record, call: &Call, half: &Half, pid_tgid: u64) -> u32 {
    let Some(start) = user::<[u8; MADE - RECORD_HEAD as usize]>(record.ciphertext) else { return 0 };
    let mut key = MadeKey { tgid: pid_tgid >> 32, head: [0; 24] };
    key.head[0] = WIRE_BASE + record.wire;
    key.head[1] = 3;
    key.head[2] = 3;
    key.head[3] = (record.ciphertext_length >> 8) as u8;
    key.head[4] = record.ciphertext_length as u8;
    key.head[RECORD_HEAD as usize..MADE].copy_from_slice(&start);
    RUSTLS_MADE.put(&key, &MadeFor { half: call.half, hold: half.hold }, 0);
    0
}

/// Looks for the socket that has received a record.
#[inline(always)]
pub(super) fn recognise(call: &Call, pid_tgid: u64) {
    let tgid = pid_tgid >> 32;
    let found = received(tgid, &call.marks[0]).or_else(|| received(tgid, &call.marks[1]));
    let Some(Received { connection, socket: sk }) = found else { return };
    let Some(socket) = SOCKETS.get_ptr_mut(&sk) else { return };
    // SAFETY: an element of our map, whose flags only ever get set.
    let socket = unsafe { &mut *socket };
    if socket.id == connection {
        carry(sk, socket, program::TLS_EXIT, pid_tgid);
        bind(call.half, connection, false, pid_tgid);
    }
}

#[inline(always)]
fn received(tgid: u64, mark: &Mark) -> Option<Received> {
    if mark[0] | mark[1] == 0 {
        // There is none; and what is not ciphertext may be nothing but zeros.
        return None;
    }
    let key = ReceivedKey { tgid, mark: *mark };
    // SAFETY: copied at once.
    unsafe { RUSTLS_RECEIVED.get(&key) }.copied()
}

/// A socket carries a session.
#[inline(always)]
fn carry(sk: u64, socket: &mut Socket, program: usize, pid_tgid: u64) {
    socket.flags |= socket_flag::TLS;
    if !shed::takes_socket(socket) {
        socket::announce(sk, socket, program, pid_tgid);
    }
}

/// The connection of a direction has been found: what is held of it can be shown.
#[inline(never)]
fn bind(cipher: u64, connection: u64, write: bool, pid_tgid: u64) -> u32 {
    let key = SessionKey { tgid: pid_tgid >> 32, session: cipher };
    let Some(half) = RUSTLS_HALVES.get_ptr_mut(&key) else { return 0 };
    // SAFETY: an element of our map; what is sent is sent by who encrypts, or has been told to.
    let half = unsafe { &mut *half };
    half.connection = connection;
    miss(half, write);
    let held = half.held;
    if held == 0 {
        return 0;
    }
    half.held = 0;
    let other = PositionKey { connection, write: u64::from(!write) };
    // SAFETY: copied at once.
    let is_late = unsafe { RUSTLS_POSITIONS.get(&other) }.is_some_and(|other| other.time > half.since);
    let data = advance(half, held, write, pid_tgid).filter(|data| !is_late && !shed::takes(data.header.connection));
    let mut released = Released { data: data.unwrap_or_default(), call: half.hold };
    released.data.header.kind = kind::RELEASED;
    let _ = ship::plain(&released);
    1
}

/// How far a connection has come in one direction.
#[inline(always)]
fn position(connection: u64, write: bool) -> Option<&'static mut Position> {
    let key = PositionKey { connection, write: u64::from(write) };
    let position = RUSTLS_POSITIONS.get_ptr_mut(&key).or_else(|| RUSTLS_POSITIONS.place(&key, &Position::default()))?;
    // SAFETY: an element of our map; a direction is used by one call at a time.
    Some(unsafe { &mut *position })
}

/// Leaves a gap where records of a connection that was seen before have been missed. How long they were is not known;
/// this is the most.
#[inline(always)]
fn miss(half: &Half, write: bool) {
    if half.missed != 0
        && let Some(position) = position(half.connection, write)
        && position.bytes != 0
    {
        position.bytes += half.missed.min(MOST_MISSED) * LONGEST;
    }
}

/// The event of plaintext that is on a connection, with its place there.
#[inline(always)]
pub(super) fn advance(half: &Half, length: u64, write: bool, pid_tgid: u64) -> Option<Data> {
    let counter = position(half.connection, write)?;
    let now = ship::now();
    let place = counter.bytes;
    *counter = Position { bytes: place + length, time: now };
    let header = Header {
        kind: kind::DATA,
        program: half.cookie as u8,
        flags: flag::TLS | flag::BY_CIPHERTEXT | if write { flag::WRITE } else { 0 },
        captured: 0,
        time: now,
        pid_tgid,
        connection: half.connection,
    };
    Some(Data { header, position: place, length: length as u32, elapsed: 0 })
}

/// Whether a transfer has sent a record that was made for a session, which is then on this connection; takes note of
/// what it has received.
#[inline(always)]
pub fn carries<S: Source>(transfer: &Transfer, pid_tgid: u64, connection: u64, source: S) -> bool {
    if transfer.result < MADE as i32 || transfer.flags & MSG_PEEK != 0 || !is_ready(pid_tgid) {
        return false;
    }
    if transfer.write {
        return sent(source, pid_tgid, connection) != 0;
    }
    take_note(source, transfer.result as u64, transfer.sk, connection, pid_tgid);
    false
}

/// Pieces of a send that are looked at: rustls sends each record as one.
#[inline(never)]
fn sent<S: Source>(source: S, pid_tgid: u64, connection: u64) -> u32 {
    let Some(mut buffers) = source.glance() else { return 0 };
    let mut found = 0;
    // All of them: the first records of a new key follow the last ones of the old.
    macro_rules! pieces {
        ($($_number:literal)*) => {
            $(
                let _ = $_number;
                found |= piece(&mut buffers, pid_tgid, connection);
            )*
        };
    }
    pieces! { 1 2 3 4 }
    found
}

#[inline(always)]
fn piece(buffers: &mut Buffers, pid_tgid: u64, connection: u64) -> u32 {
    if !buffers.advance() || buffers.current.length < MADE as u64 {
        buffers.current.length = 0;
        return 0;
    }
    let cipher = made_by(buffers.current.base, pid_tgid);
    buffers.current.length = 0;
    if cipher == 0 {
        return 0;
    }
    // Not from within the other: the stack is small.
    bind(cipher, connection, true, pid_tgid);
    1
}

/// The cipher that has made a record that no socket has sent before, if its connection is not known; else 0.
#[inline(never)]
fn made_by(address: u64, pid_tgid: u64) -> u64 {
    let Some(head) = user::<[u8; MADE]>(address) else { return 0 };
    let mut key = MadeKey { tgid: pid_tgid >> 32, head: [0; 24] };
    key.head[..MADE].copy_from_slice(&head);
    // SAFETY: copied at once.
    let Some(&MadeFor { half, hold }) = (unsafe { RUSTLS_MADE.get(&key) }) else { return 0 };
    RUSTLS_MADE.take(&key);
    let key = SessionKey { tgid: pid_tgid >> 32, session: half };
    // SAFETY: copied at once.
    let known = unsafe { RUSTLS_HALVES.get(&key) };
    if known.is_some_and(|known| known.hold == hold && known.connection == 0) { half } else { 0 }
}

/// Remembers what a socket has received: its end, and where a record begins it, the beginnings of that and of those
/// behind it.
#[inline(never)]
fn take_note<S: Source>(source: S, length: u64, sk: u64, connection: u64, pid_tgid: u64) -> u32 {
    let Some(mut buffers) = source.glance() else { return 0 };
    if !buffers.advance() || buffers.current.length < length {
        return 0;
    }
    let (base, tgid) = (buffers.current.base, pid_tgid >> 32);
    let received = Received { connection, socket: sk };
    if let Some(mark) = user::<Mark>(base + length - TAG) {
        RUSTLS_RECEIVED.put(&ReceivedKey { tgid, mark }, &received, 0);
    }
    let next = |at: u64| {
        if at + RECORD_HEAD + NONCE + TAG <= length { at + beginning(base + at, tgid, &received) } else { at }
    };
    // A client's end of the handshake is two records, and its first request may come with it.
    next(next(next(next(0))));
    0
}

/// Remembers the beginning of a record, if there is one at this address; gives how long it is, or else more than is
/// received at once.
#[inline(never)]
fn beginning(address: u64, tgid: u64, received: &Received) -> u64 {
    let Some(head) = user::<[u8; HEAD]>(address).filter(is_record) else { return u64::from(u32::MAX) };
    if let Some(mark) = user::<Mark>(address + RECORD_HEAD + NONCE) {
        RUSTLS_RECEIVED.put(&ReceivedKey { tgid, mark }, received, 0);
    }
    RECORD_HEAD + u64::from(u16::from_be_bytes([head[3], head[4]]))
}
