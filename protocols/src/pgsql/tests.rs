use proptest::prelude::*;
use serde_json::{Value, json};

use super::REGISTRATION;
use crate::testing::{self, Conversation, Script, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender, Side, Transport};
use Side::{Client as C, Server as S};

/// A message with a type.
fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

fn startup() -> Vec<u8> {
    packet(196_608, b"user\0ann\0database\0shop\0application_name\0app\0\0")
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"])
}

fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let list: Vec<u8> = types.iter().flat_map(|of_type| of_type.to_be_bytes()).collect();
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0", &(types.len() as u16).to_be_bytes(), &list])
}

/// Values in text format, or all in binary.
fn bind_as(portal: &str, name: &str, format: u16, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut list = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        list.extend(value.map_or(u32::MAX, |value| value.len() as u32).to_be_bytes());
        list.extend(value.unwrap_or_default());
    }
    let format = format.to_be_bytes();
    message(b'B', &[portal.as_bytes(), b"\0", name.as_bytes(), b"\0", &[0, 1], &format, &list, &[0, 0]])
}

fn bind(portal: &str, name: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    bind_as(portal, name, 0, &values)
}

fn describe(what: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[what], name.as_bytes(), b"\0"])
}

fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()])
}

fn close(what: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[what], name.as_bytes(), b"\0"])
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[&[status]])
}

fn login() -> Vec<u8> {
    [
        message(b'R', &[&[0; 4]]),
        message(b'S', &[b"server_version\x0015.1\0"]),
        message(b'K', &[&77_u32.to_be_bytes(), &[9; 4]]),
        ready(b'I'),
    ]
    .concat()
}

fn columns(count: u16) -> Vec<u8> {
    let column = [b"c\0".as_slice(), &[0; 18]].concat();
    message(b'T', &[&count.to_be_bytes(), &column.repeat(count.into())])
}

fn row(value: &str) -> Vec<u8> {
    message(b'D', &[&[0, 1], &(value.len() as u32).to_be_bytes(), value.as_bytes()])
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"])
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let fields = [("S", severity), ("V", severity), ("C", code), ("M", text)];
    let fields: String = fields.iter().map(|(field, value)| format!("{field}{value}\0")).collect();
    message(b'E', &[fields.as_bytes(), b"\0"])
}

fn simple(kind: u8) -> Vec<u8> {
    message(kind, &[])
}

fn types(types: &[u32]) -> Vec<u8> {
    let list: Vec<u8> = types.iter().flat_map(|of_type| of_type.to_be_bytes()).collect();
    message(b't', &[&(types.len() as u16).to_be_bytes(), &list])
}

fn copy_response(kind: u8) -> Vec<u8> {
    message(kind, &[&[0, 0, 2, 0, 0, 0, 0]])
}

fn data(bytes: &str) -> Vec<u8> {
    message(b'd', &[bytes.as_bytes()])
}

/// A conversation behind a login, in transfers.
fn logged_in(transfers: Vec<(Side, Vec<Vec<u8>>)>) -> Vec<(Side, Vec<u8>)> {
    let mut all = vec![(C, startup()), (S, login())];
    all.extend(transfers.into_iter().map(|(side, messages)| (side, messages.concat())));
    all
}

