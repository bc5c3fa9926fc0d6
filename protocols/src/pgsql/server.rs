//! Messages of the server.

use std::sync::Arc;

use super::answer::Answer;
use super::message::Message;
use super::prepared::Prepared;
use super::queue::{Asked, Kind, Undo};
use super::session::Session;
use crate::{Cursor, Output, Reason, Reasons};

impl Session {
    /// A message with a type.
    pub(super) fn server(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        if is_asynchronous(message.kind) {
            return;
        }
        if message.kind == b'K' {
            return self.set_backend_of(message);
        }
        match self.queue.front().map(|front| (front.kind, front.unit)) {
            None if self.mend(message, out) => {}
            Some((kind, unit)) => self.answered(kind, unit, message, out),
            None => self.unasked(message, out),
        }
        if message.kind == b'Z' {
            self.turn(out);
        }
    }

    /// A message while something waits for its answer.
    fn answered(&mut self, kind: Kind, unit: u64, message: &Message<'_>, out: &mut Output<'_>) {
        match (kind, message.kind) {
            (Kind::Startup, b'R' | b'v') => self.add_to_answer(message),
            (Kind::Startup, b'Z') => {
                drop(self.queue.pop());
                self.answer = Answer::default();
                self.logged_in();
            }
            (Kind::Startup | Kind::Negotiation, b'E') => self.refuse(message, out),
            (Kind::Sync, b'Z') => self.ready(message, out),
            (Kind::Sync, b'E') => self.fail_sync(message, out),
            (Kind::Query | Kind::Function, b'Z') => {
                self.take(message);
                self.finish(out);
                self.is_ready(message);
            }
            (Kind::Query, b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c') => self.take(message),
            (Kind::Query, b'E') | (Kind::Function, b'E' | b'V') => {
                self.take(message);
                self.finish_if_fatal(out);
            }
            (Kind::Execute, b'D' | b'G' | b'H' | b'd' | b'c') => self.take(message),
            (Kind::Execute, b'C' | b's' | b'I') => {
                self.take(message);
                self.finish(out);
            }
            (Kind::Parse, b'1') | (Kind::Bind, b'2') | (Kind::Close, b'3') => self.step_on(kind, message),
            (Kind::DescribeStatement, b't') => self.take_types(message),
            (Kind::DescribeStatement | Kind::DescribePortal, b'T' | b'n') => {
                self.take(message);
                drop(self.queue.pop());
            }
            (_, b'E') => self.fail_unit(unit, message, out),
            _ => {
                self.lose_all(Reason::ParseError.into(), false, out);
                self.unasked(message, out);
            }
        }
    }

    /// Measures a message and takes what it says.
    fn take(&mut self, message: &Message<'_>) {
        self.add_to_answer(message);
        let tag = self.answer.take_result(message);
        if let Some(tag) = tag {
            self.forget_after(&tag);
        }
        if matches!(message.kind, b'G' | b'H' | b'W')
            && let Some(draft) = self.queue.front_mut().and_then(|front| front.draft.as_mut())
        {
            draft.command = "copy";
        }
        match message.kind {
            b'G' | b'W' => self.begin_copy_in(),
            b'E' => self.fail_copy_in(),
            b'C' => self.check_copy_in(),
            _ => {}
        }
    }

    /// A message of which only success is known.
    fn step_on(&mut self, kind: Kind, message: &Message<'_>) {
        if kind.is_of_unit() {
            self.add_to_answer(message);
        }
        drop(self.queue.pop());
    }

    /// A message that came before anything that was seen of the client.
    pub(super) fn late_login(&mut self, message: &Message<'_>) {
        if message.kind == b'K' {
            self.set_backend_of(message);
        }
    }

    fn set_backend_of(&mut self, message: &Message<'_>) {
        if let Some(process) = Cursor::new(message.body).u32_be() {
            self.set_backend(process);
        }
    }

    /// The types of a statement's parameters, which the next Bind may need to be read.
    fn take_types(&mut self, message: &Message<'_>) {
        self.add_to_answer(message);
        let mut cursor = Cursor::new(message.body);
        let count = cursor.u16_be().unwrap_or(0);
        let types: Vec<_> = (0..count).map_while(|_| cursor.u32_be()).collect();
        let Some(described) = self.queue.front().and_then(|front| front.draft.as_deref()) else { return };
        let Some(prepared) = &described.prepared else { return };
        let name = prepared.name.clone();
        // Only if the name still means the statement that was described.
        if types != prepared.types && self.statements.get(&name).is_some_and(|now| Arc::ptr_eq(now, prepared)) {
            let known = Prepared { name: name.clone(), sql: prepared.sql.clone(), types, reasons: prepared.reasons };
            drop(self.statements.set(&name, Some(Arc::new(known))));
        }
    }

    fn ready(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        drop(self.queue.pop());
        self.release_with(message, out);
        self.is_ready(message);
    }

    /// Portals do not outlive their transaction.
    fn is_ready(&mut self, message: &Message<'_>) {
        if self.queue.is_empty() && self.draft.is_none() && message.body == b"I" {
            self.portals.clear();
        }
    }

    /// The login failed. (A login that succeeds makes no record.)
    fn refuse(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        self.take(message);
        if let Some(draft) = self.queue.front_mut().and_then(|front| front.draft.as_mut()) {
            draft.sequence = Some(out.next_sequence());
        }
        self.finish(out);
    }

    /// The implicit transaction that Sync ends could not be committed: what it consisted of has failed.
    fn fail_sync(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        if let Some(answer) = self.held_answer() {
            answer.add(message);
            answer.take_result(message);
            return;
        }
        let mut answer = Answer::default();
        answer.add(message);
        answer.take_result(message);
        if let Some(mut draft) = self.queue.front().and_then(|front| front.draft.clone()) {
            draft.sequence = Some(out.next_sequence());
            self.conclude(draft, answer, out);
        }
    }

    fn finish_if_fatal(&mut self, out: &mut Output<'_>) {
        if self.answer.is_fatal() {
            self.finish(out);
        }
    }

    /// One of the messages that make a unit failed: its Execute has, and what is behind it up to Sync is ignored.
    fn fail_unit(&mut self, unit: u64, message: &Message<'_>, out: &mut Output<'_>) {
        self.take(message);
        let fatal = self.answer.is_fatal();
        let answer = std::mem::take(&mut self.answer);
        let is_executed = self.queue.has_execute(unit);
        let mut discarded = self.discard_to_sync();
        self.undo_all(&mut discarded);
        let failed = if is_executed {
            discarded.iter().position(|a| a.unit == unit && a.kind == Kind::Execute)
        } else {
            Some(0)
        };
        // If there was none, it may be among what is missing of the client's messages.
        let unseen = if is_executed { Reasons::NONE } else { self.missing_before_sync() };
        let mut answer = Some(answer);
        for (index, asked) in discarded.into_iter().enumerate() {
            if Some(index) != failed {
                self.skip(asked, out);
            } else if let (Some(mut draft), Some(answer)) = (asked.draft, answer.take()) {
                if draft.sequence.is_none() {
                    draft.sequence = Some(out.next_sequence());
                }
                draft.reasons.merge(unseen);
                self.conclude(draft, answer, out);
            }
        }
        if fatal {
            self.release(out);
        }
    }

    /// Names mean again what they meant before these messages, the first of which failed.
    fn undo_all(&mut self, discarded: &mut [Asked]) {
        if let Some(Undo::Statement(name, previous)) = discarded.first_mut().and_then(|failed| failed.undo.as_mut())
            && name.as_bytes().is_empty()
        {
            // The unnamed statement is gone even if the new one is not accepted.
            *previous = None;
        }
        for asked in discarded.iter_mut().rev() {
            if let Some(undo) = asked.undo.take() {
                self.undo(undo);
            }
        }
    }

    /// An answer while nothing waits for one.
    fn unasked(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        if message.kind == b'E' && !self.is_lost() {
            let mut answer = Answer::default();
            answer.add(message);
            answer.take_result(message);
            if answer.is_fatal() {
                // The server ends the connection of its own accord ("terminating connection due to …").
                self.release(out);
                return self.emit_unsolicited(answer, Default::default(), out);
            }
        }
        self.answer_to_unseen(message, out);
        self.stray(message, message.kind == b'Z', out);
    }
}

/// NoticeResponse, NotificationResponse and ParameterStatus may come at any time and answer nothing.
fn is_asynchronous(kind: u8) -> bool {
    matches!(kind, b'N' | b'A' | b'S')
}
