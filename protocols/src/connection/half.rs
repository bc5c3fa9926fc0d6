//! One direction of a connection.

use std::collections::VecDeque;

use super::Direction;
use crate::parser::Mark;
use crate::reassembly::{Cause, Chunk, Reassembler};
use crate::{Limits, Span, Time};

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

/// Bytes that are missing from before a protocol was recognised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untold {
    pub(super) length: u64,
    pub(super) cause: Cause,
    /// When the last of them moved, where that is known.
    pub(super) span: Option<Span>,
}

/// Pieces that are queued behind bytes that wait: some hold no bytes, so that their bytes do not bound them.
const MOST_BEHIND: usize = 1024;

/// What has come behind bytes that wait for the other direction, and cannot be appended to them.
#[derive(Debug)]
pub(super) enum Behind {
    Bytes(Vec<u8>, Mark),
    Missing { length: u64, cause: Cause, span: Option<Span> },
    End(Time),
}

impl Behind {
    fn length(&self) -> usize {
        if let Self::Bytes(bytes, _) = self { bytes.len() } else { 0 }
    }
}

impl From<Chunk<'_>> for Behind {
    fn from(chunk: Chunk<'_>) -> Self {
        match chunk {
            Chunk::Bytes { bytes, span, transfer_start } => {
                Self::Bytes(bytes.to_vec(), Mark { offset: 0, span, transfer_start })
            }
            Chunk::Missing { length, cause, span } => Self::Missing { length, cause, span },
        }
    }
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Halves {
    pub(super) read: Half,
    pub(super) write: Half,
}

impl Halves {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { read: Half::new(None, limits), write: Half::new(None, limits) }
    }

    pub(super) fn of(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    pub(super) fn each(&self) -> [&Half; 2] {
        [&self.read, &self.write]
    }

    pub(super) fn each_mut(&mut self) -> [&mut Half; 2] {
        [&mut self.read, &mut self.write]
    }
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
    /// What comes after `buffer`, which waits.
    behind: VecDeque<Behind>,
    behind_length: usize,
    pub(super) ended: bool,
    pub(super) mode: Mode,
    /// What is missing in front of the buffer, of which no parser has been told: none was recognised yet.
    pub(super) untold: Option<Untold>,
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
            behind: VecDeque::new(),
            behind_length: 0,
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

    /// Forgets all that came in order.
    pub(super) fn forget(&mut self) {
        self.forget_buffer();
        self.behind.clear();
        self.behind_length = 0;
    }

    /// Whether something is queued behind bytes that wait.
    pub(super) fn is_queueing(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Whether a chunk has to be queued: a hole must not take along what waits before it.
    pub(super) fn must_queue(&self, chunk: &Chunk<'_>) -> bool {
        self.is_queueing() || self.waits && matches!(chunk, Chunk::Missing { .. })
    }

    pub(super) fn queue(&mut self, behind: Behind) {
        self.behind_length += behind.length();
        self.behind.push_back(behind);
    }

    pub(super) fn next_behind(&mut self) -> Option<Behind> {
        let behind = self.behind.pop_front()?;
        self.behind_length -= behind.length();
        Some(behind)
    }

    /// Bytes in order that nothing has consumed yet.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len() + self.behind_length
    }

    /// Whether so much waits for the other direction that there may soon be no room for more.
    pub(super) fn waits_for_much(&self, limits: &Limits) -> bool {
        self.waits && (self.buffered() > limits.buffered / 2 || self.behind.len() > MOST_BEHIND)
    }

    /// Bytes that are held: not consumed yet, or ahead of their turn.
    pub(super) fn held(&self) -> usize {
        self.buffered() + self.reassembler.held()
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
