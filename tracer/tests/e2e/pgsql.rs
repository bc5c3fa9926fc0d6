//! PostgreSQL as a traced server, psql as a traced client. Witnesses: the server's log with its durations, what
//! pgbench says it did, and what the statements themselves are known to do.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::postgres::{Logged, PASSWORD, Postgres, program};
use crate::support::{Differences, Outcome, Place, Row, Server, Tracer, Wire, run, virtual_machine, wait_until};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Unix,
}

const WAYS: [Way; 3] = [Way::Plain, Way::Tls, Way::Unix];

impl Way {
    fn host(self, postgres: &Postgres) -> String {
        match self {
            Self::Plain | Self::Tls => "127.0.0.1".into(),
            Self::Unix => postgres.directory().to_str().expect("UTF-8").into(),
        }
    }

    fn wire(self, postgres: &Postgres) -> Wire {
        let tcp = Wire { tls: self == Self::Tls, ..Wire::of_server("pgsql", postgres.port) };
        if self == Self::Unix { Wire { server: Place::Path(postgres.socket()), ..tcp } } else { tcp }
    }

    /// A server that is to be traced with such a client.
    fn server(self) -> Postgres {
        if self == Self::Tls { Postgres::start_patient() } else { Postgres::start() }
    }

    fn client(self, postgres: &Postgres, name: &str) -> Command {
        postgres.client(&self.host(postgres), self == Self::Tls, name)
    }
}

/// Statements with what their records say.
///
/// libpq receives a large row and what follows in one call, of which the capture limit cuts off the end: `repeated` is
/// for who sends rows.
fn statements(repeated: u32) -> Vec<(String, Value)> {
    let ok = |tag: &str| json!({"status": "ok", "command_tag": tag});
    let error = |code: &str, message: &str| json!({"status": "error", "error_code": code, "error_message": message});
    let repeat = format!("SELECT repeat('0123456789', {repeated})");
    let list = vec![
        ("CREATE TABLE t (id int PRIMARY KEY, name text)", ok("CREATE TABLE")),
        (
            "INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 1000) n",
            json!({"command_tag": "INSERT 0 1000", "affected_rows": 1000}),
        ),
        ("SELECT 1", json!({"command_tag": "SELECT 1", "rows": 1, "columns": 1, "transaction_status": "idle"})),
        ("SELECT * FROM t", json!({"command_tag": "SELECT 1000", "rows": 1000, "columns": 2})),
        ("SELECT * FROM t WHERE false", json!({"rows": 0, "columns": 2})),
        ("UPDATE t SET name = 'x' WHERE id <= 10", json!({"affected_rows": 10, "command_tag": "UPDATE 10"})),
        ("SELECT * FROM missing", error("42P01", "relation \"missing\" does not exist")),
        ("SELECT 1/0", error("22012", "division by zero")),
        ("INSERT INTO t VALUES (1, 'again')", json!({"status": "error", "error_code": "23505", "severity": "ERROR"})),
        ("DO 'begin raise notice ''look''; end'", ok("DO")),
        ("BEGIN", json!({"command_tag": "BEGIN", "transaction_status": "in_transaction"})),
        ("SELECT nothing", json!({"error_code": "42703", "transaction_status": "failed"})),
        ("SELECT 2", error("25P02", "current transaction is aborted, commands ignored until end of transaction block")),
        ("ROLLBACK", json!({"command_tag": "ROLLBACK", "transaction_status": "idle"})),
        (&repeat, json!({"rows": 1, "columns": 1})),
        ("LISTEN here", ok("LISTEN")),
        ("NOTIFY here, 'word'", ok("NOTIFY")),
        ("SELECT 3", json!({"rows": 1})),
        ("DELETE FROM t WHERE id > 500", json!({"affected_rows": 500})),
        ("DROP TABLE t", ok("DROP TABLE")),
    ];
    list.into_iter().map(|(text, response)| (text.to_owned(), response)).collect()
}

