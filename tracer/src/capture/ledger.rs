//! What became of everything that a replay read.

use std::collections::BTreeMap;

use protocols::Reason;
use protocols::reassembly::Tally;
use serde::Serialize;

/// Counts of a replay. Every packet is in exactly one of `delivered`, `duplicate` and `skipped`, fragments apart:
/// those count once each, and their datagram is not counted again. Every byte of a transport payload that was on the
/// wire is in exactly one of `delivered`, `truncated`, `duplicate`, `passed_over` and `rejected`; `lost` bytes were
/// never seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
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
    /// Records by protocol and integrity: the reasons, joined with `+`, or "complete".
    pub records: BTreeMap<&'static str, BTreeMap<String, u64>>,
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

impl Ledger {
    pub(super) fn skip(&mut self, skip: Skip) {
        *self.packets.skipped.entry(skip.name()).or_default() += 1;
    }

    pub(super) fn record(&mut self, exchange: &protocols::Exchange) {
        let reasons: Vec<&str> = exchange.reasons.iter().map(Reason::name).collect();
        let integrity = if reasons.is_empty() { "complete".to_owned() } else { reasons.join("+") };
        *self.records.entry(exchange.protocol).or_default().entry(integrity).or_default() += 1;
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

/// Why a packet was not given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The capture's link type is not decoded.
    LinkType(u32),
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// Neither TCP nor UDP nor a tunnel.
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
            Self::Comment => "comment".into(),
        }
    }
}
