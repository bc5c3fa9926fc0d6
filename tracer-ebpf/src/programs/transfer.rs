//! The body that every socket source shares: one transfer on one socket has ended.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::{Data, Header, MAX_PAYLOAD, Socket, flag, kind, origin, program, socket_flag};

use crate::buffers::Buffers;
use crate::counters::count;
use crate::entries::Entries;
use crate::gather;
use crate::maps::SOCKETS;
use crate::memory::kernel;
use crate::ship::{self, LookForTls, Shipped};
use crate::socket::{self, Class};
use crate::{ciphertext, config, datagram, go, memory, rustls, shed, tls};

pub const MSG_PEEK: i32 = 2;
pub const MSG_TRUNC: i32 = 0x20;

/// One transfer that has ended.
#[derive(Clone, Copy)]
pub struct Transfer {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// The process sent; otherwise it received.
    pub write: bool,
    /// What the call returned: bytes, or a negative error.
    pub result: i32,
    /// The call's MSG_ flags.
    pub flags: i32,
    /// When it began; 0: not known.
    pub entered: u64,
}

impl Transfer {
    pub fn program(&self) -> usize {
        if self.write { program::SOCKET_SEND } else { program::SOCKET_RECEIVE }
    }
}

/// Takes note of a transfer. `buffers` is asked only when the bytes are wanted.
#[inline(always)]
pub fn ended(transfer: &Transfer, source: impl crate::source::Source) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    if !socket::may_be_traced(tgid) {
        return;
    }
    let known = SOCKETS.get_ptr_mut(&transfer.sk);
    let ours = match known {
        // SAFETY: an element of our map.
        Some(socket) => (unsafe { (*socket).tgid == tgid }) || socket::is_traced(tgid),
        None => socket::is_traced(tgid),
    };
    if !ours {
        return;
    }
    crate::counters::hit(transfer.program());
    let socket = match known {
        Some(socket) => {
            // SAFETY: an element of our map.
            let unix = unsafe { u16::from((*socket).family) == socket::AF_UNIX };
            // SAFETY: as above.
            if unix && unsafe { (*socket).inode } != socket::inode(transfer.sk) {
                SOCKETS.take(&transfer.sk);
                socket::adopt(transfer.sk, tgid, Class::UnixStream, origin::UNKNOWN)
            } else {
                Some(socket)
            }
        }
        None => match socket::classify(transfer.sk) {
            Class::Other => return,
            Class::Udp => return datagram::ended(transfer, pid_tgid, source),
            class => socket::adopt(transfer.sk, tgid, class, origin::UNKNOWN),
        },
    };
    let Some(socket) = socket else {
        if transfer.result > 0 {
            count(|counters| {
                counters.bytes_seen += transfer.result as u64;
                counters.bytes_lost_map_full += transfer.result as u64;
            });
        }
        return;
    };
    // SAFETY: an element of our map; sockets are used by one call at a time but for concurrent senders, whose
    // flags only ever get set.
    let socket = unsafe { &mut *socket };
    stream(transfer, socket, pid_tgid, source);
}

