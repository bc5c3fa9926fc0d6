//! Recording what a live tracer captured, decrypted, as a capture file.
//!
//! Each captured buffer becomes one packet of a made-up conversation with the real addresses, ports and stream
//! positions, so that Wireshark shows the plaintext; its comment (see [`super::annotation`]) holds what a packet
//! can't say, so that a replay gives the same records.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use protocols::{Direction, Layer, Segment, Span, Time, Transport};

use super::annotation::{Annotation, Event};
use super::pcapng;
use crate::record::{Clock, ConnectionInfo, Endpoint, Process};

/// Captured bytes of one packet; Wireshark refuses packets of more than 256 KiB.
const MAX_CAPTURED: usize = 192 << 10;

const HOP_LIMIT: u8 = 64;
/// "No more than any window": nothing here depends on it, and 0 would show as a full window.
const WINDOW: u16 = u16::MAX;

/// What the tracer knows of a connection now. It may learn more later.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Its id, ends, role and so on.
    pub connection: &'a ConnectionInfo,
    /// The process that moves the bytes.
    pub process: Option<&'a Process>,
    /// As in [`protocols::Context`].
    pub midstream: bool,
    /// As in [`protocols::Connection::new`].
    pub client: Option<Direction>,
}

/// Writes a pcapng file.
#[derive(Debug)]
pub struct PcapngWriter<W> {
    out: W,
    clock: Clock,
    flows: HashMap<String, Flow>,
    next_number: u32,
}

/// What one direction has sent. Indexed by [`index`].
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// The next sequence number.
    next: u32,
    /// A stream position and its sequence number. A TLS session's positions begin anew on the same connection.
    base: Option<(Layer, u64, u32)>,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    number: u32,
    sent: [Sent; 2],
    /// The direction that ended first: its sender has the last word.
    ended_first: Option<Direction>,
}

/// TCP flags of a packet.
#[derive(Clone, Copy, Default)]
struct Flags {
    syn: bool,
    fin: bool,
    ack: bool,
}

const SYN: Flags = Flags { syn: true, fin: false, ack: false };
const SYN_ACK: Flags = Flags { syn: true, fin: false, ack: true };
const FIN: Flags = Flags { syn: false, fin: true, ack: true };
const ACK: Flags = Flags { syn: false, fin: false, ack: true };

