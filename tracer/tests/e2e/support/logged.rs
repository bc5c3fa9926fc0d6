//! Programs that log their exchanges, a line of JSON each, and the records of them.

use serde_json::{Value, json};

use super::tracer::Outcome;

/// A record as the programs log: what both know of an exchange.
fn seen(record: &Value) -> String {
    let (request, response, connection) = (&record["request"], &record["response"], &record["connection"]);
    let end = |end: &Value| {
        format!("{}:{}", end["address"].as_str().unwrap_or("none"), end["port"].as_u64().unwrap_or_default())
    };
    let logged = json!({
        "role": connection["role"],
        "local": end(&connection["local"]),
        "remote": end(&connection["remote"]),
        "target": request["target"],
        "version": request["version"],
        "status": response["status"],
        "request_body": request["body_bytes"].as_u64().unwrap_or_default(),
        "response_body": response["body_bytes"].as_u64().unwrap_or_default(),
    });
    logged.to_string()
}

/// One record for each line of the logs, alike in every field, complete and from the right rung.
pub fn compare(logs: &[Vec<Value>], outcome: &Outcome, library: &str, sources: &[&str], context: &str) {
    let mut expected: Vec<String> = logs.iter().flatten().map(Value::to_string).collect();
    let mut found: Vec<String> = outcome.records().map(|record| seen(&record)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    let missing: Vec<_> = expected.iter().filter(|line| found.binary_search(line).is_err()).take(5).collect();
    let surplus: Vec<_> = found.iter().filter(|line| expected.binary_search(line).is_err()).take(5).collect();
    let ledger = outcome.ledger();
    assert!(
        expected == found,
        "{context}: {} logged, {} records; logged only: {missing:#?}; recorded only: {surplus:#?}; {ledger:#?}",
        expected.len(),
        found.len(),
    );
    for record in outcome.records() {
        assert_eq!(record["integrity"]["complete"], true, "{context}: {record}");
        let source = record["connection"]["tuple_source"].as_str().expect("a source");
        assert!(sources.contains(&source), "{context}: {record}");
        if sources != ["socket"] {
            assert_eq!(record["connection"]["tls"]["library"], library, "{context}: {record}");
        }
    }
    ledger.assert_nothing_lost();
    assert_eq!(ledger.get("connections tuple disagreements"), 0, "{context}: {ledger:#?}");
    assert_eq!(ledger.get("memory read faults"), 0, "{context}: {ledger:#?}");
}