#[inline(always)]
fn stream(transfer: &Transfer, socket: &mut Socket, pid_tgid: u64, source: impl crate::source::Source) {
    let tls = socket.flags & socket_flag::TLS != 0;
    if tls && transfer.result < 0 {
        // Nothing moved, in whatever call.
        return;
    }
    let nested = tls::bind(pid_tgid, socket.id, || tls || ciphertext::begins(transfer, source));
    let carries = |transfer| {
        ciphertext::carries(transfer, pid_tgid, socket.id, source)
            || rustls::carries(transfer, pid_tgid, socket.id, source)
    };
    if nested || go::bind(pid_tgid, socket.id) || carries(transfer) {
        socket.flags = socket.flags & !socket_flag::HELLO | socket_flag::TLS;
        if !shed::takes_socket(socket) {
            socket::announce(transfer.sk, socket, transfer.program(), pid_tgid);
        }
    }
    if transfer.result < 0 || transfer.flags & MSG_PEEK != 0 {
        return;
    }
    let length = transfer.result as u64;
    if socket.flags & socket_flag::TLS != 0 && !refuses_tls(transfer, socket, source) {
        count(|counters| {
            counters.bytes_seen += length;
            counters.bytes_ciphertext += length;
        });
        return;
    }
    let position = advance(transfer, socket);
    if socket.flags & socket_flag::SKIP != 0 {
        count(|counters| {
            counters.bytes_seen += length;
            counters.bytes_skipped += length;
        });
        return;
    }
    if length == 0 && transfer.write {
        return;
    }
    let look = look_for_tls(transfer, socket);
    if shed::takes_socket(socket) {
        count(|counters| counters.bytes_seen += length);
        return shed::bytes(length);
    }
    socket::announce(transfer.sk, socket, transfer.program(), pid_tgid);
    let now = ship::now();
    let header = Header {
        kind: kind::DATA,
        program: transfer.program() as u8,
        flags: if transfer.write { flag::WRITE } else { 0 },
        captured: 0,
        time: now,
        pid_tgid,
        connection: socket.id,
    };
    let elapsed = if transfer.entered == 0 { 0 } else { (now - transfer.entered) as u32 };
    let mut data = Data { header, position, length: length as u32, elapsed };
    if length == 0 {
        end_of_stream(&mut data, source);
        return;
    }
    count(|counters| counters.bytes_seen += length);
    let truncated = transfer.flags & MSG_TRUNC != 0 && !transfer.write;
    let buffers = if truncated { None } else { source.buffers() };
    let Some(buffers) = buffers else {
        unseen(&mut data);
        return;
    };
    if parts(&mut data, &buffers, look) == Shipped::Ciphertext {
        socket.flags |= socket_flag::TLS;
        if ciphertext::greets(source) {
            socket.flags |= socket_flag::HELLO;
        }
        count(|counters| counters.bytes_ciphertext += length);
    }
}

/// Whether a transfer answers the other side's hello message with something else than TLS: a server that speaks none
/// says so in its own protocol. If so, its connection carries no TLS.
#[inline(always)]
fn refuses_tls(transfer: &Transfer, socket: &mut Socket, source: impl crate::source::Source) -> bool {
    let seen = if transfer.write { socket_flag::WRITE_SEEN } else { socket_flag::READ_SEEN };
    if socket.flags & socket_flag::HELLO == 0 || socket.flags & seen != 0 {
        return false;
    }
    // Of a shorter beginning nothing is known, and what follows it may be the middle of a record.
    let refuses = transfer.result >= 4 && ciphertext::is_no_record(source);
    socket.flags &= if refuses { !(socket_flag::TLS | socket_flag::HELLO) } else { !socket_flag::HELLO };
    refuses
}

/// A read of nothing ends the stream, unless nothing was asked for.
#[inline(always)]
fn end_of_stream(data: &mut Data, source: impl crate::source::Source) {
    let asked = source.buffers().is_none_or(|mut buffers| buffers.advance() && buffers.current.length > 0);
    if asked {
        data.header.flags |= flag::END;
        let _ = ship::plain(data);
    }
}

/// Bytes whose content no hook shows.
#[inline(always)]
pub fn unseen(data: &mut Data) {
    data.header.flags |= flag::UNSEEN;
    let length = u64::from(data.length);
    if ship::plain(data) == Shipped::Full {
        count(|counters| counters.bytes_lost_ring_full += length);
    } else {
        count(|counters| counters.bytes_unseen += length);
    }
}

/// Where this transfer's first byte stands in its direction, and notes that the direction has been seen.
#[inline(always)]
fn advance(transfer: &Transfer, socket: &mut Socket) -> u64 {
    let length = transfer.result as u32;
    if u16::from(socket.family) == socket::AF_UNIX {
        let counter = if transfer.write { &mut socket.write_count } else { &mut socket.read_count };
        let position = *counter;
        *counter += u64::from(length);
        return position;
    }
    let read: u32 = kernel(transfer.sk, &config::TCP_COPIED_SEQ);
    let written: u32 = kernel(transfer.sk, &config::TCP_WRITE_SEQ);
    if socket.flags & (socket_flag::READ_SEEN | socket_flag::WRITE_SEEN) == 0 {
        socket.read_base = if transfer.write { read } else { read.wrapping_sub(length) };
        socket.write_base = if transfer.write { written.wrapping_sub(length) } else { written };
    }
    if transfer.write {
        return u64::from(written.wrapping_sub(length).wrapping_sub(socket.write_base));
    }
    let mut position = read.wrapping_sub(length).wrapping_sub(socket.read_base);
    // A read that comes to the peer's FIN counts it as a byte (tcp_recvmsg_locked, found_fin_ok).
    let with_fin = position == (socket.read_count as u32).wrapping_add(1);
    if with_fin && kernel::<u8>(transfer.sk, &config::SOCK_STATE) != socket::ESTABLISHED {
        position = position.wrapping_sub(1);
    }
    socket.read_count = u64::from(position.wrapping_add(length));
    u64::from(position)
}

