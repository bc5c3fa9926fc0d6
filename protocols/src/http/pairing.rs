//! Which response answers which request: the n-th answers the n-th (RFC 9112, section 9.3), as long as every message
//! was seen; see the module documentation for what follows after a gap.

use super::framing::Asked;
use super::head::Head;
use super::message::{Message, Request, Response};
use crate::{Exchange, Output, Part, Payload, Reason, Reasons, Span, Time};

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More of it is to come.
    Open,
    /// Its last byte has passed.
    Complete,
    /// Its end will not be seen.
    Cut,
}

/// A message that is being seen.
#[derive(Debug)]
pub(super) struct Tracked<P> {
    pub(super) payload: P,
    pub(super) wire: Wire,
}

/// What a message was on the wire so far.
#[derive(Debug)]
pub(super) struct Wire {
    /// The transfer of the first byte.
    pub(super) first: Span,
    /// The transfer of the last byte so far; `None` if that one was lost.
    pub(super) last: Option<Span>,
    pub(super) bytes: u64,
    pub(super) body_bytes: u64,
    pub(super) trailers: Option<Head>,
    pub(super) progress: Progress,
}

impl Wire {
    pub(super) fn new(first: Span, last: Span, bytes: usize) -> Self {
        let bytes = bytes as u64;
        Self { first, last: Some(last), bytes, body_bytes: 0, trailers: None, progress: Progress::Open }
    }
}

impl<L> Tracked<Message<L>>
where
    Message<L>: Payload + 'static,
{
    pub(super) fn into_part(self) -> Part {
        let Self { mut payload, wire } = self;
        let complete = wire.progress == Progress::Complete;
        payload.body_bytes = complete.then_some(wire.body_bytes);
        payload.trailers = wire.trailers;
        Part {
            bytes: complete.then_some(wire.bytes),
            start: Some(wire.first.start),
            end: wire.last.filter(|_| complete).map(|span| span.end),
            payload: Box::new(payload),
        }
    }
}

/// A request and its response, while either is to come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) sequence: Option<u64>,
    pub(super) request: Option<Tracked<Request>>,
    pub(super) response: Option<Tracked<Response>>,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
}

impl Pending {
    pub(super) fn asked(&self) -> Asked {
        let request = self.request.as_ref().map(|request| &request.payload);
        request.map_or(Asked::Other, |request| Asked::by(&request.head, &request.line))
    }

    pub(super) fn request_progress(&self) -> Option<Progress> {
        self.request.as_ref().map(|request| request.wire.progress)
    }

    pub(super) fn response_progress(&self) -> Option<Progress> {
        self.response.as_ref().map(|response| response.wire.progress)
    }

    /// Whether nothing more of it is to come.
    pub(super) fn is_settled(&self) -> bool {
        let settled = |progress: Option<Progress>| progress.is_some_and(|progress| progress != Progress::Open);
        settled(self.request_progress()) && settled(self.response_progress())
    }

    /// Whether the bytes behind the request may be something else than HTTP, depending on the response.
    pub(super) fn may_switch(&self) -> bool {
        let Some(request) = &self.request else { return false };
        let asks = request.payload.head.values("upgrade").next().is_some() || self.asked() == Asked::Connect;
        asks && self.response.is_none() && request.wire.progress == Progress::Complete
    }

    /// When its request began.
    pub(super) fn began(&self) -> Time {
        self.request.as_ref().map_or(Time::default(), |request| request.wire.first.start)
    }

    /// Adds why it is not complete.
    pub(super) fn because(mut self, why: Reasons) -> Self {
        self.reasons.merge(why);
        self
    }

    /// Adds why it is not complete, and hands it out as it is.
    pub(super) fn emit_for(mut self, reason: Reason, out: &mut Output<'_>) {
        self.reasons.add(reason);
        self.emit(out);
    }

    pub(super) fn emit(self, out: &mut Output<'_>) {
        out.emit(Exchange {
            protocol: super::NAME,
            sequence: self.sequence,
            request: self.request.map(Tracked::into_part),
            response: self.response.map(Tracked::into_part),
            reasons: self.reasons,
            missing_bytes: self.missing,
        });
    }
}

/// A request that is to have a place among those that wait once it is known that nothing else does.
#[derive(Debug)]
pub(super) struct Unplaced {
    pub(super) pending: Pending,
    /// Requests may have been lost between the one before and this one.
    pub(super) behind_gap: bool,
}

/// Whether order tells which response answers which request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Every message since the connection was at rest has been seen.
    Known,
    /// Messages may have passed unseen.
    Lost {
        /// Why, for what is emitted without its counterpart.
        why: Reasons,
        /// Nothing can be outstanding for a client that does not pipeline: a whole response has been seen since, and
        /// no request since that response.
        at_rest: bool,
    },
}
