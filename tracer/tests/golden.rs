//! The captures that `scripts/golden` made of real servers: what a replay of them says is what it said when it was
//! reviewed, and what the clients know; and no cut and no hole makes it say anything false.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use protocols::testing::{assert_split_invariant_every, run, with_holes_at};
use protocols::{Registration, Side};
use serde_json::{Value, json};

/// Runs of a stream, about, with one cut each.
const CUTS: usize = 1500;

/// Runs of a stream, about, with one hole of each size, beside those at the boundaries of what it is made of.
const HOLES: usize = 400;

/// Bytes before the start of a frame (or line) and behind it where holes begin, too: those of its header, and more.
const AROUND_START: std::ops::Range<i64> = -2..10;

/// Faults that a failed test shows.
const SHOWN: usize = 20;

/// Sizes of holes.
const SIZES: [usize; 4] = [1, 7, 40, 300];

macro_rules! cases {
    ($($name:ident: $capture:literal;)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(mod $name {
            const CASE: super::Case = super::Case { name: stringify!($name), capture: $capture };

            #[test]
            fn replay_is_as_expected() {
                CASE.replay_is_as_expected();
            }

            #[test]
            fn the_clients_agree() {
                CASE.the_clients_agree();
            }

            #[test]
            fn cuts_change_nothing() {
                CASE.cuts_change_nothing();
            }

            #[test]
            fn holes_make_nothing_false() {
                CASE.holes_make_nothing_false();
            }
        })*
    };
}

cases! {
    dns: "capture.pcap";
    grpc: "capture.pcap";
    http1: "capture.pcap";
    http2: "capture.pcap";
    https: "capture.pcapng";
    mysql: "capture.pcap";
    pgsql: "capture.pcap";
    redis: "capture.pcap";
}

#[test]
fn every_case_is_tested() {
    let folders = std::fs::read_dir(root()).expect("testdata/golden");
    let mut found: Vec<String> = folders
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden")
}

struct Case {
    name: &'static str,
    capture: &'static str,
}

impl Case {
    fn file(&self, name: &str) -> PathBuf {
        root().join(self.name).join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", self.name))
    }

    fn expected(&self) -> Vec<Value> {
        self.read("expected.jsonl").lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// To the byte. The actual output is left beside the expected one.
    fn replay_is_as_expected(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracer"));
        command.args(["replay", "--format", "json", "--no-redact"]).arg(self.file(self.capture));
        let output = command.output().expect("the tracer runs");
        let ledger = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && ledger.contains("everything is accounted for"), "{ledger}");
        let actual = String::from_utf8(output.stdout).expect("UTF-8");
        let expected = self.read("expected.jsonl");
        if actual != expected {
            let file = self.file("expected.jsonl.actual");
            std::fs::write(&file, &actual).expect("testdata can be written");
            let differing = actual.lines().zip(expected.lines()).find(|(actual, expected)| actual != expected);
            let counts = (actual.lines().count(), expected.lines().count());
            panic!("{}: {counts:?} lines; the first that differ: {differing:#?}", file.display());
        }
    }

    /// Every request that the clients know of has one record, and there are no others.
    fn the_clients_agree(&self) {
        let known: Vec<Value> = serde_json::from_str(&self.read("known.json")).expect("JSON");
        let mut records = self.expected();
        for entry in &known {
            let found = records.iter().position(|record| contains(record, entry));
            let place = found.unwrap_or_else(|| panic!("no record says {entry}; of those left {:#?}", records.first()));
            records.remove(place);
        }
        assert!(records.is_empty(), "the clients know nothing of {records:#?}");
    }

    fn cuts_change_nothing(&self) {
        let mut seen = 0;
        for stream in self.streams() {
            let records =
                assert_split_invariant_every(stream.length().div_ceil(CUTS), stream.registration, &stream.script());
            seen += records.len();
        }
        assert_eq!(seen, self.streamed(), "{}", self.name);
    }

    fn holes_make_nothing_false(&self) {
        let mut faults = BTreeMap::new();
        for stream in self.streams() {
            let script = stream.script();
            let whole = run(stream.registration, &script);
            with_holes_at(&stream.holes(), stream.registration, &script, &SIZES, |hole, records| {
                let found = false_pairs(&records, &whole).chain(made_up(&records, &whole));
                for fault in found {
                    faults.entry(fault).or_insert_with(|| format!("{}, {hole}", stream.name));
                }
            });
        }
        let shown: Vec<_> = faults.iter().take(SHOWN).map(|(fault, hole)| format!("{hole}: {fault}")).collect();
        assert!(faults.is_empty(), "{}: {} faults:\n{}", self.name, faults.len(), shown.join("\n"));
    }

