//! Running a conversation through the driver the way tests need it: whole, split at every byte, with holes.

pub mod mysql;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    Connection, Context, Counters, Direction, Exchange, Layer, Limits, Registration, Segment, Side, Span, Time,
    Transport,
};

/// One conversation of a server with its client: who sent what, in order. Each entry is one transfer, and the
/// transfers are 1 ms apart.
pub type Script<'a> = [(Side, &'a [u8])];

/// A conversation on a connection seen from its start, as the server's process sees it.
pub struct Conversation {
    connection: Connection,
    positions: [u64; 2],
    now: Time,
    exchanges: Vec<Exchange>,
}

/// What the driver is told of the connection.
pub fn context(transport: Transport, midstream: bool) -> Context {
    Context { transport, midstream, limits: Limits::default() }
}

fn direction(side: Side) -> Direction {
    match side {
        Side::Client => Direction::Read,
        Side::Server => Direction::Write,
    }
}

impl Conversation {
    /// Nothing said yet; `registration` is the only protocol that may be recognised.
    pub fn new(registration: &'static Registration, context: Context) -> Self {
        let mut connection = Connection::new(Arc::from([registration]), context, Some(Direction::Read));
        let mut exchanges = Vec::new();
        if !context.midstream {
            // Where the streams begin: the loss of their first bytes shows.
            let start = Segment { position: 0, bytes: &[], length: 0, span: Span::default() };
            connection.data(Layer::Socket, Direction::Read, start, &mut exchanges);
            connection.data(Layer::Socket, Direction::Write, start, &mut exchanges);
        }
        Self { connection, positions: [0; 2], now: Time(0), exchanges }
    }

    /// One transfer 1 ms after the last.
    pub fn say(&mut self, side: Side, bytes: &[u8]) {
        self.now.0 += 1_000_000;
        self.say_part(side, bytes, bytes.len() as u64);
    }

    /// A part of a transfer: at the same time as the one before. `length` beyond `bytes` was cut off.
    pub fn say_part(&mut self, side: Side, bytes: &[u8], length: u64) {
        let position = &mut self.positions[side as usize];
        let segment = Segment { position: *position, bytes, length, span: Span::at(self.now) };
        *position += length;
        self.connection.data(Layer::Socket, direction(side), segment, &mut self.exchanges);
    }

    /// One datagram 1 ms after the last.
    pub fn datagram(&mut self, side: Side, bytes: &[u8]) {
        self.now.0 += 1_000_000;
        self.connection.datagram(direction(side), bytes, bytes.len() as u64, Span::at(self.now), &mut self.exchanges);
    }

    /// Time goes by without a word.
    pub fn pause(&mut self, nanoseconds: u64) {
        self.now.0 += nanoseconds;
        self.connection.tick(self.now, &mut self.exchanges);
    }

    /// `length` bytes pass unseen.
    pub fn lose(&mut self, side: Side, length: u64) {
        self.positions[side as usize] += length;
    }

    /// `side` closes its direction.
    pub fn end(&mut self, side: Side) {
        self.now.0 += 1_000_000;
        self.connection.end(direction(side), self.now, &mut self.exchanges);
    }

    /// What is said next happened earlier than what was said before: another thread reported it later.
    pub fn back(&mut self, nanoseconds: u64) {
        self.now.0 -= nanoseconds;
    }

    /// How many exchanges have come out since [`Self::take`].
    pub fn emitted(&self) -> usize {
        self.exchanges.len()
    }

    /// What happened on the connection so far.
    pub fn counters(&self) -> Counters {
        self.connection.counters()
    }

    /// What came out so far, and what comes when nothing more is awaited.
    pub fn take(&mut self) -> Vec<Value> {
        self.connection.flush(&mut self.exchanges);
        self.exchanges.drain(..).map(|exchange| render(&exchange)).collect()
    }

    /// Closes the connection and gives what came out since [`Self::take`].
    pub fn close(mut self) -> Vec<Value> {
        self.now.0 += 1_000_000;
        self.connection.close(self.now, &mut self.exchanges);
        self.take()
    }
}

/// An exchange as JSON, with absolute times in nanoseconds.
pub fn render(exchange: &Exchange) -> Value {
    let part = |part: &Option<crate::Part>| {
        part.as_ref().map(|part| {
            let mut printed = Vec::new();
            part.payload.print(&mut printed).expect("payloads serialise");
            let mut value: Value = serde_json::from_slice(&printed).expect("payloads print as JSON");
            let fields = value.as_object_mut().expect("payloads are objects");
            fields.insert("bytes".into(), json!(part.bytes));
            fields.insert("start".into(), json!(part.start.map(|time| time.0)));
            fields.insert("end".into(), json!(part.end.map(|time| time.0)));
            value
        })
    };
    json!({
        "protocol": exchange.protocol,
        "sequence": exchange.sequence,
        "request": part(&exchange.request),
        "response": part(&exchange.response),
        "reasons": exchange.reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>(),
        "missing_bytes": exchange.missing_bytes,
    })
}

