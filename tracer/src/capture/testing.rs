//! Captures made by hand, and what a replay makes of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use etherparse::PacketBuilder;
use protocols::{Exchange, Inference, Limits, Part, Payload, Reason, Registration, Sender, Summary};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Input, Options, Replayed, replay};
use crate::record::{Origin, Record, Redaction};

pub const CLIENT: &str = "10.0.0.1:40000";
pub const SERVER: &str = "10.0.0.2:80";

/// One packet: link type, time, captured bytes, length on the wire.
#[derive(Clone, Debug)]
pub struct Captured {
    pub link_type: u16,
    pub time: u64,
    pub bytes: Vec<u8>,
    pub length: u32,
}

/// Writes a packet as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub big_endian: bool,
    pub nanoseconds: bool,
    pub pcapng: bool,
}

impl Format {
    pub const PLAIN: Self = Self { big_endian: false, nanoseconds: true, pcapng: false };

    /// Both formats, both byte orders, both resolutions.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self { big_endian: bits & 1 > 0, nanoseconds: bits & 2 > 0, pcapng: bits & 4 > 0 })
    }

    fn u16(self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// A file of these packets, which all have one link type.
    pub fn file(self, packets: &[Captured]) -> Vec<u8> {
        let link_type = packets.first().map_or(1, |packet| packet.link_type);
        let mut out = if self.pcapng { self.section(&[link_type]) } else { self.pcap_head(link_type) };
        packets.iter().for_each(|packet| self.packet(packet, 0, &mut out));
        out
    }

    pub fn pcap_head(self, link_type: u16) -> Vec<u8> {
        let magic = if self.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut out = self.u32(magic).to_vec();
        out.extend([self.u16(2), self.u16(4)].concat());
        out.extend([0, 0, 262_144, u32::from(link_type)].map(|value| self.u32(value)).concat());
        out
    }

    /// The head of a section with one interface of each link type.
    pub fn section(self, link_types: &[u16]) -> Vec<u8> {
        let head = [&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat();
        let mut out = self.block(0x0a0d_0d0a, &head);
        for &link_type in link_types {
            let resolution = if self.nanoseconds { 9 } else { 6 };
            let option = [&self.u16(9)[..], &self.u16(1), &[resolution, 0, 0, 0], &[0; 4]].concat();
            let body = [&self.u16(link_type)[..], &[0; 2], &self.u32(0), &option].concat();
            out.extend(self.block(1, &body));
        }
        out
    }

    pub fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = self.u32(body.len() as u32 + 12);
        [&self.u32(kind)[..], &length, body, &length].concat()
    }

    pub fn packet(self, packet: &Captured, interface: u32, out: &mut Vec<u8>) {
        let units = if self.nanoseconds { packet.time } else { packet.time / 1000 };
        let [captured, length] = [packet.bytes.len() as u32, packet.length].map(|value| self.u32(value));
        if self.pcapng {
            let mut body = self.u32(interface).to_vec();
            body.extend([(units >> 32) as u32, units as u32].map(|value| self.u32(value)).concat());
            body.extend([captured, length].concat());
            body.extend(&packet.bytes);
            body.resize(body.len().next_multiple_of(4), 0);
            out.extend(self.block(6, &body));
        } else {
            let second = if self.nanoseconds { 1_000_000_000 } else { 1_000_000 };
            out.extend([units / second, units % second].map(|value| self.u32(value as u32)).concat());
            out.extend([captured, length].concat());
            out.extend(&packet.bytes);
        }
    }
}

/// A raw IPv4 packet, whole.
pub fn captured(time: u64, bytes: Vec<u8>) -> Captured {
    let length = bytes.len() as u32;
    Captured { link_type: 101, time, bytes, length }
}

/// A TCP packet by its header's fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    pub ack: Option<u32>,
    pub urgent: Option<u16>,
}

