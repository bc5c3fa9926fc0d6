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

#[test]
fn prepared_statements() {
    let done = json!({ "status": "ok", "affected_rows": 0 });
    let sql = "SELECT c FROM t WHERE a = ? AND b = ?";
    let types: &[u8] = &[8, 0, 253, 0];
    let values: &[u8] = b"\x05\0\0\0\0\0\0\0\x03ann";
    for capabilities in [USUAL, USUAL | DEPRECATE_EOF] {
        let rows = |first| {
            let mut bodies = result_set(capabilities, &[], 2);
            bodies.insert(bodies.len() - 1, b"\x00\x00\x01a".to_vec());
            packets(first, &bodies)
        };
        let preparing = pair(
            json!({ "command": "stmt_prepare", "query": sql }),
            json!({ "status": "ok", "statement_id": 7, "columns": 1, "parameters": 2 }),
        );
        let executing = |parameters: Value| {
            pair(
                json!({ "command": "stmt_execute", "query": sql, "statement_id": 7, "parameters": parameters }),
                json!({ "status": "resultset", "rows": 1, "columns": 1 }),
            )
        };
        let of = |command: &str| json!({ "command": command, "query": sql, "statement_id": 7 });
        let transfers = vec![
            (C, prepare(sql)),
            (S, prepared(capabilities, 7, 1, 2)),
            (C, execute(7, &[0], Some(types), values)),
            (S, rows(1)),
            (C, execute(7, &[2], None, b"\x06\0\0\0\0\0\0\0")),
            (S, rows(1)),
            (C, of_id(0x18, 7, b"\x01\0a long value")),
            (C, of_id(0x18, 7, b"\x01\0.")),
            (C, execute(7, &[0], None, b"\x07\0\0\0\0\0\0\0")),
            (S, rows(1)),
            (C, of_id(0x1a, 7, b"")),
            (S, ok(1)),
            (C, [of_id(0x19, 7, b""), query("SELECT 1")].concat()),
            (S, ok(1)),
        ];
        let data = |bytes: u64| {
            let mut request = of("stmt_send_long_data");
            request["data_bytes"] = bytes.into();
            json!({ "request": request, "response": null, "reasons": [] })
        };
        let expected = vec![
            preparing,
            executing(json!([5, "ann"])),
            executing(json!([6, null])),
            data(12),
            data(1),
            executing(json!([7, { "long_data_bytes": 13 }])),
            pair(of("stmt_reset"), done.clone()),
            json!({ "request": of("stmt_close"), "response": null, "reasons": [] }),
            pair(asked("SELECT 1"), done.clone()),
        ];
        assert_eq!(records(&logged_in(capabilities, transfers)), expected, "{capabilities:x}");
    }
}

#[test]
fn rows_behind_a_cursor_are_fetched() {
    let opened = vec![vec![1], definition(), eof_body(2 | CURSOR)];
    let fetched = vec![b"\x00\x00\x01a".to_vec(), b"\x00\x00\x01b".to_vec(), eof_body(2 | CURSOR)];
    let transfers = vec![
        (C, prepare("SELECT c FROM t")),
        (S, prepared(0, 1, 1, 0)),
        (C, of_id(0x17, 1, &[1, 1, 0, 0, 0])),
        (S, packets(1, &opened)),
        (C, of_id(0x1c, 1, &[2, 0, 0, 0])),
        (S, packets(1, &fetched)),
    ];
    let records = records(&logged_in(USUAL, transfers));
    assert_eq!(records[1]["response"], json!({ "status": "resultset", "rows": 0, "columns": 1 }));
    assert_eq!(
        records[2],
        pair(
            json!({ "command": "stmt_fetch", "query": "SELECT c FROM t", "statement_id": 1, "row_limit": 2 }),
            json!({ "status": "resultset", "rows": 2 }),
        )
    );
}

/// MariaDB's connectors execute "the last" statement without waiting for its id.
#[test]
fn a_statement_is_executed_while_it_is_being_prepared() {
    let sql = "INSERT INTO t VALUES (?)";
    let failing = |sql: &str| (C, [prepare(sql), execute(u32::MAX, &[0], Some(&[3, 0]), &[1, 0, 0, 0])].concat());
    let transfers = vec![
        (C, [prepare(sql), execute(u32::MAX, &[0], Some(&[3, 0]), &[9, 0, 0, 0])].concat()),
        (S, prepared(USUAL, 4, 0, 1)),
        (S, ok(1)),
        failing("INSERT INTO u VALUES (?)"),
        (S, [error(1, 1146, "42S02", "no table"), error(1, 1243, "HY000", "no statement")].concat()),
    ];
    let records = records(&logged_in(USUAL, transfers));
    assert_eq!(
        records[1],
        pair(
            json!({ "command": "stmt_execute", "query": sql, "parameters": [9] }),
            json!({ "status": "ok", "affected_rows": 0 }),
        )
    );
    assert_eq!(records[3]["request"], json!({ "command": "stmt_execute" }));
    assert_eq!(records[3]["response"]["error_code"], 1243);
}

