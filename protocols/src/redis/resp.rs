//! Reading RESP2 and RESP3 values piece by piece.
//!
//! The reader is a machine with a stack of its own: it stops wherever the bytes end and goes on when more come, and it
//! holds no more than its limits allow, whatever counts and lengths the wire claims.

use super::value::{Kept, List, Value};

/// Aggregates inside one another. Replies of Redis itself nest less than ten deep.
const DEPTH: usize = 64;

/// Elements of one value that are kept.
const ELEMENTS: usize = 256;

/// Bytes of all strings of one value that are kept, in multiples of the limit for one string.
const STRINGS: usize = 4;

/// What stopped the reader.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// The bytes end; at least this many are wanted behind those consumed.
    Need(usize),
    /// So many bytes come next of which the content is not wanted.
    Skip(u64),
    /// A value is complete.
    Done(Value),
    /// A rule is broken.
    Broken(&'static str),
}

/// The type of a string whose bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringKind {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Array,
    Set,
    Push,
    Map,
    /// Auxiliary data in front of a value; not a value itself.
    Attribute,
}

/// A string whose bytes pass.
#[derive(Debug)]
struct Passing {
    kind: StringKind,
    /// Bytes still to come: of the data, then of the line end.
    data: u64,
    line_end: usize,
    kept: Kept,
    /// Bytes that may be kept.
    room: usize,
    /// It comes in chunks, and this is one of them.
    streamed: bool,
}

#[derive(Debug)]
struct Frame {
    kind: Aggregate,
    /// Elements still to come; `None` for an aggregate that says when it ends.
    left: Option<u64>,
    list: List,
}

/// Reads one value after another.
#[derive(Debug)]
pub(super) struct Reader {
    /// Only arrays of bulk strings, which is what requests are.
    requests: bool,
    /// Bytes of one string that are kept.
    value: usize,
    stack: Vec<Frame>,
    passing: Option<Passing>,
    elements: usize,
    strings: usize,
    /// Bytes of the current value that have passed.
    size: u64,
}

impl Reader {
    pub(super) fn new(requests: bool, value: usize) -> Self {
        let strings = value.saturating_mul(STRINGS);
        Self { requests, value, stack: Vec::new(), passing: None, elements: ELEMENTS, strings, size: 0 }
    }

    /// Bytes of the current value, or of the one just completed, that have passed.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Forgets a half-read value.
    pub(super) fn reset(&mut self) {
        self.stack.clear();
        self.passing = None;
        self.elements = ELEMENTS;
        self.strings = self.value.saturating_mul(STRINGS);
        self.size = 0;
    }

