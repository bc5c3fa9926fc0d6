//! gRPC messages within the DATA of a stream: each has a prefix of a flag and its length, five bytes in all
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use crate::{Text, Time};

/// Bytes in front of each message.
const PREFIX: usize = 5;

/// The messages of one direction of a call.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The part of a prefix that has been seen.
    prefix: Vec<u8>,
    /// Bytes that the current message goes on for.
    remaining: u64,
    /// Messages whose prefix was seen.
    pub(super) count: u64,
    /// When the first message began.
    pub(super) first: Option<Time>,
    /// When the last message began.
    pub(super) last: Option<Time>,
}

impl Messages {
    /// How many bytes of the next DATA belong to the current message and need not be seen.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Bytes of the current message passed.
    pub(super) fn pass(&mut self, length: u64) {
        self.remaining = self.remaining.saturating_sub(length);
    }

    /// Takes bytes of a prefix, as many as it wants, and says how many. `at`: when the first of them passed.
    pub(super) fn feed(&mut self, bytes: &[u8], at: Time) -> usize {
        let taken = bytes.get(..PREFIX - self.prefix.len()).unwrap_or(bytes);
        if self.prefix.is_empty() {
            self.first = self.first.or(Some(at));
            self.last = Some(at);
        }
        self.prefix.extend_from_slice(taken);
        if let &[_compressed, a, b, c, d] = self.prefix.as_slice() {
            self.remaining = u64::from(u32::from_be_bytes([a, b, c, d]));
            self.count += 1;
            self.prefix.clear();
        }
        taken.len()
    }
}

/// Whether a media type is that of gRPC. gRPC-Web, which has its status within the body, is not.
pub(super) fn is_grpc(content_type: &Text) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Service and method of a path "/package.Service/Method".
pub(super) fn service_and_method(path: &[u8]) -> Option<(Text, Text)> {
    let path = path.strip_prefix(b"/")?;
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let (service, method) = (path.get(..slash)?, path.get(slash + 1..)?);
    (!service.is_empty() && !method.is_empty()).then(|| (Text::from(service), Text::from(method)))
}

/// What a `grpc-status` says.
pub(super) fn status(value: &Text) -> Option<u32> {
    std::str::from_utf8(value.as_bytes()).ok()?.parse().ok()
}

/// What a percent-encoded `grpc-message` says; what is not an escape stands for itself.
pub(super) fn message(value: &Text) -> Text {
    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = escape(rest).unwrap_or((*first, tail));
        decoded.push(byte);
        rest = tail;
    }
    Text::new(decoded)
}

fn escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, tail @ ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((u8::try_from(digit(high)? << 4 | digit(low)?).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_however_they_are_cut() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x02xy";
        for cut in 1..stream.len() {
            let mut messages = Messages::default();
            for (at, part) in [(1, &stream[..cut]), (2, &stream[cut..])] {
                let mut part = part;
                while !part.is_empty() {
                    let length = match messages.remaining() {
                        0 => messages.feed(part, Time(at)),
                        remaining => {
                            let length = part.len().min(remaining as usize);
                            messages.pass(length as u64);
                            length
                        }
                    };
                    part = &part[length..];
                }
            }
            assert_eq!((messages.count, messages.remaining()), (3, 0), "cut at {cut}");
            assert_eq!(messages.first, Some(Time(1)));
            assert_eq!(messages.last, Some(Time(if cut > 13 { 1 } else { 2 })), "cut at {cut}");
        }
    }

    #[test]
    fn media_types() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=1", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&Text::from(value)), expected, "{value}");
        }
    }

    #[test]
    fn paths_and_statuses() {
        let split = |path: &str| service_and_method(path.as_bytes());
        assert_eq!(split("/a.B/C"), Some(("a.B".into(), "C".into())));
        assert_eq!(split("/x/a.B/C"), Some(("x/a.B".into(), "C".into())));
        for path in ["", "/", "a.B/C", "/a.B", "/a.B/", "//C"] {
            assert_eq!(split(path), None, "{path}");
        }
        assert_eq!(status(&"14".into()), Some(14));
        assert_eq!(status(&"fourteen".into()), None);
        for (value, expected) in
            [("a%20b", "a b"), ("%C3%BC", "ü"), ("100%", "100%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("", "")]
        {
            assert_eq!(message(&value.into()), expected, "{value}");
        }
    }
}
