//! The driver: one connection from its segments to its exchanges.
//!
//! It owns what every protocol needs and none should write again: reassembly, recognition, looping over messages,
//! passing over bodies, gaps and resynchronisation, limits, counters.
//!
//! ```text
//!             recognised              Stop(Opaque), limits
//!   Infer ------------------> Speak ----------------------> Done
//!     |    Stop(Protocol)  ^    |                             ^
//!     |                    '----'                             |
//!     '-------------------------------------------------------'
//!                        not recognised
//!
//!   each direction while speaking:
//!             Skip{n}             gap, violation
//!   Parse <-----------> Pass     Parse ---------> Resync --boundary--> Parse
//! ```

mod half;
mod recognise;
mod walk;

use std::sync::Arc;

use crate::parser::Mark;
use crate::reassembly::{Cause, Chunk, Reassembler, Tally};
use crate::{
    Context, Exchange, Handoff, Input, Output, Parser, Proxied, Registration, Segment, Side, Skipped, Span, Step, Time,
};
use half::{Behind, Half, Halves, Mode, Untold};
use walk::{Walk, finish_pass};

/// Direction of bytes as the traced process sees it. Of a capture: an arbitrary but fixed naming of the two flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The process received them.
    Read,
    /// The process sent them.
    Write,
}

impl Direction {
    /// The opposite direction.
    pub fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }
}

/// Which of a connection's two streams in each direction a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// What the socket carried.
    Socket,
    /// What a TLS library handed over in the clear.
    Tls,
}

/// What happened on a connection, for the loss ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that a boundary had to be looked for.
    pub resyncs: u64,
    /// Times that the bytes broke a rule of the protocol.
    pub violations: u64,
    /// Headers of the PROXY protocol in front of what the connection carries.
    pub proxy_headers: u64,
    /// Captured bytes that no protocol recognised, or that came after the last of interest.
    pub unrecognised: u64,
    /// Both directions' reassembly, added up.
    pub stream: Tally,
}

#[derive(Debug)]
enum Stage {
    Infer {
        attempts: u32,
    },
    Speak {
        name: &'static str,
        parser: Box<dyn Parser>,
    },
    /// The protocol said that TLS starts: its parser waits for the plaintext layer.
    AwaitTls {
        name: &'static str,
        parser: Box<dyn Parser>,
    },
    Done,
}

/// One connection: a TCP or unix stream, or all datagrams between two addresses.
#[derive(Debug)]
pub struct Connection {
    candidates: Arc<[&'static Registration]>,
    context: Context,
    /// The direction that carries the client's bytes, once known.
    client: Option<Direction>,
    layer: Layer,
    stage: Stage,
    halves: Halves,
    sequence: u64,
    counters: Counters,
    proxied: Option<Proxied>,
}

impl Connection {
    /// A connection of which nothing has been seen.
    ///
    /// `client`: the direction that carries the client's bytes, where the way the socket was made tells;
    /// otherwise content decides. `context.midstream`: whether it may have begun before it could be seen.
    pub fn new(candidates: Arc<[&'static Registration]>, context: Context, client: Option<Direction>) -> Self {
        Self {
            candidates,
            context,
            client,
            layer: Layer::Socket,
            stage: Stage::Infer { attempts: 0 },
            halves: Halves::new(&context.limits),
            sequence: 0,
            counters: Counters::default(),
            proxied: None,
        }
    }

    /// The protocol spoken, once recognised.
    pub fn protocol(&self) -> Option<&'static str> {
        match &self.stage {
            Stage::Speak { name, .. } | Stage::AwaitTls { name, .. } => Some(name),
            Stage::Infer { .. } | Stage::Done => None,
        }
    }

    /// The connection had begun before it is seen, which was not known when it was made. To be said before the first
    /// byte of the layer that is parsed.
    pub fn join_midstream(&mut self) {
        self.context.midstream = true;
    }

    /// The direction that carries the client's bytes, once known.
    pub fn client(&self) -> Option<Direction> {
        self.client
    }

