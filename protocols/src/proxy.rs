//! The PROXY protocol, versions 1 and 2: a header that a load balancer puts in front of what the client says.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The header is passed over; the connection's records
//! are those of what follows it. The addresses in it are the sender's claim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{Cursor, Text};

/// Section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands before the length, and the length.
const FIXED: usize = 16;

/// The longest header of version 2 that is believed: addresses take 216 bytes at most, and the rest is a few TLVs, of
/// which one may be the subject of a certificate.
const LONGEST: usize = 2048;

/// The longest line of version 1 (section 2.1), line end included.
const LINE: usize = 107;

/// Bytes of a path in a header of version 2 (section 2.2), filled up with zeros.
const PATH: usize = 108;

/// Both ends of the connection that a load balancer has accepted and passes on, as its header names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A connection over IP.
    Inet {
        /// The client's end.
        source: SocketAddr,
        /// The end that the client spoke to.
        destination: SocketAddr,
    },
    /// A connection over a unix socket: its paths, beginning with a zero byte if abstract.
    Unix {
        /// The client's end.
        source: Text,
        /// The end that the client spoke to.
        destination: Text,
    },
}

/// What the first bytes of a stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// No header.
    No,
    /// Perhaps the beginning of one.
    More,
    /// A header of this length, and what it names, if anything: a connection that the load balancer makes for itself
    /// (a health check), or whose ends it does not know, has no ends in it.
    Header(usize, Option<Proxied>),
}

/// Looks at the first bytes of a stream.
pub(crate) fn look(head: &[u8]) -> Look {
    if head.first() == Some(&b'P') { version_1(head) } else { version_2(head) }
}

fn version_2(head: &[u8]) -> Look {
    if !is_beginning(head, SIGNATURE) {
        return Look::No;
    }
    let Some(&[command, family, high, low]) = head.get(12..FIXED) else { return Look::More };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    // Version 2 and LOCAL or PROXY; family and transport (sections 2.2, 2.2.1).
    let known = matches!(command, 0x20 | 0x21) && family >> 4 <= 3 && family & 0xf <= 2;
    if !known || length >= LONGEST {
        return Look::No;
    }
    let Some(body) = head.get(FIXED..length) else { return Look::More };
    if command == 0x20 || family >> 4 == 0 {
        return Look::Header(length, None);
    }
    match addresses(family >> 4, body) {
        Some(proxied) => Look::Header(length, Some(proxied)),
        None => Look::No,
    }
}