#[test]
fn logins() {
    let refused = error(0, 1040, "08004", "Too many connections");
    let denied = json!({
        "status": "error", "error_code": 1045, "sql_state": "28000", "error_message": "Access denied",
    });
    let failing = |exchange: Vec<(Side, Vec<u8>)>, sequence| {
        let mut all = vec![(S, greeting()), (C, login_as(1, USUAL))];
        all.extend(exchange);
        all.push((S, error(sequence, 1045, "28000", "Access denied")));
        all
    };
    let switch = vec![(S, packet(2, &[b"\xfemysql_native_password\0salt\0"])), (C, packet(3, &[&[9; 20]]))];
    let failed = pair(json!({ "command": "login" }), denied);
    let cases = [
        (
            "refused",
            vec![(S, refused)],
            vec![json!({
                "request": null,
                "response": { "status": "error", "error_code": 1040, "sql_state": "08004",
                    "error_message": "Too many connections" },
                "reasons": ["unsolicited"],
            })],
        ),
        ("denied", failing(vec![], 2), vec![failed.clone()]),
        ("denied after a switch", failing(switch, 4), vec![failed]),
        (
            "unanswered",
            vec![(S, greeting()), (C, login_as(1, USUAL))],
            vec![json!({ "request": { "command": "login" }, "response": null, "reasons": ["no_response"] })],
        ),
        ("accepted", logged_in(USUAL, vec![]), vec![]),
    ];
    for (name, transfers, expected) in cases {
        assert_eq!(records(&transfers), expected, "{name}");
    }
}

/// The server answers the login first.
#[test]
fn a_command_ahead_of_the_answer_to_the_login() {
    let ahead = |answers: &[Vec<u8>]| {
        let mut all = vec![(S, greeting()), (C, login_as(1, USUAL)), (C, query("SET a = 1"))];
        all.extend(answers.iter().map(|answer| (S, answer.clone())));
        records(&all)
    };
    let set = |status: &str, reasons: Value| {
        let response = if status.is_empty() { Value::Null } else { json!(status) };
        json!([{"command": "query", "query": "SET a = 1"}, response, reasons])
    };
    let login = |code: Value, reasons: Value| json!([{"command": "login"}, code, reasons]);
    let brief = |record: &Value| {
        let response = &record["response"];
        let told = if response["error_code"].is_null() { &response["status"] } else { &response["error_code"] };
        json!([record["request"], told, record["reasons"]])
    };
    for (name, answers, expected) in [
        ("accepted", vec![ok(2), ok(1)], vec![set("ok", json!([]))]),
        (
            "a switch",
            vec![packet(2, &[b"\xfemysql_native_password\0salt\0"])],
            vec![login(Value::Null, json!(["no_response"])), set("", json!(["no_response"]))],
        ),
        (
            "denied",
            vec![error(2, 1045, "28000", "Access denied")],
            vec![login(json!(1045), json!([])), set("", json!(["no_response"]))],
        ),
        ("unanswered", vec![], vec![login(Value::Null, json!(["no_response"])), set("", json!(["no_response"]))]),
    ] {
        assert_eq!(ahead(&answers).iter().map(brief).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_compressed_command_may_come_with_the_login() {
    let login = [login_as(1, USUAL | COMPRESS), outer(0, &query("SET a = 1"), true)].concat();
    let talk = [(S, greeting()), (C, login), (S, ok(2)), (S, outer(1, &ok(1), false))];
    let records = assert_split_invariant(&REGISTRATION, &script(&talk));
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!((&records[0]["response"]["status"], &records[0]["reasons"]), (&json!("ok"), &json!([])));
}

/// How to read what follows a greeting is in the client's answer, also where that is compressed from then on.
#[test]
fn what_a_server_says_behind_its_greeting_waits_for_the_login() {
    let greeting = greeting();
    let (start, rest) = greeting.split_at(54);
    let mut another = greeting.clone();
    another[5] = b'9';
    for (name, behind, capabilities) in [
        ("the start of a packet", vec![0xff, 0xff, 0, 0, 0], USUAL),
        ("the start of an outer packet", vec![0xff, 0xff, 0, 0, 0], USUAL | COMPRESS),
        ("another greeting", another, USUAL),
    ] {
        let login = [login_as(1, capabilities), query("SET a = 1")].concat();
        let rest = [rest, &behind].concat();
        let talk = [(S, start), (C, &login[..]), (S, &rest[..])];
        let records = assert_split_invariant(&REGISTRATION, &talk);
        let query = records.iter().filter(|record| record["request"]["command"] == "query").count();
        assert_eq!(query, 1, "{name}: {records:#?}");
        let unanswered = |it: &Value| it["response"].is_null() && it["reasons"] != json!([]);
        assert!(records.iter().all(|it| it["request"]["server_version"] == "8.0.36"), "{name}: {records:#?}");
        assert!(records.iter().all(unanswered), "{name}: {records:#?}");
    }
}

/// The end of the greeting was held back, and all that both have said since comes at once.
#[test]
fn both_sides_of_a_login_are_read_in_turn() {
    let greeting = greeting();
    let (start, rest) = greeting.split_at(54);
    let switch = packet(2, &[b"\xfemysql_native_password\0salt\0"]);
    let client = [login_as(1, USUAL), packet(3, &[&[9; 20]]), query("SET a = 1")].concat();
    let server = [rest, &switch, &ok(4), &ok(1)].concat();
    let records = assert_split_invariant(&REGISTRATION, &[(S, start), (C, &client), (S, &server)]);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!((&records[0]["response"]["status"], &records[0]["reasons"]), (&json!("ok"), &json!([])));
    // What is an outer packet behind the answer looked like an ordinary one before it.
    let client = [&login_as(1, USUAL | COMPRESS)[..], b"\x0d\0\0\x10\0\0\0", &query("SELEC 12")].concat();
    let server = [rest, &ok(2)].concat();
    let records = assert_split_invariant(&REGISTRATION, &[(S, start), (C, &client), (S, &server)]);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["reasons"], json!(["no_response"]));
}

#[test]
fn a_server_that_loses_patience_with_a_client_is_heard() {
    let goodbye = error(1, 1158, "08S01", "Got an error reading communication packets");
    let talk = [(S, greeting()), (S, goodbye)];
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    talk.iter().for_each(|(side, bytes)| conversation.say(*side, bytes));
    let records = conversation.take();
    assert_eq!(records, assert_split_invariant(&REGISTRATION, &script(&talk)));
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(
        (&records[0]["response"]["error_code"], &records[0]["reasons"]),
        (&json!(1158), &json!(["unsolicited"]))
    );
}

#[test]
fn a_login_that_is_refused_behind_a_command_has_a_number() {
    let refused = error(2, 1045, "28000", "Access denied");
    let script = [(S, &greeting()[..]), (C, &login_as(1, USUAL)), (C, &query("SET a = 1")), (S, &refused)];
    let records = run(&REGISTRATION, &script);
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record["sequence"].is_u64()), "{records:#?}");
}

