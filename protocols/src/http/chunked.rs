//! The chunked transfer coding (RFC 9112, section 7.1).

use super::head::{self, Head};
use crate::Violation;

/// Longest chunk-size line: extensions are rare and short.
const MAX_LINE: usize = 4096;

/// The line end behind a chunk's data. It is counted with the data, not looked at: a capture limit that ends inside
/// the data hides it too.
pub(super) const DATA_END: u64 = 2;

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A chunk's size.
    Size,
    /// The trailer section; the search for its end stopped at `scanned`.
    Trailers { scanned: usize },
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// Too few bytes: at least this many.
    Need(usize),
    /// A chunk of `length` bytes is behind `consumed` bytes of framing.
    Chunk { consumed: usize, length: u64 },
    /// The trailer section begins behind `consumed` bytes.
    LastChunk { consumed: usize },
    /// The message ends behind `consumed` bytes.
    End { consumed: usize, trailers: Option<Head> },
}

impl Phase {
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<Found, Violation> {
        match self {
            Self::Size => size(bytes),
            Self::Trailers { scanned } => trailers(bytes, scanned),
        }
    }
}

fn size(bytes: &[u8]) -> Result<Found, Violation> {
    let Some((line, consumed)) = head::line(bytes) else {
        return if bytes.len() > MAX_LINE { Err(Violation("chunk_line")) } else { Ok(Found::Need(bytes.len() + 1)) };
    };
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let length = hex(line.get(..digits).unwrap_or_default()).ok_or(Violation("chunk_size"))?;
    // Bad white space may stand before the extensions.
    match line.get(digits..).unwrap_or_default().trim_ascii_start() {
        [] | [b';', ..] => {}
        _ => return Err(Violation("chunk_size")),
    }
    if length == 0 { Ok(Found::LastChunk { consumed }) } else { Ok(Found::Chunk { consumed, length }) }
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        (number >> 60 == 0).then(|| number << 4 | u64::from(digit))
    })
}

fn trailers(bytes: &[u8], scanned: &mut usize) -> Result<Found, Violation> {
    match bytes {
        [b'\r', b'\n', ..] => return Ok(Found::End { consumed: 2, trailers: None }),
        [b'\n', ..] => return Ok(Found::End { consumed: 1, trailers: None }),
        [] | [b'\r'] => return Ok(Found::Need(2)),
        _ => {}
    }
    let Some(end) = head::end(bytes, *scanned) else {
        *scanned = bytes.len().saturating_sub(2);
        return Ok(Found::Need(bytes.len() + 1));
    };
    let section = bytes.get(..end).unwrap_or_default();
    Ok(Found::End { consumed: end, trailers: Some(Head::parse(section, 0)?) })
}