/// Runs a whole conversation on a connection seen from its start to its end.
pub fn run(registration: &'static Registration, script: &Script<'_>) -> Vec<Value> {
    let mut conversation = Conversation::new(registration, context(Transport::Tcp, false));
    for (side, bytes) in script {
        conversation.say(*side, bytes);
    }
    conversation.close()
}

/// Asserts that the records do not depend on how the bytes were cut into segments: every transfer is split at every
/// byte, one split at a time, and once into single bytes. Gives the records.
pub fn assert_split_invariant(registration: &'static Registration, script: &Script<'_>) -> Vec<Value> {
    assert_split_invariant_every(1, registration, script)
}

/// [`assert_split_invariant`] at every `step`th byte of all: for long conversations.
pub fn assert_split_invariant_every(
    step: usize,
    registration: &'static Registration,
    script: &Script<'_>,
) -> Vec<Value> {
    let whole = run(registration, script);
    let places =
        script.iter().enumerate().flat_map(|(index, (_, bytes))| (1..bytes.len()).map(move |cut| (index, cut)));
    for (index, cut) in places.step_by(step) {
        let split = run_cut(registration, script, |i, at| i == index && at == cut);
        assert_eq!(split, whole, "transfer {index} cut at {cut}");
    }
    assert_eq!(run_cut(registration, script, |_, _| true), whole, "single bytes");
    whole
}

fn run_cut(registration: &'static Registration, script: &Script<'_>, cut: impl Fn(usize, usize) -> bool) -> Vec<Value> {
    let mut conversation = Conversation::new(registration, context(Transport::Tcp, false));
    for (index, (side, bytes)) in script.iter().enumerate() {
        conversation.now.0 += 1_000_000;
        let mut start = 0;
        for end in 1..=bytes.len() {
            if end == bytes.len() || cut(index, end) {
                conversation.say_part(*side, &bytes[start..end], (end - start) as u64);
                start = end;
            }
        }
    }
    conversation.close()
}

/// Punches every hole of each of `sizes` at every position of every transfer, once as lost bytes and once as bytes
/// that the capture limit cut off, and gives each run's records to `check` with a description of the hole. A hole at
/// the end of a transfer shows only when the next transfer comes: it is given up then, and once more not before the
/// connection ends.
pub fn with_holes(
    registration: &'static Registration,
    script: &Script<'_>,
    sizes: &[usize],
    check: impl FnMut(&str, Vec<Value>),
) {
    let places = script.iter().enumerate().flat_map(|(index, (_, bytes))| (0..bytes.len()).map(move |at| (index, at)));
    with_holes_at(&places.collect::<Vec<_>>(), registration, script, sizes, check);
}

/// [`with_holes`] at some places, each a transfer and a byte of it: for long conversations.
pub fn with_holes_at(
    places: &[(usize, usize)],
    registration: &'static Registration,
    script: &Script<'_>,
    sizes: &[usize],
    mut check: impl FnMut(&str, Vec<Value>),
) {
    for &size in sizes {
        for &(index, at) in places {
            let length = script[index].1.len();
            let hole = at..(at + size).min(length);
            for loss in [Loss::Lost, Loss::LostAndMissedLate, Loss::Truncated] {
                if loss == Loss::LostAndMissedLate && hole.end < length {
                    continue;
                }
                let records = run_hole(registration, script, index, hole.clone(), loss);
                check(&format!("transfer {index}, hole {hole:?}, {loss:?}"), records);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Lost,
    LostAndMissedLate,
    Truncated,
}

fn run_hole(
    registration: &'static Registration,
    script: &Script<'_>,
    index: usize,
    hole: std::ops::Range<usize>,
    loss: Loss,
) -> Vec<Value> {
    let mut conversation = Conversation::new(registration, context(Transport::Tcp, false));
    for (i, (side, bytes)) in script.iter().enumerate() {
        conversation.now.0 += 1_000_000;
        if i != index {
            conversation.say_part(*side, bytes, bytes.len() as u64);
            if loss != Loss::LostAndMissedLate {
                conversation.connection.flush(&mut conversation.exchanges);
            }
            continue;
        }
        let missing = hole.len() as u64;
        if loss != Loss::Truncated {
            if hole.start > 0 {
                conversation.say_part(*side, &bytes[..hole.start], hole.start as u64);
            }
            conversation.lose(*side, missing);
        } else {
            conversation.say_part(*side, &bytes[..hole.start], hole.start as u64 + missing);
        }
        if hole.end < bytes.len() {
            conversation.say_part(*side, &bytes[hole.end..], (bytes.len() - hole.end) as u64);
        }
        conversation.connection.flush(&mut conversation.exchanges);
    }
    conversation.close()
}
