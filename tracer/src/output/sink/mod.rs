//! One format at one destination, and the count of what became of every record.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::Destination;
use crate::ledger::{Ledger, SinkCounters};
use crate::record::{Record, WallTime};

/// Buffered bytes at which a sink writes without being told to.
const WRITE_AT: usize = 64 * 1024;

/// Buffered bytes beyond which records are dropped: the destination has failed or is stuck.
const DROP_AT: usize = 4 * 1024 * 1024;

/// How long [`Sink::finish`] waits for a destination that is busy.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// What a line looks like.
pub trait Format: Send {
    /// Name of the format, as on the command line and in the ledger.
    fn name(&self) -> &'static str;

    /// Appends one record, with its line end. On an error the caller removes what was appended.
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Appends the loss ledger, if the format has a place for it.
    fn ledger(&mut self, _ledger: &Ledger, _now: WallTime, _out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// Why records could not be printed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Nobody reads any more (`tracer | head`): a reason to end, not to complain.
    #[error("nobody reads {name} any more")]
    Closed {
        /// The destination.
        name: String,
    },
    /// No room: records are kept up to a limit, then dropped and counted, until there is room again.
    #[error("{name} is full: records are being dropped")]
    Full {
        /// The destination.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Any other failure to write.
    #[error("cannot write {name}")]
    Write {
        /// The destination.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The destination cannot be opened.
    #[error("cannot open {name}")]
    Open {
        /// The destination.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// One record (of this protocol, or the ledger: "stats") cannot be written in this format.
    #[error("a record of {protocol} cannot be serialised")]
    Format {
        /// The record's protocol.
        protocol: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Prints records in one format to one destination.
///
/// A failure of the destination is returned when it begins and not again for each record that it costs: those are
/// counted. Whatever was not written stays buffered, within a limit, and is tried again at the next [`Sink::flush`].
pub struct Sink {
    format: Box<dyn Format>,
    destination: Destination,
    /// Where in the stream each record ends that has not been written in full.
    unwritten: VecDeque<u64>,
    failing: bool,
    counters: SinkCounters,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("format", &self.name()).field("destination", &self.destination).finish()
    }
}

impl Sink {
    /// Prints in `format` to `destination`.
    pub fn new(format: impl Format + 'static, destination: Destination) -> Self {
        Self {
            format: Box::new(format),
            destination,
            unwritten: VecDeque::new(),
            failing: false,
            counters: SinkCounters::default(),
        }
    }

    /// Name of the format.
    pub fn name(&self) -> &'static str {
        self.format.name()
    }

    /// What became of the records so far.
    pub fn counters(&self) -> SinkCounters {
        SinkCounters { buffered: self.unwritten.len() as u64, ..self.counters }
    }

    /// Prints one record; it is written with the next [`Sink::flush`] or when enough has come together.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        if self.destination.buffered() >= DROP_AT {
            self.counters.dropped += 1;
            return Ok(());
        }
        let protocol = record.exchange().protocol;
        let appended = self.append(protocol, |format, out| format.record(record, out));
        match appended {
            Ok(()) => self.unwritten.push_back(self.destination.end()),
            Err(error) => {
                self.counters.dropped += 1;
                return Err(error);
            }
        }
        if self.destination.buffered() >= WRITE_AT && !self.failing { self.flush() } else { Ok(()) }
    }

    /// Prints the loss ledger, in formats that have a place for it. Where there is no room it is left out: its
    /// counters are totals, so the next one says all that this one would.
    pub fn ledger(&mut self, ledger: &Ledger, now: WallTime) -> Result<(), SinkError> {
        if self.destination.buffered() >= DROP_AT {
            return Ok(());
        }
        self.append("stats", |format, out| format.ledger(ledger, now, out))
    }

    /// Writes what is buffered. To be called at least every 100 ms while records come.
    pub fn flush(&mut self) -> Result<(), SinkError> {
        let result = self.destination.flush();
        while self.unwritten.front().is_some_and(|end| *end <= self.destination.written()) {
            self.unwritten.pop_front();
            self.counters.written += 1;
        }
        let known = std::mem::replace(&mut self.failing, result.is_err());
        match result {
            Err(SinkError::Closed { .. }) => result,
            Err(_) if known => Ok(()),
            result => result,
        }
    }

    /// Opens a file destination anew (log rotation). No line is lost: on an error the old file stays in use.
    pub fn reopen(&mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.destination.reopen()
    }

    /// Writes what is buffered for the last time; what cannot be written counts as dropped.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        let deadline = Instant::now() + FINISH_WITHIN;
        let mut result = self.flush();
        while result.is_ok() && !self.failing && self.destination.buffered() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            result = self.flush();
        }
        self.counters.dropped += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.destination.buffer().clear();
        result
    }

    fn append(
        &mut self,
        protocol: &'static str,
        print: impl FnOnce(&mut dyn Format, &mut Vec<u8>) -> Result<(), serde_json::Error>,
    ) -> Result<(), SinkError> {
        let out = self.destination.buffer();
        let start = out.len();
        print(self.format.as_mut(), out).map_err(|source| {
            out.truncate(start);
            SinkError::Format { protocol, source }
        })
    }
}

#[cfg(test)]
mod tests;
