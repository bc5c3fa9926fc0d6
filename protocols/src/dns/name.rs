//! Domain names: reading them with compression, comparing and printing them.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Cursor;

/// Wire length of the longest name without the root's zero (RFC 1035 §3.1: 255 in all).
const LONGEST: usize = 254;

/// Compression pointers followed for one name. A name has at most 127 labels, and a sensible writer needs no more
/// than one pointer for each.
const HOPS: usize = 127;

/// A domain name as it was on the wire, uncompressed: labels with their length bytes, without the root's zero.
///
/// Prints without the trailing dot, the root as ".". Dots and backslashes inside a label and bytes that are not
/// printable ASCII are escaped (RFC 1035 §5.1, RFC 4343 §2.1). Compares without regard to ASCII case (RFC 4343 §3),
/// so that a resolver's random capitals make no difference.
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
    wire: Vec<u8>,
}

impl Name {
    /// Reads the name at `cursor`, whose position counts from the start of `message`. `None`: the bytes end, or are
    /// not a name. Pointers must lead backwards, each further than the one before.
    pub(super) fn read<'a>(cursor: &mut Cursor<'a>, message: &'a [u8]) -> Option<Self> {
        let mut name = Self::default();
        let mut floor = cursor.position();
        let mut jumped: Option<Cursor<'a>> = None;
        let mut hops = 0;
        loop {
            let reader = jumped.as_mut().unwrap_or(cursor);
            let first = reader.u8()?;
            match first & 0xc0 {
                0 if first == 0 => return Some(name),
                0 => name.push(reader.take(usize::from(first))?)?,
                0xc0 => {
                    let target = usize::from(first & 0x3f) << 8 | usize::from(reader.u8()?);
                    hops += 1;
                    if target >= floor || hops > HOPS {
                        return None;
                    }
                    floor = target;
                    let mut next = Cursor::new(message);
                    next.take(target)?;
                    jumped = Some(next);
                }
                _ => return None,
            }
        }
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        if self.wire.len() + 1 + label.len() > LONGEST {
            return None;
        }
        self.wire.push(u8::try_from(label.len()).ok()?);
        self.wire.extend_from_slice(label);
        Some(())
    }

    /// The labels from the left.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut cursor = Cursor::new(&self.wire);
        std::iter::from_fn(move || {
            let length = cursor.u8()?;
            cursor.take(usize::from(length))
        })
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        // Length bytes are below 64: no letter is mistaken for one.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.is_empty() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            escape(f, label, b".\\")?;
        }
        Ok(())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes `bytes` in the manner of RFC 1035 §5.1: a backslash before each of `special`, and `\DDD` for what is not
/// printable ASCII. A space is printable only where it is not special to be so: inside quotes.
fn escape(f: &mut impl fmt::Write, bytes: &[u8], special: &[u8]) -> fmt::Result {
    let quoted = special.contains(&b'"');
    for &byte in bytes {
        match byte {
            _ if special.contains(&byte) => write!(f, "\\{}", char::from(byte))?,
            b' ' if quoted => f.write_char(' ')?,
            0x21..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "\\{byte:03}")?,
        }
    }
    Ok(())
}

/// Writes a character-string in quotes.
pub(super) fn quote(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    escape(f, bytes, b"\"\\")?;
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at(message: &[u8], at: usize) -> Option<String> {
        let mut cursor = Cursor::new(message);
        cursor.take(at)?;
        Name::read(&mut cursor, message).map(|name| name.to_string())
    }

    #[test]
    fn names() {
        let long = [[63; 64].as_slice(), &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
        let too_long = [[63; 64].as_slice(), &[63; 64], &[63; 64], &[62; 63], &[0]].concat();
        let text = |labels: [usize; 4]| labels.map(|n| if n == 63 { "?".repeat(63) } else { "=".repeat(n) }).join(".");
        let chain: Vec<u8> =
            [0u8, 0].into_iter().chain((0..200u16).flat_map(|i| (0xc000 | (i * 2)).to_be_bytes())).collect();
        let cases: &[(&str, &[u8], usize, Option<&str>)] = &[
            ("root", b"\0", 0, Some(".")),
            ("plain", b"\x03www\x07Example\0", 0, Some("www.Example")),
            ("compressed", b"\x01a\0\x01b\xc0\x00", 3, Some("b.a")),
            ("pointer to the root", b"\0\xc0\x00", 1, Some(".")),
            ("dot and backslash", b"\x04a.b\\\0", 0, Some("a\\.b\\\\")),
            ("odd bytes", b"\x05a \xc3\xbc\0\0", 0, Some("a\\032\\195\\188\\000")),
            ("to itself", b"\xc0\x00", 0, None),
            ("forward", b"\xc0\x02\x01a\0", 0, None),
            ("loop of two", b"\xc0\x02\xc0\x00", 2, None),
            ("loop over a label", b"\x01a\xc0\x00", 0, None),
            ("reserved label type", b"\x40a\0", 0, None),
            ("cut in a label", b"\x05ab", 0, None),
            ("cut in a pointer", b"\0\xc0", 1, None),
            ("no end", b"\x01a", 0, None),
            ("127 pointers", &chain, 2 + 126 * 2, Some(".")),
            ("128 pointers", &chain, 2 + 127 * 2, None),
            ("255 bytes", &long, 0, Some(&text([63, 63, 63, 61]))),
            ("256 bytes", &too_long, 0, None),
        ];
        for (case, message, at, expected) in cases {
            assert_eq!(read_at(message, *at).as_deref(), *expected, "{case}");
        }
    }

    #[test]
    fn names_compare_without_case() {
        let read = |bytes: &[u8]| Name::read(&mut Cursor::new(bytes), bytes).unwrap();
        assert_eq!(read(b"\x03wWw\x01A\0"), read(b"\x03Www\x01a\0"));
        assert_ne!(read(b"\x03www\x01a\0"), read(b"\x03www\x01b\0"));
        assert_ne!(read(b"\x03a.b\0"), read(b"\x01a\x01b\0"));
    }
}
