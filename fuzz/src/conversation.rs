//! One connection through the driver, and what its records have to keep to.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocols::{
    Connection, Context, Counters, Direction, Exchange, Layer, Limits, Part, Registration, Segment, Side, Span, Time,
    Transport, registry,
};
use serde_json::Value;

use crate::memory::Meter;
use crate::script::{self, Settings, Step};

/// Memory that one connection may need beside what its input holds, whatever its input.
const MEMORY: usize = 8 << 20;

/// The longest packet of MySQL's compressed protocol.
const MYSQL_OUTER: u64 = (1 << 24) + 6;

const TIGHT: Limits =
    Limits { buffered: 1024, out_of_order: 2048, pending: 4, value: 32, datagram_timeout_ns: 5_000_000_000 };

/// How the bytes of a transfer arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Whole,
    ByteByByte,
}

/// What came of a conversation.
struct Outcome {
    records: Vec<Value>,
    counters: Counters,
}

impl Outcome {
    fn kept_to_rules(&self) -> bool {
        // Where a response without a request ends, transfers tell.
        let is_loose = |reason: &Value| reason == "parse_error" || reason == "unsolicited";
        let broken = |record: &Value| record["reasons"].as_array().is_some_and(|all| all.iter().any(is_loose));
        let Counters { resyncs, violations, unrecognised, .. } = self.counters;
        (resyncs, violations, unrecognised) == (0, 0, 0) && !self.records.iter().any(broken)
    }

    /// In the order of requests: that of reports depends on which direction went on first.
    fn sorted(mut self) -> Vec<Value> {
        self.records.sort_by_key(|record| record["sequence"].as_u64());
        self.records
    }
}

/// Runs a script with one protocol, or with all, and checks what comes out.
pub fn check(protocol: Option<&str>, input: &[u8]) {
    let (settings, steps) = script::parse(input);
    let whole = Talk::new(protocol, settings).run(&steps, Arrival::Whole);
    if !script::is_unharmed(settings, &steps) || !whole.kept_to_rules() {
        return;
    }
    let split = Talk::new(protocol, settings).run(&steps, Arrival::ByteByByte);
    // Nonsense behind a good beginning is recognised by the beginning if that arrives alone; and where framing was
    // lost, it may be found again at another place if transfers are cut otherwise.
    if split.kept_to_rules() {
        assert_eq!(whole.sorted(), split.sorted(), "records depend on how the bytes were cut");
    }
}

struct Talk {
    connection: Connection,
    limits: Limits,
    datagrams: bool,
    layer: Layer,
    positions: [u64; 2],
    /// Bytes that passed on each side, seen or not, in all layers.
    passed: [u64; 2],
    ended: [bool; 2],
    largest: usize,
    now: Time,
    exchanges: Vec<Exchange>,
    records: Vec<Value>,
    sequences: BTreeSet<u64>,
    reported: [u64; 2],
}

fn direction(side: Side) -> Direction {
    match side {
        Side::Client => Direction::Read,
        Side::Server => Direction::Write,
    }
}

impl Talk {
    fn new(protocol: Option<&str>, settings: Settings) -> Self {
        let wanted = |registration: &&'static Registration| protocol.is_none_or(|name| is_named(registration, name));
        let candidates: Arc<[_]> = registry::ALL.iter().filter(wanted).collect();
        assert!(!candidates.is_empty(), "no such protocol");
        let limits = if settings.tight { TIGHT } else { Limits::default() };
        let transport = if settings.datagrams { Transport::Udp } else { Transport::Tcp };
        let context = Context { transport, midstream: settings.midstream, limits };
        let client = settings.client_known.then_some(Direction::Read);
        let mut talk = Self {
            connection: Connection::new(candidates, context, client),
            limits,
            datagrams: settings.datagrams,
            layer: Layer::Socket,
            positions: [0; 2],
            passed: [0; 2],
            ended: [false; 2],
            largest: 0,
            now: Time(0),
            exchanges: Vec::new(),
            records: Vec::new(),
            sequences: BTreeSet::new(),
            reported: [0; 2],
        };
        if settings.start_known && !settings.datagrams {
            [Side::Client, Side::Server].into_iter().for_each(|side| talk.deliver(side, 0, &[], 0));
        }
        talk
    }

