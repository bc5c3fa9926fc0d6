//! HTTP/1 through the driver: small exchanges in exchanges a second, bodies in bytes a second.

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use protocols::{Connection, Context, Direction, Exchange, Layer, Limits, Segment, Span, Transport};

const EXCHANGES: usize = 1000;
const BODY: usize = 64 << 20;

const REQUEST: &[u8] = b"GET /api/v1/items/42?fields=name,price HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: curl/7.88.1\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 7f3c9d\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Fri, 20 Nov 2026 10:12:01 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 15\r\nConnection: keep-alive\r\n\r\n{\"name\":\"item\"}";

fn main() {
    divan::main();
}

struct Wire {
    connection: Connection,
    positions: [u64; 2],
    exchanges: Vec<Exchange>,
}

impl Wire {
    fn new() -> Self {
        let context = Context { transport: Transport::Tcp, midstream: false, limits: Limits::default() };
        let candidates = Arc::from([&protocols::http::REGISTRATION]);
        Self {
            connection: Connection::new(candidates, context, Some(Direction::Read)),
            positions: [0; 2],
            exchanges: Vec::new(),
        }
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        let position = &mut self.positions[direction as usize];
        let length = bytes.len() as u64;
        let segment = Segment { position: *position, bytes, length, span: Span::default() };
        *position += length;
        self.connection.data(Layer::Socket, direction, segment, &mut self.exchanges);
    }
}

#[divan::bench]
fn small_exchanges(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(EXCHANGES)).with_inputs(Wire::new).bench_local_values(|mut wire| {
        let mut seen = 0;
        for _ in 0..EXCHANGES {
            wire.say(Direction::Read, REQUEST);
            wire.say(Direction::Write, RESPONSE);
            seen += wire.exchanges.drain(..).filter(|exchange| exchange.reasons.is_empty()).count();
        }
        assert_eq!(seen, EXCHANGES);
    });
}

#[divan::bench]
fn printed_small_exchanges(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(EXCHANGES)).with_inputs(Wire::new).bench_local_values(|mut wire| {
        let mut json = Vec::new();
        for _ in 0..EXCHANGES {
            wire.say(Direction::Read, REQUEST);
            wire.say(Direction::Write, RESPONSE);
            for mut part in
                wire.exchanges.drain(..).flat_map(|exchange| [exchange.request, exchange.response]).flatten()
            {
                json.clear();
                part.payload.redact();
                part.payload.print(&mut json).expect("payloads serialise");
                assert!(!json.is_empty());
            }
        }
    });
}

#[divan::bench(args = [1448, 16 << 10])]
fn body(bencher: divan::Bencher<'_, '_>, transfer: usize) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    let bytes = vec![b'a'; transfer];
    bencher.counter(BytesCount::new(BODY)).with_inputs(Wire::new).bench_local_values(|mut wire| {
        wire.say(Direction::Read, REQUEST);
        wire.say(Direction::Write, head.as_bytes());
        for _ in 0..BODY / transfer {
            wire.say(Direction::Write, &bytes);
        }
        wire.say(Direction::Write, &bytes[..BODY % transfer]);
        assert_eq!(wire.exchanges.len(), 1);
    });
}

#[divan::bench(args = [1 << 10, 16 << 10])]
fn chunked_body(bencher: divan::Bencher<'_, '_>, chunk: usize) {
    let wire_chunk = [format!("{chunk:x}\r\n").as_bytes(), &vec![b'a'; chunk], b"\r\n"].concat();
    let transfer = wire_chunk.repeat((64 << 10) / chunk);
    bencher.counter(BytesCount::new(BODY)).with_inputs(Wire::new).bench_local_values(|mut wire| {
        wire.say(Direction::Read, REQUEST);
        wire.say(Direction::Write, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..BODY / (64 << 10) {
            wire.say(Direction::Write, &transfer);
        }
        wire.say(Direction::Write, b"0\r\n\r\n");
        assert_eq!(wire.exchanges.len(), 1);
    });
}