/// A packet to be written.
struct Made<'a> {
    direction: Direction,
    flags: Flags,
    sequence: u32,
    acknowledgment: u32,
    bytes: &'a [u8],
    length: u64,
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Read => 0,
        Direction::Write => 1,
    }
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the head of the file. `clock` maps the times of the events to wall time.
    pub fn new(mut out: W, clock: Clock) -> io::Result<Self> {
        pcapng::write_head(&mut out)?;
        Ok(Self { out, clock, flows: HashMap::new(), next_number: 1 })
    }

    /// Follows a step of the wall clock.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// A connection begins: a handshake, unless it was joined in its middle.
    pub fn open(&mut self, description: &Description<'_>, at: Time) -> io::Result<()> {
        if self.flow(description) {
            return Ok(());
        }
        if description.midstream || description.connection.transport == Transport::Udp {
            return Ok(());
        }
        let asks = description.client.unwrap_or(Direction::Read);
        for (direction, flags, sequence, acknowledgment) in
            [(asks, SYN, 0, 0), (asks.other(), SYN_ACK, 0, 1), (asks, ACK, 1, 1)]
        {
            let made = Made { direction, flags, sequence, acknowledgment, bytes: &[], length: 0 };
            self.write(description, &made, Event::Open, at)?;
        }
        Ok(())
    }

    /// Bytes of a stream, as they are given to [`protocols::Connection::data`].
    pub fn data(
        &mut self,
        description: &Description<'_>,
        layer: Layer,
        direction: Direction,
        segment: Segment<'_>,
    ) -> io::Result<()> {
        self.flow(description);
        let mut rest = Segment { length: segment.length.max(segment.bytes.len() as u64), ..segment };
        loop {
            let last = rest.bytes.len() <= MAX_CAPTURED;
            let (bytes, behind) = rest.bytes.split_at(rest.bytes.len().min(MAX_CAPTURED));
            let length = if last { rest.length } else { bytes.len() as u64 };
            self.piece(description, layer, direction, Segment { bytes, length, ..rest })?;
            if last {
                return Ok(());
            }
            rest = Segment { position: rest.position + length, bytes: behind, length: rest.length - length, ..rest };
        }
    }

    /// A datagram, as it is given to [`protocols::Connection::datagram`].
    pub fn datagram(
        &mut self,
        description: &Description<'_>,
        direction: Direction,
        bytes: &[u8],
        length: u64,
        span: Span,
    ) -> io::Result<()> {
        self.flow(description);
        let made = Made { direction, flags: ACK, sequence: 0, acknowledgment: 0, bytes, length };
        let event = data_event(Layer::Socket, direction, Segment { position: 0, bytes, length, span });
        self.write(description, &made, event, span.end)
    }

    /// Nothing more comes in this direction.
    pub fn end(&mut self, description: &Description<'_>, direction: Direction, at: Time) -> io::Result<()> {
        self.flow(description);
        let Some(flow) = self.flows.get_mut(&description.connection.id) else { return Ok(()) };
        let acknowledgment = flow.sent[index(direction.other())].next;
        let sent = &mut flow.sent[index(direction)];
        flow.ended_first.get_or_insert(direction);
        if std::mem::replace(&mut sent.ended, true) || description.connection.transport == Transport::Udp {
            return Ok(());
        }
        let made = Made { direction, flags: FIN, sequence: sent.next, acknowledgment, bytes: &[], length: 0 };
        sent.next = sent.next.wrapping_add(1);
        self.write(description, &made, Event::End { direction }, at)
    }

    /// The connection is over.
    pub fn close(&mut self, description: &Description<'_>, at: Time) -> io::Result<()> {
        for direction in [Direction::Read, Direction::Write] {
            self.end(description, direction, at)?;
        }
        let flow = self.flows.get(&description.connection.id).copied().unwrap_or_default();
        let direction = flow.ended_first.unwrap_or(Direction::Read);
        let [sequence, acknowledgment] = [direction, direction.other()].map(|side| flow.sent[index(side)].next);
        let made = Made { direction, flags: ACK, sequence, acknowledgment, bytes: &[], length: 0 };
        if description.connection.transport != Transport::Udp {
            self.write(description, &made, Event::Close, at)?;
        }
        self.flows.remove(&description.connection.id);
        Ok(())
    }

    /// Hands everything to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Whether the connection is known; it is from now on.
    fn flow(&mut self, description: &Description<'_>) -> bool {
        let id = &description.connection.id;
        if self.flows.contains_key(id) {
            return true;
        }
        let begun = Sent { next: 1, ..Sent::default() };
        self.flows.insert(id.clone(), Flow { number: self.next_number, sent: [begun; 2], ended_first: None });
        self.next_number = self.next_number.wrapping_add(1);
        false
    }

    fn piece(
        &mut self,
        description: &Description<'_>,
        layer: Layer,
        direction: Direction,
        segment: Segment<'_>,
    ) -> io::Result<()> {
        let Some(flow) = self.flows.get_mut(&description.connection.id) else { return Ok(()) };
        let acknowledgment = flow.sent[index(direction.other())].next;
        let sent = &mut flow.sent[index(direction)];
        let sequence = sent.sequence(layer, segment.position);
        let next = sequence.wrapping_add(segment.length as u32);
        if next.wrapping_sub(sent.next) as i32 > 0 {
            sent.next = next;
        }
        let made =
            Made { direction, flags: ACK, sequence, acknowledgment, bytes: segment.bytes, length: segment.length };
        self.write(description, &made, data_event(layer, direction, segment), segment.span.end)
    }

    fn write(&mut self, description: &Description<'_>, made: &Made<'_>, event: Event, at: Time) -> io::Result<()> {
        let number = self.flows.get(&description.connection.id).map_or(0, |flow| flow.number);
        let [remote, local] = ends(description.connection, number);
        let (source, destination) = match made.direction {
            Direction::Read => (remote, local),
            Direction::Write => (local, remote),
        };
        let transport = match description.connection.transport {
            Transport::Udp => udp_header(source.port(), destination.port(), made.length),
            Transport::Tcp | Transport::Unix | Transport::Sctp => tcp_header(source.port(), destination.port(), made),
        };
        let inner = made.length.saturating_add(transport.len() as u64);
        let protocol = if description.connection.transport == Transport::Udp { IpNumber::UDP } else { IpNumber::TCP };
        let mut packet = ip_header(source.ip(), destination.ip(), protocol, inner)?;
        let length = inner.saturating_add(packet.len() as u64);
        packet.extend_from_slice(&transport);
        packet.extend_from_slice(made.bytes);
        let annotation = Annotation {
            event,
            info: description.connection.clone(),
            process: description.process.cloned(),
            midstream: description.midstream,
            client: description.client,
        };
        pcapng::write_packet(&mut self.out, self.clock.wall(at).0, &packet, length, &annotation.write())
    }
}

