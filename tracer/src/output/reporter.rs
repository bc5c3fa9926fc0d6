//! What becomes of an exchange: redacted, counted, filtered, printed.

use protocols::Exchange;

use super::{Sink, SinkError};
use crate::filter::Filter;
use crate::ledger::{Ledger, Records};
use crate::record::{Origin, Record, Redaction, WallTime};

/// Takes every exchange, prints those that the filter accepts, and accounts for each of them.
#[derive(Debug)]
pub struct Reporter {
    redaction: Redaction,
    filter: Filter,
    sink: Sink,
    records: Records,
}

impl Reporter {
    /// Prints to `sink` what `filter` accepts.
    pub fn new(redaction: Redaction, filter: Filter, sink: Sink) -> Self {
        Self { redaction, filter, sink, records: Records::default() }
    }

    /// Reports one exchange. An error says that the sink has begun to fail; what that costs is counted.
    pub fn report(&mut self, mut exchange: Exchange, origin: Origin<'_>) -> Result<(), SinkError> {
        self.records.count(&exchange);
        let record = Record::new(&mut exchange, origin, self.redaction);
        if !self.filter.accepts(&record) {
            self.records.filtered += 1;
            return Ok(());
        }
        self.sink.record(&record)
    }

    /// Prints the loss ledger, in formats that have a place for it. `ledger.records` should be [`Self::records`].
    pub fn ledger(&mut self, ledger: &Ledger, now: WallTime) -> Result<(), SinkError> {
        self.sink.ledger(ledger, now)
    }

    /// What became of the exchanges so far.
    pub fn records(&self) -> Records {
        let mut records = self.records.clone();
        records.sinks.insert(self.sink.name(), self.sink.counters());
        records
    }

    /// Writes what is buffered. To be called at least every 100 ms while records come.
    pub fn flush(&mut self) -> Result<(), SinkError> {
        self.sink.flush()
    }

    /// Opens an output file anew (log rotation) without losing a line.
    pub fn reopen(&mut self) -> Result<(), SinkError> {
        self.sink.reopen()
    }

    /// Writes what is buffered for the last time; what cannot be written counts as dropped.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use protocols::Reason;

    use super::*;
    use crate::filter::{FilterArgs, StatusPattern};
    use crate::output::testing::{connection, exchange, get, origin, process, request, response};
    use crate::output::{Destination, Json};

    #[test]
    fn every_exchange_is_accounted_for() {
        let filter = FilterArgs { statuses: vec![StatusPattern::Class('5')], ..FilterArgs::default() };
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::new(Json::default(), Destination::new("test", writer));
        let mut reporter = Reporter::new(Redaction::On, filter.into(), sink);
        let (process, connection) = (process(), connection());
        let mut report = |exchange| reporter.report(exchange, origin(&process, &connection)).unwrap();
        report(get());
        report(exchange(request("GET", "/"), response("503", 2_000)));
        report(Exchange { protocol: "dns", response: None, reasons: Reason::NoResponse.into(), ..get() });
        let ledger = |records| Ledger { records, ..Ledger::default() };
        let records = reporter.records();
        assert_eq!((records.filtered, records.incomplete, records.sinks["json"].buffered), (2, 1, 1));
        assert_eq!(ledger(records).balance(), []);
        reporter.finish().unwrap();
        assert_eq!(reporter.records().sinks["json"].written, 1);
        assert_eq!(ledger(reporter.records()).balance(), []);
        drop(reporter);
        let printed = io::read_to_string(reader).unwrap();
        assert_eq!(printed.lines().count(), 1);
        assert!(printed.contains(r#""status":"503""#), "{printed}");
    }
}
