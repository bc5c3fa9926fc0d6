//! Recognising Redis by its content.

use super::commands::{is_known, is_plausible};
use super::resp::{Outcome, Reader};
use super::value::Value;
use crate::{Cursor, Inference, Sender};

/// Arguments of one command: the limit of the server.
const ARGUMENTS: usize = 1024 * 1024;

/// Longest line that is waited for.
const LINE: usize = 1024;

/// Texts of simple strings that Redis sends. Other protocols begin with "+OK" too, but not with just that.
const SIMPLE: &[&[u8]] =
    &[b"OK", b"PONG", b"QUEUED", b"RESET", b"none", b"string", b"list", b"set", b"zset", b"hash", b"stream"];

/// Codes of errors that Redis sends. (POP3 has "-ERR", too.)
const ERRORS: &[&[u8]] = &[
    b"ASK",
    b"BUSY",
    b"BUSYGROUP",
    b"BUSYKEY",
    b"CLUSTERDOWN",
    b"CROSSSLOT",
    b"EXECABORT",
    b"LOADING",
    b"MASTERDOWN",
    b"MISCONF",
    b"MOVED",
    b"NOAUTH",
    b"NOGROUP",
    b"NOPERM",
    b"NOPROTO",
    b"NOREPLICAS",
    b"NOSCRIPT",
    b"OOM",
    b"READONLY",
    b"TRYAGAIN",
    b"UNKILLABLE",
    b"WRONGPASS",
    b"WRONGTYPE",
];

/// What the first bytes of a direction look like.
pub(super) fn infer(head: &[u8]) -> Inference {
    match head.first() {
        None => Inference::More,
        Some(b'*') => array(head),
        Some(b'+') => simple(head, SIMPLE, None),
        Some(b'-') => simple(head, ERRORS, Some(b' ')),
        Some(b':' | b'_' | b',' | b'#' | b'(' | b'$' | b'!' | b'=' | b'~' | b'%' | b'>' | b'|') => reply(head),
        Some(first) if first.is_ascii_alphabetic() => inline(head),
        Some(_) => Inference::No,
    }
}

/// Whether a whole value stands at the start of `bytes`, and something that may follow it behind. `None`: too few
/// bytes. `requests`: of the client.
pub(super) fn is_framed(bytes: &[u8], requests: bool) -> Option<bool> {
    if requests && array(bytes) != Inference::Sure(Sender::Client) {
        return if array(bytes) == Inference::More { None } else { Some(false) };
    }
    let mut reader = Reader::new(requests, 0);
    let mut at = 0usize;
    loop {
        match reader.read(bytes.get(at..)?) {
            (consumed, Outcome::Done(_)) => at += consumed,
            (consumed, Outcome::Skip(length)) => {
                at = at.saturating_add(consumed).saturating_add(usize::try_from(length).ok()?);
                continue;
            }
            (_, Outcome::Need(_)) => return None,
            (_, Outcome::Broken(_)) => return Some(false),
        }
        let next = bytes.get(at);
        return Some(next.is_none_or(|next| if requests { *next == b'*' } else { b"+-:$*_#,(!=~%>|".contains(next) }));
    }
}

/// A command is an array of bulk strings; so are some replies.
fn array(head: &[u8]) -> Inference {
    let mut cursor = Cursor::new(head);
    let Some(count) = header(&mut cursor, b'*') else { return short(head, b"*0123456789-?\r\n") };
    let (Some(count), Some(first)) = (count, cursor.rest().first().copied()) else {
        // An empty array, a null, a streamed one: of a server. Nothing behind the count yet: of either.
        return if count.is_none_or(|count| count == 0) { Inference::Maybe(Sender::Server) } else { Inference::More };
    };
    if count > ARGUMENTS {
        return Inference::No;
    }
    if count == 0 || first != b'$' {
        return if b"+-:*_#,(!=~%>|".contains(&first) || count == 0 { reply(head) } else { Inference::No };
    }
    let Some(length) = header(&mut cursor, b'$') else { return short(cursor.rest(), b"$0123456789-\r\n") };
    let Some(length) = length else { return Inference::Maybe(Sender::Server) };
    let Some(word) = cursor.take(length.min(64)) else {
        let so_far = cursor.rest();
        return if so_far.is_empty() || is_plausible(so_far) {
            Inference::More
        } else {
            Inference::Maybe(Sender::Server)
        };
    };
    judge(word, length, count, cursor)
}

