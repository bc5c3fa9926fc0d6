//! Exchanges made by hand.

use std::borrow::Cow;

use protocols::{Exchange, Part, Payload, Reasons, Span, Summary, Text, Time, Transport};
use serde::Serialize;

use crate::record::{Clock, ConnectionInfo, Endpoint, Origin, Process, Role, TupleSource};

/// 2026-11-20T10:12:01Z is `START` on this clock.
pub(crate) const CLOCK: Clock = Clock::with_offset(1_795_169_521_000_000_000 - START);
pub(crate) const START: u64 = 5_000_000_000;

#[derive(Debug, Serialize)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorization: Option<Text>,
}

impl Payload for Request {
    fn redact(&mut self) {
        self.authorization = self.authorization.take().map(|_| Text::redacted());
    }

    fn summary(&self) -> Summary<'_> {
        Summary { operation: Some(self.method.into()), target: Some(self.target.display()), ..Summary::default() }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Response {
    pub(crate) status: &'static str,
    #[serde(skip)]
    pub(crate) failed: bool,
}

impl Payload for Response {
    fn summary(&self) -> Summary<'_> {
        Summary { status: Some(Cow::Borrowed(self.status)), failed: self.failed, ..Summary::default() }
    }
}

/// A request 0 to 10 µs after `START`.
pub(crate) fn request(method: &'static str, target: impl Into<Text>) -> Part {
    let payload = Request { method, target: target.into(), authorization: None };
    let span = Span { start: Time(START), end: Time(START + 10_000) };
    Part::new(78, span, span, payload)
}

/// A response whose last byte passed `latency` after `START`, and its first 1 µs before that.
pub(crate) fn response(status: &'static str, latency: u64) -> Part {
    let failed = status.starts_with(['4', '5']) || status == "NXDOMAIN";
    let span = Span { start: Time(START + latency - 1_000), end: Time(START + latency) };
    Part::new(1243, span, span, Response { status, failed })
}

/// A complete exchange.
pub(crate) fn exchange(request: Part, response: Part) -> Exchange {
    Exchange {
        protocol: "http",
        sequence: Some(3),
        request: Some(request),
        response: Some(response),
        reasons: Reasons::NONE,
        missing_bytes: 0,
    }
}

pub(crate) fn get() -> Exchange {
    exchange(request("GET", "/a?b=1"), response("200", 412_345))
}

pub(crate) fn process() -> Process {
    Process {
        pid: 1234,
        tid: Some(1240),
        comm: "nginx".into(),
        executable: Some("/usr/sbin/nginx".into()),
        namespace_pid: None,
        container_id: None,
    }
}

pub(crate) fn inet(address: &str) -> Option<Endpoint> {
    Some(Endpoint::Inet(address.parse().unwrap()))
}

pub(crate) fn connection() -> ConnectionInfo {
    ConnectionInfo {
        id: "1234-9f3c-17".to_owned(),
        transport: Transport::Tcp,
        role: Role::Server,
        local: inet("127.0.0.1:8443"),
        remote: inet("127.0.0.1:51522"),
        proxied: None,
        tls: None,
        tuple_source: TupleSource::Socket,
    }
}

pub(crate) fn origin<'a>(process: &'a Process, connection: &'a ConnectionInfo) -> Origin<'a> {
    Origin { process: Some(process), connection, clock: &CLOCK }
}
