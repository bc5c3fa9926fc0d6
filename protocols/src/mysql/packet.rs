//! Framing: packets, of which the start of the payload is kept as far as it is wanted.

use std::borrow::Cow;

use super::wire::{self, CONTINUES, HEADER};
use crate::sql::Hole;
use crate::{Cursor, Input, Span};

/// One packet; of a payload that was sent in several, all of them.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    /// Sequence id of the first.
    pub(super) sequence: u8,
    /// Sequence id of the last.
    pub(super) last_sequence: u8,
    /// The payload, or its first bytes.
    pub(super) body: Cow<'a, [u8]>,
    /// Length of the payload.
    pub(super) length: u64,
    /// Size on the wire.
    pub(super) bytes: u64,
    pub(super) first: Span,
    /// `None` when the last byte was not seen.
    pub(super) last: Option<Span>,
    /// Bytes that are missing of what would have been kept.
    pub(super) hole: Option<Hole>,
}

impl Packet<'_> {
    /// The first byte of the payload, which tells what it is.
    pub(super) fn code(&self) -> Option<u8> {
        self.body.first().copied()
    }

    /// Whether it is an EOF packet, as opposed to an OK packet that begins like one or a very long row.
    pub(super) fn is_eof(&self) -> bool {
        self.code() == Some(0xfe) && (self.length == 5 || self.length == 1)
    }

    /// Whether it ends rows: a row that begins like this is longer than one packet.
    pub(super) fn ends_rows(&self) -> bool {
        self.code() == Some(0xfe) && self.length < u64::from(CONTINUES)
    }

    pub(super) fn is_error(&self) -> bool {
        self.code() == Some(0xff)
    }

    pub(super) fn into_owned(self) -> Packet<'static> {
        Packet { body: Cow::Owned(self.body.into_owned()), ..self }
    }
}

/// The header of a packet and the first byte behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) sequence: u8,
    /// Absent if the payload is empty.
    pub(super) code: Option<u8>,
}

impl Head {
    /// Reads a header; `Err` says how many bytes that takes.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, usize> {
        let mut cursor = Cursor::new(bytes);
        let (length, sequence) = wire::u24(&mut cursor).zip(cursor.u8()).ok_or(HEADER)?;
        let code = cursor.u8();
        if length > 0 && code.is_none() {
            return Err(HEADER + 1);
        }
        Ok(Self { length, sequence, code: code.filter(|_| length > 0) })
    }
}

/// A packet of which more is to come.
#[derive(Debug)]
struct Partial {
    packet: Packet<'static>,
    /// How much of the payload is kept.
    keep: usize,
    /// Bytes of the payload that are to come before the next header.
    left: u32,
    /// The next bytes are the header of a packet that continues this one.
    continues: bool,
}

/// What became of some bytes.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    /// Wants this many.
    Need(usize),
    /// Consumed this many, all for a packet that goes on.
    More(usize),
    /// Consumed this many; the next `length` bytes need only be counted.
    Pass { consumed: usize, length: u32 },
    /// Consumed this many and ended a packet.
    Packet(usize, Packet<'a>),
}

/// Framing of one direction.
#[derive(Debug, Default)]
pub(super) struct Framer {
    partial: Option<Partial>,
    /// After bytes were lost inside a payload: how many more end it.
    rest: Option<u64>,
}

