//! Putting the segments of one direction in order.
//!
//! Segments come with their position in the stream, so a gap, a duplicate and a reordering are facts. The first copy
//! of a byte wins. A segment that arrives ahead of its turn is held until what is missing arrives, or until the
//! caller gives up on it ([`Reassembler::flush`]) or too much is held: then the hole is reported as lost.

use std::collections::BTreeMap;

use crate::Span;

/// A run of bytes that moved in one transfer.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Place of the first byte in its direction's stream.
    pub position: u64,
    /// The captured bytes: the first ones of the run.
    pub bytes: &'a [u8],
    /// Length of the whole run; what is beyond `bytes` was cut off by the capture limit.
    pub length: u64,
    /// When it moved.
    pub span: Span,
}

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They passed unseen: lost on the way here, or moved by a call that shows no content.
    Lost,
    /// They were seen and cut off by the capture limit.
    Truncated,
}

/// What comes out, in stream order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes. `transfer_start`: the first of them was the first of its transfer.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// When they moved.
        span: Span,
        /// Whether the first of them was the first of its transfer.
        transfer_start: bool,
    },
    /// Bytes that exist and are not here.
    Missing {
        /// How many.
        length: u64,
        /// Why.
        cause: Cause,
        /// When they moved, where known.
        span: Option<Span>,
    },
}

/// What happened to the segments of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes that were delivered in order.
    pub delivered: u64,
    /// Bytes that were cut off by the capture limit.
    pub truncated: u64,
    /// Bytes that never arrived.
    pub lost: u64,
    /// Bytes that arrived again.
    pub duplicate: u64,
    /// Bytes that arrived again with another content, while the first copy was still held.
    pub conflicting: u64,
}

#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    length: u64,
    span: Span,
    transfer_start: bool,
}

/// One direction of one stream.
#[derive(Debug, Default)]
pub struct Reassembler {
    next: Option<u64>,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    limit: usize,
    /// When what was handed out last moved.
    latest: Span,
    tally: Tally,
}

impl Reassembler {
    /// Holds at most `limit` bytes ahead of their turn. `start`: position of the stream's first byte; without it the
    /// first segment is the start.
    pub fn new(start: Option<u64>, limit: usize) -> Self {
        Self {
            next: start,
            held: BTreeMap::new(),
            held_bytes: 0,
            limit,
            latest: Span::default(),
            tally: Tally::default(),
        }
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether segments are held that wait for missing ones.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes held ahead of their turn, with what it takes to hold them.
    pub fn held(&self) -> usize {
        self.held_bytes
    }

    /// Position of the next byte in order, once known.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Takes a segment and hands out what is now in order.
    pub fn insert(&mut self, segment: Segment<'_>, deliver: &mut dyn FnMut(Chunk<'_>)) {
        let next = *self.next.get_or_insert(segment.position);
        let mut segment = Segment { length: segment.length.max(segment.bytes.len() as u64), ..segment };
        let mut transfer_start = true;
        if segment.position < next {
            let old = (next - segment.position).min(segment.length);
            self.tally.duplicate += old;
            segment = tail(segment, old);
            transfer_start = old == 0;
        }
        if segment.length == 0 {
            return;
        }
        if segment.position > next {
            self.hold(segment, transfer_start);
            while self.held_bytes > self.limit {
                self.give_up_first_hole(deliver);
            }
            return;
        }
        if self.held.range(..next + segment.length).next().is_some() {
            // What is held arrived first.
            self.hold(segment, transfer_start);
        } else {
            self.deliver(segment.bytes, segment.length, segment.span, transfer_start, deliver);
        }
        self.release(deliver);
    }

