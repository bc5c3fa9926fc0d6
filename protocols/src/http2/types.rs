//! What is printed of a stream.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::frame::error_name;
use super::headers::Headers;
use crate::http::redaction;
use crate::{Payload, Summary, Text};

/// An error code of RST_STREAM or GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Http2ErrorCode")]
pub struct ErrorCode {
    /// The code.
    pub code: u32,
    /// Its name, if RFC 9113 defines one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Nanoseconds from the start of the request.
    pub at_ns: Option<u64>,
}

impl ErrorCode {
    pub(super) fn new(code: u32, at_ns: Option<u64>) -> Self {
        Self { code, error: error_name(code), at_ns }
    }
}

/// What every message has.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Common {
    /// "2"
    pub version: &'static str,
    /// Absent if none were seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Bytes of content without framing and padding.
    pub body_bytes: Option<u64>,
    /// Fields behind the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailers: Option<Headers>,
    /// The side that sent this message ended the stream early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<ErrorCode>,
}

impl Common {
    fn redact(&mut self) {
        for headers in [&mut self.headers, &mut self.trailers].into_iter().flatten() {
            headers.redact();
        }
    }
}

/// Where a request goes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Destination {
    /// The path without the query; of CONNECT, its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// `:authority`, else the field `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
    /// `:scheme`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Text>,
    /// The stream.
    pub stream_id: u32,
    /// Whether the server promised the response unasked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pushed: bool,
}

impl Destination {
    fn redact(&mut self) {
        redact_url(&mut self.path);
        if let Some(host) = &mut self.host {
            let bare = redaction::without_userinfo(host.as_bytes());
            if bare.len() < host.as_bytes().len() {
                *host = Text::new([Text::REDACTED.as_bytes(), b"@", bare].concat());
            }
        }
    }
}

fn redact_url(url: &mut Option<Text>) {
    if let Some(url) = url {
        *url = Text::new(redaction::url(url.as_bytes()));
    }
}

/// The messages of one direction of a gRPC call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Calls {
    /// How many messages were sent; null if that could not be seen.
    pub messages: Option<u64>,
    /// When the first one began, in nanoseconds from the start of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_message_ns: Option<u64>,
    /// When the last one began, in nanoseconds from the start of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message_ns: Option<u64>,
}

/// A request over HTTP/2. What could not be known is absent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Http2Request")]
pub struct Request {
    /// `:method`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// `:path` as sent; of CONNECT, `:authority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Text>,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_protocol: Option<Text>,
    /// Where it goes.
    #[serde(flatten)]
    pub destination: Destination,
    /// What every message has.
    #[serde(flatten)]
    pub common: Common,
}

impl Payload for Request {
    fn redact(&mut self) {
        redact_url(&mut self.target);
        self.destination.redact();
        self.common.redact();
    }

    fn summary(&self) -> Summary<'_> {
        let target = self.destination.path.as_ref().or(self.target.as_ref());
        Summary { operation: display(self.method.as_ref()), target: display(target), ..Summary::default() }
    }
}

/// A response over HTTP/2.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Http2Response")]
pub struct Response {
    /// `:status`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What every message has.
    #[serde(flatten)]
    pub common: Common,
    /// Statuses of the interim responses that came first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interim: Vec<u16>,
    /// The server closed the connection without having processed the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goaway: Option<ErrorCode>,
    /// The stream, where no request names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<u32>,
}

impl Response {
    fn was_refused(&self) -> bool {
        let reset = self.common.reset.is_some_and(|reset| reset.code != 0);
        reset || self.goaway.is_some() || self.status.is_some_and(|status| status >= 400)
    }

    /// Why there is no status.
    fn refusal(&self) -> Option<Cow<'_, str>> {
        let error = self.common.reset.or(self.goaway)?;
        Some(error.error.map_or_else(|| error.code.to_string().into(), Cow::from))
    }
}

impl Payload for Response {
    fn redact(&mut self) {
        self.common.redact();
    }

