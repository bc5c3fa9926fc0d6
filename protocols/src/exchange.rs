//! What comes out: one request with its response.

use std::borrow::Cow;

use crate::{Span, Time};

/// One request and its response, or what is known of them.
#[derive(Debug)]
pub struct Exchange {
    /// Name of the protocol as printed: "http", "dns", …
    pub protocol: &'static str,
    /// Place of the request in its connection, from 0; absent for a response without a seen request.
    pub sequence: Option<u64>,
    /// The request, unless only the response was seen.
    pub request: Option<Part>,
    /// The response, unless none was seen.
    pub response: Option<Part>,
    /// Why the record is not complete; empty when it is.
    pub reasons: Reasons,
    /// Bytes that belong to this exchange and were lost.
    pub missing_bytes: u64,
}

/// One message: a request or a response.
#[derive(Debug)]
pub struct Part {
    /// Wire size of the whole message with its framing; `None` when the end was not seen.
    pub bytes: Option<u64>,
    /// When the first byte passed; `None` when it was not seen.
    pub start: Option<Time>,
    /// When the last byte passed; `None` when it was not seen.
    pub end: Option<Time>,
    /// The fields of this protocol's message.
    pub payload: Box<dyn Payload>,
}

impl Part {
    /// A message whose first bytes passed in `first` and whose last bytes passed in `last`.
    pub fn new(bytes: u64, first: Span, last: Span, payload: impl Payload + 'static) -> Self {
        Self { bytes: Some(bytes), start: Some(first.start), end: Some(last.end), payload: Box::new(payload) }
    }
}

/// The fields of a protocol's message: what is printed of it, and what people look for in it.
///
/// Serialises as a JSON object (never null, never an array); the printer puts `bytes` before its fields.
pub trait Payload: Print + std::fmt::Debug + Send {
    /// Replaces every sensitive value by [`crate::Text::REDACTED`].
    fn redact(&mut self) {}

    /// What a person needs of it on one line.
    fn summary(&self) -> Summary<'_>;
}

/// Prints as JSON. Every type that serialises does: a trait object that did so by way of serde's own traits would have
/// to go through a virtual call for each of its fields.
pub trait Print {
    /// Appends its JSON, without white space.
    fn print(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;
}

impl<T: serde::Serialize> Print for T {
    fn print(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
    }
}

/// One message on one line: what the table prints and what selection by flags compares.
#[derive(Debug, Default)]
pub struct Summary<'a> {
    /// Of a request: the method, command or query type ("GET", "HSET", "SELECT", "AAAA").
    pub operation: Option<Cow<'a, str>>,
    /// Of a request: what it is about (path, key, statement, domain name).
    pub target: Option<Cow<'a, str>>,
    /// Of a response: its status ("200", "NXDOMAIN", "OK", an SQLSTATE).
    pub status: Option<Cow<'a, str>>,
    /// Of a response: whether it says that the request failed on the server's or the client's side.
    pub failed: bool,
}

/// Why a record is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Bytes were lost.
    Gap,
    /// The capture limit was hit inside a part that is printed or that framing depends on.
    Truncated,
    /// The message had begun before it could be seen.
    Midstream,
    /// The connection ended, or the time for an answer was over, before a response.
    NoResponse,
    /// A response without a seen request.
    Unsolicited,
    /// The bytes broke a rule of the protocol.
    ParseError,
    /// The connection ended inside the message.
    Closed,
    /// HTTP/2 headers that refer to an HPACK table which was built before they could be seen.
    HpackUnknown,
}

impl Reason {
    /// Every reason, in the order in which they are printed.
    pub const ALL: [Self; 8] = [
        Self::Gap,
        Self::Truncated,
        Self::Midstream,
        Self::NoResponse,
        Self::Unsolicited,
        Self::ParseError,
        Self::Closed,
        Self::HpackUnknown,
    ];

    /// As printed in `integrity.reasons`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Truncated => "truncated",
            Self::Midstream => "midstream",
            Self::NoResponse => "no_response",
            Self::Unsolicited => "unsolicited",
            Self::ParseError => "parse_error",
            Self::Closed => "closed",
            Self::HpackUnknown => "hpack_unknown",
        }
    }
}

/// A set of [`Reason`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u8);

impl Reasons {
    /// No reason: the record is complete.
    pub const NONE: Self = Self(0);

    /// Adds a reason.
    pub fn add(&mut self, reason: Reason) {
        self.0 |= 1 << reason as u8;
    }

    /// Adds every reason of `other`.
    pub fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether `reason` is in the set.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// Whether the record is complete.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in the order of [`Reason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        let mut set = Self::NONE;
        set.add(reason);
        set
    }
}
