//! The comment that a recording attaches to each packet: what the packet itself can't say.
//!
//! `tracer.v1 key=value key=value …`; values are percent-encoded. Keys are added freely and never given another
//! meaning; unknown ones are ignored. See `docs/replay.md` for the list.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use protocols::{Direction, Layer, Text, Transport};

use crate::record::{ConnectionInfo, Endpoint, Process, Role, Tls, TupleSource};

const PREFIX: &str = "tracer.v1";

/// Positions and lengths beyond this are not believed: sums of them must not overflow.
const MAX_POSITION: u64 = 1 << 60;

/// What a packet of a recording stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection begins.
    Open,
    /// Bytes of a stream or a datagram.
    Data {
        direction: Direction,
        layer: Layer,
        /// Place in the stream; meaningless for datagrams.
        position: u64,
        /// Full length; what is beyond the packet's payload was cut off.
        length: u64,
        /// How long the transfer took; it ended at the packet's time.
        duration_ns: u64,
    },
    /// Nothing more comes in this direction.
    End { direction: Direction },
    /// The connection is over.
    Close,
}

/// A whole comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub event: Event,
    pub info: ConnectionInfo,
    pub process: Option<Process>,
    /// The connection may have begun before it could be seen.
    pub midstream: bool,
    /// The direction that carries the client's bytes, where the way the socket was made tells.
    pub client: Option<Direction>,
}

/// A comment of this program that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Annotation {
    /// Reads a comment; `None` if it is not one of a recording.
    pub fn parse(comment: &str) -> Option<Result<Self, Unreadable>> {
        let rest = comment.strip_prefix(PREFIX)?;
        let pairs = rest.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        let fields: BTreeMap<&str, &str> = pairs.collect();
        Some(Fields(fields).annotation().ok_or(Unreadable))
    }

    /// Writes the comment.
    pub fn write(&self) -> String {
        let mut out = String::from(PREFIX);
        let mut field = |key: &str, value: &[u8]| {
            let _ = write!(out, " {key}=");
            encode(value, &mut out);
        };
        let mut text = |key: &str, value: &str| field(key, value.as_bytes());
        text("event", self.event.name());
        text("connection", &self.info.id);
        text("transport", self.info.transport.name());
        text("role", self.info.role.name());
        text("midstream", if self.midstream { "true" } else { "false" });
        text("tuple_source", tuple_source_name(self.info.tuple_source));
        if let Some(client) = self.client {
            text("client", direction_name(client));
        }
        if let Some(tls) = self.info.tls {
            text("tls", tls.library);
        }
        if let Event::Data { direction, layer, position, length, duration_ns } = self.event {
            text("direction", direction_name(direction));
            text("layer", layer_name(layer));
            text("position", &position.to_string());
            text("length", &length.to_string());
            text("duration_ns", &duration_ns.to_string());
        }
        if let Event::End { direction } = self.event {
            text("direction", direction_name(direction));
        }
        for (key, endpoint) in [("local", &self.info.local), ("remote", &self.info.remote)] {
            match endpoint {
                Some(Endpoint::Inet(address)) => field(key, address.to_string().as_bytes()),
                Some(Endpoint::Unix(path)) => field(key, &[b"unix:", path.as_bytes()].concat()),
                None => {}
            }
        }
        if let Some(process) = &self.process {
            write_process(process, &mut field);
        }
        out
    }
}

fn write_process(process: &Process, field: &mut dyn FnMut(&str, &[u8])) {
    let Process { pid, tid, comm, executable, namespace_pid, container_id } = process;
    field("pid", pid.to_string().as_bytes());
    if let Some(tid) = tid {
        field("tid", tid.to_string().as_bytes());
    }
    field("comm", comm.as_bytes());
    if let Some(executable) = executable {
        field("executable", executable.as_bytes());
    }
    if let Some(pid) = namespace_pid {
        field("namespace_pid", pid.to_string().as_bytes());
    }
    if let Some(id) = container_id {
        field("container_id", id.as_bytes());
    }
}

struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl Fields<'_> {
    fn annotation(&self) -> Option<Annotation> {
        Some(Annotation {
            event: self.event()?,
            info: self.info()?,
            process: self.process()?,
            midstream: self.text("midstream")? == "true",
            client: self.optional("client", |fields| fields.direction("client"))?,
        })
    }

    fn event(&self) -> Option<Event> {
        match self.0.get("event").copied()? {
            "open" => Some(Event::Open),
            "data" => Some(Event::Data {
                direction: self.direction("direction")?,
                layer: *LAYERS.iter().find(|layer| Some(layer_name(**layer)) == self.0.get("layer").copied())?,
                position: self.number("position")?,
                length: self.number("length")?,
                duration_ns: self.number("duration_ns")?,
            }),
            "end" => Some(Event::End { direction: self.direction("direction")? }),
            "close" => Some(Event::Close),
            _ => None,
        }
    }

    fn info(&self) -> Option<ConnectionInfo> {
        let transport = self.0.get("transport").copied()?;
        let role = self.0.get("role").copied()?;
        let tuple_source = self.0.get("tuple_source").copied()?;
        let tls = self.text("tls").and_then(|name| TLS_LIBRARIES.into_iter().find(|library| *library == name));
        Some(ConnectionInfo {
            id: self.text("connection")?,
            transport: Transport::ALL.into_iter().find(|known| known.name() == transport)?,
            role: ROLES.into_iter().find(|known| known.name() == role)?,
            local: self.optional("local", |fields| fields.endpoint("local"))?,
            remote: self.optional("remote", |fields| fields.endpoint("remote"))?,
            // The header is in the recording.
            proxied: None,
            tls: tls.map(|library| Tls { library }),
            tuple_source: TUPLE_SOURCES.into_iter().find(|known| tuple_source_name(*known) == tuple_source)?,
        })
    }

    fn process(&self) -> Option<Option<Process>> {
        self.optional("pid", |fields| {
            Some(Process {
                pid: fields.id("pid")?,
                tid: fields.optional("tid", |fields| fields.id("tid"))?,
                comm: Text::new(fields.bytes("comm")?),
                executable: fields.bytes("executable").map(Text::new),
                namespace_pid: fields.optional("namespace_pid", |fields| fields.id("namespace_pid"))?,
                container_id: fields.text("container_id"),
            })
        })
    }

    /// `Some(None)` if the key is absent, `None` if its value can't be read.
    fn optional<T>(&self, key: &str, read: impl FnOnce(&Self) -> Option<T>) -> Option<Option<T>> {
        if self.0.contains_key(key) { read(self).map(Some) } else { Some(None) }
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        decode(self.0.get(key)?)
    }

    fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.bytes(key)?).ok()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.parse().ok().filter(|number| *number <= MAX_POSITION)
    }

    fn id(&self, key: &str) -> Option<u32> {
        self.0.get(key)?.parse().ok()
    }

    fn direction(&self, key: &str) -> Option<Direction> {
        let name = self.0.get(key).copied()?;
        [Direction::Read, Direction::Write].into_iter().find(|direction| direction_name(*direction) == name)
    }

    fn endpoint(&self, key: &str) -> Option<Endpoint> {
        let bytes = self.bytes(key)?;
        if let Some(path) = bytes.strip_prefix(b"unix:") {
            return Some(Endpoint::Unix(Text::from(path)));
        }
        let address: SocketAddr = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
        Some(Endpoint::Inet(address))
    }
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Data { .. } => "data",
            Self::End { .. } => "end",
            Self::Close => "close",
        }
    }
}

const LAYERS: [Layer; 2] = [Layer::Socket, Layer::Tls];
const ROLES: [Role; 3] = [Role::Server, Role::Client, Role::Unknown];
const TLS_LIBRARIES: [&str; 7] = ["openssl", "boringssl", "gnutls", "nss", "go", "rustls", "ktls"];
const TUPLE_SOURCES: [TupleSource; 6] = [
    TupleSource::Socket,
    TupleSource::Nested,
    TupleSource::Ciphertext,
    TupleSource::Fd,
    TupleSource::Packet,
    TupleSource::None,
];

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

fn layer_name(layer: Layer) -> &'static str {
    match layer {
        Layer::Socket => "socket",
        Layer::Tls => "tls",
    }
}

fn tuple_source_name(source: TupleSource) -> &'static str {
    match source {
        TupleSource::Socket => "socket",
        TupleSource::Nested => "nested",
        TupleSource::Ciphertext => "ciphertext",
        TupleSource::Fd => "fd",
        TupleSource::Packet => "packet",
        TupleSource::None => "none",
    }
}

/// Percent-encoding (RFC 3986 section 2.1) of everything that is not plainly readable in a comment.
fn encode(value: &[u8], out: &mut String) {
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~/:@[],+".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(event: Event) -> Annotation {
        Annotation {
            event,
            info: ConnectionInfo {
                id: "1234-9f3c-17".into(),
                transport: Transport::Tcp,
                role: Role::Client,
                local: Some(Endpoint::Inet("[2001:db8::1]:443".parse().unwrap())),
                remote: Some(Endpoint::Inet("127.0.0.1:51522".parse().unwrap())),
                proxied: None,
                tls: Some(Tls { library: "gnutls" }),
                tuple_source: TupleSource::Ciphertext,
            },
            process: Some(Process {
                pid: 1234,
                tid: Some(1240),
                comm: Text::new(b"a b=c%\xff\n".to_vec()),
                executable: Some("/opt/with space/ü".into()),
                namespace_pid: Some(1),
                container_id: Some("c0ffee".into()),
            }),
            midstream: true,
            client: Some(Direction::Write),
        }
    }

    #[test]
    fn every_field_comes_back() {
        let data = Event::Data {
            direction: Direction::Write,
            layer: Layer::Tls,
            position: 1 << 40,
            length: 9,
            duration_ns: 12,
        };
        for event in [Event::Open, data, Event::End { direction: Direction::Read }, Event::Close] {
            let annotation = full(event);
            let comment = annotation.write();
            assert!(comment.is_ascii() && !comment.contains('\n'), "{comment}");
            assert_eq!(Annotation::parse(&comment), Some(Ok(annotation)), "{comment}");
        }
    }

    #[test]
    fn what_is_not_known_stays_absent() {
        let mut annotation = full(Event::Open);
        annotation.process = None;
        annotation.client = None;
        annotation.info = ConnectionInfo {
            local: Some(Endpoint::Unix("\0abstract".into())),
            remote: None,
            tls: None,
            transport: Transport::Unix,
            ..annotation.info
        };
        assert_eq!(Annotation::parse(&annotation.write()), Some(Ok(annotation)));
    }

    #[test]
    fn comments_of_others_are_left_alone_and_broken_ones_named() {
        assert_eq!(Annotation::parse("GET looks slow here"), None);
        let whole = full(Event::Open).write();
        for broken in ["tracer.v1", "tracer.v1 event=data", &whole.replace("pid=1234", "pid=x")] {
            assert_eq!(Annotation::parse(broken), Some(Err(Unreadable)), "{broken}");
        }
        let overflow = full(Event::Close).write().replace("event=close", "event=data direction=read layer=tls")
            + " position=18446744073709551615 length=1 duration_ns=0";
        assert_eq!(Annotation::parse(&overflow), Some(Err(Unreadable)));
    }
}
