//! The loss ledger: what the tracer saw, and what became of every event, byte, record and connection.
//!
//! Whoever handles a thing adds to its counter; [`Ledger::balance`] says whether they all add up. While traffic flows,
//! counters that are read one after another can differ by what passed in between; after the end they may not.
//!
//! Printed as a table at exit and as JSON lines of kind "stats":
//!
//! ```json
//! {"schema":1,"kind":"stats","timestamp":"2026-11-20T10:12:11.000000000Z",
//!  "hook_hits":{"ssl_read":120,"tcp_recvmsg":240},
//!  "events":{"emitted":360,"decoded":355,"rejected":0,"lost":{"ring_full":5},"unread":0},
//!  "read_faults":0,
//!  "bytes":{"seen":90000,"captured":81000,"delivered":80000,"truncated":8000,"lost":{"ring_full":1000},
//!    "ignored":{"not_recognised":1000}},
//!  "records":{"by_protocol":{"http":60},"incomplete":2,"by_reason":{"gap":2},"filtered":10,
//!    "sinks":{"json":{"written":50,"dropped":0,"buffered":0}}},
//!  "resyncs":1,"violations":0,
//!  "connections":{"opened":4,"closed":3,"evicted":0,"open":1,"shed":0},
//!  "tuple_disagreements":0,"abandoned_calls":0,"skipped_runs":0,"unverified_records":0,
//!  "failed_updates":0}
//! ```

use std::collections::BTreeMap;
use std::fmt;

use protocols::{Exchange, Reason};
use schemars::JsonSchema;
use serde::Serialize;

/// Counters by a name: the cause of a loss, a program, a protocol.
pub type ByName = BTreeMap<&'static str, u64>;

/// Every counter, since the tracer started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ledger {
    /// Times that each kernel program ran.
    pub hook_hits: ByName,
    /// What became of the events that the kernel programs made.
    pub events: Events,
    /// Times that memory of the traced process could not be read.
    pub read_faults: u64,
    /// What became of the bytes that the hooks saw.
    pub bytes: Bytes,
    /// What became of the records.
    pub records: Records,
    /// Times that a message boundary had to be looked for.
    pub resyncs: u64,
    /// Times that bytes broke a rule of their protocol.
    pub violations: u64,
    /// What became of the connections.
    pub connections: Connections,
    /// Times that two sources gave one connection different addresses.
    pub tuple_disagreements: u64,
    /// TLS calls whose end was not seen: left by an exception, say. What they carried is not known.
    pub abandoned_calls: u64,
    /// Runs that the kernel left out, of programs on sockets and processes: a thread was preempted in the program, and
    /// another one came to it on the same processor. What such a run would have seen is counted nowhere else.
    pub skipped_runs: u64,
    /// Calls of rustls that were left out, because what they were given and gave did not look like a record.
    pub unverified_records: u64,
    /// Times that the kernel side could not put an entry into one of its maps, or take it out: the map was full, or its
    /// lock not to be had. Where bytes are lost by that, they are counted among the lost bytes as well.
    pub failed_updates: u64,
}

/// Events from the kernel: emitted = decoded + rejected + lost + unread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Events {
    /// Events that the kernel programs had to report, delivered or not.
    pub emitted: u64,
    /// Events that were read and understood.
    pub decoded: u64,
    /// Events that were read and not understood.
    pub rejected: u64,
    /// Events that found no room, by cause ("ring_full").
    pub lost: ByName,
    /// Events that were still in the ring buffer when the counters were read.
    pub unread: u64,
}

/// Bytes that the hooks saw: seen = delivered + truncated + lost + ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bytes {
    /// Bytes that the hooked calls moved.
    pub seen: u64,
    /// Bytes that the hooks copied; not in the equation, because some are lost or ignored later.
    pub captured: u64,
    /// Bytes that a protocol's parser was given, in order.
    pub delivered: u64,
    /// Bytes that the capture limit cut off.
    pub truncated: u64,
    /// Bytes that were lost, by cause ("ring_full", "read_fault", "evicted", "shed").
    pub lost: ByName,
    /// Bytes that arrived and were not wanted, by cause ("not_recognised", "duplicate", "ciphertext").
    pub ignored: ByName,
}

/// Records: the sum of by_protocol = filtered + written + dropped + buffered, for each sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Records {
    /// Records made, by protocol.
    pub by_protocol: ByName,
    /// Records that are not complete.
    pub incomplete: u64,
    /// Records by the reason why they are not complete; one that has several counts for each.
    pub by_reason: ByName,
    /// Records that the filter did not select.
    pub filtered: u64,
    /// What became of the others, by output format.
    pub sinks: BTreeMap<&'static str, SinkCounters>,
}

/// What became of the records that one sink was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkCounters {
    /// Records that were written in full.
    pub written: u64,
    /// Records that could not be written.
    pub dropped: u64,
    /// Records that wait to be written.
    pub buffered: u64,
}

