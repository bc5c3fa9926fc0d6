use proptest::prelude::*;
use serde_json::{Value, json};

use super::REGISTRATION;
use crate::testing::{self, Conversation, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender, Side, Transport};
use Side::{Client as C, Server as S};

/// Name, transfers, expected records.
type Case<T> = (&'static str, Vec<(Side, T)>, Value);

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

#[test]
fn extended_queries() {
    let bound = [simple(b'1'), simple(b'2')].concat();
    let cases: Vec<Case<Vec<Vec<u8>>>> = vec![
        (
            "unnamed, everything at once",
            vec![
                (
                    C,
                    vec![parse("", "SELECT $1", &[]), bind("", "", &["a"]), describe(b'P', ""), execute("", 0), sync()],
                ),
                (S, vec![bound.clone(), columns(1), row("a"), complete("SELECT 1"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "execute", "query": "SELECT $1", "parameters": ["a"]}),
                json!({"status": "ok", "command_tag": "SELECT 1", "rows": 1, "columns": 1, "transaction_status": "idle"}),
            )]),
        ),
        (
            "prepared, described, executed twice in binary",
            vec![
                (C, vec![parse("s1", "SELECT $1, $2", &[]), describe(b'S', "s1"), sync()]),
                (S, vec![simple(b'1'), types(&[23, 25]), columns(2), ready(b'I')]),
                (C, vec![bind_as("", "s1", 1, &[Some(&[0, 0, 0, 7]), Some(b"x")]), execute("", 0), sync()]),
                (S, vec![simple(b'2'), row("a"), row("b"), complete("SELECT 2"), ready(b'I')]),
                (C, vec![bind_as("", "s1", 1, &[None, Some(b"y")]), execute("", 0), sync()]),
                (S, vec![simple(b'2'), complete("SELECT 0"), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "execute", "query": "SELECT $1, $2", "statement": "s1", "parameters": [7, "x"]}),
                    json!({"status": "ok", "command_tag": "SELECT 2", "rows": 2, "transaction_status": "idle"}),
                ),
                ok(
                    json!({"command": "execute", "query": "SELECT $1, $2", "statement": "s1", "parameters": [null, "y"]}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "types that nobody told",
            vec![
                (C, vec![parse("", "SELECT $1", &[0]), bind_as("", "", 1, &[Some(&[1])]), execute("", 0), sync()]),
                (S, vec![bound.clone(), complete("SELECT 0"), ready(b'T')]),
            ],
            json!([ok(
                json!({"command": "execute", "query": "SELECT $1", "parameters": [{"base64": "AQ=="}]}),
                json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "in_transaction"}),
            )]),
        ),
        (
            "pipelined up to one Sync",
            vec![
                (
                    C,
                    vec![
                        parse("", "SELECT 1", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "SELECT 2", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ],
                ),
                (
                    S,
                    vec![
                        bound.clone(),
                        row("1"),
                        complete("SELECT 1"),
                        bound.clone(),
                        row("2"),
                        row("2"),
                        complete("SELECT 2"),
                        ready(b'I'),
                    ],
                ),
            ],
            json!([
                ok(
                    json!({"command": "execute", "query": "SELECT 1"}),
                    json!({"status": "ok", "command_tag": "SELECT 1", "rows": 1}),
                ),
                ok(
                    json!({"command": "execute", "query": "SELECT 2"}),
                    json!({"status": "ok", "command_tag": "SELECT 2", "rows": 2, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "an error in Bind ends the batch",
            vec![
                (
                    C,
                    vec![
                        parse("", "SELECT 1", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "SELECT 2", &[]),
                        bind("", "", &["x"]),
                        execute("", 0),
                        parse("", "SELECT 3", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                        query("SELECT 4"),
                    ],
                ),
                (
                    S,
                    vec![
                        bound.clone(),
                        complete("SELECT 0"),
                        simple(b'1'),
                        error("ERROR", "08P01", "bad"),
                        ready(b'I'),
                        complete("SELECT 0"),
                        ready(b'I'),
                    ],
                ),
            ],
            json!([
                ok(
                    json!({"command": "execute", "query": "SELECT 1"}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0}),
                ),
                ok(json!({"command": "execute", "query": "SELECT 3"}), json!({"status": "skipped"})),
                ok(
                    json!({"command": "execute", "query": "SELECT 2", "parameters": ["x"]}),
                    json!({
                        "status": "error", "error_code": "08P01", "error_message": "bad", "severity": "ERROR",
                        "transaction_status": "idle",
                    }),
                ),
                ok(
                    json!({"command": "query", "query": "SELECT 4"}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "an error before Sync is sent",
            vec![
                (C, vec![parse("a", "SELEC", &[]), simple(b'H')]),
                (S, vec![error("ERROR", "42601", "syntax")]),
                (C, vec![bind("", "a", &[]), execute("", 0), query("SELECT 1"), sync()]),
                (S, vec![ready(b'I')]),
                (C, vec![bind("", "a", &[]), execute("", 0), sync()]),
                (S, vec![error("ERROR", "26000", "unknown"), ready(b'I')]),
            ],
            json!([
                ok(json!({"command": "execute", "statement": "a"}), json!({"status": "skipped"})),
                ok(json!({"command": "query", "query": "SELECT 1"}), json!({"status": "skipped"})),
                ok(
                    json!({"command": "parse", "query": "SELEC", "statement": "a"}),
                    json!({
                        "status": "error", "error_code": "42601", "error_message": "syntax", "severity": "ERROR",
                        "transaction_status": "idle",
                    }),
                ),
                ok(
                    json!({"command": "execute", "statement": "a"}),
                    json!({
                        "status": "error", "error_code": "26000", "error_message": "unknown", "severity": "ERROR",
                        "transaction_status": "idle",
                    }),
                ),
            ]),
        ),
        (
            "a name that is taken keeps its statement",
            vec![
                (C, vec![parse("a", "SELECT 1", &[]), sync()]),
                (S, vec![simple(b'1'), ready(b'I')]),
                (C, vec![parse("a", "SELECT 2", &[]), sync()]),
                (S, vec![error("ERROR", "42P05", "exists"), ready(b'I')]),
                (C, vec![bind("", "a", &[]), execute("", 0), sync()]),
                (S, vec![simple(b'2'), complete("SELECT 0"), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "parse", "query": "SELECT 2", "statement": "a"}),
                    json!({
                        "status": "error", "error_code": "42P05", "error_message": "exists", "severity": "ERROR",
                        "transaction_status": "idle",
                    }),
                ),
                ok(
                    json!({"command": "execute", "query": "SELECT 1", "statement": "a"}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "a portal in pieces",
            vec![
                (C, vec![parse("", "SELECT 1", &[]), bind("p", "", &[]), execute("p", 1), simple(b'H')]),
                (S, vec![bound.clone(), row("1"), simple(b's')]),
                (C, vec![execute("p", 1), close(b'P', "p"), sync()]),
                (S, vec![row("2"), complete("SELECT 1"), simple(b'3'), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "execute", "query": "SELECT 1", "portal": "p", "row_limit": 1}),
                    json!({"status": "suspended", "rows": 1}),
                ),
                ok(
                    json!({"command": "execute", "query": "SELECT 1", "portal": "p", "row_limit": 1}),
                    json!({"status": "ok", "command_tag": "SELECT 1", "rows": 1}),
                ),
            ]),
        ),
        (
            "the commit at Sync fails",
            vec![
                (C, vec![parse("", "INSERT", &[]), bind("", "", &[]), execute("", 0), sync()]),
                (S, vec![bound.clone(), complete("INSERT 0 1"), error("ERROR", "23503", "deferred"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "execute", "query": "INSERT"}),
                json!({
                    "status": "error", "command_tag": "INSERT 0 1", "affected_rows": 1, "error_code": "23503",
                    "error_message": "deferred", "severity": "ERROR", "transaction_status": "idle",
                    "results": [{"command_tag": "INSERT 0 1", "affected_rows": 1}],
                }),
            )]),
        ),
        (
            "nothing to execute, and a statement that was forgotten",
            vec![
                (C, vec![parse("a", "", &[]), bind("", "a", &[]), execute("", 0), sync()]),
                (S, vec![bound.clone(), simple(b'I'), ready(b'I')]),
                (C, vec![query("DISCARD ALL")]),
                (S, vec![complete("DISCARD ALL"), ready(b'I')]),
                (C, vec![bind("", "a", &[]), execute("", 0), sync()]),
                (S, vec![error("ERROR", "26000", "unknown"), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "execute", "query": "", "statement": "a"}),
                    json!({"status": "empty", "transaction_status": "idle"}),
                ),
                ok(
                    json!({"command": "query", "query": "DISCARD ALL"}),
                    json!({"status": "ok", "command_tag": "DISCARD ALL", "transaction_status": "idle"}),
                ),
                ok(
                    json!({"command": "execute", "statement": "a"}),
                    json!({
                        "status": "error", "error_code": "26000", "error_message": "unknown", "severity": "ERROR",
                        "transaction_status": "idle",
                    }),
                ),
            ]),
        ),
        (
            "function call",
            vec![
                (C, vec![message(b'F', &[&99_u32.to_be_bytes(), &[0, 0, 0, 0, 0, 0]])]),
                (S, vec![message(b'V', &[&[0, 0, 0, 1, b'x']]), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "function_call", "function_oid": 99}),
                json!({"status": "ok", "transaction_status": "idle"}),
            )]),
        ),
    ];
    for (name, transfers, expected) in cases {
        assert_eq!(Value::from(records(&logged_in(transfers))), expected, "{name}");
    }
}

#[test]
fn an_execute_is_measured_from_parse_to_command_complete() {
    let asked = [parse("", "SELECT 1", &[]), bind("", "", &[]), execute("", 0)].concat();
    let answer = [simple(b'1'), simple(b'2'), row("1"), complete("SELECT 1")];
    let conversation = logged_in(vec![
        (C, vec![asked.clone(), sync()]),
        (S, vec![answer[..3].concat()]),
        (S, vec![answer[3].clone()]),
        (S, vec![ready(b'I')]),
    ]);
    let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
    let (request, response) = (&records[0]["request"], &records[0]["response"]);
    assert_eq!(request["bytes"], asked.len());
    assert_eq!([&request["start"], &request["end"]], [&json!(3_000_000), &json!(3_000_000)]);
    assert_eq!(response["bytes"], answer.concat().len());
    assert_eq!([&response["start"], &response["end"]], [&json!(4_000_000), &json!(5_000_000)]);
    assert_eq!(response["transaction_status"], "idle");
}

/// Time that the client lets pass between preparing and executing is not latency.
#[test]
fn what_was_answered_before_bind_is_not_part_of_the_execute() {
    let asked = [bind("", "a", &["p"]), execute("", 0)].concat();
    let conversation = logged_in(vec![
        (C, vec![parse("a", "SELECT 1", &[]), describe(b'S', "a"), simple(b'H')]),
        (S, vec![simple(b'1'), types(&[25]), columns(1)]),
        (C, vec![asked.clone(), sync()]),
        (S, vec![simple(b'2'), row("1"), complete("SELECT 1"), ready(b'I')]),
    ]);
    let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
    let request = &records[0]["request"];
    assert_eq!([&request["query"], &request["bytes"]], [&json!("SELECT 1"), &json!(asked.len())]);
    assert_eq!(request["start"], 5_000_000);
    assert_eq!(records[0]["response"]["start"], 6_000_000);
}

/// More than may wait: as `executemany` of a driver sends them.
#[test]
fn thousands_of_executes_ahead_are_paired() {
    let count = 3000;
    let mut batch = parse("a", "INSERT", &[]);
    batch.extend((0..count).flat_map(|_| [bind("", "a", &["p"]), execute("", 0)].concat()));
    let done = |_| [simple(b'2'), complete("INSERT 0 1")].concat();
    let answer = [simple(b'1'), (0..count).flat_map(done).collect(), ready(b'I')].concat();
    let records = run(&REGISTRATION, &script(&logged_in(vec![(C, vec![batch, sync()]), (S, vec![answer])])));
    assert_eq!(records.len(), count);
    assert!(records.iter().all(|record| record["response"]["affected_rows"] == 1));
    assert_eq!(records[0]["request"]["parameters"], json!(["p"]));
    assert_eq!(records[count - 1]["request"]["parameters_truncated"], true);
}

#[test]
fn copies() {
    let cases: Vec<Case<Vec<Vec<u8>>>> = vec![
        (
            "in",
            vec![
                (C, vec![query("COPY t FROM STDIN")]),
                (S, vec![copy_response(b'G')]),
                (C, vec![data("1\n"), data("2\n"), simple(b'c')]),
                (S, vec![complete("COPY 2"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "copy", "query": "COPY t FROM STDIN", "copy_bytes": 4}),
                json!({"status": "ok", "command_tag": "COPY 2", "rows": 2, "columns": 2, "transaction_status": "idle"}),
            )]),
        ),
        (
            "in, everything at once",
            vec![
                (C, vec![query("COPY t FROM STDIN"), data("1\n"), simple(b'c')]),
                (S, vec![copy_response(b'G'), complete("COPY 1"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "copy", "query": "COPY t FROM STDIN", "copy_bytes": 2}),
                json!({"status": "ok", "command_tag": "COPY 1", "rows": 1, "columns": 2, "transaction_status": "idle"}),
            )]),
        ),
        (
            "out",
            vec![
                (C, vec![query("COPY t TO STDOUT")]),
                (S, vec![copy_response(b'H'), data("12\n"), simple(b'c'), complete("COPY 1"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "copy", "query": "COPY t TO STDOUT"}),
                json!({
                    "status": "ok", "command_tag": "COPY 1", "rows": 1, "columns": 2, "copy_bytes": 3,
                    "transaction_status": "idle",
                }),
            )]),
        ),
        (
            "in, given up by the client",
            vec![
                (C, vec![query("COPY t FROM STDIN")]),
                (S, vec![copy_response(b'G')]),
                (C, vec![data("1\n"), message(b'f', &[b"no\0"])]),
                (S, vec![error("ERROR", "57014", "COPY failed"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "copy", "query": "COPY t FROM STDIN", "copy_bytes": 2}),
                json!({
                    "status": "error", "error_code": "57014", "error_message": "COPY failed", "severity": "ERROR",
                    "columns": 2, "transaction_status": "idle",
                }),
            )]),
        ),
        (
            "in, refused while data is on its way",
            vec![
                (C, vec![query("COPY t FROM STDIN")]),
                (S, vec![copy_response(b'G')]),
                (C, vec![data("x\n")]),
                (S, vec![error("ERROR", "22P02", "invalid"), ready(b'I')]),
                (C, vec![data("y\n"), simple(b'c'), query("SELECT 1")]),
                (S, vec![complete("SELECT 0"), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "copy", "query": "COPY t FROM STDIN", "copy_bytes": 2}),
                    json!({
                        "status": "error", "error_code": "22P02", "error_message": "invalid", "severity": "ERROR",
                        "columns": 2, "transaction_status": "idle",
                    }),
                ),
                ok(
                    json!({"command": "query", "query": "SELECT 1"}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "in, by the extended protocol: the first Sync is ignored",
            vec![
                (C, vec![parse("", "COPY t FROM STDIN", &[]), bind("", "", &[]), execute("", 0), sync()]),
                (S, vec![simple(b'1'), simple(b'2'), copy_response(b'G')]),
                (C, vec![data("1\n"), simple(b'c'), sync()]),
                (S, vec![complete("COPY 1"), ready(b'I')]),
                (C, vec![query("SELECT 1")]),
                (S, vec![complete("SELECT 0"), ready(b'I')]),
            ],
            json!([
                ok(
                    json!({"command": "copy", "query": "COPY t FROM STDIN", "copy_bytes": 2}),
                    json!({"status": "ok", "command_tag": "COPY 1", "rows": 1, "columns": 2, "transaction_status": "idle"}),
                ),
                ok(
                    json!({"command": "query", "query": "SELECT 1"}),
                    json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"}),
                ),
            ]),
        ),
        (
            "both ways",
            vec![
                (C, vec![query("START_REPLICATION 0/0")]),
                (S, vec![copy_response(b'W'), data("wal")]),
                (C, vec![data("r")]),
                (S, vec![data("wal")]),
                (C, vec![simple(b'c')]),
                (S, vec![simple(b'c'), complete("START_REPLICATION"), ready(b'I')]),
            ],
            json!([ok(
                json!({"command": "copy", "query": "START_REPLICATION 0/0", "copy_bytes": 1}),
                json!({
                    "status": "ok", "command_tag": "START_REPLICATION", "columns": 2, "copy_bytes": 6,
                    "transaction_status": "idle",
                }),
            )]),
        ),
    ];
    for (name, transfers, expected) in cases {
        assert_eq!(Value::from(records(&logged_in(transfers))), expected, "{name}");
    }
}

#[test]
fn logins() {
    let ssl = packet(80_877_103, &[]);
    let gss = packet(80_877_104, &[]);
    let ask_password = message(b'R', &[&5_u32.to_be_bytes(), &[1, 2, 3, 4]]);
    let password = message(b'p', &[b"md5secret\0"]);
    let refused = json!({"status": "error", "error_code": "28P01", "error_message": "no", "severity": "FATAL"});
    let answered = [complete("SELECT 0"), ready(b'I')].concat();
    let selected = json!({"status": "ok", "command_tag": "SELECT 0", "rows": 0, "transaction_status": "idle"});
    let cases: Vec<Case<Vec<u8>>> = vec![
        (
            "encryption refused twice, then a password",
            vec![
                (C, gss),
                (S, b"N".to_vec()),
                (C, ssl.clone()),
                (S, b"N".to_vec()),
                (C, startup()),
                (S, ask_password.clone()),
                (C, password.clone()),
                (S, login()),
                (C, query("SELECT 1")),
                (S, answered),
            ],
            json!([ok(json!({"command": "query", "query": "SELECT 1"}), selected)]),
        ),
        (
            "wrong password",
            vec![(C, startup()), (S, ask_password.clone()), (C, password), (S, error("FATAL", "28P01", "no"))],
            json!([ok(json!({"command": "startup"}), refused)]),
        ),
        ("the client leaves to ask for a password", vec![(C, startup()), (S, ask_password)], json!([])),
        (
            "no answer",
            vec![(C, startup())],
            json!([{"request": {"command": "startup"}, "response": null, "reasons": ["no_response"]}]),
        ),
        (
            "cancel",
            vec![(C, packet(80_877_102, &[0, 0, 0, 77, 1, 2, 3, 4]))],
            json!([{"request": {"command": "cancel"}, "response": null}]),
        ),
        ("encryption", vec![(C, ssl), (S, b"S".to_vec()), (C, vec![22, 3, 1, 0, 9]), (S, vec![22, 3, 3])], json!([])),
    ];
    for (name, transfers, expected) in cases {
        assert_eq!(Value::from(records(&transfers)), expected, "{name}");
    }
}

#[test]
fn a_connection_that_ends_inside_a_message_leaves_its_size_unknown() {
    let whole = [columns(1), row("a"), complete("SELECT 1")].concat();
    let cut = whole[..whole.len() - 2].to_vec();
    let talk = logged_in(vec![(C, vec![query("select a from t")]), (S, vec![cut])]);
    let records = run(&REGISTRATION, &script(&talk));
    let last = records.last().expect("a record");
    assert_eq!((&last["response"]["bytes"], &last["response"]["end"]), (&json!(null), &json!(null)), "{last:#}");
    assert!(last["reasons"].as_array().is_some_and(|reasons| reasons.contains(&json!("closed"))), "{last:#}");
}

#[test]
fn the_server_may_end_a_connection() {
    let killed = || error("FATAL", "57P01", "terminating connection");
    let fields = json!({
        "status": "error", "error_code": "57P01", "error_message": "terminating connection", "severity": "FATAL",
    });
    let idle = records(&logged_in(vec![(S, vec![killed()])]));
    assert_eq!(idle, [json!({"request": null, "response": fields, "reasons": ["unsolicited"]})]);
    let busy = records(&logged_in(vec![(C, vec![query("SELECT 1")]), (S, vec![killed()])]));
    assert_eq!(busy, [ok(json!({"command": "query", "query": "SELECT 1"}), fields)]);
    let silent = records(&logged_in(vec![(C, vec![query("SELECT 1"), bind("", "x", &[]), execute("", 0)])]));
    assert_eq!(
        silent,
        [
            json!({"request": {"command": "query", "query": "SELECT 1"}, "response": null, "reasons": ["no_response"]}),
            json!({"request": {"command": "execute", "statement": "x"}, "response": null, "reasons": ["no_response"]}),
        ]
    );
}

#[test]
fn recognition() {
    let sure = |side| Inference::Sure(if side == C { Sender::Client } else { Sender::Server });
    let result = [columns(1), row("a"), complete("SELECT 1"), ready(b'I')].concat();
    let batch = [parse("", "SELECT 1", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    let cases: Vec<(&str, Vec<u8>, Inference)> = vec![
        ("startup", startup(), sure(C)),
        ("startup of protocol 3.2", packet(196_610, b"user\0ann\0\0"), sure(C)),
        ("startup without a user", packet(196_608, b"database\0ann\0\0"), Inference::No),
        ("SSLRequest", packet(80_877_103, &[]), sure(C)),
        ("GSSENCRequest", packet(80_877_104, &[]), sure(C)),
        ("cancel", packet(80_877_102, &[0; 8]), sure(C)),
        ("cancel with a long key", packet(80_877_102, &[0; 36]), sure(C)),
        ("query", query("SELECT 1"), sure(C)),
        ("batch", batch.clone(), sure(C)),
        ("half a batch", batch[..30].to_vec(), Inference::Maybe(Sender::Client)),
        ("result", result.clone(), sure(S)),
        ("start of a result", result[..40].to_vec(), Inference::Maybe(Sender::Server)),
        ("login answered", login(), sure(S)),
        ("refused encryption", b"N".to_vec(), Inference::Maybe(Sender::Server)),
        ("Sync alone", sync(), Inference::Maybe(Sender::Client)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Inference::No),
        ("HTTP answered", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Inference::No),
        ("HTTP posted", b"POST / HTTP/1.1\r\n\r\n".to_vec(), Inference::No),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Inference::No),
        ("Redis", b"*1\r\n$4\r\nPING\r\n".to_vec(), Inference::No),
        ("Redis inline", b"SET a b\r\n".to_vec(), Inference::No),
        ("Redis answered", b"+OK\r\n".to_vec(), Inference::No),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], Inference::No),
        ("MySQL greeting", b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0".to_vec(), Inference::No),
        ("MySQL query", [&b"\x51\0\0\0\x03SELECT "[..], &[b'1'; 73]].concat(), Inference::No),
        ("MySQL prepare", [&b"\x50\0\0\0\x16SELECT "[..], &[b'?'; 72]].concat(), Inference::No),
        ("MySQL answered", b"\x07\0\0\x01\0\0\0\x02\0\0\0".to_vec(), Inference::No),
        (
            "DNS over TCP",
            b"\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01".to_vec(),
            Inference::No,
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), Inference::No),
    ];
    for (name, head, expected) in &cases {
        assert_eq!((REGISTRATION.infer)(head, Transport::Tcp), *expected, "{name}");
        if *expected == Inference::No {
            continue;
        }
        for cut in 1..head.len() {
            assert_ne!((REGISTRATION.infer)(&head[..cut], Transport::Tcp), Inference::No, "{name} cut at {cut}");
        }
    }
}

#[test]
fn what_was_prepared_before_it_could_be_seen_is_not_known() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    // The end of an answer, and then what the server sends next.
    conversation.say(S, &[row("a"), complete("SELECT 1"), ready(b'I')].concat());
    conversation.say(C, &[bind("", "s1", &["x"]), execute("", 0), sync()].concat());
    conversation.say(S, &[simple(b'2'), row("a"), complete("SELECT 1"), ready(b'I')].concat());
    conversation.say(C, &query("SELECT 2"));
    conversation.say(S, &[complete("SELECT 0"), ready(b'I')].concat());
    let records: Vec<_> = conversation.close().into_iter().map(bare).collect();
    let done = |rows: u64| {
        json!({
            "status": "ok", "command_tag": format!("SELECT {rows}"), "rows": rows, "transaction_status": "idle",
        })
    };
    assert_eq!(
        records,
        [
            json!({"request": null, "response": done(1), "reasons": ["midstream", "unsolicited"]}),
            json!({
                "request": {"command": "execute", "statement": "s1", "parameters": ["x"]}, "response": done(1),
                "reasons": ["midstream"],
            }),
            ok(json!({"command": "query", "query": "SELECT 2"}), done(0)),
        ]
    );
}

#[test]
fn joined_midstream_the_first_pair_says_so() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    for number in 1..=3 {
        conversation.say(C, &query(&format!("SELECT {number}")));
        conversation.say(S, &[complete(&format!("SELECT {number}")), ready(b'I')].concat());
    }
    let records = conversation.close();
    let pairs: Vec<_> =
        records.iter().map(|it| [&it["request"]["query"], &it["response"]["command_tag"], &it["reasons"]]).collect();
    assert_eq!(
        pairs,
        [
            [&json!("SELECT 1"), &json!("SELECT 1"), &json!(["midstream"])],
            [&json!("SELECT 2"), &json!("SELECT 2"), &json!([])],
            [&json!("SELECT 3"), &json!("SELECT 3"), &json!([])],
        ]
    );
}

