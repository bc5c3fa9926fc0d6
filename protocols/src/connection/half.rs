//! One direction of a connection.

use crate::parser::Mark;
use crate::reassembly::{Cause, Reassembler};
use crate::{Limits, Span};

/// What is done with bytes in order.
#[derive(Debug, Default)]
pub(super) enum Mode {
    #[default]
    Parse,
    Pass {
        remaining: u64,
        to_end: bool,
        passed: u64,
        lost: u64,
        last: Option<Span>,
    },
    Resync,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) reassembler: Reassembler,
    /// Bytes in order that no step has consumed yet, and when they moved.
    pub(super) buffer: Vec<u8>,
    pub(super) marks: Vec<Mark>,
    /// Total bytes that the next step wants.
    pub(super) need: usize,
    /// The buffer begins where the stream begins.
    pub(super) at_start: bool,
    pub(super) waits: bool,
    pub(super) ended: bool,
    pub(super) mode: Mode,
    /// What is missing in front of the buffer, of which no parser has been told: none was recognised yet.
    pub(super) untold: Option<(u64, Cause)>,
}

impl Half {
    pub(super) fn new(start: Option<u64>, limits: &Limits) -> Self {
        Self {
            reassembler: Reassembler::new(start, limits.out_of_order),
            buffer: Vec::new(),
            marks: Vec::new(),
            need: 0,
            at_start: true,
            waits: false,
            ended: false,
            mode: Mode::Parse,
            untold: None,
        }
    }

    pub(super) fn forget_buffer(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.need = 0;
        self.at_start = false;
        self.waits = false;
    }

    pub(super) fn append(&mut self, bytes: &[u8], mark: Mark) {
        self.marks.push(Mark { offset: self.buffer.len(), ..mark });
        self.buffer.extend_from_slice(bytes);
    }

    /// Keeps what is behind `consumed`.
    pub(super) fn drain(&mut self, consumed: usize) {
        if consumed == 0 {
            return;
        }
        self.buffer.drain(..consumed.min(self.buffer.len()));
        let first = self.marks.partition_point(|mark| mark.offset <= consumed).saturating_sub(1);
        self.marks.drain(..first);
        for mark in &mut self.marks {
            mark.transfer_start &= mark.offset >= consumed;
            mark.offset = mark.offset.saturating_sub(consumed);
        }
        if self.buffer.is_empty() {
            self.marks.clear();
        }
    }
}
