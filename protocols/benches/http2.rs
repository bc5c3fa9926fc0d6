//! HTTP/2 through the driver: gRPC calls in calls a second, a download in bytes a second.

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use protocols::{Connection, Context, Direction, Exchange, Layer, Limits, Segment, Span, Transport};

const CALLS: usize = 1000;
const FRAMES: usize = 4096;
const FRAME: usize = 16 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Literals that are added to the dynamic table, as a client's first call has them; from the second call on the same
/// fields are single bytes, newest first from index 62.
const FIRST_REQUEST: &[&[u8]] = &[
    b"\x83\x86",
    b"\x44\x15/shop.v1.Catalog/List",
    b"\x41\x10shop.example.com",
    b"\x5f\x10application/grpc",
    b"\x7a\x0egrpc-go/1.60.0",
];
const NEXT_REQUEST: &[u8] = b"\x83\x86\xc1\xc0\xbf\xbe";
const FIRST_RESPONSE: &[&[u8]] = &[b"\x88", b"\x5f\x10application/grpc"];
const NEXT_RESPONSE: &[u8] = b"\x88\xbf";
const FIRST_TRAILERS: &[u8] = b"\x40\x0bgrpc-status\x010";
const NEXT_TRAILERS: &[u8] = b"\xbe";

fn main() {
    divan::main();
}

fn frame(kind: u8, flags: u8, stream: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend((stream as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

struct Wire {
    connection: Connection,
    positions: [u64; 2],
    exchanges: Vec<Exchange>,
}

impl Wire {
    fn new() -> Self {
        let context = Context { transport: Transport::Tcp, midstream: false, limits: Limits::default() };
        let candidates = Arc::from([&protocols::http2::REGISTRATION]);
        let connection = Connection::new(candidates, context, Some(Direction::Read));
        let mut wire = Self { connection, positions: [0; 2], exchanges: Vec::new() };
        wire.say(Direction::Read, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.say(Direction::Read, &frame(SETTINGS, 0, 0, &[]));
        wire.say(Direction::Write, &frame(SETTINGS, 0, 0, &[]));
        wire
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        let position = &mut self.positions[direction as usize];
        let length = bytes.len() as u64;
        let segment = Segment { position: *position, bytes, length, span: Span::default() };
        *position += length;
        self.connection.data(Layer::Socket, direction, segment, &mut self.exchanges);
    }
}

/// Both sides of each call, one transfer a side.
fn calls() -> Vec<[Vec<u8>; 2]> {
    let message = [&[0, 0, 0, 0, 64][..], &[b'x'; 64]].concat();
    let call = |index: usize| {
        let stream = 2 * index + 1;
        let first = index == 0;
        let request = if first { FIRST_REQUEST.concat() } else { NEXT_REQUEST.to_vec() };
        let response = if first { FIRST_RESPONSE.concat() } else { NEXT_RESPONSE.to_vec() };
        let trailers = if first { FIRST_TRAILERS } else { NEXT_TRAILERS };
        [
            [frame(HEADERS, END_HEADERS, stream, &request), frame(DATA, END_STREAM, stream, &message)].concat(),
            [
                frame(HEADERS, END_HEADERS, stream, &response),
                frame(DATA, 0, stream, &message),
                frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers),
            ]
            .concat(),
        ]
    };
    (0..CALLS).map(call).collect()
}

#[divan::bench]
fn grpc_calls(bencher: divan::Bencher<'_, '_>) {
    let calls = calls();
    bencher.counter(ItemsCount::new(CALLS)).with_inputs(Wire::new).bench_local_values(|mut wire| {
        let mut seen = 0;
        for [request, response] in &calls {
            wire.say(Direction::Read, request);
            wire.say(Direction::Write, response);
            let complete = |exchange: &Exchange| exchange.reasons.is_empty() && exchange.protocol == "grpc";
            seen += wire.exchanges.drain(..).filter(complete).count();
        }
        assert_eq!(seen, CALLS);
    });
}

#[divan::bench]
fn download(bencher: divan::Bencher<'_, '_>) {
    let part = frame(DATA, 0, 1, &vec![b'x'; FRAME]);
    bencher.counter(BytesCount::new(FRAMES * part.len())).with_inputs(Wire::new).bench_local_values(|mut wire| {
        wire.say(Direction::Read, &frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x01h"));
        wire.say(Direction::Write, &frame(HEADERS, END_HEADERS, 1, b"\x88"));
        for _ in 0..FRAMES {
            wire.say(Direction::Write, &part);
        }
        wire.say(Direction::Write, &frame(DATA, END_STREAM, 1, b""));
        assert_eq!(wire.exchanges.len(), 1);
    });
}
