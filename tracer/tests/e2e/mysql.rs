//! MariaDB as a traced server; its client, and a Python driver that prepares statements, as traced clients. Witnesses:
//! the general log, and what the statements are known to do.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::mariadb::{Logged, MariaDb, PASSWORD};
use crate::support::{Differences, Outcome, Place, Row, Tracer, Wire, python, run};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Compressed,
    Tls,
    Unix,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Compressed, Way::Tls, Way::Unix];

impl Way {
    fn wire(self, mariadb: &MariaDb) -> Wire {
        let tcp = Wire { tls: self == Self::Tls, ..Wire::of_server("mysql", mariadb.port) };
        if self == Self::Unix { Wire { server: Place::Path(mariadb.socket()), ..tcp } } else { tcp }
    }

    /// The client's words, which read their statements from a file.
    fn client(self, mariadb: &MariaDb, script: &NamedTempFile) -> Vec<String> {
        let mut words = vec!["sh".to_owned(), "-c".into(), r#"input=$1; shift; exec mariadb "$@" < "$input""#.into()];
        words.extend(["sh".into(), script.path().to_str().expect("UTF-8").into(), "--no-defaults".into()]);
        words.extend(
            ["--batch", "--force", "--local-infile=1", "--max-allowed-packet=64M", "-utester"].map(String::from),
        );
        words.push(format!("-p{PASSWORD}"));
        match self {
            Self::Unix => words.push(format!("--socket={}", mariadb.socket())),
            Self::Plain | Self::Compressed | Self::Tls => {
                words.extend(["-h127.0.0.1".into(), format!("-P{}", mariadb.port)]);
            }
        }
        words.extend(
            match self {
                Self::Tls => &["--ssl"][..],
                Self::Compressed => &["--skip-ssl", "--compress"],
                Self::Plain | Self::Unix => &["--skip-ssl"],
            }
            .iter()
            .map(|word| (*word).to_owned()),
        );
        words.push("shop".into());
        words
    }
}

fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("no temporary file");
    std::fs::write(file.path(), content).expect("cannot write a temporary file");
    file
}

/// Rows for LOAD DATA LOCAL INFILE.
fn rows() -> String {
    (0..5000).map(|number| format!("{number}\tvalue {number}\n")).collect()
}

/// Statements as the client sends them, with what their records say. `data` is a file to load.
fn statements(data: &NamedTempFile) -> Vec<(String, Value)> {
    let ok = |affected: u64| json!({"status": "ok", "affected_rows": affected});
    let set = |rows: u64, columns: u64| json!({"status": "resultset", "rows": rows, "columns": columns});
    let error = |code: u64, state: &str| json!({"status": "error", "error_code": code, "sql_state": state});
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE f", data.path().display());
    let list: Vec<(&str, Value)> = vec![
        ("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40))", ok(0)),
        (
            "INSERT INTO t (name) SELECT CONCAT('name ', seq) FROM seq_1_to_1000",
            json!({"status": "ok",
            "affected_rows": 1000, "info": "Records: 1000  Duplicates: 0  Warnings: 0"}),
        ),
        ("INSERT INTO t (id, name) VALUES (5000, 'last')", ok(1)),
        ("SELECT 1", set(1, 1)),
        ("SELECT * FROM t", set(1001, 2)),
        ("SELECT * FROM t WHERE FALSE", set(0, 2)),
        (
            "UPDATE t SET name = 'x' WHERE id <= 10",
            json!({"affected_rows": 10, "info":
            "Rows matched: 10  Changed: 10  Warnings: 0"}),
        ),
        (
            "SELECT * FROM missing",
            json!({"status": "error", "error_code": 1146, "sql_state": "42S02",
            "error_message": "Table 'shop.missing' doesn't exist"}),
        ),
        ("INSERT INTO t VALUES (1, 'again')", error(1062, "23000")),
        ("SELEC 1", error(1064, "42000")),
        (
            "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2, 3 UNION SELECT 4, 5; UPDATE t SET name = 'y' WHERE id = 1; END",
            ok(0),
        ),
        (
            "CALL p()",
            json!({"status": "resultset", "rows": 3, "results": [{"rows": 1}, {"rows": 2}, {"affected_rows": 1}]}),
        ),
        ("BEGIN", ok(0)),
        ("DELETE FROM t WHERE id > 500", ok(501)),
        ("ROLLBACK", ok(0)),
        ("SELECT REPEAT('0123456789', 200000)", set(1, 1)),
        ("CREATE TABLE f (id INT, name VARCHAR(40))", ok(0)),
        (&load, json!({"status": "ok", "affected_rows": 5000})),
        ("SELECT * FROM f", set(5000, 2)),
        ("SELECT SLEEP(0.3)", set(1, 1)),
        ("DROP TABLE t, f", ok(0)),
        ("SELECT NULL, '', 2", set(1, 3)),
    ];
    list.into_iter().map(|(text, response)| (text.to_owned(), response)).collect()
}

