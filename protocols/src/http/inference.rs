//! Recognising HTTP/1 from the first bytes, and finding a message's beginning after a gap.

use super::head::{self, Head, RequestLine, StatusLine};
use crate::{Boundary, Inference, Sender, Side, Transport};

/// The IANA's registry of methods (RFC 9110, section 16.1.1), without PRI, which opens HTTP/2, and with two more that
/// are in use. Anything else is recognised by its whole line only, and not at all after a gap: the end of a body and
/// the next request's line together make a line with an unknown method.
const KNOWN_METHODS: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// So much of a target behind a known method is beyond doubt, although the line's end has not been seen.
const LONG_TARGET: usize = 256;

pub(super) fn infer(head: &[u8], _: Transport) -> Inference {
    let start = leading_line_ends(head);
    let bytes = head.get(start..).unwrap_or_default();
    if bytes.is_empty() {
        return Inference::More;
    }
    if may_be_response(bytes) {
        return infer_response(bytes);
    }
    match head::line(bytes) {
        Some((line, _)) if RequestLine::parse(line).is_ok() => Inference::Sure(Sender::Client),
        Some(_) => Inference::No,
        None => infer_partial_request(bytes),
    }
}

fn may_be_response(bytes: &[u8]) -> bool {
    b"HTTP/1.".starts_with(bytes) || bytes.starts_with(b"HTTP/1.")
}

/// "HTTP/1.1 200" and what must follow it.
fn infer_response(bytes: &[u8]) -> Inference {
    const ENOUGH: usize = "HTTP/1.1 200 ".len();
    let shape = |(index, byte): (usize, &u8)| match index {
        0..7 => true,
        7 | 10 | 11 => byte.is_ascii_digit(),
        8 => *byte == b' ',
        9 => (b'1'..=b'9').contains(byte),
        _ => b" \r\n".contains(byte),
    };
    match bytes.iter().take(ENOUGH).enumerate().all(shape) {
        true if bytes.len() >= ENOUGH => Inference::Sure(Sender::Server),
        true => Inference::More,
        false => Inference::No,
    }
}

fn infer_partial_request(bytes: &[u8]) -> Inference {
    let method = bytes.iter().take_while(|&&byte| head::is_token_byte(byte)).count();
    if method > head::MAX_METHOD {
        return Inference::No;
    }
    let (method, rest) = bytes.split_at(method);
    let target = match rest {
        [] => return Inference::More,
        [b' ', target @ ..] if !method.is_empty() => target,
        _ => return Inference::No,
    };
    if target.iter().any(|&byte| (byte < b' ' && byte != b'\r') || byte == 0x7f) {
        return Inference::No;
    }
    let known = KNOWN_METHODS.iter().any(|known| known.as_bytes() == method);
    let shape = target.starts_with(b"/") || target.starts_with(b"http://") || target.starts_with(b"https://");
    if known && shape && target.len() >= LONG_TARGET { Inference::Sure(Sender::Client) } else { Inference::More }
}

/// How many CR and LF stand at the start (RFC 9112, section 2.2).
pub(super) fn leading_line_ends(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count()
}

/// Finds a whole head: at a transfer's start, or (`anywhere`, on connections that pipeline) at a line's start.
pub(super) fn boundary(side: Side, bytes: &[u8], transfer_start: bool, anywhere: bool) -> Boundary {
    let lead = leading_line_ends(bytes);
    if lead > 0 && !anywhere {
        // They may be all that is left of a message whose other bytes were lost: what is behind them begins a transfer
        // only if it has one of its own.
        return Boundary::None { discard: lead };
    }
    let mut at = if transfer_start { Some(0) } else { next_line(bytes, 0).filter(|_| anywhere) };
    while let Some(start) = at {
        match begins_head(side, bytes.get(start..).unwrap_or_default()) {
            Some(true) => return Boundary::At(start),
            None => return Boundary::None { discard: start },
            Some(false) => at = next_line(bytes, start).filter(|_| anywhere),
        }
    }
    // The last byte may be the end of the line before a message that comes with the next bytes.
    let keep = usize::from(anywhere && bytes.last() == Some(&b'\n'));
    Boundary::None { discard: bytes.len() - keep }
}

fn next_line(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from + memchr::memchr(b'\n', bytes.get(from..)?)? + 1;
    (start < bytes.len()).then_some(start)
}

/// Whether `bytes` begin like a head of `side`; `None` if more bytes are needed to tell.
pub(super) fn judge(side: Side, bytes: &[u8]) -> Option<bool> {
    match infer(bytes, Transport::Tcp) {
        Inference::More if side == Side::Server && !may_be_response(bytes) => Some(false),
        Inference::More => None,
        inference => Some(inference.sender().and_then(Sender::side) == Some(side)),
    }
}

/// Whether a whole, valid head stands at the start of `bytes`; `None` if that needs more bytes.
fn begins_head(side: Side, bytes: &[u8]) -> Option<bool> {
    let bytes = bytes.get(leading_line_ends(bytes)..)?;
    let known = |method: &&str| {
        let mut line = method.bytes().chain([b' ']);
        bytes.iter().take(method.len() + 1).all(|&byte| line.next() == Some(byte))
    };
    if side == Side::Client && !KNOWN_METHODS.iter().any(known) || !judge(side, bytes)? {
        return Some(false);
    }
    let end = head::end(bytes, 0)?;
    let (line, next) = head::line(bytes)?;
    let line_is_valid = match side {
        Side::Client => RequestLine::parse(line).is_ok(),
        Side::Server => StatusLine::parse(line).is_ok(),
    };
    Some(line_is_valid && Head::parse(bytes.get(..end)?, next).is_ok())
}