#[test]
fn secrets_are_redacted() {
    let conversation = logged_in(vec![
        (
            C,
            vec![
                parse("", "SELECT 'secret', $1, $2", &[]),
                bind_as("", "", 0, &[Some(b"secret"), None]),
                execute("", 0),
                sync(),
            ],
        ),
        (S, vec![simple(b'1'), simple(b'2'), error("ERROR", "22P02", "invalid: \"secret\""), ready(b'I')]),
    ]);
    let mut exchanges = exchanges(&conversation);
    let exchange = exchanges.first_mut().unwrap();
    for part in [&mut exchange.request, &mut exchange.response] {
        part.as_mut().unwrap().payload.redact();
    }
    let record = bare(testing::render(exchange));
    assert_eq!(record["request"]["query"], "SELECT [redacted], $1, $2");
    assert_eq!(record["request"]["parameters"], json!(["[redacted]", null]));
    assert_eq!(record["response"]["error_message"], "invalid: \"[redacted]\"");
    let summary = exchange.request.as_ref().unwrap().payload.summary();
    assert_eq!(summary.operation.as_deref(), Some("SELECT"));
    assert_eq!(summary.target.as_deref(), Some("SELECT [redacted], $1, $2"));
    let summary = exchange.response.as_ref().unwrap().payload.summary();
    assert_eq!((summary.status.as_deref(), summary.failed), (Some("22P02"), true));
}