fn script(statements: &[(String, Value)]) -> NamedTempFile {
    let lines: String = statements.iter().map(|(text, _)| format!("{text}//\n")).collect();
    file(&format!("DELIMITER //\n{lines}"))
}

/// The records: one for each statement, and one for the client's goodbye.
fn expected(statements: &[(String, Value)]) -> Vec<Value> {
    let goodbye = json!({"request": {"command": "quit"}, "response": null});
    let queries = statements.iter().map(|(text, response)| {
        let request = json!({"command": "query", "query": text, "user": "tester", "database": "shop"});
        let data = text.starts_with("LOAD").then(|| rows().len());
        json!({"request": request, "response": response}).as_object().cloned().map_or(Value::Null, |mut record| {
            if let Some(bytes) = data {
                record["request"]["data_bytes"] = json!(bytes);
            }
            Value::Object(record)
        })
    });
    queries.chain([goodbye]).collect()
}

/// Compares records with expectations in order. A goodbye has no response, and so no latency.
fn compare(records: &[Value], expected: &[Value], wire: &Wire, differences: &mut Differences) {
    differences.expect(records.len() == expected.len(), || {
        format!("{} records, should be {}: {records:#?}", records.len(), expected.len())
    });
    for (record, expected) in records.iter().zip(expected) {
        wire.compare_connection(record, differences);
        differences.field(record, "/integrity/complete", true);
        differences.members(record, expected);
        if !record["response"].is_null() {
            wire.compare(record, differences);
        }
        if record["request"]["query"] == "SELECT SLEEP(0.3)" {
            differences.between(record, "/latency_ns", 300_000_000, 20_000_000_000);
        }
    }
}

/// What the log calls a command.
fn name_in_log(command: &str) -> &str {
    match command {
        "query" => "Query",
        "quit" => "Quit",
        "init_db" => "Init DB",
        "stmt_prepare" => "Prepare",
        "stmt_execute" => "Execute",
        "stmt_close" => "Close stmt",
        "stmt_reset" => "Reset stmt",
        "stmt_send_long_data" => "Long Data",
        "change_user" => "Change user",
        "ping" => "Ping",
        "statistics" => "Statistics",
        other => other,
    }
}

/// The log leaves out what changes nothing, and what could not be prepared.
fn is_logged(record: &Value) -> bool {
    match record["request"]["command"].as_str().unwrap_or_default() {
        "ping" | "reset_connection" => false,
        "stmt_prepare" => record["response"]["status"] != "error",
        _ => true,
    }
}

/// The same commands of the same connections in the same order as in the general log, and the same texts.
fn compare_with_log(mariadb: &MariaDb, outcome: &Outcome, differences: &mut Differences) {
    let mut records: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for record in outcome.records() {
        let id = record["request"]["connection_id"].as_u64().unwrap_or_default();
        records.entry(id).or_default().push(record);
    }
    for (id, lines) in mariadb.log() {
        let mut records = records.remove(&id).unwrap_or_default();
        records.retain(is_logged);
        let lines: Vec<&Logged> = lines.iter().filter(|(command, _)| command != "Connect").collect();
        let commands = records.iter().map(|record| name_in_log(record["request"]["command"].as_str().unwrap_or("-")));
        differences.expect(commands.clone().eq(lines.iter().map(|(command, _)| command.as_str())), || {
            format!("connection {id}: {:?}, in the log {lines:?}", commands.collect::<Vec<_>>())
        });
        for (record, (command, text)) in records.iter().zip(&lines) {
            match command.as_str() {
                "Query" | "Prepare" => differences.field(record, "/request/query", text.as_str()),
                "Init DB" => differences.field(record, "/request/argument", text.as_str()),
                _ => {}
            }
        }
    }
    differences.expect(records.is_empty(), || format!("not in the log: {records:#?}"));
}