/// The addresses of a header of version 2; `None` if they are not all there.
fn addresses(family: u8, body: &[u8]) -> Option<Proxied> {
    let mut cursor = Cursor::new(body);
    if family == 3 {
        let (source, destination) = (cursor.take(PATH)?, cursor.take(PATH)?);
        return Some(Proxied::Unix { source: path(source), destination: path(destination) });
    }
    let mut address = || match family {
        1 => cursor.array().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        _ => cursor.array().map(|bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes))),
    };
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port) = (cursor.u16_be()?, cursor.u16_be()?);
    Some(Proxied::Inet {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// A path without the zeros behind it.
fn path(bytes: &[u8]) -> Text {
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    Text::from(bytes.get(..length).unwrap_or_default())
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, or `PROXY UNKNOWN` and anything.
fn version_1(head: &[u8]) -> Look {
    let line = head.get(..LINE).unwrap_or(head);
    if !is_beginning(line, b"PROXY ") {
        return Look::No;
    }
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < LINE && !line.contains(&b'\n') { Look::More } else { Look::No };
    };
    let text = std::str::from_utf8(line.get(..end).unwrap_or_default()).unwrap_or_default();
    let words: Vec<&str> = text.split(' ').skip(1).collect();
    match words.as_slice() {
        ["UNKNOWN", ..] => Look::Header(end + 2, None),
        [family @ ("TCP4" | "TCP6"), ends @ ..] => match named(*family == "TCP4", ends) {
            Some(proxied) => Look::Header(end + 2, Some(proxied)),
            None => Look::No,
        },
        _ => Look::No,
    }
}

/// The addresses in a line of version 1.
fn named(ipv4: bool, ends: &[&str]) -> Option<Proxied> {
    let [source, destination, source_port, destination_port] = ends else { return None };
    let end = |address: &str, port: &str| {
        let address = address.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == ipv4)?;
        Some(SocketAddr::new(address, port.parse().ok()?))
    };
    Some(Proxied::Inet { source: end(source, source_port)?, destination: end(destination, destination_port)? })
}

/// Whether `head` begins with `expected`, or `expected` with it.
fn is_beginning(head: &[u8], expected: &[u8]) -> bool {
    head.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{assert_split_invariant, context, run};
    use crate::{Connection, Direction, Layer, Registration, Segment, Side, Span, Transport, registry};

    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

    fn v2(addresses: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[0x21, 0x11], &(addresses.len() as u16).to_be_bytes(), addresses].concat()
    }

    fn inet(source: &str, destination: &str) -> Option<Proxied> {
        Some(Proxied::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn headers_are_told_from_what_only_begins_like_one() {
        let whole = v2(&[1; 12]);
        let ends = inet("1.1.1.1:257", "1.1.1.1:257");
        for (name, head, expected) in [
            ("version 1", V1.to_vec(), Look::Header(V1.len(), inet("192.0.2.1:56324", "192.0.2.2:443"))),
            (
                "IPv6",
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(),
                Look::Header(32, inet("[2001:db8::1]:1", "[::1]:2")),
            ),
            ("unknown", b"PROXY UNKNOWN\r\nGET".to_vec(), Look::Header(15, None)),
            ("unknown, with text", b"PROXY UNKNOWN ffff:: x\r\n".to_vec(), Look::Header(24, None)),
            ("version 2", [&whole[..], b"GET /"].concat(), Look::Header(28, ends)),
            ("version 2 without addresses", [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(), Look::Header(16, None)),
            ("a health check", [&SIGNATURE[..], &[0x20, 0x11, 0, 12], &[1; 12]].concat(), Look::Header(28, None)),
            ("addresses cut short", [&SIGNATURE[..], &[0x21, 0x11, 0, 11], &[1; 11]].concat(), Look::No),
            ("a method", b"PROXY / HTTP/1.1\r\n".to_vec(), Look::No),
            ("no addresses", b"PROXY TCP4 a b 1 2\r\n".to_vec(), Look::No),
            ("the other family", b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), Look::No),
            ("a port too large", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n".to_vec(), Look::No),
            ("a line without an end", [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(), Look::No),
            ("a line with another end", b"PROXY TCP4 1 2 3 4\n".to_vec(), Look::No),
            ("version 3", [&SIGNATURE[..], &[0x31, 0x11, 0, 12]].concat(), Look::No),
            ("a length beyond belief", [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(), Look::No),
            ("empty lines before a request", b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(), Look::No),
        ] {
            assert_eq!(look(&head), expected, "{name}");
        }
        for whole in [V1.to_vec(), whole] {
            (0..whole.len()).for_each(|length| assert_eq!(look(&whole[..length]), Look::More, "{length} bytes"));
        }
    }

    #[test]
    fn addresses_of_every_family_are_read() {
        let with = |family: u8, body: &[u8]| {
            let length = (body.len() as u16).to_be_bytes();
            look(&[&SIGNATURE[..], &[0x21, family], &length, body].concat())
        };
        // Two addresses, two ports, and a TLV behind them that is none of our business.
        let ipv6 = [&[0x20; 16][..], &[0x30; 16], &[0, 80, 1, 187], &[4, 0, 1, 0]].concat();
        let same = "2020:2020:2020:2020:2020:2020:2020:2020";
        let other = "3030:3030:3030:3030:3030:3030:3030:3030";
        let ends = inet(&format!("[{same}]:80"), &format!("[{other}]:443"));
        assert_eq!(with(0x21, &ipv6), Look::Header(FIXED + ipv6.len(), ends));
        let mut unix = vec![0; 2 * PATH];
        unix[1..4].copy_from_slice(b"abs");
        unix[PATH..PATH + 4].copy_from_slice(b"/run");
        let ends = Proxied::Unix { source: Text::from(&b"\0abs"[..]), destination: "/run".into() };
        assert_eq!(with(0x31, &unix), Look::Header(FIXED + 2 * PATH, Some(ends)));
    }

    fn named(name: &str) -> &'static Registration {
        registry::ALL.iter().find(|registration| registration.names == [name]).expect("a protocol")
    }

    /// Who said what.
    type Script = Vec<(Side, Vec<u8>)>;

    /// A conversation of each kind: the client first, and the server first.
    fn conversations() -> [(&'static Registration, Script); 2] {
        let http = vec![
            (Side::Client, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
            (Side::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ];
        let redis = vec![(Side::Client, b"*1\r\n$4\r\nPING\r\n".to_vec()), (Side::Server, b"+PONG\r\n".to_vec())];
        [(named("http"), http), (named("redis"), redis)]
    }

    fn borrowed(script: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
        script.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
    }

    /// Without times, which differ where the header is a transfer of its own.
    fn timeless(mut records: Vec<Value>) -> Vec<Value> {
        for record in &mut records {
            for part in ["request", "response"] {
                record[part]["start"] = json!(null);
                record[part]["end"] = json!(null);
            }
        }
        records
    }

    #[test]
    fn records_are_those_of_what_follows() {
        for header in [V1.to_vec(), b"PROXY UNKNOWN\r\n".to_vec(), v2(&[1; 12]), v2(&[2; 300])] {
            for (registration, script) in conversations() {
                let plain = run(registration, &borrowed(&script));
                assert_eq!(plain.len(), 1);
                let mut apart = script.clone();
                apart.insert(0, (Side::Client, header.clone()));
                assert_eq!(timeless(run(registration, &borrowed(&apart))), timeless(plain.clone()));
                let mut together = script;
                together[0].1.splice(..0, header.iter().copied());
                assert_eq!(assert_split_invariant(registration, &borrowed(&together)), plain);
            }
        }
    }

    #[test]
    fn the_header_says_who_is_the_client_and_is_counted() {
        let candidates = [named("http")];
        let mut connection = Connection::new(candidates.into(), context(Transport::Tcp, false), None);
        let mut exchanges = Vec::new();
        let segment = Segment { position: 0, bytes: V1, length: V1.len() as u64, span: Span::default() };
        connection.data(Layer::Socket, Direction::Write, segment, &mut exchanges);
        assert_eq!(connection.client(), Some(Direction::Write));
        assert_eq!(connection.counters().proxy_headers, 1);
        assert_eq!(connection.proxied().cloned(), inet("192.0.2.1:56324", "192.0.2.2:443"));
        assert_eq!(connection.buffered(), 0);
    }

    proptest! {
        #[test]
        fn a_header_is_never_longer_than_what_is_there(head in proptest::collection::vec(any::<u8>(), 0..300), v1: bool) {
            let begun = if v1 { b"PROXY ".to_vec() } else { SIGNATURE.to_vec() };
            let head = [begun, head].concat();
            if let Look::Header(length, _) = look(&head) {
                prop_assert!(length <= head.len() && length > 0);
            }
        }
    }
}