/// Their records.
fn expected(statements: &[(String, Value)]) -> Vec<Value> {
    let record = |(text, response): &(String, Value)| json!({"request": {"command": "query", "query": format!("{text};")}, "response": response});
    statements.iter().map(record).collect()
}

/// psql's input: one statement a line.
fn script(statements: &[(String, Value)]) -> String {
    statements.iter().map(|(text, _)| format!("{text};\n")).collect()
}

/// Runs psql with that input.
fn psql(postgres: &Postgres, way: Way, input: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(file.path(), input).expect("cannot write a temporary file");
    let mut command = way.client(postgres, "psql");
    command.args(["-X", "-q", "-At", "-f"]).arg(file.path());
    String::from_utf8(run(&mut command).stdout).expect("UTF-8")
}

/// Records by the port of the client, in order; `None` for unix sockets.
fn by_port(records: impl Iterator<Item = Value>) -> BTreeMap<Option<u64>, Vec<Value>> {
    let mut ports: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for record in records {
        ports.entry(record.pointer("/connection/remote/port").and_then(Value::as_u64)).or_default().push(record);
    }
    for records in ports.values_mut() {
        records.sort_by_key(|record| record["sequence"].as_u64());
    }
    ports
}

/// Compares with the log: the same statements of the same clients in the same order, and no less time than the server
/// says it took.
fn compare_with_log(postgres: &Postgres, outcome: &Outcome, wire: &Wire, differences: &mut Differences) -> usize {
    let log = postgres.log();
    let records = by_port(outcome.records().filter(|record| record["response"]["status"] != "skipped"));
    differences.expect(records.keys().eq(log.keys()), || {
        format!("records of {:?}, statements of {:?}", records.keys(), log.keys())
    });
    for (port, logged) in &log {
        let records = records.get(port).map_or(&[][..], Vec::as_slice);
        differences.expect(records.len() == logged.len(), || {
            format!("client {port:?}: {} records, {} statements in the log", records.len(), logged.len())
        });
        for (record, logged) in records.iter().zip(logged) {
            wire.compare(record, differences);
            differences.field(record, "/integrity/complete", true);
            differences.field(record, "/connection/remote/port", *port);
            differences.field(record, "/request/user", "postgres");
            differences.field(record, "/request/database", "postgres");
            compare_statement(record, logged, differences);
        }
    }
    log.values().map(Vec::len).sum()
}

fn compare_statement(record: &Value, logged: &Logged, differences: &mut Differences) {
    let text = record["request"]["query"].as_str().unwrap_or_default();
    differences
        .expect(text.trim_end_matches(';') == logged.text.trim_end_matches(';'), || format!("{logged:?}: {record}"));
    differences.field(record, "/response/error_code", logged.error.clone());
    let Some(nanoseconds) = logged.nanoseconds else { return };
    differences.field(record, "/request/command", logged.command);
    let latency = record["latency_ns"].as_u64().unwrap_or_default();
    // The server takes its time from its own clock, and writes the log before it answers.
    differences.expect(latency + 100_000 >= nanoseconds, || format!("shorter than {logged:?}: {record}"));
    if let Some(detail) = &logged.detail {
        let values = record["request"]["parameters"].as_array().cloned().unwrap_or_default();
        let values = values.iter().enumerate().map(|(place, value)| {
            let value = value.as_str().map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"));
            format!("${} = {value}", place + 1)
        });
        let said = format!("parameters: {}", values.collect::<Vec<_>>().join(", "));
        differences.expect(detail.to_lowercase() == said.to_lowercase(), || format!("{logged:?}: {said}: {record}"));
    }
}

