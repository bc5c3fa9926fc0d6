//! Recognising a protocol from the first bytes that either side sent.

use crate::Side;

/// Who may have sent some bytes, by their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Only a client sends this.
    Client,
    /// Only a server sends this.
    Server,
    /// Both may.
    Either,
}

impl Sender {
    /// Whether `side` may have sent it.
    pub fn may_be(self, side: Side) -> bool {
        match self {
            Self::Client => side == Side::Client,
            Self::Server => side == Side::Server,
            Self::Either => true,
        }
    }

    /// The one side that can have sent it.
    pub fn side(self) -> Option<Side> {
        match self {
            Self::Client => Some(Side::Client),
            Self::Server => Some(Side::Server),
            Self::Either => None,
        }
    }
}

/// What a protocol says of the first bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inference {
    /// Certainly not this protocol, or not recognisable as it.
    No,
    /// Too few bytes to say.
    More,
    /// Plausible; counts only if the bytes of the other direction are plausible too.
    Maybe(Sender),
    /// This protocol beyond reasonable doubt.
    Sure(Sender),
}

impl Inference {
    /// The sender that the bytes point to, where they point to one.
    pub fn sender(self) -> Option<Sender> {
        match self {
            Self::No | Self::More => None,
            Self::Maybe(sender) | Self::Sure(sender) => Some(sender),
        }
    }
}
