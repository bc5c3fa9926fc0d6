//! Telling MySQL from other protocols, and finding where a packet begins.

use super::compress;
use super::login::{Greeting, Login};
use super::packet::Head;
use super::reply::{Failure, Terms};
use super::wire::{self, CONTINUES, Command, HEADER, Kind};
use crate::{Boundary, Cursor, Inference, Sender, Side};

/// Words that statements begin with.
const VERBS: [&[u8]; 36] = [
    b"SELECT",
    b"INSERT",
    b"UPDATE",
    b"DELETE",
    b"REPLACE",
    b"SET",
    b"SHOW",
    b"USE",
    b"BEGIN",
    b"START",
    b"COMMIT",
    b"ROLLBACK",
    b"CREATE",
    b"ALTER",
    b"DROP",
    b"TRUNCATE",
    b"CALL",
    b"WITH",
    b"LOAD",
    b"LOCK",
    b"UNLOCK",
    b"EXPLAIN",
    b"DESCRIBE",
    b"DESC",
    b"GRANT",
    b"REVOKE",
    b"ANALYZE",
    b"OPTIMIZE",
    b"FLUSH",
    b"KILL",
    b"PREPARE",
    b"EXECUTE",
    b"DEALLOCATE",
    b"SAVEPOINT",
    b"XA",
    b"DO",
];

/// Judges the first bytes of one direction.
pub(super) fn infer(head: &[u8]) -> Inference {
    if let Some(content) = compress::first_content(head)
        && are_commands(&content)
    {
        return Inference::Sure(Sender::Client);
    }
    match infer_plain(head) {
        Inference::No => match compress::first_content(head).map(|content| infer_plain(&content)) {
            Some(Inference::Maybe(Sender::Server)) => Inference::Maybe(Sender::Server),
            _ => Inference::No,
        },
        judged => judged,
    }
}

/// The longest login, which is mostly names and values that clients tell about themselves.
const LOGIN: u32 = 1 << 16;

/// Whether these bytes are the answer to a greeting; `None`: they are too few to tell. Servers read the header apart
/// from the rest on unix sockets.
pub(super) fn is_login(bytes: &[u8]) -> Option<bool> {
    let Ok(head) = Head::read(bytes) else { return None };
    if head.sequence != 1 || head.length > LOGIN {
        return Some(false);
    }
    let body = bytes.get(HEADER..).and_then(|behind| behind.get(..head.length as usize))?;
    Some(Login::read_41(body).is_some())
}

/// Whether this is nothing but commands, of which at least one is a statement.
pub(super) fn are_commands(bytes: &[u8]) -> bool {
    commands(bytes).is_some_and(|chain| chain.statements > 0)
}

fn infer_plain(head: &[u8]) -> Inference {
    let first = match Head::read(head) {
        Ok(first) => first,
        Err(_) => return Inference::More,
    };
    let Some(code) = first.code else { return Inference::No };
    let payload = head.get(HEADER..).unwrap_or_default();
    let whole = payload.get(..first.length as usize);
    match (first.sequence, code) {
        (0, 10)
            if whole.is_none()
                && first.length < 512
                && Command::of(code).is_some_and(|it| !it.may_have(first.length.into())) =>
        {
            if is_beginning_of_greeting(payload) { Inference::More } else { Inference::No }
        }
        (0, 10) if whole.and_then(Greeting::read).is_some() => Inference::Sure(Sender::Server),
        (0, 0xff) => match whole {
            Some(body) if is_refusal(body) => Inference::Sure(Sender::Server),
            Some(_) => Inference::No,
            None if first.length < 1024 => Inference::More,
            None => Inference::No,
        },
        (0, _) => infer_commands(head),
        (1, _) if whole.and_then(Login::read_41).is_some() => Inference::Maybe(Sender::Client),
        (1, _) => infer_response(head, first, whole),
        _ => Inference::No,
    }
}

fn is_beginning_of_greeting(payload: &[u8]) -> bool {
    payload.get(1..).unwrap_or_default().iter().take_while(|&&byte| byte != 0).all(|byte| (0x20..0x7f).contains(byte))
}

/// An ERR packet in place of a greeting.
fn is_refusal(body: &[u8]) -> bool {
    Failure::read(body, &Terms::default()).is_some_and(|error| {
        (1000..5000).contains(&error.code) && error.message.as_bytes().iter().all(|&byte| is_text(byte))
    })
}