/// Connections: opened = closed + evicted + open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connections {
    /// Connections (and datagram flows) that were followed.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections that were given up to keep memory bounded.
    pub evicted: u64,
    /// Connections that are being followed.
    pub open: u64,
    /// Connections that were left out, for a time at least: by `--sample`, or because the tracer could not keep up.
    /// Not in the equation: one that is left out from its first byte to its last is never opened.
    pub shed: u64,
}

impl Records {
    /// Counts a record that was made.
    pub fn count(&mut self, exchange: &Exchange) {
        *self.by_protocol.entry(exchange.protocol).or_default() += 1;
        self.incomplete += u64::from(!exchange.reasons.is_empty());
        for reason in exchange.reasons.iter() {
            *self.by_reason.entry(Reason::name(reason)).or_default() += 1;
        }
    }
}

/// An equation between counters that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Imbalance {
    /// The equation.
    pub equation: String,
    /// What its left side adds up to.
    pub left: u64,
    /// What its right side adds up to.
    pub right: u64,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {} against {}", self.equation, self.left, self.right)
    }
}

impl Ledger {
    /// The equations that do not hold: none if everything is accounted for.
    pub fn balance(&self) -> Vec<Imbalance> {
        let Self { events, bytes, records, connections, .. } = self;
        let mut found = vec![
            check(
                "events.emitted = decoded + rejected + lost + unread",
                events.emitted,
                events.decoded + events.rejected + sum(&events.lost) + events.unread,
            ),
            check(
                "bytes.seen = delivered + truncated + lost + ignored",
                bytes.seen,
                bytes.delivered + bytes.truncated + sum(&bytes.lost) + sum(&bytes.ignored),
            ),
            check(
                "connections.opened = closed + evicted + open",
                connections.opened,
                connections.closed + connections.evicted + connections.open,
            ),
        ];
        found.extend(records.sinks.iter().map(|(name, sink)| {
            check(
                &format!("records.by_protocol = filtered + written + dropped + buffered ({name})"),
                sum(&records.by_protocol),
                records.filtered + sink.written + sink.dropped + sink.buffered,
            )
        }));
        found.into_iter().flatten().collect()
    }
}

fn check(equation: &str, left: u64, right: u64) -> Option<Imbalance> {
    (left != right).then(|| Imbalance { equation: equation.to_owned(), left, right })
}

fn sum(counters: &ByName) -> u64 {
    counters.values().sum()
}

/// The table that is printed at exit.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let widest = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or_default();
        let group_width = widest(|row| row.group.len());
        let name_width = widest(|row| row.name.len());
        let value_width = widest(|row| row.value.to_string().len());
        for Row { group, name, value } in &rows {
            writeln!(f, "{group:<group_width$}  {name:<name_width$}  {value:>value_width$}")?;
        }
        let imbalances = self.balance();
        if imbalances.is_empty() {
            writeln!(f, "everything is accounted for")?;
        }
        imbalances.iter().try_for_each(|imbalance| writeln!(f, "UNACCOUNTED: {imbalance}"))
    }
}

/// One line of the table.
struct Row {
    group: &'static str,
    name: String,
    value: u64,
}

