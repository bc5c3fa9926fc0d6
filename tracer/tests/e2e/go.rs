//! Go's crypto/tls: programs built here, whose own log says what they did.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::logged;
use crate::support::{Outcome, Row, Server, Tracer, bound, certificate, run, signal, virtual_machine, wait_until};

/// The ways to build the program, and what `go build` is told for each.
const BUILDS: [(&str, &[&str]); 4] = [
    ("program", &[]),
    ("stripped", &["-ldflags=-s -w"]),
    ("pie", &["-buildmode=pie", "-ldflags=-s -w"]),
    ("external", &["-ldflags=-linkmode=external"]),
];

/// Versions of Go other than the machine's that `scripts/fetch-go` has downloaded: `TRACER_GO_VERSIONS` names them, by
/// default the newest that Debian has.
fn fetched_versions() -> Vec<String> {
    let versions = std::env::var("TRACER_GO_VERSIONS").unwrap_or_else(|_| "1.27".to_owned());
    versions.split_whitespace().map(str::to_owned).collect()
}

/// The program, built in one of [`BUILDS`] by the machine's Go.
pub fn program(name: &str) -> PathBuf {
    built(None, name)
}

/// The program, built by the machine's Go or by a version that has been fetched. Each build is made once, and none in a
/// guest, which would take minutes: `scripts/vm-test` has them made before.
fn built(version: Option<&str>, name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-programs");
    let built = directory.join(version.map_or_else(|| name.to_owned(), |version| format!("{name}-{version}")));
    if virtual_machine() {
        assert!(built.exists(), "{} has not been built before", built.display());
        return built;
    }
    let (_, arguments) = BUILDS.into_iter().find(|(known, _)| *known == name).expect("a way to build it");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/go");
    let mut command = Command::new(compiler(version));
    command.arg("build").args(arguments).arg("-o").arg(&built).current_dir(source);
    command.env("GOCACHE", directory.join("cache")).env("GOPATH", directory.join("path"));
    run(command.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "-p=1"));
    built
}

fn compiler(version: Option<&str>) -> PathBuf {
    let Some(version) = version else {
        return std::env::var_os("TRACER_GO").map_or_else(|| "go".into(), PathBuf::from);
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/go").join(version).join("run");
    assert!(path.exists(), "{} is missing: run scripts/fetch-go {version}", path.display());
    path
}

/// What the tests in guests run.
#[test]
fn builds() {
    for (name, _) in BUILDS {
        program(name);
    }
    for version in fetched_versions() {
        for (name, _) in OTHER_BUILDS {
            built(Some(&version), name);
        }
    }
}

/// A program of programs/go under way.
struct Program {
    server: Server,
    lines: BufReader<std::process::ChildStdout>,
    directory: TempDir,
}

impl Program {
    fn start(program: &Path, mode: &str, arguments: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        certificate::make(directory.path());
        let mut command = Command::new(program);
        command.arg(mode).arg(directory.path().join("log"));
        if mode != "client" {
            command.arg(directory.path().join("cert.pem")).arg(directory.path().join("key.pem"));
        }
        command.args(arguments);
        let mut command = bound(&command);
        command.stdout(Stdio::piped()).stdin(Stdio::null()).stderr(Stdio::null());
        let mut server = Server::spawn(&mut command, Signal::KILL);
        let lines = BufReader::new(server.streams().stdout.take().expect("piped"));
        Self { server, lines, directory }
    }

    fn serve(program: &Path, scheme: &str) -> (Self, String) {
        let mut server = Self::start(program, "server", &[scheme.to_owned()]);
        let url = format!("{scheme}://127.0.0.1:{}", server.line());
        (server, url)
    }

    /// A client that waits for [`Program::begin`].
    fn client(program: &Path, url: &str, goroutines: usize, count: usize, version: &str) -> Self {
        let arguments = [url.to_owned(), goroutines.to_string(), count.to_string(), version.to_owned()];
        let mut client = Self::start(program, "client", &arguments);
        assert_eq!(client.line(), "waiting");
        client
    }

    fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        line.trim_end().to_owned()
    }

    /// The signal to begin; a second one ends a client that makes requests without end.
    fn begin(&self) {
        signal(self.pid(), Signal::USR1);
    }

    /// Waits until it has made all its requests.
    fn finish(&mut self) {
        assert_eq!(self.line(), "done", "the program ended before its time: {:?}", self.server.ended());
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("log")).expect("a log");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the log has that many lines: a server logs after it has answered.
    fn wait_for_log(&self, count: usize) -> Vec<Value> {
        wait_until("the program has logged its requests", || self.log().len() >= count);
        self.log()
    }
}

