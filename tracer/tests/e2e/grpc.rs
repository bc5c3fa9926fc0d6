//! gRPC: a Python server and client, each traced. The witnesses are what they write down themselves.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Differences, Held, Outcome, Row, Server, Tracer, Wire, make_certificate, python, run, unused_port, wait_until,
};

/// The service and its client: see there. The client writes a line for each call, in the order in which they begin:
/// method, messages sent, messages received, status.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/goldens/programs/grpc_service.py");

/// Calls that the client makes at once of a traced server.
const MANY_AT_ONCE: &str = "100";

/// Calls that a traced client makes at once. What it has to say it sends in one call, in some 25 pieces for each of them,
/// of which only the first 52 are seen (docs/limits.md).
const AT_ONCE: &str = "2";

/// The server, ready.
struct Service {
    port: u16,
    tls: bool,
    server: Server,
    directory: TempDir,
}

impl Service {
    fn start(tls: bool) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        make_certificate(directory.path());
        let port = unused_port();
        let mut command = Command::new(python());
        command.args([PROGRAM, "serve", &port.to_string()]).args(tls_arguments(tls, &directory));
        let server = Server::start(&command, Signal::TERM);
        wait_until("the gRPC server is ready", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, tls, server, directory }
    }

    /// What the client is told.
    fn ask(&self, at_once: &str) -> Vec<String> {
        let log = path(&self.directory.path().join("calls"));
        let port = self.port.to_string();
        let fixed = [PROGRAM, "ask", &port, "--log", &log, "--size", "70000", "--calls", "100", "--at-once", at_once];
        fixed.map(str::to_owned).into_iter().chain(tls_arguments(self.tls, &self.directory)).collect()
    }

    fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("calls")).expect("the client's log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn wire(&self, role: &'static str) -> Wire {
        Wire { role, ..Wire::of_server("grpc", self.port) }
    }
}

fn tls_arguments(tls: bool, directory: &TempDir) -> Vec<String> {
    if tls { vec!["--tls".to_owned(), path(directory.path())] } else { vec![] }
}

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// The record of each call. Those that were under way at once are alike.
fn compare(service: &Service, outcome: &Outcome, role: &'static str) {
    let calls = service.calls();
    let mut records: Vec<Value> = outcome.records().collect();
    records.sort_by_key(|record| record["sequence"].as_u64());
    let mut differences = Differences::default();
    differences.expect(records.len() == calls.len(), || format!("{} records, {} calls", records.len(), calls.len()));
    for (sequence, (record, call)) in records.iter().zip(&calls).enumerate() {
        let overdue = call[3] == 4;
        differences.members(
            record,
            &json!({
                "protocol": "grpc",
                "sequence": sequence,
                "request": {"service": "test.v1.Service", "method": call[0], "version": "2",
                    "path": format!("/test.v1.Service/{}", call[0].as_str().unwrap_or("?"))},
            }),
        );
        if service.tls {
            differences.field(record, "/connection/tls/library", "boringssl");
            differences.field(record, "/connection/role", role);
        } else {
            service.wire(role).compare_connection(record, &mut differences);
        }
        if overdue {
            // Server and client both see the time pass: which of them says so first differs.
            continue;
        }
        differences.members(
            record,
            &json!({
                "request": {"messages": call[1]},
                "response": {"status": 200, "grpc_status": call[3], "messages": call[2]},
                "integrity": {"complete": true},
            }),
        );
        if call[4].as_str().is_some_and(|message| message.contains("sold out")) {
            differences.field(record, "/response/grpc_message", call[4].clone());
        }
    }
    differences.assert_none(&format!("gRPC {role}, TLS {}", service.tls));
    outcome.ledger().assert_balanced();
    outcome.ledger().assert_nothing_lost();
}

fn serves(tls: bool) -> Outcome {
    let service = Service::start(tls);
    let tracer = Tracer::attach(&[service.server.pid()], &["--max-capture", "256K"]);
    run(Command::new(python()).args(service.ask(MANY_AT_ONCE)));
    tracer.wait_for(service.calls().len());
    let outcome = tracer.stop();
    compare(&service, &outcome, "server");
    outcome
}

fn asks(tls: bool) -> Outcome {
    let service = Service::start(tls);
    let client = Held::start(Command::new(python()).args(service.ask(AT_ONCE)).arg("--wait"));
    let tracer = Tracer::attach(&[client.pid()], &["--max-capture", "256K"]);
    client.go("\n");
    let outcome = tracer.wait();
    outcome.assert_success();
    compare(&service, &outcome, "client");
    outcome
}

#[test]
fn server() {
    serves(false);
}

#[test]
fn client() {
    asks(false);
}

/// gRPC's package has BoringSSL linked in, without symbols.
const LIBRARY: [&str; 2] = ["BoringSSL (gRPC 1.85)", "error reports of the stripped library"];

#[test]
fn tls_server() {
    let row = Row::new(LIBRARY[0], LIBRARY[1], "grpcio server");
    row.passed(serves(true).records());
}

#[test]
fn tls_client() {
    let row = Row::new(LIBRARY[0], LIBRARY[1], "grpcio client");
    row.passed(asks(true).records());
}
