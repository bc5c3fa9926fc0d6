//! Framing: which messages exist, how long they may be, and whether bytes have their shape.
//!
//! PostgreSQL manual, 55.7 "Message Formats". Every message but the first ones of a client is a type byte, a length
//! that counts itself, and a body.

use crate::{Cursor, Side, Violation};

/// Type byte and length.
pub(super) const HEADER: usize = 5;

/// What a server accepts at most from a client and for long messages (`PQ_LARGE_MESSAGE_LIMIT`).
const LARGE: u32 = 0x3fff_ffff;

/// What both sides accept at most for messages that are never long: `PQ_SMALL_MESSAGE_LIMIT` (10000) of the server,
/// 30000 in libpq.
const SMALL: u32 = 30_000;

/// What a server accepts of a password or GSSAPI message (`PG_MAX_AUTH_TOKEN_LENGTH`).
const TOKEN: u32 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type byte.
    pub(super) kind: u8,
    /// Bytes behind the header.
    pub(super) body: u32,
}

impl Header {
    /// Reads a header; `None` if it is not all there.
    pub(super) fn read(side: Side, bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let Some(kind) = cursor.u8() else { return Ok(None) };
        let (least, most) = bounds(side, kind).ok_or(Violation("message_type"))?;
        let Some(length) = cursor.u32_be() else { return Ok(None) };
        let body = length.checked_sub(4).ok_or(Violation("message_length"))?;
        if body < least || body > most {
            return Err(Violation("message_length"));
        }
        Ok(Some(Self { kind, body }))
    }
}

/// The least and the greatest length of the body of a message; `None` for a type that `side` never sends.
fn bounds(side: Side, kind: u8) -> Option<(u32, u32)> {
    Some(match (side, kind) {
        (Side::Client, b'Q' | b'f') => (1, LARGE),
        (Side::Client, b'P') => (4, LARGE),
        (Side::Client, b'B') => (8, LARGE),
        (Side::Client, b'F') => (10, LARGE),
        (Side::Client, b'D' | b'C') => (2, SMALL),
        (Side::Client, b'E') => (5, SMALL),
        (Side::Client, b'S' | b'H' | b'c' | b'X') => (0, 0),
        (Side::Client, b'p') => (0, TOKEN),
        (_, b'd') => (0, LARGE),
        (Side::Server, b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c') => (0, 0),
        (Side::Server, b'Z') => (1, 1),
        (Side::Server, b'K') => (8, 260),
        (Side::Server, b'R' | b'V') => (4, if kind == b'V' { LARGE } else { SMALL }),
        (Side::Server, b'S') => (2, SMALL),
        (Side::Server, b'E' | b'N') => (1, LARGE),
        (Side::Server, b'A') => (6, LARGE),
        (Side::Server, b'T' | b'D' | b't') => (2, LARGE),
        (Side::Server, b'C') => (1, SMALL),
        (Side::Server, b'G' | b'H' | b'W') => (3, LARGE),
        (Side::Server, b'v') => (8, SMALL),
        _ => return None,
    })
}

/// What a run of bytes is, taken as messages of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Messages that are all there and have the right shape.
    pub(super) whole: usize,
    /// How many of those are as telling as a statement or a result.
    pub(super) telling: usize,
    /// Type of the last whole message.
    pub(super) last: u8,
    /// Whether the bytes end with a message.
    pub(super) complete: bool,
}

/// Reads bytes as messages of `side`; `None` if they are not.
pub(super) fn chain(side: Side, bytes: &[u8]) -> Option<Chain> {
    let mut chain = Chain::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(header) = Header::read(side, rest).ok()? else { return Some(chain) };
        let behind = rest.get(HEADER..)?;
        let Some((body, next)) = behind.split_at_checked(header.body as usize) else {
            return begins_well(side, header.kind, behind).then_some(chain);
        };
        if !has_shape(side, header.kind, body) {
            return None;
        }
        chain.whole += 1;
        chain.telling += usize::from(is_telling(side, header.kind));
        chain.last = header.kind;
        rest = next;
    }
    chain.complete = true;
    Some(chain)
}

