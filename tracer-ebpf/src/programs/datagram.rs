//! Datagrams: each is a message of its own, with addresses of its own.

use tracer_ebpf::{Datagram, Header, MAX_PAYLOAD, Tuple, flag, kind};

use crate::buffers::{Buffers, IoVec};
use crate::counters::count;
use crate::entries::Entries;
use crate::maps::PENDING;
use crate::memory::user;
use crate::shed;
use crate::ship::{self, LookForTls, Shipped};
use crate::socket;
use crate::source::{Peer, Source};
use crate::transfer::{MSG_PEEK, Transfer};

/// Value of the pending map: a received datagram whose sender's address the kernel has not yet handed to the process.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Pending {
    pub datagram: Datagram,
    pub buffers: Buffers,
    /// The system call is `recvmmsg`, and `buffers` is of its first message.
    pub many: u64,
}

static EMPTY: Pending = Pending {
    datagram: Datagram {
        header: Header { kind: 0, program: 0, flags: 0, captured: 0, time: 0, pid_tgid: 0, connection: 0 },
        tuple: Tuple {
            local: [0; 16],
            remote: [0; 16],
            local_port: 0,
            remote_port: 0,
            family: 0,
            protocol: socket::IPPROTO_UDP,
        },
        length: 0,
        padding: 0,
    },
    buffers: Buffers { current: IoVec { base: 0, length: 0 }, next: 0, left: 0, name: 0, skip: 0, described: 0 },
    many: 0,
};

/// A datagram has been sent or received. Everything is put together in the pending map: the stack of a chain of calls
/// has room for 512 bytes.
#[inline(never)]
pub fn ended(transfer: &Transfer, pid_tgid: u64, source: impl Source) {
    if transfer.result <= 0 || transfer.flags & MSG_PEEK != 0 {
        source.failed();
        return;
    }
    let length = transfer.result as u64;
    count(|counters| counters.bytes_seen += length);
    let Some(pending) = PENDING.place(&pid_tgid, &EMPTY) else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    // SAFETY: an element that only this thread uses.
    let pending = unsafe { &mut *pending };
    let header = &mut pending.datagram.header;
    header.kind = kind::DATAGRAM;
    header.program = transfer.program() as u8;
    header.flags = if transfer.write { flag::WRITE } else { 0 };
    header.time = ship::now();
    header.pid_tgid = pid_tgid;
    pending.datagram.length = length as u32;
    socket::read_tuple(transfer.sk, socket::IPPROTO_UDP, &mut pending.datagram.tuple);
    if !finish(pending, source) {
        PENDING.take(&pid_tgid);
    }
}

/// Ships a datagram, unless its sender's address has to be awaited. Whether it has.
#[inline(always)]
fn finish(pending: &mut Pending, source: impl Source) -> bool {
    let Some(buffers) = source.buffers() else {
        unseen(&mut pending.datagram);
        return false;
    };
    pending.buffers = buffers;
    if pending.datagram.tuple.remote_port == 0 {
        match source.peer(&pending.buffers) {
            Peer::Known(peer) => set_peer(&mut pending.datagram.tuple, &peer),
            Peer::Later { many } => {
                pending.many = many;
                return true;
            }
            Peer::Unknown => pending.datagram.header.flags |= flag::NO_PEER,
        }
    }
    send(&pending.datagram, &mut pending.buffers);
    false
}

#[inline(always)]
fn unseen(datagram: &mut Datagram) {
    datagram.header.flags |= flag::UNSEEN;
    let length = u64::from(datagram.length);
    if ship::plain(datagram) == Shipped::Full {
        count(|counters| counters.bytes_lost_ring_full += length);
    } else {
        count(|counters| counters.bytes_unseen += length);
    }
}

/// Ships a datagram: its first piece, which for all but exotic programs is all of it.
#[inline(never)]
pub fn send(datagram: &Datagram, buffers: &mut Buffers) {
    let length = u64::from(datagram.length);
    if shed::takes_flow(&datagram.tuple) {
        return shed::bytes(length);
    }
    let more = buffers.advance();
    let captured = if more { length.min(buffers.current.length).min(MAX_PAYLOAD as u64) } else { 0 };
    let shipped = if captured == 0 {
        ship::plain(datagram)
    } else {
        ship::with_payload(datagram, buffers.current.base, captured, LookForTls::No)
    };
    if shipped == Shipped::Full {
        count(|counters| counters.bytes_lost_ring_full += length);
    } else {
        count(|counters| counters.bytes_truncated += length - captured);
    }
}

/// A `struct sockaddr_in` or `sockaddr_in6`, as far as it is needed.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SocketAddress {
    pub family: u16,
    /// In network order.
    pub port: u16,
    /// IPv4 address, or IPv6 flow information.
    pub v4: [u8; 4],
    pub v6: [u8; 16],
}

/// An address in the process's memory.
#[inline(always)]
pub fn user_address(address: u64) -> Option<SocketAddress> {
    if address == 0 {
        return None;
    }
    let head: [u8; 8] = user(address)?;
    let mut peer = SocketAddress {
        family: u16::from_ne_bytes([head[0], head[1]]),
        port: u16::from_ne_bytes([head[2], head[3]]),
        v4: [head[4], head[5], head[6], head[7]],
        v6: [0; 16],
    };
    if peer.family == socket::AF_INET6 {
        peer.v6 = user(address + 8)?;
    }
    Some(peer)
}

#[inline(always)]
pub fn set_peer(tuple: &mut Tuple, peer: &SocketAddress) {
    tuple.remote_port = u16::from_be(peer.port);
    if peer.family == socket::AF_INET6 {
        tuple.remote = peer.v6;
    } else {
        tuple.remote[..4].copy_from_slice(&peer.v4);
    }
}