    /// Gives up on everything that is missing before what is held, and hands that out.
    pub fn flush(&mut self, deliver: &mut dyn FnMut(Chunk<'_>)) {
        while !self.held.is_empty() {
            self.give_up_first_hole(deliver);
        }
    }

    /// Gives up on what is missing before `position`: the other side has acknowledged it, so it did pass.
    pub fn flush_before(&mut self, position: u64, deliver: &mut dyn FnMut(Chunk<'_>)) {
        while self.held.first_key_value().is_some_and(|(&start, _)| start < position) {
            self.give_up_first_hole(deliver);
        }
        let next = *self.next.get_or_insert(position);
        if next < position {
            self.miss(position - next, Cause::Lost, None, deliver);
            self.release(deliver);
        }
    }

    fn hold(&mut self, segment: Segment<'_>, transfer_start: bool) {
        let mut rest = segment;
        let mut start = transfer_start;
        while rest.length > 0 {
            let begin = rest.position;
            if let Some((&at, held)) = self.held.range(..=begin).next_back() {
                let covered = (at + held.length).saturating_sub(begin).min(rest.length);
                if covered > 0 {
                    self.tally.duplicate += covered;
                    self.tally.conflicting += conflicts(held, (begin - at) as usize, rest.bytes, covered as usize);
                    rest = tail(rest, covered);
                    start = false;
                    continue;
                }
            }
            let free = self.held.range(begin..).next().map_or(rest.length, |(&at, _)| at - begin).min(rest.length);
            let captured = rest.bytes.len().min(free as usize);
            let bytes = rest.bytes.get(..captured).unwrap_or_default().to_vec();
            self.held_bytes += captured + size_of::<Held>();
            self.held.insert(begin, Held { bytes, length: free, span: rest.span, transfer_start: start });
            rest = tail(rest, free);
            start = false;
        }
    }

    fn release(&mut self, deliver: &mut dyn FnMut(Chunk<'_>)) {
        while let Some(entry) = self.held.first_entry() {
            if Some(*entry.key()) != self.next {
                break;
            }
            let held = entry.remove();
            self.held_bytes -= held.bytes.len() + size_of::<Held>();
            // What came ahead of its turn has waited for what is in front of it: nobody could read it before.
            let Span { start, end } = held.span;
            let span = Span { start: start.max(self.latest.start), end: end.max(self.latest.end) };
            self.deliver(&held.bytes, held.length, span, held.transfer_start, deliver);
        }
    }

    fn give_up_first_hole(&mut self, deliver: &mut dyn FnMut(Chunk<'_>)) {
        let (Some((&start, held)), Some(next)) = (self.held.first_key_value(), self.next) else { return };
        let span = held.span;
        self.miss(start - next, Cause::Lost, Some(span), deliver);
        self.release(deliver);
    }

    fn deliver(&mut self, bytes: &[u8], length: u64, span: Span, start: bool, deliver: &mut dyn FnMut(Chunk<'_>)) {
        self.latest = span;
        if !bytes.is_empty() {
            self.tally.delivered += bytes.len() as u64;
            self.next = self.next.map(|next| next + bytes.len() as u64);
            deliver(Chunk::Bytes { bytes, span, transfer_start: start });
        }
        self.miss(length - bytes.len() as u64, Cause::Truncated, Some(span), deliver);
    }

    fn miss(&mut self, length: u64, cause: Cause, span: Option<Span>, deliver: &mut dyn FnMut(Chunk<'_>)) {
        if length == 0 {
            return;
        }
        match cause {
            Cause::Lost => self.tally.lost += length,
            Cause::Truncated => self.tally.truncated += length,
        }
        self.next = self.next.map(|next| next + length);
        deliver(Chunk::Missing { length, cause, span });
    }
}

/// What is behind the first `n` bytes of a segment.
fn tail(segment: Segment<'_>, n: u64) -> Segment<'_> {
    Segment {
        position: segment.position + n,
        bytes: segment.bytes.get(n as usize..).unwrap_or_default(),
        length: segment.length - n,
        span: segment.span,
    }
}

/// How many of the first `covered` bytes of `again` differ from what is held from `from` on.
fn conflicts(held: &Held, from: usize, again: &[u8], covered: usize) -> u64 {
    let first = held.bytes.get(from..).unwrap_or_default();
    first.iter().zip(again.iter().take(covered)).filter(|(a, b)| a != b).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    fn segment(position: u64, bytes: &[u8]) -> Segment<'_> {
        Segment { position, bytes, length: bytes.len() as u64, span: Span::default() }
    }

    /// What comes out, holes as question marks.
    fn text(chunk: Chunk<'_>) -> String {
        match chunk {
            Chunk::Bytes { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            Chunk::Missing { length, .. } => "?".repeat(length as usize),
        }
    }

    #[test]
    fn a_segment_in_order_that_overlaps_held_ones_loses_to_them() {
        let mut reassembler = Reassembler::new(Some(0), 1000);
        let mut out = String::new();
        let mut deliver = |chunk: Chunk<'_>| out += &text(chunk);
        reassembler.insert(segment(2, b"CD"), &mut deliver);
        reassembler.insert(segment(6, b"GH"), &mut deliver);
        reassembler.insert(segment(0, b"abcdefg"), &mut deliver);
        reassembler.insert(segment(8, b"i"), &mut deliver);
        reassembler.flush(&mut deliver);
        assert_eq!(out, "abCDefGHi");
        let tally = reassembler.tally();
        assert_eq!((tally.delivered, tally.duplicate, tally.conflicting, tally.lost), (9, 3, 3, 0));
        assert_eq!(reassembler.held(), 0);
    }

    #[test]
    fn what_came_ahead_of_its_turn_passed_when_what_it_waited_for_did() {
        let mut reassembler = Reassembler::new(Some(0), 1000);
        let mut times = Vec::new();
        let mut deliver = |chunk: Chunk<'_>| {
            if let Chunk::Bytes { span, .. } = chunk {
                times.push((span.start.0, span.end.0));
            }
        };
        let during = |position, start, end| Segment {
            span: Span { start: Time(start), end: Time(end) },
            ..segment(position, b"ab")
        };
        reassembler.insert(during(2, 5, 6), &mut deliver);
        reassembler.insert(during(4, 7, 12), &mut deliver);
        reassembler.insert(during(0, 8, 9), &mut deliver);
        reassembler.insert(during(6, 10, 11), &mut deliver);
        assert_eq!(times, [(8, 9), (8, 9), (8, 12), (10, 11)]);
    }

    #[test]
    fn what_is_held_right_behind_an_acknowledged_hole_is_released() {
        let mut reassembler = Reassembler::new(Some(0), 1000);
        let mut out = String::new();
        reassembler.insert(segment(4, b"efgh"), &mut |_| {});
        reassembler.flush_before(4, &mut |chunk| out += &text(chunk));
        assert_eq!(out, "????efgh");
        assert_eq!((reassembler.is_waiting(), reassembler.held()), (false, 0));
    }
}