    /// What a header of the PROXY protocol in front of everything names.
    pub fn proxied(&self) -> Option<&Proxied> {
        self.proxied.as_ref()
    }

    /// Whether nothing more can come of this connection: its bytes need not be captured any longer.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether something is held back because something before it has not come; [`Self::flush`] gives up on that.
    pub fn is_waiting(&self) -> bool {
        self.halves.each().iter().any(|half| half.reassembler.is_waiting() || half.waits)
    }

    /// Bytes from here on, in this direction, whose content is of no interest (the rest of a body).
    pub fn passing(&self, direction: Direction) -> u64 {
        match self.half(direction).mode {
            Mode::Pass { remaining, .. } => remaining,
            Mode::Parse | Mode::Resync => 0,
        }
    }

    /// Position of the next byte in order in this direction, once known. Stays where it is when nothing more is taken.
    pub fn position(&self, direction: Direction) -> Option<u64> {
        self.half(direction).reassembler.next()
    }

    /// Bytes in order that nothing has consumed yet.
    pub fn buffered(&self) -> usize {
        self.halves.each().iter().map(|half| half.buffered()).sum()
    }

    /// Bytes held for this connection: not consumed yet, or ahead of their turn.
    pub fn held(&self) -> usize {
        self.halves.each().iter().map(|half| half.held()).sum()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for half in self.halves.each() {
            add(&mut counters.stream, half.reassembler.tally());
        }
        counters
    }

    /// Takes bytes of a stream. Bytes of [`Layer::Socket`] are ignored from the first of [`Layer::Tls`] on.
    ///
    /// The first segment of a direction is taken for its start. Where the start is known before any byte is seen, an
    /// empty segment at its position says so: then the loss of the first bytes shows.
    pub fn data(&mut self, layer: Layer, direction: Direction, segment: Segment<'_>, out: &mut Vec<Exchange>) {
        if layer == Layer::Tls && self.layer == Layer::Socket {
            self.begin_tls(out);
        }
        if layer != self.layer || matches!(self.stage, Stage::Done) {
            self.counters.unrecognised += segment.bytes.len() as u64;
            return;
        }
        self.reassemble(direction, out, |reassembler, deliver| reassembler.insert(segment, deliver));
        // What this direction waits for may be held back: better to give up on the hole before it than on what waits.
        if self.half(direction).waits_for_much(&self.context.limits) {
            self.reassemble(direction.other(), out, |reassembler, deliver| reassembler.flush(deliver));
        }
        if self.half(direction).waits_for_much(&self.context.limits) {
            self.lose_patience(direction, out);
        }
    }

    /// Takes one datagram. `length`: its full length.
    pub fn datagram(&mut self, direction: Direction, bytes: &[u8], length: u64, span: Span, out: &mut Vec<Exchange>) {
        if let Stage::Infer { .. } = self.stage {
            self.recognise_datagram(direction, bytes);
        }
        let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else {
            self.counters.unrecognised += bytes.len() as u64;
            return;
        };
        let marks = [Mark { offset: 0, span, transfer_start: true }];
        let uncaptured = length.saturating_sub(bytes.len() as u64);
        let input = Input { bytes, uncaptured, transfer_start: true, offset: 0, marks: &marks };
        let side = side(client, direction);
        let mut output = Output { exchanges: out, sequence: &mut self.sequence };
        if let Step::Resync(_) | Step::Need(_) = parser.step(side, input, &mut output) {
            self.counters.violations += 1;
        }
    }

    /// Gives up on what has not come: bytes that later ones wait for, and what one direction awaits of the other.
    pub fn flush(&mut self, out: &mut Vec<Exchange>) {
        for direction in [Direction::Read, Direction::Write] {
            self.reassemble(direction, out, |reassembler, deliver| reassembler.flush(deliver));
        }
        for direction in [Direction::Read, Direction::Write] {
            self.lose_patience(direction, out);
        }
    }

    /// Gives up on missing bytes before `position` in this direction: they are known to have passed.
    pub fn flush_before(&mut self, direction: Direction, position: u64, out: &mut Vec<Exchange>) {
        self.reassemble(direction, out, |reassembler, deliver| reassembler.flush_before(position, deliver));
    }

