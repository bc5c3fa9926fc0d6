//! How long a body is (RFC 9112, section 6.3).

use super::head::{Head, RequestLine, StatusLine};
use crate::Violation;

/// Where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// With its head, or this many bytes behind it.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// When the sender closes.
    ToEnd,
    /// The head is all of HTTP that there is: the connection is something else from here on.
    Switch,
}

/// What a response's framing needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Head,
    Connect,
    /// Any other method, or a request that was not seen.
    Other,
}

impl Asked {
    pub(super) fn by(head: &Head, line: &RequestLine) -> Self {
        match head.get(line.method) {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

pub(super) fn of_request(head: &Head) -> Result<Framing, Violation> {
    match coding(head) {
        Coding::Chunked => Ok(Framing::Chunked),
        Coding::Other => Err(Violation("transfer_encoding")),
        Coding::None => Ok(Framing::Length(content_length(head)?.unwrap_or(0))),
    }
}

pub(super) fn of_response(head: &Head, line: &StatusLine, asked: Asked) -> Result<Framing, Violation> {
    match line.status {
        101 => return Ok(Framing::Switch),
        200..=299 if asked == Asked::Connect => return Ok(Framing::Switch),
        100..=199 | 204 | 304 => return Ok(Framing::Length(0)),
        _ if asked == Asked::Head => return Ok(Framing::Length(0)),
        _ => {}
    }
    match coding(head) {
        Coding::Chunked => Ok(Framing::Chunked),
        Coding::Other => Ok(Framing::ToEnd),
        Coding::None => Ok(content_length(head)?.map_or(Framing::ToEnd, Framing::Length)),
    }
}

enum Coding {
    None,
    Chunked,
    Other,
}

/// The final transfer coding decides: only chunked delimits itself. With it, Content-Length counts for nothing.
fn coding(head: &Head) -> Coding {
    let mut codings = head.values("transfer-encoding").flat_map(list).peekable();
    if codings.peek().is_none() {
        return Coding::None;
    }
    let mut chunked = 0;
    let mut last = false;
    for coding in codings {
        last = coding.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(last);
    }
    if last && chunked == 1 { Coding::Chunked } else { Coding::Other }
}

/// Equal values may be repeated, in one field or in several.
fn content_length(head: &Head) -> Result<Option<u64>, Violation> {
    let mut length = None;
    for value in head.values("content-length") {
        for item in value.split(|&byte| byte == b',') {
            let item = digits(item.trim_ascii()).ok_or(Violation("content_length"))?;
            if length.is_some_and(|length| length != item) {
                return Err(Violation("content_length_conflict"));
            }
            length = Some(item);
        }
    }
    Ok(length)
}

fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The elements of a comma-separated list (RFC 9110, section 5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}