/// Unix sockets don't tell whether they are new; the greeting does.
#[test]
fn a_greeting_tells_that_nothing_went_before() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let mut conversation = Conversation::new(&REGISTRATION, context(transport, true));
        conversation.say(S, &greeting());
        // Servers read the header apart from the rest on unix sockets.
        let login = login_as(1, USUAL);
        conversation.say(C, &login[..4]);
        conversation.say(C, &login[4..]);
        conversation.say(S, &packet(2, &[b"\xfemysql_native_password\0salt\0"]));
        conversation.say(C, &packet(3, &[&[9; 20]]));
        conversation.say(S, &error(4, 1045, "28000", "Access denied"));
        let records = conversation.close();
        assert_eq!(records.len(), 1, "{records:#?}");
        assert_eq!(records[0]["request"]["command"], "login", "{records:#?}");
        assert_eq!((&records[0]["response"]["error_code"], &records[0]["reasons"]), (&json!(1045), &json!([])));
    }
}

#[test]
fn a_refusal_that_breaks_off_is_not_complete() {
    let refusal = error(2, 1045, "28000", "Access denied");
    let talk = [(S, greeting()), (C, login_as(1, USUAL)), (S, refusal[..refusal.len() - 3].to_vec())];
    let records = run(&REGISTRATION, &script(&talk));
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["response"]["bytes"], &records[0]["reasons"]), (&json!(null), &json!(["closed"])));
}

#[test]
fn user_and_database_are_remembered() {
    let schema_changed = ok_body(0, 0, 0, 0x4002, b"\x00\x08\x01\x06\x05news2");
    let cases = [
        ("login", USUAL, vec![], "ann", json!("shop")),
        ("init_db", USUAL, vec![(C, command(2, b"news")), (S, ok(1))], "ann", json!("news")),
        (
            "init_db that fails",
            USUAL,
            vec![(C, command(2, b"news")), (S, error(1, 1049, "42000", "no"))],
            "ann",
            json!("shop"),
        ),
        ("use", USUAL, vec![(C, query("use `news`;")), (S, ok(1))], "ann", json!("news")),
        ("use that is not plain", USUAL, vec![(C, query("use /* a */ news")), (S, ok(1))], "ann", Value::Null),
        ("drop", USUAL, vec![(C, query("DROP DATABASE shop")), (S, ok(1))], "ann", Value::Null),
        (
            "tracked",
            USUAL | SESSION_TRACK,
            vec![(C, query("CALL p()")), (S, packet(1, &[&schema_changed]))],
            "ann",
            json!("news2"),
        ),
        (
            "change_user",
            USUAL,
            vec![
                (C, command(0x11, b"bob\0\x03pwdnews\0\x2d\0plugin\0")),
                (S, packet(1, &[b"\xfeplugin\0salt\0"])),
                (C, packet(2, &[b"proof"])),
                (S, ok(3)),
            ],
            "bob",
            json!("news"),
        ),
    ];
    for (name, capabilities, mut transfers, user, database) in cases {
        transfers.extend([(C, command(0x0e, b"")), (S, ok(1))]);
        let conversation = logged_in(capabilities, transfers);
        let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
        let last = &records.last().unwrap()["request"];
        assert_eq!((&last["user"], &last["database"]), (&json!(user), &database), "{name}");
        assert_eq!(last["command"], "ping", "{name}");
    }
}

