//! Pairing: id, kind, question and opposite direction.
//!
//! An id alone is not enough (clients reuse them), and order means nothing (RFC 7766 §7: responses may come in any
//! order). Because id and question identify a response, a gap does not end pairing: what was under way when responses
//! were lost is given up, because a client may use the same id for the same question again, and that is all.

use std::collections::VecDeque;

use super::codes::Opcode;
use super::message::{Message, Question, Reading};
use super::transfer::Transfer;
use super::types::{Request, Response};
use crate::{Context, Exchange, Output, Part, Reason, Reasons, Side, Time, Transport};

/// A message and how it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) side: Side,
    /// Wire size with framing; `None` where the sender stopped inside the message.
    pub(super) bytes: Option<u64>,
    pub(super) start: Time,
    /// When the last byte passed, if that was seen.
    pub(super) end: Option<Time>,
    /// Why not all of it is here.
    pub(super) incomplete: Reasons,
    pub(super) missing_bytes: u64,
}

impl Arrival {
    fn part(&self, payload: impl crate::Payload + 'static) -> Part {
        Part { bytes: self.bytes, start: Some(self.start), end: self.end, payload: Box::new(payload) }
    }

    /// Why what is printed of this message is not complete.
    fn reasons(&self, message: &Message) -> Reasons {
        match message.reading {
            // What may stand behind the last record is not printed; when it passed is.
            Reading::Whole if self.end.is_some() => Reasons::NONE,
            _ if !self.incomplete.is_empty() => self.incomplete,
            _ => Reason::ParseError.into(),
        }
    }
}

/// A query that waits for its response.
#[derive(Debug)]
struct Pending {
    sequence: u64,
    request: Request,
    arrival: Arrival,
    reasons: Reasons,
    /// When it was sent last.
    sent: Time,
    /// Serial of the zone that the client has (RFC 1995 §3).
    serial: Option<u32>,
    /// Queries behind it may have been lost.
    saw_loss: bool,
    transfer: Transfer,
    /// What has come of a zone transfer that goes on.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    response: Response,
    arrival: Arrival,
}

impl Pending {
    fn is_twin(&self, side: Side, id: u16, opcode: Opcode) -> bool {
        self.arrival.side == side && self.request.id == id && self.request.opcode == opcode
    }

    fn asks(&self, questions: &[Question]) -> bool {
        let own = &self.request.questions;
        own.len() == questions.len() && own.iter().zip(questions).all(|(a, b)| a.same(b))
    }

    fn emit(self, out: &mut Output<'_>) {
        out.emit(Exchange {
            protocol: super::NAME,
            sequence: Some(self.sequence),
            request: Some(self.arrival.part(self.request)),
            missing_bytes: self.arrival.missing_bytes
                + self.begun.as_ref().map_or(0, |begun| begun.arrival.missing_bytes),
            response: self.begun.map(|begun| begun.arrival.part(begun.response)),
            reasons: self.reasons,
        });
    }

    /// Emits it without (the rest of) a response.
    fn give_up(mut self, lost: Option<Reason>, out: &mut Output<'_>) {
        let unanswered = if self.begun.is_some() { Reason::Closed } else { Reason::NoResponse };
        self.reasons.add(lost.unwrap_or(unanswered));
        if let Some(begun) = &mut self.begun {
            begun.arrival.bytes = None;
            begun.arrival.end = None;
        }
        self.emit(out);
    }
}

/// The queries of one connection that wait.
#[derive(Debug)]
pub(super) struct Table {
    context: Context,
    /// By the time they were sent first.
    pending: VecDeque<Pending>,
    /// When the last response had passed for which no query waited.
    unmatched: Option<Time>,
}

impl Table {
    pub(super) fn new(context: Context) -> Self {
        Self { context, pending: VecDeque::new(), unmatched: None }
    }

    pub(super) fn take(&mut self, message: Message, arrival: Arrival, out: &mut Output<'_>) {
        if message.header.is_response() {
            self.answer(message, arrival, out);
        } else {
            self.ask(message, arrival, out);
        }
    }

    fn ask(&mut self, message: Message, arrival: Arrival, out: &mut Output<'_>) {
        if self.context.transport == Transport::Udp && self.count_retransmission(&message, arrival) {
            return;
        }
        let unreadable = message.reading == Reading::ToQuestions;
        let pending = Pending {
            sequence: out.next_sequence(),
            arrival,
            reasons: arrival.reasons(&message),
            sent: arrival.start,
            serial: message.authority_soa,
            saw_loss: false,
            transfer: Transfer::default(),
            begun: None,
            request: Request::new(message),
        };
        if unreadable {
            pending.emit(out);
            return;
        }
        // On a stream, a query that was held back behind a loss: its response may be the one that found no query.
        if self.context.transport != Transport::Udp && self.unmatched.is_some_and(|passed| arrival.start < passed) {
            pending.give_up(Some(Reason::Gap), out);
            return;
        }
        self.unmatched = None;
        if self.pending.len() >= self.context.limits.pending
            && let Some(oldest) = self.pending.pop_front()
        {
            oldest.give_up(None, out);
        }
        self.pending.push_back(pending);
    }

