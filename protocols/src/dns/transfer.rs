//! Zone transfers: where the last of a response's messages is (RFC 5936 §2.2, RFC 1995 §4).

use super::codes::{Rcode, Type};
use super::message::{Message, Reading};

/// A zone transfer whose response has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transfer {
    /// Serial of the zone's new version: of the first record.
    serial: Option<u32>,
    /// Records seen.
    records: u32,
    /// SOA records with that serial seen.
    seen: u32,
    /// The second record was the SOA of another version: a list of differences.
    incremental: bool,
}

impl Transfer {
    /// Whether a query of this type asks for a zone.
    pub(super) fn is_asked(kind: Type) -> bool {
        kind == Type::AXFR || kind == Type::IXFR
    }

    /// Takes the next message; says whether it is the last one. `known`: the serial that the client has.
    pub(super) fn is_last(&mut self, message: &Message, known: Option<u32>) -> bool {
        if message.rcode() != Rcode::NOERROR || !matches!(message.reading, Reading::Whole | Reading::Odd) {
            return true;
        }
        for &(place, serial) in &message.answer_soas {
            if self.records == 0 && place == 0 {
                self.serial = Some(serial);
            }
            self.incremental |= self.records + u32::from(place) == 1 && self.serial != Some(serial);
            self.seen += u32::from(self.serial == Some(serial));
        }
        let [_, answers, ..] = message.header.counts;
        self.records = self.records.saturating_add(u32::from(answers));
        match self.serial {
            // Not what a transfer looks like: nothing more is expected.
            None => true,
            // The client is up to date.
            serial if self.records == 1 && serial == known => true,
            // The whole zone stands between two copies of its SOA; a list of differences has the new SOA in front,
            // before the last additions, and at the end.
            Some(_) => self.seen >= if self.incremental { 3 } else { 2 },
        }
    }
}