/// By the first element of an array of bulk strings.
fn judge(word: &[u8], length: usize, count: usize, mut behind: Cursor<'_>) -> Inference {
    let whole = word.len() == length;
    let line_end = behind.take(2);
    if whole && line_end.is_some_and(|end| end != b"\r\n") {
        return Inference::No;
    }
    // What a server pushes, and what it confirms subscriptions with, begins with lower-case words.
    let confirms = [&b"subscribe"[..], b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"];
    if (word == b"message" && count == 3) || (word == b"pmessage" && count == 4) || (word == b"smessage" && count == 3)
    {
        return Inference::Maybe(Sender::Server);
    }
    if count == 3 && confirms.contains(&word) {
        let channel = header(&mut behind, b'$').flatten().and_then(|length| behind.take(length.saturating_add(2)));
        return match channel.and_then(|_| behind.u8()) {
            Some(b':') => Inference::Maybe(Sender::Server),
            Some(_) => Inference::Sure(Sender::Client),
            None => Inference::More,
        };
    }
    if whole && is_known(word) {
        return Inference::Sure(Sender::Client);
    }
    Inference::Maybe(if whole && is_plausible(word) { Sender::Either } else { Sender::Server })
}

/// A line of a type and a number. `None`: not there. `Some(None)`: there, and not a count (null, streamed).
fn header(cursor: &mut Cursor<'_>, first: u8) -> Option<Option<usize>> {
    let mut ahead = *cursor;
    let line = ahead.until(b'\n')?;
    let digits = line.strip_prefix(&[first])?.strip_suffix(b"\r")?;
    let number = std::str::from_utf8(digits).ok()?;
    let counted = number.bytes().all(|byte| byte.is_ascii_digit());
    if !(number == "-1" || number == "?" || counted) || number.is_empty() || number.len() > 10 {
        return None;
    }
    *cursor = ahead;
    Some(number.parse().ok())
}

/// More bytes are needed, as long as what is there could be a number's line.
fn short(head: &[u8], allowed: &[u8]) -> Inference {
    let line = head.len() <= 14 && !head.contains(&b'\n') && head.iter().all(|byte| allowed.contains(byte));
    if line { Inference::More } else { Inference::No }
}

/// A simple string or an error: one of those that Redis sends, or no statement.
fn simple(head: &[u8], texts: &[&[u8]], end: Option<u8>) -> Inference {
    let Some(line) = Cursor::new(head).until(b'\n').and_then(|line| line.strip_suffix(b"\r")) else {
        return if head.len() <= LINE && is_printable(head) { Inference::More } else { Inference::No };
    };
    if !is_printable(line) {
        return Inference::No;
    }
    let text = line.get(1..).unwrap_or_default();
    let word = text.split(|byte| Some(*byte) == end).next().unwrap_or_default();
    if texts.contains(&word) { Inference::Maybe(Sender::Server) } else { Inference::More }
}

fn is_printable(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r'))
}

/// Any other value: plausible if it is well formed as far as it goes.
fn reply(head: &[u8]) -> Inference {
    let mut reader = Reader::new(false, 0);
    let line = head.windows(2).any(|pair| pair == b"\r\n");
    match reader.read(head).1 {
        Outcome::Done(Value::Null | Value::Boolean(_)) | Outcome::Done(_) => Inference::Maybe(Sender::Server),
        Outcome::Broken(_) => Inference::No,
        Outcome::Need(_) | Outcome::Skip(_) if line => Inference::Maybe(Sender::Server),
        Outcome::Need(_) | Outcome::Skip(_) => {
            if head.len() <= LINE && is_printable(head) {
                Inference::More
            } else {
                Inference::No
            }
        }
    }
}

/// A command as typed by hand: a known word, arguments, a line end.
fn inline(head: &[u8]) -> Inference {
    let line = Cursor::new(head).until(b'\n');
    let text = line.unwrap_or(head);
    let word = text.split(|byte| b" \r".contains(byte)).next().unwrap_or_default();
    let printable = text.len() <= LINE && text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\t'));
    // "GET / HTTP/1.1" begins with a command, too.
    let http = text.windows(6).any(|window| window == b" HTTP/");
    match line {
        _ if !printable || http => Inference::No,
        Some(_) if is_known(word) => Inference::Maybe(Sender::Client),
        Some(_) => Inference::No,
        None if is_plausible(word) => Inference::More,
        None => Inference::No,
    }
}
