//! The contract between the driver ([`crate::Connection`]) and a protocol.

use crate::reassembly::Cause;
use crate::{Exchange, Limits, Reason, Span, Time};

/// Who sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that asks.
    Client,
    /// The side that answers.
    Server,
}

impl Side {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How the bytes are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A byte stream over TCP.
    Tcp,
    /// Datagrams.
    Udp,
    /// A byte stream over a unix socket.
    Unix,
    /// The messages of one stream of an SCTP association, one behind the other as a byte stream.
    Sctp,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Unix, Self::Sctp];

    /// As printed in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Sctp => "sctp",
        }
    }
}

/// What a parser is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How the bytes are carried.
    pub transport: Transport,
    /// The connection was joined after its first bytes: state agreed on at its start is unknown.
    pub midstream: bool,
    /// Bounds to keep.
    pub limits: Limits,
}

/// Bytes of one direction, contiguous, not yet consumed.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The bytes; for a datagram, exactly one datagram. Never empty.
    pub bytes: &'a [u8],
    /// Bytes of the same message that exist and were not captured, directly behind `bytes`. Only for datagrams:
    /// on streams the driver reports them through [`Parser::gap`].
    pub uncaptured: u64,
    /// Whether `bytes` begins where a transfer (one write or read call, one packet) began. A hint, not a promise.
    pub transfer_start: bool,
    pub(crate) offset: usize,
    pub(crate) marks: &'a [Mark],
}

/// From `offset` on, until the next mark, bytes were moved in `span`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) offset: usize,
    pub(crate) span: Span,
    /// Whether the byte at `offset` was the first of its transfer.
    pub(crate) transfer_start: bool,
}

impl Input<'_> {
    /// When the byte at `index` passed: the transfer that carried it. An index past the end gives the last transfer.
    pub fn span(&self, index: usize) -> Span {
        let at = self.offset.saturating_add(index);
        let after = self.marks.partition_point(|mark| mark.offset <= at);
        self.marks.get(after.saturating_sub(1)).map(|mark| mark.span).unwrap_or_default()
    }
}

/// What a parser did with its input. Nothing but [`Step::Need`], [`Step::Wait`] and [`Step::Resync`] may leave the
/// input where it was: the driver treats a step that makes no progress as a violation.
#[derive(Debug)]
pub enum Step {
    /// Too few bytes: wants this many in total from the start of the input. Nothing was consumed.
    Need(usize),
    /// Cannot go on before the other side has been parsed further. Nothing was consumed.
    Wait,
    /// Consumed this many bytes.
    Consumed(usize),
    /// Consumed `consumed` bytes; the `length` bytes behind them need only be counted, not seen.
    /// [`Parser::skipped`] follows when they have passed. (Not for datagrams.)
    Skip {
        /// Bytes of the input that were parsed.
        consumed: usize,
        /// Bytes behind them to pass over.
        length: u64,
    },
    /// Like [`Step::Skip`] for everything until the stream ends in this direction.
    SkipToEnd {
        /// Bytes of the input that were parsed.
        consumed: usize,
    },
    /// Framing is lost at this input. The parser has already reported what that touched; the driver looks for the
    /// next boundary, from the second byte on, with [`Parser::resync`].
    Resync(Violation),
    /// The bytes broke a rule inside of framing that holds. The parser has already reported what that touched.
    Broken {
        /// Bytes of the input that were parsed.
        consumed: usize,
        /// Which rule.
        violation: Violation,
    },
    /// This protocol ends here, in both directions.
    Stop {
        /// Bytes of the input that were parsed.
        consumed: usize,
        /// What follows.
        handoff: Handoff,
    },
}

/// What follows after a protocol has ended on a connection.
#[derive(Debug)]
pub enum Handoff {
    /// Nothing that is understood (a tunnel, a WebSocket): the rest is only counted.
    Opaque,
    /// A TLS handshake. When a TLS library's plaintext of this connection is seen, the same parser goes on with it.
    Tls,
    /// Another protocol, in both directions.
    Protocol(&'static str, Box<dyn Parser>),
}

/// Which rule of a protocol the bytes broke, as a stable name ("chunk_size", "header_limit").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

/// What passed while a parser wanted bytes only counted.
#[derive(Clone, Copy, Debug)]
pub struct Skipped {
    /// How many bytes.
    pub length: u64,
    /// How many of them were lost (as opposed to cut off by the capture limit, which skipping does not mind).
    pub lost: u64,
    /// The transfer of the last of them; `None` if that one was lost.
    pub last: Option<Span>,
}

/// Where parsing may go on after a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// A message certainly begins at this index.
    At(usize),
    /// None in these bytes; the first `discard` of them need not be looked at again.
    None {
        /// Bytes that cannot be part of a later match.
        discard: usize,
    },
}

/// Where a parser puts what it found.
pub struct Output<'a> {
    pub(crate) exchanges: &'a mut Vec<Exchange>,
    pub(crate) sequence: &'a mut u64,
}

impl Output<'_> {
    /// The sequence number for a request that is being seen now.
    pub fn next_sequence(&mut self) -> u64 {
        let sequence = *self.sequence;
        *self.sequence += 1;
        sequence
    }

    /// Hands out a finished exchange. A message that the connection ended inside of has no size, whatever length it
    /// announced.
    pub fn emit(&mut self, mut exchange: Exchange) {
        if exchange.reasons.contains(Reason::Closed) {
            let parts = [&mut exchange.request, &mut exchange.response].into_iter().flatten();
            parts.filter(|part| part.end.is_none()).for_each(|part| part.bytes = None);
        }
        self.exchanges.push(exchange);
    }
}

/// One protocol on one connection: the state of both directions, and the pairing of requests with responses.
///
/// The driver owns looping, reassembly, limits and counters. A parser looks at one message (or one part of it) a
/// step, never reads past the input, never allocates by a length that the wire claims, and pairs by the protocol's
/// own rule; time only measures.
pub trait Parser: Send + std::fmt::Debug {
    /// Parses the next message, or part of one, that `side` sent.
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step;

    /// The bytes that [`Step::Skip`] or [`Step::SkipToEnd`] asked to pass over have passed.
    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>);

    /// Bytes that framing depended on are missing: what was half parsed in this direction is gone. Reports what it
    /// touched; the driver then looks for a boundary with [`Parser::resync`].
    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>);

    /// Finds where a message of `side` surely begins in `bytes`. `transfer_start`: as in [`Input`].
    /// "Surely" means that a wrong answer would need bytes made to deceive: false recognition is worse than none.
    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary;

    /// `side` waits ([`Step::Wait`]), and what it waits for has not come in time. Whether it can go on without: then it
    /// is stepped once more. Otherwise it waits on.
    fn lose_patience(&mut self, _side: Side) -> bool {
        false
    }

    /// `side` waits ([`Step::Wait`]) and has ended: what it waits for may never come. It is stepped once more, and what
    /// it then does not consume is given to [`Self::end`]. Unless said otherwise, this is no other than losing patience.
    fn stop_waiting(&mut self, side: Side) {
        self.lose_patience(side);
    }

    /// `side` will send nothing more. `rest`: bytes that were never consumed.
    fn end(&mut self, side: Side, rest: &[u8], at: Time, out: &mut Output<'_>);

    /// The connection is over: reports every request that is still waiting.
    fn close(&mut self, at: Time, out: &mut Output<'_>);

    /// Time goes by; for protocols whose requests may stay unanswered without the connection ending.
    fn tick(&mut self, _now: Time, _out: &mut Output<'_>) {}
}