pub fn tcp(source: &str, destination: &str, sequence: u32, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut builder = ip(source, destination).tcp(source.port(), destination.port(), sequence, 65_535);
    builder = if flags.syn { builder.syn() } else { builder };
    builder = if flags.fin { builder.fin() } else { builder };
    builder = if flags.rst { builder.rst() } else { builder };
    builder = if let Some(number) = flags.ack { builder.ack(number) } else { builder };
    builder = if let Some(pointer) = flags.urgent { builder.urg(pointer) } else { builder };
    let mut out = Vec::new();
    builder.write(&mut out, payload).unwrap();
    out
}

pub fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut out = Vec::new();
    ip(source, destination).udp(source.port(), destination.port()).write(&mut out, payload).unwrap();
    out
}

/// An SCTP packet of these chunks. The checksum is left out.
pub fn sctp(source: &str, destination: &str, tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let [ports, tag] = [u32::from(source.port()) << 16 | u32::from(destination.port()), tag].map(u32::to_be_bytes);
    let mut out = Vec::new();
    let packet = [&ports[..], &tag, &[0; 4], &chunks.concat()].concat();
    ip(source, destination).write(&mut out, etherparse::ip_number::SCTP, &packet).unwrap();
    out
}

/// A chunk of SCTP, padded.
pub fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = (body.len() as u16 + 4).to_be_bytes();
    let mut out = [&[kind, flags, high, low], body].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn ip(source: SocketAddr, destination: SocketAddr) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 64)
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.ip().octets(), destination.ip().octets(), 64)
        }
        _ => panic!("both ends are of one family"),
    }
}

/// A TCP conversation between [`CLIENT`] and [`SERVER`]: packets 1 ms apart. Positions count from 0 behind the SYN.
pub struct Talk {
    pub packets: Vec<Captured>,
    pub now: u64,
    pub initial: [u32; 2],
    /// What each side has received, for its acknowledgments.
    pub received: [u64; 2],
    pub ends: [String; 2],
}

/// Sides of a [`Talk`].
pub const C: usize = 0;
pub const S: usize = 1;

impl Talk {
    /// Nothing sent yet; both sides' initial sequence numbers.
    pub fn silent(initial: [u32; 2]) -> Self {
        let ends = [CLIENT.to_owned(), SERVER.to_owned()];
        Self { packets: Vec::new(), now: 1_000_000_000, initial, received: [0; 2], ends }
    }

    /// After the handshake.
    pub fn open(initial: [u32; 2]) -> Self {
        let mut talk = Self::silent(initial);
        talk.handshake();
        talk
    }

    pub fn handshake(&mut self) {
        let [client, server] = self.initial;
        self.packet(C, client, Flags { syn: true, ..Flags::default() }, b"");
        self.packet(S, server, Flags { syn: true, ack: Some(client.wrapping_add(1)), ..Flags::default() }, b"");
        self.packet(C, client.wrapping_add(1), Flags { ack: Some(server.wrapping_add(1)), ..Flags::default() }, b"");
    }

    pub fn packet(&mut self, side: usize, sequence: u32, flags: Flags, payload: &[u8]) {
        self.now += 1_000_000;
        let bytes = tcp(&self.ends[side], &self.ends[1 - side], sequence, flags, payload);
        self.packets.push(captured(self.now, bytes));
    }

    pub fn sequence(&self, side: usize, position: u64) -> u32 {
        self.initial[side].wrapping_add(1).wrapping_add(position as u32)
    }

    fn acknowledgment(&self, side: usize) -> Flags {
        Flags { ack: Some(self.sequence(1 - side, self.received[side])), ..Flags::default() }
    }

    /// Sends bytes at a position, acknowledging what the side has received.
    pub fn at(&mut self, side: usize, position: u64, payload: &[u8]) {
        let flags = self.acknowledgment(side);
        self.packet(side, self.sequence(side, position), flags, payload);
        let received = &mut self.received[1 - side];
        *received = (*received).max(position + payload.len() as u64);
    }

