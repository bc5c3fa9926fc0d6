//! Redis: RESP2, RESP3 and inline commands, with pipelines, transactions and publish/subscribe.
//!
//! A reply answers the oldest request that waits. What changes that is followed: commands that get no reply (CLIENT
//! REPLY), one reply for each channel when (un)subscribing, messages that the server sends on its own. Those last are
//! not replies and make no records; the next response says how many there were (`pushes`). A command of a transaction
//! is answered by QUEUED, and EXEC by the results.
//!
//! Strings longer than a limit print as `{"prefix":…,"bytes":…}`, and elements beyond a limit as `{"omitted":n}`; what
//! is not printed is not looked at, so that bytes lost in it do no harm. `database` is printed where it is certain.
//!
//! Not decoded: replication (what follows PSYNC or SYNC), the cluster bus, attributes of RESP3, and the content of
//! pushed messages.

mod commands;
mod infer;
mod inline;
mod pushed;
mod resp;
mod session;
#[cfg(test)]
mod tests;
mod types;
mod value;

use resp::{Outcome, Reader};
use schemars::SchemaGenerator;
use session::{Arrival, Next, Session};
use types::{Request, Response};
use value::Value;

use crate::reassembly::Cause;
use crate::{
    Boundary, Context, Cursor, Handoff, Input, Output, Parser, Reason, Reasons, Registration, Side, Skipped, Span,
    Step, Time, Transport, Violation,
};

const NAME: &str = "redis";

/// Redis over TCP and unix sockets.
pub static REGISTRATION: Registration = Registration {
    names: &[NAME],
    carries: |transport| transport != Transport::Udp,
    answers_nonsense: false,
    infer: |head, _| infer::infer(head),
    parser: |context| Box::new(Redis::new(&context)),
    schema: |generator: &mut SchemaGenerator| {
        [generator.subschema_for::<Request>(), generator.subschema_for::<Response>()]
    },
};

#[derive(Debug)]
struct Redis {
    client: Half,
    server: Half,
    session: Session,
    /// A request has been seen since the framing of the replies was lost.
    asked: bool,
    /// The server goes on although the client's last request is incomplete.
    alone: bool,
    /// Bytes of one string that are kept.
    value: usize,
}

/// One direction: the value that is coming in.
#[derive(Debug)]
struct Half {
    reader: Reader,
    started: bool,
    first: Span,
    last: Span,
    /// The value before this one ended in the same transfer.
    same_transfer: bool,
    reasons: Reasons,
    missing_bytes: u64,
    /// A gap lay inside a string: what follows is the rest of it.
    holds: bool,
}

impl Half {
    fn new(requests: bool, value: usize) -> Self {
        Self {
            reader: Reader::new(requests, value),
            started: false,
            first: Span::default(),
            last: Span::default(),
            same_transfer: false,
            reasons: Reasons::NONE,
            missing_bytes: 0,
            holds: false,
        }
    }

    fn begin(&mut self, input: &Input<'_>) {
        if self.started {
            return;
        }
        self.started = true;
        self.first = input.span(0);
        self.same_transfer = !input.transfer_start;
        self.reasons = Reasons::NONE;
        self.missing_bytes = 0;
        self.reader.begin_value();
    }

    /// How the value came that ends now.
    fn finish(&mut self, bytes: u64) -> Arrival {
        self.started = false;
        Arrival {
            bytes: Some(bytes),
            start: self.first.start,
            end: Some(self.last.end),
            last: self.last.start,
            reasons: self.reasons,
            missing_bytes: self.missing_bytes,
            same_transfer: self.same_transfer,
        }
    }

    /// What there is of the value that was coming in, and how it came.
    fn cut(&mut self, why: Reason) -> Option<(Value, Arrival)> {
        let started = std::mem::take(&mut self.started);
        let value = self.reader.cut().filter(|_| started)?;
        let mut reasons = self.reasons;
        reasons.add(why);
        Some((value, Arrival { bytes: None, end: None, reasons, ..self.finish(0) }))
    }
}

