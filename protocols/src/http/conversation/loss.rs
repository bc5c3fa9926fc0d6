//! What bytes that are missing, or that break a rule, take along.

use super::super::head::{self, Head, RequestLine, StatusLine};
use super::super::inference;
use super::super::message::Message;
use super::super::pairing::{Order, Progress, Tracked, Unplaced, Wire};
use super::{Conversation, Flow, START};
use crate::{Boundary, Input, Output, Parser as _, Reason, Reasons, Side, Step, Violation};

impl Conversation {
    /// Which response answers which request is unknown from here on.
    pub(super) fn lose_order(&mut self, reason: Reason) {
        let mut why = Reasons::from(reason);
        if let Order::Lost { why: before, .. } = self.order {
            why.merge(before);
        }
        self.order = Order::Lost { why, at_rest: false };
    }

    /// The framing of `side` is lost. A request keeps its place, as those before it do; a lost response takes the order
    /// of everything that was asked with it.
    pub(super) fn lose(&mut self, side: Side, violation: Violation, out: &mut Output<'_>) -> Step {
        match side {
            Side::Client => {
                self.request_gap = true;
                self.cut(side, Reason::ParseError, 0, out);
            }
            Side::Server => self.lose_responses(Reason::ParseError, 0, out),
        }
        self.restart(side);
        self.lose_order(Reason::ParseError);
        Step::Resync(violation)
    }

    /// Like [`Self::lose`], behind a head whose end is known: what follows may yet be a message.
    pub(super) fn lose_behind(
        &mut self,
        side: Side,
        violation: Violation,
        consumed: usize,
        out: &mut Output<'_>,
    ) -> Step {
        self.lose(side, violation, out);
        *self.flow(side) = Flow::Lost(violation);
        Step::Consumed(consumed)
    }

    pub(super) fn go_on(&mut self, side: Side, input: Input<'_>, violation: Violation, out: &mut Output<'_>) -> Step {
        match self.resync(side, input.bytes, input.transfer_start) {
            Boundary::At(0) => {
                *self.flow(side) = START;
                self.head(side, input, 0, out)
            }
            Boundary::None { discard: 0 } => Step::Need(input.bytes.len() + 1),
            Boundary::None { discard } if discard < input.bytes.len() => Step::Consumed(discard),
            _ => {
                *self.flow(side) = START;
                Step::Resync(violation)
            }
        }
    }

    /// The server's side has lost its place: hands out what is in the middle of a response. Which of the requests were
    /// answered meanwhile shows with the next response.
    pub(super) fn lose_responses(&mut self, reason: Reason, missing: u64, out: &mut Output<'_>) {
        self.suspected = false;
        if self.pipelines {
            return self.give_up(reason, missing, out);
        }
        self.missing = self.missing.saturating_add(missing);
        if let Some(mut pending) = self.lone_response.take() {
            pending.missing = std::mem::take(&mut self.missing);
            pending.emit_for(reason, out);
        }
        let waiting: Vec<_> = self.pending.drain().collect();
        for mut pending in waiting.into_iter().rev() {
            if pending.response.is_none() {
                self.unplaced.push_front(Unplaced { pending, behind_gap: false });
                continue;
            }
            pending.missing = pending.missing.saturating_add(std::mem::take(&mut self.missing));
            if pending.request_progress() == Some(Progress::Open) {
                pending.reasons.add(reason);
                self.lone_request = Some(pending);
            } else {
                pending.emit_for(reason, out);
            }
        }
    }

    /// Hands out everything that waits for a response or is in the middle of one. A request that is still being sent
    /// goes on alone.
    pub(super) fn give_up(&mut self, reason: Reason, missing: u64, out: &mut Output<'_>) {
        let mut missing = missing;
        if let Some(mut pending) = self.lone_response.take() {
            pending.missing = std::mem::take(&mut missing);
            pending.emit_for(reason, out);
        }
        while let Some(mut pending) = self.pending.pop() {
            pending.missing = pending.missing.saturating_add(std::mem::take(&mut missing));
            if pending.request_progress() == Some(Progress::Open) {
                pending.reasons.add(reason);
                self.lone_request = Some(pending);
            } else {
                pending.emit_for(reason, out);
            }
        }
        if let Order::Lost { why, .. } = self.order {
            while !self.unplaced.is_empty() {
                self.hand_out_unplaced(why, out);
            }
        }
    }

    /// `side` ends in the middle of a head: what its first line says is known.
    pub(super) fn end_in_head(&mut self, side: Side, rest: &[u8], out: &mut Output<'_>) {
        let bytes = rest.get(inference::leading_line_ends(rest)..).unwrap_or_default();
        let (Some((line, _)), Some(first)) = (head::line(bytes), self.begun(side).take()) else { return };
        let wire = Wire::new(first, first, bytes.len());
        match side {
            Side::Client => {
                let Ok(parsed) = RequestLine::parse(line) else { return };
                let payload = Message::new(parsed, Head::line_only(line));
                self.begin_request(Tracked { payload, wire }, true, out);
            }
            Side::Server => {
                let Ok(parsed) = StatusLine::parse(line) else { return };
                self.begin_response(Tracked { payload: Message::new(parsed, Head::line_only(line)), wire });
            }
        }
    }
}
