//! `tracer record`: what connections are given, as a pcapng file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use protocols::{Direction, Layer, Segment, Span, Time};

use super::processes;
use crate::capture::{Description, PcapngWriter};
use crate::connections::{Facts, Tap};
use crate::record::{Clock, Process};

/// Writes a capture file. What cannot be written ends the recording, not the tracing.
#[derive(Debug)]
pub struct Recorder {
    writer: PcapngWriter<BufWriter<File>>,
    name: String,
    processes: HashMap<u32, Process>,
    failed: bool,
}

impl Recorder {
    /// Makes the file, readable by its owner alone: it holds what TLS was to hide.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot write {name}"))?;
        let clock = Clock::kernel()?;
        let writer = PcapngWriter::new(BufWriter::new(file), clock).with_context(|| format!("cannot write {name}"))?;
        Ok(Self { writer, name, processes: HashMap::new(), failed: false })
    }

    fn write(
        &mut self,
        pid: u32,
        facts: &Facts<'_>,
        write: impl FnOnce(&mut PcapngWriter<BufWriter<File>>, &Description<'_>) -> io::Result<()>,
    ) {
        if self.failed {
            return;
        }
        let process = self.processes.entry(pid).or_insert_with(|| processes::describe(pid));
        let Facts { info: connection, midstream, client } = *facts;
        let description = Description { connection, process: Some(process), midstream, client };
        if let Err(error) = write(&mut self.writer, &description) {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        eprintln!("tracer: error: cannot write {}: {error}; nothing more is recorded", self.name);
    }
}

impl Tap for Recorder {
    fn open(&mut self, pid: u32, facts: &Facts<'_>, at: Time) {
        self.write(pid, facts, |writer, description| writer.open(description, at));
    }

    fn data(&mut self, pid: u32, facts: &Facts<'_>, layer: Layer, direction: Direction, segment: Segment<'_>) {
        self.write(pid, facts, |writer, description| writer.data(description, layer, direction, segment));
    }

    fn datagram(&mut self, pid: u32, facts: &Facts<'_>, direction: Direction, bytes: &[u8], length: u64, span: Span) {
        self.write(pid, facts, |writer, description| writer.datagram(description, direction, bytes, length, span));
    }

    fn end(&mut self, pid: u32, facts: &Facts<'_>, direction: Direction, at: Time) {
        self.write(pid, facts, |writer, description| writer.end(description, direction, at));
    }

    fn close(&mut self, pid: u32, facts: &Facts<'_>, at: Time) {
        self.write(pid, facts, |writer, description| writer.close(description, at));
    }

    fn finish(&mut self) -> bool {
        if let Err(error) = self.writer.flush() {
            self.fail(&error);
        }
        !self.failed
    }
}
