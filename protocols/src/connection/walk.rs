//! Stepping a parser through the bytes of one direction.

use super::Counters;
use super::half::{Half, Mode};
use crate::parser::Mark;
use crate::reassembly::Cause;
use crate::{Boundary, Handoff, Input, Limits, Output, Parser, Side, Skipped, Step};

/// One run over the bytes of one direction.
pub(super) struct Walk<'a> {
    pub(super) side: Side,
    pub(super) parser: &'a mut dyn Parser,
    pub(super) output: Output<'a>,
    pub(super) counters: &'a mut Counters,
    pub(super) limits: &'a Limits,
}

impl Walk<'_> {
    /// Steps through `work` until more bytes are needed; says how many were consumed.
    pub(super) fn run(mut self, half: &mut Half, work: &[u8], marks: &[Mark]) -> (usize, Option<Handoff>) {
        let mut at = 0;
        while let Some(rest) = work.get(at..).filter(|rest| !rest.is_empty()) {
            let transfer_start = marks.iter().any(|mark| mark.offset == at && mark.transfer_start);
            let input = Input { bytes: rest, uncaptured: 0, transfer_start, offset: at, marks };
            let advanced = match half.mode {
                Mode::Pass { .. } => self.pass(half, input),
                Mode::Resync => self.resync(half, input),
                Mode::Parse if rest.len() < half.need => Advance::Stay,
                Mode::Parse => self.parse(half, input),
            };
            match advanced {
                Advance::By(n) => at += n,
                Advance::Stay => break,
                Advance::StopAfter(n, handoff) => return (at + n, Some(handoff)),
            }
        }
        (at, None)
    }

    fn pass(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        let Mode::Pass { remaining, passed, last, .. } = &mut half.mode else { return Advance::Stay };
        let n = (input.bytes.len() as u64).min(*remaining);
        *remaining -= n;
        *passed += n;
        *last = Some(input.span((n as usize).saturating_sub(1)));
        if *remaining == 0 {
            finish_pass(half, self.side, self.parser, &mut self.output);
        }
        Advance::By(n as usize)
    }

    fn resync(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        match self.parser.resync(self.side, input.bytes, input.transfer_start) {
            Boundary::At(index) => {
                half.mode = Mode::Parse;
                half.need = 0;
                Advance::By(index.min(input.bytes.len()))
            }
            Boundary::None { discard } if input.bytes.len() - discard.min(input.bytes.len()) > self.limits.buffered => {
                Advance::By(input.bytes.len())
            }
            Boundary::None { discard: 0 } => Advance::Stay,
            Boundary::None { discard } => Advance::By(discard.min(input.bytes.len())),
        }
    }

    fn parse(&mut self, half: &mut Half, input: Input<'_>) -> Advance {
        let length = input.bytes.len();
        match self.parser.step(self.side, input, &mut self.output) {
            Step::Need(total) if total > self.limits.buffered || length >= self.limits.buffered => {
                self.lose_framing(half, "too_long");
                self.parser.gap(self.side, length as u64, Cause::Truncated, &mut self.output);
                Advance::By(length)
            }
            Step::Need(total) => {
                half.need = total.max(length + 1);
                Advance::Stay
            }
            Step::Wait if length >= self.limits.buffered => {
                self.lose_framing(half, "waits_too_long");
                self.parser.gap(self.side, length as u64, Cause::Truncated, &mut self.output);
                Advance::By(length)
            }
            Step::Wait => {
                half.waits = true;
                Advance::Stay
            }
            Step::Consumed(n) if n > 0 => {
                half.need = 0;
                Advance::By(n.min(length))
            }
            Step::Broken { consumed, violation: _ } if consumed > 0 => {
                half.need = 0;
                self.counters.violations += 1;
                Advance::By(consumed.min(length))
            }
            Step::Skip { consumed, length: remaining } if consumed > 0 || remaining > 0 => {
                self.begin_pass(half, remaining, false);
                Advance::By(consumed.min(length))
            }
            Step::SkipToEnd { consumed } => {
                self.begin_pass(half, u64::MAX, true);
                Advance::By(consumed.min(length))
            }
            Step::Stop { consumed, handoff } => Advance::StopAfter(consumed.min(length), handoff),
            Step::Resync(violation) => {
                self.lose_framing(half, violation.0);
                Advance::By(1)
            }
            Step::Consumed(_) | Step::Broken { .. } | Step::Skip { .. } => {
                debug_assert!(false, "a step made no progress");
                self.lose_framing(half, "no_progress");
                Advance::By(1)
            }
        }
    }

    fn begin_pass(&mut self, half: &mut Half, remaining: u64, to_end: bool) {
        half.need = 0;
        half.mode = Mode::Pass { remaining, to_end, passed: 0, lost: 0, last: None };
        if remaining == 0 {
            finish_pass(half, self.side, self.parser, &mut self.output);
        }
    }

    fn lose_framing(&mut self, half: &mut Half, _rule: &'static str) {
        half.need = 0;
        half.mode = Mode::Resync;
        self.counters.resyncs += 1;
        self.counters.violations += 1;
    }
}

enum Advance {
    By(usize),
    Stay,
    StopAfter(usize, Handoff),
}

/// What was to be passed over has passed.
pub(super) fn finish_pass(half: &mut Half, side: Side, parser: &mut dyn Parser, output: &mut Output<'_>) {
    if let Mode::Pass { passed, lost, last, .. } = std::mem::take(&mut half.mode) {
        parser.skipped(side, Skipped { length: passed, lost, last }, output);
    }
}
