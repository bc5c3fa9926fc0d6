//! The captures that `scripts/golden` made of real servers: what a replay of them says is what it said when it was
//! reviewed, and what the clients know; and no cut and no hole makes it say anything false.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use protocols::testing::{assert_split_invariant_every, run, with_holes_every};
use protocols::{Registration, Side};
use serde_json::{Value, json};

/// Runs of a stream, about, with one cut each.
const CUTS: usize = 1500;

/// Runs of a stream, about, with one hole of each size.
const HOLES: usize = 400;

/// Faults that a failed test shows.
const SHOWN: usize = 8;

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
        let mut faults = Vec::new();
        for stream in self.streams() {
            let script = stream.script();
            let whole = run(stream.registration, &script);
            let step = stream.length().div_ceil(HOLES);
            with_holes_every(step, stream.registration, &script, &SIZES, |hole, records| {
                let made_up = made_up(&records, &whole).filter(|_| !LENIENT.contains(&self.name));
                let found = false_pairs(&records, &whole).chain(made_up);
                faults.extend(found.map(|fault| format!("{}, {hole}: {fault}", stream.name)));
            });
        }
        let shown = faults.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(faults.is_empty(), "{}: {} faults:\n{shown}", self.name, faults.len());
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

/// Whether all that a record says is said by that of the whole stream. That the client gave up on a stream after all of
/// the exchange had passed shows only where the response was seen late.
fn says_no_more(record: &Value, whole: &Value) -> bool {
    let same = |field: &str| record[field] == whole[field];
    let (Some(request), Some(all)) = (record["request"].as_object(), whole["request"].as_object()) else {
        return same("request") && same("response") && same("protocol");
    };
    let known = request.iter().all(|(name, value)| name == "reset" || all.get(name) == Some(value));
    known && same("response") && same("protocol")
}

/// Those whose parsers are known to say "complete" of some records that lost a part which is not needed for their end: a
/// Sync or ReadyForQuery of PostgreSQL, what MySQL's login tells of all that follows. Of gRPC, calls whose server reset the
/// stream behind its response, where the request is seen only after that: how large it was and when it ended is then
/// unknown. docs/limits.md.
const LENIENT: [&str; 3] = ["grpc", "mysql", "pgsql"];

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

/// A record that says it is complete is one of those of the whole stream: it says the same of its response, and of its
/// request nothing else, though maybe less. And there are no more requests than there were, but for logins, which are
/// records of their own where it was not seen that they succeeded.
fn made_up<'a>(records: &'a [Value], whole: &'a [Value]) -> impl Iterator<Item = String> + 'a {
    let complete = records.iter().filter(|record| record["reasons"] == json!([]));
    let unknown = complete.filter(|record| !whole.iter().any(|whole| says_no_more(record, whole)));
    let is_login = |record: &Value| record["request"]["command"] == "login" && record["reasons"] != json!([]);
    let is_request = |record: &&Value| !record["request"].is_null() && !is_login(record);
    let requests = |records: &[Value]| records.iter().filter(is_request).count();
    let invented = requests(records).saturating_sub(requests(whole));
    let invented = (invented > 0).then(|| format!("{invented} invented requests: {records:?}"));
    unknown.map(|record| format!("said to be complete: {record}")).chain(invented)
}
