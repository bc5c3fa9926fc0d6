//! What is recorded comes back the same.

use serde_json::Value;

use super::super::testing::{LINES, Outcome, run};
use super::*;
use crate::record::{Role, Tls, TupleSource};

const BASE: u64 = 1_700_000_000_000_000_000;

fn process() -> Process {
    Process {
        pid: 1234,
        tid: Some(1240),
        comm: "nginx".into(),
        executable: Some("/usr/sbin/nginx".into()),
        namespace_pid: None,
        container_id: None,
    }
}

fn info() -> ConnectionInfo {
    ConnectionInfo {
        id: "1234-9f3c-17".into(),
        transport: Transport::Tcp,
        role: Role::Server,
        local: Some(Endpoint::Inet("127.0.0.1:8443".parse().unwrap())),
        remote: Some(Endpoint::Inet("127.0.0.1:51522".parse().unwrap())),
        proxied: None,
        tls: Some(Tls { library: "openssl" }),
        tuple_source: TupleSource::Nested,
    }
}

/// A live tracer's side of the story: the same events go to a connection and to the recording.
struct Live {
    connection: protocols::Connection,
    writer: PcapngWriter<Vec<u8>>,
    info: ConnectionInfo,
    midstream: bool,
    client: Option<Direction>,
    positions: [u64; 2],
    now: u64,
    exchanges: Vec<protocols::Exchange>,
}

impl Live {
    fn new(info: ConnectionInfo, midstream: bool, client: Option<Direction>) -> Self {
        let limits = protocols::Limits::default();
        let context = protocols::Context { transport: info.transport, midstream, limits };
        let connection = protocols::Connection::new([&LINES].into(), context, client);
        let writer = PcapngWriter::new(Vec::new(), Clock::with_offset(BASE)).unwrap();
        let (positions, exchanges) = ([0; 2], Vec::new());
        let mut live = Self { connection, writer, info, midstream, client, positions, now: 0, exchanges };
        live.record(|writer, description, at| writer.open(description, at));
        live
    }

    fn record(&mut self, event: impl FnOnce(&mut PcapngWriter<Vec<u8>>, &Description<'_>, Time) -> io::Result<()>) {
        self.now += 1_000_003;
        let process = process();
        let description = Description {
            connection: &self.info,
            process: Some(&process),
            midstream: self.midstream,
            client: self.client,
        };
        event(&mut self.writer, &description, Time(self.now)).unwrap();
    }

    fn data(&mut self, layer: Layer, direction: Direction, bytes: &[u8], length: u64) {
        let position = self.positions[index(direction)];
        self.positions[index(direction)] += length;
        let span = Span { start: Time(self.now + 1_000_003 - 400_001), end: Time(self.now + 1_000_003) };
        let segment = Segment { position, bytes, length, span };
        self.record(|writer, description, _| writer.data(description, layer, direction, segment));
        self.connection.data(layer, direction, segment, &mut self.exchanges);
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        self.data(Layer::Tls, direction, bytes, bytes.len() as u64);
    }

    fn end(&mut self, direction: Direction) {
        self.record(|writer, description, at| writer.end(description, direction, at));
        self.connection.end(direction, Time(self.now), &mut self.exchanges);
    }

    /// The records of the live run and the replay of the recording.
    fn close(mut self) -> (Vec<Value>, Outcome) {
        self.record(|writer, description, at| writer.close(description, at));
        self.connection.close(Time(self.now), &mut self.exchanges);
        assert!(self.writer.flows.is_empty(), "a closed connection costs no memory");
        let (process, clock) = (process(), Clock::with_offset(BASE));
        let origin = crate::record::Origin { process: Some(&process), connection: &self.info, clock: &clock };
        let live = self.exchanges.into_iter().map(|exchange| super::super::testing::render(exchange, origin)).collect();
        (live, run(self.writer.out))
    }
}

#[track_caller]
fn same(live: Live, lines: &[&str]) -> Outcome {
    let (records, replayed) = live.close();
    let errors = &replayed.replayed.errors;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(replayed.lines(), lines);
    assert_eq!(records, replayed.records);
    assert!(replayed.replayed.ledger.packets.skipped.is_empty());
    replayed
}

#[test]
fn a_tls_conversation_comes_back_with_process_and_times() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    for _ in 0..2 {
        live.say(Direction::Read, b"?a\n");
        live.say(Direction::Write, b"!a\n");
    }
    live.end(Direction::Read);
    let line = "1234-9f3c-17: ?a -> !a";
    let replayed = same(live, &[line, line]);
    let record = &replayed.records[0];
    assert_eq!(record["process"]["comm"], "nginx");
    assert_eq!(record["tls"]["library"], "openssl");
    assert_eq!(record["timestamp"], BASE + 2_000_006 - 400_001);
}

