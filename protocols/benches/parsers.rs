//! Every protocol but HTTP through the driver: small exchanges, in exchanges and in bytes a second.

use divan::counter::{BytesCount, ItemsCount};
use protocols::Direction::{Read as C, Write as S};
use protocols::testing::mysql::{self, packet};
use protocols::{Connection, Context, Direction, Exchange, Layer, Limits, Segment, Side, Span, Transport, registry};

/// Exchanges of one run.
const ROUNDS: usize = 1000;

type Said = (Direction, Vec<u8>);

fn main() {
    divan::main();
}

struct Wire {
    connection: Connection,
    positions: [u64; 2],
    exchanges: Vec<Exchange>,
}

impl Wire {
    fn new(protocol: &str, transport: Transport) -> Self {
        let registration = registry::ALL.iter().find(|it| it.names == [protocol]).expect("a protocol");
        let context = Context { transport, midstream: false, limits: Limits::default() };
        Self {
            connection: Connection::new([registration].into(), context, Some(C)),
            positions: [0; 2],
            exchanges: Vec::new(),
        }
    }

    fn say(&mut self, direction: Direction, bytes: &[u8], transport: Transport) {
        let length = bytes.len() as u64;
        if transport == Transport::Udp {
            return self.connection.datagram(direction, bytes, length, Span::default(), &mut self.exchanges);
        }
        let position = &mut self.positions[direction as usize];
        let segment = Segment { position: *position, bytes, length, span: Span::default() };
        *position += length;
        self.connection.data(Layer::Socket, direction, segment, &mut self.exchanges);
    }
}

/// Measures `round`, which makes `exchanges` of them, on a connection that began with `opening`.
fn measure(
    bencher: divan::Bencher<'_, '_>,
    (protocol, transport): (&str, Transport),
    opening: &[Said],
    round: &[Said],
    exchanges: usize,
) {
    let bytes: usize = round.iter().map(|(_, bytes)| bytes.len()).sum();
    let begin = || {
        let mut wire = Wire::new(protocol, transport);
        opening.iter().for_each(|(direction, bytes)| wire.say(*direction, bytes, transport));
        wire.exchanges.clear();
        wire
    };
    let counted = bencher.counter(ItemsCount::new(ROUNDS * exchanges)).counter(BytesCount::new(ROUNDS * bytes));
    counted.with_inputs(begin).bench_local_values(|mut wire| {
        let mut seen = 0;
        for _ in 0..ROUNDS {
            round.iter().for_each(|(direction, bytes)| wire.say(*direction, bytes, transport));
            seen += wire.exchanges.drain(..).filter(|exchange| exchange.reasons.is_empty()).count();
        }
        assert_eq!(seen, ROUNDS * exchanges);
    });
}

#[divan::bench]
fn redis(bencher: divan::Bencher<'_, '_>) {
    let round = vec![(C, b"*2\r\n$3\r\nGET\r\n$8\r\nkey:0042\r\n".to_vec()), (S, b"$5\r\nvalue\r\n".to_vec())];
    measure(bencher, ("redis", Transport::Tcp), &[], &round, 1);
}

#[divan::bench]
fn redis_pipelined(bencher: divan::Bencher<'_, '_>) {
    let round = vec![(C, b"*2\r\n$3\r\nGET\r\n$8\r\nkey:0042\r\n".repeat(16)), (S, b"$5\r\nvalue\r\n".repeat(16))];
    measure(bencher, ("redis", Transport::Tcp), &[], &round, 16);
}

#[divan::bench]
fn dns(bencher: divan::Bencher<'_, '_>) {
    let question = b"\x04shop\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
    let response = [&b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0"[..], question, answer].concat();
    let round = vec![(C, query), (S, response)];
    measure(bencher, ("dns", Transport::Udp), &[], &round, 1);
}

fn mysql_opening() -> Vec<Said> {
    let direction = |side| if side == Side::Client { C } else { S };
    mysql::login().into_iter().map(|(side, bytes)| (direction(side), bytes)).collect()
}

#[divan::bench]
fn mysql(bencher: divan::Bencher<'_, '_>) {
    let column = b"\x03def\x04shop\x05items\x05items\x04name\x04name\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0";
    let eof = b"\xfe\0\0\x02\0";
    let rows = [&packet(1, b"\x01")[..], &packet(2, column), &packet(3, eof), &packet(4, b"\x03pen"), &packet(5, eof)];
    let query = packet(0, b"\x03SELECT name FROM items WHERE id = 42 AND shop = 'east'");
    let round = vec![(C, query), (S, rows.concat())];
    measure(bencher, ("mysql", Transport::Tcp), &mysql_opening(), &round, 1);
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

#[divan::bench]
fn pgsql(bencher: divan::Bencher<'_, '_>) {
    let startup = b"\0\0\0\x20\0\x03\0\0user\0ann\0database\0shop\0\0".to_vec();
    let opening = vec![(C, startup), (S, [message(b'R', &[0; 4]), message(b'Z', b"I")].concat())];
    let answer = [
        message(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        message(b'D', b"\0\x01\0\0\0\x03pen"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ];
    let query = message(b'Q', b"SELECT name FROM items WHERE id = 42 AND shop = 'east'\0");
    let round = vec![(C, query), (S, answer.concat())];
    measure(bencher, ("pgsql", Transport::Tcp), &opening, &round, 1);
}