    /// Sends bytes behind everything that was sent before.
    pub fn say(&mut self, side: usize, payload: &[u8]) {
        self.at(side, self.received[1 - side], payload);
    }

    /// Bytes pass without being captured.
    pub fn lose(&mut self, side: usize, length: u64) {
        self.received[1 - side] += length;
    }

    /// A packet without payload.
    pub fn ack(&mut self, side: usize) {
        self.packet(side, self.sequence(side, self.received[1 - side]), self.acknowledgment(side), b"");
    }

    pub fn fin(&mut self, side: usize) {
        let flags = Flags { fin: true, ..self.acknowledgment(side) };
        self.packet(side, self.sequence(side, self.received[1 - side]), flags, b"");
    }

    pub fn rst(&mut self, side: usize) {
        let flags = Flags { rst: true, ..Flags::default() };
        self.packet(side, self.sequence(side, self.received[1 - side]), flags, b"");
    }

    pub fn run(&self) -> Outcome {
        run(Format::PLAIN.file(&self.packets))
    }
}

/// What a replay came to.
#[derive(Debug)]
pub struct Outcome {
    pub records: Vec<Value>,
    pub replayed: Replayed,
}

impl Outcome {
    /// Each record as "connection: request -> response [reasons]".
    pub fn lines(&self) -> Vec<String> {
        self.records.iter().map(|record| record["line"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn options() -> Options {
    Options { candidates: Arc::from([&LINES]), limits: Limits::default(), max_connections: 1000, max_held: 1 << 24 }
}

pub fn run(file: Vec<u8>) -> Outcome {
    run_with(&options(), vec![file])
}

pub fn run_with(options: &Options, files: Vec<Vec<u8>>) -> Outcome {
    let mut records = Vec::new();
    let inputs = files.into_iter().map(|file| Input::Reader("test".into(), Box::new(io::Cursor::new(file))));
    let replayed = replay(options, inputs, |exchange, origin| {
        records.push(render(exchange, origin));
        Ok::<(), ()>(())
    })
    .unwrap();
    assert!(replayed.ledger.balances(), "{:#?}", replayed.ledger);
    Outcome { records, replayed }
}

pub fn render(mut exchange: Exchange, origin: Origin<'_>) -> Value {
    let reasons: Vec<_> = exchange.reasons.iter().map(Reason::name).collect();
    let record = Record::new(&mut exchange, origin, Redaction::On);
    let connection = record.connection();
    let text = |part: &Option<Part>, summary: Summary<'_>| match part {
        Some(_) => summary.operation.or(summary.status).unwrap_or_default().into_owned(),
        None => "-".into(),
    };
    let request = text(&record.exchange().request, record.request_summary());
    let response = text(&record.exchange().response, record.response_summary());
    let mut line = format!("{}: {request} -> {response}", connection.id);
    if !reasons.is_empty() {
        line += &format!(" [{}]", reasons.join(" "));
    }
    json!({
        "line": line,
        "role": connection.role,
        "local": connection.known_local().map(|end| format!("{end:?}")),
        "remote": connection.known_remote().map(|end| format!("{end:?}")),
        "proxied": connection.proxied.as_ref().map(|ends| format!("{ends:?}")),
        "tls": connection.tls,
        "tuple_source": connection.tuple_source,
        "process": record.process(),
        "timestamp": record.timestamp().map(|time| time.0),
        "timing": record.timing(),
        "latency_ns": record.latency_ns(),
        "missing_bytes": record.exchange().missing_bytes,
    })
}

/// A protocol of lines for tests: a client's line begins with `?`, a server's with `!`, and they pair in order. After
/// a gap, parsing goes on behind the next end of a line.
pub static LINES: Registration = Registration {
    names: &["lines"],
    carries: |_| true,
    answers_nonsense: true,
    infer: |head, _| match head.first() {
        Some(b'?') => Inference::Sure(Sender::Client),
        Some(b'!') => Inference::Sure(Sender::Server),
        _ => Inference::No,
    },
    parser: |context| Box::new(lines::Lines::new(context)),
    schema: |generator| [generator.subschema_for::<String>(), generator.subschema_for::<String>()],
};

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    text: String,
}

impl Payload for Line {
    fn summary(&self) -> Summary<'_> {
        Summary { operation: Some(self.text.as_str().into()), ..Summary::default() }
    }
}

mod lines {
    use protocols::reassembly::Cause;
    use protocols::{
        Boundary, Context, Exchange, Fifo, Input, Output, Parser, Part, Reason, Reasons, Side, Skipped, Step, Time,
    };

