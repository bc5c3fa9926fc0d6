//! The program under test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::ledger::Ledger;
use super::process::{Server, comes_true, signal, wait_until};

/// Records that are shown when others do not come.
const SHOWN: usize = 5;

/// The tracer's binary: the one cargo built with the tests, or `TRACER_BINARY`.
pub fn binary() -> PathBuf {
    std::env::var_os("TRACER_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_tracer").into(), PathBuf::from)
}

/// The tracer with JSON output and the source of socket data that `TRACER_HOOK` names, if it does.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    hook(&mut command);
    command.args(["--format", "json"]).stdin(Stdio::null());
    command
}

fn hook(command: &mut Command) {
    if let Some(hook) = std::env::var_os("TRACER_HOOK") {
        command.arg("--hook").arg(hook);
    }
}

/// A running tracer, its stdout and stderr going to files.
pub struct Tracer {
    server: Server,
    directory: TempDir,
}

/// What a tracer left behind.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to stderr.
    pub stderr: String,
    directory: TempDir,
}

impl Tracer {
    /// Attaches to processes and waits until every probe is there.
    pub fn attach(pids: &[u32], options: &[&str]) -> Self {
        let tracer = Self::start(|command| {
            command.args(options);
            for pid in pids {
                command.arg("--pid").arg(pid.to_string());
            }
        });
        tracer.wait_ready()
    }

    /// `tracer record`: attaches and waits until every probe is there.
    pub fn record(pid: u32, file: &Path) -> Self {
        let mut command = Command::new(binary());
        command.arg("record");
        hook(&mut command);
        command.arg("--output").arg(file).arg("--pid").arg(pid.to_string()).stdin(Stdio::null());
        Self::spawn(command).wait_ready()
    }

    /// `tracer replay` of one file, to its end.
    pub fn replay(file: &Path) -> Outcome {
        let mut command = Command::new(binary());
        command.args(["replay", "--format", "json"]).arg(file).stdin(Stdio::null());
        let outcome = Self::spawn(command).wait();
        outcome.assert_success();
        outcome
    }

    /// Starts a command under the tracer: `tracer OPTIONS -- COMMAND`.
    pub fn launch(options: &[&str], command: &[&str]) -> Self {
        Self::start(|tracer| {
            tracer.args(options).arg("--").args(command);
        })
    }

    /// Starts the tracer with arguments that `prepare` adds.
    pub fn start(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = command();
        prepare(&mut command);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let create = |name| File::create(directory.path().join(name)).expect("cannot write a temporary file");
        command.stdout(create("stdout")).stderr(create("stderr"));
        Self { server: Server::spawn(&mut command, Signal::INT), directory }
    }

    fn wait_ready(mut self) -> Self {
        wait_until("the tracer is ready", || {
            let stderr = read(self.directory.path(), "stderr");
            if let Some(status) = self.server.ended() {
                panic!("the tracer did not get ready, {status}: {stderr}");
            }
            stderr.lines().any(|line| line.starts_with("tracer: ready"))
        });
        self
    }

    /// The records until now.
    pub fn records(&self) -> Vec<Value> {
        records(self.directory.path()).collect()
    }

    /// Waits until there are that many records.
    pub fn wait_for(&self, count: usize) {
        let enough = || count_lines(self.directory.path()) >= count;
        if !comes_true(enough) {
            let records = self.records();
            let last = &records[records.len().saturating_sub(SHOWN)..];
            panic!("waited in vain for {count} records: there are {}, the last are {last:#?}", records.len());
        }
    }

    /// Ends it as Ctrl-C does. It must end well, and its ledger must add up.
    pub fn stop(self) -> Outcome {
        self.stop_by(Signal::INT)
    }

    /// Ends it by a signal. It must end well, and its ledger must add up.
    pub fn stop_by(mut self, ending: Signal) -> Outcome {
        let early = self.server.ended();
        assert!(early.is_none(), "the tracer ended by itself, {early:?}: {}", read(self.directory.path(), "stderr"));
        signal(self.server.pid(), ending);
        let outcome = self.wait();
        outcome.assert_success();
        outcome.ledger().assert_balanced();
        outcome
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends it by force, as a crash would, and does not wait until it is gone.
    pub fn crash(&self) {
        signal(self.server.pid(), Signal::KILL);
    }

    /// Whether the kernel has cleaned up what a crash has left.
    pub fn is_gone(&mut self) -> bool {
        self.server.ended().is_some()
    }

    /// Ends it by force and waits until it is gone.
    pub fn kill(mut self) {
        self.crash();
        // As it ends, the kernel takes its probes away one after the other, and each waits until nobody runs it.
        assert!((0..6).any(|_| comes_true(|| self.is_gone())), "it does not end");
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> Outcome {
        let status = self.server.wait("the tracer");
        Outcome { status, stderr: read(self.directory.path(), "stderr"), directory: self.directory }
    }
}

impl Outcome {
    /// The records, one after another: at full load there are too many to hold.
    pub fn records(&self) -> impl Iterator<Item = Value> {
        records(self.directory.path())
    }

    /// All that it wrote to stdout.
    pub fn stdout(&self) -> String {
        read(self.directory.path(), "stdout")
    }

    /// The ledger that it printed.
    #[track_caller]
    pub fn ledger(&self) -> Ledger {
        Ledger::parse(&self.stderr).unwrap_or_else(|| panic!("no ledger: {}", self.stderr))
    }

    /// Panics unless it exited with 0.
    #[track_caller]
    pub fn assert_success(&self) {
        assert!(self.status.success(), "the tracer failed, {}: {}", self.status, self.stderr);
    }

    /// Panics unless it refused to begin: a failure whose message says all of `words`, and nothing on stdout.
    #[track_caller]
    pub fn assert_refused(&self, words: &[&str]) {
        let code = self.status.code();
        assert!(
            code.is_some_and(|code| code != 0 && code != 101),
            "should fail by itself, {}: {}",
            self.status,
            self.stderr
        );
        assert!(!self.stderr.contains("tracer: ready"), "it began: {}", self.stderr);
        let message = self.stderr.to_lowercase();
        for word in words {
            assert!(message.contains(word), "the message does not say {word:?}: {}", self.stderr);
        }
        assert_eq!(self.stdout(), "");
    }
}

/// What failed may stand in the ledger.
impl Drop for Outcome {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the tracer said: {}", self.stderr);
        }
    }
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).expect("a file of the tracer")
}

fn count_lines(directory: &Path) -> usize {
    let bytes = std::fs::read(directory.join("stdout")).expect("a file of the tracer");
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// The complete lines of stdout, each of which must be a record.
fn records(directory: &Path) -> impl Iterator<Item = Value> + use<> {
    let mut reader = BufReader::new(File::open(directory.join("stdout")).expect("a file of the tracer"));
    std::iter::from_fn(move || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("UTF-8");
        let line = line.strip_suffix('\n')?;
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        assert_eq!(record["schema"], 1, "{line}");
        assert_eq!(record["kind"], "l7", "{line}");
        Some(record)
    })
}
