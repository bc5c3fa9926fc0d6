//! The connection that carried a record.

use std::net::SocketAddr;

use protocols::{Proxied, Text, Transport};
use schemars::JsonSchema;
use serde::Serialize;

/// What is known of the connection (or datagram flow) that carried an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Unique for the tracer's run, the same from open to close.
    pub id: String,
    /// How the bytes are carried.
    pub transport: Transport,
    /// Whether the process answers or asks.
    pub role: Role,
    /// The process's own end. Printed only if `tuple_source` vouches for it.
    pub local: Option<Endpoint>,
    /// The peer's end. Printed only if `tuple_source` vouches for it.
    pub remote: Option<Endpoint>,
    /// What a load balancer in front says of the connection that it passes on (PROXY protocol).
    pub proxied: Option<Proxied>,
    /// The TLS library that the plaintext was taken from; `None` on plaintext connections.
    pub tls: Option<Tls>,
    /// How the two ends were found.
    pub tuple_source: TupleSource,
}

impl ConnectionInfo {
    /// The process's own end, if it is known for sure.
    pub fn known_local(&self) -> Option<&Endpoint> {
        self.vouched(&self.local)
    }

    /// The peer's end, if it is known for sure.
    pub fn known_remote(&self) -> Option<&Endpoint> {
        self.vouched(&self.remote)
    }

    fn vouched<'a>(&self, endpoint: &'a Option<Endpoint>) -> Option<&'a Endpoint> {
        endpoint.as_ref().filter(|_| self.tuple_source != TupleSource::None)
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Address and port. An IPv4 peer of an IPv6 socket is printed as the IPv4 address that is on the wire.
    Inet(SocketAddr),
    /// Path of a unix socket: empty if unnamed, beginning with a zero byte if abstract (printed as `@`).
    Unix(Text),
}

/// Whether the process answers or asks: from how the socket was made, never from port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The process answers the requests.
    Server,
    /// The process sends the requests.
    Client,
    /// Not known yet.
    Unknown,
}

impl Role {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Unknown => "unknown",
        }
    }
}

/// The TLS session that plaintext was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tls {
    /// Name of the library: "openssl", "boringssl", "gnutls", "nss", "go", "rustls", "ktls".
    pub library: &'static str,
}

/// How the addresses of a connection were found. A guess by time or thread alone is not a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TupleSource {
    /// Plaintext: the hook had the socket itself.
    Socket,
    /// A socket call inside the TLS call.
    Nested,
    /// Bytes that the TLS library made were seen on the socket.
    Ciphertext,
    /// The TLS library was told the file descriptor, or procfs knew it.
    Fd,
    /// A captured packet carries its addresses itself.
    Packet,
    /// Not found: no addresses are printed.
    None,
}