#[test]
fn long_messages_are_shown_in_part_and_measured_in_whole() {
    let sql = format!("SELECT '{}', x", "y".repeat(200_000));
    let value = "z".repeat(100_000);
    let conversation = logged_in(vec![
        (C, vec![query(&sql)]),
        (S, vec![columns(1), row(&value), complete("SELECT 1"), ready(b'I')]),
        (C, vec![parse("", "SELECT $1", &[]), bind("", "", &[&value, "b"]), execute("", 0), sync()]),
        (S, vec![simple(b'1'), simple(b'2'), row(&value), complete("SELECT 1"), ready(b'I')]),
    ]);
    // In pieces of an odd size, as a capture brings them.
    let mut pieces = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    for (side, bytes) in &conversation {
        bytes.chunks(1447).for_each(|piece| pieces.say_part(*side, piece, piece.len() as u64));
    }
    for records in [run(&REGISTRATION, &script(&conversation)), pieces.close()] {
        assert_eq!(records.len(), 2);
        let request = &records[0]["request"];
        assert_eq!(request["query"].as_str().map(str::len), Some(4096));
        assert_eq!([&request["query_truncated"], &request["bytes"]], [&json!(true), &json!(sql.len() + 6)]);
        assert_eq!(records[0]["response"]["rows"], 1);
        let request = &records[1]["request"];
        assert_eq!(request["parameters"][0].as_str().map(str::len), Some(4096));
        assert_eq!(request["parameters_truncated"], true);
        assert_eq!(records[1]["reasons"], json!([]));
    }
}

