//! The loss ledger that the tracer prints to stderr at its end, read back and added up anew.

use std::collections::BTreeMap;

/// The rows of the table: "events lost: ring_full" and its number.
#[derive(Debug)]
pub struct Ledger {
    rows: BTreeMap<String, u64>,
}

impl Ledger {
    /// Reads the table from all that the tracer wrote to stderr; `None` if there is none.
    pub fn parse(stderr: &str) -> Option<Self> {
        let rows: BTreeMap<_, _> = stderr.lines().filter_map(row).collect();
        rows.contains_key("events emitted").then_some(Self { rows })
    }

    /// The number of one row; 0 if there is no such row, as for causes that did not occur.
    pub fn get(&self, name: &str) -> u64 {
        self.rows.get(name).copied().unwrap_or_default()
    }

    /// The sum of the rows whose names begin with `prefix`.
    pub fn sum(&self, prefix: &str) -> u64 {
        self.rows.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    }

    /// Events that were lost, whatever the cause.
    pub fn lost_events(&self) -> u64 {
        self.sum("events lost") + self.get("events unread") + self.get("events rejected")
    }

    /// Panics unless it adds up.
    #[track_caller]
    pub fn assert_balanced(&self) {
        let equations = [
            (
                "events emitted",
                self.get("events emitted"),
                self.get("events decoded")
                    + self.get("events rejected")
                    + self.sum("events lost")
                    + self.get("events unread"),
            ),
            (
                "bytes seen",
                self.get("bytes seen"),
                self.get("bytes delivered")
                    + self.get("bytes truncated")
                    + self.sum("bytes lost")
                    + self.sum("bytes ignored"),
            ),
            (
                "connections opened",
                self.get("connections opened"),
                self.get("connections closed") + self.get("connections evicted") + self.get("connections open"),
            ),
        ];
        for (name, left, right) in equations {
            assert!(self.rows.contains_key(name), "the ledger has no row {name:?}: {self:#?}");
            assert_eq!(left, right, "{name} does not add up: {self:#?}");
        }
        assert!(self.get("events emitted") >= self.get("events decoded"), "{self:#?}");
    }

    /// Panics if anything was lost.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let lost = self.lost_events() + self.sum("bytes lost") + self.get("connections evicted");
        assert_eq!(lost, 0, "something was lost: {self:#?}");
    }
}

/// A line of the table, aligned by any number of spaces: words, then a number.
fn row(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (value, name) = words.split_last()?;
    Some((name.join(" "), value.parse().ok()?))
}

mod tests {
    use super::Ledger;

    const TABLE: &str = "\
tracer: ready
hook     ssl_read               3
events emitted                 12
events decoded                  9
events rejected                 1
events lost: ring_full          2
events unread                   0
bytes seen                    100
bytes captured                 90
bytes delivered                60
bytes truncated                10
bytes lost: ring_full          20
bytes lost: read_fault          5
bytes ignored: not_recognised   5
records http                    4
connections opened              3
connections closed              1
connections evicted             1
connections open                1
everything is accounted for
";

    #[test]
    fn a_table_is_read_and_adds_up() {
        let ledger = Ledger::parse(TABLE).expect("a table");
        ledger.assert_balanced();
        assert_eq!((ledger.lost_events(), ledger.get("records http"), ledger.sum("bytes lost")), (3, 4, 25));
        assert!(std::panic::catch_unwind(|| ledger.assert_nothing_lost()).is_err());
        assert!(Ledger::parse("tracer: ready\n").is_none());
    }

    #[test]
    fn a_table_that_does_not_add_up_is_found() {
        for (row, wrong) in [
            ("events emitted                 12", "events emitted                 13"),
            ("bytes lost: read_fault          5", "bytes lost: read_fault          4"),
            ("connections open                1", "connections open                0"),
            ("connections opened              3\n", ""),
        ] {
            let table = TABLE.replace(row, wrong);
            assert_ne!(table, TABLE);
            let ledger = Ledger::parse(&table).expect("a table");
            assert!(std::panic::catch_unwind(|| ledger.assert_balanced()).is_err(), "{wrong:?} is not found");
        }
    }
}