impl Framer {
    /// Takes what belongs to the next packet. `keep`: how much of a payload to keep, at least one byte.
    pub(super) fn take<'a>(&mut self, input: Input<'a>, keep: impl FnOnce(Head) -> usize) -> Taken<'a> {
        match self.partial.take() {
            Some(partial) if partial.continues => self.continuation(partial, input),
            Some(partial) => self.payload(partial, input, 0),
            None => self.begin(input, keep),
        }
    }

    fn begin<'a>(&mut self, input: Input<'a>, keep: impl FnOnce(Head) -> usize) -> Taken<'a> {
        let head = match Head::read(input.bytes) {
            Ok(head) => head,
            Err(needed) => return Taken::Need(needed),
        };
        let mut packet = Packet {
            sequence: head.sequence,
            last_sequence: head.sequence,
            body: Cow::Borrowed(&[]),
            length: u64::from(head.length),
            bytes: HEADER as u64 + u64::from(head.length),
            first: input.span(0),
            last: Some(input.span(HEADER - 1)),
            hole: None,
        };
        let length = head.length as usize;
        let behind = input.bytes.get(HEADER..).unwrap_or_default();
        if head.length < CONTINUES
            && let Some(body) = behind.get(..length)
        {
            let end = HEADER + length;
            return Taken::Packet(end, Packet { body: body.into(), last: Some(input.span(end - 1)), ..packet });
        }
        packet.body = Cow::Owned(Vec::new());
        let partial =
            Partial { packet: packet.into_owned(), keep: keep(head).max(1), left: head.length, continues: false };
        self.payload(partial, input, HEADER)
    }

    /// The header of a packet that continues the one before.
    fn continuation<'a>(&mut self, mut partial: Partial, input: Input<'a>) -> Taken<'a> {
        let mut cursor = Cursor::new(input.bytes);
        let Some((length, sequence)) = wire::u24(&mut cursor).zip(cursor.u8()) else {
            self.partial = Some(partial);
            return Taken::Need(HEADER);
        };
        partial.continues = false;
        partial.left = length;
        partial.packet.length += u64::from(length);
        partial.packet.bytes += HEADER as u64 + u64::from(length);
        partial.packet.last_sequence = sequence;
        partial.packet.last = Some(input.span(HEADER - 1));
        self.payload(partial, input, HEADER)
    }

    /// Takes payload behind the `from` bytes that were taken already.
    fn payload<'a>(&mut self, mut partial: Partial, input: Input<'a>, from: usize) -> Taken<'a> {
        let wanted = partial.keep.saturating_sub(partial.packet.body.len()).min(partial.left as usize);
        let behind = input.bytes.get(from..).unwrap_or_default();
        let more = behind.get(..wanted).unwrap_or(behind);
        let consumed = from + more.len();
        partial.packet.body.to_mut().extend_from_slice(more);
        partial.left -= more.len() as u32;
        if !more.is_empty() {
            partial.packet.last = Some(input.span(consumed - 1));
        }
        if partial.left == 0 {
            return match self.end_of_payload(partial) {
                Some(packet) => Taken::Packet(consumed, packet),
                None => Taken::More(consumed),
            };
        }
        let length = partial.left;
        let full = partial.packet.body.len() >= partial.keep;
        self.partial = Some(partial);
        if full { Taken::Pass { consumed, length } } else { Taken::More(consumed) }
    }

    fn end_of_payload(&mut self, mut partial: Partial) -> Option<Packet<'static>> {
        // A payload of exactly the greatest length is followed by an empty packet.
        if partial.ended_full_packet() {
            partial.continues = true;
            self.partial = Some(partial);
            return None;
        }
        Some(partial.packet)
    }

    /// What [`Taken::Pass`] asked for has passed.
    pub(super) fn passed(&mut self, last: Option<Span>) -> Option<Packet<'static>> {
        let mut partial = self.partial.take()?;
        partial.left = 0;
        partial.packet.last = last;
        self.end_of_payload(partial)
    }

    /// Bytes are missing. Gives what was seen of the packet they belong to, and whether its end is still known.
    pub(super) fn lose(&mut self, length: u64, hole: Hole) -> (Option<Packet<'static>>, bool) {
        let rest = match &self.partial {
            Some(partial) if partial.continues || partial.packet.length >= u64::from(CONTINUES) => None,
            Some(partial) => Some(u64::from(partial.left)),
            None => self.rest,
        };
        self.rest = rest.and_then(|rest| rest.checked_sub(length));
        let packet = self.partial.take().map(|partial| Packet { last: None, hole: Some(hole), ..partial.packet });
        (packet, self.rest.is_some())
    }

    /// How many bytes end the packet that was hit by a loss; `None` if where the next one begins is not known.
    pub(super) fn rest(&mut self) -> &mut Option<u64> {
        &mut self.rest
    }

    /// Whether a packet has begun that has not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.partial.is_some()
    }

    /// What was seen of a packet of which no more comes.
    pub(super) fn cut(&mut self) -> Option<Packet<'static>> {
        let hole = Some(Hole::CLOSED);
        self.partial.take().map(|partial| Packet { last: None, hole, ..partial.packet })
    }
}

impl Partial {
    /// Whether the packet that has just ended was one of the greatest length: if so, all were.
    fn ended_full_packet(&self) -> bool {
        let packets = (self.packet.bytes - self.packet.length) / HEADER as u64;
        self.packet.length == packets * u64::from(CONTINUES)
    }
}