#[test]
fn an_error_without_a_code_refuses_no_login() {
    let records = run(&REGISTRATION, &[(S, &greeting()), (C, &login_as(1, USUAL)), (S, &packet(2, &[b"\xff"]))]);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert!(records[0]["response"].is_null());
    assert_eq!(records[0]["reasons"], json!(["no_response", "parse_error"]));
}

#[test]
fn tls_is_handed_over_and_the_login_goes_on_inside() {
    use crate::{Connection, Direction, Layer, Segment, Span, Time};
    let mut exchanges = Vec::new();
    let protocols = std::sync::Arc::from([&REGISTRATION]);
    let mut connection = Connection::new(protocols, context(Transport::Tcp, false), Some(Direction::Read));
    let ssl_request = packet(1, &[&((USUAL | SSL) as u32).to_le_bytes(), &[0, 0, 0, 1, 45], &[0; 23]]);
    let mut positions = [[0; 2]; 2];
    let transfers = [
        (Layer::Socket, S, greeting()),
        (Layer::Socket, C, ssl_request),
        (Layer::Socket, C, b"\x16\x03\x01 ciphertext".to_vec()),
        (Layer::Tls, C, login_as(2, USUAL | SSL)),
        (Layer::Tls, S, ok(3)),
        (Layer::Tls, C, query("SELECT 1")),
        (Layer::Tls, S, ok(1)),
    ];
    for (at, (layer, side, bytes)) in transfers.iter().enumerate() {
        let position: &mut u64 = &mut positions[*layer as usize][*side as usize];
        let span = Span::at(Time(at as u64));
        let segment = Segment { position: *position, bytes, length: bytes.len() as u64, span };
        *position += bytes.len() as u64;
        let direction = if *side == C { Direction::Read } else { Direction::Write };
        connection.data(*layer, direction, segment, &mut exchanges);
    }
    assert_eq!(exchanges.len(), 1);
    let record = testing::render(&exchanges[0]);
    assert_eq!((&record["request"]["query"], &record["request"]["user"]), (&json!("SELECT 1"), &json!("ann")));
    assert_eq!(record["reasons"], json!([]));
}

#[test]
fn recognition() {
    use Inference::{Maybe, More, No, Sure};
    let (client, server) = (Sender::Client, Sender::Server);
    let cases: Vec<(&str, Vec<u8>, Inference)> = vec![
        ("greeting", greeting(), Sure(server)),
        ("start of a greeting", greeting()[..20].to_vec(), More),
        ("refusal", error(0, 1040, "08004", "Too many connections"), Sure(server)),
        ("refusal of old", packet(0, &[b"\xff\x6a\x04Host is not allowed"]), Sure(server)),
        ("login", login_as(1, USUAL), Maybe(client)),
        ("query", query("SELECT 1"), Sure(client)),
        ("start of a query", query("SELECT name FROM things")[..20].to_vec(), Maybe(client)),
        ("query that is no SQL", query("\x01\x02\x03\x04"), No),
        ("ping", command(0x0e, b""), Maybe(client)),
        ("OK", ok(1), Maybe(server)),
        ("result set", packets(1, &result_set(0, &["a"], 2)), Maybe(server)),
        ("error", error(1, 1054, "42S22", "Unknown"), Maybe(server)),
        ("one byte", vec![5], More),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), No),
        ("Redis", b"*1\r\n$4\r\nPING\r\n".to_vec(), No),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), No),
        ("PostgreSQL startup", b"\0\0\0\x13\0\x03\0\0user\0ann\0\0".to_vec(), No),
        ("PostgreSQL query", b"Q\0\0\0\x0dSELECT 1\0".to_vec(), No),
        ("MongoDB", b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0\0\0\0\0admin.$cmd\0".to_vec(), No),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), No),
        ("zeros", vec![0; 64], No),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!((REGISTRATION.infer)(&bytes, Transport::Tcp), expected, "{name}");
    }
}

#[test]
fn secrets_are_redacted() {
    let mut run = exchanges(&logged_in(
        USUAL,
        vec![
            (C, query("SELECT * FROM t WHERE name = 'secret'")),
            (S, error(1, 1064, "42000", "syntax to use near 'secret' at line 1")),
            (C, prepare("SELECT ?")),
            (S, prepared(USUAL, 1, 0, 1)),
            (C, execute(1, &[0], Some(&[253, 0]), b"\x06secret")),
            (S, ok(1)),
        ],
    ));
    assert_eq!(run.len(), 3);
    for exchange in &mut run {
        for part in [&mut exchange.request, &mut exchange.response].into_iter().flatten() {
            part.payload.redact();
        }
        assert!(!testing::render(exchange).to_string().contains("secret"), "{:?}", testing::render(exchange));
    }
}

fn exchanges(conversation: &[(Side, Vec<u8>)]) -> Vec<crate::Exchange> {
    use crate::{Connection, Direction, Layer, Segment, Span};
    let mut exchanges = Vec::new();
    let protocols = std::sync::Arc::from([&REGISTRATION]);
    let mut connection = Connection::new(protocols, context(Transport::Tcp, false), Some(Direction::Read));
    let mut positions = [0; 2];
    for (side, bytes) in conversation {
        let position = &mut positions[*side as usize];
        let segment = Segment { position: *position, bytes, length: bytes.len() as u64, span: Span::default() };
        *position += bytes.len() as u64;
        let direction = if *side == C { Direction::Read } else { Direction::Write };
        connection.data(Layer::Socket, direction, segment, &mut exchanges);
    }
    exchanges
}