    /// Nothing more comes in this direction. Of bytes that wait for the other direction, the end waits with them.
    pub fn end(&mut self, direction: Direction, at: Time, out: &mut Vec<Exchange>) {
        if self.half(direction).ended {
            return;
        }
        self.reassemble(direction, out, |reassembler, deliver| reassembler.flush(deliver));
        if self.half(direction).waits {
            return self.half_mut(direction).queue(Behind::End(at));
        }
        self.end_now(direction, at, out);
    }

    fn end_now(&mut self, direction: Direction, at: Time, out: &mut Vec<Exchange>) {
        let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else { return };
        let half = self.halves.of_mut(direction);
        half.ended = true;
        let side = side(client, direction);
        let mut output = Output { exchanges: out, sequence: &mut self.sequence };
        if let Mode::Pass { to_end: true, passed, lost, last, .. } = half.mode {
            half.mode = Mode::Parse;
            parser.skipped(side, Skipped { length: passed, lost, last }, &mut output);
        }
        parser.end(side, &half.buffer, at, &mut output);
        half.forget_buffer();
    }

    /// What a direction waits for has not come in time: it goes on, if the parser can without, or if there is more to
    /// come than bytes.
    fn lose_patience(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        if self.half(direction).is_queueing() {
            return self.stop_waiting(direction, out);
        }
        self.go_on_without(direction, |parser, side| parser.lose_patience(side), out);
        self.go_on(direction.other(), out);
    }

    /// Steps a direction that waits, as long as it comes further and the parser agrees.
    fn go_on_without(
        &mut self,
        direction: Direction,
        agrees: impl Fn(&mut dyn Parser, Side) -> bool,
        out: &mut Vec<Exchange>,
    ) {
        let mut buffered = usize::MAX;
        while self.half(direction).waits && self.half(direction).buffer.len() < buffered {
            let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else { return };
            if !agrees(parser.as_mut(), side(client, direction)) {
                return;
            }
            let half = self.halves.of_mut(direction);
            (half.waits, buffered) = (false, half.buffer.len());
            self.speak(direction, &[], None, out);
        }
    }

    /// Lets a direction go on without what it waits for.
    fn stop_waiting(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let agrees = |parser: &mut dyn Parser, side| {
            parser.stop_waiting(side);
            true
        };
        self.go_on_without(direction, agrees, out);
        while let Some(behind) = self.half_mut(direction).next_behind() {
            self.deliver(direction, behind, out);
        }
        self.go_on(direction.other(), out);
    }

    /// The connection is over.
    pub fn close(&mut self, at: Time, out: &mut Vec<Exchange>) {
        // The client's last words first: an answer to them is then one.
        let client = self.client.unwrap_or(Direction::Read);
        for direction in [client, client.other()] {
            self.end(direction, at, out);
            self.stop_waiting(direction, out);
        }
        if let Stage::Infer { .. } = self.stage {
            self.counters.unrecognised += self.buffered() as u64;
        }
        let mut output = Output { exchanges: out, sequence: &mut self.sequence };
        if let Stage::Speak { parser, .. } | Stage::AwaitTls { parser, .. } = &mut self.stage {
            parser.close(at, &mut output);
        }
        self.finish();
    }

    /// Time goes by.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Exchange>) {
        if let Stage::Speak { parser, .. } = &mut self.stage {
            parser.tick(now, &mut Output { exchanges: out, sequence: &mut self.sequence });
        }
    }

    fn half(&self, direction: Direction) -> &Half {
        self.halves.of(direction)
    }

    fn half_mut(&mut self, direction: Direction) -> &mut Half {
        self.halves.of_mut(direction)
    }

