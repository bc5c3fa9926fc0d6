//! rustls: a program built here, whose own log says what it did.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Held, Outcome, Row, Tracer, certificate, logged, run, wait_until};

/// The program of one name, built with one feature; each build is made once.
fn build(feature: &str, name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/rustls");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rustls-programs").join(feature);
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--locked", "--quiet", "--features", feature, "--target-dir"]).arg(&target);
    run(command.current_dir(source).env_remove("RUSTFLAGS"));
    target.join("release").join(name)
}

const HYPER: &str = "hyper";

/// The one that uses rustls itself, with ciphers of one provider.
fn program(provider: &str) -> PathBuf {
    // With hyper's, which has the ciphers of ring.
    build(if provider == "ring" { HYPER } else { provider }, "rustls-program")
}

/// A server and a client, and their logs.
struct Pair {
    server: Held,
    client: Held,
    directory: TempDir,
}

impl Pair {
    fn start(program: &Path, threads: usize, count: usize, version: &str) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        certificate::make(directory.path());
        let file = |name: &str| directory.path().join(name);
        let mut server = Command::new(program);
        server.arg("server").arg(file("server.log")).args([file("cert.pem"), file("key.pem"), file("port")]);
        let server = Held::start_until(&server, "ready");
        let port = std::fs::read_to_string(file("port")).expect("a port");
        let mut client = Command::new(program);
        client.arg("client").arg(file("client.log")).args([&*port, &threads.to_string(), &count.to_string(), version]);
        let client = Held::start_until(&client, "ready");
        Self { server, client, directory }
    }

    fn attach(&self) -> Tracer {
        Tracer::attach(&[self.server.pid(), self.client.pid()], &[])
    }

    fn log(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join(name)).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// Every thread of the client makes its requests, on the session that it has.
    fn round(&mut self, name: &str, total: usize) {
        self.client.send(&format!("{name}\n"));
        wait_until("the programs have logged their requests", || {
            self.log("client.log").len() >= total && self.log("server.log").len() >= total
        });
    }

    /// The logs behind their first `before` lines.
    fn logs(&self, before: usize) -> [Vec<Value>; 2] {
        ["client.log", "server.log"].map(|name| self.log(name).split_off(before))
    }
}

fn row(provider: &'static str, peer: &'static str) -> Row {
    Row::new(if provider == "ring" { "rustls 0.23, ring" } else { "rustls 0.23, aws-lc-rs" }, FOUND, peer)
}

const FOUND: &str = "symbol table of the executable";

const THREADS: usize = 6;
const COUNT: usize = 14;

/// Sessions that begin under the tracer, several at once. `what`: the version of TLS or of HTTP that they speak.
fn both_ends(program: &Path, what: &str) -> Outcome {
    let mut pair = Pair::start(program, THREADS, COUNT, what);
    let tracer = pair.attach();
    pair.round("first", THREADS * COUNT);
    pair.round("second", 2 * THREADS * COUNT);
    tracer.wait_for(4 * THREADS * COUNT);
    let outcome = tracer.stop();
    logged::compare(&pair.logs(0), &outcome, "rustls", &["ciphertext"], what);
    assert_eq!(outcome.ledger().get("calls unverified records"), 0);
    outcome
}

#[test]
fn ring_tls_1_3() {
    let row = row("ring", "TLS 1.3, std sockets, new keys now and then, sessions that change threads");
    row.passed(both_ends(&program("ring"), "1.3").records());
}

#[test]
fn ring_tls_1_2() {
    let row = row("ring", "TLS 1.2, std sockets, sessions that change threads");
    row.passed(both_ends(&program("ring"), "1.2").records());
}

#[test]
#[ignore = "takes minutes: aws-lc-rs is C that has to be built"]
fn aws_lc_tls_1_3() {
    let row = row("aws-lc-rs", "TLS 1.3, std sockets, new keys now and then, sessions that change threads");
    row.passed(both_ends(&program("aws-lc-rs"), "1.3").records());
}

#[test]
#[ignore = "takes minutes: aws-lc-rs is C that has to be built"]
fn aws_lc_tls_1_2() {
    let row = row("aws-lc-rs", "TLS 1.2, std sockets, sessions that change threads");
    row.passed(both_ends(&program("aws-lc-rs"), "1.2").records());
}

/// An asynchronous server and client: hyper on tokio-rustls.
#[test]
fn hyper() {
    let row = row("ring", "hyper on tokio-rustls");
    row.passed(both_ends(&build(HYPER, "hyper-program"), "http/1.1").records());
}

#[test]
fn hyper_http2() {
    let row = row("ring", "hyper on tokio-rustls, HTTP/2");
    row.passed(both_ends(&build(HYPER, "hyper-program"), "h2").records());
}

/// Sessions that the tracer finds open.
#[test]
fn sessions_open_before() {
    let row = row("ring", "TLS 1.3, sessions open before");
    let mut pair = Pair::start(&program("ring"), THREADS, COUNT, "1.3");
    let before = THREADS * COUNT;
    pair.round("before", before);
    let tracer = pair.attach();
    pair.round("after", 2 * before);
    tracer.wait_for(2 * before);
    let outcome = tracer.stop();
    logged::compare(&pair.logs(before), &outcome, "rustls", &["ciphertext"], "open before");
    row.passed(outcome.records());
}

/// Without symbols nothing is sure: it is said, and nothing is shown.
#[test]
fn stripped() {
    let directory = tempfile::tempdir().expect("no temporary directory");
    let stripped = directory.path().join("stripped");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(program("ring")));
    let mut pair = Pair::start(&stripped, 1, 3, "1.3");
    let tracer = pair.attach();
    pair.round("first", 3);
    let outcome = tracer.stop();
    assert_eq!(outcome.records().count(), 0);
    let warnings: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("rustls")).collect();
    assert_eq!(warnings.len(), 1, "one for the file: {}", outcome.stderr);
    assert!(warnings[0].contains("is not seen"), "{warnings:?}");
}