/// psql's statements: each field as the statement makes it, and all as the log has them.
#[test]
fn psql_asks() {
    for way in WAYS {
        let postgres = way.server();
        let row = Row::openssl(way == Way::Tls, "postgres");
        let tracer = Tracer::attach(&[postgres.pid()], &["--no-redact"]);
        let statements = statements(200_000);
        psql(&postgres, way, &script(&statements));
        tracer.wait_for(statements.len());
        let outcome = tracer.stop();
        let expected = expected(&statements);
        let mut differences = Differences::default();
        let records: Vec<Value> = outcome.records().collect();
        let wire = way.wire(&postgres);
        wire.compare_all(&records, &expected, &mut differences);
        compare_with_log(&postgres, &outcome, &wire, &mut differences);
        for record in &records {
            differences.field(record, "/process/comm", "postgres");
            differences.field(record, "/process/pid", record["request"]["backend_pid"].clone());
            differences.field(record, "/request/application_name", "psql");
        }
        differences.assert_none(&format!("psql, {way:?}"));
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// COPY in both directions: rows and bytes, and what follows on the connection.
#[test]
fn copies() {
    for way in WAYS {
        let postgres = way.server();
        let tracer = Tracer::attach(&[postgres.pid()], &["--no-redact"]);
        let rows: String = (0..20_000).map(|number| format!("{number}\tvalue {number}\n")).collect();
        let input = format!(
            "CREATE TABLE t (id int, name text);\nCOPY t FROM STDIN;\n{rows}\\.\nSELECT count(*) FROM t;\n\
             COPY t TO STDOUT;\nCOPY t FROM STDIN;\nbroken\n\\.\nSELECT 1;\n"
        );
        let output = psql(&postgres, way, &input);
        // psql sends the end mark, too.
        let end = "\\.\n".len();
        assert_eq!(output, format!("20000\n{rows}1\n"), "psql");
        let expected = [
            json!({"response": {"command_tag": "CREATE TABLE"}}),
            json!({"request": {"command": "copy", "query": "COPY t FROM STDIN;", "copy_bytes": rows.len() + end},
                "response": {"command_tag": "COPY 20000", "rows": 20_000}}),
            json!({"response": {"rows": 1}}),
            json!({"request": {"command": "copy", "query": "COPY t TO STDOUT;"},
                "response": {"command_tag": "COPY 20000", "rows": 20_000, "copy_bytes": rows.len()}}),
            json!({"request": {"command": "copy", "copy_bytes": 7 + end}, "response": {"error_code": "22P02"}}),
            json!({"response": {"rows": 1}}),
        ];
        tracer.wait_for(expected.len());
        let outcome = tracer.stop();
        let mut differences = Differences::default();
        let records: Vec<Value> = outcome.records().collect();
        way.wire(&postgres).compare_all(&records, &expected, &mut differences);
        differences.assert_none(&format!("COPY, {way:?}"));
        outcome.ledger().assert_nothing_lost();
    }
}

/// pgbench in each of its modes: as many statements as it says it made transactions, and each as the log has it.
#[test]
fn pgbench() {
    const STATEMENTS: usize = 7;
    let transactions = if virtual_machine() { 20 } else { 200 };
    for (way, mode) in
        [(Way::Plain, "simple"), (Way::Plain, "extended"), (Way::Plain, "prepared"), (Way::Unix, "extended")]
    {
        let postgres = Postgres::start();
        run(way.client(&postgres, "pgbench").args(["-i", "-q", "-n"]));
        let before: usize = postgres.log().values().map(Vec::len).sum();
        let tracer = Tracer::attach(&[postgres.pid()], &["--no-redact"]);
        let mut command = way.client(&postgres, "pgbench");
        command.args(["-n", "-M", mode, "-c", "4", "-j", "2", "-t", &transactions.to_string()]);
        let output = String::from_utf8(run(&mut command).stdout).expect("UTF-8");
        let made = 4 * transactions;
        assert!(output.contains(&format!("actually processed: {made}/{made}")), "{output}");
        let logged: usize = postgres.log().values().map(Vec::len).sum::<usize>() - before;
        tracer.wait_for(logged);
        let outcome = tracer.stop();
        let mut differences = Differences::default();
        let mut by_verb: BTreeMap<String, usize> = BTreeMap::new();
        let log = postgres.log();
        for (port, records) in by_port(outcome.records()) {
            let statements = log.get(&port).map_or(&[][..], Vec::as_slice);
            // Unix sockets have no port, and the clients can't be told apart in the log.
            let comparable = way != Way::Unix;
            differences.expect(!comparable || records.len() == statements.len(), || {
                format!("client {port:?}: {} records, {} in the log", records.len(), statements.len())
            });
            for (place, record) in records.iter().enumerate() {
                way.wire(&postgres).compare(record, &mut differences);
                differences.field(record, "/integrity/complete", true);
                if comparable && let Some(logged) = statements.get(place) {
                    compare_statement(record, logged, &mut differences);
                    differences.field(record, "/sequence", place);
                }
                let words: Vec<&str> =
                    record["request"]["query"].as_str().unwrap_or_default().split([' ', ';']).take(2).collect();
                *by_verb.entry(words.join(" ")).or_default() += 1;
            }
        }
        let context = format!("pgbench -M {mode}, {way:?}: {by_verb:?}");
        differences.assert_none(&context);
        let total: usize = by_verb.values().sum();
        assert_eq!(total, logged, "{context}");
        // BEGIN, UPDATE, SELECT, UPDATE, UPDATE, INSERT, END; what else there is, pgbench asks before it begins.
        let of_transactions = [
            "BEGIN ",
            "UPDATE pgbench_accounts",
            "SELECT abalance",
            "UPDATE pgbench_tellers",
            "UPDATE pgbench_branches",
            "INSERT INTO",
            "END ",
        ];
        assert_eq!(of_transactions.len(), STATEMENTS);
        for name in of_transactions {
            assert_eq!(by_verb.get(name), Some(&made), "{name}: {context}");
        }
        outcome.ledger().assert_nothing_lost();
    }
}

/// Several statements under way at once, one of which fails: those behind it are skipped, up to the next Sync.
#[test]
fn pipelines() {
    let postgres = Postgres::start();
    let tracer = Tracer::attach(&[postgres.pid()], &["--no-redact"]);
    let script = tempfile::NamedTempFile::new().expect("no temporary file");
    let pipelines = "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT 3;\n\\endpipeline\n\\startpipeline\nSELECT 4;\n\
                     SELECT 5/0;\nSELECT 6;\n\\endpipeline\n";
    std::fs::write(script.path(), pipelines).expect("cannot write a temporary file");
    let mut command = Way::Plain.client(&postgres, "pgbench");
    command.args(["-n", "-M", "extended", "-c", "1", "-t", "1", "-f"]).arg(script.path());
    let output = command.output().expect("pgbench runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("division by zero"), "{stderr}");
    tracer.wait_for(6);
    let outcome = tracer.stop();
    let executed =
        outcome.records().filter(|record| record["request"]["query"].as_str().is_some_and(|text| text.len() < 12));
    let records: Vec<Value> = executed.collect();
    let mut in_order: Vec<&Value> = records.iter().collect();
    in_order.sort_by_key(|record| record["sequence"].as_u64());
    let of = |number: &str, response: Value| json!({"request": {"query": format!("SELECT {number};")}, "response": response});
    let expected = [
        of("1", json!({"status": "ok", "rows": 1})),
        of("2", json!({"status": "ok", "rows": 1})),
        of("3", json!({"status": "ok", "rows": 1, "transaction_status": "idle"})),
        of("4", json!({"status": "ok", "rows": 1})),
        of("5/0", json!({"status": "error", "error_code": "22012"})),
        of("6", json!({"status": "skipped"})),
    ];
    let mut differences = Differences::default();
    differences.expect(records.len() == expected.len(), || format!("{records:#?}"));
    for (record, expected) in in_order.iter().zip(&expected) {
        differences.members(record, expected);
        Way::Plain.wire(&postgres).compare_connection(record, &mut differences);
    }
    compare_with_log(&postgres, &outcome, &Way::Plain.wire(&postgres), &mut differences);
    differences.assert_none(&format!("pipelines: {records:#?}"));
}

/// A statement that is cancelled, and the connection that says so.
#[test]
fn cancel_requests() {
    let postgres = Postgres::start();
    let tracer = Tracer::attach(&[postgres.pid()], &[]);
    let mut command = Way::Plain.client(&postgres, "psql");
    command.args(["-X", "-c", "SELECT pg_sleep(60)"]);
    let mut client = Server::start(&command, Signal::INT);
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'";
    let mut asked = 0;
    wait_until("psql waits", || {
        asked += 1;
        psql(&postgres, Way::Plain, active).trim() == "1"
    });
    client.stop("psql");
    tracer.wait_for(asked + 2);
    let records: Vec<Value> = tracer.stop().records().collect();
    let find = |name: &str, value: &str| {
        let found: Vec<_> = records.iter().filter(|record| record["request"][name] == value).collect();
        assert_eq!(found.len(), 1, "{value}: {records:#?}");
        found[0]
    };
    let (cancelled, cancel) = (find("query", "SELECT pg_sleep(?)"), find("command", "cancel"));
    assert_eq!(cancelled["response"]["error_code"], "57014", "{cancelled}");
    assert_eq!(cancel["request"]["backend_pid"], cancelled["request"]["backend_pid"], "{cancel}");
    assert_ne!(cancel["connection"]["id"], cancelled["connection"]["id"], "{cancel}");
    assert_eq!(records.len(), asked + 2, "{records:#?}");
}

/// A login that fails has a record; no password is in any. (Each connection is a process of its own: with TLS, the
/// probes of the second come too late for it. See docs/limits.md.)
#[test]
fn logins() {
    for way in [Way::Plain, Way::Unix] {
        let postgres = Postgres::start();
        let tracer = Tracer::attach(&[postgres.pid()], &[]);
        psql(&postgres, way, "SELECT 'geheim';\nALTER USER postgres PASSWORD 'geheim';\n");
        let mut wrong = way.client(&postgres, "psql");
        let output =
            wrong.args(["-X", "-c", "SELECT 1", "dbname=postgres password=geheim-not"]).output().expect("psql");
        assert!(!output.status.success(), "{output:?}");
        tracer.wait_for(3);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let mut differences = Differences::default();
        let expected = [
            json!({"request": {"query": "SELECT [redacted];", "normalised_query": "SELECT ?;"}, "response": {"rows": 1}}),
            json!({"request": {"command": "query"}, "response": {"command_tag": "ALTER ROLE"}}),
            json!({"request": {"command": "startup", "user": "postgres", "database": "postgres"},
                "response": {"status": "error", "error_code": "28P01", "severity": "FATAL"}}),
        ];
        differences.expect(records.len() == expected.len(), || format!("{records:#?}"));
        for (record, expected) in records.iter().zip(&expected) {
            differences.members(record, expected);
            way.wire(&postgres).compare(record, &mut differences);
        }
        differences.assert_none(&format!("logins, {way:?}"));
        assert!(!(outcome.stdout() + &outcome.stderr).contains(PASSWORD), "{way:?}: {}", outcome.stdout());
    }
}

/// psql itself traced: what it asked, as it asked it.
#[test]
fn psql_traced() {
    for way in WAYS {
        let postgres = Postgres::start();
        let file = tempfile::NamedTempFile::new().expect("no temporary file");
        let statements = statements(200);
        std::fs::write(file.path(), script(&statements)).expect("cannot write a temporary file");
        let mut launched = vec!["env".to_owned()];
        launched.extend(postgres.environment(&way.host(&postgres), way == Way::Tls));
        launched.extend([program("psql"), "-X".into(), "-q".into(), "-o".into(), "/dev/null".into(), "-f".into()]);
        launched.push(file.path().to_str().expect("UTF-8").into());
        let launched: Vec<&str> = launched.iter().map(String::as_str).collect();
        let row = Row::openssl(way == Way::Tls, "psql");
        let outcome = Tracer::launch(&["--no-redact"], &launched).wait();
        outcome.assert_success();
        let expected = expected(&statements);
        let mut differences = Differences::default();
        let wire = Wire { role: "client", ..way.wire(&postgres) };
        wire.compare_all(&outcome.records().collect::<Vec<_>>(), &expected, &mut differences);
        differences.assert_none(&format!("psql traced, {way:?}"));
        outcome.ledger().assert_balanced();
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}
