use proptest::prelude::*;
use serde_json::{Value, json};

use super::REGISTRATION;
use crate::testing::{self, Conversation, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender, Side, Transport};
use Side::{Client as C, Server as S};

/// Capabilities of a client as usual: CLIENT_MYSQL, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION,
/// MULTI_STATEMENTS, MULTI_RESULTS, PLUGIN_AUTH.
const USUAL: u64 = 1 | 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 19;
const SESSION_TRACK: u64 = 1 << 23;
const DEPRECATE_EOF: u64 = 1 << 24;
const QUERY_ATTRIBUTES: u64 = 1 << 27;
const SSL: u64 = 1 << 11;

const MORE_RESULTS: u16 = 8;
const CURSOR: u16 = 0x40;

fn packet(sequence: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32).to_le_bytes()[..3], &[sequence], &body].concat()
}

/// Payloads in packets with contiguous sequence ids.
fn packets(first: u8, bodies: &[Vec<u8>]) -> Vec<u8> {
    bodies.iter().enumerate().flat_map(|(i, body)| packet(first.wrapping_add(i as u8), &[body])).collect()
}

fn greeting() -> Vec<u8> {
    let capabilities = u32::MAX.to_le_bytes();
    packet(
        0,
        &[
            b"\x0a8.0.36\0",
            &77_u32.to_le_bytes(),
            b"saltsalt\0",
            &capabilities[..2],
            &[45, 2, 0],
            &capabilities[2..],
            &[21],
            &[0; 10],
            b"saltsaltsalt\0caching_sha2_password\0",
        ],
    )
}

fn login_as(sequence: u8, capabilities: u64) -> Vec<u8> {
    packet(
        sequence,
        &[
            &(capabilities as u32).to_le_bytes(),
            &[0, 0, 0, 1, 45],
            &[0; 19],
            &((capabilities >> 32) as u32).to_le_bytes(),
            b"ann\0\x04hash",
            b"shop\0caching_sha2_password\0",
        ],
    )
}

fn ok_body(header: u8, affected: u8, id: u8, flags: u16, rest: &[u8]) -> Vec<u8> {
    [&[header, affected, id], &flags.to_le_bytes()[..], &[0, 0], rest].concat()
}

fn ok(sequence: u8) -> Vec<u8> {
    packet(sequence, &[&ok_body(0, 0, 0, 2, b"")])
}

fn eof_body(flags: u16) -> Vec<u8> {
    [&[0xfe, 0, 0][..], &flags.to_le_bytes()].concat()
}

fn error_body(code: u16, state: &str, text: &str) -> Vec<u8> {
    [&[0xff][..], &code.to_le_bytes(), b"#", state.as_bytes(), text.as_bytes()].concat()
}

fn error(sequence: u8, code: u16, state: &str, text: &str) -> Vec<u8> {
    packet(sequence, &[&error_body(code, state, text)])
}

fn definition() -> Vec<u8> {
    [b"\x03def\0\0\0\x01c\0\x0c".as_slice(), &[0; 12]].concat()
}

fn row(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

/// Payloads of a result set of one column.
fn result_set(capabilities: u64, rows: &[&str], flags: u16) -> Vec<Vec<u8>> {
    let mut bodies = vec![vec![1], definition()];
    if capabilities & DEPRECATE_EOF == 0 {
        bodies.push(eof_body(flags));
    }
    bodies.extend(rows.iter().map(|value| row(value)));
    bodies.push(if capabilities & DEPRECATE_EOF == 0 { eof_body(flags) } else { ok_body(0xfe, 0, 0, flags, b"") });
    bodies
}

fn command(code: u8, body: &[u8]) -> Vec<u8> {
    packet(0, &[&[code], body])
}

fn query(sql: &str) -> Vec<u8> {
    command(3, sql.as_bytes())
}

fn prepare(sql: &str) -> Vec<u8> {
    command(0x16, sql.as_bytes())
}

fn prepared(capabilities: u64, id: u32, columns: u16, parameters: u16) -> Vec<u8> {
    let mut bodies =
        vec![[&[0][..], &id.to_le_bytes(), &columns.to_le_bytes(), &parameters.to_le_bytes(), &[0, 0, 0]].concat()];
    for count in [parameters, columns] {
        bodies.extend(vec![definition(); count.into()]);
        if count > 0 && capabilities & DEPRECATE_EOF == 0 {
            bodies.push(eof_body(2));
        }
    }
    packets(1, &bodies)
}

/// An execution: null bitmap, types if they are sent, values.
fn execute(id: u32, nulls: &[u8], types: Option<&[u8]>, values: &[u8]) -> Vec<u8> {
    let bound = [u8::from(types.is_some())];
    let body = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], nulls, &bound, types.unwrap_or_default(), values].concat();
    command(0x17, &body)
}

