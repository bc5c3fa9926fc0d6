//! One TCP connection of a capture: from sequence numbers to stream positions, and when a hole is given up.
//!
//! Nothing here guesses. A hole is a fact once the receiver acknowledged bytes behind it in two packets: one alone may
//! be forged or, in captures of several queues, come before the bytes that it acknowledges.

use protocols::{Connection, Direction, Exchange, Segment, Span, Time};

use super::ip::Tcp;
use super::ledger::ReplayLedger;
use super::packet::Wire;

/// Position of the first byte that is seen of a connection which was joined in its middle: what comes before it in
/// the stream can still be told apart.
const MIDSTREAM_START: u64 = 1 << 32;

/// No window is larger (RFC 7323 section 2.3): a segment further ahead is not of this connection.
const MAX_WINDOW: u64 = 1 << 30;

/// Urgent bytes of one direction that are set apart.
const URGENT: usize = 1024;

/// How far apart the two acknowledgments must be.
const REORDERING_NS: u64 = 1_000_000;

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// Sequence number of the SYN.
    initial: Option<u32>,
    /// A sequence number and its position: the highest that was seen.
    reference: Option<(u32, u64)>,
    /// Whether a byte was delivered.
    begun: bool,
    /// Position behind the last byte, from the FIN.
    end: Option<u64>,
    ended: bool,
    /// Highest position that the other side acknowledged.
    acknowledged: u64,
    /// Positions of urgent bytes, in order. They are no part of what a receiver reads (tcp(7), SO_OOBINLINE).
    urgent: Vec<u64>,
    doubt: Doubt,
}

/// The first of two acknowledgments, while the second is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt(Option<(u64, Time)>);

impl Doubt {
    /// Whether an acknowledgment waits for a second one.
    pub fn is_open(self) -> bool {
        self.0.is_some()
    }

    /// Takes an acknowledgment of everything before `position`. The place that is certain with it, if it is the second.
    pub fn acknowledge(&mut self, position: u64, time: Time) -> Option<u64> {
        let (first, since) = *self.0.get_or_insert((position, time));
        let certain = position >= first && time.0.saturating_sub(since.0) >= REORDERING_NS;
        self.0.take_if(|_| certain).map(|_| first)
    }
}

impl Half {
    fn begin(&mut self, sequence: u32, position: u64) {
        self.reference.get_or_insert((sequence, position));
    }

    /// Position of a sequence number; `None` before the start of the stream.
    fn position(&self, sequence: u32) -> Option<u64> {
        let (known, position) = self.reference?;
        position.checked_add_signed(i64::from(sequence.wrapping_sub(known) as i32))
    }

    fn highest(&self) -> u64 {
        self.reference.map_or(0, |(_, position)| position)
    }

    /// The byte that an urgent pointer means, which points behind it (tcp(7), tcp_stdurg). One that may have been read
    /// already is left alone.
    fn set_apart(&mut self, sequence: u32, pointer: u16) {
        let position = self.position(sequence).map(|position| position + u64::from(pointer.saturating_sub(1)));
        let behind = self.urgent.last().map_or(0, |last| last + 1).max(self.highest());
        if let Some(position) = position.filter(|&position| position >= behind && self.urgent.len() < URGENT) {
            self.urgent.push(position);
        }
    }

    /// Where the byte at `position`, or the one behind it, stands in what a receiver reads.
    fn read_position(&self, position: u64) -> u64 {
        position - self.urgent.partition_point(|&urgent| urgent < position) as u64
    }

    fn advance(&mut self, sequence: u32, position: u64) {
        if self.reference.is_none_or(|(_, known)| position > known) {
            self.reference = Some((sequence, position));
        }
    }
}

/// The two directions of a connection. Index 0 is [`Direction::Read`].
#[derive(Debug, Default)]
pub struct Stream {
    halves: [Half; 2],
    pub closed: bool,
}

/// What a SYN says of the connection that its addresses had so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It belongs to it.
    Same,
    /// Both sides sent a SYN that acknowledges nothing (RFC 9293 section 3.5, figure 8).
    Simultaneous,
    /// A new connection uses the addresses again.
    New,
}

/// One segment on its way.
pub struct Arrival<'a> {
    pub direction: Direction,
    pub header: Tcp,
    pub payload: Wire<'a>,
    pub time: Time,
}

/// Where a segment goes: the connection, what comes out of it, what is counted.
pub struct Target<'a> {
    pub connection: &'a mut Connection,
    pub exchanges: &'a mut Vec<Exchange>,
    pub ledger: &'a mut ReplayLedger,
}

/// Where a direction is in a pair of them.
pub fn index(direction: Direction) -> usize {
    match direction {
        Direction::Read => 0,
        Direction::Write => 1,
    }
}