impl Sent {
    fn sequence(&mut self, layer: Layer, position: u64) -> u32 {
        let (_, start, sequence) = match self.base {
            Some(base) if base.0 == layer => base,
            _ => *self.base.insert((layer, position, self.next)),
        };
        sequence.wrapping_add(position.wrapping_sub(start) as u32)
    }
}

fn data_event(layer: Layer, direction: Direction, segment: Segment<'_>) -> Event {
    let Segment { position, length, span, .. } = segment;
    Event::Data { direction, layer, position, length, duration_ns: span.end.0.saturating_sub(span.start.0) }
}

/// The remote and the local end. Where they are not known for sure, and for unix sockets, addresses of the prefix for
/// documentation (RFC 3849) that are unique in the file stand for them.
fn ends(connection: &ConnectionInfo, number: u32) -> [SocketAddr; 2] {
    let inet = |endpoint: Option<&Endpoint>| match endpoint {
        Some(Endpoint::Inet(address)) => Some(*address),
        Some(Endpoint::Unix(_)) | None => None,
    };
    match (inet(connection.known_remote()), inet(connection.known_local())) {
        (Some(remote), Some(local)) if remote.is_ipv4() == local.is_ipv4() => [remote, local],
        (Some(remote), Some(local)) => [remote, local].map(|end| SocketAddr::new(mapped(end.ip()), end.port())),
        _ => [2, 1].map(|side| {
            let [high, low] = [(number >> 16) as u16, number as u16];
            SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, side, high, low).into(), side)
        }),
    }
}

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// The checksum stays 0: a part of the payload may be missing.
fn tcp_header(source: u16, destination: u16, made: &Made<'_>) -> Vec<u8> {
    let mut header = TcpHeader::new(source, destination, made.sequence, WINDOW);
    header.acknowledgment_number = made.acknowledgment;
    header.ack = made.flags.ack;
    header.syn = made.flags.syn;
    header.fin = made.flags.fin;
    header.psh = made.length > 0;
    header.to_bytes().to_vec()
}

/// The checksum 0 says that there is none.
fn udp_header(source_port: u16, destination_port: u16, length: u64) -> Vec<u8> {
    let length = u16::try_from(length + UdpHeader::LEN as u64).unwrap_or_default();
    UdpHeader { source_port, destination_port, length, checksum: 0 }.to_bytes().to_vec()
}

/// A header in front of `inner` bytes. Lengths that it can't express are 0, as in captures of hosts that leave
/// segmentation to the network card: the length of the packet then counts.
fn ip_header(source: IpAddr, destination: IpAddr, protocol: IpNumber, inner: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header::new(0, HOP_LIMIT, protocol, source.octets(), destination.octets())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            header.total_len = u16::try_from(inner + Ipv4Header::MIN_LEN as u64).unwrap_or_default();
            header.header_checksum = header.calc_header_checksum();
            header.write_raw(&mut out)?;
        }
        (source, destination) => {
            let octets = |address| match mapped(address) {
                IpAddr::V6(address) => address.octets(),
                IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED.octets(),
            };
            let header = Ipv6Header {
                payload_length: u16::try_from(inner).unwrap_or_default(),
                next_header: protocol,
                hop_limit: HOP_LIMIT,
                source: octets(source),
                destination: octets(destination),
                ..Ipv6Header::default()
            };
            header.write(&mut out)?;
        }
    }
    Ok(out)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