/// Bytes of rows that the capture limit cut off, or that were lost, do no harm: their length is known.
#[test]
fn a_hole_in_a_row_loses_nothing() {
    let value = "z".repeat(500);
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, &startup());
    conversation.say(S, &login());
    conversation.say(C, &query("SELECT 1"));
    conversation.say(S, &columns(1));
    let row = row(&value);
    conversation.say_part(S, &row[..100], row.len() as u64);
    conversation.say_part(S, &row[..100], 100);
    conversation.lose(S, row.len() as u64 - 100);
    conversation.say(S, &[complete("SELECT 2"), ready(b'I')].concat());
    let records = conversation.close();
    assert_eq!(records[0]["response"]["rows"], 2);
    assert_eq!(records[0]["reasons"], json!([]));
}

/// Of a result that is longer than what is captured of each call, the end still shows how long it took.
#[test]
fn a_result_that_was_cut_off_is_still_measured() {
    let rows = row("value").repeat(100);
    let end = [complete("SELECT 300"), ready(b'I')].concat();
    for asked in [query("SELECT 1"), [parse("", "SELECT 1", &[]), bind("", "", &[]), execute("", 0), sync()].concat()] {
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        conversation.say(C, &startup());
        conversation.say(S, &login());
        conversation.say(C, &asked);
        let head = [columns(1), rows.clone()].concat();
        let head = if asked[0] == b'Q' { head } else { [simple(b'1'), simple(b'2'), rows.clone()].concat() };
        conversation.say_part(S, &head[..100], head.len() as u64);
        conversation.say_part(S, &rows[..100], rows.len() as u64);
        // In the middle of a row.
        conversation.say(S, &[&rows[3..], &end].concat());
        conversation.say(C, &query("SELECT 2"));
        conversation.say(S, &[complete("SELECT 0"), ready(b'I')].concat());
        let records = conversation.close();
        let [first, second] = &records[..] else { panic!("{records:?}") };
        assert_eq!(first["request"]["query"], "SELECT 1");
        assert_eq!(first["reasons"], json!(["truncated"]));
        let response = &first["response"];
        assert_eq!([&response["status"], &response["command_tag"]], [&json!("ok"), &json!("SELECT 300")]);
        assert_eq!([&response["rows"], &response["bytes"]], [&Value::Null, &Value::Null]);
        assert_eq!([&response["start"], &response["end"]], [&json!(3_000_000), &json!(4_000_000)]);
        assert_eq!((&second["request"]["query"], &second["reasons"]), (&json!("SELECT 2"), &json!([])));
    }
}