    /// A datagram that asks what is already being waited for is the same query, sent again.
    fn count_retransmission(&mut self, message: &Message, arrival: Arrival) -> bool {
        let (id, opcode) = (message.header.id, message.header.opcode());
        let again =
            |pending: &&mut Pending| pending.is_twin(arrival.side, id, opcode) && pending.asks(&message.questions);
        let Some(first) = self.pending.iter_mut().find(again).filter(|_| message.reading != Reading::ToQuestions)
        else {
            return false;
        };
        first.request.retransmissions = first.request.retransmissions.saturating_add(1);
        first.sent = arrival.start;
        true
    }

    fn answer(&mut self, message: Message, arrival: Arrival, out: &mut Output<'_>) {
        let Some(index) = self.find(&message, arrival.side.other()) else {
            self.unmatched = Some(arrival.end.unwrap_or(arrival.start));
            out.emit(unsolicited(message, arrival));
            return;
        };
        let Some(pending) = self.pending.get_mut(index) else { return };
        pending.reasons.merge(arrival.reasons(&message));
        if pending.take(message, arrival, self.context.transport)
            && let Some(pending) = self.pending.remove(index)
        {
            pending.emit(out);
        }
    }

    /// The place of the query that a response answers.
    fn find(&self, message: &Message, asker: Side) -> Option<usize> {
        let (id, opcode) = (message.header.id, message.header.opcode());
        if message.reading == Reading::ToQuestions {
            return None;
        }
        let twin = |pending: &Pending| pending.is_twin(asker, id, opcode);
        if message.questions.is_empty() {
            return self.find_by_id(message, twin);
        }
        let same = |pending: &Pending| twin(pending) && pending.asks(&message.questions);
        self.pending.iter().position(same)
    }

    /// A response without a question (an error from a server that could not read the query, or the next message of a
    /// zone transfer) answers the only query with its id. mDNS responses look like this by rule: id 0, no question,
    /// answers (RFC 6762 §6, §18.1); they answer nobody in particular.
    fn find_by_id(&self, message: &Message, twin: impl Fn(&Pending) -> bool) -> Option<usize> {
        let [_, answers, ..] = message.header.counts;
        let mut candidates = self.pending.iter().enumerate().filter(|(_, pending)| twin(pending));
        let (index, only) = candidates.next()?;
        let multicast = message.header.id == 0 && answers > 0 && only.begun.is_none();
        (candidates.next().is_none() && !only.saw_loss && !multicast).then_some(index)
    }

    fn give_up_where(&mut self, chosen: impl Fn(&Pending) -> bool, lost: Option<Reason>, out: &mut Output<'_>) {
        let (given_up, kept) = std::mem::take(&mut self.pending).into_iter().partition::<VecDeque<_>, _>(chosen);
        self.pending = kept;
        for pending in given_up {
            pending.give_up(lost, out);
        }
    }

    /// Messages of `side` may have been lost.
    pub(super) fn lose(&mut self, side: Side, why: Reason, out: &mut Output<'_>) {
        for pending in &mut self.pending {
            pending.saw_loss |= pending.arrival.side == side;
        }
        self.give_up_where(|pending| pending.arrival.side != side, Some(why), out);
    }

    /// Gives up on datagrams that have waited long enough.
    pub(super) fn expire(&mut self, now: Time, out: &mut Output<'_>) {
        let patience = self.context.limits.datagram_timeout_ns;
        let expired = |pending: &Pending| now.0.saturating_sub(pending.sent.0) >= patience;
        if self.context.transport == Transport::Udp && self.pending.iter().any(expired) {
            self.give_up_where(expired, None, out);
        }
    }

    pub(super) fn close(&mut self, out: &mut Output<'_>) {
        self.give_up_where(|_| true, None, out);
    }
}

impl Pending {
    /// Takes a response, or the next message of one; says whether that was all.
    fn take(&mut self, message: Message, arrival: Arrival, transport: Transport) -> bool {
        let zone = self.request.questions.first().is_some_and(|question| Transfer::is_asked(question.kind));
        let last = !zone || transport == Transport::Udp || self.transfer.is_last(&message, self.serial);
        match &mut self.begun {
            None => self.begun = Some(Begun { response: Response::new(message, true), arrival }),
            Some(begun) => {
                begun.response.add(&message);
                begun.arrival.bytes = begun.arrival.bytes.zip(arrival.bytes).map(|(a, b)| a.saturating_add(b));
                begun.arrival.end = arrival.end;
                begun.arrival.missing_bytes += arrival.missing_bytes;
            }
        }
        last
    }
}

fn unsolicited(message: Message, arrival: Arrival) -> Exchange {
    let mut reasons = arrival.reasons(&message);
    reasons.add(Reason::Unsolicited);
    Exchange {
        protocol: super::NAME,
        sequence: None,
        request: None,
        response: Some(arrival.part(Response::new(message, false))),
        reasons,
        missing_bytes: arrival.missing_bytes,
    }
}
