//! DNS (RFC 1035) over UDP and TCP, with EDNS (RFC 6891), updates (RFC 2136), notifications (RFC 1996), zone
//! transfers (RFC 5936, RFC 1995), and as far as a parser that knows no ports can tell, mDNS (RFC 6762) and LLMNR.
//!
//! A response answers the query with its id, kind and question (names without regard to case) that went in the
//! opposite direction. A query that is sent again in a datagram before it was answered is one record, timed from the
//! first. All messages of a zone transfer are one response. A second answer to one query is printed as unsolicited:
//! it may be a resolver's retransmission, and it may be a forgery. mDNS responses answer nobody in particular and
//! are always unsolicited.
//!
//! A message of which the end is missing is printed as far as it can be read, and paired if its question can be
//! read. On TCP the length in front of a message tells where the next one begins even then.
//!
//! Not decoded: data of rare types (WKS, LOC, APL, HIP, …), which prints in the generic form of RFC 3597; DNS Stateful
//! Operations (RFC 8490), of which only the header is printed; what a TSIG or SIG(0) signs.

mod codes;
mod infer;
mod message;
mod name;
mod pair;
mod rdata;
#[cfg(test)]
mod tests;
mod transfer;
mod types;

use message::{HEADER, Message, Reading};
use pair::{Arrival, Table};
use schemars::SchemaGenerator;

use crate::reassembly::Cause;
use crate::{
    Boundary, Context, Input, Output, Parser, Reason, Reasons, Registration, Side, Skipped, Span, Step, Time,
    Transport, Violation,
};

const NAME: &str = "dns";

/// Bytes of the length in front of each message on a stream (RFC 1035 §4.2.2).
const PREFIX: usize = 2;

/// DNS over datagrams and streams.
pub static REGISTRATION: Registration = Registration {
    names: &[NAME],
    carries: |transport| transport != Transport::Unix,
    answers_nonsense: false,
    infer: infer::infer,
    parser: |context| Box::new(Dns::new(context)),
    schema: |generator: &mut SchemaGenerator| {
        [generator.subschema_for::<types::Request>(), generator.subschema_for::<types::Response>()]
    },
};

#[derive(Debug)]
struct Dns {
    context: Context,
    client: Half,
    server: Half,
    table: Table,
}

/// One direction of a stream.
///
/// Message bytes are taken as they come, so that what was seen of a message is still at hand when its rest is lost.
#[derive(Debug, Default)]
struct Half {
    /// The message that is coming in, with its length in front.
    message: Vec<u8>,
    first: Span,
    last: Span,
    /// After a gap inside a message: how many of its bytes are still to come before the next message begins.
    ahead: Option<u64>,
}

impl Half {
    /// Wire size of the message that is coming in, once its length is known.
    fn size(&self) -> Option<usize> {
        let length = self.message.first_chunk::<PREFIX>()?;
        Some(PREFIX + usize::from(u16::from_be_bytes(*length)))
    }

    /// Takes bytes up to the end of the length or of the message; says how many.
    fn take(&mut self, input: &Input<'_>) -> usize {
        let wanted = self.size().unwrap_or(PREFIX).saturating_sub(self.message.len());
        let taken = input.bytes.get(..wanted).unwrap_or(input.bytes);
        if self.message.is_empty() {
            self.first = input.span(0);
        }
        self.last = input.span(taken.len().saturating_sub(1));
        self.message.extend_from_slice(taken);
        taken.len()
    }

    /// The message without its length.
    fn body(&self) -> &[u8] {
        self.message.get(PREFIX..).unwrap_or_default()
    }

    fn arrival(&self, side: Side) -> Arrival {
        Arrival {
            side,
            bytes: self.size().map(|size| size as u64),
            start: self.first.start,
            end: Some(self.last.end),
            incomplete: Reasons::NONE,
            missing_bytes: 0,
        }
    }
}