    /// Reads on. Says how many bytes were consumed and why it stopped.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (usize, Outcome) {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let stepped = if self.passing.is_some() { self.pass(rest) } else { self.line(rest) };
            match stepped {
                Ok((consumed, value)) => {
                    at += consumed;
                    self.size += consumed as u64;
                    if let Some(done) = value.and_then(|value| self.add(value)) {
                        return (at, Outcome::Done(done));
                    }
                }
                Err(outcome) => {
                    if let Outcome::Skip(length) = outcome {
                        self.size += length;
                    }
                    return (at, outcome);
                }
            }
        }
    }

    /// `length` bytes are missing here. Says whether they all lie inside a string, so that the framing holds.
    pub(super) fn lose(&mut self, length: u64) -> bool {
        let Some(passing) = &mut self.passing else { return false };
        let data = length.min(passing.data);
        let Ok(line_end) = usize::try_from(length - data) else { return false };
        if line_end > passing.line_end {
            return false;
        }
        passing.data -= data;
        passing.line_end -= line_end;
        if data > 0 {
            passing.room = passing.kept.bytes.len();
        }
        self.size += length;
        true
    }

    /// The value, if [`Self::lose`] or [`Outcome::Skip`] took the last bytes that it wanted.
    pub(super) fn passed_end(&mut self) -> Option<Value> {
        let string = self.passing.take_if(|passing| passing.data == 0 && passing.line_end == 0 && !passing.streamed)?;
        self.add(string.into_value())
    }

    /// What there is of a half-read value, if its type is known.
    pub(super) fn cut(&mut self) -> Option<Value> {
        let mut value = self.passing.take().map(Passing::into_value);
        while let Some(mut frame) = self.stack.pop() {
            frame.list.length = frame.list.length.saturating_add(frame.left.unwrap_or(0));
            if let Some(value) = value.take() {
                frame.list.items.push(value);
            }
            value = frame.into_value();
        }
        self.reset();
        value
    }

    /// The next line, which begins a value or is one.
    fn line(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Outcome> {
        let first = *bytes.first().ok_or(Outcome::Need(1))?;
        if !b"+-:_,#($!=*~>%|;.".contains(&first) {
            return Err(Outcome::Broken("type"));
        }
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or(Outcome::Need(bytes.len() + 1))?;
        let text = bytes.get(1..end).unwrap_or_default();
        let allowed = !self.requests || first == if self.stack.is_empty() { b'*' } else { b'$' };
        if !allowed {
            return Err(Outcome::Broken("request"));
        }
        Ok((end + 2, self.begin(first, text)?))
    }

    fn begin(&mut self, first: u8, text: &[u8]) -> Result<Option<Value>, Outcome> {
        let value = match first {
            b'+' => Value::Simple(self.keep(text)),
            b'-' => Value::Error(self.keep(text)),
            b'(' if is_integer(text) => Value::BigNumber(self.keep(text)),
            b':' => Value::Integer(number(text).ok_or(Outcome::Broken("integer"))?),
            b',' => Value::Double(double(text).ok_or(Outcome::Broken("double"))?),
            b'_' if text.is_empty() => Value::Null,
            b'#' if text == b"t" || text == b"f" => Value::Boolean(text == b"t"),
            b'$' | b'!' | b'=' | b';' => return self.begin_string(first, text),
            b'*' | b'~' | b'>' | b'%' | b'|' => return self.begin_aggregate(first, text),
            b'.' if text.is_empty() => return self.end_aggregate(),
            _ => return Err(Outcome::Broken("scalar")),
        };
        Ok(Some(value))
    }

    fn begin_string(&mut self, first: u8, text: &[u8]) -> Result<Option<Value>, Outcome> {
        let kind = match first {
            b'!' => StringKind::Error,
            b'=' => StringKind::Verbatim,
            _ => StringKind::Bulk,
        };
        let chunk_of_a_stream = first == b';';
        if first == b'$' && text == b"-1" {
            return Ok(Some(Value::Null));
        }
        if chunk_of_a_stream {
            return Err(Outcome::Broken("chunk"));
        }
        let room = self.room();
        if first == b'$' && text == b"?" {
            // The chunks follow, each with a length.
            self.passing = Some(Passing { kind, data: 0, line_end: 0, kept: Kept::default(), room, streamed: true });
            return Ok(None);
        }
        let length = number(text).and_then(|n| u64::try_from(n).ok()).ok_or(Outcome::Broken("length"))?;
        let kept = Kept { bytes: Vec::new(), length };
        self.passing = Some(Passing { kind, data: length, line_end: 2, kept, room, streamed: false });
        Ok(None)
    }

    fn begin_aggregate(&mut self, first: u8, text: &[u8]) -> Result<Option<Value>, Outcome> {
        let (kind, per_entry) = match first {
            b'~' => (Aggregate::Set, 1),
            b'>' => (Aggregate::Push, 1),
            b'%' => (Aggregate::Map, 2),
            b'|' => (Aggregate::Attribute, 2),
            _ => (Aggregate::Array, 1),
        };
        if text == b"-1" {
            return Ok(Some(Value::Null));
        }
        if self.stack.len() >= DEPTH {
            return Err(Outcome::Broken("depth"));
        }
        let count = number(text).and_then(|n| u64::try_from(n).ok()?.checked_mul(per_entry));
        let left = if text == b"?" { None } else { Some(count.ok_or(Outcome::Broken("count"))?) };
        let frame = Frame { kind, left, list: List::default() };
        if left == Some(0) {
            return Ok(frame.into_value());
        }
        self.stack.push(frame);
        Ok(None)
    }

    fn end_aggregate(&mut self) -> Result<Option<Value>, Outcome> {
        match self.stack.pop_if(|frame| frame.left.is_none()) {
            Some(frame) => Ok(frame.into_value()),
            None => Err(Outcome::Broken("end")),
        }
    }

    /// Bytes that the next string may keep.
    fn room(&self) -> usize {
        if self.elements == 0 { 0 } else { self.value.min(self.strings) }
    }

    fn keep(&mut self, text: &[u8]) -> Kept {
        let room = self.room().min(text.len());
        self.strings -= room;
        Kept { bytes: text.get(..room).unwrap_or_default().to_vec(), length: text.len() as u64 }
    }

    /// Takes bytes of a string.
    fn pass(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Outcome> {
        let Some(passing) = &mut self.passing else { return Ok((0, None)) };
        if passing.data > 0 {
            let here = usize::try_from(passing.data).unwrap_or(usize::MAX).min(bytes.len());
            let kept = here.min(passing.room.saturating_sub(passing.kept.bytes.len()));
            if kept == 0 && (here as u64) < passing.data && passing.room <= passing.kept.bytes.len() {
                // The line end goes with it: the capture limit may have cut it off, and the length tells all.
                let line_end = std::mem::take(&mut passing.line_end) as u64;
                return Err(Outcome::Skip(std::mem::take(&mut passing.data).saturating_add(line_end)));
            }
            if here == 0 {
                return Err(Outcome::Need(1));
            }
            // What is not kept is consumed only with all the rest of the string.
            let taken = if here as u64 == passing.data { here } else { kept };
            passing.kept.bytes.extend_from_slice(bytes.get(..kept).unwrap_or_default());
            passing.data -= taken as u64;
            self.strings = self.strings.saturating_sub(kept);
            return Ok((taken, None));
        }
        if passing.line_end == 2 && bytes.starts_with(b"\r\n") {
            passing.line_end = 0;
            return Ok((2, None));
        }
        if passing.line_end > 0 {
            let expected = if passing.line_end == 2 { b'\r' } else { b'\n' };
            let byte = *bytes.first().ok_or(Outcome::Need(passing.line_end))?;
            if byte != expected {
                return Err(Outcome::Broken("line_end"));
            }
            passing.line_end -= 1;
            return Ok((1, None));
        }
        if passing.streamed {
            return self.next_chunk(bytes);
        }
        Ok((0, self.passing.take().map(Passing::into_value)))
    }

    /// The length of the next chunk of a streamed string; none is left after one of length 0.
    fn next_chunk(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Outcome> {
        let Some(passing) = &mut self.passing else { return Ok((0, None)) };
        if bytes.first().is_some_and(|first| *first != b';') {
            return Err(Outcome::Broken("chunk"));
        }
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or(Outcome::Need(bytes.len() + 1))?;
        let length = number(bytes.get(1..end).unwrap_or_default()).and_then(|n| u64::try_from(n).ok());
        let length = length.ok_or(Outcome::Broken("length"))?;
        passing.kept.length = passing.kept.length.saturating_add(length);
        passing.data = length;
        passing.line_end = 2;
        if length == 0 {
            return Ok((end + 2, self.passing.take().map(Passing::into_value)));
        }
        Ok((end + 2, None))
    }

    /// Puts a value where it belongs; gives the outermost one when that is complete.
    fn add(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(frame) = self.stack.last_mut() else {
                // Ready for the next value, but for its size, which is still to be asked for.
                let size = self.size;
                self.reset();
                self.size = size;
                return Some(value);
            };
            frame.list.length = frame.list.length.saturating_add(1);
            if self.elements > 0 && frame.kind != Aggregate::Attribute {
                self.elements -= 1;
                frame.list.items.push(value);
            }
            frame.left = frame.left.map(|left| left.saturating_sub(1));
            value = self.stack.pop_if(|frame| frame.left == Some(0))?.into_value()?;
        }
    }

    /// Begins to count the bytes of a new value.
    pub(super) fn begin_value(&mut self) {
        self.size = 0;
    }
}

impl Passing {
    fn into_value(self) -> Value {
        match self.kind {
            StringKind::Bulk => Value::Bulk(self.kept),
            StringKind::Error => Value::BulkError(self.kept),
            StringKind::Verbatim => Value::Verbatim(without_format(self.kept)),
        }
    }
}

impl Frame {
    /// `None` for an attribute, which is not a value.
    fn into_value(self) -> Option<Value> {
        match self.kind {
            Aggregate::Array => Some(Value::Array(self.list)),
            Aggregate::Set => Some(Value::Set(self.list)),
            Aggregate::Push => Some(Value::Push(self.list)),
            Aggregate::Map => Some(Value::Map(self.list)),
            Aggregate::Attribute => None,
        }
    }
}

/// A verbatim string begins with three letters for its format and a colon.
fn without_format(kept: Kept) -> Kept {
    match kept.bytes.split_at_checked(4) {
        Some(([_, _, _, b':'], text)) => Kept { bytes: text.to_vec(), length: kept.length - 4 },
        _ => kept,
    }
}

/// A decimal number with an optional sign and nothing else.
fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether it is a decimal number of any size.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