    /// Records of streams; datagrams can't be cut.
    fn streamed(&self) -> usize {
        self.expected().iter().filter(|record| record["connection"]["transport"] != "udp").count()
    }

    fn streams(&self) -> Vec<Stream> {
        let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
        for_each_packet(&self.file(self.capture), |frame| add(&mut streams, frame));
        // A connection on which nothing was said has nothing to cut.
        let mut streams: Vec<Stream> = streams.into_values().filter(|stream| !stream.transfers.is_empty()).collect();
        let protocols: Vec<String> =
            self.expected().iter().map(|record| record["protocol"].as_str().expect("a name").to_owned()).collect();
        for stream in &mut streams {
            let candidates = protocols::registry::ALL
                .iter()
                .filter(|registration| registration.names.iter().any(|name| protocols.iter().any(|seen| seen == name)));
            let script = stream.script();
            let most = candidates.max_by_key(|&registration| run(registration, &script).len());
            stream.registration = most.expect("a protocol");
        }
        assert!(!streams.is_empty(), "{}: no streams", self.name);
        streams
    }
}

/// Whether the record has all members that `known` has, inside of objects too.
fn contains(record: &Value, known: &Value) -> bool {
    match known.as_object() {
        Some(members) => members.iter().all(|(name, value)| contains(&record[name.as_str()], value)),
        None => record == known,
    }
}

/// One TCP connection of a capture.
struct Stream {
    name: String,
    client: (String, u16),
    transfers: Vec<(Side, Vec<u8>)>,
    registration: &'static Registration,
}

impl Stream {
    fn script(&self) -> Vec<(Side, &[u8])> {
        self.transfers.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
    }

    fn length(&self) -> usize {
        self.transfers.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Where holes begin, as a transfer and a byte of it: all over the stream, and around each start of a frame.
    fn holes(&self) -> Vec<(usize, usize)> {
        let places: Vec<_> = (0..)
            .zip(&self.transfers)
            .flat_map(|(index, (_, bytes))| (0..bytes.len()).map(move |at| (index, at)))
            .collect();
        let mut chosen: BTreeSet<_> = places.iter().copied().step_by(self.length().div_ceil(HOLES)).collect();
        for side in [Side::Client, Side::Server] {
            let own: Vec<_> = places.iter().copied().filter(|(index, _)| self.transfers[*index].0 == side).collect();
            for start in self.frames(side) {
                let near = AROUND_START.filter_map(|offset| own.get(usize::try_from(start as i64 + offset).ok()?));
                chosen.extend(near);
            }
        }
        chosen.into_iter().collect()
    }

    /// Where what a side sends begins anew: frames, packets, messages, lines.
    fn frames(&self, side: Side) -> Vec<usize> {
        let own = self.transfers.iter().filter(|(sender, _)| *sender == side);
        let bytes: Vec<u8> = own.flat_map(|(_, bytes)| bytes.clone()).collect();
        let mut starts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            starts.push(at);
            let length = frame_length(self.registration.names, &bytes[at..]);
            at += length.unwrap_or(bytes.len());
        }
        starts
    }
}

/// How long what these bytes begin with is.
fn frame_length(protocol: &[&str], bytes: &[u8]) -> Option<usize> {
    let big =
        |at: usize, n: usize| Some(bytes.get(at..at + n)?.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)));
    match protocol {
        ["mysql"] => Some(
            4 + usize::from(*bytes.first()?) + (usize::from(*bytes.get(1)?) << 8) + (usize::from(*bytes.get(2)?) << 16),
        ),
        ["pgsql"] if bytes.starts_with(&[0]) => big(0, 4),
        ["pgsql"] => Some(1 + big(1, 4)?),
        ["http", "grpc"] if bytes.starts_with(b"PRI") => Some(24),
        ["http", "grpc"] => Some(9 + big(0, 3)?),
        ["dns"] => Some(2 + big(0, 2)?),
        _ => Some(bytes.windows(2).position(|pair| pair == b"\r\n")? + 2),
    }
    .filter(|&length| length > 0)
}