fn of_id(code: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    command(code, &[&id.to_le_bytes(), rest].concat())
}

/// A conversation behind a login.
fn logged_in(capabilities: u64, transfers: Vec<(Side, Vec<u8>)>) -> Vec<(Side, Vec<u8>)> {
    let mut all = vec![(S, greeting()), (C, login_as(1, capabilities)), (S, ok(2))];
    all.extend(transfers);
    all
}

fn script(transfers: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
    transfers.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

/// The records of a conversation, however it is cut, without what every record has.
fn records(transfers: &[(Side, Vec<u8>)]) -> Vec<Value> {
    assert_split_invariant(&REGISTRATION, &script(transfers)).into_iter().map(bare).collect()
}

const EVERYWHERE: [&str; 8] =
    ["bytes", "start", "end", "user", "database", "connection_id", "server_version", "normalised_query"];

/// Without times, sizes and the login.
fn bare(mut record: Value) -> Value {
    for part in ["request", "response"] {
        if let Some(fields) = record[part].as_object_mut() {
            fields.retain(|name, value| !EVERYWHERE.contains(&name.as_str()) && (name != "warnings" || *value != 0));
        }
    }
    let fields = record.as_object_mut().unwrap();
    fields.remove("sequence");
    fields.remove("protocol");
    if record["missing_bytes"] == 0 {
        record.as_object_mut().unwrap().remove("missing_bytes");
    }
    record
}

/// A complete record.
fn pair(request: Value, response: Value) -> Value {
    json!({ "request": request, "response": response, "reasons": [] })
}

#[test]
fn a_query_is_one_record_with_sizes_times_and_login() {
    let conversation =
        logged_in(USUAL, vec![(C, query("SELECT 'x'")), (S, packets(1, &result_set(USUAL, &["a", "b"], 2)))]);
    let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
    let response_bytes = conversation[4].1.len();
    assert_eq!(
        records,
        [json!({
            "protocol": "mysql",
            "sequence": 0,
            "request": {
                "command": "query", "query": "SELECT 'x'", "normalised_query": "SELECT ?",
                "user": "ann", "database": "shop", "connection_id": 77, "server_version": "8.0.36",
                "bytes": 15, "start": 4_000_000, "end": 4_000_000,
            },
            "response": {
                "status": "resultset", "rows": 2, "columns": 1, "warnings": 0,
                "bytes": response_bytes, "start": 5_000_000, "end": 5_000_000,
            },
            "reasons": [],
            "missing_bytes": 0,
        })]
    );
}

type Case = (&'static str, u64, Vec<(Side, Vec<u8>)>, Vec<Value>);

fn check(cases: Vec<Case>) {
    for (name, capabilities, transfers, expected) in cases {
        assert_eq!(records(&logged_in(capabilities, transfers)), expected, "{name}");
    }
}

fn asked(sql: &str) -> Value {
    json!({ "command": "query", "query": sql })
}

#[test]
fn queries() {
    let set = json!({ "status": "resultset", "rows": 1, "columns": 1 });
    check(vec![
        (
            "EOF is deprecated",
            USUAL | DEPRECATE_EOF,
            vec![(C, query("SELECT 1")), (S, packets(1, &result_set(DEPRECATE_EOF, &["a"], 2)))],
            vec![pair(asked("SELECT 1"), set.clone())],
        ),
        (
            "no rows",
            USUAL,
            vec![(C, query("SELECT 1")), (S, packets(1, &result_set(0, &[], 2)))],
            vec![pair(asked("SELECT 1"), json!({ "status": "resultset", "rows": 0, "columns": 1 }))],
        ),
        (
            "rows are counted",
            USUAL,
            vec![(C, query("INSERT INTO t VALUES (1)")), (S, packet(1, &[&ok_body(0, 3, 9, 2, b"Records: 3")]))],
            vec![pair(
                asked("INSERT INTO t VALUES (1)"),
                json!({ "status": "ok", "affected_rows": 3, "last_insert_id": 9, "info": "Records: 3" }),
            )],
        ),
        (
            "an error",
            USUAL,
            vec![(C, query("SELECT x")), (S, error(1, 1054, "42S22", "Unknown column"))],
            vec![pair(
                asked("SELECT x"),
                json!({ "status": "error", "error_code": 1054, "sql_state": "42S22", "error_message": "Unknown column" }),
            )],
        ),
        (
            "an error behind rows",
            USUAL,
            vec![
                (C, query("SELECT x")),
                (
                    S,
                    packets(
                        1,
                        &[vec![1], definition(), eof_body(2), row("a"), error_body(1317, "70100", "interrupted")],
                    ),
                ),
            ],
            vec![pair(
                asked("SELECT x"),
                json!({ "status": "error", "rows": 1, "columns": 1, "error_code": 1317, "sql_state": "70100",
                    "error_message": "interrupted" }),
            )],
        ),
        (
            "several results",
            USUAL,
            vec![
                (C, query("CALL p()")),
                (
                    S,
                    packets(
                        1,
                        &[
                            result_set(0, &["a"], 2 | MORE_RESULTS),
                            result_set(0, &["a", "b"], 2 | MORE_RESULTS),
                            vec![ok_body(0, 1, 0, 2, b"")],
                        ]
                        .concat(),
                    ),
                ),
            ],
            vec![pair(
                asked("CALL p()"),
                json!({ "status": "resultset", "rows": 3, "columns": 1, "affected_rows": 1,
                    "results": [{ "rows": 1 }, { "rows": 2 }, { "affected_rows": 1 }] }),
            )],
        ),
        (
            "progress reports",
            USUAL,
            vec![
                (C, query("ALTER TABLE t ENGINE=InnoDB")),
                (S, packets(1, &[[&[0xff, 0xff, 0xff][..], &[1, 1, 2, 0, 0, 0, 0, b'x']].concat()])),
                (S, ok(2)),
            ],
            vec![pair(asked("ALTER TABLE t ENGINE=InnoDB"), json!({ "status": "ok", "affected_rows": 0 }))],
        ),
        (
            "a local file",
            USUAL,
            vec![
                (C, query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t")),
                (S, packet(1, &[b"\xfbf"])),
                (C, [packet(2, &[b"1,2\n"]), packet(3, &[b"3,4\n"]), packet(4, &[])].concat()),
                (S, packet(5, &[&ok_body(0, 2, 0, 2, b"")])),
                (C, query("SELECT 1")),
                (S, ok(1)),
            ],
            vec![
                pair(
                    json!({ "command": "query", "query": "LOAD DATA LOCAL INFILE 'f' INTO TABLE t", "data_bytes": 8 }),
                    json!({ "status": "ok", "affected_rows": 2 }),
                ),
                pair(asked("SELECT 1"), json!({ "status": "ok", "affected_rows": 0 })),
            ],
        ),
        (
            "query attributes",
            USUAL | QUERY_ATTRIBUTES,
            vec![
                (C, command(3, b"\x00\x01SELECT 1")),
                (S, ok(1)),
                (C, command(3, b"\x02\x01\x02\x01\xfe\x00\x01a\x08\x00\x01b\x02xySELECT 2")),
                (S, ok(1)),
            ],
            vec![
                pair(asked("SELECT 1"), json!({ "status": "ok", "affected_rows": 0 })),
                pair(asked("SELECT 2"), json!({ "status": "ok", "affected_rows": 0 })),
            ],
        ),
        (
            "cached metadata",
            USUAL | DEPRECATE_EOF,
            vec![(C, query("SELECT 1")), (S, packets(1, &[vec![1, 0], row("a"), ok_body(0xfe, 0, 0, 2, b"")]))],
            vec![pair(asked("SELECT 1"), set)],
        ),
    ]);
}

#[test]
fn other_commands() {
    let done = json!({ "status": "ok", "affected_rows": 0 });
    let simple = |code: u8, body: &[u8]| vec![(C, command(code, body)), (S, ok(1))];
    let argument = |name: &str, argument: &str| json!({ "command": name, "argument": argument });
    check(vec![
        ("ping", USUAL, simple(0x0e, b""), vec![pair(json!({ "command": "ping" }), done.clone())]),
        ("init_db", USUAL, simple(2, b"x"), vec![pair(argument("init_db", "x"), done.clone())]),
        ("kill", USUAL, simple(0x0c, &[9, 0, 0, 0]), vec![pair(argument("process_kill", "9"), done.clone())]),
        ("reset", USUAL, simple(0x1f, b""), vec![pair(json!({ "command": "reset_connection" }), done)]),
        (
            "set_option",
            USUAL,
            vec![(C, command(0x1b, &[0, 0])), (S, packets(1, &[eof_body(2)]))],
            vec![pair(json!({ "command": "set_option" }), json!({ "status": "ok" }))],
        ),
        (
            "statistics",
            USUAL,
            vec![(C, command(9, b"")), (S, packet(1, &[b"Uptime: 5"]))],
            vec![pair(json!({ "command": "statistics" }), json!({ "status": "ok" }))],
        ),
        (
            "field_list",
            USUAL,
            vec![(C, command(4, b"t\0")), (S, packets(1, &[definition(), definition(), eof_body(2)]))],
            vec![pair(argument("field_list", "t"), json!({ "status": "resultset", "rows": 2 }))],
        ),
        (
            "quit",
            USUAL,
            vec![(C, command(1, b""))],
            vec![json!({ "request": { "command": "quit" }, "response": null, "reasons": [] })],
        ),
    ]);
}