fn infer_commands(head: &[u8]) -> Inference {
    match commands(head) {
        None => Inference::No,
        Some(chain) if chain.statements > 0 && chain.complete => Inference::Sure(Sender::Client),
        Some(chain) if chain.whole > 0 || chain.statements > 0 => Inference::Maybe(Sender::Client),
        Some(_) => Inference::More,
    }
}

fn infer_response(head: &[u8], first: Head, whole: Option<&[u8]>) -> Inference {
    let kinds = [Kind::Simple, Kind::Prepare, Kind::Results, Kind::Columns];
    let fits = kinds.iter().any(|&kind| begins_response(head, first, whole, kind) == Some(true));
    let undecided = kinds.iter().any(|&kind| begins_response(head, first, whole, kind).is_none());
    match (fits, undecided) {
        (true, _) => Inference::Maybe(Sender::Server),
        (false, true) => Inference::More,
        (false, false) => Inference::No,
    }
}

/// What a run of bytes is, taken as commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Packets that are all there.
    whole: usize,
    /// How many packets hold the text of a statement.
    statements: usize,
    /// Whether the bytes end with a packet.
    complete: bool,
}

/// Reads bytes as commands; `None` if they are not.
fn commands(bytes: &[u8]) -> Option<Chain> {
    let mut chain = Chain::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(head) = Head::read(rest) else { return Some(chain) };
        let code = head.code.filter(|_| head.sequence == 0)?;
        Command::of(code).filter(|command| command.may_have(head.length.into()))?;
        let payload = rest.get(HEADER..)?;
        let body = payload.get(..head.length as usize);
        let is_statement = matches!(code, wire::COM_QUERY | wire::COM_STMT_PREPARE);
        let text = body.unwrap_or(payload).get(1..)?;
        if is_statement && text.len() >= 12.min((head.length as usize).saturating_sub(1)) {
            is_sql(text).then_some(())?;
            chain.statements += 1;
        }
        if body.is_none() {
            return Some(chain);
        }
        chain.whole += 1;
        rest = payload.get(head.length as usize..)?;
    }
    chain.complete = true;
    Some(chain)
}

/// Whether this is how the text of a statement begins, perhaps behind query attributes.
fn is_sql(text: &[u8]) -> bool {
    let text = match text {
        [0, 1, rest @ ..] => rest,
        [1..0x20, 1, _, 1, ..] => return true,
        text => text,
    };
    let text = text.trim_ascii_start();
    if let [b'/', b'*', ..] | [b'(', ..] | [b'-', b'-', ..] | [b'#', ..] = text {
        return text.iter().take(64).all(|&byte| is_text(byte));
    }
    let word =
        text.iter().position(|byte| !byte.is_ascii_alphabetic()).map_or(text, |end| text.get(..end).unwrap_or(text));
    VERBS.iter().any(|verb| word.eq_ignore_ascii_case(verb)) && text.iter().take(64).all(|&byte| is_text(byte))
}

fn is_text(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r')
}

/// Whether this is how the response to a command of this kind begins; `None` if there is too little to say.
fn begins_response(bytes: &[u8], first: Head, whole: Option<&[u8]>, kind: Kind) -> Option<bool> {
    let code = first.code.filter(|_| first.sequence == 1);
    let Some(code) = code else { return Some(false) };
    let length = first.length;
    Some(match (kind, code) {
        (_, 0xff) => {
            let start = bytes.get(HEADER..).unwrap_or_default();
            let state = match start.get(..9) {
                Some(start) => start,
                None if start.len() >= length as usize => return Some(false),
                None => return None,
            };
            let [_, _, _, b'#', state @ ..] = state else { return Some(false) };
            state.iter().all(u8::is_ascii_alphanumeric)
        }
        (Kind::Text, _) => length < 4096 && bytes.iter().skip(HEADER).take(length as usize).all(|&byte| is_text(byte)),
        (Kind::Prepare, 0) => matches!(length, 12 | 13) && whole?.get(9) == Some(&0),
        (Kind::Columns | Kind::Rows, 0xfe) => length < 512,
        (Kind::Columns, _) => is_definition(bytes.get(HEADER..)?)?,
        (Kind::Rows, 0) => true,
        (Kind::Auth, 1 | 2 | 0xfe) => length < 1024,
        (Kind::Stream, 0) => true,
        (Kind::Simple, 0xfe) => length == 5 || length == 1,
        (Kind::Simple | Kind::Results | Kind::Auth, 0) => is_ok(whole?),
        (Kind::Results, 0xfb) => length > 1 && length < 4096,
        (Kind::Results, 1..=0xfd) => begins_result_set(bytes, whole?)?,
        _ => false,
    })
}