impl Stream {
    /// What a segment with SYN means here.
    pub fn opening(&self, direction: Direction, header: Tcp) -> Opening {
        let own = &self.halves[index(direction)];
        let other = &self.halves[index(direction.other())];
        if own.initial == Some(header.sequence) {
            return Opening::Same;
        }
        // With TCP Fast Open (RFC 7413) the answer also acknowledges data of the SYN.
        let acknowledged = header.acknowledgment.and_then(|number| other.position(number));
        let answers = other.initial.is_some() && acknowledged.is_some_and(|position| position <= other.highest());
        match (header.acknowledgment, own.initial, other.initial) {
            _ if self.closed || own.begun || own.end.is_some() => Opening::New,
            (None, None, Some(_)) if !other.begun => Opening::Simultaneous,
            (Some(_), _, Some(_)) if answers => Opening::Same,
            _ => Opening::New,
        }
    }

    /// Takes a segment. It ends the connection if nothing can follow.
    pub fn segment(&mut self, arrival: &Arrival<'_>, target: &mut Target<'_>) {
        let Arrival { direction, header, payload, time } = *arrival;
        target.ledger.bytes.seen += payload.length as u64;
        let sequence = if header.syn { header.sequence.wrapping_add(1) } else { header.sequence };
        if header.syn {
            self.open(direction, header, target);
        }
        if header.rst {
            return self.reset(arrival, target);
        }
        self.begin(direction, sequence, header, payload.length, target);
        if let Some(number) = header.acknowledgment {
            self.acknowledge(direction.other(), number, time, target);
        }
        if let Some(pointer) = header.urgent {
            self.halves[index(direction)].set_apart(sequence, pointer);
        }
        self.data(direction, sequence, payload, time, target);
        if header.fin {
            self.fin(direction, sequence, payload.length);
        }
        self.end_what_is_whole(time, target);
    }

    fn open(&mut self, direction: Direction, header: Tcp, target: &mut Target<'_>) {
        let half = &mut self.halves[index(direction)];
        half.initial = Some(header.sequence);
        if !half.begun {
            half.reference = Some((header.sequence.wrapping_add(1), 0));
            target.connection.flush_before(direction, 0, target.exchanges);
        }
        let Some(number) = header.acknowledgment else { return };
        let peer = &mut self.halves[index(direction.other())];
        if peer.reference.is_none() {
            // The SYN was not captured; its answer tells where the stream starts.
            peer.initial = Some(number.wrapping_sub(1));
            peer.reference = Some((number, 0));
            target.connection.flush_before(direction.other(), 0, target.exchanges);
        }
    }

    /// The first segment of a direction whose SYN was not seen tells where it is; so does what the other side
    /// acknowledges.
    fn begin(&mut self, direction: Direction, sequence: u32, header: Tcp, length: usize, target: &mut Target<'_>) {
        let from_start = self.halves.iter().any(|half| half.initial.is_some());
        let start = if from_start { 0 } else { MIDSTREAM_START };
        let half = &mut self.halves[index(direction)];
        if length > 0 || header.fin {
            half.begin(sequence, start);
        }
        let first = from_start && !half.begun && half.position(sequence) == Some(0);
        let peer = &mut self.halves[index(direction.other())];
        let Some(number) = header.acknowledgment.filter(|_| peer.reference.is_none()) else { return };
        if !from_start {
            peer.begin(number, start);
        } else if first {
            // The answer to the SYN was not captured; the first segment behind it acknowledges nothing else.
            peer.begin(number, start);
            target.connection.flush_before(direction.other(), start, target.exchanges);
        }
    }

    /// The other side has `direction`'s bytes before `number`.
    fn acknowledge(&mut self, direction: Direction, number: u32, time: Time, target: &mut Target<'_>) {
        let half = &mut self.halves[index(direction)];
        let Some(mut position) = half.position(number) else { return };
        let highest = half.end.unwrap_or(half.highest());
        if position == highest + 1 || half.end.is_some_and(|end| position > end) {
            // The FIN takes a number too, also one that was not captured.
            position = highest;
        }
        if position > highest + MAX_WINDOW {
            return;
        }
        half.acknowledged = half.acknowledged.max(position);
        if target.connection.is_done() {
            return;
        }
        let next = target.connection.position(direction);
        if next.is_none_or(|next| half.read_position(position) <= next) {
            return;
        }
        if let Some(certain) = half.doubt.acknowledge(position, time) {
            half.advance(number, position);
            target.connection.flush_before(direction, half.read_position(certain), target.exchanges);
        }
    }

