//! HTTP/1.0 and HTTP/1.1 (RFC 9112).
//!
//! Heads are parsed whole, bodies are only counted: their content is neither kept nor decoded.
//!
//! # Pairing
//!
//! The n-th response answers the n-th request. An interim response (1xx except 101) is not counted, and a response
//! that passed before its request began is not paired with it. An exchange is handed out when both of its messages
//! have ended.
//!
//! Order says nothing once messages may have passed unseen:
//!
//! - Bytes lost inside a body of known size, or inside a chunk, change nothing but that body's record.
//! - Framing lost on the client's side (a gap or a violation): requests that were seen before keep their places, and
//!   so does one whose body was hit. Nothing after them is paired.
//! - Framing lost on the server's side: what was in the middle of a response is handed out as incomplete, with the part
//!   that was seen. A loss may be noticed long after: requests that wait then are kept until a response has been seen
//!   to its end, and those that began before that end are handed out as incomplete.
//! - Pairing resumes with the first request that begins a transfer, after the last byte of a response that was seen to
//!   its end since, with no other request in between, and with nothing outstanding: for a client that sends one
//!   request at a time, whatever passed unseen is over by then. A connection on which the client was seen to send a
//!   request before the previous response had ended (pipelining) does not resume; a request that began while a
//!   response was missing is no sign of that.
//! - A connection that was joined in its middle begins in that state; there, its first request is paired.
//!
//! A response whose request was not seen may answer HEAD: whether it has a body shows in what its sender sends next.
//!
//! What is not paired is handed out alone: requests with the reason why order was lost, responses as unsolicited too.
//!
//! # Not decoded
//!
//! Bodies and their content codings; what follows an Upgrade or a CONNECT (see `switch.rs`); HTTP/0.9.

mod chunked;
mod conversation;
mod framing;
mod head;
mod inference;
mod message;
mod pairing;
pub(crate) mod redaction;
mod switch;
#[cfg(test)]
mod tests;

use crate::{Registration, Transport};

const NAME: &str = "http";

/// HTTP/1.
pub const REGISTRATION: Registration = Registration {
    names: &[NAME],
    carries: |transport| transport != Transport::Udp,
    answers_nonsense: true,
    infer: inference::infer,
    parser: |context| Box::new(conversation::Conversation::new(context)),
    schema: message::schema,
};
