//! One SCTP association of a capture (RFC 9260): from chunks to the bytes of each stream, and what has been lost.
//!
//! A sender numbers its chunks of data across all of its streams (TSN). They are put in that order, each goes to its
//! stream, and the messages of a stream become one run of bytes. The sequence numbers of a stream tell whether what was
//! lost was of this stream.

use std::collections::BTreeMap;

use protocols::{Direction, Span, Time};

use super::chunk::{Chunk, Data, InStream, Init};
use super::ledger::Bytes;
use super::table::Entry;
use super::tcp::{Doubt, Opening, index};

/// The most user data that a DATA chunk can have: its length has 16 bits (section 3.3.1). How much a chunk had that was
/// not captured, nothing tells.
const MOST_DATA: u64 = 65_535 - 16;

/// A TSN further ahead is not of this association: chunks of a usual size would take a window of more than 1 GiB.
const MAX_AHEAD: u64 = 1 << 20;

/// Where TSNs are counted from, so that those from before a capture still have a place.
const TSN_BASE: u64 = 1 << 32;

/// A chunk ahead of its turn.
#[derive(Debug)]
struct Held {
    place: InStream,
    bytes: Vec<u8>,
    length: usize,
    time: Time,
}

impl Held {
    fn size(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// The tag of its sender, from INIT or INIT ACK: packets of the other direction have it.
    announced: Option<u32>,
    /// The tag of its packets.
    tag: Option<u32>,
    /// The next TSN in order, counted in 64 bits.
    next: Option<u64>,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    /// Chunks that were given up.
    missing: u64,
    /// The TSN behind the highest that was acknowledged.
    acknowledged: u64,
    doubt: Doubt,
    /// Whether a chunk of data was taken.
    begun: bool,
    ended: bool,
}

impl Half {
    fn begin(&mut self, tsn: u32) -> u64 {
        *self.next.insert(TSN_BASE + u64::from(tsn))
    }

    /// A TSN in 64 bits, by the one that is next.
    fn unwrap(&self, tsn: u32) -> Option<u64> {
        let next = self.next?;
        next.checked_add_signed(i64::from(tsn.wrapping_sub(next as u32) as i32))
    }

    fn hold(&mut self, tsn: u64, held: Held) {
        self.begun = true;
        self.held_bytes += held.size();
        self.held.insert(tsn, held);
    }

    /// The next chunk in order. What is missing before `passed` is given up.
    fn take(&mut self, passed: u64) -> Option<Held> {
        let next = self.next?;
        let first = self.held.first_key_value().map_or(u64::MAX, |(&tsn, _)| tsn);
        let gone = first.min(passed).saturating_sub(next);
        self.missing += gone;
        self.next = Some(next + gone);
        let held = self.held.remove(&(next + gone))?;
        self.next = Some(next + gone + 1);
        self.held_bytes -= held.size();
        Some(held)
    }

    /// Up to where holes are given up, if more than `limit` bytes are held.
    fn too_much(&self, limit: usize) -> u64 {
        let first = self.held.first_key_value().map(|(&tsn, _)| tsn);
        first.filter(|_| self.held_bytes > limit).unwrap_or_default()
    }
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    /// Where its next byte stands.
    position: u64,
    begun: bool,
    sequence: u16,
    /// Inside of a message.
    inside: bool,
    /// How many chunks of the direction had been given up when its last one came.
    missing: u64,
    latest: Time,
}

impl Order {
    /// How many chunks of the stream are missing before this one: at most as many as the direction lost meanwhile.
    fn missing_before(&self, place: InStream, missing: u64, midstream: bool) -> u64 {
        let InStream { sequence, first, unordered, .. } = place;
        let lost = missing - self.missing;
        let follows = sequence == self.sequence && first != self.inside;
        // Numbers begin anew after a reset of the stream (RFC 6525).
        let anew = sequence == 0 && first && lost == 0;
        if unordered || follows || anew || (midstream && !self.begun) { 0 } else { lost.max(1) }
    }