    use super::Line;

    #[derive(Debug)]
    pub struct Lines {
        waiting: Fifo<(Part, u64)>,
        /// After a gap nothing is paired before the client begins anew.
        unsure: bool,
        timeout_ns: u64,
    }

    impl Lines {
        pub fn new(context: Context) -> Self {
            Self { waiting: Fifo::new(16), unsure: context.midstream, timeout_ns: context.limits.datagram_timeout_ns }
        }

        fn give_up(&mut self, reason: Reason, out: &mut Output<'_>) {
            for (request, sequence) in self.waiting.drain() {
                out.emit(exchange(Some(request), None, Some(sequence), reason.into()));
            }
        }
    }

    fn exchange(request: Option<Part>, response: Option<Part>, sequence: Option<u64>, reasons: Reasons) -> Exchange {
        Exchange { protocol: "lines", sequence, request, response, reasons, missing_bytes: 0 }
    }

    impl Parser for Lines {
        fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
            let Some(end) = input.bytes.iter().position(|&byte| byte == b'\n') else {
                if input.uncaptured > 0 {
                    self.give_up(Reason::Truncated, out);
                    return Step::Consumed(input.bytes.len());
                }
                return Step::Need(input.bytes.len() + 1);
            };
            let text = String::from_utf8_lossy(&input.bytes[..end]).into_owned();
            let part = Part::new(end as u64 + 1, input.span(0), input.span(end), Line { text });
            match side {
                Side::Client => {
                    let sequence = out.next_sequence();
                    self.unsure = false;
                    let _ = self.waiting.push((part, sequence));
                }
                Side::Server => match self.waiting.pop().filter(|_| !self.unsure) {
                    Some((request, sequence)) => {
                        out.emit(exchange(Some(request), Some(part), Some(sequence), Reasons::NONE));
                    }
                    None => out.emit(exchange(None, Some(part), None, Reason::Unsolicited.into())),
                },
            }
            Step::Consumed(end + 1)
        }

        fn skipped(&mut self, _: Side, _: Skipped, _: &mut Output<'_>) {}

        fn gap(&mut self, _: Side, _: u64, cause: Cause, out: &mut Output<'_>) {
            let reason = if cause == Cause::Lost { Reason::Gap } else { Reason::Truncated };
            self.give_up(reason, out);
            self.unsure = true;
        }

        fn resync(&mut self, _: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
            if transfer_start && matches!(bytes.first(), Some(b'?' | b'!')) {
                return Boundary::At(0);
            }
            match bytes.iter().position(|&byte| byte == b'\n') {
                Some(end) => Boundary::At(end + 1),
                None => Boundary::None { discard: bytes.len() },
            }
        }

        fn end(&mut self, _: Side, _: &[u8], _: Time, _: &mut Output<'_>) {}

        fn close(&mut self, _: Time, out: &mut Output<'_>) {
            self.give_up(Reason::NoResponse, out);
        }

        fn tick(&mut self, now: Time, out: &mut Output<'_>) {
            let old = |part: &Part| part.start.is_some_and(|start| now.0.saturating_sub(start.0) > self.timeout_ns);
            if self.waiting.front().is_some_and(|(request, _)| old(request)) {
                self.give_up(Reason::NoResponse, out);
            }
        }
    }
}
