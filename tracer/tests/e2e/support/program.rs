//! Small programs that the tests compile, and processes that are held until the tracer is there.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{Server, bound, run};

/// A program of tests/e2e/programs, compiled.
pub struct Program {
    /// Where it is, and what else the test puts there.
    pub directory: TempDir,
}

impl Program {
    /// Compiles `source` with a compiler's options.
    pub fn compile(compiler: &str, source: &str, options: &[&OsStr]) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs").join(source);
        let mut command = Command::new(compiler);
        command.args(["-O1", "-Wl,--build-id", "-o"]).arg(directory.path().join("program")).arg(source).args(options);
        run(&mut command);
        Self { directory }
    }

    /// Runs a tool in its directory.
    pub fn edit(&self, tool: &str, arguments: &[&str]) {
        run(Command::new(tool).args(arguments).current_dir(self.directory.path()));
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("program")
    }
}

/// A process that says "ready" and waits for a line before it does its work.
pub struct Held {
    server: Server,
    stdout: BufReader<ChildStdout>,
}

impl Held {
    /// Starts it and waits until it is ready.
    pub fn start(command: &Command) -> Self {
        Self::start_until(command, "ready")
    }

    /// The same for a program that says something else.
    pub fn start_until(command: &Command, ready: &str) -> Self {
        let mut held = bound(command);
        let mut server = Server::spawn(held.stdin(Stdio::piped()).stdout(Stdio::piped()), Signal::TERM);
        let mut stdout = BufReader::new(server.streams().stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains(ready) {
            assert!(stdout.read_line(&mut said).expect("UTF-8") > 0, "{command:?} is not ready: {said}");
        }
        Self { server, stdout }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Gives it input.
    pub fn send(&mut self, input: &str) {
        let stdin = self.server.streams().stdin.as_mut().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Lets it go on, with this as its input, and gives what it said until it ended, which must be well.
    pub fn go(mut self, input: &str) -> String {
        self.send(input);
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("UTF-8");
        let status = self.server.wait("the program");
        assert!(status.success(), "{status}: {said}");
        said
    }
}