    /// Runs the reassembler of a direction and takes what it puts in order.
    fn reassemble(
        &mut self,
        direction: Direction,
        out: &mut Vec<Exchange>,
        run: impl FnOnce(&mut Reassembler, &mut dyn FnMut(Chunk<'_>)),
    ) {
        let mut reassembler = std::mem::take(&mut self.half_mut(direction).reassembler);
        run(&mut reassembler, &mut |chunk| self.chunk(direction, chunk, out));
        self.half_mut(direction).reassembler = reassembler;
    }

    fn chunk(&mut self, direction: Direction, chunk: Chunk<'_>, out: &mut Vec<Exchange>) {
        match (&self.stage, chunk) {
            (Stage::Infer { .. }, Chunk::Bytes { bytes, span, transfer_start }) => {
                self.infer(direction, bytes, Mark { offset: 0, span, transfer_start }, out);
            }
            (Stage::Infer { .. }, Chunk::Missing { length, cause, span }) => {
                let half = self.half_mut(direction);
                let given_up = half.buffer.len() as u64;
                half.forget_buffer();
                half.mode = Mode::Resync;
                let before = half.untold.map_or(0, |untold| untold.length);
                half.untold = Some(Untold { length: before.saturating_add(length), cause, span });
                self.context.midstream = true;
                self.counters.unrecognised += given_up;
            }
            (Stage::Speak { .. }, chunk) if self.half(direction).must_queue(&chunk) => {
                self.half_mut(direction).queue(chunk.into());
            }
            (Stage::Speak { .. }, chunk) => {
                self.take(direction, chunk, out);
                self.go_on(direction.other(), out);
            }
            (Stage::AwaitTls { .. } | Stage::Done, Chunk::Bytes { bytes, .. }) => {
                self.counters.unrecognised += bytes.len() as u64;
            }
            (Stage::AwaitTls { .. } | Stage::Done, Chunk::Missing { .. }) => {}
        }
    }

    fn take(&mut self, direction: Direction, chunk: Chunk<'_>, out: &mut Vec<Exchange>) {
        match chunk {
            Chunk::Bytes { bytes, span, transfer_start } => {
                self.speak(direction, bytes, Some(Mark { offset: 0, span, transfer_start }), out);
            }
            Chunk::Missing { length, cause, span } => self.missing(direction, length, cause, span, out),
        }
    }

    /// Takes what was queued behind bytes that waited.
    fn deliver(&mut self, direction: Direction, behind: Behind, out: &mut Vec<Exchange>) {
        match behind {
            Behind::Bytes(bytes, mark) => self.speak(direction, &bytes, Some(mark), out),
            Behind::Missing { length, cause, span } => self.missing(direction, length, cause, span, out),
            Behind::End(at) => self.end_now(direction, at, out),
        }
    }

    /// Lets both directions go on as far as they waited for each other, beginning with `first`.
    fn go_on(&mut self, first: Direction, out: &mut Vec<Exchange>) {
        let (mut direction, mut idle) = (first, 0);
        while idle < 2 {
            idle = if self.advance(direction, out) { 0 } else { idle + 1 };
            direction = direction.other();
        }
    }

    /// Whether a direction that waited, or in which something is queued, has come further.
    fn advance(&mut self, direction: Direction, out: &mut Vec<Exchange>) -> bool {
        let half = self.half_mut(direction);
        if std::mem::take(&mut half.waits) {
            let before = half.buffer.len();
            self.speak(direction, &[], None, out);
            let half = self.half(direction);
            return !half.waits || half.buffer.len() < before;
        }
        let Some(behind) = half.next_behind() else { return false };
        self.deliver(direction, behind, out);
        true
    }

    fn begin_tls(&mut self, out: &mut Vec<Exchange>) {
        self.layer = Layer::Tls;
        for half in self.halves.each() {
            add(&mut self.counters.stream, half.reassembler.tally());
        }
        self.counters.unrecognised += self.buffered() as u64;
        self.halves = Halves::new(&self.context.limits);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::AwaitTls { name, parser } => Stage::Speak { name, parser },
            Stage::Speak { mut parser, .. } => {
                let mut output = Output { exchanges: out, sequence: &mut self.sequence };
                parser.close(Time::default(), &mut output);
                Stage::Infer { attempts: 0 }
            }
            Stage::Infer { .. } | Stage::Done => Stage::Infer { attempts: 0 },
        };
    }

    fn finish(&mut self) {
        self.stage = Stage::Done;
        self.halves.each_mut().into_iter().for_each(Half::forget);
    }

    /// Parses `bytes` behind what is buffered in this direction, and keeps what no step consumed.
    fn speak(&mut self, direction: Direction, bytes: &[u8], mark: Option<Mark>, out: &mut Vec<Exchange>) {
        let Some(client) = self.client else { return };
        let side = side(client, direction);
        let half = self.halves.of_mut(direction);
        let Stage::Speak { parser, .. } = &mut self.stage else { return };
        let output = Output { exchanges: out, sequence: &mut self.sequence };
        let walk =
            Walk { side, parser: parser.as_mut(), output, counters: &mut self.counters, limits: &self.context.limits };
        let handoff = if half.buffer.is_empty() {
            let marks = mark.as_slice();
            let (consumed, handoff) = walk.run(half, bytes, marks);
            if let Some(mark) = mark.filter(|_| consumed < bytes.len()) {
                let transfer_start = mark.transfer_start && consumed == 0;
                half.append(bytes.get(consumed..).unwrap_or_default(), Mark { transfer_start, ..mark });
            }
            handoff
        } else {
            if let Some(mark) = mark {
                half.append(bytes, mark);
            }
            let buffer = std::mem::take(&mut half.buffer);
            let marks = std::mem::take(&mut half.marks);
            let (consumed, handoff) = walk.run(half, &buffer, &marks);
            half.buffer = buffer;
            half.marks = marks;
            half.drain(consumed);
            handoff
        };
        if let Some(handoff) = handoff {
            self.hand_off(direction, handoff, out);
        }
    }

    fn hand_off(&mut self, direction: Direction, handoff: Handoff, out: &mut Vec<Exchange>) {
        match handoff {
            Handoff::Opaque => {
                self.counters.unrecognised += self.buffered() as u64;
                self.finish();
            }
            Handoff::Tls => {
                if let Stage::Speak { name, parser } = std::mem::replace(&mut self.stage, Stage::Done) {
                    self.stage = Stage::AwaitTls { name, parser };
                }
                self.halves.each_mut().into_iter().for_each(Half::forget);
            }
            Handoff::Protocol(name, parser) => {
                self.stage = Stage::Speak { name, parser };
                for half in self.halves.each_mut() {
                    half.mode = Mode::Parse;
                    half.need = 0;
                    half.waits = false;
                }
                self.speak(direction, &[], None, out);
                self.speak(direction.other(), &[], None, out);
            }
        }
    }

    /// Bytes that exist and are not here have passed.
    fn missing(
        &mut self,
        direction: Direction,
        length: u64,
        cause: Cause,
        span: Option<Span>,
        out: &mut Vec<Exchange>,
    ) {
        let Some(client) = self.client else { return };
        let side = side(client, direction);
        let half = self.halves.of_mut(direction);
        let Stage::Speak { parser, .. } = &mut self.stage else { return };
        let mut output = Output { exchanges: out, sequence: &mut self.sequence };
        let mut left = length;
        if let Mode::Pass { remaining, passed, lost, last, .. } = &mut half.mode {
            let n = left.min(*remaining);
            *remaining -= n;
            *passed += n;
            left -= n;
            match cause {
                Cause::Lost => {
                    *lost += n;
                    *last = None;
                }
                Cause::Truncated => *last = span.or(*last),
            }
            if *remaining > 0 {
                return;
            }
            finish_pass(half, side, parser.as_mut(), &mut output);
            if left == 0 {
                return;
            }
        }
        half.forget_buffer();
        half.mode = Mode::Resync;
        self.counters.resyncs += 1;
        parser.gap(side, left, cause, &mut output);
    }
}

fn side(client: Direction, direction: Direction) -> Side {
    if client == direction { Side::Client } else { Side::Server }
}

fn add(total: &mut Tally, tally: Tally) {
    let Tally { delivered, truncated, lost, duplicate, conflicting } = tally;
    total.delivered += delivered;
    total.truncated += truncated;
    total.lost += lost;
    total.duplicate += duplicate;
    total.conflicting += conflicting;
}
