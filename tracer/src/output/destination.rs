//! Where lines go: stdout or a file, buffered, never tearing a line.
//!
//! What could not be written stays in the buffer, from the byte on at which writing stopped: when a full disk has room
//! again, the line that was cut goes on where it ended.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::SinkError;

/// A buffered place for lines.
pub struct Destination {
    name: String,
    path: Option<PathBuf>,
    writer: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    /// Bytes that were written in all.
    written: u64,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").field("name", &self.name).field("buffered", &self.buffer.len()).finish()
    }
}

impl Destination {
    /// The process's standard output.
    pub fn stdout() -> Result<Self, SinkError> {
        let name = "standard output";
        let owned = io::stdout().as_fd().try_clone_to_owned();
        let file = File::from(owned.map_err(|source| SinkError::Open { name: name.to_owned(), source })?);
        // A file takes what it is given; anything else may make the tracer wait.
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Ok(if is_file { Self::new(name, file) } else { Self::new(name, Patient(file)) })
    }

    /// A file that is appended to, made if it is not there, readable by its owner alone: records tell of other
    /// people's traffic.
    pub fn file(path: &Path) -> Result<Self, SinkError> {
        let file = open(path)?;
        Ok(Self { path: Some(path.to_owned()), ..Self::new(&path.display().to_string(), file) })
    }

    /// Anything else; `name` is what errors call it.
    pub fn new(name: &str, writer: impl Write + Send + 'static) -> Self {
        Self { name: name.to_owned(), path: None, writer: Box::new(writer), buffer: Vec::new(), written: 0 }
    }

    /// The bytes that wait to be written, to add whole lines to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// How many bytes wait to be written.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Place in the stream of the end of what is buffered.
    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Place in the stream up to which everything was written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes what is buffered. A destination that is busy (non-blocking) keeps the rest for the next time.
    pub(super) fn flush(&mut self) -> Result<(), SinkError> {
        let mut done = 0;
        let result = loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.writer.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..done);
        self.written += done as u64;
        result.map_err(|source| self.error(source))
    }

    /// Opens the file's path anew, after what is buffered has gone to the old file: what log rotation asks for. On an
    /// error the old file stays in use. Without effect on what is not a file.
    pub(super) fn reopen(&mut self) -> Result<(), SinkError> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = open(path)?;
        self.flush()?;
        self.writer = Box::new(file);
        Ok(())
    }

    fn error(&self, source: io::Error) -> SinkError {
        let name = self.name.clone();
        match source.kind() {
            ErrorKind::BrokenPipe => SinkError::Closed { name },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                SinkError::Full { name, source }
            }
            _ => SinkError::Write { name, source },
        }
    }
}

/// Writes only what can be written at once: a pipe that nobody reads must not stop the tracer, and the flag that makes
/// writes non-blocking would be shared with whoever else holds the same terminal or pipe.
struct Patient(File);

/// What a pipe that is ready takes without blocking (PIPE_BUF, pipe(7)).
const READY: usize = 4096;

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.0, PollFlags::OUT)];
        if poll(&mut ready, Some(&Timespec::default()))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.0.write(bytes.get(..READY).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn open(path: &Path) -> Result<File, SinkError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(|source| SinkError::Open { name: path.display().to_string(), source })
}
