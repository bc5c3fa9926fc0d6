//! HTTP/2 (RFC 9113) and gRPC over it, as an observer sees them.
//!
//! - Requests and responses are paired by stream identifier; time only measures. A stream is one record, handed out
//!   when it ends: when both sides have sent END_STREAM, or one of them RST_STREAM, or the server GOAWAY without
//!   having processed it. Interim responses are listed by status; pushed streams are marked.
//! - The bytes of a message are those of its HEADERS, CONTINUATION and DATA frames. When one side resets a stream, how
//!   much the other had sent is known only if that comes to its end too, for which the record waits a moment.
//! - Joined in the middle of a connection, or behind a gap, the dynamic tables of HPACK are not known. Fields that
//!   refer to what was not seen are absent and the record says `hpack_unknown`; fields that are printed are certain
//!   (see `hpack`).
//! - Frames are found again by a chain of plausible headers (see `recognise`). Bytes missing inside a payload do not
//!   cost the framing (see `half`).
//! - A stream is gRPC by its media type, `application/grpc` with or without a suffix. gRPC-Web is plain HTTP here.
//!
//! Not decoded: content (only counted), flow control, priorities, the payload of frames of unknown types.

mod fields;
mod frame;
mod grpc;
mod half;
mod headers;
mod hpack;
mod pairing;
mod parse;
mod recognise;
mod stream;
#[cfg(test)]
mod tests;
mod types;

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{Context, Parser, Part, Registration, Transport};

pub use headers::Headers;
pub use types::{Calls, Common, Destination, ErrorCode, GrpcRequest, GrpcResponse, Request, Response};

/// HTTP/2 and gRPC.
pub const REGISTRATION: Registration = Registration {
    names: &["http", "grpc"],
    carries: |transport| transport != Transport::Udp,
    answers_nonsense: false,
    infer: recognise::infer,
    parser: |context| Box::new(parse::Http2::new(context)),
    schema,
};

/// A parser for a connection that a request in HTTP/1.1 upgraded to HTTP/2 (RFC 7540, section 3.2). It goes on behind
/// the response 101; the response to `request`, which has this `sequence`, comes on stream 1.
pub fn upgraded(context: Context, request: Part, sequence: u64) -> Box<dyn Parser> {
    Box::new(parse::Http2::upgraded(context, request, sequence))
}

fn schema(generator: &mut SchemaGenerator) -> [Schema; 2] {
    let request = [generator.subschema_for::<Request>(), generator.subschema_for::<GrpcRequest>()];
    let response = [generator.subschema_for::<Response>(), generator.subschema_for::<GrpcResponse>()];
    [json_schema!({ "anyOf": request }), json_schema!({ "anyOf": response })]
}
