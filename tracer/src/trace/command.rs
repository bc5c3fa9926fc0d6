//! `tracer -- COMMAND`: a command that is started held, so that it is traced from its first instruction.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use rustix::fs::Access;

use crate::sys;

/// A command that waits before its first instruction.
#[derive(Debug)]
pub struct Held {
    /// Spawning returns only when the command has executed, so it happens on a thread of its own.
    spawned: Option<std::thread::JoinHandle<std::io::Result<Child>>>,
    pid: u32,
    name: OsString,
    executable: PathBuf,
    go: Option<std::io::PipeWriter>,
    child: Option<Child>,
}

impl Held {
    /// Starts a command up to the point where it would execute.
    pub fn start(program: &OsString, arguments: &[OsString]) -> Result<Self> {
        let executable = find(program)?;
        let (ready, go) = std::io::pipe().context("cannot make a pipe")?;
        let (told, tell) = std::io::pipe().context("cannot make a pipe")?;
        let mut command = Command::new(program);
        command.args(arguments);
        sys::hold_before_exec(&mut command, ready.into(), tell.into(), go.as_fd());
        let spawned = std::thread::spawn(move || command.spawn());
        let pid = sys::read_pid(told).context("cannot start the command")?;
        Ok(Self { spawned: Some(spawned), pid, name: program.clone(), executable, go: Some(go), child: None })
    }

    /// The process that will be the command.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that it will execute.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Lets it execute.
    pub fn release(&mut self) -> Result<()> {
        let what = || format!("cannot run `{}`", self.name.display());
        if let Some(mut go) = self.go.take() {
            std::io::Write::write_all(&mut go, b"!").with_context(what)?;
        }
        if let Some(spawned) = self.spawned.take() {
            self.child = Some(spawned.join().expect("spawning does not panic").with_context(what)?);
        }
        Ok(())
    }

    /// The command's exit status; `ours` when it has not ended.
    pub fn status(&mut self, ours: ExitCode) -> Result<ExitCode> {
        let Some(child) = &mut self.child else { return Ok(ours) };
        let Some(status) = child.try_wait().context("cannot wait for the command")? else { return Ok(ours) };
        // As shells report it: 128 and the signal's number.
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// The file of a command; refuses one that cannot be executed, before anything is attached.
fn find(program: &OsString) -> Result<PathBuf> {
    let runs = |path: &PathBuf| rustix::fs::access(path, Access::EXEC_OK).is_ok() && path.is_file();
    let found = if program.as_bytes().contains(&b'/') {
        Some(PathBuf::from(program)).filter(runs)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(runs)
    };
    let Some(found) = found else {
        bail!("cannot run `{}`: there is no such program, or it may not be executed", program.display());
    };
    Ok(found)
}