impl Ledger {
    fn rows(&self) -> Vec<Row> {
        let Self { hook_hits, events, read_faults, bytes, records, resyncs, violations, connections, .. } = self;
        let mut rows = Vec::new();
        let mut add = |group, name: &str, value| rows.push(Row { group, name: name.to_owned(), value });
        hook_hits.iter().for_each(|(name, value)| add("hook", name, *value));
        add("events", "emitted", events.emitted);
        add("events", "decoded", events.decoded);
        add("events", "rejected", events.rejected);
        events.lost.iter().for_each(|(cause, value)| add("events", &format!("lost: {cause}"), *value));
        add("events", "unread", events.unread);
        add("memory", "read faults", *read_faults);
        add("bytes", "seen", bytes.seen);
        add("bytes", "captured", bytes.captured);
        add("bytes", "delivered", bytes.delivered);
        add("bytes", "truncated", bytes.truncated);
        bytes.lost.iter().for_each(|(cause, value)| add("bytes", &format!("lost: {cause}"), *value));
        bytes.ignored.iter().for_each(|(cause, value)| add("bytes", &format!("ignored: {cause}"), *value));
        add("streams", "resyncs", *resyncs);
        add("streams", "violations", *violations);
        records.by_protocol.iter().for_each(|(protocol, value)| add("records", protocol, *value));
        add("records", "incomplete", records.incomplete);
        records.by_reason.iter().for_each(|(reason, value)| add("records", &format!("incomplete: {reason}"), *value));
        add("records", "filtered", records.filtered);
        for (sink, SinkCounters { written, dropped, buffered }) in &records.sinks {
            add("records", &format!("written: {sink}"), *written);
            add("records", &format!("dropped: {sink}"), *dropped);
            add("records", &format!("buffered: {sink}"), *buffered);
        }
        add("connections", "opened", connections.opened);
        add("connections", "closed", connections.closed);
        add("connections", "evicted", connections.evicted);
        add("connections", "open", connections.open);
        add("connections", "shed", connections.shed);
        add("connections", "tuple disagreements", self.tuple_disagreements);
        add("calls", "abandoned", self.abandoned_calls);
        add("hook", "skipped runs", self.skipped_runs);
        add("calls", "unverified records", self.unverified_records);
        add("maps", "failed updates", self.failed_updates);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Ledger {
        let sink = SinkCounters { written: 50, dropped: 7, buffered: 3 };
        Ledger {
            hook_hits: ByName::from([("ssl_read", 120), ("tcp_recvmsg", 240)]),
            events: Events {
                emitted: 366,
                decoded: 350,
                rejected: 4,
                lost: ByName::from([("ring_full", 5)]),
                unread: 7,
            },
            bytes: Bytes {
                seen: 90_000,
                captured: 81_000,
                delivered: 80_000,
                truncated: 8_000,
                lost: ByName::from([("ring_full", 900), ("read_fault", 100)]),
                ignored: ByName::from([("duplicate", 1_000)]),
            },
            records: Records {
                by_protocol: ByName::from([("http", 60), ("dns", 10)]),
                incomplete: 2,
                by_reason: ByName::from([("gap", 2)]),
                filtered: 10,
                sinks: BTreeMap::from([("json", sink)]),
            },
            connections: Connections { opened: 4, closed: 2, evicted: 1, open: 1, shed: 5 },
            ..Ledger::default()
        }
    }

    #[test]
    fn what_is_accounted_for_balances() {
        assert_eq!(balanced().balance(), []);
        assert_eq!(Ledger::default().balance(), []);
    }

    #[test]
    fn each_counter_that_is_off_by_one_is_found_in_its_equation() {
        type Change = fn(&mut Ledger);
        let events: &[Change] = &[
            |l| l.events.emitted += 1,
            |l| l.events.decoded += 1,
            |l| l.events.rejected += 1,
            |l| *l.events.lost.entry("ring_full").or_default() += 1,
            |l| l.events.unread += 1,
        ];
        let bytes: &[Change] = &[
            |l| l.bytes.seen += 1,
            |l| l.bytes.delivered += 1,
            |l| l.bytes.truncated += 1,
            |l| *l.bytes.lost.entry("evicted").or_default() += 1,
            |l| *l.bytes.ignored.entry("duplicate").or_default() += 1,
        ];
        let connections: &[Change] = &[
            |l| l.connections.opened += 1,
            |l| l.connections.closed += 1,
            |l| l.connections.evicted += 1,
            |l| l.connections.open += 1,
        ];
        let records: &[Change] = &[
            |l| *l.records.by_protocol.entry("redis").or_default() += 1,
            |l| l.records.filtered += 1,
            |l| l.records.sinks.entry("json").or_default().written += 1,
            |l| l.records.sinks.entry("json").or_default().dropped += 1,
            |l| l.records.sinks.entry("json").or_default().buffered += 1,
        ];
        for (equation, changes) in
            [("events.", events), ("bytes.", bytes), ("connections.", connections), ("records.", records)]
        {
            for change in changes {
                let mut ledger = balanced();
                change(&mut ledger);
                let [imbalance] = ledger.balance().try_into().unwrap();
                assert!(imbalance.equation.starts_with(equation), "{imbalance}");
                assert_eq!(imbalance.left.abs_diff(imbalance.right), 1);
            }
        }
    }

    #[test]
    fn a_second_sink_has_an_equation_of_its_own() {
        let mut ledger = balanced();
        ledger.records.sinks.insert("table", SinkCounters { written: 59, ..SinkCounters::default() });
        let text: Vec<_> = ledger.balance().iter().map(Imbalance::to_string).collect();
        assert_eq!(
            text,
            ["records.by_protocol = filtered + written + dropped + buffered (table) does not hold: 70 against 69"]
        );
    }

    #[test]
    fn the_table_is_aligned_and_says_whether_it_balances() {
        let mut ledger = balanced();
        let text = ledger.to_string();
        assert!(text.ends_with("everything is accounted for\n"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with("everything")).collect();
        assert!(rows.iter().all(|row| row.len() == rows.first().unwrap().len()), "{text}");
        assert!(rows.contains(&"events       lost: ring_full          5"), "{text}");
        ledger.events.unread = 0;
        assert!(ledger.to_string().contains("UNACCOUNTED: events.emitted"), "{ledger}");
    }

    #[test]
    fn a_record_counts_once_by_protocol_and_for_each_reason() {
        let mut records = Records::default();
        let mut reasons = protocols::Reasons::from(Reason::Gap);
        reasons.add(Reason::NoResponse);
        let exchange = |reasons| Exchange {
            protocol: "http",
            sequence: Some(0),
            request: None,
            response: None,
            reasons,
            missing_bytes: 0,
        };
        records.count(&exchange(reasons));
        records.count(&exchange(protocols::Reasons::NONE));
        assert_eq!(records.by_protocol, ByName::from([("http", 2)]));
        assert_eq!(records.incomplete, 1);
        assert_eq!(records.by_reason, ByName::from([("gap", 1), ("no_response", 1)]));
    }
}