/// A column count, and the first definition behind it.
fn begins_result_set(bytes: &[u8], body: &[u8]) -> Option<bool> {
    let mut cursor = Cursor::new(body);
    let columns = wire::lenenc(&mut cursor);
    let follows = cursor.u8();
    if columns.is_none_or(|columns| columns >= 1 << 16) || !cursor.rest().is_empty() || follows.is_some_and(|it| it > 1)
    {
        return Some(false);
    }
    let behind = bytes.get(HEADER + body.len()..).unwrap_or_default();
    let next = match Head::read(behind) {
        Ok(next) => next,
        // The count alone, in a transfer of its own: the sequence id and the length have to do.
        Err(_) if behind.is_empty() => return Some(true),
        Err(_) => return None,
    };
    if next.sequence != 2 {
        return Some(false);
    }
    if follows == Some(0) { Some(true) } else { is_definition(behind.get(HEADER..)?) }
}

/// A column definition: the catalog is always "def".
fn is_definition(payload: &[u8]) -> Option<bool> {
    const CATALOG: &[u8] = b"\x03def";
    payload.get(..CATALOG.len()).map(|start| start == CATALOG)
}

/// An OK packet of the shortest form, or with text behind.
fn is_ok(body: &[u8]) -> bool {
    let mut cursor = Cursor::new(body);
    let numbers = cursor.u8().and_then(|_| wire::lenenc(&mut cursor)).and_then(|_| wire::lenenc(&mut cursor));
    // Of the status flags, one bit is never used; and there are never many warnings.
    numbers.is_some() && cursor.u16_le().is_some() && cursor.u16_le().is_some() && body.len() < CONTINUES as usize
}

/// Finds where a packet surely begins.
pub(super) fn boundary(side: Side, bytes: &[u8], transfer_start: bool, expects: Option<Kind>) -> Boundary {
    if !transfer_start {
        return Boundary::None { discard: bytes.len() };
    }
    let found = match side {
        Side::Client => begins_command(bytes),
        Side::Server => match (Head::read(bytes), expects) {
            (_, None) => Some(false),
            (Err(_), _) => None,
            (Ok(first), Some(kind)) => {
                let whole = bytes.get(HEADER..).unwrap_or_default().get(..first.length as usize);
                begins_response(bytes, first, whole, kind)
            }
        },
    };
    match found {
        Some(true) => Boundary::At(0),
        Some(false) => Boundary::None { discard: bytes.len() },
        None => Boundary::None { discard: 0 },
    }
}

/// Finds where a packet of the server surely begins that answers a login: it is alone, and the next by its sequence id.
pub(super) fn boundary_in_login(bytes: &[u8], transfer_start: bool, sequence: u8) -> Boundary {
    let nothing = Boundary::None { discard: bytes.len() };
    let head = match Head::read(bytes) {
        Ok(head) if transfer_start && head.sequence == sequence && head.length <= LOGIN => head,
        Err(_) if transfer_start => return Boundary::None { discard: 0 },
        _ => return nothing,
    };
    let body = bytes.get(HEADER..).unwrap_or_default();
    let begins = match head.code {
        _ if body.len() < head.length as usize => return Boundary::None { discard: 0 },
        _ if body.len() > head.length as usize => false,
        Some(0) => is_ok(body),
        Some(0xff) => is_refusal(body),
        Some(1 | 2 | 0xfe) => true,
        _ => false,
    };
    if begins { Boundary::At(0) } else { nothing }
}

fn begins_command(bytes: &[u8]) -> Option<bool> {
    match commands(bytes) {
        None => Some(false),
        Some(chain) if chain.complete || chain.statements > 0 => Some(true),
        Some(_) => None,
    }
}
