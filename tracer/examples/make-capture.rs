//! Writes a large capture to standard output, for measuring: `make-capture MEGABYTES [http|redis|dns]...`.
//!
//! Conversations of the protocols named (all, if none is) take turns, in packets of an Ethernet's size: HTTP/1 on
//! keep-alive connections with small and with large responses, pipelined Redis, and DNS over UDP. The same arguments
//! give the same file.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};

/// Payload of a full TCP packet on an Ethernet, with timestamps.
const SEGMENT: usize = 1448;
/// Nanoseconds between packets.
const INTERVAL: u64 = 10_000;
/// Connections of each protocol.
const CONNECTIONS: u16 = 64;
/// Of how many responses one is large.
const LARGE_EVERY: u32 = 8;

#[derive(Clone, Copy)]
enum Side {
    Client = 0,
    Server = 1,
}

/// A pcap file with nanoseconds (draft-ietf-opsawg-pcap).
struct Capture<W> {
    out: W,
    now: u64,
    written: u64,
}

impl<W: Write> Capture<W> {
    fn new(mut out: W) -> io::Result<Self> {
        let head = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1];
        out.write_all(&head.map(u32::to_le_bytes).concat())?;
        Ok(Self { out, now: 1_800_000_000_000_000_000, written: 24 })
    }

    fn packet(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.now += INTERVAL;
        let length = bytes.len() as u32;
        let head = [(self.now / 1_000_000_000) as u32, (self.now % 1_000_000_000) as u32, length, length];
        self.out.write_all(&head.map(u32::to_le_bytes).concat())?;
        self.out.write_all(bytes)?;
        self.written += 16 + u64::from(length);
        Ok(())
    }
}

/// One TCP connection or UDP flow.
struct Flow {
    client_port: u16,
    server_port: u16,
    sent: [u32; 2],
    requests: u32,
}

impl Flow {
    fn new(client_port: u16, server_port: u16) -> Self {
        Self { client_port, server_port, sent: [0; 2], requests: 0 }
    }

    fn packet(&self, side: Side) -> PacketBuilderStep<IpHeaders> {
        let mut ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
        if let Side::Server = side {
            ends.reverse();
        }
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(ends[0], ends[1], 64)
    }

    fn ports(&self, side: Side) -> (u16, u16) {
        match side {
            Side::Client => (self.client_port, self.server_port),
            Side::Server => (self.server_port, self.client_port),
        }
    }

    fn segment(&mut self, side: Side, syn: bool, payload: &[u8], to: &mut Capture<impl Write>) -> io::Result<()> {
        let (from, at) = self.ports(side);
        let [own, other] = [self.sent[side as usize], self.sent[1 - side as usize]];
        let mut builder = self.packet(side).tcp(from, at, own, 65_535);
        builder = if syn { builder.syn() } else { builder };
        builder = if syn && other == 0 { builder } else { builder.ack(other) };
        let mut bytes = Vec::with_capacity(payload.len() + 64);
        builder.write(&mut bytes, payload).map_err(io::Error::other)?;
        self.sent[side as usize] = own.wrapping_add(payload.len() as u32 + u32::from(syn));
        to.packet(&bytes)
    }

    fn connect(&mut self, to: &mut Capture<impl Write>) -> io::Result<()> {
        self.segment(Side::Client, true, b"", to)?;
        self.segment(Side::Server, true, b"", to)
    }

    fn say(&mut self, side: Side, bytes: &[u8], to: &mut Capture<impl Write>) -> io::Result<()> {
        bytes.chunks(SEGMENT).try_for_each(|segment| self.segment(side, false, segment, to))
    }

    fn datagram(&self, side: Side, payload: &[u8], to: &mut Capture<impl Write>) -> io::Result<()> {
        let (from, at) = self.ports(side);
        let mut bytes = Vec::with_capacity(payload.len() + 64);
        self.packet(side).udp(from, at).write(&mut bytes, payload).map_err(io::Error::other)?;
        to.packet(&bytes)
    }
}

fn http(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let number = flow.requests;
    let request = format!(
        "GET /api/v1/items/{number}?fields=name,price HTTP/1.1\r\nHost: shop.example.com\r\n\
         User-Agent: curl/7.88.1\r\nAccept: */*\r\nX-Request-Id: {number:08x}\r\n\r\n"
    );
    let body = if number.is_multiple_of(LARGE_EVERY) { 64 << 10 } else { 200 };
    let mut response =
        format!("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n")
            .into_bytes();
    response.resize(response.len() + body, b'x');
    flow.say(Side::Client, request.as_bytes(), to)?;
    flow.say(Side::Server, &response, to)
}

fn redis(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let key = format!("key:{:08}", flow.requests);
    let set = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nvalue\r\n", key.len());
    let get = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    flow.say(Side::Client, [set, get].concat().repeat(8).as_bytes(), to)?;
    flow.say(Side::Server, b"+OK\r\n$5\r\nvalue\r\n".repeat(8).as_slice(), to)
}

fn dns(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let id = (flow.requests as u16).to_be_bytes();
    let question = b"\x04shop\x07example\x03com\0\0\x01\0\x01";
    let query = [&id[..], b"\x01\0\0\x01\0\0\0\0\0\0", question].concat();
    let answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
    let response = [&id[..], b"\x81\x80\0\x01\0\x01\0\0\0\0", question, answer].concat();
    flow.datagram(Side::Client, &query, to)?;
    flow.datagram(Side::Server, &response, to)
}

fn write(megabytes: u64, wanted: &[String]) -> io::Result<()> {
    let mut capture = Capture::new(BufWriter::with_capacity(1 << 20, io::stdout().lock()))?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let ports = [("http", 80), ("redis", 6379), ("dns", 53)];
    let mut flows: Vec<Flow> = ports
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .flat_map(|(_, port)| (0..CONNECTIONS).map(|number| Flow::new(40_000 + number, *port)))
        .collect();
    for flow in flows.iter_mut().filter(|flow| flow.server_port != 53) {
        flow.connect(&mut capture)?;
    }
    while capture.written < megabytes << 20 {
        for flow in &mut flows {
            flow.requests += 1;
            match flow.server_port {
                80 => http(flow, &mut capture)?,
                6379 => redis(flow, &mut capture)?,
                _ => dns(flow, &mut capture)?,
            }
        }
    }
    capture.out.flush()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((Ok(megabytes), wanted)) = arguments.split_first().map(|(first, rest)| (first.parse(), rest)) else {
        eprintln!("usage: make-capture MEGABYTES [http|redis|dns]...");
        return ExitCode::from(2);
    };
    match write(megabytes, wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-capture: {error}");
            ExitCode::FAILURE
        }
    }
}
