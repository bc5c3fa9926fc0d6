//! The shape of what the JSON format prints; the schema is generated from these types.
//!
//! ```json
//! {"schema":1,"kind":"l7","timestamp":"2026-11-20T10:12:01.123456789Z","protocol":"http",
//!  "process":{"pid":1234,"tid":1240,"comm":"nginx","executable":"/usr/sbin/nginx"},
//!  "connection":{"id":"1234-9f3c-17","transport":"tcp","role":"server",
//!    "local":{"address":"127.0.0.1","port":8443},"remote":{"address":"127.0.0.1","port":51522},
//!    "tls":{"library":"openssl"},"tuple_source":"nested"},
//!  "sequence":3,"latency_ns":412345,
//!  "timing":{"request_start_ns":0,"request_end_ns":0,"response_start_ns":398000,"response_end_ns":412345},
//!  "request":{"bytes":78,"method":"GET"},"response":{"bytes":1243,"status":200},
//!  "integrity":{"complete":true}}
//! ```

use std::net::{IpAddr, SocketAddr};

use protocols::{Exchange, Part, Payload, Proxied, Reason, Reasons, Text, Transport};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::SCHEMA_VERSION;
use crate::ledger::{Imbalance, Ledger};
use crate::record::{ConnectionInfo, Endpoint, Process, Record, Role, Timing, Tls, TupleSource};

/// One request and its response.
#[derive(JsonSchema)]
#[schemars(title = "l7")]
pub(super) struct L7<'a> {
    /// Version of the meaning of these fields.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub(super) schema: u32,
    /// What kind of line this is.
    #[schemars(extend("const" = "l7"))]
    pub(super) kind: &'static str,
    /// When the first byte of the request passed the process, UTC; where that was not seen, the earliest moment that
    /// is known; null if there is none.
    #[schemars(extend("format" = "date-time"))]
    pub(super) timestamp: Option<&'a str>,
    /// Name of the protocol.
    pub(super) protocol: &'static str,
    /// The process that moved the bytes; absent if the bytes come from a captured file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<&'a Process>,
    pub(super) connection: Connection<'a>,
    /// Place of the request in its connection, from 0; null for a response without a seen request.
    pub(super) sequence: Option<u64>,
    /// From the first byte of the request to the last byte of the response; null if either was not seen.
    pub(super) latency_ns: Option<u64>,
    /// Moments in nanoseconds after `timestamp`; null where not known.
    pub(super) timing: Timing,
    /// The request; null if it was not seen.
    pub(super) request: Option<Message<'a>>,
    /// The response; null if it was not seen.
    pub(super) response: Option<Message<'a>>,
    pub(super) integrity: Integrity,
}

impl<'a> L7<'a> {
    pub(super) fn new(record: &Record<'a>, timestamp: Option<&'a str>) -> Self {
        let exchange = record.exchange();
        Self {
            schema: SCHEMA_VERSION,
            kind: "l7",
            timestamp,
            protocol: exchange.protocol,
            process: record.process(),
            connection: Connection::new(record.connection()),
            sequence: exchange.sequence,
            latency_ns: record.latency_ns(),
            timing: record.timing(),
            request: exchange.request.as_ref().map(Message::new),
            response: exchange.response.as_ref().map(Message::new),
            integrity: Integrity::new(exchange),
        }
    }
}

/// The loss ledger: what the tracer saw and what became of it, since it started.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "stats")]
pub(super) struct Stats<'a> {
    /// Version of the meaning of these fields.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    schema: u32,
    /// What kind of line this is.
    #[schemars(extend("const" = "stats"))]
    kind: &'static str,
    /// When the counters were read, UTC.
    #[schemars(extend("format" = "date-time"))]
    timestamp: &'a str,
    #[serde(flatten)]
    ledger: &'a Ledger,
    /// The equations between the counters that do not hold; absent if all do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imbalances: Vec<Imbalance>,
}

impl<'a> Stats<'a> {
    pub(super) fn new(ledger: &'a Ledger, timestamp: &'a str) -> Self {
        Self { schema: SCHEMA_VERSION, kind: "stats", timestamp, ledger, imbalances: ledger.balance() }
    }
}