    fn summary(&self) -> Summary<'_> {
        let status = self.status.map(|status| status.to_string().into()).or_else(|| self.refusal());
        Summary { status, failed: self.was_refused(), ..Summary::default() }
    }
}

/// The request of a gRPC call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrpcRequest {
    /// Full name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Text>,
    /// Name of the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// Its messages.
    #[serde(flatten)]
    pub calls: Calls,
    /// Where it goes.
    #[serde(flatten)]
    pub destination: Destination,
    /// What every message has.
    #[serde(flatten)]
    pub common: Common,
}

impl Payload for GrpcRequest {
    fn redact(&mut self) {
        self.destination.redact();
        self.common.redact();
    }

    fn summary(&self) -> Summary<'_> {
        let target = self.service.as_ref().or(self.destination.path.as_ref());
        Summary { operation: display(self.method.as_ref()), target: display(target), ..Summary::default() }
    }
}

/// The response of a gRPC call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrpcResponse {
    /// `grpc-status`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// `grpc-message`, decoded
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_message: Option<Text>,
    /// Its messages.
    #[serde(flatten)]
    pub calls: Calls,
    /// The response that carried it.
    #[serde(flatten)]
    pub response: Response,
}

impl Payload for GrpcResponse {
    fn redact(&mut self) {
        self.response.redact();
    }

    fn summary(&self) -> Summary<'_> {
        let Some(code) = self.grpc_status else { return self.response.summary() };
        let name = GRPC_STATUS.get(code as usize);
        let status = name.map_or_else(|| code.to_string().into(), |&name| name.into());
        Summary { status: Some(status), failed: code != 0, ..Summary::default() }
    }
}

/// The names of the status codes (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn display(text: Option<&Text>) -> Option<Cow<'_, str>> {
    text.map(Text::display)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> Destination {
        let text = |text: &str| Some(Text::from(text));
        Destination { path: text("/a"), host: text("me:secret@h"), scheme: None, stream_id: 1, pushed: false }
    }

    #[test]
    fn secrets_are_redacted_wherever_they_are() {
        let mut headers = Headers::default();
        headers.add(b"authorization", Text::from("Basic secret"));
        let common = Common { version: "2", headers: Some(headers), body_bytes: None, trailers: None, reset: None };
        let method = Some(Text::from("GET"));
        let target = Some(Text::from("/a?token=secret&b=1"));
        let mut request = Request { method, target, connect_protocol: None, destination: destination(), common };
        request.redact();
        let printed = serde_json::to_value(&request).unwrap();
        assert_eq!(printed["target"], "/a?token=[redacted]&b=1");
        assert_eq!(printed["host"], "[redacted]@h");
        assert_eq!(printed["headers"]["authorization"], serde_json::json!(["[redacted]"]));
        assert!(!printed.to_string().contains("secret"), "{printed}");
    }

    #[test]
    fn a_summary_says_what_failed() {
        let common = || Common { version: "2", headers: None, body_bytes: None, trailers: None, reset: None };
        let response = |status, reset| Response {
            status,
            common: Common { reset, ..common() },
            interim: vec![],
            goaway: None,
            stream_id: None,
        };
        let cancel = Some(ErrorCode::new(8, None));
        for (status, reset, printed, failed) in [
            (Some(200), None, Some("200"), false),
            (Some(200), Some(ErrorCode::new(0, None)), Some("200"), false),
            (Some(503), None, Some("503"), true),
            (None, cancel, Some("CANCEL"), true),
            (Some(200), cancel, Some("200"), true),
            (None, None, None, false),
        ] {
            let response = response(status, reset);
            let summary = response.summary();
            assert_eq!((summary.status.as_deref(), summary.failed), (printed, failed));
        }
        for (code, printed, failed) in [(0, "OK", false), (14, "UNAVAILABLE", true), (99, "99", true)] {
            let calls = Calls { messages: None, first_message_ns: None, last_message_ns: None };
            let response = response(Some(200), None);
            let response = GrpcResponse { grpc_status: Some(code), grpc_message: None, calls, response };
            assert_eq!((response.summary().status.as_deref(), response.summary().failed), (Some(printed), failed));
        }
    }
}
