//! Comparison of records with what is known otherwise: finds all differences in one run.

use serde_json::Value;

/// Differences that are printed; the others are counted.
const SHOWN: usize = 25;

/// What differs.
#[derive(Debug, Default)]
pub struct Differences {
    shown: Vec<String>,
    count: usize,
}

impl Differences {
    /// Notes a difference.
    pub fn add(&mut self, difference: impl FnOnce() -> String) {
        if self.count < SHOWN {
            self.shown.push(difference());
        }
        self.count += 1;
    }

    /// Notes a difference unless `holds`.
    pub fn expect(&mut self, holds: bool, difference: impl FnOnce() -> String) {
        if !holds {
            self.add(difference);
        }
    }

    /// Compares the record's field at `pointer` (RFC 6901) with what it should be.
    pub fn field(&mut self, record: &Value, pointer: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let actual = record.pointer(pointer).unwrap_or(&Value::Null);
        self.expect(*actual == expected, || format!("{pointer} is {actual}, should be {expected}: {record}"));
    }

    /// Compares the record's number at `pointer` with bounds.
    pub fn between(&mut self, record: &Value, pointer: &str, low: u64, high: u64) {
        let actual = record.pointer(pointer).unwrap_or(&Value::Null);
        let holds = actual.as_u64().is_some_and(|number| (low..=high).contains(&number));
        self.expect(holds, || format!("{pointer} is {actual}, should be in {low}..={high}: {record}"));
    }

    /// Compares the members that `expected` has, those of objects inside it too; other members may be there.
    pub fn members(&mut self, record: &Value, expected: &Value) {
        self.members_of(record, "", expected);
    }

    fn members_of(&mut self, record: &Value, pointer: &str, expected: &Value) {
        match expected.as_object() {
            Some(members) => {
                for (name, value) in members {
                    self.members_of(record, &format!("{pointer}/{name}"), value);
                }
            }
            None => self.field(record, pointer, expected.clone()),
        }
    }

    /// Panics if anything differs.
    #[track_caller]
    pub fn assert_none(self, context: &str) {
        assert!(self.count == 0, "{context}: {} differences, of which\n{}", self.count, self.shown.join("\n"));
    }
}