#[inline(always)]
fn look_for_tls(transfer: &Transfer, socket: &mut Socket) -> LookForTls {
    let seen = if transfer.write { socket_flag::WRITE_SEEN } else { socket_flag::READ_SEEN };
    let first = socket.flags & seen == 0;
    socket.flags |= seen;
    if first { LookForTls::Record } else { LookForTls::Hello }
}

/// Pieces that any kernel is given.
const FEW: u32 = 4;

/// A vector of more pieces than these is gathered.
const MANY: u64 = 3;

/// How far a transfer has been shipped.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walk {
    pub buffers: Buffers,
    /// Bytes of the transfer that no event covers yet.
    pub left: u64,
    /// Bytes that the capture limit still allows.
    pub allowed: u64,
    pub position: u64,
}

/// What became of one piece of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// There are more.
    More,
    /// It was the last.
    Last,
    /// It began like TLS, and nothing was shipped.
    Ciphertext,
}

/// Ships a transfer piece by piece: every piece of a vector, and every [`MAX_PAYLOAD`] of a long one, is an event, up to
/// [`config::PIECES`].
/// The last event tells the length of all that the capture limit cut off. Uses `event` up.
///
/// Written out instead of looped: Linux 5.10 refuses a loop that the compiler has laid out to fall through to its own
/// head. Not inlined, as all that has much on its stack: programs have 512 bytes of it.
#[inline(never)]
pub fn parts(event: &mut Data, buffers: &Buffers, look: LookForTls) -> Shipped {
    let mut walk = Walk {
        buffers: *buffers,
        left: u64::from(event.length),
        allowed: u64::from(config::MAX_CAPTURE.load()),
        position: event.position,
    };
    let most = config::PIECES.load();
    let mut look = look;
    // Older kernels, which are given few pieces, would take too long to verify this, too.
    if most > FEW && walk.buffers.left > MANY {
        match gather::gather(event, &mut walk, look) {
            Piece::More => {}
            Piece::Last => return Shipped::Yes,
            Piece::Ciphertext => return Shipped::Ciphertext,
        }
        if walk.position != event.position {
            look = LookForTls::No;
        }
    }
    macro_rules! pieces {
        ($($number:literal)*) => {
            $({
                let look = if $number == 1 { look } else { LookForTls::No };
                match piece(event, &mut walk, look, $number >= most) {
                    Piece::More => {}
                    Piece::Last => return Shipped::Yes,
                    Piece::Ciphertext => return Shipped::Ciphertext,
                }
            })*
        };
    }
    pieces! { 1 2 3 4 5 6 7 8 9 10 11 12 }
    Shipped::Yes
}

#[inline(never)]
fn piece(event: &mut Data, walk: &mut Walk, look: LookForTls, must_be_last: bool) -> Piece {
    let more = walk.buffers.advance();
    let current = walk.buffers.current;
    if more && current.length == 0 && !must_be_last {
        // Empty pieces are legal.
        return Piece::More;
    }
    let captured = if more { walk.left.min(current.length).min(walk.allowed).min(MAX_PAYLOAD as u64) } else { 0 };
    let last = captured == 0 || must_be_last || captured == walk.left;
    let covered = if last { walk.left } else { captured };
    event.position = walk.position;
    event.length = covered as u32;
    let shipped =
        if captured == 0 { ship::plain(event) } else { ship::with_payload(event, current.base, captured, look) };
    match shipped {
        Shipped::Ciphertext => return Piece::Ciphertext,
        Shipped::Full => count(|counters| counters.bytes_lost_ring_full += covered),
        Shipped::Yes if covered > captured => count(|counters| counters.bytes_truncated += covered - captured),
        Shipped::Yes => {}
    }
    if last {
        return Piece::Last;
    }
    event.header.flags |= flag::CONTINUED;
    walk.buffers.current.base += captured;
    walk.buffers.current.length -= captured;
    walk.left -= captured;
    walk.allowed -= captured;
    walk.position += captured;
    // The verifier would follow every combination of what it knows of these numbers through every piece.
    memory::forget(walk);
    Piece::More
}
