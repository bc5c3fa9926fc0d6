//! Whether pairing is certain, and what it takes to be so again.
//!
//! ```text
//!              server: gap, or an answer to nothing that was asked         joined midstream
//!   Certain ------------------------------------------------------> Lost <-----------------
//!      ^       client: gap (what was asked before it is still paired)     |
//!      '-----------------------------------------------------------------'
//!         the server has answered all that was reported meanwhile, or a client that waits its turn asks
//!         something new after ReadyForQuery
//! ```
//!
//! A client waits its turn if, while pairing was certain, it was seen to ask once between two ReadyForQuery, and
//! never more than once. Where it cannot have been seen yet (joined midstream, a gap in the login), that is taken for
//! granted until it is seen not to hold; pairing is lost again then. On a connection of which nothing was seen before,
//! even the first request is paired, and says why that is not beyond doubt. A client that pipelines beyond ReadyForQuery is
//! not paired any more after a gap that may have hidden a request or a ReadyForQuery.

use super::answer::Answer;
use super::queue::Kind;
use crate::{Reasons, Time};

/// Pairing is lost.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) reasons: Reasons,
    /// How many ReadyForQuery may still come for requests that were reported without a response.
    pub(super) reported: u64,
    /// Whether no other requests can be unanswered.
    pub(super) exact: bool,
    /// Whether the client had no occasion yet to show that it waits its turn.
    pub(super) early: bool,
    /// Nothing was seen of either side before.
    pub(super) blank: bool,
    /// When the last ReadyForQuery passed, if nothing came from the server since.
    pub(super) ready: Option<Time>,
    /// An answer to requests that were not seen.
    pub(super) stray: Answer,
}

impl Lost {
    pub(super) fn new(reasons: Reasons, reported: u64, exact: bool) -> Self {
        Self { reasons, reported, exact, early: false, blank: false, ready: None, stray: Answer::default() }
    }
}

/// Whether a client waits for ReadyForQuery before it asks something new.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// How often it asked for a ReadyForQuery beyond those that came.
    pub(super) asked: u64,
    /// Nothing was missed since the last ReadyForQuery.
    pub(super) unbroken: bool,
    /// It has waited.
    pub(super) waits: bool,
    /// It seems to have waited: for certain once it goes on without a gap, which may hide what it did not wait with.
    seems_to_wait: bool,
    /// It has not.
    pub(super) pipelines: bool,
}

impl Turns {
    pub(super) fn asks(&mut self, kind: Kind) {
        self.asked += u64::from(kind.owes_ready());
        self.waits |= self.seems_to_wait && kind.owes_ready();
        self.seems_to_wait &= !kind.owes_ready();
        // Everybody waits for the login.
        self.unbroken &= kind != Kind::Startup;
    }

    /// A part of what the client sent is missing.
    pub(super) fn client_gap(&mut self) {
        self.unbroken = false;
        self.seems_to_wait = false;
    }

    /// ReadyForQuery has come. `more`: something was asked before it came that is still unanswered, also if what asks
    /// for its ReadyForQuery has not been seen.
    pub(super) fn ready(&mut self, certain: bool, more: bool) {
        self.pipelines |= self.asked > 1 || more;
        self.seems_to_wait = certain && self.asked == 1 && self.unbroken && !more;
        self.asked = self.asked.saturating_sub(1);
        self.unbroken = true;
    }
}