/// One request and its answer, both of which carry its number.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Query,
    Failing,
    Update,
    /// Prepare, then execute.
    Prepared,
    /// Close a statement and ask in one transfer.
    Close,
    File,
}

const OPERATIONS: [Operation; 6] =
    [Operation::Query, Operation::Update, Operation::Prepared, Operation::Failing, Operation::Close, Operation::File];

/// What a client sends, and what its server answers; each in the transfers that one of them has to wait for. The
/// number of affected rows, of rows or the error tells which answer it is.
fn conversation_of(operation: Operation, number: u8) -> Vec<(Side, Vec<u8>)> {
    let sql = format!("SELECT {number:02}");
    let rows = vec!["a"; number.into()];
    let answer = packets(1, &result_set(0, &rows, 2));
    match operation {
        Operation::Query => vec![(C, query(&sql)), (S, answer)],
        Operation::Failing => vec![(C, query(&sql)), (S, error(1, 3000 + u16::from(number), "HY000", &sql))],
        Operation::Update => vec![(C, query(&sql)), (S, packet(1, &[&ok_body(0, number, 0, 2, b"")]))],
        Operation::Prepared => {
            let mut bodies = result_set(0, &[], 2);
            bodies.splice(3..3, vec![b"\x00\x00\x01a".to_vec(); number.into()]);
            vec![
                (C, prepare(&sql)),
                (S, prepared(0, number.into(), 1, 0)),
                (C, of_id(0x17, number.into(), &[0, 1, 0, 0, 0])),
                (S, packets(1, &bodies)),
            ]
        }
        Operation::Close => vec![(C, [of_id(0x19, 99, b""), query(&sql)].concat()), (S, answer)],
        Operation::File => vec![
            (C, query(&sql)),
            (S, packet(1, &[b"\xfbf"])),
            (C, [packet(2, &[b"1,2\n"]), packet(3, &[])].concat()),
            (S, packet(4, &[&ok_body(0, number, 0, 2, b"")])),
        ],
    }
}

fn in_turn(operations: &[Operation]) -> Vec<(Side, Vec<u8>)> {
    let numbered = operations.iter().zip(1..);
    logged_in(USUAL, numbered.flat_map(|(&operation, number)| conversation_of(operation, number)).collect())
}

/// As many requests as `ahead` are on their way before the first is answered; then one after each answer.
fn ahead(operations: &[Operation], ahead: usize) -> Vec<(Side, Vec<u8>)> {
    let conversations = operations.iter().zip(1..).flat_map(|(&operation, number)| conversation_of(operation, number));
    let (requests, answers): (Vec<_>, Vec<_>) = conversations.partition(|(side, _)| *side == C);
    let mut requests = requests.into_iter();
    let mut all: Vec<_> = requests.by_ref().take(ahead).collect();
    for answer in answers {
        all.push(answer);
        all.extend(requests.next());
    }
    logged_in(USUAL, all)
}

/// The numbers that a record's request and its response carry.
fn numbers(record: &Value) -> (Option<u64>, Option<u64>) {
    let request = &record["request"];
    let asked = request["query"].as_str().and_then(|sql| sql.strip_prefix("SELECT "));
    let asked = asked.filter(|number| number.len() == 2).and_then(|number| number.parse().ok());
    let response = &record["response"];
    let shown = ["statement_id", "rows", "affected_rows"].iter().find_map(|name| response[name].as_u64());
    let answered = response["error_code"].as_u64().map(|code| code - 3000).or(shown);
    // Rows of which not all were seen.
    let cut = response["bytes"].is_null();
    (asked.or(request["statement_id"].as_u64()), answered.filter(|_| !cut))
}

/// No record pairs a request with the answer to another, and those that say that they are complete are. Gives how
/// many are complete.
fn assert_true(what: &str, records: &[Value], whole: &[Value]) -> usize {
    let mut complete = 0;
    for record in records {
        if let (Some(request), Some(response)) = numbers(record) {
            assert_eq!(request, response, "{what}: {record}");
        }
        if record["reasons"] == json!([]) {
            let record = bare(record.clone());
            assert!(whole.contains(&record), "{what}: {record} is not one of {whole:?}");
            complete += 1;
        }
    }
    complete
}

fn all_records(conversation: &[(Side, Vec<u8>)]) -> Vec<Value> {
    run(&REGISTRATION, &script(conversation)).into_iter().map(bare).collect()
}

