//! One stream: its two messages, and the exchange that they make.

use super::fields::{Fields, Section};
use super::grpc::{self, Messages};
use super::headers::Headers;
use super::types::{Calls, Common, Destination, ErrorCode, GrpcRequest, GrpcResponse, Request, Response};
use crate::{Exchange, Part, Payload, Reason, Reasons, Text, Time};

/// What one side sent on a stream.
#[derive(Debug)]
pub(super) struct Message {
    /// When its first byte passed.
    pub(super) start: Option<Time>,
    /// When its last byte passed.
    pub(super) end: Option<Time>,
    /// Bytes of the frames seen.
    pub(super) wire: u64,
    /// Bytes of content in them.
    pub(super) body: u64,
    /// Why frames of it may have passed unseen.
    pub(super) torn: Reasons,
    /// Whether END_STREAM was seen.
    pub(super) ended: bool,
    pub(super) head: Option<Fields>,
    pub(super) trailers: Option<Headers>,
    pub(super) reset: Option<(u32, Time)>,
    /// The gRPC messages in it; `None` where there are none, or some could not be seen.
    pub(super) messages: Option<Messages>,
}

impl Message {
    /// `torn`: why its beginning may have passed unseen.
    fn new(torn: Reasons) -> Self {
        Self {
            start: None,
            end: None,
            wire: 0,
            body: 0,
            torn,
            ended: false,
            head: None,
            trailers: None,
            reset: None,
            messages: None,
        }
    }

    /// Takes the head: `wire` bytes of frames, from `start` on. A message begins with its head, so whatever was seen
    /// or lost before is no part of it.
    pub(super) fn begin(&mut self, mut head: Fields, start: Time, wire: u64) {
        if self.reset.take().is_some() {
            // Behind its reset a sender sends nothing more (RFC 9113, section 5.1): one of the two is not what it seems.
            head.reasons.add(Reason::ParseError);
        }
        self.wire = wire;
        self.body = 0;
        if head.section == Section::Head {
            self.torn = Reasons::NONE;
        }
        self.start = Some(start);
        let grpc = head.headers.get("content-type").is_some_and(grpc::is_grpc);
        self.messages = (grpc && self.torn.is_empty()).then(Messages::default);
        self.head = Some(head);
    }

    /// Content was seen, and certainly no head before it, which every message begins with (RFC 9113, section 8.1).
    fn is_headless(&self) -> bool {
        self.head.is_none() && self.wire > 0 && self.torn.is_empty()
    }

    /// Frames of it may have passed unseen.
    pub(super) fn tear(&mut self, reason: Reason) {
        self.torn.add(reason);
        self.messages = None;
    }

    fn header(&self, name: &str) -> Option<&Text> {
        self.head.as_ref()?.headers.get(name)
    }

    /// A field of the trailers, or of a head that has none behind it.
    fn last_header(&self, name: &str) -> Option<&Text> {
        self.trailers.as_ref().and_then(|trailers| trailers.get(name)).or_else(|| self.header(name))
    }

    /// Whether its sender has ended it, one way or the other, and all of it was seen. That the other side has reset
    /// the stream says nothing: the two directions may be seen in the wrong order.
    fn is_whole(&self) -> bool {
        let begun = self.head.is_some() || self.wire == 0;
        begun && self.torn.is_empty() && (self.ended || self.reset.is_some())
    }

    /// When its sender ended it, if that was seen.
    fn ended_at(&self) -> Option<Time> {
        if self.ended { self.end } else { self.reset.filter(|_| self.is_whole()).map(|(_, at)| at) }
    }

    fn calls(&self, origin: Option<Time>) -> Calls {
        let messages = self.messages.as_ref();
        let all = messages.filter(|_| self.is_whole());
        Calls {
            messages: all.map(|messages| messages.count),
            first_message_ns: messages.and_then(|messages| offset(origin, messages.first?)),
            last_message_ns: all.and_then(|messages| offset(origin, messages.last?)),
        }
    }

