//! The PROXY protocol, versions 1 and 2: a header that a load balancer puts in front of what the client says.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The header is passed over; the connection's records
//! are those of what follows it. The addresses in it, which are the sender's claim, are not printed.

/// Section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands before the length, and the length.
const FIXED: usize = 16;

/// The longest header of version 2 that is believed: addresses take 216 bytes at most, and the rest is a few TLVs, of
/// which one may be the subject of a certificate.
const LONGEST: usize = 2048;

/// The longest line of version 1 (section 2.1), line end included.
const LINE: usize = 107;

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// No header.
    No,
    /// Perhaps the beginning of one.
    More,
    /// A header of this length.
    Header(usize),
}

/// Looks at the first bytes of a stream.
pub(crate) fn look(head: &[u8]) -> Look {
    if head.first() == Some(&b'P') { version_1(head) } else { version_2(head) }
}

fn version_2(head: &[u8]) -> Look {
    let length = match head.get(12..FIXED) {
        _ if !is_beginning(head, SIGNATURE) => return Look::No,
        None => return Look::More,
        // Version 2 and LOCAL or PROXY; family and transport (sections 2.2, 2.2.1).
        Some(&[0x20 | 0x21, family, high, low]) if family >> 4 <= 3 && family & 0xf <= 2 => {
            FIXED + usize::from(u16::from_be_bytes([high, low]))
        }
        Some(_) => return Look::No,
    };
    match length {
        LONGEST.. => Look::No,
        _ if length <= head.len() => Look::Header(length),
        _ => Look::More,
    }
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
    let text = line.get(..end).unwrap_or_default();
    let mut words = text.split(|&byte| byte == b' ').skip(1);
    let known = match words.next() {
        Some(b"UNKNOWN") => true,
        Some(b"TCP4" | b"TCP6") => words.count() == 4,
        _ => false,
    };
    if known { Look::Header(end + 2) } else { Look::No }
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

    #[test]
    fn headers_are_told_from_what_only_begins_like_one() {
        let whole = v2(&[1; 12]);
        for (name, head, expected) in [
            ("version 1", V1.to_vec(), Look::Header(V1.len())),
            ("unknown", b"PROXY UNKNOWN\r\nGET".to_vec(), Look::Header(15)),
            ("unknown, with text", b"PROXY UNKNOWN ffff:: x\r\n".to_vec(), Look::Header(24)),
            ("version 2", [&whole[..], b"GET /"].concat(), Look::Header(28)),
            ("version 2 without addresses", [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(), Look::Header(16)),
            ("a method", b"PROXY / HTTP/1.1\r\n".to_vec(), Look::No),
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

    fn named(name: &str) -> &'static Registration {
        registry::ALL.iter().find(|registration| registration.names == [name]).expect("a protocol")
    }

    type Talk = Vec<(Side, Vec<u8>)>;

    fn conversations() -> [(&'static Registration, Talk); 2] {
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
        assert_eq!(connection.buffered(), 0);
    }

    proptest! {
        #[test]
        fn a_header_is_never_longer_than_what_is_there(head in proptest::collection::vec(any::<u8>(), 0..300), v1: bool) {
            let begun = if v1 { b"PROXY ".to_vec() } else { SIGNATURE.to_vec() };
            let head = [begun, head].concat();
            if let Look::Header(length) = look(&head) {
                prop_assert!(length <= head.len() && length > 0);
            }
        }
    }
}
