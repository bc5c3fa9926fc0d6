//! Whose turn it is while a connection begins.
//!
//! The server greets, the client answers, and then both speak in turn until the server lets the client in; how to read
//! each of these depends on what came before. Bytes may be there earlier than their turn: where recognition or a hole
//! held the other side's back, and where a client does not wait. They are kept until it is their turn, so that it does
//! not depend on how bytes were cut when they are read.

use crate::Side;

/// What a side waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The server's greeting, before the client's login.
    Greeting,
    /// The client's login, before what the server says next.
    Login,
    /// What the server says to the login or to a proof of identity, before the client goes on with it.
    Answer,
    /// The end of it, before a command that the client sends ahead of that.
    Admission,
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// What each side waits for.
    awaited: [Option<Awaited>; 2],
    /// Of each side: it goes on although what it waits for has not come.
    impatient: [bool; 2],
}

impl Turns {
    /// Whether `side` may not go on: what it awaits has not come; or what the other side has waited for has, and it is
    /// that side's turn.
    pub(super) fn must_wait(
        &mut self,
        side: Side,
        awaited: Option<Awaited>,
        has_come: impl Fn(Awaited) -> bool,
    ) -> bool {
        let [own, other] = [side, side.other()].map(|side| side as usize);
        if self.impatient[own] {
            return false;
        }
        self.awaited[own] = awaited;
        awaited.is_some() || self.awaited[other].is_some_and(has_come)
    }

    /// `side` waits no more.
    pub(super) fn lose_patience(&mut self, side: Side) {
        self.impatient[side as usize] = true;
        self.awaited[side as usize] = None;
    }
}