/// A query that the capture limit cut off is shown as far as it was seen, and answered.
#[test]
fn a_query_that_was_cut_off_is_still_paired() {
    let sql = format!("SELECT '{}'", "y".repeat(1000));
    let bytes = query(&sql);
    for lost in [false, true] {
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        conversation.say(C, &startup());
        conversation.say(S, &login());
        if lost {
            conversation.say(C, &bytes[..100]);
            conversation.lose(C, 900);
            conversation.say(C, &bytes[1000..]);
            conversation.say(C, &[]);
        } else {
            conversation.say_part(C, &bytes[..100], bytes.len() as u64);
        }
        let mut records = conversation.take();
        conversation.say(S, &[complete("SELECT 0"), ready(b'I')].concat());
        conversation.say(C, &query("SELECT 2"));
        conversation.say(S, &[complete("SELECT 0"), ready(b'I')].concat());
        records.extend(conversation.close());
        assert_eq!(records.len(), 2, "lost: {lost}");
        let [first, second] = [&records[0], &records[1]];
        assert_eq!(first["request"]["query"], sql[..95], "lost: {lost}");
        assert_eq!(first["request"]["bytes"], bytes.len());
        assert_eq!(first["response"]["status"], "ok");
        assert_eq!(first["reasons"], json!([if lost { "gap" } else { "truncated" }]));
        assert_eq!(first["missing_bytes"], if lost { 900 } else { 0 });
        assert_eq!((&second["request"]["query"], &second["reasons"]), (&json!("SELECT 2"), &json!([])));
    }
}