fn script(transfers: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
    transfers.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

/// The records of a conversation, however it is cut, without what every record has.
fn records(transfers: &[(Side, Vec<u8>)]) -> Vec<Value> {
    assert_split_invariant(&REGISTRATION, &script(transfers)).into_iter().map(bare).collect()
}

/// Without times, sizes and the login.
fn bare(mut record: Value) -> Value {
    for part in ["request", "response"] {
        if let Some(fields) = record[part].as_object_mut() {
            fields.retain(|name, _| {
                !["bytes", "start", "end", "user", "database", "application_name", "backend_pid", "normalised_query"]
                    .contains(&name.as_str())
            });
        }
    }
    record.as_object_mut().unwrap().retain(|name, _| ["request", "response", "reasons"].contains(&name.as_str()));
    if record["reasons"] == json!([]) {
        record.as_object_mut().unwrap().remove("reasons");
    }
    record
}

fn ok(request: Value, response: Value) -> Value {
    json!({"request": request, "response": response})
}

#[test]
fn a_simple_query_is_one_record_with_sizes_times_and_login() {
    let asked = query("SELECT 'x'");
    let answer = [columns(1), row("x"), complete("SELECT 1"), ready(b'I')].concat();
    let conversation = logged_in(vec![(C, vec![asked.clone()]), (S, vec![answer.clone()])]);
    let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
    let expected = json!([{
        "protocol": "pgsql", "sequence": 0, "reasons": [], "missing_bytes": 0,
        "request": {
            "command": "query", "query": "SELECT 'x'", "normalised_query": "SELECT ?",
            "user": "ann", "database": "shop", "application_name": "app", "backend_pid": 77,
            "bytes": asked.len(), "start": 3_000_000, "end": 3_000_000,
        },
        "response": {
            "status": "ok", "command_tag": "SELECT 1", "rows": 1, "columns": 1, "transaction_status": "idle",
            "bytes": answer.len(), "start": 4_000_000, "end": 4_000_000,
        },
    }]);
    assert_eq!(Value::from(records), expected);
}

#[test]
fn simple_queries() {
    let select =
        |tag: &str, rows: usize| [vec![columns(2)], vec![row("a"); rows], vec![complete(tag)]].concat().concat();
    let cases = [
        (
            "insert",
            query("INSERT INTO t VALUES (1)"),
            vec![complete("INSERT 0 1"), ready(b'T')],
            json!({"status": "ok", "command_tag": "INSERT 0 1", "affected_rows": 1, "transaction_status": "in_transaction"}),
        ),
        (
            "no statement",
            query(""),
            vec![simple(b'I'), ready(b'I')],
            json!({"status": "empty", "transaction_status": "idle"}),
        ),
        (
            "no rows",
            query("SELECT 1 LIMIT 0"),
            vec![select("SELECT 0", 0), ready(b'I')],
            json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "columns": 2, "transaction_status": "idle"}),
        ),
        (
            "error",
            query("SELECT x"),
            vec![error("ERROR", "42703", "no column"), ready(b'E')],
            json!({"status": "error", "severity": "ERROR", "error_code": "42703", "error_message": "no column", "transaction_status": "failed"}),
        ),
        (
            "several statements",
            query("BEGIN; SELECT 1; DELETE FROM t"),
            vec![complete("BEGIN"), select("SELECT 2", 2), complete("DELETE 3"), ready(b'T')],
            json!({
                "status": "ok", "command_tag": "DELETE 3", "rows": 2, "affected_rows": 3, "columns": 2,
                "transaction_status": "in_transaction",
                "results": [
                    {"command_tag": "BEGIN"}, {"command_tag": "SELECT 2", "rows": 2},
                    {"command_tag": "DELETE 3", "affected_rows": 3},
                ],
            }),
        ),
        (
            "several statements, one of which fails",
            query("SELECT 1; SELECT 1/0"),
            vec![select("SELECT 1", 1), error("ERROR", "22012", "division by zero"), ready(b'I')],
            json!({
                "status": "error", "command_tag": "SELECT 1", "rows": 1, "columns": 2, "severity": "ERROR",
                "error_code": "22012", "error_message": "division by zero", "transaction_status": "idle",
                "results": [{"command_tag": "SELECT 1", "rows": 1}],
            }),
        ),
        (
            "what is asynchronous answers nothing",
            query("SELECT 1"),
            vec![
                message(b'N', &[b"SNOTICE\0C00000\0Mhello\0\0"]),
                columns(1),
                message(b'S', &[b"TimeZone\0UTC\0"]),
                row("1"),
                message(b'A', &[&[0; 4], b"channel\0payload\0"]),
                complete("SELECT 1"),
                ready(b'I'),
            ],
            json!({"status": "ok", "command_tag": "SELECT 1", "rows": 1, "columns": 1, "transaction_status": "idle"}),
        ),
    ];
    for (name, asked, answer, expected) in cases {
        let records = records(&logged_in(vec![(C, vec![asked]), (S, answer)]));
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(records[0]["response"], expected, "{name}");
    }
}