fn compare(logs: &[Vec<Value>], outcome: &Outcome, sources: &[&str], context: &str) {
    logged::compare(logs, outcome, "go", sources, context);
}

/// A row of docs/tls.md: the version of Go that built a program, and a way to build it, which may hide its symbols.
fn row(program: &Path, build: &str, peer: &str) -> Row {
    let told = String::from_utf8(run(Command::new("go").arg("version").arg(program)).stdout).expect("UTF-8");
    let version = told.trim_end().rsplit_once(": go").expect("a version").1;
    let minor = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    Row::new(&format!("Go {minor} crypto/tls"), build, peer)
}

const WHOLE: &str = "function table of the executable";
const STRIPPED: &str = "function table of the stripped executable";

/// How other versions than the machine's are tried.
const OTHER_BUILDS: [(&str, &str); 2] = [("program", WHOLE), ("stripped", STRIPPED)];

/// A server and a client, both traced.
fn both_ends(program: &Path, scheme: &str, goroutines: usize, count: usize, version: &str, context: &str) -> Outcome {
    let count = if virtual_machine() { count.min(3) } else { count };
    let (server, url) = Program::serve(program, scheme);
    let mut client = Program::client(program, &url, goroutines, count, version);
    let tracer = Tracer::attach(&[server.pid(), client.pid()], &[]);
    client.begin();
    client.finish();
    let requests = client.log().len();
    assert!(requests >= goroutines * count);
    let logs = [server.wait_for_log(requests), client.log()];
    tracer.wait_for(2 * requests);
    let source = if scheme == "https" { "nested" } else { "socket" };
    let outcome = tracer.stop();
    compare(&logs, &outcome, &[source], context);
    outcome
}

#[test]
fn plain() {
    both_ends(&program("program"), "http", 5, 10, "1", "plain HTTP");
}

/// Both ends over TLS, as a row of docs/tls.md.
fn encrypted(program: &Path, found: &str, goroutines: usize, count: usize, version: &str) {
    let peer = if version == "2" { "net/http, HTTP/2" } else { "net/http" };
    let row = row(program, found, peer);
    let context = format!("{}, {peer}", program.display());
    let outcome = both_ends(program, "https", goroutines, count, version, &context);
    row.passed(outcome.records());
}

#[test]
fn tls() {
    encrypted(&program("program"), WHOLE, 5, 10, "1");
}

#[test]
fn http2() {
    encrypted(&program("program"), WHOLE, 20, 10, "2");
}

#[test]
fn stripped() {
    encrypted(&program("stripped"), STRIPPED, 2, 10, "1");
}

#[test]
fn position_independent_and_stripped() {
    encrypted(&program("pie"), "function table of the stripped executable (PIE)", 2, 10, "1");
}

#[test]
fn linked_with_c() {
    encrypted(&program("external"), "function table of the executable, linked with C", 2, 10, "1");
}

/// Programs of other versions of Go.
#[test]
fn other_versions() {
    for version in fetched_versions() {
        for (build, found) in OTHER_BUILDS {
            for protocol in ["1", "2"] {
                encrypted(&built(Some(&version), build), found, 4, 10, protocol);
            }
        }
    }
}

/// Goroutines that change threads, a thousand connections at once.
#[test]
fn a_thousand_goroutines() {
    let goroutines = if virtual_machine() { 50 } else { 1000 };
    both_ends(&program("program"), "https", goroutines, 3, "1", "many goroutines");
}

