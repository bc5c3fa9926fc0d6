use serde_json::{Value, json};

use super::REGISTRATION;
use crate::Side::{Client, Server};
use crate::testing::{Script, assert_split_invariant};

fn records(script: &Script<'_>) -> Vec<Value> {
    assert_split_invariant(&REGISTRATION, script)
}

#[test]
fn a_request_and_its_response() {
    let get = b"GET /a?b=1 HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\nAccept: b\r\n\r\n";
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(
        records(&[(Client, get), (Server, ok)]),
        [json!({
            "protocol": "http",
            "sequence": 0,
            "request": {
                "method": "GET", "target": "/a?b=1", "path": "/a", "version": "1.1", "host": "localhost",
                "headers": { "host": ["localhost"], "accept": ["a", "b"] }, "body_bytes": 0,
                "bytes": get.len(), "start": 1_000_000, "end": 1_000_000,
            },
            "response": {
                "status": 200, "reason": "OK", "version": "1.1", "headers": { "content-length": ["5"] },
                "body_bytes": 5, "bytes": ok.len(), "start": 2_000_000, "end": 2_000_000,
            },
            "reasons": [],
            "missing_bytes": 0,
        })]
    );
}