/// Gives the link type and the bytes of each packet. The captures are small and were made here: what is wrong with one
/// is a reason to panic.
fn for_each_packet(file: &Path, mut take: impl FnMut(Frame<'_>)) {
    let source = std::fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut reader = create_reader(1 << 20, source).expect("a capture");
    loop {
        match reader.next() {
            Ok((length, block)) => {
                match block {
                    PcapBlockOwned::Legacy(packet) => take(Frame::Ethernet(packet.data)),
                    // `tracer record` writes raw IP.
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => take(Frame::Ip(packet.packet_data())),
                    _ => {}
                }
                reader.consume(length);
            }
            Err(PcapError::Eof) => return,
            Err(PcapError::Incomplete(_)) => reader.refill().expect("a file"),
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
}

#[derive(Clone, Copy)]
enum Frame<'a> {
    Ethernet(&'a [u8]),
    Ip(&'a [u8]),
}

/// Adds a packet to its connection. On the loopback interface none is lost, repeated or out of order.
fn add(streams: &mut BTreeMap<String, Stream>, frame: Frame<'_>) {
    let sliced = match frame {
        Frame::Ethernet(bytes) => SlicedPacket::from_ethernet(bytes),
        Frame::Ip(bytes) => SlicedPacket::from_ip(bytes),
    };
    let sliced = sliced.expect("a packet");
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else { return };
    let header = ip.header();
    let source = (header.source_addr().to_string(), tcp.source_port());
    let destination = (header.destination_addr().to_string(), tcp.destination_port());
    let mut ends = [source.clone(), destination];
    ends.sort();
    let name = format!("{ends:?}");
    if tcp.syn() && !tcp.ack() {
        let client = source.clone();
        let none = protocols::registry::ALL.first().expect("a protocol");
        let previous = streams
            .insert(name.clone(), Stream { name: name.clone(), client, transfers: Vec::new(), registration: none });
        assert!(previous.is_none_or(|stream| stream.transfers.is_empty()), "{name}: a port was used again");
    }
    let stream = streams.get_mut(&name).expect("the capture began before its connections");
    if !tcp.payload().is_empty() {
        let side = if stream.client == source { Side::Client } else { Side::Server };
        stream.transfers.push((side, tcp.payload().to_vec()));
    }
}

/// What records tell of the session that a request belongs to: not known where it may have changed unseen.
const OF_SESSION: [&str; 6] =
    ["user", "database", "application_name", "backend_pid", "connection_id", "server_version"];

/// What the text behind the numbers of MySQL's OK packet means is agreed on at login.
const OF_LOGIN: &str = "info";

/// Whether a record says what that of the whole stream says: all of it, but for what the session or its login would tell.
/// That the client gave up on a stream after all of the exchange had passed shows only where the response was seen late.
fn says_the_same(record: &Value, whole: &Value) -> bool {
    record["protocol"] == whole["protocol"]
        && ["request", "response"].iter().all(|part| agree(&record[part], &whole[part]))
}

fn agree(part: &Value, whole: &Value) -> bool {
    let (Some(part), Some(whole)) = (part.as_object(), whole.as_object()) else { return part == whole };
    let may_differ = |name: &str| name == "reset" || OF_SESSION.contains(&name) || name == OF_LOGIN;
    let is_true = |(name, value): (&String, &Value)| name == "reset" || whole.get(name) == Some(value);
    part.iter().all(is_true) && whole.keys().all(|name| part.contains_key(name) || may_differ(name))
}

/// Requests and responses that are printed together although none of the whole stream's pairs began when they did.
fn false_pairs<'a>(records: &'a [Value], whole: &'a [Value]) -> impl Iterator<Item = String> + 'a {
    let start = |record: &Value, part: &str| record[part]["start"].as_u64();
    let is_true = move |record: &Value| {
        let (Some(request), Some(response)) = (start(record, "request"), start(record, "response")) else {
            return true;
        };
        whole.iter().any(|whole| {
            start(whole, "request").is_some_and(|start| start <= request)
                && start(whole, "response").is_some_and(|start| start <= response)
                && whole["request"]["end"].as_u64().is_none_or(|end| request <= end)
                && whole["response"]["end"].as_u64().is_none_or(|end| response <= end)
        })
    };
    records.iter().filter(move |record| !is_true(record)).map(|record| format!("a false pair: {record}"))
}

/// PostgreSQL: what came before an Execute failed, and says that the Execute may be in the gap. If it is behind that, it has
/// a record of its own.
fn lacks_its_execute(record: &Value) -> bool {
    let failed = ["parse", "bind", "describe"].iter().any(|command| record["request"]["command"] == *command);
    failed && record["reasons"] != json!([])
}

/// A record that says it is complete is one of those of the whole stream. And there are no more requests than there were.
fn made_up<'a>(records: &'a [Value], whole: &'a [Value]) -> impl Iterator<Item = String> + 'a {
    let complete = records.iter().filter(|record| record["reasons"] == json!([]));
    let unknown = complete.filter(|record| !whole.iter().any(|whole| says_the_same(record, whole)));
    let is_request = |record: &&Value| !record["request"].is_null() && !lacks_its_execute(record);
    let requests = |records: &[Value]| records.iter().filter(is_request).count();
    let invented = requests(records).saturating_sub(requests(whole));
    let invented = (invented > 0).then(|| format!("{invented} invented requests: {records:?}"));
    unknown.map(|record| format!("said to be complete: {record}")).chain(invented)
}