#[test]
fn records_have_a_schema() {
    let [request, response] = (REGISTRATION.schema)(&mut schemars::SchemaGenerator::default());
    let definitions = [request, response].map(|schema| schema.as_value()["$ref"].as_str().map(str::to_owned));
    assert_eq!(definitions.map(Option::unwrap), ["#/$defs/PgsqlRequest", "#/$defs/PgsqlResponse"]);
    let schema = schemars::schema_for!(super::types::Request);
    for field in ["command", "query", "normalised_query", "parameters", "user", "database"] {
        assert!(schema.as_value()["properties"][field].is_object(), "{field}: {schema:?}");
    }
}

/// Behind SSLRequest the conversation goes on in what the TLS library hands over.
#[test]
fn behind_tls() {
    let mut connection = connection();
    let mut exchanges = Vec::new();
    let mut say = |layer, side, position, bytes: &[u8]| {
        let segment = crate::Segment { position, bytes, length: bytes.len() as u64, span: crate::Span::default() };
        let direction = if side == C { crate::Direction::Read } else { crate::Direction::Write };
        connection.data(layer, direction, segment, &mut exchanges);
    };
    say(crate::Layer::Socket, C, 0, &packet(80_877_103, &[]));
    say(crate::Layer::Socket, S, 0, b"S");
    say(crate::Layer::Socket, C, 8, &[0x16, 3, 1, 0, 2, 1, 0]);
    let (login_start, login_end) = (startup(), login());
    say(crate::Layer::Tls, C, 0, &login_start);
    say(crate::Layer::Tls, S, 0, &login_end);
    say(crate::Layer::Tls, C, login_start.len() as u64, &query("SELECT 1"));
    say(crate::Layer::Tls, S, login_end.len() as u64, &[complete("SELECT 0"), ready(b'I')].concat());
    let records: Vec<_> = exchanges.iter().map(testing::render).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["request"]["user"], "ann");
    assert_eq!(records[0]["response"]["command_tag"], "SELECT 0");
    assert_eq!(records[0]["reasons"], json!([]));
}