    fn advance(&mut self, place: InStream, missing: u64) {
        self.begun = true;
        if !place.unordered {
            self.sequence = place.sequence.wrapping_add(u16::from(place.last));
            self.inside = !place.last;
            self.missing = missing;
        }
    }
}

/// Both directions, and the streams.
#[derive(Debug, Default)]
pub struct Association {
    /// The direction of whoever sent INIT, if that is known.
    pub client: Option<Direction>,
    /// Neither INIT nor its answer was captured.
    pub midstream: bool,
    pub closed: bool,
    /// The connections of all streams but 0, whose connection is that of the entry that this is a part of.
    pub streams: BTreeMap<u16, Box<Entry>>,
    halves: [Half; 2],
    orders: BTreeMap<u16, [Order; 2]>,
}

/// A packet's circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub direction: Direction,
    /// The verification tag.
    pub tag: u32,
    pub time: Time,
    /// Bytes that a direction may hold ahead of their turn.
    pub limit: usize,
}

/// What happens to the connections.
#[derive(Debug)]
pub enum Step {
    Piece(Piece),
    /// Nothing more comes in this direction.
    End(Direction),
    /// Nothing more comes.
    Close,
}

/// Bytes of a stream.
#[derive(Debug)]
pub struct Piece {
    pub stream: u16,
    pub direction: Direction,
    pub position: u64,
    /// How many bytes are missing before it.
    pub lost: u64,
    pub bytes: Vec<u8>,
    pub length: u64,
    pub span: Span,
}

impl Association {
    /// Nothing seen yet. `client`: the direction of whoever sent INIT, if INIT or its answer was captured.
    pub fn new(client: Option<Direction>) -> Self {
        Self { client, midstream: client.is_none(), ..Self::default() }
    }

    /// What an INIT or INIT ACK means here.
    pub fn opening(&self, direction: Direction, init: Init) -> Opening {
        let own = &self.halves[index(direction)];
        let other = &self.halves[index(direction.other())];
        if own.announced == Some(init.tag) {
            return Opening::Same;
        }
        match init.answer {
            _ if self.closed || own.begun => Opening::New,
            true => Opening::Same,
            false if other.begun => Opening::New,
            // Both sides have sent INIT (section 5.2.1).
            false if other.announced.is_some() => Opening::Simultaneous,
            false => Opening::Same,
        }
    }

    /// Bytes that are held for their turn, and by the connections of streams.
    pub fn held(&self) -> usize {
        let ahead: usize = self.halves.iter().map(|half| half.held_bytes).sum();
        ahead + self.streams.values().map(|stream| stream.connection.held()).sum::<usize>()
    }