/// Types whose shape is hardly met by chance.
fn is_telling(side: Side, kind: u8) -> bool {
    match side {
        Side::Client => matches!(kind, b'Q' | b'P' | b'B'),
        Side::Server => matches!(kind, b'T' | b'D' | b'C' | b'E' | b'S' | b'R' | b'1' | b'2'),
    }
}

/// Whether the start of a body that is not all there may be that of a message of this type.
fn begins_well(side: Side, kind: u8, start: &[u8]) -> bool {
    match (side, kind) {
        (Side::Client, b'Q') => start.iter().all(|&byte| is_text(byte)),
        (Side::Client, b'P') => start.iter().take(64).all(|&byte| byte == 0 || is_text(byte)),
        (Side::Server, b'E' | b'N') => start.first().is_none_or(|&field| field == b'S'),
        _ => true,
    }
}

fn has_shape(side: Side, kind: u8, body: &[u8]) -> bool {
    let mut cursor = Cursor::new(body);
    let parsed = match (side, kind) {
        (Side::Client, b'Q') | (Side::Server, b'C') => text(&mut cursor),
        (Side::Client, b'P') => text(&mut cursor).and_then(|()| text(&mut cursor)).and_then(|()| {
            let types = cursor.u16_be()?;
            cursor.take(usize::from(types) * 4).map(drop)
        }),
        (Side::Client, b'B') => bind(&mut cursor),
        (Side::Client, b'D' | b'C') => match cursor.u8() {
            Some(b'S' | b'P') => text(&mut cursor),
            _ => None,
        },
        (Side::Client, b'E') => text(&mut cursor).and_then(|()| cursor.u32_be().map(drop)),
        (Side::Server, b'T') => rows_described(&mut cursor),
        (Side::Server, b'D') => values(&mut cursor),
        (Side::Server, b'Z') => cursor.u8().filter(|status| matches!(status, b'I' | b'T' | b'E')).map(drop),
        (Side::Server, b'E' | b'N') => fields(&mut cursor),
        (Side::Server, b'S') => text(&mut cursor).and_then(|()| text(&mut cursor)),
        (Side::Server, b'R') => cursor.u32_be().filter(|code| *code <= 12).and_then(|_| rest(&mut cursor)),
        (Side::Server, b't') => cursor.u16_be().and_then(|n| cursor.take(usize::from(n) * 4)).map(drop),
        (Side::Server, b'G' | b'H' | b'W') => cursor.u8().filter(|format| *format <= 1).and_then(|_| {
            let columns = cursor.u16_be()?;
            cursor.take(usize::from(columns) * 2).map(drop)
        }),
        _ => rest(&mut cursor),
    };
    parsed.is_some() && cursor.rest().is_empty()
}

fn is_text(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn text(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.until(0)?.iter().all(|&byte| is_text(byte)).then_some(())
}

fn rest(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.take(cursor.rest().len()).map(drop)
}

fn bind(cursor: &mut Cursor<'_>) -> Option<()> {
    text(cursor)?;
    text(cursor)?;
    let formats = cursor.u16_be()?;
    cursor.take(usize::from(formats) * 2)?;
    values(cursor)?;
    let formats = cursor.u16_be()?;
    cursor.take(usize::from(formats) * 2).map(drop)
}

/// A count and as many values with their lengths, as in Bind and DataRow.
fn values(cursor: &mut Cursor<'_>) -> Option<()> {
    for _ in 0..cursor.u16_be()? {
        match cursor.u32_be()? {
            u32::MAX => {}
            length => drop(cursor.take(usize::try_from(length).ok()?)?),
        }
    }
    Some(())
}

fn rows_described(cursor: &mut Cursor<'_>) -> Option<()> {
    for _ in 0..cursor.u16_be()? {
        cursor.until(0)?;
        cursor.take(18)?;
    }
    Some(())
}

fn fields(cursor: &mut Cursor<'_>) -> Option<()> {
    while cursor.u8()? != 0 {
        cursor.until(0)?;
    }
    Some(())
}
