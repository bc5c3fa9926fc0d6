//! What is printed of a stream.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::frame::error_name;
use super::headers::Headers;
use crate::{Payload, Summary, Text};

/// An error code of RST_STREAM or GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
    /// The path without the query.
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
        self.common.redact();
    }

    fn summary(&self) -> Summary<'_> {
        let target = self.destination.path.as_ref().or(self.target.as_ref());
        Summary { operation: display(self.method.as_ref()), target: display(target), ..Summary::default() }
    }
}

/// A response over HTTP/2.
#[derive(Debug, Serialize, JsonSchema)]
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