    fn data(&mut self, direction: Direction, sequence: u32, payload: Wire<'_>, time: Time, target: &mut Target<'_>) {
        let half = &mut self.halves[index(direction)];
        let length = payload.length as u64;
        if length == 0 {
            return;
        }
        // A keep-alive probe repeats one byte that was acknowledged, or makes one up (RFC 9293 section 3.8.4).
        let position = half.position(sequence);
        let probe = length == 1 && !half.begun && position.is_some_and(|position| position < half.acknowledged);
        let Some(position) = position.filter(|_| !probe) else {
            target.ledger.bytes.duplicate += length;
            return;
        };
        let beyond = half.end.is_some_and(|end| position + length > end);
        if self.closed || half.ended || beyond || position > half.highest() + MAX_WINDOW {
            let end = half.read_position(position + length);
            let repeated = target.connection.position(direction).is_some_and(|next| end <= next);
            let bytes = &mut target.ledger.bytes;
            *if repeated { &mut bytes.duplicate } else { &mut bytes.rejected } += length;
            return;
        }
        half.begun = true;
        half.advance(sequence.wrapping_add(length as u32), position + length);
        if target.connection.is_done() {
            target.ledger.bytes.passed_over += length;
            return;
        }
        self.deliver(direction, position, payload, time, target);
    }

    /// Hands over what is read of a segment.
    fn deliver(&self, direction: Direction, position: u64, payload: Wire<'_>, time: Time, target: &mut Target<'_>) {
        let half = &self.halves[index(direction)];
        let (mut at, mut rest) = (position, Some(payload));
        let give = |at: u64, piece: Wire<'_>, target: &mut Target<'_>| {
            if target.connection.is_done() {
                // It can be since the piece before.
                target.ledger.bytes.passed_over += piece.length as u64;
                return;
            }
            let position = half.read_position(at);
            let segment = Segment { position, bytes: piece.bytes, length: piece.length as u64, span: Span::at(time) };
            target.connection.data(protocols::Layer::Socket, direction, segment, target.exchanges);
        };
        let inside = half.urgent.iter().filter(|urgent| (position..position + payload.length as u64).contains(urgent));
        for &urgent in inside {
            let Some(piece) = rest else { return };
            let before = (urgent - at) as usize;
            if before > 0 {
                give(at, piece.with_length(before), target);
            }
            (at, rest) = (urgent + 1, piece.behind_uncaptured(before + 1));
            target.ledger.bytes.rejected += 1;
        }
        if let Some(piece) = rest.filter(|piece| piece.length > 0) {
            give(at, piece, target);
        }
    }

    fn fin(&mut self, direction: Direction, sequence: u32, length: usize) {
        let half = &mut self.halves[index(direction)];
        let Some(position) = half.position(sequence.wrapping_add(length as u32)) else { return };
        if position >= half.highest() && position <= half.highest() + MAX_WINDOW {
            half.end.get_or_insert(position);
        }
    }

    /// Ends a direction once everything before its FIN has passed, and the connection once both have ended.
    fn end_what_is_whole(&mut self, time: Time, target: &mut Target<'_>) {
        for direction in [Direction::Read, Direction::Write] {
            let half = &mut self.halves[index(direction)];
            let whole = half.end.is_some_and(|end| {
                let read = half.read_position(end);
                target.connection.is_done() || target.connection.position(direction).is_none_or(|next| next >= read)
            });
            if whole && !half.ended {
                half.ended = true;
                target.connection.end(direction, time, target.exchanges);
            }
        }
        if !self.closed && self.halves.iter().all(|half| half.ended) {
            self.closed = true;
            target.connection.close(time, target.exchanges);
        }
    }

    /// A reset is believed only at a place where its receiver would take it: exactly where the stream goes on
    /// (RFC 5961 section 3.2), or as the answer to a SYN. A connection that ends with one that is not believed is
    /// closed at the end of the capture instead.
    fn reset(&mut self, arrival: &Arrival<'_>, target: &mut Target<'_>) {
        let Arrival { direction, header, payload, time } = *arrival;
        // What a reset carries is a message for people (RFC 9293 section 3.10.7), not of the stream.
        target.ledger.bytes.rejected += payload.length as u64;
        let half = &self.halves[index(direction)];
        let other = &self.halves[index(direction.other())];
        let expected = match half.position(header.sequence) {
            Some(position) => {
                position == half.highest()
                    || Some(position) == half.end.map(|end| end + 1)
                    || Some(half.read_position(position)) == target.connection.position(direction)
                    || position == half.acknowledged
            }
            None => half.reference.is_none() && header.acknowledgment == other.initial.map(|n| n.wrapping_add(1)),
        };
        if expected && !self.closed {
            self.finish(time, target);
        }
    }

    /// The connection is over. Bytes that were acknowledged and not captured are lost.
    pub fn finish(&mut self, time: Time, target: &mut Target<'_>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        for direction in [Direction::Read, Direction::Write] {
            let half = &self.halves[index(direction)];
            let known = target.connection.position(direction).is_some() && !target.connection.is_done();
            if half.doubt.is_open() && known {
                target.connection.flush_before(direction, half.read_position(half.acknowledged), target.exchanges);
            }
        }
        target.connection.close(time, target.exchanges);
    }
}