#[test]
fn across_holes_every_pair_is_a_true_pair() {
    use Operation::{Failing, Query, Update};
    for (name, conversation) in [
        ("in turn", in_turn(&OPERATIONS)),
        ("two ahead", ahead(&[Query, Update, Failing, Query, Update], 2)),
        ("three ahead", ahead(&[Query, Update, Update, Update, Failing, Query], 3)),
    ] {
        let whole = all_records(&conversation);
        let all = assert_true(name, &run(&REGISTRATION, &script(&conversation)), &whole);
        assert_eq!(all, whole.len(), "{name}");
        let mut most = 0;
        with_holes(&REGISTRATION, &script(&conversation), &[1, 7, 40], |hole, records| {
            most = most.max(assert_true(&format!("{name}, {hole}"), &records, &whole));
            let requests = records.iter().filter(|record| !record["request"].is_null()).count();
            assert!(requests <= whole.len(), "{name}, {hole}: invented requests: {records:?}");
        });
        assert!(most >= whole.len() - 1, "{name}: {most} of {}", whole.len());
    }
}

/// The database on the last record after `USE other`, of which some of the request or all of the answer is lost.
fn database_after(lose: impl Fn(&mut Conversation)) -> Value {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    for (side, bytes) in logged_in(USUAL, vec![(C, query("USE shop")), (S, ok(1))]) {
        conversation.say(side, &bytes);
    }
    lose(&mut conversation);
    for _ in 0..3 {
        conversation.say(C, &query("SELECT 1"));
        conversation.say(S, &ok(1));
    }
    conversation.close().last().unwrap()["request"]["database"].clone()
}

#[test]
fn a_database_that_may_have_changed_is_not_claimed() {
    let use_other = query("USE other");
    let unharmed = database_after(|_| {});
    assert_eq!(unharmed, "shop");
    let answer_lost = database_after(|conversation| {
        conversation.say(C, &use_other);
        conversation.lose(S, ok(1).len() as u64);
    });
    assert!(answer_lost.is_null(), "{answer_lost}");
    let name_cut = database_after(|conversation| {
        conversation.say(C, &use_other[..10]);
        conversation.lose(C, use_other.len() as u64 - 10);
        conversation.say(S, &ok(1));
    });
    assert!(name_cut.is_null(), "{name_cut}");
}

#[test]
fn pairing_goes_on_after_a_hole() {
    let conversation = in_turn(&[Operation::Query; 8]);
    for lost in 5..12 {
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
    #![proptest_config(ProptestConfig::with_cases(128))]

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
        let twice = |it: &&Operation| matches!(it, Operation::Prepared | Operation::Close);
        prop_assert_eq!(records.len(), operations.len() + operations.iter().filter(twice).count());
    }

    #[test]
    fn several_holes_and_joining_late_never_make_a_false_pair(
        chosen in proptest::collection::vec(0..OPERATIONS.len(), 1..12),
        fates in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 32),
        midstream in any::<bool>(),
    ) {
        let operations: Vec<_> = chosen.iter().map(|&index| OPERATIONS[index]).collect();
        let conversation = in_turn(&operations);
        let start = if midstream { 3 } else { 0 };
        let mut happened = Vec::new();
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, midstream));
        let mut records = Vec::new();
        for ((side, bytes), (fate, from, to)) in conversation.iter().skip(start).zip(fates.iter().cycle()) {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            happened.push((side, bytes.len(), *fate, from, to));
            match fate {
                0 if from < to => {
                    run.say(*side, &bytes[..from]);
                    run.lose(*side, (to - from) as u64);
                    run.say_part(*side, &bytes[to..], (bytes.len() - to) as u64);
                }
                1 if from < to => run.say_part(*side, &bytes[..from], bytes.len() as u64),
                _ => run.say(*side, bytes),
            }
            records.extend(run.take());
        }
        records.extend(run.close());
        let what = format!("{operations:?}, midstream {midstream}: {happened:?}");
        for record in &records {
            if let (Some(request), Some(response)) = numbers(record) {
                prop_assert_eq!(request, response, "{}: {}", what, record);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(
        transfers in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..60)), 1..12),
        bodies in proptest::collection::vec(
            (any::<bool>(), 0_u8..4, proptest::collection::vec(any::<u8>(), 0..30)), 0..40),
        midstream in any::<bool>(),
        capabilities in any::<u64>(),
    ) {
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, midstream));
        if !midstream {
            run.say(S, &greeting());
            run.say(C, &login_as(1, capabilities | 1 << 9));
            run.say(S, &ok(2));
        }
        for (client, sequence, body) in &bodies {
            run.say(if *client { C } else { S }, &packet(*sequence, &[body]));
        }
        for (client, bytes) in &transfers {
            run.say(if *client { C } else { S }, bytes);
        }
        run.close();
    }
}

const COMPRESS: u64 = 1 << 5;

