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

use std::sync::Arc;

use crate::parser::Mark;
use crate::proxy::{self, Look};
use crate::reassembly::{Cause, Chunk, Reassembler, Tally};
use crate::{
    Boundary, Context, Exchange, Handoff, Inference, Input, Limits, Output, Parser, Registration, Segment, Sender,
    Side, Skipped, Span, Step, Time, Transport,
};

/// Bytes that recognition looks at in each direction before it gives up.
const HEAD: usize = 4096;

/// How often recognition starts anew on a connection that was joined in its middle.
const ATTEMPTS: u32 = 64;

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

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Parse,
    Pass {
        remaining: u64,
        to_end: bool,
        passed: u64,
        lost: u64,
        last: Option<Span>,
    },
    Resync,
}

/// One direction.
#[derive(Debug)]
struct Half {
    reassembler: Reassembler,
    /// Bytes in order that no step has consumed yet, and when they moved.
    buffer: Vec<u8>,
    marks: Vec<Mark>,
    /// Total bytes that the next step wants.
    need: usize,
    /// The buffer begins where the stream begins.
    at_start: bool,
    waits: bool,
    ended: bool,
    mode: Mode,
}

impl Half {
    fn new(start: Option<u64>, limits: &Limits) -> Self {
        Self {
            reassembler: Reassembler::new(start, limits.out_of_order),
            buffer: Vec::new(),
            marks: Vec::new(),
            need: 0,
            at_start: true,
            waits: false,
            ended: false,
            mode: Mode::Parse,
        }
    }

    fn forget_buffer(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.need = 0;
        self.at_start = false;
        self.waits = false;
    }

    fn append(&mut self, bytes: &[u8], mark: Mark) {
        self.marks.push(Mark { offset: self.buffer.len(), ..mark });
        self.buffer.extend_from_slice(bytes);
    }

    /// Keeps what is behind `consumed`.
    fn drain(&mut self, consumed: usize) {
        if consumed == 0 {
            return;
        }
        self.buffer.drain(..consumed.min(self.buffer.len()));
        let first = self.marks.partition_point(|mark| mark.offset <= consumed).saturating_sub(1);
        self.marks.drain(..first);
        for mark in &mut self.marks {
            mark.transfer_start &= mark.offset >= consumed;
            mark.offset = mark.offset.saturating_sub(consumed);
        }
        if self.buffer.is_empty() {
            self.marks.clear();
        }
    }
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
    read: Half,
    write: Half,
    sequence: u64,
    counters: Counters,
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
            read: Half::new(None, &context.limits),
            write: Half::new(None, &context.limits),
            sequence: 0,
            counters: Counters::default(),
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

    /// Whether nothing more can come of this connection: its bytes need not be captured any longer.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether segments are held back because earlier ones are missing; [`Self::flush`] gives up on those.
    pub fn is_waiting(&self) -> bool {
        self.read.reassembler.is_waiting() || self.write.reassembler.is_waiting()
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
        self.read.buffer.len() + self.write.buffer.len()
    }