/// `tracer -- PROGRAM`: its first request is seen.
#[test]
fn launched() {
    for name in ["program", "pie"] {
        let program = program(name);
        let (server, url) = Program::serve(&program, "https");
        let log = tempfile::NamedTempFile::new().expect("no temporary file");
        let [program, log_path] = [&*program, log.path()].map(|path| path.to_str().expect("UTF-8"));
        let outcome = Tracer::start(|tracer| {
            tracer.env("AT_ONCE", "1").arg("--").arg(program).args(["client", log_path, &url, "2", "3", "1"]);
        })
        .wait();
        outcome.assert_success();
        let text = std::fs::read_to_string(log.path()).expect("a log");
        let log = text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect();
        compare(&[log], &outcome, &["nested"], "launched");
        drop(server);
    }
}

/// curl, which speaks HTTP/2 where Go offers it, and a log of the server.
#[test]
fn curl() {
    let (server, url) = Program::serve(&program("program"), "https");
    let tracer = Tracer::attach(&[server.pid()], &[]);
    for (version, path) in [("--http1.1", "/bytes/10"), ("--http2", "/bytes/70000"), ("--http1.1", "/missing")] {
        run(Command::new("curl").args(["-s", "-k", "-o", "/dev/null", version]).arg(format!("{url}{path}")));
    }
    tracer.wait_for(3);
    compare(&[server.wait_for_log(3)], &tracer.stop(), &["nested"], "curl");
}

/// Stacks that grow between and within calls and that the collector shrinks while calls wait, with the buffers on them.
#[test]
fn moving_stacks() {
    let (pairs, count) = if virtual_machine() { (5, 20) } else { (100, 40) };
    moving(pairs, count);
}

/// The same for minutes.
#[test]
#[ignore = "takes minutes: GO_REQUESTS says how many each of 100 pairs makes, 2000 if it is not set"]
fn moving_stacks_for_long() {
    moving(100, std::env::var("GO_REQUESTS").map_or(2000, |count| count.parse().expect("a number")));
}

fn moving(pairs: usize, count: usize) {
    let arguments = [pairs.to_string(), count.to_string()];
    let mut both = Program::start(&program("program"), "stack", &arguments);
    assert_eq!(both.line(), "waiting");
    let tracer = Tracer::attach(&[both.pid()], &["--ring-size", "64M"]);
    both.begin();
    both.finish();
    let log = both.log();
    assert_eq!(log.len(), 2 * pairs * count);
    tracer.wait_for(log.len());
    compare(&[log], &tracer.stop(), &["nested"], "moving stacks");
}

/// Connections that are idle when the tracer comes: their goroutines wait in Read, and its entry was not seen.
#[test]
fn connections_open_before() {
    let program = program("program");
    let row = row(&program, WHOLE, "net/http, connections open before");
    let (server, url) = Program::serve(&program, "https");
    let mut client = Program::client(&program, &url, 3, 5, "1");
    client.begin();
    client.finish();
    let before = client.log().len();
    server.wait_for_log(before);
    let tracer = Tracer::attach(&[server.pid(), client.pid()], &[]);
    client.begin();
    client.finish();
    let after = client.log().len();
    tracer.wait_for(2 * (after - before));
    let logs = [client.log().split_off(before), server.wait_for_log(after).split_off(before)];
    let outcome = tracer.stop();
    compare(&logs, &outcome, &["fd", "nested"], "open before");
    row.passed(outcome.records());
}

/// The tracer comes and goes while both ends are at work, which never notice.
#[test]
fn attached_again_and_again() {
    let (server, url) = Program::serve(&program("program"), "https");
    let mut client = Program::client(&program("program"), &url, 4, 0, "1");
    client.begin();
    let rounds = if virtual_machine() { 2 } else { 5 };
    for round in 0..rounds {
        let tracer = Tracer::attach(&[server.pid(), client.pid()], &[]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        if round % 3 == 2 {
            tracer.kill();
            continue;
        }
        let outcome = tracer.stop();
        assert_eq!(outcome.ledger().get("connections tuple disagreements"), 0);
    }
    client.begin();
    client.finish();
    let (asked, answered) = (client.log().len(), server.log().len());
    assert!(asked == answered && asked > 100, "{asked} asked, {answered} answered");
}
