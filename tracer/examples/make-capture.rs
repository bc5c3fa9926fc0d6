//! Writes a large capture to standard output, for measuring: `make-capture MEGABYTES [NAME]...`.
//!
//! Conversations of the names given (all, if none is) take turns, in packets of an Ethernet's size: HTTP/1 on
//! keep-alive connections (`http` with small and large responses, `http-small`, `http-bodies` of 1 MiB by their length,
//! `http-chunked` in chunks), unary calls of `grpc` on HTTP/2, pipelined `redis`, `mysql` and `pgsql` with simple
//! statements, and `dns` over UDP. The same arguments give the same file.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use protocols::Side;
use protocols::testing::mysql::{login, packet};

/// Payload of a full TCP packet on an Ethernet, with timestamps.
const SEGMENT: usize = 1448;
/// Nanoseconds between packets.
const INTERVAL: u64 = 10_000;
/// Connections of each protocol.
const CONNECTIONS: u16 = 64;
/// Of how many responses one is large.
const LARGE_EVERY: u32 = 8;

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

fn http_exchange(flow: &mut Flow, body: usize, to: &mut Capture<impl Write>) -> io::Result<()> {
    let number = flow.requests;
    let request = format!(
        "GET /api/v1/items/{number}?fields=name,price HTTP/1.1\r\nHost: shop.example.com\r\n\
         User-Agent: curl/7.88.1\r\nAccept: */*\r\nX-Request-Id: {number:08x}\r\n\r\n"
    );
    let mut response =
        format!("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n")
            .into_bytes();
    response.resize(response.len() + body, b'x');
    flow.say(Side::Client, request.as_bytes(), to)?;
    flow.say(Side::Server, &response, to)
}

fn http(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let body = if flow.requests.is_multiple_of(LARGE_EVERY) { 64 << 10 } else { 200 };
    http_exchange(flow, body, to)
}

fn http_small(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    http_exchange(flow, 200, to)
}

fn http_bodies(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    http_exchange(flow, 1 << 20, to)
}

/// A body whose framing stands in its bytes: 64 chunks of 16 KiB.
fn http_chunked(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let request = format!("GET /export/{} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", flow.requests);
    let mut response = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"4000\r\n", &[b'x'; 16 << 10][..], b"\r\n"].concat();
    response.extend(chunk.repeat(64));
    response.extend(b"0\r\n\r\n");
    flow.say(Side::Client, request.as_bytes(), to)?;
    flow.say(Side::Server, &response, to)
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field that enters the dynamic table (RFC 7541 section 6.2.1); `name`: place of its name in the static one.
fn indexed(name: u8, value: &str) -> Vec<u8> {
    [&[0x40 | name, value.len() as u8], value.as_bytes()].concat()
}

/// Unary calls of gRPC on one HTTP/2 connection. From the second on, their heads are places in the dynamic table.
fn grpc(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let stream = 2 * flow.requests - 1;
    let message = [&[0, 0, 0, 0, 40][..], &[7; 40]].concat();
    let (mut request, mut response) = (Vec::new(), Vec::new());
    let (head, answer, trailers) = if flow.requests == 1 {
        request.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        request.extend(frame(4, 0, 0, b""));
        response.extend(frame(4, 0, 0, b""));
        let head = [
            vec![0x83, 0x86],
            indexed(4, "/shop.Inventory/GetItem"),
            indexed(1, "shop.example.com"),
            indexed(31, "application/grpc"),
            indexed(58, "grpc-go/1.62.0"),
        ];
        let status = [&[0x40, 11][..], b"grpc-status", &[1], b"0"].concat();
        (head.concat(), [vec![0x88], indexed(31, "application/grpc")].concat(), status)
    } else {
        (vec![0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62], vec![0x88, 0x80 | 63], vec![0x80 | 62])
    };
    request.extend([frame(1, 4, stream, &head), frame(0, 1, stream, &message)].concat());
    response.extend([frame(1, 4, stream, &answer), frame(0, 0, stream, &message)].concat());
    response.extend(frame(1, 5, stream, &trailers));
    flow.say(Side::Client, &request, to)?;
    flow.say(Side::Server, &response, to)
}