/// Over TLS, of a process that the server has just made, the probes may come after the client's login.
#[test]
fn a_login_of_which_only_the_answer_was_seen() {
    let one = || [columns(1), row("1"), complete("SELECT 1"), ready(b'I')].concat();
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(S, &login());
    for _ in 0..3 {
        conversation.say(C, &query("SELECT 1"));
        conversation.say(S, &one());
    }
    let records = conversation.close();
    assert_eq!(records.len(), 3, "{records:#?}");
    for (place, record) in records.iter().enumerate() {
        assert_eq!((&record["request"]["query"], &record["sequence"]), (&json!("SELECT 1"), &json!(place)));
        assert_eq!((&record["request"]["backend_pid"], &record["response"]["rows"]), (&json!(77), &json!(1)));
        let reasons = if place == 0 { json!(["gap"]) } else { json!([]) };
        assert_eq!(record["reasons"], reasons, "{record:#?}");
    }
}

fn connection() -> crate::Connection {
    let candidates = std::sync::Arc::from([&REGISTRATION]);
    crate::Connection::new(candidates, context(Transport::Tcp, false), Some(crate::Direction::Read))
}

fn exchanges(conversation: &[(Side, Vec<u8>)]) -> Vec<crate::Exchange> {
    let mut exchanges = Vec::new();
    let mut connection = connection();
    let mut positions = [0; 2];
    for (side, bytes) in conversation {
        let position = &mut positions[*side as usize];
        let segment =
            crate::Segment { position: *position, bytes, length: bytes.len() as u64, span: crate::Span::default() };
        *position += bytes.len() as u64;
        let direction = if *side == C { crate::Direction::Read } else { crate::Direction::Write };
        connection.data(crate::Layer::Socket, direction, segment, &mut exchanges);
    }
    exchanges
}

/// One request and its answer, both of which carry its number.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Query,
    Failing,
    /// Parse, Bind, Execute, Sync.
    Extended,
    /// Parse and Describe; then Bind, Execute.
    Prepared,
    /// Two units, the first of which fails.
    Batch,
    CopyOut,
    CopyIn,
}

/// What a client sends, and what its server answers; each in the transfers that one of them has to wait for.
fn conversation_of(operation: Operation, number: usize) -> Vec<(Side, Vec<u8>)> {
    let verb = if matches!(operation, Operation::CopyIn | Operation::CopyOut) { "COPY" } else { "SELECT" };
    let sql = format!("{verb} {number:02}");
    let tag = complete(&sql);
    let unit = [parse("", &sql, &[]), bind("", "", &["p"]), execute("", 0)].concat();
    let bound = [simple(b'1'), simple(b'2')].concat();
    let failure = error("ERROR", "22012", &sql);
    let name = format!("s{number}");
    match operation {
        Operation::Query => vec![(C, query(&sql)), (S, [columns(1), row("a"), tag, ready(b'I')].concat())],
        Operation::Failing => vec![(C, query(&sql)), (S, [failure, ready(b'I')].concat())],
        Operation::Extended => {
            vec![(C, [unit, sync()].concat()), (S, [bound, row("a"), tag, ready(b'I')].concat())]
        }
        Operation::Prepared => vec![
            (C, [parse(&name, &sql, &[]), describe(b'S', &name), sync()].concat()),
            (S, [simple(b'1'), types(&[]), columns(1), ready(b'I')].concat()),
            (C, [bind("", &name, &[]), execute("", 0), sync()].concat()),
            (S, [simple(b'2'), row("a"), tag, ready(b'I')].concat()),
        ],
        Operation::Batch => {
            vec![(C, [unit.clone(), unit, sync()].concat()), (S, [bound, failure, ready(b'I')].concat())]
        }
        Operation::CopyOut => {
            vec![(C, query(&sql)), (S, [copy_response(b'H'), data("x\n"), simple(b'c'), tag, ready(b'I')].concat())]
        }
        Operation::CopyIn => vec![
            (C, query(&sql)),
            (S, copy_response(b'G')),
            (C, [data("x\n"), simple(b'c')].concat()),
            (S, [tag, ready(b'I')].concat()),
        ],
    }
}

const OPERATIONS: [Operation; 7] = [
    Operation::Query,
    Operation::Extended,
    Operation::Failing,
    Operation::Batch,
    Operation::Prepared,
    Operation::CopyOut,
    Operation::CopyIn,
];

/// A request after each answer.
fn in_turn(operations: &[Operation]) -> Vec<(Side, Vec<u8>)> {
    let mut all = vec![(C, startup()), (S, login())];
    all.extend(operations.iter().enumerate().flat_map(|(number, &operation)| conversation_of(operation, number)));
    all
}

/// As many requests as `ahead` are on their way before the first is answered; then one after each answer, so that
/// the server is never without work.
fn ahead(operations: &[Operation], ahead: usize) -> Vec<(Side, Vec<u8>)> {
    let conversations = operations.iter().enumerate().map(|(number, &operation)| conversation_of(operation, number));
    let (requests, answers): (Vec<_>, Vec<_>) = conversations.flatten().partition(|(side, _)| *side == C);
    let mut all = vec![(C, startup()), (S, login())];
    let mut requests = requests.into_iter();
    all.extend(requests.by_ref().take(ahead));
    for answer in answers {
        all.push(answer);
        all.extend(requests.next());
    }
    all
}

/// The text, with the number, that a record's request and its response carry.
fn texts(record: &Value) -> (Option<String>, Option<String>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let response = &record["response"];
    let of_response = text(&response["error_message"]).or_else(|| text(&response["command_tag"]));
    (text(&record["request"]["query"]), of_response)
}

/// No record pairs a request with the answer to another, none is there twice, and those that say that they are
/// complete are. Gives how many are complete pairs.
fn assert_true(what: &str, records: &[Value], whole: &[Value]) -> usize {
    let mut answers = std::collections::BTreeSet::new();
    let mut complete = 0;
    for record in records {
        let (request, response) = texts(record);
        if let (Some(request), Some(response)) = (&request, &response) {
            let cut = record["request"]["query_truncated"] == true && response.starts_with(request);
            assert!(cut || request == response, "{what}: {record}");
        }
        if let Some(response) = response {
            assert!(answers.insert(response), "{what}: answered twice: {record}");
        }
        if record["reasons"] == json!([]) && !record["request"].is_null() {
            let record = measured(record.clone());
            assert!(whole.contains(&record), "{what}: {record} is not one of {whole:?}");
            complete += 1;
        }
    }
    complete
}