    /// Takes a packet.
    pub fn packet(&mut self, arrival: Arrival, chunks: &[Chunk<'_>], bytes: &mut Bytes) -> Vec<Step> {
        let Arrival { direction, time, .. } = arrival;
        let mut steps = Vec::new();
        for &chunk in chunks {
            match chunk {
                Chunk::Data(data) => self.data(arrival, data, bytes, &mut steps),
                Chunk::Init(init) => self.init(direction, init),
                Chunk::Sack(tsn) => {
                    self.meet(direction.other(), tsn);
                    self.acknowledge(direction.other(), tsn, time, &mut steps);
                }
                Chunk::ForwardTsn(tsn) => self.acknowledge(direction, tsn, time, &mut steps),
                Chunk::Shutdown(tsn) => {
                    self.acknowledge(direction.other(), tsn, time, &mut steps);
                    if self.believes(arrival, false) {
                        self.end(direction, time, &mut steps);
                    }
                }
                Chunk::Over { reflected } if self.believes(arrival, reflected) => self.finish(time, &mut steps),
                Chunk::Over { .. } => {}
            }
        }
        steps
    }

    /// The association is over. What is missing has been lost.
    pub fn finish(&mut self, time: Time, steps: &mut Vec<Step>) {
        for direction in [Direction::Read, Direction::Write] {
            self.end(direction, time, steps);
        }
        if !std::mem::replace(&mut self.closed, true) {
            steps.push(Step::Close);
        }
    }

    fn init(&mut self, direction: Direction, init: Init) {
        let other = &mut self.halves[index(direction.other())];
        if !other.begun {
            other.tag = Some(init.tag);
        }
        let half = &mut self.halves[index(direction)];
        if !half.begun {
            half.announced = Some(init.tag);
            half.begin(init.tsn);
        }
    }

    /// Whether a packet that ends something has the tag that its receiver expects (section 8.5).
    fn believes(&self, arrival: Arrival, reflected: bool) -> bool {
        let other = arrival.direction.other();
        let expected = if reflected { other } else { arrival.direction };
        self.halves[index(expected)].tag.is_none_or(|tag| tag == arrival.tag)
    }

    fn data(&mut self, arrival: Arrival, data: Data<'_>, bytes: &mut Bytes, steps: &mut Vec<Step>) {
        let Data { tsn, place, user } = data;
        let half = &mut self.halves[index(arrival.direction)];
        let length = user.length as u64;
        bytes.seen += length;
        let known = half.unwrap(tsn).filter(|&at| half.begun || at.abs_diff(half.next.unwrap_or(at)) <= MAX_AHEAD);
        // Of several INIT ACKs, the client may have taken another one.
        let at = known.unwrap_or_else(|| half.begin(tsn));
        let next = half.next.unwrap_or(at);
        if at < next || half.held.contains_key(&at) {
            bytes.duplicate += length;
        } else if self.closed || half.ended || at - next > MAX_AHEAD {
            bytes.rejected += length;
        } else {
            half.tag = Some(arrival.tag);
            half.hold(at, Held { place, bytes: user.bytes.to_vec(), length: user.length, time: arrival.time });
            self.pass(arrival.direction, 0, steps);
            while let passed @ 1.. = self.halves[index(arrival.direction)].too_much(arrival.limit) {
                self.pass(arrival.direction, passed, steps);
            }
        }
    }

    /// A chunk with this TSN has passed. If it is the first that is heard of its direction, it was not captured; in an
    /// association that was joined in its middle, what passed before is of no interest.
    fn meet(&mut self, direction: Direction, tsn: u32) {
        let half = &mut self.halves[index(direction)];
        if half.next.is_none() {
            half.begin(tsn.wrapping_add(u32::from(self.midstream)));
        }
    }

    /// The chunks of `direction` up to this TSN have passed, whether they were captured or not.
    fn acknowledge(&mut self, direction: Direction, tsn: u32, time: Time, steps: &mut Vec<Step>) {
        let half = &mut self.halves[index(direction)];
        let (Some(next), Some(behind)) = (half.next, half.unwrap(tsn).map(|tsn| tsn + 1)) else { return };
        if half.ended || behind <= next || behind - next > MAX_AHEAD {
            return;
        }
        half.acknowledged = half.acknowledged.max(behind);
        if let Some(certain) = half.doubt.acknowledge(behind, time) {
            self.pass(direction, certain, steps);
        }
    }

    /// Hands out what is in order. What is missing before the TSN `passed` is given up.
    fn pass(&mut self, direction: Direction, passed: u64, steps: &mut Vec<Step>) {
        let half = &mut self.halves[index(direction)];
        while let Some(held) = half.take(passed) {
            let order = &mut self.orders.entry(held.place.stream).or_default()[index(direction)];
            let missing = order.missing_before(held.place, half.missing, self.midstream);
            order.advance(held.place, half.missing);
            steps.push(Step::Piece(piece(order, direction, missing, held)));
        }
    }

    /// A direction is over. Of what is missing at its end nothing tells the stream, so that each may miss it.
    fn end(&mut self, direction: Direction, time: Time, steps: &mut Vec<Step>) {
        let half = &mut self.halves[index(direction)];
        if std::mem::replace(&mut half.ended, true) {
            return;
        }
        let behind = half.held.last_key_value().map_or(0, |(tsn, _)| tsn + 1);
        let passed = behind.max(half.acknowledged);
        self.pass(direction, passed, steps);
        let missing = self.halves[index(direction)].missing;
        for (&stream, orders) in &mut self.orders {
            let order = &mut orders[index(direction)];
            let place = InStream { stream, sequence: order.sequence, unordered: true, first: true, last: true };
            let nothing = Held { place, bytes: Vec::new(), length: 0, time };
            if missing > order.missing {
                steps.push(Step::Piece(piece(order, direction, missing - order.missing, nothing)));
            }
        }
        steps.push(Step::End(direction));
    }
}

/// Bytes at their place in the stream. They could not be read before what is in front of them.
fn piece(order: &mut Order, direction: Direction, missing: u64, held: Held) -> Piece {
    let lost = missing.saturating_mul(MOST_DATA);
    let length = held.length as u64;
    let position = order.position.saturating_add(lost);
    order.position = position.saturating_add(length);
    order.latest = order.latest.max(held.time);
    let span = Span::at(order.latest);
    Piece { stream: held.place.stream, direction, position, lost, bytes: held.bytes, length, span }
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;