fn redis(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    let key = format!("key:{:08}", flow.requests);
    let set = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nvalue\r\n", key.len());
    let get = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    flow.say(Side::Client, [set, get].concat().repeat(8).as_bytes(), to)?;
    flow.say(Side::Server, b"+OK\r\n$5\r\nvalue\r\n".repeat(8).as_slice(), to)
}

/// A statement, different each time, as SQL of the text protocol.
fn statement(number: u32) -> String {
    format!("SELECT name FROM items WHERE id = {number} AND shop = 'shop-{}'", number % 100)
}

fn mysql(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    if flow.requests == 1 {
        for (side, bytes) in login() {
            flow.say(side, &bytes, to)?;
        }
    }
    let column = b"\x03def\x04shop\x05items\x05items\x04name\x04name\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0";
    let (row, eof) = (b"\x03pen", b"\xfe\0\0\x02\0");
    let rows = [packet(1, b"\x01"), packet(2, column), packet(3, eof), packet(4, row), packet(5, row), packet(6, eof)];
    let query = format!("\x03{}", statement(flow.requests));
    flow.say(Side::Client, &packet(0, query.as_bytes()), to)?;
    flow.say(Side::Server, &rows.concat(), to)
}

/// A message of PostgreSQL.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn pgsql(flow: &mut Flow, to: &mut Capture<impl Write>) -> io::Result<()> {
    if flow.requests == 1 {
        flow.say(Side::Client, b"\0\0\0\x20\0\x03\0\0user\0ann\0database\0shop\0\0", to)?;
        flow.say(Side::Server, &[message(b'R', &[0; 4]), message(b'Z', b"I")].concat(), to)?;
    }
    let row = message(b'D', b"\0\x01\0\0\0\x03pen");
    let answer = [
        message(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        row.clone(),
        row,
        message(b'C', b"SELECT 2\0"),
        message(b'Z', b"I"),
    ];
    let query = format!("{}\0", statement(flow.requests));
    flow.say(Side::Client, &message(b'Q', query.as_bytes()), to)?;
    flow.say(Side::Server, &answer.concat(), to)
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

/// Says the next exchange of a connection.
type Talk<W> = fn(&mut Flow, &mut Capture<W>) -> io::Result<()>;

/// What can be asked for: name, port of the server, what is said.
fn conversations<W: Write>() -> [(&'static str, u16, Talk<W>); 9] {
    [
        ("http", 80, http),
        ("http-small", 8000, http_small),
        ("http-bodies", 8080, http_bodies),
        ("http-chunked", 8008, http_chunked),
        ("grpc", 50051, grpc),
        ("redis", 6379, redis),
        ("mysql", 3306, mysql),
        ("pgsql", 5432, pgsql),
        ("dns", 53, dns),
    ]
}

fn write(megabytes: u64, wanted: &[String]) -> io::Result<()> {
    let mut capture = Capture::new(BufWriter::with_capacity(1 << 20, io::stdout().lock()))?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let mut flows: Vec<(Flow, Talk<_>)> = conversations()
        .into_iter()
        .filter(|(name, _, _)| is_wanted(name))
        .flat_map(|(_, port, talk)| (0..CONNECTIONS).map(move |number| (Flow::new(40_000 + number, port), talk)))
        .collect();
    for (flow, _) in flows.iter_mut().filter(|(flow, _)| flow.server_port != 53) {
        flow.connect(&mut capture)?;
    }
    while capture.written < megabytes << 20 {
        for (flow, talk) in &mut flows {
            flow.requests += 1;
            talk(flow, &mut capture)?;
        }
    }
    capture.out.flush()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((Ok(megabytes), wanted)) = arguments.split_first().map(|(first, rest)| (first.parse(), rest)) else {
        let names = conversations::<io::Sink>().map(|(name, _, _)| name).join("|");
        eprintln!("usage: make-capture MEGABYTES [{names}]...");
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
