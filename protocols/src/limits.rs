//! Bounds on what one connection may hold.

/// Bounds on the memory that one connection may hold; every one is enforced, and what it cut off is counted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes kept per direction while a message head is incomplete. A parser that wants more loses the framing.
    pub buffered: usize,
    /// Bytes kept per direction of segments that arrived ahead of their turn.
    pub out_of_order: usize,
    /// Requests that may wait for a response; the oldest is given up (reported without a response) beyond it.
    pub pending: usize,
    /// Bytes of one printed value (a query, a header value, a Redis argument) that are kept.
    pub value: usize,
    /// Nanoseconds after which an unanswered datagram request is reported as unanswered.
    pub datagram_timeout_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffered: 64 * 1024,
            out_of_order: 256 * 1024,
            pending: 1024,
            value: 4096,
            datagram_timeout_ns: 5_000_000_000,
        }
    }
}
