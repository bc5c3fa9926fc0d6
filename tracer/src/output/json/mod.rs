//! Newline-delimited JSON, one object a line. [`super::view`] shows a complete example.

mod line;

use super::sink::Format;
use super::view::{L7, Stats};
use crate::ledger::Ledger;
use crate::record::{Record, Rfc3339, WallTime};

/// The format for programs. Serialises straight into the sink's buffer.
#[derive(Debug, Default)]
pub struct Json {
    timestamps: Rfc3339,
}

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let timestamp = record.timestamp().map(|time| self.timestamps.format(time));
        line::print(&L7::new(record, timestamp), out)?;
        out.push(b'\n');
        Ok(())
    }

    fn ledger(&mut self, ledger: &Ledger, now: WallTime, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut *out, &Stats::new(ledger, self.timestamps.format(now)))?;
        out.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests;
