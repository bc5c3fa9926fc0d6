//! Bytes that a message lacks; the binary protocols of the databases say how long a message is, so that a hole inside
//! one hides neither its size nor where the next begins.

use crate::reassembly::Cause;
use crate::{Reason, Reasons};

/// What is missing of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    pub(crate) reason: Reason,
    /// Bytes that were lost, as opposed to cut off by the capture limit.
    pub(crate) lost: u64,
}

impl Hole {
    /// The connection ended before the message did.
    pub(crate) const CLOSED: Self = Self { reason: Reason::Closed, lost: 0 };

    pub(crate) fn new(length: u64, cause: Cause) -> Self {
        match cause {
            Cause::Lost => Self { reason: Reason::Gap, lost: length },
            Cause::Truncated => Self { reason: Reason::Truncated, lost: 0 },
        }
    }

    pub(crate) fn reasons(hole: Option<Self>) -> Reasons {
        hole.map_or(Reasons::NONE, |hole| hole.reason.into())
    }
}
