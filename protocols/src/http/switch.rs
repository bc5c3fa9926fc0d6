//! What follows when HTTP/1 ends on a connection that goes on (RFC 9110, sections 7.8 and 9.3.6).

use super::message::Response;
use super::pairing::{Pending, Progress};
use crate::{Context, Handoff, http2};

/// Whether the answer to a request is to come in another protocol that is understood, so that it is handed over
/// instead of out.
///
/// The one place for protocols that are entered by Upgrade: the server chooses a token in the `Upgrade` field of its
/// response 101. What was lost of the request cannot be told on the other side of it.
pub(super) fn goes_on(pending: &Pending) -> bool {
    let chosen = pending.response.as_ref().is_some_and(|response| chooses(&response.payload, b"h2c"));
    chosen && pending.reasons.is_empty() && pending.request_progress() == Some(Progress::Complete)
}

/// What the connection carries behind such a response. For "h2c" the request becomes stream 1 (RFC 7540, section
/// 3.2), and the bytes behind the 101 are the server's first frames.
pub(super) fn handoff(context: Context, pending: Pending) -> Handoff {
    let (Some(request), Some(sequence)) = (pending.request, pending.sequence) else { return Handoff::Opaque };
    Handoff::Protocol(http2::REGISTRATION.name(), http2::upgraded(context, request.into_part(), sequence))
}

fn chooses(response: &Response, protocol: &[u8]) -> bool {
    response.head.values("upgrade").any(|value| value.trim_ascii().eq_ignore_ascii_case(protocol))
}
