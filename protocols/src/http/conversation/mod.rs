//! The parser: both directions of one connection.

mod loss;

use std::collections::VecDeque;

use super::chunked::{self, Found, Phase};
use super::framing::{self, Asked, Framing};
use super::head::{self, Head, RequestLine, StatusLine};
use super::inference;
use super::message::{Message, Request, Response};
use super::pairing::{Order, Pending, Progress, Tracked, Unplaced, Wire};
use super::switch;
use crate::reassembly::Cause;
use crate::{
    Boundary, Context, Fifo, Handoff, Input, Output, Parser, Reason, Reasons, Side, Skipped, Span, Step, Time,
    Violation,
};

/// Where one direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Before a head, or in one; the search for its end stopped at `scanned`.
    Head { scanned: usize },
    /// In a body that the driver counts.
    Counted,
    /// In the framing of a chunked body.
    Chunked(Phase),
    /// In the data of a chunk and the line end behind it, which the driver counts.
    Chunk,
    /// Behind a head that does not say how the message goes on.
    Lost(Violation),
    /// Behind the head of a request that asked for 100 (Continue) before it sends its body: after another answer it
    /// may go on without one (RFC 9110, section 10.1.1).
    Expecting(Framing),
    /// Behind the head of a response whose request was not seen: if that was HEAD, there is no body.
    Doubtful(Framing),
}

const SWITCHING_PROTOCOLS: u16 = 101;

const START: Flow = Flow::Head { scanned: 0 };

/// HTTP/1 on one connection.
#[derive(Debug)]
pub(super) struct Conversation {
    context: Context,
    client: Flow,
    server: Flow,
    begun: [Option<Span>; 2],
    /// Requests in order. A response that is being seen belongs to the first, a request to the last.
    pending: Fifo<Pending>,
    pending_limit: usize,
    /// Requests in order, behind those, that wait for order to be known again.
    unplaced: VecDeque<Unplaced>,
    /// Why order was lost when a response began to wait for its request: it may be that request which is missing.
    waited_for: Reasons,
    /// Requests may have been lost since the last one.
    request_gap: bool,
    /// Requests were lost, and what passed behind them is about to be seen.
    in_gap: bool,
    /// Bytes of the server's that are missing and were not reported yet.
    missing: u64,
    /// A request that is being seen and will not be paired.
    lone_request: Option<Pending>,
    /// A response that is being seen and will not be paired.
    lone_response: Option<Pending>,
    order: Order,
    /// A request was sent before the response to an earlier one had ended.
    pipelines: bool,
    /// As `pipelines`, unless a loss shows on the server's side: what is outstanding may have been answered unseen.
    suspected: bool,
    /// What a response without a request waits for will not come.
    impatient: bool,
    /// When the server's last byte so far passed.
    server_last: Time,
}

impl Conversation {
    pub(super) fn new(context: Context) -> Self {
        let order =
            if context.midstream { Order::Lost { why: Reason::Midstream.into(), at_rest: true } } else { Order::Known };
        Self {
            context,
            client: START,
            server: START,
            begun: [None; 2],
            pending: Fifo::new(context.limits.pending),
            pending_limit: context.limits.pending.max(1),
            unplaced: VecDeque::new(),
            waited_for: Reasons::default(),
            request_gap: false,
            in_gap: false,
            missing: 0,
            lone_request: None,
            lone_response: None,
            order,
            pipelines: false,
            suspected: false,
            impatient: false,
            server_last: Time::default(),
        }
    }