    fn run(mut self, steps: &[Step<'_>], arrival: Arrival) -> Outcome {
        let meter = Meter::new();
        let mut late = None;
        for step in steps {
            self.now.0 += 1_000_000;
            match *step {
                Step::Transfer { side, bytes, cut_off, late: is_late, twice } if !self.ended[side as usize] => {
                    let position = self.positions[side as usize];
                    self.positions[side as usize] += bytes.len() as u64;
                    self.passed[side as usize] += bytes.len() as u64;
                    let captured = &bytes[..bytes.len() - cut_off];
                    let transfer = (side, position, captured, bytes.len() as u64);
                    if is_late && late.is_none() && !self.datagrams {
                        late = Some(transfer);
                        continue;
                    }
                    (0..=u8::from(twice)).for_each(|_| self.arrive(transfer, arrival));
                    self.passed[side as usize] += if twice && self.datagrams { bytes.len() as u64 } else { 0 };
                    late.take().into_iter().for_each(|transfer| self.arrive(transfer, arrival));
                }
                Step::Transfer { .. } => {}
                Step::Lose(side, length) => {
                    self.positions[side as usize] += length;
                    self.passed[side as usize] += length;
                }
                Step::End(side) => {
                    self.ended[side as usize] = true;
                    self.connection.end(direction(side), self.now, &mut self.exchanges);
                }
                Step::Pause(seconds) => {
                    self.now.0 += seconds * 1_000_000_000;
                    self.connection.tick(self.now, &mut self.exchanges);
                }
                Step::Flush => self.connection.flush(&mut self.exchanges),
                Step::Tls => {
                    self.layer = Layer::Tls;
                    self.positions = [0; 2];
                    late = None;
                }
            }
            self.take_records(&meter);
        }
        self.now.0 += 1_000_000;
        self.connection.close(self.now, &mut self.exchanges);
        self.take_records(&meter);
        self.finish()
    }

    fn arrive(&mut self, (side, position, bytes, length): (Side, u64, &[u8], u64), arrival: Arrival) {
        if arrival == Arrival::Whole {
            return self.deliver(side, position, bytes, length);
        }
        for (offset, byte) in bytes.iter().enumerate() {
            self.deliver(side, position + offset as u64, std::slice::from_ref(byte), 1);
        }
    }

    fn deliver(&mut self, side: Side, position: u64, bytes: &[u8], length: u64) {
        self.largest = self.largest.max(bytes.len());
        let (direction, span) = (direction(side), Span::at(self.now));
        if self.datagrams {
            return self.connection.datagram(direction, bytes, length, span, &mut self.exchanges);
        }
        let segment = Segment { position, bytes, length, span };
        self.connection.data(self.layer, direction, segment, &mut self.exchanges);
    }

    /// Takes what came out, and looks at what is kept.
    fn take_records(&mut self, meter: &Meter) {
        let limits = &self.limits;
        let bound = 2 * (limits.buffered.max(4096) + limits.out_of_order + self.largest + 1024);
        assert!(self.connection.held() <= bound, "{} bytes held, bound {bound}", self.connection.held());
        let printed: usize = self.records.iter().map(size_in_memory).sum();
        for mut exchange in std::mem::take(&mut self.exchanges) {
            let record = self.check_exchange(&mut exchange);
            self.records.push(record);
        }
        let in_use = meter.in_use();
        assert!(in_use <= MEMORY + printed * 4, "{in_use} bytes in use");
    }

    fn check_exchange(&mut self, exchange: &mut Exchange) -> Value {
        assert!(exchange.request.is_some() || exchange.response.is_some(), "an exchange of nothing");
        if let Some(sequence) = exchange.sequence {
            assert!(self.sequences.insert(sequence), "request {sequence} is reported twice");
        }
        if exchange.reasons.is_empty() {
            assert_eq!(exchange.missing_bytes, 0, "complete, with missing bytes");
            assert!(exchange.request.is_some() && exchange.sequence.is_some(), "complete, without its request");
        }
        let record = render(exchange);
        // HTTP/2 streams that were refused or cancelled are over without a message, and so are PostgreSQL's queries
        // behind an error.
        let [request, response] = ["request", "response"].map(|part| &record[part]["payload"]);
        let cut =
            [&request["reset"], &response["reset"], &response["goaway"]].into_iter().any(|field| !field.is_null());
        // MySQL's binary log has no end.
        let endless = request["command"].as_str().is_some_and(|command| command.starts_with("binlog_dump"));
        let refused = cut || endless || response["status"] == "skipped";
        let complete = exchange.reasons.is_empty() && !refused;
        for (side, part) in [&exchange.request, &exchange.response].into_iter().enumerate() {
            let Some(part) = part else { continue };
            assert!(!complete || part.bytes.is_some(), "complete, of unknown size: {exchange:#?}");
            assert!(
                !complete || (part.start.is_some() && part.end.is_some()),
                "complete, at an unknown time: {exchange:#?}"
            );
            if let (Some(start), Some(end)) = (part.start, part.end) {
                assert!(start <= end && end <= self.now, "times run backwards: {start:?}, {end:?}");
            }
            // Where the end was lost, the size is what the message announced.
            self.reported[side] += part.bytes.filter(|_| part.end.is_some()).unwrap_or_default();
        }
        record
    }

    fn finish(self) -> Outcome {
        assert!(self.connection.is_done() && self.connection.buffered() == 0, "not over after its end");
        let expected: BTreeSet<u64> = (0..self.sequences.len() as u64).collect();
        assert_eq!(self.sequences, expected, "a request was seen and never reported");
        let [client, server] = self.reported;
        let mut passed = self.passed;
        if self.connection.client() == Some(Direction::Write) {
            passed.swap(0, 1);
        }
        if self.records.iter().any(|record| record["protocol"] == "mysql") {
            // A packet has its share of the compressed one around it, of which less may have come.
            passed.iter_mut().for_each(|passed| *passed += MYSQL_OUTER);
        }
        // Either side may ask in DNS, and push in HTTP/2.
        let either = self
            .records
            .iter()
            .any(|record| record["protocol"] == "dns" || record["request"]["payload"]["version"] == "2");
        let plausible =
            if either { client + server <= passed[0] + passed[1] } else { client <= passed[0] && server <= passed[1] };
        assert!(plausible, "{:?} bytes in messages, {passed:?} passed: {:#?}", self.reported, self.records);
        Outcome { records: self.records, counters: self.connection.counters() }
    }
}

/// HTTP/2 makes records of HTTP and of gRPC, and has no other name of its own.
fn is_named(registration: &Registration, name: &str) -> bool {
    match name {
        "http2" => registration.names.contains(&"grpc"),
        _ => registration.names == [name],
    }
}

/// About what a value needs.
fn size_in_memory(value: &Value) -> usize {
    64 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_in_memory).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| 64 + key.len() + size_in_memory(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// An exchange as it would be printed, redacted.
fn render(exchange: &mut Exchange) -> Value {
    let reasons: Vec<_> = exchange.reasons.iter().map(|reason| reason.name()).collect();
    serde_json::json!({
        "protocol": exchange.protocol,
        "sequence": exchange.sequence,
        "request": exchange.request.as_mut().map(render_part),
        "response": exchange.response.as_mut().map(render_part),
        "reasons": reasons,
        "missing_bytes": exchange.missing_bytes,
    })
}

fn render_part(part: &mut Part) -> Value {
    part.payload.redact();
    let mut printed = Vec::new();
    part.payload.print(&mut printed).expect("payloads serialise");
    let payload: Value = serde_json::from_slice(&printed).expect("payloads print as JSON");
    assert!(payload.is_object(), "a payload is an object");
    let summary = format!("{:?}", part.payload.summary());
    let times = [part.start, part.end].map(|time| time.map(|time| time.0));
    serde_json::json!({ "payload": payload, "summary": summary, "bytes": part.bytes, "times": times })
}