    /// Bytes held for this connection: not consumed yet, or ahead of their turn.
    pub fn held(&self) -> usize {
        self.buffered() + self.read.reassembler.held() + self.write.reassembler.held()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for tally in [self.read.reassembler.tally(), self.write.reassembler.tally()] {
            add(&mut counters.stream, tally);
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
        let half = self.half(direction);
        if half.waits && half.buffer.len() > self.context.limits.buffered / 2 {
            self.reassemble(direction.other(), out, |reassembler, deliver| reassembler.flush(deliver));
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

    /// Gives up on missing bytes that later ones wait for.
    pub fn flush(&mut self, out: &mut Vec<Exchange>) {
        for direction in [Direction::Read, Direction::Write] {
            self.reassemble(direction, out, |reassembler, deliver| reassembler.flush(deliver));
        }
    }

    /// Gives up on missing bytes before `position` in this direction: they are known to have passed.
    pub fn flush_before(&mut self, direction: Direction, position: u64, out: &mut Vec<Exchange>) {
        self.reassemble(direction, out, |reassembler, deliver| reassembler.flush_before(position, deliver));
    }

    /// Nothing more comes in this direction.
    pub fn end(&mut self, direction: Direction, at: Time, out: &mut Vec<Exchange>) {
        if self.half(direction).ended {
            return;
        }
        self.reassemble(direction, out, |reassembler, deliver| reassembler.flush(deliver));
        self.stop_waiting(direction, out);
        let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else { return };
        let half = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
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

    /// Lets a direction that has ended go on without what it waits for.
    fn stop_waiting(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else { return };
        let half = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        if std::mem::take(&mut half.waits) {
            parser.stop_waiting(side(client, direction));
            self.speak(direction, &[], None, out);
        }
    }

    /// The connection is over.
    pub fn close(&mut self, at: Time, out: &mut Vec<Exchange>) {
        // The client's last words first: an answer to them is then one.
        let client = self.client.unwrap_or(Direction::Read);
        self.end(client, at, out);
        self.end(client.other(), at, out);
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
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
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
            (Stage::Infer { .. }, Chunk::Missing { .. }) => {
                let half = self.half_mut(direction);
                let given_up = half.buffer.len() as u64;
                half.forget_buffer();
                half.mode = Mode::Resync;
                self.context.midstream = true;
                self.counters.unrecognised += given_up;
            }
            (Stage::Speak { .. }, Chunk::Bytes { bytes, span, transfer_start }) => {
                self.speak(direction, bytes, Some(Mark { offset: 0, span, transfer_start }), out);
                self.wake(direction.other(), out);
            }
            (Stage::Speak { .. }, Chunk::Missing { length, cause, span }) => {
                // What waits came before the gap, which must not take it along.
                if self.half(direction).waits {
                    self.reassemble(direction.other(), out, |reassembler, deliver| reassembler.flush(deliver));
                    self.stop_waiting(direction, out);
                }
                self.missing(direction, length, cause, span, out);
                self.wake(direction.other(), out);
            }
            (Stage::AwaitTls { .. } | Stage::Done, Chunk::Bytes { bytes, .. }) => {
                self.counters.unrecognised += bytes.len() as u64;
            }
            (Stage::AwaitTls { .. } | Stage::Done, Chunk::Missing { .. }) => {}
        }
    }

    /// Lets the other direction go on if it waited for this one.
    fn wake(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let half = self.half_mut(direction);
        if std::mem::take(&mut half.waits) {
            self.speak(direction, &[], None, out);
        }
    }

    fn infer(&mut self, direction: Direction, bytes: &[u8], mark: Mark, out: &mut Vec<Exchange>) {
        let half = self.half_mut(direction);
        if half.buffer.is_empty() && !mark.transfer_start && self.context.midstream {
            self.counters.unrecognised += bytes.len() as u64;
            return;
        }
        self.half_mut(direction).append(bytes, mark);
        if self.proxied(direction) == Proxied::Undecided {
            return;
        }
        match self.recognise() {
            Verdict::Wait => {}
            Verdict::Is(registration, client) => self.start(registration, client, out),
            Verdict::Unknown => self.give_up_head(direction),
        }
    }

    /// Takes a header of the PROXY protocol from the start of a stream. Only the client sends one.
    fn proxied(&mut self, direction: Direction) -> Proxied {
        let may_be = self.client.is_none_or(|client| client == direction) && !self.context.midstream;
        let half = self.half_mut(direction);
        if !half.at_start || !may_be {
            return Proxied::No;
        }
        match proxy::look(&half.buffer) {
            Look::No => {
                half.at_start = false;
                Proxied::No
            }
            Look::More => Proxied::Undecided,
            Look::Header(length) => {
                half.at_start = false;
                half.drain(length);
                self.client = Some(direction);
                self.counters.proxy_headers += 1;
                Proxied::Yes
            }
        }
    }

    /// Begins to speak a protocol with what was buffered while it was being recognised.
    fn start(&mut self, registration: &'static Registration, client: Direction, out: &mut Vec<Exchange>) {
        self.client = Some(client);
        for direction in [Direction::Read, Direction::Write] {
            let known = infer_half(registration, self.half(direction), self.context.transport);
            let midstream = self.context.midstream;
            let half = self.half_mut(direction);
            // Behind a gap the parser says where a message begins, although the bytes may look like one.
            let gapped = matches!(half.mode, Mode::Resync);
            // Where the beginning was not seen, "too few bytes to say" may be the middle of a message.
            let certain = !gapped
                && match known {
                    Inference::Maybe(_) | Inference::Sure(_) => true,
                    Inference::More => !midstream,
                    Inference::No => false,
                };
            half.mode = if certain { Mode::Parse } else { Mode::Resync };
        }
        self.stage = Stage::Speak { name: registration.name(), parser: (registration.parser)(self.context) };
        // What passed first is parsed first: a response is not to meet a request that came after it.
        let passed = |half: &Half| half.marks.first().map(|mark| mark.span.end);
        let server_first = match (passed(self.half(client)), passed(self.half(client.other()))) {
            (Some(client), Some(server)) => server < client,
            _ => false,
        };
        let first = if server_first { client.other() } else { client };
        self.speak(first, &[], None, out);
        self.speak(first.other(), &[], None, out);
        self.wake(first, out);
    }

    /// These bytes are not the start of anything known: the end of it, unless the connection was joined in its
    /// middle and may yet come to a boundary.
    fn give_up_head(&mut self, direction: Direction) {
        let Stage::Infer { attempts } = &mut self.stage else { return };
        *attempts += 1;
        if !self.context.midstream || *attempts > ATTEMPTS {
            self.counters.unrecognised += self.buffered() as u64;
            self.finish();
            return;
        }
        let half = self.half_mut(direction);
        let given_up = half.buffer.len() as u64;
        half.forget_buffer();
        self.counters.unrecognised += given_up;
    }

    fn recognise(&self) -> Verdict {
        let mut wait = false;
        for registration in self.candidates.iter().filter(|r| (r.carries)(self.context.transport)) {
            let read = infer_half(registration, &self.read, self.context.transport);
            let write = infer_half(registration, &self.write, self.context.transport);
            match self.weigh(read, write) {
                Weight::Client(client) => return Verdict::Is(registration, client),
                Weight::Wait => wait = true,
                Weight::No => {}
            }
        }
        let full = self.read.buffer.len().max(self.write.buffer.len()) >= HEAD;
        if wait && !full { Verdict::Wait } else { Verdict::Unknown }
    }

    /// Whether a protocol's judgement of both directions is enough, and which direction is then the client's.
    fn weigh(&self, read: Inference, write: Inference) -> Weight {
        let no = [read, write].contains(&Inference::No);
        let sure = [read, write].iter().any(|inference| matches!(inference, Inference::Sure(_)));
        let plausible = |inference: Inference| inference.sender().is_some();
        if no && !(self.context.midstream && sure) {
            return Weight::No;
        }
        let clients = [Direction::Read, Direction::Write].into_iter().filter(|&client| {
            let fits = |direction, inference: Inference| {
                inference.sender().is_none_or(|sender: Sender| sender.may_be(side(client, direction)))
            };
            self.client.is_none_or(|known| known == client)
                && fits(Direction::Read, read)
                && fits(Direction::Write, write)
        });
        let enough = sure || (plausible(read) && plausible(write));
        match clients.collect::<Vec<_>>().as_slice() {
            // What only a server sends, in the client's direction: no more bytes change that.
            [] => Weight::No,
            [client] if enough => Weight::Client(*client),
            _ => Weight::Wait,
        }
    }

    fn recognise_datagram(&mut self, direction: Direction, bytes: &[u8]) {
        let transport = self.context.transport;
        for registration in self.candidates.iter().filter(|r| (r.carries)(transport)) {
            let Inference::Sure(sender) = (registration.infer)(bytes, transport) else { continue };
            let Some(client) = self
                .client
                .or_else(|| Some(if sender.side()? == Side::Client { direction } else { direction.other() }))
            else {
                continue;
            };
            self.client = Some(client);
            self.stage = Stage::Speak { name: registration.name(), parser: (registration.parser)(self.context) };
            return;
        }
    }

    fn begin_tls(&mut self, out: &mut Vec<Exchange>) {
        self.layer = Layer::Tls;
        for tally in [self.read.reassembler.tally(), self.write.reassembler.tally()] {
            add(&mut self.counters.stream, tally);
        }
        self.counters.unrecognised += self.buffered() as u64;
        self.read = Half::new(None, &self.context.limits);
        self.write = Half::new(None, &self.context.limits);
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
        self.read.forget_buffer();
        self.write.forget_buffer();
    }

    /// Parses `bytes` behind what is buffered in this direction, and keeps what no step consumed.
    fn speak(&mut self, direction: Direction, bytes: &[u8], mark: Option<Mark>, out: &mut Vec<Exchange>) {
        let Some(client) = self.client else { return };
        let side = side(client, direction);
        let half = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
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
                self.read.forget_buffer();
                self.write.forget_buffer();
            }
            Handoff::Protocol(name, parser) => {
                self.stage = Stage::Speak { name, parser };
                for half in [&mut self.read, &mut self.write] {
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
        let half = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
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

/// Whether a stream begins with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxied {
    No,
    Undecided,
    Yes,
}

enum Verdict {
    Is(&'static Registration, Direction),
    Wait,
    Unknown,
}

enum Weight {
    Client(Direction),
    Wait,
    No,
}

fn side(client: Direction, direction: Direction) -> Side {
    if client == direction { Side::Client } else { Side::Server }
}

fn infer_half(registration: &Registration, half: &Half, transport: Transport) -> Inference {
    if half.buffer.is_empty() { Inference::More } else { (registration.infer)(&half.buffer, transport) }
}

fn add(total: &mut Tally, tally: Tally) {
    let Tally { delivered, truncated, lost, duplicate, conflicting } = tally;
    total.delivered += delivered;
    total.truncated += truncated;
    total.lost += lost;
    total.duplicate += duplicate;
    total.conflicting += conflicting;
}

fn finish_pass(half: &mut Half, side: Side, parser: &mut dyn Parser, output: &mut Output<'_>) {
    if let Mode::Pass { passed, lost, last, .. } = std::mem::take(&mut half.mode) {
        parser.skipped(side, Skipped { length: passed, lost, last }, output);
    }
}

/// One run over the bytes of one direction.
struct Walk<'a> {
    side: Side,
    parser: &'a mut dyn Parser,
    output: Output<'a>,
    counters: &'a mut Counters,
    limits: &'a Limits,
}

impl Walk<'_> {
    /// Steps through `work` until more bytes are needed; says how many were consumed.
    fn run(mut self, half: &mut Half, work: &[u8], marks: &[Mark]) -> (usize, Option<Handoff>) {
        let mut at = 0;
        while let Some(rest) = work.get(at..).filter(|rest| !rest.is_empty()) {
            let transfer_start = marks.iter().any(|mark| mark.offset == at && mark.transfer_start);
            let input = Input { bytes: rest, uncaptured: 0, transfer_start, offset: at, marks };
            let advanced = match half.mode {
                Mode::Pass { .. } => self.pass(half, input),
                Mode::Resync => self.resync(half, input),
                Mode::Parse if rest.len() < half.need => Advance::Stay,
                Mode::Parse => self.parse(half, input),
            };
            match advanced {
                Advance::By(n) => at += n,
                Advance::Stay => break,
                Advance::StopAfter(n, handoff) => return (at + n, Some(handoff)),
            }
        }
        (at, None)
    }

    fn pass(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        let Mode::Pass { remaining, passed, last, .. } = &mut half.mode else { return Advance::Stay };
        let n = (input.bytes.len() as u64).min(*remaining);
        *remaining -= n;
        *passed += n;
        *last = Some(input.span((n as usize).saturating_sub(1)));
        if *remaining == 0 {
            finish_pass(half, self.side, self.parser, &mut self.output);
        }
        Advance::By(n as usize)
    }

    fn resync(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        match self.parser.resync(self.side, input.bytes, input.transfer_start) {
            Boundary::At(index) => {
                half.mode = Mode::Parse;
                half.need = 0;
                Advance::By(index.min(input.bytes.len()))
            }
            Boundary::None { discard } if input.bytes.len() - discard.min(input.bytes.len()) > self.limits.buffered => {
                Advance::By(input.bytes.len())
            }
            Boundary::None { discard: 0 } => Advance::Stay,
            Boundary::None { discard } => Advance::By(discard.min(input.bytes.len())),
        }
    }

    fn parse(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        let length = input.bytes.len();
        match self.parser.step(self.side, input, &mut self.output) {
            Step::Need(total) if total > self.limits.buffered || length >= self.limits.buffered => {
                self.lose_framing(half, "too_long");
                self.parser.gap(self.side, length as u64, Cause::Truncated, &mut self.output);
                Advance::By(length)
            }
            Step::Need(total) => {
                half.need = total.max(length + 1);
                Advance::Stay
            }
            Step::Wait if length >= self.limits.buffered => {
                self.lose_framing(half, "waits_too_long");
                self.parser.gap(self.side, length as u64, Cause::Truncated, &mut self.output);
                Advance::By(length)
            }
            Step::Wait => {
                half.waits = true;
                Advance::Stay
            }
            Step::Consumed(n) if n > 0 => {
                half.need = 0;
                Advance::By(n.min(length))
            }
            Step::Skip { consumed, length: remaining } if consumed > 0 || remaining > 0 => {
                self.begin_pass(half, remaining, false);
                Advance::By(consumed.min(length))
            }
            Step::SkipToEnd { consumed } => {
                self.begin_pass(half, u64::MAX, true);
                Advance::By(consumed.min(length))
            }
            Step::Stop { consumed, handoff } => Advance::StopAfter(consumed.min(length), handoff),
            Step::Resync(violation) => {
                self.lose_framing(half, violation.0);
                Advance::By(1)
            }
            Step::Consumed(_) | Step::Skip { .. } => {
                debug_assert!(false, "a step made no progress");
                self.lose_framing(half, "no_progress");
                Advance::By(1)
            }
        }
    }

    fn begin_pass(&mut self, half: &mut Half, remaining: u64, to_end: bool) {
        half.need = 0;
        half.mode = Mode::Pass { remaining, to_end, passed: 0, lost: 0, last: None };
        if remaining == 0 {
            finish_pass(half, self.side, self.parser, &mut self.output);
        }
    }

    fn lose_framing(&mut self, half: &mut Half, _rule: &'static str) {
        half.need = 0;
        half.mode = Mode::Resync;
        self.counters.resyncs += 1;
        self.counters.violations += 1;
    }
}

enum Advance {
    By(usize),
    Stay,
    StopAfter(usize, Handoff),
}