/// Packets inside of one that is compressed with zlib, or stored.
fn outer(sequence: u8, content: &[u8], compressed: bool) -> Vec<u8> {
    use std::io::Write as _;
    if !compressed {
        return [&(content.len() as u32).to_le_bytes()[..3], &[sequence, 0, 0, 0], content].concat();
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    let payload = encoder.finish().unwrap();
    let lengths = [payload.len() as u32, content.len() as u32].map(u32::to_le_bytes);
    [&lengths[0][..3], &[sequence], &lengths[1][..3], &payload].concat()
}

/// A row of 150 kB that takes 200 bytes on the wire, and one packet that is spread over two outer ones.
fn compressed_conversation() -> Vec<(Side, Vec<u8>)> {
    let long = [&[0xfd, 0xf0, 0x49, 0x02][..], &vec![b'x'; 150_000]].concat();
    let mut bodies = result_set(0, &["a"], 2);
    bodies.insert(3, long);
    let answer = packets(1, &bodies);
    let (first, second) = answer.split_at(answer.len() - 12);
    vec![
        (C, outer(0, &query("SELECT 1"), false)),
        (S, [outer(1, first, true), outer(2, second, false)].concat()),
        (C, outer(0, &query(&"SELECT 2 ".repeat(20)), true)),
        (S, outer(1, &ok(1), false)),
    ]
}

#[test]
fn compressed_packets_are_looked_into() {
    let conversation = compressed_conversation();
    for capabilities in [USUAL | COMPRESS, USUAL | 1 << 26] {
        let all = assert_split_invariant(&REGISTRATION, &script(&logged_in(capabilities, conversation.clone())));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["response"]["rows"], 2);
        assert_eq!(all[0]["response"]["bytes"], conversation[1].1.len());
        assert_eq!(all[0]["request"]["bytes"], conversation[0].1.len());
        assert_eq!(all[1]["request"]["query"], "SELECT 2 ".repeat(20));
        assert_eq!(all[1]["reasons"], json!([]));
    }
    // Joined midstream, the first command tells.
    let mut joined = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    conversation.iter().for_each(|(side, bytes)| joined.say(*side, bytes));
    let records = joined.close();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["response"]["rows"], &records[0]["reasons"]), (&json!(2), &json!(["midstream"])));
}

/// What was compressed as one is shared out by length.
#[test]
fn responses_in_one_compressed_packet_have_their_share_of_it() {
    let (ask, answer) = (outer(0, &query("SELECT 1"), false), outer(1, &ok(1), false));
    let second = packets(1, &result_set(0, &["a"; 3], 2));
    for compressed in [false, true] {
        let both = outer(1, &[&ok(1)[..], &second].concat(), compressed);
        let size = both.len();
        let talk = vec![(C, ask.clone()), (S, answer.clone()), (C, ask.repeat(2)), (S, both)];
        let records = assert_split_invariant(&REGISTRATION, &script(&logged_in(USUAL | COMPRESS, talk)));
        let sizes: Vec<_> = records.iter().map(|it| it["response"]["bytes"].as_u64().expect("a size")).collect();
        let share = if compressed { 7 + (size - 7) * 11 / (11 + second.len()) } else { 7 + 11 };
        assert_eq!(sizes, [answer.len(), share, size - share].map(|size| size as u64), "{records:#?}");
        assert!(records.iter().all(|it| it["reasons"] == json!([])), "{records:#?}");
    }
}

#[test]
fn compressed_content_that_was_cut_off_is_not_guessed() {
    let conversation = compressed_conversation();
    let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    for (index, (side, bytes)) in logged_in(USUAL | COMPRESS, conversation).iter().enumerate() {
        // The answer with the long row.
        let seen = if index == 4 { &bytes[..60] } else { bytes };
        run.say(*side, &[]);
        run.say_part(*side, seen, bytes.len() as u64);
    }
    let records = run.close();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["reasons"], &records[0]["response"]["bytes"]), (&json!(["truncated"]), &Value::Null));
    assert_eq!((&records[1]["reasons"], &records[1]["response"]["status"]), (&json!([]), &json!("ok")));
}

/// Outer packets go on behind what is no content, and what was broken is counted.
#[test]
fn compressed_content_that_breaks_a_rule_is_counted() {
    let mut nonsense = outer(1, &ok(1), true);
    nonsense[7..].fill(0xaa);
    let good = [(C, outer(0, &query("SELECT 1"), true)), (S, outer(1, &ok(1), true))];
    for broken in [nonsense, outer(1, &packet(1, &[b"\xff\x00"]), true)] {
        let talk = [(C, outer(0, &query("SELECT 1"), true)), (S, broken)].into_iter().chain(good.clone()).collect();
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        logged_in(USUAL | COMPRESS, talk).iter().for_each(|(side, bytes)| run.say(*side, bytes));
        assert_eq!(run.counters().violations, 1);
        let records = run.close();
        assert_eq!(records.len(), 2, "{records:#?}");
        assert_eq!((&records[0]["reasons"], &records[1]["reasons"]), (&json!(["parse_error"]), &json!([])));
    }
}

/// The last bytes of what is compressed hold nothing that is printed: only their length was seen.
#[test]
fn compressed_packets_whose_end_never_came_are_not_whole() {
    let content = [query(&"SELECT 2 ".repeat(20)), packets(1, &result_set(0, &["a"], 2))];
    for compressed in [true, false] {
        let [request, response] = [0, 1].map(|at| outer(at as u8, &content[at], compressed));
        let turns = vec![(C, request.clone()), (S, response.clone())];
        assert_eq!(
            assert_split_invariant(&REGISTRATION, &script(&logged_in(USUAL | COMPRESS, turns)))[0]["reasons"],
            json!([])
        );
        for cut in 1..response.len() {
            let turns = vec![(C, request.clone()), (S, response[..cut].to_vec())];
            let records = records(&logged_in(USUAL | COMPRESS, turns));
            assert_eq!(records.len(), 1, "{cut}: {records:?}");
            assert_ne!(records[0]["reasons"], json!([]), "{cut}: {}", records[0]);
            let end = (&records[0]["response"]["bytes"], &records[0]["response"]["end"]);
            assert_eq!(end, (&Value::Null, &Value::Null), "{cut}: {}", records[0]);
        }
        for cut in 1..request.len() {
            let turns = vec![(C, request[..cut].to_vec())];
            let records = records(&logged_in(USUAL | COMPRESS, turns));
            assert!(records.iter().all(|record| record["request"]["bytes"] == Value::Null), "{cut}: {records:?}");
        }
    }
}