    fn common(&mut self, origin: Option<Time>) -> Common {
        Common {
            version: "2",
            headers: self.head.as_mut().map(|head| std::mem::take(&mut head.headers)),
            body_bytes: self.is_whole().then_some(self.body),
            trailers: self.trailers.take(),
            reset: self.reset.map(|(code, at)| ErrorCode::new(code, offset(origin, at))),
        }
    }
}

/// A request with its response, being seen.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Place of the request; `None` while no request has been seen.
    pub(super) sequence: Option<u64>,
    pub(super) pushed: bool,
    pub(super) request: Message,
    pub(super) response: Message,
    /// The request of an upgraded connection, which was sent in HTTP/1.1.
    pub(super) upgraded: Option<Part>,
    pub(super) interim: Vec<u16>,
    pub(super) goaway: Option<(u32, Time)>,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
    /// When something was last seen of it.
    pub(super) active: Time,
}

impl Stream {
    /// A stream on which nothing has been seen. `torn`: why frames on it may have passed before.
    pub(super) fn new(id: u32, torn: Reasons, now: Time) -> Self {
        Self {
            id,
            sequence: None,
            pushed: false,
            request: Message::new(torn),
            response: Message::new(torn),
            upgraded: None,
            interim: Vec::new(),
            goaway: None,
            reasons: Reasons::NONE,
            missing: 0,
            active: now,
        }
    }

    /// Whether a request was seen, or its trailers.
    pub(super) fn has_request(&self) -> bool {
        self.has_request_head() || self.request.trailers.is_some()
    }

    /// Whether the start of the request was seen.
    pub(super) fn has_request_head(&self) -> bool {
        self.upgraded.is_some() || self.request.head.is_some()
    }

    fn has_response(&self) -> bool {
        self.response.wire > 0 || self.response.reset.is_some() || self.goaway.is_some()
    }

    /// Whether nothing more is to come that this could still wait for. Where the end of a message may have passed
    /// unseen, the end of the other is enough. What the other side had under way when one reset the stream may be
    /// late.
    pub(super) fn is_finished(&self) -> bool {
        let refused = self.response.reset.is_some() || self.goaway.is_some();
        let cancelled = self.request.reset.is_some();
        let asked = self.request.ended || cancelled || !self.request.torn.is_empty();
        (refused || self.response.ended) && asked || cancelled && !self.response.torn.is_empty()
    }

    /// Whether one side has ended the stream before its time, so that the other may never come to its end.
    pub(super) fn is_cut_short(&self) -> bool {
        self.early_end().is_some()
    }

    /// What is known of it; `None` if that is nothing.
    pub(super) fn into_exchange(mut self) -> Option<Exchange> {
        let grpc = self.is_grpc();
        if !self.has_response() || !self.response.ended && self.early_end().is_none() {
            self.reasons.add(Reason::NoResponse);
        }
        if self.is_open_request() {
            self.reasons.add(Reason::Closed);
        }
        for message in [&self.request, &self.response] {
            self.reasons.merge(message.torn);
            self.reasons.merge(message.head.as_ref().map_or(Reasons::NONE, |head| head.reasons));
            if message.is_headless() {
                self.reasons.add(Reason::ParseError);
            }
        }
        let origin = self.upgraded.as_ref().map_or(self.request.start, |part| part.start);
        let response = self.response_part(grpc, origin);
        let request = self.upgraded.take().or_else(|| self.request_part(grpc));
        (request.is_some() || response.is_some()).then(|| Exchange {
            protocol: if grpc { "grpc" } else { "http" },
            sequence: self.sequence,
            request,
            response,
            reasons: self.reasons,
            missing_bytes: self.missing,
        })
    }

    /// The request's media type decides; where it is not known, what the response says of itself.
    fn is_grpc(&self) -> bool {
        if self.upgraded.is_some() {
            return false;
        }
        let response = || {
            self.response.header("content-type").is_some_and(grpc::is_grpc)
                || self.response.last_header("grpc-status").is_some()
        };
        self.request.header("content-type").map_or_else(response, grpc::is_grpc)
    }