#[test]
fn plaintext_that_turns_into_tls_keeps_both_layers() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    live.data(Layer::Socket, Direction::Read, b"?start\n", 7);
    live.data(Layer::Socket, Direction::Write, b"!ok\n", 4);
    live.positions = [0, 0];
    live.say(Direction::Read, b"?a\n");
    live.say(Direction::Write, b"!a\n");
    same(live, &["1234-9f3c-17: ?start -> !ok", "1234-9f3c-17: ?a -> !a"]);
}

#[test]
fn what_a_load_balancer_said_in_front_of_a_tls_session_comes_back() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    let header = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n";
    live.data(Layer::Socket, Direction::Read, header, header.len() as u64);
    live.positions = [0, 0];
    live.say(Direction::Read, b"?a\n");
    live.say(Direction::Write, b"!a\n");
    live.info.proxied = live.connection.proxied().cloned();
    let replayed = same(live, &["1234-9f3c-17: ?a -> !a"]);
    let ends = "Inet { source: [2001:db8::1]:56324, destination: [2001:db8::2]:443 }";
    assert_eq!(replayed.records[0]["proxied"], ends);
}

#[test]
fn a_client_that_was_joined_in_its_middle() {
    let info = ConnectionInfo { role: Role::Client, ..info() };
    let mut live = Live::new(info, true, Some(Direction::Write));
    live.positions = [77, 99];
    live.say(Direction::Write, b"?a\n");
    live.say(Direction::Read, b"!a\n");
    same(live, &["1234-9f3c-17: ?a -> !a"]);
}

#[test]
fn truncated_and_lost_bytes_stay_what_they_are() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    live.say(Direction::Read, b"?a\n");
    live.data(Layer::Tls, Direction::Write, b"!a", 100_000);
    live.say(Direction::Read, b"?b\n");
    live.positions[1] += 5;
    live.say(Direction::Write, b"!b\n");
    let replayed = same(
        live,
        &["1234-9f3c-17: ?a -> - [truncated]", "1234-9f3c-17: ?b -> - [gap]", "1234-9f3c-17: - -> !b [unsolicited]"],
    );
    let bytes = &replayed.replayed.ledger.bytes;
    assert_eq!((bytes.truncated, bytes.lost), (99_998, 5));
}

#[test]
fn a_buffer_of_more_than_a_packet_holds() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    let long = [&[b'?'][..], &vec![b'x'; 500_000], b"\n"].concat();
    live.say(Direction::Read, &long[..150_000]);
    live.say(Direction::Read, &long[150_000..]);
    let (records, replayed) = live.close();
    assert_eq!(records, replayed.records);
    assert_eq!(replayed.replayed.ledger.bytes.delivered, long.len() as u64);
}

#[test]
fn a_unix_socket_and_an_unknown_tuple() {
    let unix = ConnectionInfo {
        transport: Transport::Unix,
        local: Some(Endpoint::Unix("/run/a b.sock".into())),
        remote: Some(Endpoint::Unix("".into())),
        tls: None,
        tuple_source: TupleSource::Socket,
        ..info()
    };
    let unknown = ConnectionInfo { local: None, remote: None, tuple_source: TupleSource::None, ..info() };
    for info in [unix, unknown] {
        let mut live = Live::new(info, false, Some(Direction::Read));
        live.say(Direction::Read, b"?a\n");
        live.say(Direction::Write, b"!a\n");
        same(live, &["1234-9f3c-17: ?a -> !a"]);
    }
}