/// The client's statements: each field as the statement makes it, and all as the log has them.
#[test]
fn mariadb_serves() {
    let data = file(&rows());
    let mariadb = MariaDb::start();
    for way in WAYS {
        let statements = statements(&data);
        let script = script(&statements);
        let row = Row::openssl(way == Way::Tls, "mariadbd");
        let tracer = Tracer::attach(&[mariadb.pid()], &["--no-redact", "--max-capture", "256K"]);
        let words = way.client(&mariadb, &script);
        let output = Command::new(&words[0]).args(&words[1..]).output().expect("mariadb runs");
        let expected = expected(&statements);
        tracer.wait_for(expected.len());
        run(Command::new("mariadb").args(["--no-defaults", "-utester", &format!("-p{PASSWORD}")]).args([
            &format!("--socket={}", mariadb.socket()),
            "shop",
            "-e",
            "DROP PROCEDURE p",
        ]));
        tracer.wait_for(expected.len() + 2);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().take(expected.len()).collect();
        let mut differences = Differences::default();
        compare(&records, &expected, &way.wire(&mariadb), &mut differences);
        for record in &records {
            differences.field(record, "/process/comm", "mariadbd");
        }
        differences.assert_none(&format!("mariadb, {way:?}: {}", String::from_utf8_lossy(&output.stderr)));
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// The client traced.
#[test]
fn mariadb_asks() {
    let data = file(&rows());
    for way in WAYS {
        let mariadb = MariaDb::start();
        let statements = statements(&data);
        let script = script(&statements);
        let words = way.client(&mariadb, &script);
        let mut quiet = vec!["sh", "-c", r#"exec "$@" > /dev/null"#, "sh"];
        quiet.extend(words.iter().map(String::as_str));
        let row = Row::openssl(way == Way::Tls, "mariadb");
        let outcome = Tracer::launch(&["--no-redact", "--max-capture", "256K"], &quiet).wait();
        outcome.assert_success();
        let records: Vec<Value> = outcome.records().collect();
        let mut differences = Differences::default();
        let wire = Wire { role: "client", ..way.wire(&mariadb) };
        compare(&records, &expected(&statements), &wire, &mut differences);
        compare_with_log(&mariadb, &outcome, &mut differences);
        differences.assert_none(&format!("mariadb traced, {way:?}: {}", outcome.stderr));
        outcome.ledger().assert_balanced();
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// Statements and rows of more than 16 MiB travel in several packets.
#[test]
fn large_packets() {
    let mariadb = MariaDb::start();
    for way in [Way::Plain, Way::Tls] {
        // Rows first: a buffer that has grown for a long statement is written in one call, whose end is cut off.
        let long = "x".repeat(17 << 20);
        let script = file(&format!("SELECT REPEAT('y', 20000000);\nSELECT LENGTH('{long}');\nSELECT 1;\n"));
        let tracer = Tracer::attach(&[mariadb.pid()], &["--no-redact", "--max-capture", "256K"]);
        let words = way.client(&mariadb, &script);
        run(Command::new(&words[0]).args(&words[1..]));
        tracer.wait_for(4);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let request = "SELECT LENGTH('')".len() + long.len();
        // A header of 4 bytes for each packet, and the command.
        let bytes = request + 1 + 4 * (1 + request / 0xff_ffff);
        let expected = [
            json!({"request": {"query": "SELECT REPEAT('y', 20000000)"}, "response": {"rows": 1, "columns": 1}}),
            json!({"request": {"bytes": bytes, "query_truncated": true}, "response": {"rows": 1, "columns": 1}}),
            json!({"request": {"query": "SELECT 1"}, "response": {"rows": 1}}),
            json!({"request": {"command": "quit"}}),
        ];
        let mut differences = Differences::default();
        compare(&records, &expected, &way.wire(&mariadb), &mut differences);
        let size = records[0]["response"]["bytes"].as_u64().unwrap_or_default();
        differences.expect((20_000_000..20_001_000).contains(&size), || format!("{size} bytes: {}", records[0]));
        differences.assert_none(&format!("large packets, {way:?}"));
        outcome.ledger().assert_nothing_lost();
    }
}

/// A driver that prepares statements on the server, and uses commands that the client doesn't.
const DRIVER: &str = r#"
import datetime, sys
import mysql.connector
from mysql.connector import errors
port, way = int(sys.argv[1]), sys.argv[2]
connection = mysql.connector.connect(host="127.0.0.1", port=port, user="tester", password="geheim", database="shop",
    use_pure=True, ssl_disabled=way != "Tls", compress=way == "Compressed", autocommit=True,
    charset="utf8mb4", collation="utf8mb4_general_ci")
cursor = connection.cursor()
cursor.execute("CREATE TABLE p (id INT, name VARCHAR(40), amount DOUBLE, day DATETIME, data BLOB)")
cursor.close()
cursor = connection.cursor(prepared=True)
insert = "INSERT INTO p VALUES (?, ?, ?, ?, ?)"
for number in range(10):
    day = datetime.datetime(2026, 11, 20, 10, 0, number)
    cursor.execute(insert, (number, "name %d" % number, number + 0.5, day, None))
cursor.close()
cursor = connection.cursor(prepared=True)
for number in (3, 100):
    cursor.execute("SELECT id, name FROM p WHERE id < ?", (number,))
    assert len(cursor.fetchall()) == min(number, 10)
cursor.close()
cursor = connection.cursor(prepared=True)
try:
    cursor.execute("SELECT missing FROM p WHERE id = ?", (1,))
except errors.ProgrammingError as error:
    assert error.errno == 1054, error
connection.cmd_statistics()
connection.cmd_init_db("other")
if way == "Compressed": # The driver can't do both.
    connection.cmd_init_db("shop")
else:
    connection.cmd_change_user(username="other", password="geheim", database="shop", charset=45)
connection.cmd_reset_connection()
cursor = connection.cursor()
cursor.execute("DROP TABLE p")
cursor.close()
connection.close()
"#;

/// The records of the driver's work, without what it asks of itself (SET NAMES and the like).
fn driver_records(way: Way) -> Vec<Value> {
    let insert = "INSERT INTO p VALUES (?, ?, ?, ?, ?)";
    let select = "SELECT id, name FROM p WHERE id < ?";
    let mut expected = vec![
        json!({"request": {"command": "query", "user": "tester", "database": "shop"}, "response": {"status": "ok"}}),
        json!({"request": {"command": "stmt_prepare", "query": insert}, "response": {"parameters": 5}}),
    ];
    for number in 0..10 {
        let day = format!("2026-11-20 10:00:0{number}");
        let parameters = json!([number, format!("name {number}"), f64::from(number) + 0.5, day, null]);
        expected.push(json!({"request": {"command": "stmt_execute", "query": insert, "parameters": parameters},
            "response": {"status": "ok", "affected_rows": 1}}));
    }
    expected.push(json!({"request": {"command": "stmt_prepare", "query": select}, "response": {"parameters": 1}}));
    for (limit, rows) in [(3, 3), (100, 10)] {
        expected.push(json!({"request": {"command": "stmt_execute", "query": select, "parameters": [limit]},
            "response": {"status": "resultset", "rows": rows, "columns": 2}}));
    }
    let user = if way == Way::Compressed { "tester" } else { "other" };
    expected.extend([
        json!({"request": {"command": "stmt_prepare"}, "response": {"status": "error", "error_code": 1054}}),
        json!({"request": {"command": "statistics"}}),
        json!({"request": {"command": "init_db", "argument": "other"}, "response": {"status": "ok"}}),
        match way {
            Way::Compressed => {
                json!({"request": {"command": "init_db", "argument": "shop"}, "response": {"status": "ok"}})
            }
            _ => json!({"request": {"command": "change_user", "argument": "other"}, "response": {"status": "ok"}}),
        },
        json!({"request": {"command": "reset_connection"}, "response": {"status": "ok"}}),
        json!({"request": {"command": "query", "query": "DROP TABLE p", "user": user, "database": "shop"},
            "response": {"status": "ok"}}),
    ]);
    expected
}

/// Those records that the driver's work made: what it prepares, executes and asks, but not how it cleans up.
fn of_work(record: &Value) -> bool {
    let command = record["request"]["command"].as_str().unwrap_or_default();
    let text = record["request"]["query"].as_str().unwrap_or_default();
    match command {
        "query" => text.contains("TABLE p"),
        "stmt_close" | "stmt_reset" | "ping" | "quit" => false,
        _ => true,
    }
}

fn compare_driver(records: &[Value], way: Way, wire: &Wire, differences: &mut Differences) {
    let work: Vec<Value> = records.iter().filter(|record| of_work(record)).cloned().collect();
    compare(&work, &driver_records(way), wire, differences);
}

/// Prepared statements with their parameters, and the commands around them, as the server.
#[test]
fn a_driver_prepares() {
    let mariadb = MariaDb::start();
    for way in [Way::Plain, Way::Compressed, Way::Tls] {
        let tracer = Tracer::attach(&[mariadb.pid()], &["--no-redact"]);
        run(Command::new(python()).args(["-c", DRIVER, &mariadb.port.to_string(), &format!("{way:?}")]));
        tracer.wait_for(driver_records(way).len() + 1);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let mut differences = Differences::default();
        compare_driver(&records, way, &way.wire(&mariadb), &mut differences);
        differences.assert_none(&format!("a driver, {way:?}"));
        outcome.ledger().assert_nothing_lost();
    }
}

/// The driver itself traced; the log agrees.
#[test]
fn a_driver_traced() {
    for way in [Way::Plain, Way::Compressed, Way::Tls] {
        let mariadb = MariaDb::start();
        let port = mariadb.port.to_string();
        let outcome = Tracer::launch(&["--no-redact"], &[&python(), "-c", DRIVER, &port, &format!("{way:?}")]).wait();
        outcome.assert_success();
        let records: Vec<Value> = outcome.records().collect();
        let mut differences = Differences::default();
        compare_driver(&records, way, &Wire { role: "client", ..way.wire(&mariadb) }, &mut differences);
        compare_with_log(&mariadb, &outcome, &mut differences);
        differences.assert_none(&format!("a driver traced, {way:?}"));
        outcome.ledger().assert_nothing_lost();
    }
}

/// A login that fails has a record; no password and no literal is in any.
#[test]
fn logins() {
    let mariadb = MariaDb::start();
    for way in [Way::Plain, Way::Tls, Way::Unix] {
        let tracer = Tracer::attach(&[mariadb.pid()], &[]);
        let script = file("SELECT 'geheim';\nSET PASSWORD FOR other@'%' = PASSWORD('geheim');\n");
        let mut words = way.client(&mariadb, &script);
        run(Command::new(&words[0]).args(&words[1..]));
        for word in words.iter_mut().filter(|word| word.starts_with("-p")) {
            *word = "-pgeheim-not".into();
        }
        let output = Command::new(&words[0]).args(&words[1..]).output().expect("mariadb runs");
        assert!(!output.status.success(), "{output:?}");
        tracer.wait_for(4);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let expected = [
            json!({"request": {"query": "SELECT [redacted]", "normalised_query": "SELECT ?"}, "response": {"rows": 1}}),
            json!({"request": {"command": "query"}, "response": {"status": "ok"}}),
            json!({"request": {"command": "quit"}}),
            json!({"request": {"command": "login", "user": "tester"}, "response": {"status": "error",
                "error_code": 1045, "sql_state": "28000"}}),
        ];
        let mut differences = Differences::default();
        compare(&records, &expected, &way.wire(&mariadb), &mut differences);
        differences.assert_none(&format!("logins, {way:?}"));
        assert!(!(outcome.stdout() + &outcome.stderr).contains(PASSWORD), "{way:?}: {}", outcome.stdout());
    }
}