/// Whether it succeeded is not needed to know that it did: who asks has been let in.
#[test]
fn a_hole_in_a_login_makes_no_record_of_it() {
    let conversation = logged_in(USUAL, vec![(C, query("SELECT 1")), (S, ok(1)), (C, query("SELECT 2")), (S, ok(1))]);
    with_holes(&REGISTRATION, &script(&conversation), &[1, 4, 30], |hole, records| {
        let logins = records.iter().filter(|record| record["request"]["command"] == "login").count();
        assert_eq!(logins, 0, "{hole}: {records:#?}");
        if ["transfer 0", "transfer 1", "transfer 2"].iter().any(|login| hole.starts_with(login)) {
            let second = records.iter().filter(|record| record["request"]["query"] == "SELECT 2").count();
            assert_eq!(second, 1, "{hole}: {records:#?}");
        }
    });
}

#[test]
fn rows_that_were_cut_off_do_no_harm() {
    let row = [&[0xfd, 0xf0, 0x49, 0x02][..], &vec![b'x'; 150_000]].concat();
    let mut bodies = result_set(0, &["a"], 2);
    bodies.insert(3, row);
    let answer = packets(1, &bodies);
    let end = answer.len() - 15;
    let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    for (side, bytes) in logged_in(USUAL, vec![(C, query("SELECT 1"))]) {
        run.say(side, &bytes);
    }
    run.say_part(S, &answer[..4000], end as u64);
    run.say(S, &answer[end..]);
    let records = run.close();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["response"]["rows"], &records[0]["reasons"]), (&json!(2), &json!([])));
    assert_eq!(records[0]["response"]["bytes"], answer.len());
}

/// A payload of 16 MB less one byte goes on in the next packet, which may be empty.
#[test]
fn payloads_of_several_packets_are_one() {
    for extra in [0, 5] {
        let text = [&b"INSERT INTO t VALUES "[..], &vec![b'x'; 0xff_ffff - 22 + extra]].concat();
        let payload = [&[3][..], &text].concat();
        let (first, second) = payload.split_at(0xff_ffff);
        let bytes = [packet(0, &[first]), packet(1, &[second])].concat();
        let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        for (side, bytes) in logged_in(USUAL, vec![]) {
            run.say(side, &bytes);
        }
        bytes.chunks(60_000).for_each(|piece| run.say(C, piece));
        run.say(S, &ok(2));
        let records = run.close();
        assert_eq!(records.len(), 1, "{extra}: {records:?}");
        assert_eq!(records[0]["request"]["bytes"], bytes.len());
        assert_eq!((&records[0]["response"]["status"], &records[0]["reasons"]), (&json!("ok"), &json!([])));
    }
}

#[test]
fn joined_midstream_the_first_pair_says_so() {
    let mut run = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    let transfers = [
        (C, prepare("SELECT c FROM t WHERE a = ?")),
        (S, prepared(0, 1, 1, 1)),
        (C, query("SELECT 1")),
        (S, packets(1, &result_set(DEPRECATE_EOF, &["a"], 2))),
    ];
    transfers.iter().for_each(|(side, bytes)| run.say(*side, bytes));
    let records = run.close();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["reasons"], &records[0]["response"]["parameters"]), (&json!(["midstream"]), &json!(1)));
    assert_eq!((&records[1]["reasons"], &records[1]["response"]["rows"]), (&json!([]), &json!(1)));
}

#[test]
fn what_a_server_says_unasked_is_a_response_alone() {
    let goodbye = error(0, 4031, "HY000", "The client was disconnected by the server because of inactivity.");
    let length = goodbye.len();
    let conversation = logged_in(USUAL, vec![(C, query("SELECT 1")), (S, ok(1)), (S, goodbye)]);
    let records = assert_split_invariant(&REGISTRATION, &script(&conversation));
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["response"]["bytes"], length);
    assert_eq!(records[1]["request"], Value::Null);
    assert_eq!(
        (&records[1]["response"]["error_code"], &records[1]["reasons"]),
        (&json!(4031), &json!(["unsolicited"]))
    );
}

#[test]
fn a_replica_takes_the_connection() {
    let transfers = vec![
        (C, command(0x12, &[4, 0, 0, 0, 0, 0, 9, 0, 0, 0, b'b'])),
        (S, packet(1, &[&[0; 30]])),
        (C, query("SELECT 1")),
    ];
    let records = records(&logged_in(USUAL, transfers));
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["request"]["command"], &records[0]["response"]["status"]),
        (&json!("binlog_dump"), &json!("ok"))
    );
}