#[test]
fn datagrams() {
    let info = ConnectionInfo { transport: Transport::Udp, tls: None, tuple_source: TupleSource::Socket, ..info() };
    let process = process();
    let description =
        Description { connection: &info, process: Some(&process), midstream: false, client: Some(Direction::Read) };
    let mut writer = PcapngWriter::new(Vec::new(), Clock::with_offset(BASE)).unwrap();
    writer.open(&description, Time(1)).unwrap();
    let span = Span { start: Time(10), end: Time(15) };
    writer.datagram(&description, Direction::Read, b"?a\n", 3, span).unwrap();
    writer.datagram(&description, Direction::Write, b"!a\n", 3, Span::at(Time(30))).unwrap();
    writer.datagram(&description, Direction::Read, b"?cut", 50_000, Span::at(Time(40))).unwrap();
    writer.close(&description, Time(99)).unwrap();
    let outcome = run(writer.out);
    assert_eq!(outcome.lines(), ["1234-9f3c-17: ?a -> !a"]);
    assert_eq!(outcome.records[0]["latency_ns"], 20);
    assert_eq!(outcome.replayed.ledger.bytes.truncated, 49_996);
}

/// With the comments stripped, the packets themselves tell the same conversation.
#[test]
fn the_packets_make_sense_without_their_comments() {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    live.say(Direction::Read, b"?a\n");
    live.say(Direction::Write, b"!a\n");
    live.data(Layer::Tls, Direction::Read, b"?cut", 70_000);
    live.say(Direction::Read, b"?b\n");
    live.end(Direction::Write);
    live.record(|writer, description, at| writer.close(description, at));
    let mut file = live.writer.out;
    let needle = b"tracer.v1";
    for at in 0..file.len() {
        if file[at..].starts_with(needle) {
            file[at] = b'x';
        }
    }
    let outcome = run(file);
    assert_eq!(outcome.lines().first().map(String::as_str), Some("cap-1: ?a -> !a"));
    let ledger = &outcome.replayed.ledger;
    assert_eq!((ledger.bytes.truncated, ledger.bytes.lost, ledger.bytes.rejected), (69_996, 0, 0));
    assert_eq!(ledger.connections.opened, 1);
}

/// A recording with plaintext, TLS, holes, and a datagram flow.
fn busy() -> Vec<u8> {
    let mut live = Live::new(info(), false, Some(Direction::Read));
    live.data(Layer::Socket, Direction::Read, b"?start\n", 7);
    live.data(Layer::Socket, Direction::Write, b"!ok\n", 4);
    live.positions = [0, 0];
    live.say(Direction::Read, b"?a\n");
    live.positions[1] += 5;
    live.say(Direction::Write, b"!b\n");
    live.data(Layer::Tls, Direction::Write, b"!cut", 70_000);
    live.end(Direction::Read);
    live.record(|writer, description, at| writer.close(description, at));
    let datagrams = ConnectionInfo { id: "7".into(), transport: Transport::Udp, ..info() };
    live.info = datagrams;
    live.record(|writer, description, at| {
        writer.datagram(description, Direction::Read, b"?a\n", 3, Span::at(at))?;
        writer.datagram(description, Direction::Write, b"!a\n", 3, Span::at(at))
    });
    live.writer.out
}

proptest::proptest! {
    /// Whatever a recording holds: no panic, and everything is accounted for (`run` asserts the balance).
    #[test]
    fn mutated_recordings_do_no_harm(
        edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), b' '..b'~'), 1..20),
    ) {
        let mut file = busy();
        for (index, value) in edits {
            let at = index.index(file.len());
            file[at] = value;
        }
        run(file);
    }
}