    /// Whether more of the request was to come, as far as was seen.
    fn is_open_request(&self) -> bool {
        let request = &self.request;
        request.head.is_some() && request.torn.is_empty() && !request.ended && self.early_end().is_none()
    }

    /// When the stream ended without the end of the response.
    fn early_end(&self) -> Option<Time> {
        let ended = self.request.reset.or(self.response.reset).or(self.goaway);
        ended.map(|(_, at)| at)
    }

    fn request_part(&mut self, grpc: bool) -> Option<Part> {
        if !self.has_request() {
            return None;
        }
        let origin = self.request.start;
        let calls = self.request.calls(origin);
        let destination = self.destination();
        let bytes = self.request.is_whole().then_some(self.request.wire);
        let end = self.request.ended_at();
        let common = self.request.common(origin);
        let payload: Box<dyn Payload> = if grpc {
            let path = destination.path.as_ref().map(Text::as_bytes);
            let (service, method) = path.and_then(grpc::service_and_method).unzip();
            Box::new(GrpcRequest { service, method, calls, destination, common })
        } else {
            let (method, target, connect_protocol) = self.request.head.as_mut().map_or((None, None, None), |head| {
                let target = head.path.as_ref().or_else(|| tunnel_target(head)).cloned();
                (head.method.take(), target, head.protocol.take())
            });
            Box::new(Request { method, target, connect_protocol, destination, common })
        };
        Some(Part { bytes, start: origin, end, payload })
    }

    fn destination(&self) -> Destination {
        let head = self.request.head.as_ref();
        let path = head.and_then(|head| head.path.as_ref().or_else(|| tunnel_target(head)));
        let without_query =
            |path: &Text| Text::from(path.as_bytes().split(|&byte| byte == b'?').next().unwrap_or_default());
        Destination {
            path: path.map(without_query),
            host: head.and_then(host).cloned(),
            scheme: head.and_then(|head| head.scheme.clone()),
            stream_id: self.id,
            pushed: self.pushed,
        }
    }

    fn response_part(&mut self, grpc: bool, origin: Option<Time>) -> Option<Part> {
        if !self.has_response() {
            return None;
        }
        let calls = self.response.calls(origin);
        let whole = self.response.is_whole();
        let bytes = whole.then_some(self.response.wire);
        let end = self.response.ended_at();
        let start = self.response.start.or(end.filter(|_| whole && self.response.wire == 0));
        let grpc_status = self.response.last_header("grpc-status").and_then(grpc::status);
        let grpc_message = self.response.last_header("grpc-message").map(grpc::message);
        let response = Response {
            status: self.response.head.as_ref().and_then(|head| head.status),
            common: self.response.common(origin),
            interim: std::mem::take(&mut self.interim),
            goaway: self.goaway.map(|(code, at)| ErrorCode::new(code, offset(origin, at))),
            stream_id: (!self.has_request()).then_some(self.id),
        };
        let payload: Box<dyn Payload> = if grpc {
            Box::new(GrpcResponse { grpc_status, grpc_message, calls, response })
        } else {
            Box::new(response)
        };
        Some(Part { bytes, start, end, payload })
    }
}

/// `:authority`, or the field `host` if there certainly is none.
fn host(head: &Fields) -> Option<&Text> {
    let fallback = || head.headers.get("host").filter(|_| head.reasons.is_empty());
    head.authority.as_ref().or_else(fallback)
}

/// Where a CONNECT goes, which has no path (RFC 9113, section 8.5).
fn tunnel_target(head: &Fields) -> Option<&Text> {
    let connect = head.method.as_ref().is_some_and(|method| *method == "CONNECT");
    head.authority.as_ref().filter(|_| connect && head.reasons.is_empty())
}

fn offset(origin: Option<Time>, at: Time) -> Option<u64> {
    at.0.checked_sub(origin?.0)
}
