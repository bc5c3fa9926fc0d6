//! gRPC: a Python server and client, each traced. The witnesses are what they write down themselves.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Differences, Outcome, Server, Tracer, Wire, make_certificate, python, run, unused_port, wait_until,
};

/// A service without generated code: messages are bytes.
const SERVER: &str = r#"
import concurrent.futures, sys, time
import grpc
port, directory = sys.argv[1:3]
def echo(request, context):
    return request
def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "sold out: 100 %, für immer")
def sleep(request, context):
    time.sleep(1)
    return request
def count(request, context):
    for number in range(int(request)):
        yield b"message %d" % number
def join(requests, context):
    return b",".join(requests)
def talk(requests, context):
    for request in requests:
        yield request
methods = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Service", methods),))
if port.startswith("tls:"):
    key, certificate = (open(directory + "/" + name, "rb").read() for name in ("key.pem", "cert.pem"))
    server.add_secure_port("127.0.0.1:" + port[4:], grpc.ssl_server_credentials([(key, certificate)]))
else:
    server.add_insecure_port("127.0.0.1:" + port)
server.start()
open(directory + "/ready", "w").close()
server.wait_for_termination()
"#;

/// Writes a line for each call, in the order in which they begin: method, messages sent, messages received, status. Its
/// third argument is how many calls it makes at once.
const CLIENT: &str = r#"
import json, sys
import grpc
port, directory = sys.argv[1:3]
if port.startswith("tls:"):
    credentials = grpc.ssl_channel_credentials(open(directory + "/cert.pem", "rb").read())
    channel = grpc.secure_channel("127.0.0.1:" + port[4:], credentials)
else:
    channel = grpc.insecure_channel("127.0.0.1:" + port)
log = open(directory + "/calls", "w")
def note(method, sent, received, code, message=None):
    print(json.dumps([method, sent, received, code.value[0], message]), file=log)
def path(method):
    return "/test.v1.Service/" + method
def unary(method, message, timeout=20):
    try:
        reply = channel.unary_unary(path(method))(message, timeout=timeout)
        note(method, 1, 1, grpc.StatusCode.OK)
        return reply
    except grpc.RpcError as error:
        note(method, 1, 0, error.code(), error.details())
for size in (0, 1, 100, 70000):
    assert unary("Echo", b"x" * size) == b"x" * size
unary("Refuse", b"please")
unary("Missing", b"anyone")
replies = list(channel.unary_stream(path("Count"))(b"5"))
note("Count", 1, len(replies), grpc.StatusCode.OK)
channel.stream_unary(path("Join"))(iter([b"a", b"b", b"c", b"d"]))
note("Join", 4, 1, grpc.StatusCode.OK)
replies = list(channel.stream_stream(path("Talk"))(iter([b"one", b"two", b"three"])))
note("Talk", 3, len(replies), grpc.StatusCode.OK)
unary("Sleep", b"too long", timeout=0.3)
echo = channel.unary_unary(path("Echo"))
at_once = int(sys.argv[3])
for first in range(0, 100, at_once):
    futures = [echo.future(b"call %d" % number) for number in range(first, min(first + at_once, 100))]
    for future in futures:
        future.result()
        note("Echo", 1, 1, grpc.StatusCode.OK)
channel.close()
"#;

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
        command.args(["-c", SERVER]).args(arguments(port, tls, &directory));
        let server = Server::start(&command, Signal::TERM);
        wait_until("the gRPC server is ready", || directory.path().join("ready").exists());
        Self { port, tls, server, directory }
    }

    fn arguments(&self) -> [String; 2] {
        arguments(self.port, self.tls, &self.directory)
    }

    fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("calls")).expect("the client's log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn wire(&self, role: &'static str) -> Wire {
        Wire { role, ..Wire::of_server("grpc", self.port) }
    }
}

/// What both scripts are told.
fn arguments(port: u16, tls: bool, directory: &TempDir) -> [String; 2] {
    let port = if tls { format!("tls:{port}") } else { port.to_string() };
    [port, directory.path().to_str().expect("UTF-8").into()]
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

fn serves(tls: bool) {
    let service = Service::start(tls);
    let tracer = Tracer::attach(&[service.server.pid()], &["--max-capture", "256K"]);
    run(Command::new(python()).args(["-c", CLIENT]).args(service.arguments()).arg("100"));
    tracer.wait_for(service.calls().len());
    compare(&service, &tracer.stop(), "server");
}

fn asks(tls: bool) {
    let service = Service::start(tls);
    let [port, directory] = service.arguments();
    let outcome =
        Tracer::launch(&["--max-capture", "256K"], &[&python(), "-c", CLIENT, &port, &directory, AT_ONCE]).wait();
    outcome.assert_success();
    compare(&service, &outcome, "client");
}

#[test]
fn server() {
    serves(false);
}

#[test]
fn client() {
    asks(false);
}
