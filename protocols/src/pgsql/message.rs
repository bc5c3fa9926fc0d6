//! One message as the driver's input showed it.

use crate::sql::Hole;
use crate::{Reasons, Span};

/// One message, of which the start of the body may be all that was kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The type byte.
    pub(super) kind: u8,
    /// The body, or its first bytes.
    pub(super) body: &'a [u8],
    /// Size on the wire with the header.
    pub(super) bytes: u64,
    pub(super) first: Span,
    /// `None` when the last byte was not seen.
    pub(super) last: Option<Span>,
    /// Bytes that are missing of what would have been kept.
    pub(super) hole: Option<Hole>,
}

impl Message<'_> {
    /// Why it is not known in full.
    pub(super) fn reasons(&self) -> Reasons {
        Hole::reasons(self.hole)
    }
}
