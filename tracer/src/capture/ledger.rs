//! What became of everything that a replay read.

use std::collections::BTreeMap;
use std::fmt;

use protocols::reassembly::Tally;
use serde::Serialize;

use crate::ledger::Records;

/// Counts of a replay, which add up ([`Self::balances`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayLedger {
    /// Packets.
    pub packets: Packets,
    /// Bytes of transport payload.
    pub bytes: Bytes,
    /// Connections.
    pub connections: Connections,
    /// Times that a boundary had to be looked for.
    pub resyncs: u64,
    /// Times that the bytes broke a rule of the protocol.
    pub violations: u64,
    /// Records, before any filter.
    pub records: Records,
}

/// What became of the packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// Read from files.
    pub read: u64,
    /// Given to their connection.
    pub delivered: u64,
    /// Fragments that were held for reassembly.
    pub fragments: u64,
    /// Datagrams that were put together from fragments.
    pub reassembled: u64,
    /// Datagrams that were captured twice.
    pub duplicate: u64,
    /// Not understood or not believed, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// What became of the bytes of transport payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// On the wire, by the headers of the packets that were read.
    pub seen: u64,
    /// Delivered in order, or as a datagram of a known protocol.
    pub delivered: u64,
    /// Cut off by the capture's snapshot length.
    pub truncated: u64,
    /// Never captured.
    pub lost: u64,
    /// Seen again.
    pub duplicate: u64,
    /// Of these, seen again with another content.
    pub conflicting: u64,
    /// Of connections that speak no known protocol, after that was clear.
    pub passed_over: u64,
    /// At a place in the stream where nothing can be: before its start, after its end, out of every window.
    pub rejected: u64,
}

/// How many connections there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Begun.
    pub opened: u64,
    /// Given up to keep within the bounds on memory.
    pub evicted: u64,
}

impl ReplayLedger {
    /// Whether everything is accounted for: packets.read + reassembled = delivered + duplicate + fragments + skipped
    /// (of which fragments that came to nothing are among the fragments already), and bytes.seen = delivered +
    /// truncated + duplicate + passed_over + rejected; lost bytes were never seen.
    pub fn balances(&self) -> bool {
        let Packets { read, delivered, fragments, reassembled, duplicate, skipped } = &self.packets;
        let of_fragments = [Skip::FragmentIncomplete, Skip::FragmentOverlap].map(Skip::name);
        let skipped: u64 = skipped.iter().filter(|(reason, _)| !of_fragments.contains(reason)).map(|(_, n)| n).sum();
        let bytes = &self.bytes;
        read + reassembled == delivered + duplicate + fragments + skipped
            && bytes.seen == bytes.delivered + bytes.truncated + bytes.duplicate + bytes.passed_over + bytes.rejected
    }

    fn rows(&self) -> Vec<(&'static str, String, u64)> {
        let Self { packets, bytes, connections, resyncs, violations, records } = self;
        let mut rows = vec![
            ("packets", "read".to_owned(), packets.read),
            ("packets", "delivered".to_owned(), packets.delivered),
            ("packets", "fragments".to_owned(), packets.fragments),
            ("packets", "reassembled".to_owned(), packets.reassembled),
            ("packets", "duplicate".to_owned(), packets.duplicate),
        ];
        let mut add = |group, name: &str, value: &u64| rows.push((group, name.to_owned(), *value));
        packets.skipped.iter().for_each(|(reason, count)| add("packets", &format!("skipped: {reason}"), count));
        add("bytes", "seen", &bytes.seen);
        add("bytes", "delivered", &bytes.delivered);
        add("bytes", "truncated", &bytes.truncated);
        add("bytes", "lost", &bytes.lost);
        add("bytes", "duplicate", &bytes.duplicate);
        add("bytes", "conflicting", &bytes.conflicting);
        add("bytes", "passed over", &bytes.passed_over);
        add("bytes", "rejected", &bytes.rejected);
        add("connections", "opened", &connections.opened);
        add("connections", "evicted", &connections.evicted);
        add("parsing", "resyncs", resyncs);
        add("parsing", "violations", violations);
        records.by_protocol.iter().for_each(|(protocol, count)| add("records", protocol, count));
        records.by_reason.iter().for_each(|(reason, count)| add("records", &format!("incomplete: {reason}"), count));
        rows
    }

    pub(super) fn skip(&mut self, skip: Skip) {
        *self.packets.skipped.entry(skip.name()).or_default() += 1;
    }

    pub(super) fn connection(&mut self, counters: protocols::Counters) {
        let Tally { delivered, truncated, lost, duplicate, conflicting } = counters.stream;
        self.bytes.delivered += delivered;
        self.bytes.truncated += truncated;
        self.bytes.lost += lost;
        self.bytes.duplicate += duplicate;
        self.bytes.conflicting += conflicting;
        self.resyncs += counters.resyncs;
        self.violations += counters.violations;
    }
}

/// The table that is printed at the end.
impl fmt::Display for ReplayLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let names = rows.iter().map(|(_, name, _)| name.len()).max().unwrap_or_default();
        let values = rows.iter().map(|(_, _, value)| value.to_string().len()).max().unwrap_or_default();
        for (group, name, value) in &rows {
            writeln!(f, "{group:<11}  {name:<names$}  {value:>values$}")?;
        }
        writeln!(f, "{}", if self.balances() { "everything is accounted for" } else { "UNACCOUNTED: see above" })
    }
}

/// Why a packet was not given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The capture's link type is not decoded.
    LinkType(u32),
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// Neither TCP nor UDP nor SCTP nor a tunnel.
    IpProtocol(u8),
    /// The capture cut it off inside a header.
    CutOff,
    /// A header contradicts itself.
    Malformed,
    /// More tunnels inside each other than are looked into.
    Nesting,
    /// A tunnel that carries neither IP nor Ethernet.
    Tunnel,
    /// A fragment whose datagram did not become whole.
    FragmentIncomplete,
    /// A fragment that overlaps another one of its datagram (RFC 5722: none of the datagram is believed).
    FragmentOverlap,
    /// A chunk of SCTP that carries data and is not decoded.
    SctpChunk(u8),
    /// A comment of this program that it can't read.
    Comment,
}

impl Skip {
    fn name(self) -> String {
        match self {
            Self::LinkType(number) => format!("link_type_{number}"),
            Self::NotIp => "not_ip".into(),
            Self::IpProtocol(number) => format!("ip_protocol_{number}"),
            Self::CutOff => "header_cut_off".into(),
            Self::Malformed => "malformed_header".into(),
            Self::Nesting => "nested_too_deep".into(),
            Self::Tunnel => "tunnel_payload".into(),
            Self::FragmentIncomplete => "fragment_incomplete".into(),
            Self::FragmentOverlap => "fragment_overlap".into(),
            Self::SctpChunk(number) => format!("sctp_chunk_{number}"),
            Self::Comment => "comment".into(),
        }
    }
}
