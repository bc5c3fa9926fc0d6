//! HPACK (RFC 7541) as an observer decodes it: the dynamic table may be partly unknown, and header blocks may have
//! been cut short by the capture.

mod huffman;
mod table;

#[cfg(test)]
pub(super) mod testing;

use crate::Cursor;
use table::{Known, Lookup, Table};

/// Bytes of decoded names and values that are kept of one block; of what comes behind them only the table is told.
/// A block of a few bytes can refer to one long entry over and over.
const LARGEST_LIST: usize = 64 * 1024;

/// Bytes of names that one block may have copied into the table: far more than any honest block does.
const LARGEST_COPIES: usize = 1024 * 1024;

/// Bytes that a field counts beyond its name and value (RFC 7541, section 4.1).
const OVERHEAD: usize = 32;

/// A header field, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Name and value.
    Known(Vec<u8>, Vec<u8>),
    /// It refers to something in the table that was not seen.
    Unknown,
}

/// What a header block says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// The fields in their order.
    pub(super) fields: Vec<Field>,
    /// Whether the end of the block was not there.
    pub(super) cut: bool,
    /// Whether fields were left out because there were too many.
    pub(super) overflow: bool,
    /// Whether the block broke a rule; then fields are missing at the end.
    pub(super) invalid: bool,
}

/// The decoder of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
}

/// A block ended where a field should go on, or it broke a rule.
enum Failure {
    Short,
    Invalid,
}

/// A block being decoded, and how much it may still cost.
struct Progress<'a> {
    cursor: Cursor<'a>,
    fields: Vec<Field>,
    /// Bytes that [`Self::fields`] may still grow by.
    room: usize,
    /// Bytes of names that may still be copied for new entries.
    copies: usize,
    overflow: bool,
}

impl Progress<'_> {
    /// Adds a field, unless the list has become too large.
    fn keep(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let size = name.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + OVERHEAD;
        let Some(room) = self.room.checked_sub(size).filter(|_| !self.overflow) else {
            self.overflow = true;
            return;
        };
        self.room = room;
        self.fields.push(match (name, value) {
            (Some(name), Some(value)) => Field::Known(name.to_vec(), value.to_vec()),
            _ => Field::Unknown,
        });
    }
}

impl Decoder {
    /// `known`: the connection is seen from its start, so that nothing is in the table yet.
    pub(super) fn new(known: bool) -> Self {
        Self { table: Table::new(!known) }
    }

    /// Nothing was in the table before what was seen.
    pub(super) fn know(&mut self) {
        self.table.know();
    }

    /// Header blocks passed unseen.
    pub(super) fn forget(&mut self) {
        self.table.forget();
    }

    /// Decodes one block. `cut`: its end was not captured, so that what it added to the table is not known either.
    pub(super) fn decode(&mut self, block: &[u8], cut: bool) -> Block {
        let cursor = Cursor::new(block);
        let mut progress =
            Progress { cursor, fields: Vec::new(), room: LARGEST_LIST, copies: LARGEST_COPIES, overflow: false };
        let mut invalid = false;
        while !invalid && !progress.cursor.rest().is_empty() {
            match self.representation(&mut progress) {
                Ok(()) => {}
                Err(Failure::Short) if cut => break,
                Err(Failure::Short | Failure::Invalid) => invalid = true,
            }
        }
        if cut || invalid {
            self.table.forget();
        }
        Block { fields: progress.fields, cut, overflow: progress.overflow, invalid }
    }

    /// One representation (RFC 7541, section 6).
    fn representation(&mut self, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let first = *progress.cursor.rest().first().ok_or(Failure::Short)?;
        match first.leading_zeros() {
            0 => {
                let known = self.lookup(integer(&mut progress.cursor, 7)?)?;
                progress.keep(known.name, known.value);
            }
            1 => {
                let (name, value) = self.literal(progress, 6)?;
                progress.keep(name.as_deref(), Some(&value));
                self.table.insert(name, value);
            }
            2 => self.table.resize(integer(&mut progress.cursor, 5)?),
            _ => {
                let (name, value) = self.literal(progress, 4)?;
                progress.keep(name.as_deref(), Some(&value));
            }
        }
        Ok(())
    }

    fn lookup(&self, index: usize) -> Result<Known<'_>, Failure> {
        match self.table.get(index) {
            Lookup::Entry(known) => Ok(known),
            Lookup::Unknown => Ok(Known { name: None, value: None }),
            Lookup::Invalid => Err(Failure::Invalid),
        }
    }

    /// A name, which is a string or an index that begins with `prefix` bits, and a value.
    fn literal(&self, progress: &mut Progress<'_>, prefix: u32) -> Result<(Option<Vec<u8>>, Vec<u8>), Failure> {
        let name = match integer(&mut progress.cursor, prefix)? {
            0 => Some(string(&mut progress.cursor)?),
            index => self.lookup(index)?.name.map(<[u8]>::to_vec),
        };
        let copied = name.as_ref().map_or(0, Vec::len);
        progress.copies = progress.copies.checked_sub(copied).ok_or(Failure::Invalid)?;
        Ok((name, string(&mut progress.cursor)?))
    }
}

/// An integer with a prefix of `prefix` bits (RFC 7541, section 5.1).
fn integer(cursor: &mut Cursor<'_>, prefix: u32) -> Result<usize, Failure> {
    let mask = u8::MAX >> (8 - prefix);
    let first = cursor.u8().ok_or(Failure::Short)? & mask;
    let mut value = usize::from(first);
    if first < mask {
        return Ok(value);
    }
    // Five continuation octets hold every length, index and size that a frame or a setting can.
    for shift in [0, 7, 14, 21, 28] {
        let byte = cursor.u8().ok_or(Failure::Short)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Failure::Invalid)
}

/// A string literal (RFC 7541, section 5.2).
fn string(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Failure> {
    let huffman = cursor.rest().first().ok_or(Failure::Short)? & 0x80 != 0;
    let length = integer(cursor, 7)?;
    let octets = cursor.take(length).ok_or(Failure::Short)?;
    if huffman { huffman::decode(octets).ok_or(Failure::Invalid) } else { Ok(octets.to_vec()) }
}

#[cfg(test)]
mod tests;
