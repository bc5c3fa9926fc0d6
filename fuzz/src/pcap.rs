//! Capture files: whatever they hold, a replay ends, accounts for everything, and says the same again.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;

use protocols::{Limits, registry};
use tracer::capture::{Input, Options, Replayed, replay};

use crate::memory::Meter;

/// Memory that a replay may need beside its file: its connections are bounded to a part of it.
const MEMORY: usize = 96 << 20;

/// Replays the bytes as one file.
pub fn check(input: &[u8]) {
    let (first, lines) = run(input, 64);
    assert!(first.ledger.balances(), "the ledger does not add up:\n{}", first.ledger);
    let (again, same_lines) = run(input, 64);
    assert_eq!(lines, same_lines, "the same file, and other records");
    assert_eq!(first.ledger, again.ledger);
    // With room for hardly any connection.
    let (narrow, _) = run(input, 1);
    assert!(narrow.ledger.balances(), "the ledger does not add up after evictions:\n{}", narrow.ledger);
}

fn run(input: &[u8], max_connections: usize) -> (Replayed, Vec<String>) {
    let options = Options {
        candidates: registry::ALL.iter().collect::<Arc<[_]>>(),
        limits: Limits::default(),
        max_connections,
        max_held: 1 << 20,
    };
    let meter = Meter::new();
    let mut lines = Vec::new();
    let file = Input::Reader("fuzzed".into(), Box::new(Cursor::new(input.to_vec())));
    let replayed = replay(&options, [file], |exchange, origin| {
        assert!(exchange.request.is_some() || exchange.response.is_some(), "an exchange of nothing");
        lines.push(format!("{exchange:?} {}", origin.connection.id));
        Ok::<_, Infallible>(())
    });
    let printed: usize = lines.iter().map(String::len).sum();
    assert!(meter.in_use() <= MEMORY + 3 * printed, "{} bytes in use", meter.in_use());
    let Ok(replayed) = replayed;
    (replayed, lines)
}