impl Dns {
    fn new(context: Context) -> Self {
        Self { context, client: Half::default(), server: Half::default(), table: Table::new(context) }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn datagram(&mut self, side: Side, input: &Input<'_>, out: &mut Output<'_>) -> Step {
        let Some(message) = Message::read(input.bytes, self.context.limits.value) else {
            return Step::Resync(Violation("header"));
        };
        let span = input.span(0);
        let arrival = Arrival {
            side,
            bytes: Some(input.uncaptured.saturating_add(input.bytes.len() as u64)),
            start: span.start,
            end: Some(span.end),
            incomplete: if input.uncaptured > 0 { Reason::Truncated.into() } else { Reasons::NONE },
            missing_bytes: 0,
        };
        self.table.take(message, arrival, out);
        Step::Consumed(input.bytes.len())
    }

    fn stream(&mut self, side: Side, input: &Input<'_>, out: &mut Output<'_>) -> Step {
        let half = self.half(side);
        let taken = half.take(input);
        match half.size() {
            Some(size) if size < PREFIX + HEADER => {
                *half = Half::default();
                self.table.lose(side, Reason::ParseError, out);
                return Step::Resync(Violation("length"));
            }
            Some(size) if half.message.len() == size => {}
            _ => return Step::Consumed(taken),
        }
        let half = std::mem::take(half);
        if let Some(message) = Message::read(half.body(), self.context.limits.value) {
            self.table.take(message, half.arrival(side), out);
        }
        Step::Consumed(taken)
    }

    /// Reports what was seen of the message that was coming in; says whether its question was.
    fn cut(&mut self, side: Side, change: impl FnOnce(&mut Arrival), out: &mut Output<'_>) -> bool {
        let half = std::mem::take(self.half(side));
        let Some(message) = Message::read(half.body(), self.context.limits.value) else { return false };
        let mut arrival = half.arrival(side);
        arrival.end = None;
        change(&mut arrival);
        let readable = message.reading != Reading::ToQuestions;
        self.table.take(message, arrival, out);
        readable
    }
}

impl Parser for Dns {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        match self.context.transport {
            Transport::Udp => self.datagram(side, &input, out),
            Transport::Tcp | Transport::Unix | Transport::Sctp => self.stream(side, &input, out),
        }
    }

    fn skipped(&mut self, _side: Side, _skipped: Skipped, _out: &mut Output<'_>) {}

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        let why = match cause {
            Cause::Lost => Reason::Gap,
            Cause::Truncated => Reason::Truncated,
        };
        let half = self.half(side);
        let (ahead, in_tail) = match half.size() {
            Some(size) => (Some(size.saturating_sub(half.message.len()) as u64), false),
            None => (half.ahead, half.ahead.is_some()),
        };
        let incomplete = why.into();
        let missing_bytes = if cause == Cause::Lost { ahead.unwrap_or_default().min(length) } else { 0 };
        let cut = self.cut(side, |arrival| *arrival = Arrival { incomplete, missing_bytes, ..*arrival }, out);
        let ahead = ahead.and_then(|ahead| ahead.checked_sub(length));
        *self.half(side) = Half { ahead, ..Half::default() };
        if ahead.is_none() || !(cut || in_tail) {
            self.table.lose(side, why, out);
        }
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        if let Some(ahead) = self.half(side).ahead.take() {
            let seen = bytes.len() as u64;
            if let Some(beyond) = ahead.checked_sub(seen).filter(|beyond| *beyond > 0) {
                self.half(side).ahead = Some(beyond);
                return Boundary::None { discard: bytes.len() };
            }
            return Boundary::At(usize::try_from(ahead).unwrap_or(bytes.len()));
        }
        match infer::is_framed(bytes).filter(|_| transfer_start || bytes.is_empty()) {
            Some(true) => Boundary::At(0),
            None if transfer_start => Boundary::None { discard: 0 },
            Some(false) | None => Boundary::None { discard: 1 },
        }
    }

    fn end(&mut self, side: Side, _rest: &[u8], _at: Time, out: &mut Output<'_>) {
        let incomplete = Reason::Closed.into();
        self.cut(side, |arrival| *arrival = Arrival { incomplete, bytes: None, ..*arrival }, out);
    }

    fn close(&mut self, _at: Time, out: &mut Output<'_>) {
        self.table.close(out);
    }

    fn tick(&mut self, now: Time, out: &mut Output<'_>) {
        self.table.expire(now, out);
    }
}