impl Redis {
    fn new(context: &Context) -> Self {
        let value = context.limits.value;
        let (client, server) = (Half::new(true, value), Half::new(false, value));
        Self { client, server, session: Session::new(context), asked: false, alone: false, value }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn inline(&mut self, input: &Input<'_>, out: &mut Output<'_>) -> Step {
        let Some(line) = Cursor::new(input.bytes).until(b'\n') else { return Step::Need(input.bytes.len() + 1) };
        let consumed = line.len() + 1;
        let words = inline::words(line, self.value);
        if words.items.is_empty() {
            return Step::Consumed(consumed);
        }
        let known = |request: &Request| {
            let name = request.command.as_bytes();
            commands::is_known(name) || commands::is_plausible(name)
        };
        let Some(request) = Request::new(words).filter(known) else {
            return self.lose_framing(Side::Client, "inline", out);
        };
        self.client.begin(input);
        self.client.last = input.span(consumed - 1);
        let arrival = self.client.finish(consumed as u64);
        self.ask(request, arrival, out);
        Step::Consumed(consumed)
    }

    fn ask(&mut self, request: Request, arrival: Arrival, out: &mut Output<'_>) {
        self.asked = true;
        self.session.ask(request, arrival, out);
    }

    /// Takes a whole value.
    fn take(&mut self, side: Side, value: Value, arrival: Arrival, out: &mut Output<'_>) -> Next {
        match (side, value) {
            (Side::Server, value) => return self.session.answer(value, arrival, out),
            // An empty array is not a command, and is not answered.
            (Side::Client, Value::Array(words)) => {
                let doubtful = !arrival.reasons.is_empty() && Request::is_doubtful(&words);
                match Request::new(words) {
                    Some(request) if doubtful => {
                        self.session.ask_in_part(request, arrival, out);
                        self.session.lose_requests(arrival.reasons);
                    }
                    Some(request) => self.ask(request, arrival, out),
                    None => {}
                }
            }
            (Side::Client, _) => {}
        }
        Next::Continue
    }

    /// Takes the value whose last bytes passed unseen. `timed`: it is known when.
    fn passed_end(&mut self, side: Side, timed: bool, out: &mut Output<'_>) {
        let half = self.half(side);
        let Some(value) = half.reader.passed_end() else { return };
        let size = half.reader.size();
        let mut arrival = half.finish(size);
        arrival.end = arrival.end.filter(|_| timed);
        self.take(side, value, arrival, out);
    }

    /// Messages of `side` may be lost: reports what that touches.
    fn lose(&mut self, side: Side, why: Reason, out: &mut Output<'_>) {
        let cut = self.half(side).cut(why);
        self.half(side).reader.reset();
        match (side, cut) {
            (Side::Client, Some((Value::Array(words), arrival))) => {
                if let Some(request) =
                    Request::new(words).filter(|request| commands::is_known(request.command.as_bytes()))
                {
                    self.session.ask_in_part(request, arrival, out);
                }
            }
            (Side::Server, Some((value, arrival))) => self.session.answer_in_part(value, arrival, out),
            _ => {}
        }
        match side {
            Side::Client => self.session.lose_requests(why.into()),
            Side::Server => {
                self.asked = false;
                self.session.lose_replies(why.into(), out);
            }
        }
    }

    fn lose_framing(&mut self, side: Side, rule: &'static str, out: &mut Output<'_>) -> Step {
        self.lose(side, Reason::ParseError, out);
        Step::Resync(Violation(rule))
    }
}

impl Parser for Redis {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let started = self.half(side).started;
        if side == Side::Client && !started && input.bytes.first() != Some(&b'*') {
            return self.inline(&input, out);
        }
        if side == Side::Server && !started && self.session.awaits_sync() && input.bytes.first() != Some(&b'-') {
            // A database file follows, of which nothing is printed.
            self.session.give_up_all(Reason::Truncated.into(), out);
            return Step::Stop { consumed: 0, handoff: Handoff::Opaque };
        }
        if side == Side::Server && !started && self.client.started && self.session.is_idle() && !self.alone {
            // The end of the request is late, or lost, which will be known when more comes from the client.
            return Step::Wait;
        }
        let half = self.half(side);
        half.begin(&input);
        let (consumed, outcome) = half.reader.read(input.bytes);
        if let Some(last) = consumed.checked_sub(1) {
            half.last = input.span(last);
        }
        match outcome {
            Outcome::Need(_) if consumed > 0 => Step::Consumed(consumed),
            Outcome::Need(more) => Step::Need(more),
            Outcome::Skip(length) => Step::Skip { consumed, length },
            Outcome::Done(value) => {
                let size = half.reader.size();
                let arrival = half.finish(size);
                match self.take(side, value, arrival, out) {
                    Next::Continue => Step::Consumed(consumed),
                    Next::Replication => {
                        self.session.close(out);
                        Step::Stop { consumed, handoff: Handoff::Opaque }
                    }
                }
            }
            Outcome::Broken(rule) => self.lose_framing(side, rule, out),
        }
    }

    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>) {
        let half = self.half(side);
        if skipped.lost > 0 {
            half.reasons.add(Reason::Gap);
            half.missing_bytes = half.missing_bytes.saturating_add(skipped.lost);
        }
        half.last = skipped.last.unwrap_or(half.last);
        self.passed_end(side, skipped.last.is_some(), out);
    }

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        let why = match cause {
            Cause::Lost => Reason::Gap,
            Cause::Truncated => Reason::Truncated,
        };
        let half = self.half(side);
        half.holds = half.started && half.reader.lose(length);
        if cause == Cause::Lost {
            half.missing_bytes = half.missing_bytes.saturating_add(length);
        }
        if !half.holds {
            self.lose(side, why, out);
            return;
        }
        half.reasons.add(why);
        self.passed_end(side, false, out);
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        if std::mem::take(&mut self.half(side).holds) {
            return Boundary::At(0);
        }
        if side == Side::Server && !self.asked {
            // Whole values stand inside aggregates, too. Only behind a request is a boundary sure.
            return Boundary::None { discard: bytes.len() };
        }
        if !transfer_start {
            return Boundary::None { discard: 1 };
        }
        match infer::is_framed(bytes, side == Side::Client) {
            Some(false) => return Boundary::None { discard: 1 },
            None if side == Side::Client || self.session.pipelines() => return Boundary::None { discard: 0 },
            Some(true) | None => {}
        }
        if side == Side::Client {
            self.session.find_requests();
        }
        Boundary::At(0)
    }

    fn stop_waiting(&mut self, _side: Side) {
        self.alone = true;
    }

    fn end(&mut self, side: Side, _rest: &[u8], _at: Time, out: &mut Output<'_>) {
        match (side, self.half(side).cut(Reason::Closed)) {
            (Side::Client, Some((Value::Array(words), arrival))) => {
                if let Some(request) = Request::new(words) {
                    self.session.ask_in_part(request, arrival, out);
                }
            }
            (Side::Server, Some((value, arrival))) => self.session.answer_in_part(value, arrival, out),
            _ => {}
        }
    }

    fn close(&mut self, _at: Time, out: &mut Output<'_>) {
        self.session.close(out);
    }
}
