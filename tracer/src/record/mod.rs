//! One request as it is reported: what a protocol's parser found, joined with where and when it happened.
//!
//! A [`Record`] borrows everything; making one is cheap and redacts the exchange, so that no sink can be handed
//! sensitive values by oversight.

mod clock;
mod connection;
mod process;

use protocols::{Exchange, Part, Summary, Time};

pub use clock::{Clock, ClockError, Rfc3339, WallTime, now};
pub use connection::{ConnectionInfo, Endpoint, Role, Tls, TupleSource};
pub use process::Process;

/// Whether sensitive values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redaction {
    /// Sensitive values are replaced by [`protocols::Text::REDACTED`].
    #[default]
    On,
    /// Everything is shown as it was on the wire.
    Off,
}

impl Redaction {
    fn apply(self, exchange: &mut Exchange) {
        if self == Self::Off {
            return;
        }
        for part in [&mut exchange.request, &mut exchange.response].into_iter().flatten() {
            part.payload.redact();
        }
    }
}

/// Where the record was made: what the exchange itself does not know.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The process that moved the bytes; unknown for a captured file.
    pub process: Option<&'a Process>,
    /// The connection that carried them.
    pub connection: &'a ConnectionInfo,
    /// Maps the times of the exchange to wall time.
    pub clock: &'a Clock,
}

/// One exchange with its origin, ready to be filtered and printed.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    origin: Origin<'a>,
    exchange: &'a Exchange,
}

/// Moments of an exchange in nanoseconds after its timestamp; `None` where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub struct Timing {
    /// When the first byte of the request passed: 0, or null if that was not seen.
    pub request_start_ns: Option<u64>,
    /// When the last byte of the request passed.
    pub request_end_ns: Option<u64>,
    /// When the first byte of the response passed: the time to first byte.
    pub response_start_ns: Option<u64>,
    /// When the last byte of the response passed.
    pub response_end_ns: Option<u64>,
}

impl<'a> Record<'a> {
    /// Joins an exchange with its origin, and redacts it.
    pub fn new(exchange: &'a mut Exchange, origin: Origin<'a>, redaction: Redaction) -> Self {
        redaction.apply(exchange);
        Self { origin, exchange }
    }

    /// What the protocol's parser found, redacted.
    pub fn exchange(&self) -> &'a Exchange {
        self.exchange
    }

    /// The process that moved the bytes; unknown for a captured file.
    pub fn process(&self) -> Option<&'a Process> {
        self.origin.process
    }

    /// The connection that carried them.
    pub fn connection(&self) -> &'a ConnectionInfo {
        self.origin.connection
    }

    /// When the first byte of the request passed, else the earliest moment that is known of the exchange.
    pub fn timestamp(&self) -> Option<WallTime> {
        self.base().map(|time| self.origin.clock.wall(time))
    }

    /// From the first byte of the request to the last byte of the response.
    pub fn latency_ns(&self) -> Option<u64> {
        let start = self.exchange.request.as_ref()?.start?;
        let end = self.exchange.response.as_ref()?.end?;
        end.0.checked_sub(start.0)
    }

    /// The moments of the exchange. One that lies before the timestamp is not believed and left out.
    pub fn timing(&self) -> Timing {
        let base = self.base();
        let offset = |time: Option<Time>| time?.0.checked_sub(base?.0);
        let [request, response] = [&self.exchange.request, &self.exchange.response].map(Option::as_ref);
        Timing {
            request_start_ns: offset(request.and_then(|part| part.start)),
            request_end_ns: offset(request.and_then(|part| part.end)),
            response_start_ns: offset(response.and_then(|part| part.start)),
            response_end_ns: offset(response.and_then(|part| part.end)),
        }
    }

    /// The request on one line; empty when it was not seen.
    pub fn request_summary(&self) -> Summary<'a> {
        summary(self.exchange.request.as_ref())
    }

    /// The response on one line; empty when it was not seen.
    pub fn response_summary(&self) -> Summary<'a> {
        summary(self.exchange.response.as_ref())
    }

    /// The moment that `timing` counts from.
    fn base(&self) -> Option<Time> {
        let [request, response] = [&self.exchange.request, &self.exchange.response].map(Option::as_ref);
        let start = request.and_then(|part| part.start);
        start.or_else(|| {
            [request, response].into_iter().flatten().flat_map(|part| [part.start, part.end]).flatten().min()
        })
    }
}

fn summary(part: Option<&Part>) -> Summary<'_> {
    part.map(|part| part.payload.summary()).unwrap_or_default()
}