    fn flow(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The exchange whose message `side` is sending now.
    fn current(&mut self, side: Side) -> Option<&mut Pending> {
        match side {
            Side::Client => {
                let unplaced = self.unplaced.back_mut().map(|unplaced| &mut unplaced.pending);
                self.lone_request.as_mut().or(unplaced).or(self.pending.back_mut())
            }
            Side::Server => self.lone_response.as_mut().or(self.pending.front_mut()),
        }
    }

    /// The message that `side` is sending now.
    fn wire(&mut self, side: Side) -> Option<&mut Wire> {
        let pending = self.current(side)?;
        let wire = match side {
            Side::Client => pending.request.as_mut().map(|request| &mut request.wire),
            Side::Server => pending.response.as_mut().map(|response| &mut response.wire),
        };
        wire.filter(|wire| wire.progress == Progress::Open)
    }

    /// The transfer in which the head began that `side` has not sent to its end.
    fn begun(&mut self, side: Side) -> &mut Option<Span> {
        match side {
            Side::Client => &mut self.begun[0],
            Side::Server => &mut self.begun[1],
        }
    }

    /// `side` is between two messages, as far as can be known.
    fn restart(&mut self, side: Side) {
        *self.flow(side) = START;
        *self.begun(side) = None;
    }

    fn saw(&mut self, side: Side, last: Span) {
        if side == Side::Server {
            self.server_last = self.server_last.max(last.end);
        }
    }

    fn head(&mut self, side: Side, input: Input<'_>, scanned: usize, out: &mut Output<'_>) -> Step {
        let lead = inference::leading_line_ends(input.bytes);
        let bytes = input.bytes.get(lead..).unwrap_or_default();
        if bytes.is_empty() {
            *self.flow(side) = START;
            return Step::Consumed(lead);
        }
        let first = input.span(lead);
        let waits = match side {
            Side::Client => self.pending.back_mut().is_some_and(|last| last.may_switch()),
            Side::Server => self.awaits_request(),
        };
        if waits {
            return Step::Wait;
        }
        let Some(length) = head::end(bytes, scanned) else {
            if inference::judge(side, bytes) == Some(false) {
                return self.lose(side, Violation("start_line"), out);
            }
            *self.flow(side) = Flow::Head { scanned: bytes.len().saturating_sub(2) };
            self.begun(side).get_or_insert(first);
            return Step::Need(input.bytes.len() + 1);
        };
        self.restart(side);
        let head = bytes.get(..length).unwrap_or_default();
        let consumed = lead + length;
        let last = input.span(consumed.saturating_sub(1));
        self.saw(side, last);
        let wire = Wire::new(first, last, length);
        match side {
            Side::Client => self.request(head, wire, input.transfer_start, consumed, out),
            Side::Server => self.response(head, wire, consumed, out),
        }
    }

    fn request(
        &mut self,
        bytes: &[u8],
        wire: Wire,
        transfer_start: bool,
        consumed: usize,
        out: &mut Output<'_>,
    ) -> Step {
        let Some((line_bytes, next)) = head::line(bytes) else {
            return self.lose(Side::Client, Violation("request_line"), out);
        };
        let line = match RequestLine::parse(line_bytes) {
            Ok(line) => line,
            Err(violation) => return self.lose(Side::Client, violation, out),
        };
        let (framing, head) = match Head::parse(bytes, next) {
            Ok(head) => (framing::of_request(&head), head),
            Err(violation) => (Err(violation), Head::line_only(line_bytes)),
        };
        let expects = head.values("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
        self.begin_request(Tracked { payload: Message::new(line, head), wire }, transfer_start, out);
        match framing {
            Ok(framing @ (Framing::Length(1..) | Framing::Chunked)) if expects => {
                self.client = Flow::Expecting(framing);
                Step::Consumed(consumed)
            }
            Ok(framing) => self.body(Side::Client, framing, consumed, out),
            Err(violation) => self.lose_behind(Side::Client, violation, consumed, out),
        }
    }

    fn begin_request(&mut self, request: Tracked<Request>, transfer_start: bool, out: &mut Output<'_>) {
        let first = request.wire.first;
        let pending = Pending { sequence: Some(out.next_sequence()), request: Some(request), ..Pending::default() };
        // A client that waits for each response begins every request with a transfer of its own.
        self.pipelines |= !transfer_start;
        if self.pending.len() >= self.pending_limit {
            self.suspected = true;
            self.give_up(Reason::NoResponse, 0, out);
            self.lose_order(Reason::NoResponse);
        }
        let behind_gap = std::mem::take(&mut self.request_gap);
        if let (Order::Lost { .. }, Flow::Doubtful(_)) = (self.order, self.server)
            && self.server_last <= first.start
        {
            self.end_in_doubt(out);
        }
        if let Order::Lost { why, at_rest } = self.order {
            let outstanding = !self.pending.is_empty() || !self.unplaced.is_empty();
            let idle = !outstanding && self.lone_response.is_none() && self.server == START;
            if self.pipelines || !at_rest || !idle || first.start < self.server_last {
                self.order = Order::Lost { why, at_rest: false };
                self.keep_unplaced(Unplaced { pending, behind_gap }, why, out);
                return;
            }
            self.order = Order::Known;
        }
        let evicted = self.pending.push(pending);
        debug_assert!(evicted.is_none(), "room was made");
    }

    /// Keeps a request until the server's side has come to where it began.
    fn keep_unplaced(&mut self, unplaced: Unplaced, why: Reasons, out: &mut Output<'_>) {
        if self.pipelines {
            self.lone_request = Some(unplaced.pending.because(why));
            return;
        }
        if self.unplaced.len() >= self.pending_limit {
            self.hand_out_unplaced(why, out);
        }
        self.unplaced.push_back(unplaced);
    }

    /// Hands out the oldest request that waits for order; one that is still being sent goes on alone.
    fn hand_out_unplaced(&mut self, why: Reasons, out: &mut Output<'_>) {
        let Some(Unplaced { mut pending, .. }) = self.unplaced.pop_front() else { return };
        pending.missing = pending.missing.saturating_add(std::mem::take(&mut self.missing));
        let pending = pending.because(why);
        if pending.request_progress() == Some(Progress::Open) {
            self.lone_request = Some(pending);
        } else {
            pending.emit(out);
        }
    }

    /// A response has been seen to its end while order was lost: what was asked before that end is over, and a client
    /// that sends one request at a time had nothing outstanding then.
    fn pass_over_unplaced(&mut self, out: &mut Output<'_>) {
        let Order::Lost { why, .. } = self.order else { return };
        while self.unplaced.front().is_some_and(|unplaced| unplaced.pending.began() < self.server_last) {
            self.hand_out_unplaced(why, out);
        }
    }

    /// Puts the requests in order that began behind the last response, up to where one may have been lost.
    fn place(&mut self) {
        let Order::Lost { why, .. } = self.order else { return };
        if self.unplaced.is_empty() || !self.pending.is_empty() || self.pipelines {
            return;
        }
        self.missing = 0;
        while let Some(unplaced) = self.unplaced.pop_front() {
            if unplaced.behind_gap && !self.pending.is_empty() {
                self.unplaced.push_front(unplaced);
                break;
            }
            let evicted = self.pending.push(unplaced.pending);
            debug_assert!(evicted.is_none(), "no more than fit are kept");
        }
        self.order = if self.unplaced.is_empty() && !self.request_gap {
            Order::Known
        } else {
            Order::Lost { why, at_rest: false }
        };
    }

    fn response(&mut self, bytes: &[u8], wire: Wire, consumed: usize, out: &mut Output<'_>) -> Step {
        let Some((line_bytes, next)) = head::line(bytes) else {
            return self.lose(Side::Server, Violation("status_line"), out);
        };
        let line = match StatusLine::parse(line_bytes) {
            Ok(line) => line,
            Err(violation) => return self.lose(Side::Server, violation, out),
        };
        if (100..200).contains(&line.status) && line.status != SWITCHING_PROTOCOLS {
            return Step::Consumed(consumed);
        }
        let parsed = Head::parse(bytes, next);
        let pending = self.answers(wire.first);
        let asked = pending.as_deref().map_or(Asked::Other, Pending::asked);
        let (framing, head) = match parsed {
            Ok(head) => (framing::of_response(&head, &line, asked), head),
            Err(violation) => (Err(violation), Head::line_only(line_bytes)),
        };
        self.begin_response(Tracked { payload: Message::new(line, head), wire });
        match framing {
            Ok(framing @ (Framing::Length(1..) | Framing::Chunked | Framing::ToEnd))
                if self.lone_response.is_some() =>
            {
                self.server = Flow::Doubtful(framing);
                Step::Consumed(consumed)
            }
            Ok(framing) => self.body(Side::Server, framing, consumed, out),
            Err(violation) => self.lose_behind(Side::Server, violation, consumed, out),
        }
    }

    /// A body, or the next message's head? A transfer that begins like a head is one.
    fn resolve_doubt(&mut self, side: Side, input: Input<'_>, framing: Framing, out: &mut Output<'_>) -> Step {
        match inference::boundary(side, input.bytes, input.transfer_start, false) {
            Boundary::At(_) => {
                match side {
                    Side::Client => self.complete(Side::Client, out),
                    Side::Server => self.end_in_doubt(out),
                }
                self.head(side, input, 0, out)
            }
            Boundary::None { discard: 0 } => Step::Need(input.bytes.len() + 1),
            Boundary::None { .. } => self.begin_body(side, input, framing, out),
        }
    }

    fn begin_body(&mut self, side: Side, input: Input<'_>, framing: Framing, out: &mut Output<'_>) -> Step {
        match framing {
            Framing::Chunked => self.chunked(side, input, Phase::Size, out),
            framing => self.body(side, framing, 0, out),
        }
    }

    /// Whether the request that is being sent has its final answer already.
    fn is_answered(&self) -> bool {
        let placed = self.lone_request.is_none() && self.unplaced.is_empty();
        placed && self.pending.front().is_some_and(|pending| pending.response.is_some())
    }

    /// The response in doubt had no body, or none that was seen.
    fn end_in_doubt(&mut self, out: &mut Output<'_>) {
        self.server = START;
        if let Some(wire) = self.wire(Side::Server) {
            wire.progress = Progress::Cut;
        }
        self.pass_over_unplaced(out);
        self.settle(Side::Server, out);
        self.come_to_rest();
    }

    fn come_to_rest(&mut self) {
        if let Order::Lost { at_rest, .. } = &mut self.order {
            *at_rest = true;
        }
        self.place();
    }

    /// The exchange that a response belongs to whose first byte passed in `first`.
    fn answers(&mut self, first: Span) -> Option<&mut Pending> {
        let pending = self.pending.front_mut().filter(|pending| pending.response.is_none())?;
        // What was there before the request was asked does not answer it (a 408 on an idle connection, say).
        let asked = pending.request.as_ref().map_or(Time::default(), |request| request.wire.first.start);
        (asked <= first.end).then_some(pending)
    }

    fn begin_response(&mut self, response: Tracked<Response>) {
        self.impatient = false;
        let waited_for = std::mem::take(&mut self.waited_for);
        if let Some(pending) = self.answers(response.wire.first) {
            pending.response = Some(response);
            return;
        }
        let mut reasons = Reasons::from(Reason::Unsolicited);
        reasons.merge(waited_for);
        if let Order::Lost { why, .. } = self.order {
            reasons.merge(why);
        }
        self.lone_response = Some(Pending { response: Some(response), reasons, ..Pending::default() });
    }

    /// Whether the request must be on its way: the two directions may be seen in the wrong order when two threads
    /// serve them.
    fn awaits_request(&mut self) -> bool {
        // What was lost is given up when bytes behind it are there. They tell which responses came before them.
        let may_come = self.in_gap
            || match self.order {
                Order::Known => true,
                Order::Lost { at_rest, .. } => at_rest,
            };
        let awaits =
            may_come && !self.impatient && self.pending.front().is_none_or(|pending| pending.response.is_some());
        if let (true, Order::Lost { why, .. }) = (awaits, self.order) {
            self.waited_for = why;
        }
        awaits
    }

    fn body(&mut self, side: Side, framing: Framing, consumed: usize, out: &mut Output<'_>) -> Step {
        match framing {
            Framing::Length(0) => {
                self.complete(side, out);
                Step::Consumed(consumed)
            }
            Framing::Length(length) => {
                *self.flow(side) = Flow::Counted;
                Step::Skip { consumed, length }
            }
            Framing::Chunked => {
                *self.flow(side) = Flow::Chunked(Phase::Size);
                Step::Consumed(consumed)
            }
            Framing::ToEnd => {
                *self.flow(side) = Flow::Counted;
                Step::SkipToEnd { consumed }
            }
            Framing::Switch => {
                let handoff = self.switch(out);
                Step::Stop { consumed, handoff }
            }
        }
    }

    /// HTTP/1 ends here.
    fn switch(&mut self, out: &mut Output<'_>) -> Handoff {
        let goes_on = self.lone_response.is_none() && self.pending.front().is_some_and(switch::goes_on);
        let upgraded = if goes_on { self.pending.pop() } else { None };
        if upgraded.is_none() {
            self.complete(Side::Server, out);
        }
        self.give_up(Reason::NoResponse, 0, out);
        upgraded.map_or(Handoff::Opaque, |pending| switch::handoff(self.context, pending))
    }

    fn chunked(&mut self, side: Side, input: Input<'_>, mut phase: Phase, out: &mut Output<'_>) -> Step {
        let mut found = phase.parse(input.bytes);
        let (consumed, trailers) = match found {
            Ok(Found::Need(total)) => {
                *self.flow(side) = Flow::Chunked(phase);
                return Step::Need(total);
            }
            Ok(Found::Chunk { consumed, .. } | Found::LastChunk { consumed }) => (consumed, None),
            Ok(Found::End { consumed, ref mut trailers }) => (consumed, trailers.take()),
            Err(violation) => return self.lose(side, violation, out),
        };
        let last = input.span(consumed.saturating_sub(1));
        self.saw(side, last);
        if let Some(wire) = self.wire(side) {
            wire.bytes = wire.bytes.saturating_add(consumed as u64);
            wire.last = Some(last);
            wire.trailers = trailers;
        }
        match found {
            Ok(Found::Chunk { length, .. }) => {
                *self.flow(side) = Flow::Chunk;
                return Step::Skip { consumed, length: length.saturating_add(chunked::DATA_END) };
            }
            Ok(Found::LastChunk { .. }) => *self.flow(side) = Flow::Chunked(Phase::Trailers { scanned: 0 }),
            _ => self.complete(side, out),
        }
        Step::Consumed(consumed)
    }

    /// The last byte of the message that `side` is sending has passed.
    fn complete(&mut self, side: Side, out: &mut Output<'_>) {
        *self.flow(side) = START;
        let mut last = None;
        if let Some(wire) = self.wire(side) {
            wire.progress = Progress::Complete;
            last = wire.last;
        }
        if side == Side::Client {
            self.settle(side, out);
            return;
        }
        // No loss has shown up to the response that was awaited.
        self.pipelines |= std::mem::take(&mut self.suspected);
        self.pass_over_unplaced(out);
        self.settle(side, out);
        self.come_to_rest();
        let next = self.pending.front().and_then(|pending| pending.request.as_ref());
        if let (Some(last), Some(next)) = (last, next) {
            self.pipelines |= next.wire.progress != Progress::Open && next.wire.first.end < last.start;
        }
    }

    /// The end of the message that `side` is sending will not be seen.
    fn cut(&mut self, side: Side, reason: Reason, missing: u64, out: &mut Output<'_>) {
        *self.flow(side) = START;
        let Some(wire) = self.wire(side) else { return };
        wire.progress = Progress::Cut;
        if let Some(pending) = self.current(side) {
            pending.reasons.add(reason);
            pending.missing = pending.missing.saturating_add(missing);
        }
        self.settle(side, out);
    }

    /// `side` sends nothing more.
    fn end_message(&mut self, side: Side, out: &mut Output<'_>) {
        let unsent = matches!(self.flow(side), Flow::Expecting(_));
        if unsent && self.is_answered() {
            self.complete(side, out);
        } else {
            self.cut(side, Reason::Closed, 0, out);
        }
    }

    /// Hands out what is finished now that a message of `side` is.
    fn settle(&mut self, side: Side, out: &mut Output<'_>) {
        let lone = match side {
            Side::Client => &mut self.lone_request,
            Side::Server => &mut self.lone_response,
        };
        if let Some(pending) = lone.take() {
            pending.emit(out);
        } else if self.pending.front().is_some_and(Pending::is_settled)
            && let Some(pending) = self.pending.pop()
        {
            pending.emit(out);
        }
    }
}

impl Parser for Conversation {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let flow = *self.flow(side);
        match flow {
            Flow::Head { scanned } => self.head(side, input, scanned, out),
            Flow::Chunked(phase) => self.chunked(side, input, phase, out),
            Flow::Doubtful(framing) => self.resolve_doubt(side, input, framing, out),
            Flow::Expecting(framing) if self.is_answered() => self.resolve_doubt(side, input, framing, out),
            Flow::Expecting(framing) => self.begin_body(side, input, framing, out),
            Flow::Lost(violation) => self.go_on(side, input, violation, out),
            // The driver does not step while it counts.
            Flow::Counted | Flow::Chunk => self.lose(side, Violation("uncounted"), out),
        }
    }

    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>) {
        if let Some(span) = skipped.last {
            self.saw(side, span);
        }
        let framing = if *self.flow(side) == Flow::Chunk { chunked::DATA_END } else { 0 };
        if let Some(wire) = self.wire(side) {
            wire.bytes = wire.bytes.saturating_add(skipped.length);
            wire.body_bytes = wire.body_bytes.saturating_add(skipped.length.saturating_sub(framing));
            wire.last = if skipped.length > 0 { skipped.last } else { wire.last };
        }
        if skipped.lost > 0
            && let Some(pending) = self.current(side)
        {
            pending.reasons.add(Reason::Gap);
            pending.missing = pending.missing.saturating_add(skipped.lost);
        }
        match self.flow(side) {
            flow @ Flow::Chunk => *flow = Flow::Chunked(Phase::Size),
            _ => self.complete(side, out),
        }
    }

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        // A body that was sent by a call which shows no content (sendfile): no doubt is left.
        if side == Side::Server && cause == Cause::Truncated && self.server == Flow::Doubtful(Framing::Length(length)) {
            self.server = Flow::Counted;
            return self.skipped(side, Skipped { length, lost: 0, last: None }, out);
        }
        let (reason, missing) = match cause {
            Cause::Lost => (Reason::Gap, length),
            Cause::Truncated => (Reason::Truncated, 0),
        };
        match side {
            Side::Client => {
                self.request_gap = true;
                self.in_gap = cause == Cause::Lost;
                self.cut(side, reason, missing, out);
            }
            Side::Server => self.lose_responses(reason, missing, out),
        }
        self.restart(side);
        self.lose_order(reason);
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        self.in_gap &= side == Side::Server;
        inference::boundary(side, bytes, transfer_start, self.pipelines)
    }

    fn lose_patience(&mut self, side: Side) -> bool {
        self.impatient |= side == Side::Server;
        side == Side::Server
    }

    fn end(&mut self, side: Side, rest: &[u8], _: Time, out: &mut Output<'_>) {
        if let Flow::Head { .. } = self.flow(side) {
            self.end_in_head(side, rest, out);
        }
        self.end_message(side, out);
    }

    fn close(&mut self, _: Time, out: &mut Output<'_>) {
        self.end_message(Side::Client, out);
        self.end_message(Side::Server, out);
        self.give_up(Reason::NoResponse, 0, out);
    }
}