/// What comes of a conversation that is seen in whole.
fn all_records(conversation: &[(Side, Vec<u8>)]) -> Vec<Value> {
    run(&REGISTRATION, &script(conversation)).into_iter().map(measured).collect()
}

/// Without what depends on which other requests were seen.
fn measured(mut record: Value) -> Value {
    record.as_object_mut().unwrap().remove("sequence");
    for part in ["request", "response"] {
        if let Some(fields) = record[part].as_object_mut() {
            fields.retain(|name, _| {
                !["start", "end", "user", "database", "application_name", "backend_pid"].contains(&name.as_str())
            });
        }
    }
    record
}

#[test]
fn across_holes_every_pair_is_a_true_pair() {
    for (name, conversation) in [
        ("in turn", in_turn(&OPERATIONS)),
        (
            "two ahead",
            ahead(&[Operation::Query, Operation::Extended, Operation::Failing, Operation::Batch, Operation::Query], 2),
        ),
        ("three ahead", ahead(&[Operation::Query; 6], 3)),
    ] {
        let whole = all_records(&conversation);
        let all = assert_true(name, &run(&REGISTRATION, &script(&conversation)), &whole);
        assert_eq!(all, whole.len(), "{name}");
        let mut most = 0;
        with_holes(&REGISTRATION, &script(&conversation), &[1, 7, 40], |hole, records| {
            if hole.starts_with("transfer 0") && name != "in turn" {
                // Without its start it looks like a connection that was joined midstream, whose client is believed
                // to wait its turn.
                return;
            }
            most = most.max(assert_true(&format!("{name}, {hole}"), &records, &whole));
            let requests = records.iter().filter(|record| !record["request"].is_null()).count();
            assert!(requests <= whole.len(), "{name}, {hole}: invented requests: {records:?}");
        });
        assert!(most >= whole.len() - 1, "{name}: {most} of {}", whole.len());
    }
}

#[test]
fn pairing_goes_on_after_a_hole() {
    let conversation = in_turn(&[Operation::Query; 8]);
    // Not the first turn: a client shows that it waits its turn when it goes on, whole, after the first answer.
    for lost in 6..10 {
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        let mut records = Vec::new();
        for (index, (side, bytes)) in conversation.iter().enumerate() {
            if index == lost {
                run.lose(*side, bytes.len() as u64);
            } else {
                run.say(*side, bytes);
                records.extend(run.take());
            }
        }
        records.extend(run.close());
        let complete = records.iter().filter(|record| record["reasons"] == json!([])).count();
        // The one that was lost, and the next, by which it shows.
        assert!(complete >= 6, "transfer {lost}: {records:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn model_conversations_give_one_record_a_request(
        chosen in proptest::collection::vec(0..OPERATIONS.len(), 1..12),
        cut in 1_usize..64,
    ) {
        let operations: Vec<_> = chosen.iter().map(|&index| OPERATIONS[index]).collect();
        let conversation = in_turn(&operations);
        let mut pieces = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        for (side, bytes) in &conversation {
            bytes.chunks(cut).for_each(|piece| pieces.say_part(*side, piece, piece.len() as u64));
        }
        let records = pieces.close();
        prop_assert_eq!(assert_true("model", &records, &all_records(&conversation)), records.len());
        let expected: usize = operations.iter().map(|it| if matches!(it, Operation::Batch) { 2 } else { 1 }).sum();
        prop_assert_eq!(records.len(), expected);
    }

    #[test]
    fn several_holes_and_joining_late_never_make_a_false_pair(
        chosen in proptest::collection::vec(0..OPERATIONS.len(), 1..12),
        fates in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 32),
        midstream in any::<bool>(),
        together in any::<bool>(),
    ) {
        // A client that was joined midstream, or whose login was not seen, is believed to wait its turn.
        let together = together && !midstream;
        // Those before the first that has a second turn can be sent ahead of an answer.
        let choice = if together { &OPERATIONS[..4] } else { &OPERATIONS[..] };
        let operations: Vec<_> = chosen.iter().map(|&index| choice[index % choice.len()]).collect();
        let conversation = if together { ahead(&operations, 2) } else { in_turn(&operations) };
        let start = if midstream { 2 } else { 0 };
        let mut happened = Vec::new();
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, midstream));
        let mut records = Vec::new();
        for ((side, bytes), (fate, from, to)) in conversation.iter().skip(start).zip(fates.iter().cycle()) {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let spared = together && happened.len() < 2;
            happened.push((side, bytes.len(), *fate, from, to));
            match fate {
                0 if from < to && !spared => {
                    run.say(*side, &bytes[..from]);
                    run.lose(*side, (to - from) as u64);
                    run.say_part(*side, &bytes[to..], (bytes.len() - to) as u64);
                }
                1 if from < to && !spared => run.say_part(*side, &bytes[..from], bytes.len() as u64),
                _ => run.say(*side, bytes),
            }
            records.extend(run.take());
        }
        records.extend(run.close());
        let what = format!("{operations:?}, together {together}, midstream {midstream}: {happened:?}");
        assert_true(&what, &records, &all_records(&conversation));
    }

    #[test]
    fn any_bytes_are_survived(
        transfers in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..60)), 1..12),
        kinds in "[QPBDECSHFXdcfpRZTIKGWVtvns123A]{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..20),
        midstream in any::<bool>(),
    ) {
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, midstream));
        run.say(C, &startup());
        for (client, bytes) in &transfers {
            run.say(if *client { C } else { S }, bytes);
        }
        for kind in kinds.bytes() {
            run.say(C, &message(kind, &[&body]));
            run.say(S, &message(kind, &[&body]));
        }
        run.close();
    }
}