/// The connection that carried the exchange.
#[derive(JsonSchema)]
pub(super) struct Connection<'a> {
    /// Unique for the tracer's run, the same from open to close.
    pub(super) id: &'a str,
    /// "tcp", "udp", "unix" or "sctp".
    #[schemars(extend("enum" = Transport::ALL.map(Transport::name)))]
    pub(super) transport: &'static str,
    pub(super) role: Role,
    /// The process's own end; absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) local: Option<End<'a>>,
    /// The peer's end; absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote: Option<End<'a>>,
    /// Both ends of the connection that a load balancer passes on, as its header of the PROXY protocol names them;
    /// absent if there was none, or it names none. `remote` is then the load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxied: Option<Ends<'a>>,
    /// The TLS session that the plaintext was taken from; absent on plaintext connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
    pub(super) tuple_source: TupleSource,
}

impl<'a> Connection<'a> {
    fn new(info: &'a ConnectionInfo) -> Self {
        Self {
            id: &info.id,
            transport: info.transport.name(),
            role: info.role,
            local: info.known_local().map(End::new),
            remote: info.known_remote().map(End::new),
            proxied: info.proxied.as_ref().map(Ends::new),
            tls: info.tls,
            tuple_source: info.tuple_source,
        }
    }
}

/// Both ends of a connection, as one side of it claims.
#[derive(JsonSchema)]
pub(super) struct Ends<'a> {
    /// The client's end.
    pub(super) source: End<'a>,
    /// The end that the client spoke to.
    pub(super) destination: End<'a>,
}

impl<'a> Ends<'a> {
    fn new(proxied: &'a Proxied) -> Self {
        match proxied {
            Proxied::Inet { source, destination } => {
                Self { source: End::inet(*source), destination: End::inet(*destination) }
            }
            Proxied::Unix { source, destination } => {
                Self { source: End::unix(source), destination: End::unix(destination) }
            }
        }
    }
}

/// One end of a connection.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum End<'a> {
    Inet {
        /// IPv4 or IPv6 address.
        address: IpAddr,
        port: u16,
    },
    Unix {
        /// Path of the socket: empty if it has none, beginning with `@` if it is abstract.
        path: UnixPath<'a>,
    },
}

impl<'a> End<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        match endpoint {
            Endpoint::Inet(address) => Self::inet(*address),
            Endpoint::Unix(path) => Self::unix(path),
        }
    }

    fn inet(address: SocketAddr) -> Self {
        Self::Inet { address: address.ip().to_canonical(), port: address.port() }
    }

    fn unix(path: &'a Text) -> Self {
        Self::Unix { path: UnixPath(path) }
    }
}

#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct UnixPath<'a>(&'a Text);

impl Serialize for UnixPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_bytes() {
            [0, name @ ..] => Text::new([b"@", name].concat()).serialize(serializer),
            _ => self.0.serialize(serializer),
        }
    }
}

/// A request or a response. Its other fields depend on the protocol.
#[derive(JsonSchema)]
pub(super) struct Message<'a> {
    /// Wire size of the whole message with headers and framing; null if its end was not seen.
    pub(super) bytes: Option<u64>,
    #[schemars(skip)]
    pub(super) payload: &'a dyn Payload,
}

impl<'a> Message<'a> {
    fn new(part: &'a Part) -> Self {
        Self { bytes: part.bytes, payload: part.payload.as_ref() }
    }
}

/// Whether every byte that the record depends on was seen.
#[derive(Serialize, JsonSchema)]
pub(super) struct Integrity {
    complete: bool,
    /// Why not; absent if complete.
    #[serde(skip_serializing_if = "ReasonNames::is_empty")]
    reasons: ReasonNames,
    /// Bytes that belong to the exchange and were lost; only with the reason "gap".
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_bytes: Option<u64>,
}

impl Integrity {
    fn new(exchange: &Exchange) -> Self {
        Self {
            complete: exchange.reasons.is_empty(),
            reasons: ReasonNames(exchange.reasons),
            missing_bytes: exchange.reasons.contains(Reason::Gap).then_some(exchange.missing_bytes),
        }
    }
}

struct ReasonNames(Reasons);

impl ReasonNames {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ReasonNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Reason::name))
    }
}

impl JsonSchema for ReasonNames {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reasons".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = Reason::ALL.map(Reason::name);
        schemars::json_schema!({ "type": "array", "items": { "type": "string", "enum": names }, "uniqueItems": true })
    }
}
