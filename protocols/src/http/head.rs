//! The head of a message: start line and header fields (RFC 9112, sections 2 to 5), kept as one copy of its bytes.

use crate::Violation;

/// Header fields that are parsed without allocating room for them.
const USUAL_FIELDS: usize = 64;

/// Header fields of one head; more than any common server accepts.
const MAX_FIELDS: usize = 1024;

/// Longest method that is taken for one.
pub(super) const MAX_METHOD: usize = 32;

/// A piece of a head, by position. Heads are bounded by the driver's buffer, far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    start: u32,
    end: u32,
}

impl Piece {
    /// Where `inner`, which is part of `outer`, stands in it.
    fn of(outer: &[u8], inner: &[u8]) -> Self {
        let start = (inner.as_ptr() as usize).saturating_sub(outer.as_ptr() as usize);
        Self { start: start as u32, end: (start + inner.len()) as u32 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Piece,
    value: Piece,
}

/// Bytes of a head (or of a trailer section) and where its fields are in them.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Box<[u8]>,
    fields: Box<[Field]>,
}

impl Head {
    /// Parses the fields behind the first `from` bytes, which are the start line.
    pub(super) fn parse(bytes: &[u8], from: usize) -> Result<Self, Violation> {
        match fields(bytes, from) {
            Ok(fields) => Ok(Self::new(bytes.into(), fields)),
            Err(violation) => {
                let unfolded = unfold(bytes, from).ok_or(violation)?;
                let fields = fields(&unfolded, from)?;
                Ok(Self::new(unfolded.into(), fields))
            }
        }
    }

    fn new(mut bytes: Box<[u8]>, fields: Box<[Field]>) -> Self {
        for field in &fields {
            if let Some(name) = bytes.get_mut(field.name.start as usize..field.name.end as usize) {
                name.make_ascii_lowercase();
            }
        }
        Self { bytes, fields }
    }

    /// The start line's bytes alone, without any field.
    pub(super) fn line_only(line: &[u8]) -> Self {
        Self { bytes: line.into(), fields: Box::default() }
    }

    pub(super) fn get(&self, piece: Piece) -> &[u8] {
        self.bytes.get(piece.start as usize..piece.end as usize).unwrap_or_default()
    }

    /// The fields in order of appearance, names in lower case.
    pub(super) fn fields(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.get(field.name), self.get(field.value)))
    }

    /// Whether a name stands there more than once.
    pub(super) fn repeats(&self) -> bool {
        let same = |a: Piece, b: Piece| a.end - a.start == b.end - b.start && self.get(a) == self.get(b);
        let mut before = self.fields.iter().enumerate();
        before.any(|(index, field)| self.fields.iter().take(index).any(|earlier| same(earlier.name, field.name)))
    }

    /// The values of the field `name` (in lower case), in order of appearance.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
    }
}

fn fields(bytes: &[u8], from: usize) -> Result<Box<[Field]>, Violation> {
    let section = bytes.get(from..).unwrap_or_default();
    let mut usual = [httparse::EMPTY_HEADER; USUAL_FIELDS];
    match httparse::parse_headers(section, &mut usual) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            place(bytes, httparse::parse_headers(section, &mut many))
        }
        parsed => place(bytes, parsed),
    }
}

fn place(bytes: &[u8], parsed: httparse::Result<(usize, &[httparse::Header<'_>])>) -> Result<Box<[Field]>, Violation> {
    match parsed {
        Ok(httparse::Status::Complete((_, headers))) => Ok(headers
            .iter()
            .map(|h| Field { name: Piece::of(bytes, h.name.as_bytes()), value: Piece::of(bytes, h.value) })
            .collect()),
        Ok(httparse::Status::Partial) => Err(Violation("head_end")),
        Err(httparse::Error::TooManyHeaders) => Err(Violation("header_limit")),
        Err(_) => Err(Violation("header_field")),
    }
}

/// Makes a folded line one line, by spaces in place of its line end (RFC 9112, section 5.2). `None` if none is folded.
fn unfold(bytes: &[u8], from: usize) -> Option<Vec<u8>> {
    let mut unfolded = bytes.to_vec();
    let mut changed = false;
    for at in from..bytes.len() {
        let folded = bytes.get(at) == Some(&b'\n') && matches!(bytes.get(at + 1), Some(b' ' | b'\t'));
        if !folded {
            continue;
        }
        changed = true;
        let carriage_return = at.checked_sub(1).filter(|&before| bytes.get(before) == Some(&b'\r'));
        for index in carriage_return.into_iter().chain([at]) {
            if let Some(byte) = unfolded.get_mut(index) {
                *byte = b' ';
            }
        }
    }
    changed.then_some(unfolded)
}

/// Where the head ends: behind the first empty line. The search goes on at `from`, where an earlier one stopped. A
/// bare LF ends a line too (RFC 9112, section 2.2).
pub(super) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', rest).find_map(|newline| match rest.get(newline + 1..) {
        Some([b'\n', ..]) => Some(from + newline + 2),
        Some([b'\r', b'\n', ..]) => Some(from + newline + 3),
        _ => None,
    })
}

/// The first line without its end, and where the next one begins.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let newline = memchr::memchr(b'\n', bytes)?;
    let line = bytes.get(..newline)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), newline + 1))
}

/// A request's first line (RFC 9112, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Piece,
    pub(super) target: Piece,
    pub(super) minor: u8,
}

impl RequestLine {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Violation> {
        let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        if !is_token(method) || method.len() > MAX_METHOD {
            return Err(Violation("method"));
        }
        let rest = line.get(method.len() + 1..).unwrap_or_default();
        let (target, version) = rest.rsplit_at_space().ok_or(Violation("request_line"))?;
        let minor = version_minor(version).ok_or(Violation("version"))?;
        let target = target.trim_ascii();
        if target.is_empty() || target.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
            return Err(Violation("target"));
        }
        Ok(Self { method: Piece::of(line, method), target: Piece::of(line, target), minor })
    }
}

/// A response's first line (RFC 9112, section 4). The space before an empty reason may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) minor: u8,
    pub(super) status: u16,
    pub(super) reason: Piece,
}

impl StatusLine {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Violation> {
        let minor = line.get(..8).and_then(version_minor).ok_or(Violation("version"))?;
        let rest = line.get(8..).and_then(|rest| rest.strip_prefix(b" ")).ok_or(Violation("status_line"))?;
        let status = match rest {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(Violation("status")),
        };
        match rest.get(3..) {
            Some(reason @ ([] | [b' ', ..])) => {
                Ok(Self { minor, status, reason: Piece::of(line, reason.trim_ascii()) })
            }
            _ => Err(Violation("status")),
        }
    }
}

/// The digit behind "HTTP/1.".
pub(super) fn version_minor(version: &[u8]) -> Option<u8> {
    match version.strip_prefix(b"HTTP/1.")? {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

trait SplitAtSpace {
    fn rsplit_at_space(&self) -> Option<(&[u8], &[u8])>;
}

impl SplitAtSpace for [u8] {
    /// What is before and behind the last space.
    fn rsplit_at_space(&self) -> Option<(&[u8], &[u8])> {
        let space = memchr::memrchr(b' ', self)?;
        Some((self.get(..space)?, self.get(space + 1..)?))
    }
}
