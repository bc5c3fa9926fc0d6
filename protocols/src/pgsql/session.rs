//! One session: what waits for an answer, what is known of the login, and whether pairing is certain.
//!
//! The server answers every message in order, and the kinds of answer that each can get are known; so a request is
//! paired with what answers the messages that it is made of, and anything else shows that pairing was lost.

use super::answer::Answer;
use super::certainty::{Lost, Turns};
use super::message::Message;
use super::prepared::{Names, Portal, Prepared};
use super::queue::{Asked, Draft, Kind, Queue, Undo};
use super::startup::Parameters;
use crate::{Context, Exchange, Limits, Output, Part, Reason, Reasons, Side, Text, Time};

/// How many times as many Executes may wait as other requests ([`Limits::pending`]): clients send thousands of them
/// ahead. Those beyond that limit are kept without their parameters.
const EXECUTES: usize = 8;

/// How many times as many messages may wait.
const MESSAGES: usize = 16;

/// A statement whose response is complete but for what ReadyForQuery says, which comes if Sync is what the client sent
/// next; or a COPY that has failed before all data of it was seen, which what the client sends next tells of.
#[derive(Debug)]
struct Held {
    draft: Box<Draft>,
    answer: Answer,
}

/// The state that both directions share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) limits: Limits,
    login: Parameters,
    backend: Option<u32>,
    pub(super) statements: Names<Prepared>,
    pub(super) portals: Names<Portal>,
    /// Why statements may have been prepared that were not seen.
    pub(super) unseen: Reasons,
    /// What leads to the next Execute, so far.
    pub(super) draft: Option<Draft>,
    pub(super) unit_number: u64,
    pub(super) queue: Queue,
    /// What came so far of the answer to the front of the queue.
    pub(super) answer: Answer,
    answer_unit: u64,
    held: Option<Held>,
    /// A statement of whose answer a part is missing, while nothing else is asked.
    torn: Option<Held>,
    /// After an error the server ignores everything up to Sync.
    discarding: bool,
    /// The client sends data of a COPY.
    copying_in: bool,
    turns: Turns,
    /// Why the answer to what is asked now may be another's: no ReadyForQuery was seen before.
    blind: Reasons,
    /// Why pairing was lost before it was resumed because the client waits its turn.
    doubt: Option<Reasons>,
    lost: Option<Lost>,
}

impl Session {
    pub(super) fn new(context: Context) -> Self {
        let mut session = Self {
            limits: context.limits,
            login: Parameters::default(),
            backend: None,
            statements: Names::default(),
            portals: Names::default(),
            unseen: Reasons::NONE,
            draft: None,
            unit_number: 0,
            queue: Queue::default(),
            answer: Answer::default(),
            answer_unit: 0,
            held: None,
            torn: None,
            discarding: false,
            copying_in: false,
            turns: Turns::default(),
            blind: Reasons::NONE,
            doubt: None,
            lost: None,
        };
        if context.midstream {
            session.join(Reason::Midstream.into());
        }
        session
    }

    /// The connection had begun before it was seen.
    pub(super) fn join(&mut self, reasons: Reasons) {
        self.unseen.merge(reasons);
        let lost = self.lost.get_or_insert_with(|| Lost::new(reasons, 0, false));
        lost.early = true;
        lost.blank = true;
    }

    /// A new login: nothing went before it.
    pub(super) fn begin(&mut self, login: Parameters) {
        self.login = login;
        self.unseen = Reasons::NONE;
        self.doubt = None;
        self.blind = Reasons::NONE;
        self.lost = None;
    }

    /// What went before says nothing of whether the client waits its turn.
    pub(super) fn logged_in(&mut self) {
        self.turns = Turns::default();
    }

    pub(super) fn set_backend(&mut self, process: u32) {
        self.backend = Some(process);
    }

    /// The next message does not belong to what was sent before it.
    pub(super) fn end_unit(&mut self) {
        self.draft = None;
        self.unit_number += 1;
    }

    pub(super) fn enqueue(&mut self, mut asked: Asked, out: &mut Output<'_>) {
        if asked.kind == Kind::Sync {
            self.discarding = false;
        }
        self.give_up_torn(out);
        self.release_before(asked.kind, out);
        if self.discarding {
            return self.skip(asked, out);
        }
        self.turns.asks(asked.kind);
        if let Some(draft) = &mut asked.draft {
            draft.reasons.merge(self.blind);
        }
        if let Some(lost) = &mut self.lost {
            lost.reported += u64::from(asked.kind.owes_ready());
            let reasons = lost.reasons;
            return self.give_up(asked, reasons, out);
        }
        let mut limit = self.limits.pending;
        if asked.kind != Kind::Query && asked.kind != Kind::Function {
            if let Some(draft) = asked.draft.as_mut().filter(|_| self.queue.recorded() >= limit) {
                draft.forget_parameters();
            }
            limit = limit.saturating_mul(EXECUTES);
        }
        self.queue.push(asked);
        if self.queue.recorded() > limit
            && let Some(draft) = self.queue.give_up_oldest()
        {
            self.emit_unanswered(*draft, Reason::NoResponse.into(), out);
        }
        if self.queue.len() > self.limits.pending.saturating_mul(MESSAGES) {
            self.lose_all(Reason::NoResponse.into(), true, out);
        }
    }

    /// Reports a request to which no answer can be paired.
    fn give_up(&mut self, asked: Asked, reasons: Reasons, out: &mut Output<'_>) {
        if let Some(draft) = asked.draft.filter(|_| asked.kind.is_recorded()) {
            self.emit_unanswered(*draft, reasons, out);
        }
    }

    fn emit_unanswered(&self, mut draft: Draft, reasons: Reasons, out: &mut Output<'_>) {
        draft.reasons.merge(reasons);
        self.emit(draft, None, out);
    }

    /// The server ignores this message.
    pub(super) fn skip(&mut self, asked: Asked, out: &mut Output<'_>) {
        if let Some(undo) = asked.undo {
            self.undo(undo);
        }
        if let Some(draft) = asked.draft.filter(|_| asked.kind.is_recorded()) {
            self.emit(*draft, Some(Answer::skipped()), out);
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Statement(name, previous) => drop(self.statements.set(&name, previous)),
            Undo::Portal(name, previous) => drop(self.portals.set(&name, previous)),
        }
    }

    /// Everything up to Sync is ignored: takes it out of the queue.
    pub(super) fn discard_to_sync(&mut self) -> Vec<Asked> {
        let mut discarded = Vec::new();
        while self.queue.front().is_some_and(|asked| asked.kind != Kind::Sync) {
            discarded.extend(self.queue.pop());
        }
        // Where messages of the client are missing, Sync may be among them.
        self.discarding = self.queue.is_empty() && self.lost.is_none();
        discarded
    }

    /// A message that asks something begins: pairing may be certain again.
    pub(super) fn resume(&mut self, start: Time) {
        let Some(lost) = &self.lost else { return };
        let waits = !self.turns.pipelines && (self.turns.waits || lost.early);
        let ready = lost.ready.is_some_and(|ready| start >= ready);
        if self.queue.is_empty() && waits && (ready || lost.blank) {
            self.blind = if ready { Reasons::NONE } else { lost.reasons };
            self.doubt = Some(lost.reasons);
            self.lost = None;
        }
    }

    /// ReadyForQuery has come.
    pub(super) fn turn(&mut self, out: &mut Output<'_>) {
        self.turns.ready(self.lost.is_none(), !self.queue.is_empty());
        self.blind = Reasons::NONE;
        if self.turns.pipelines
            && let Some(reasons) = self.doubt.take()
        {
            self.lose_all(reasons, false, out);
        }
    }

    /// The answer of the front of the queue takes a message.
    pub(super) fn add_to_answer(&mut self, message: &Message<'_>) {
        let Some(front) = self.queue.front() else { return };
        if front.unit != self.answer_unit && front.kind.is_of_unit() {
            self.answer_unit = front.unit;
            self.answer = Answer::default();
        }
        self.answer.add(message);
    }

    /// Ends the request at the front of the queue.
    pub(super) fn finish(&mut self, out: &mut Output<'_>) {
        self.copying_in = false;
        let Some(asked) = self.queue.pop() else { return };
        let answer = std::mem::take(&mut self.answer);
        let Some(draft) = asked.draft else { return };
        if asked.kind == Kind::Execute {
            return self.conclude(draft, answer, out);
        }
        // It has its own ReadyForQuery.
        self.release(out);
        if draft.copy_failed && self.queue.is_empty() {
            self.held = Some(Held { draft, answer });
        } else {
            self.emit(*draft, Some(answer), out);
        }
    }

    /// Emits a record; if ReadyForQuery is the very next answer, or may yet be, waits for what it says.
    pub(super) fn conclude(&mut self, draft: Box<Draft>, answer: Answer, out: &mut Output<'_>) {
        self.release(out);
        if self.queue.front().is_none_or(|next| next.kind == Kind::Sync) {
            self.held = Some(Held { draft, answer });
        } else {
            self.emit(*draft, Some(answer), out);
        }
    }

    /// The answer to what is held until ReadyForQuery, to add to.
    pub(super) fn held_answer(&mut self) -> Option<&mut Answer> {
        self.held.as_mut().map(|held| &mut held.answer)
    }

    /// Sync is not what the client sent next, as far as was seen: then ReadyForQuery says nothing of what is held.
    fn release_before(&mut self, next: Kind, out: &mut Output<'_>) {
        let copied = self.held.as_ref().is_some_and(|held| held.draft.copy_failed);
        if next == Kind::Sync && !copied || !self.queue.is_empty() || self.discarding {
            return;
        }
        if let Some((held, lost)) = self.held.as_mut().zip(self.lost.as_ref()) {
            held.answer.reasons.merge(lost.reasons);
        }
        self.release(out);
    }

    /// The server answers something that was not seen: a Sync, if it is ReadyForQuery, and then the one that was missed
    /// behind what is held.
    pub(super) fn answer_to_unseen(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let failed_before = self.held.as_ref().is_some_and(|held| held.draft.leads_to_execute());
        if message.kind != b'Z' || failed_before {
            // With the Sync the Execute may be missing of which something failed before.
            self.miss_ready(Reason::Gap.into());
        }
        if message.kind == b'Z' {
            return self.release_with(message, out);
        }
        self.release(out);
    }

    /// What may be missing between what the server answers and the Sync behind it.
    pub(super) fn missing_before_sync(&self) -> Reasons {
        self.lost.as_ref().filter(|_| self.queue.is_empty()).map_or(Reasons::NONE, |lost| lost.reasons)
    }

    /// Emits what was held, with what ReadyForQuery says.
    pub(super) fn release_with(&mut self, ready: &Message<'_>, out: &mut Output<'_>) {
        if let Some(held) = &mut self.held {
            held.answer.take_result(ready);
        }
        self.miss_ready(ready.reasons());
        self.release(out);
    }

    /// ReadyForQuery, which says something of what is held, may not be seen.
    fn miss_ready(&mut self, reasons: Reasons) {
        if let Some(held) = &mut self.held {
            held.answer.reasons.merge(reasons);
        }
    }

    /// Emits what was held.
    pub(super) fn release(&mut self, out: &mut Output<'_>) {
        if let Some(Held { draft, answer }) = self.held.take() {
            self.emit(*draft, Some(answer), out);
        }
    }

    pub(super) fn emit(&self, draft: Draft, answer: Option<Answer>, out: &mut Output<'_>) {
        let mut reasons = draft.reasons;
        let mut missing_bytes = draft.missing;
        if let Some(answer) = &answer {
            reasons.merge(answer.reasons);
            missing_bytes += answer.missing;
        }
        let (sequence, bytes, start, end) = (draft.sequence, draft.bytes, draft.start, draft.end);
        let mut fields = draft.fields();
        fields.user.clone_from(&self.login.user);
        fields.database.clone_from(&self.login.database);
        fields.application_name.clone_from(&self.login.application_name);
        fields.backend_pid = self.backend;
        let request = Part { bytes, start: Some(start), end, payload: Box::new(fields) };
        out.emit(Exchange {
            protocol: "pgsql",
            sequence,
            request: Some(request),
            response: answer.map(Answer::into_part),
            reasons,
            missing_bytes,
        });
    }

    /// A response to nothing that was seen.
    pub(super) fn emit_unsolicited(&self, answer: Answer, reasons: Reasons, out: &mut Output<'_>) {
        let mut reasons = reasons;
        reasons.add(Reason::Unsolicited);
        reasons.merge(answer.reasons);
        let missing_bytes = answer.missing;
        out.emit(Exchange {
            protocol: "pgsql",
            sequence: None,
            request: None,
            response: Some(answer.into_part()),
            reasons,
            missing_bytes,
        });
    }

    /// Reports everything that waits.
    /// `exact`: no other requests can be unanswered.
    pub(super) fn lose_all(&mut self, reasons: Reasons, exact: bool, out: &mut Output<'_>) {
        if !self.queue.is_empty() {
            self.miss_ready(reasons);
        }
        self.release(out);
        self.give_up_torn(out);
        let reported = self.queue.owed();
        let mut answer = Some(std::mem::take(&mut self.answer)).filter(|answer| answer.tells());
        while let Some(asked) = self.queue.pop() {
            let Some(mut draft) = asked.draft.filter(|_| asked.kind.is_recorded()) else { continue };
            draft.reasons.merge(reasons);
            let cut = answer.take_if(|_| asked.unit == self.answer_unit).map(Answer::cut);
            self.emit(*draft, cut, out);
        }
        self.discarding = false;
        self.copying_in = false;
        self.end_unit();
        let lost = self.lost.get_or_insert_with(|| Lost::new(reasons, 0, true));
        lost.reasons.merge(reasons);
        lost.reported += reported;
        lost.exact &= exact;
        lost.early = false;
        lost.ready = None;
    }

    /// Messages of `side` are missing.
    pub(super) fn gap(&mut self, side: Side, reasons: Reasons, length: u64, out: &mut Output<'_>) {
        let lost = if reasons.contains(Reason::Gap) { length } else { 0 };
        self.turns.unbroken = false;
        if let Some(lost) = &mut self.lost {
            lost.blank = false;
        }
        match side {
            Side::Server => {
                self.miss_ready(reasons);
                if let Some(draft) = self.queue.next_recorded() {
                    draft.missing += lost;
                }
                // A gap shows when the next answer comes: then one request is unanswered behind the one it hid.
                let asked = self.turns.asked.saturating_sub(u64::from(self.is_logging_in()));
                self.turns.pipelines |= asked > 1 && !self.turns.waits;
                self.turns.asked = 0;
                if self.tear(reasons) {
                    return;
                }
                let early = asked <= 1 && self.lost.as_ref().is_none_or(|lost| lost.early);
                self.lose_all(reasons, true, out);
                if let Some(lost) = &mut self.lost {
                    lost.early = early;
                }
            }
            Side::Client => {
                self.give_up_torn(out);
                self.turns.client_gap();
                // What was asked before is still answered in order; what comes after may be behind unseen requests.
                if let Some(copy) = self.copy_in() {
                    copy.miss(reasons, lost);
                }
                if let Some(held) = self.held.as_mut().filter(|held| held.draft.copy_failed) {
                    held.draft.miss(reasons, lost);
                }
                self.forget_names(reasons);
                self.end_unit();
                self.discarding = false;
                let lost = self.lost.get_or_insert_with(|| Lost::new(reasons, 0, false));
                lost.reasons.merge(reasons);
                lost.exact = false;
                // What is missing may be requests, of which nobody knows whether the client waited between them.
                lost.early = false;
                lost.ready = None;
            }
        }
    }

    /// A part of the server's messages is missing. If one statement alone is unanswered, what follows up to
    /// ReadyForQuery still answers it, as long as nothing else is asked.
    fn tear(&mut self, reasons: Reasons) -> bool {
        if let Some(Held { answer, .. }) = &mut self.torn {
            answer.reasons.merge(reasons);
            return true;
        }
        if self.lost.is_some() || self.held.is_some() || self.copying_in {
            return false;
        }
        let unit = self.queue.front().map(|front| front.unit);
        let Some(draft) = self.queue.take_only_record() else { return false };
        let begun = std::mem::take(&mut self.answer);
        let mut answer = if unit == Some(self.answer_unit) { begun } else { Answer::default() };
        answer.tear(reasons);
        self.torn = Some(Held { draft, answer });
        true
    }

    /// A message behind what is missing of an answer. Whether there is such an answer.
    pub(super) fn mend(&mut self, message: &Message<'_>, out: &mut Output<'_>) -> bool {
        let Some(Held { answer, draft }) = &mut self.torn else { return false };
        answer.mend(message, draft.command == "execute");
        if message.kind == b'Z'
            && let Some(Held { draft, answer }) = self.torn.take()
        {
            self.emit(*draft, Some(answer), out);
        }
        true
    }

    /// Something else was asked, or missed: what comes may not answer the torn request any more.
    fn give_up_torn(&mut self, out: &mut Output<'_>) {
        let Some(Held { draft, answer }) = self.torn.take() else { return };
        let lost = self.lost.get_or_insert_with(|| Lost::new(answer.reasons, 0, true));
        lost.reported += 1;
        lost.early = !self.turns.pipelines;
        let mut draft = draft;
        draft.reasons.merge(answer.reasons);
        let cut = Some(answer).filter(Answer::tells).map(Answer::cut);
        self.emit(*draft, cut, out);
    }

    /// An answer while nothing that was seen waits for one. `ready`: it is ReadyForQuery.
    pub(super) fn stray(&mut self, message: &Message<'_>, ready: bool, out: &mut Output<'_>) {
        // An answer shows that there was a request.
        let lost = self.lost.get_or_insert_with(|| Lost::new(Reason::Gap.into(), 0, false));
        lost.blank = false;
        lost.stray.add(message);
        lost.stray.take_result(message);
        if !ready {
            lost.ready = None;
            return;
        }
        lost.ready = Some(message.last.unwrap_or(message.first).end);
        let answer = std::mem::take(&mut lost.stray);
        let reasons = lost.reasons;
        if lost.reported > 0 {
            lost.reported -= 1;
            if lost.reported == 0 && lost.exact {
                self.lost = None;
                self.doubt = None;
            }
        } else if answer.tells() {
            self.emit_unsolicited(answer, reasons, out);
        }
    }

    fn is_logging_in(&self) -> bool {
        self.queue.front().is_some_and(|front| front.kind == Kind::Startup)
    }

    /// Whether nothing that was asked is unanswered, for certain.
    pub(super) fn has_answered_all(&self) -> bool {
        self.torn.is_none() && self.queue.is_empty() && self.lost.is_none() && !self.discarding
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The connection is over, or its server has said all.
    pub(super) fn close(&mut self, out: &mut Output<'_>) {
        let mut silent = Reason::NoResponse.into();
        if let Some(front) = self.queue.front_mut().filter(|front| front.kind == Kind::Startup)
            && !self.answer.has_begun()
            && let Some(mut draft) = front.draft.take()
        {
            draft.reasons.merge(silent);
            draft.sequence = Some(out.next_sequence());
            self.emit(*draft, None, out);
        }
        if !self.queue.is_empty() {
            self.miss_ready(Reason::Closed.into());
        }
        if let Some(lost) = &self.lost {
            let reasons = lost.reasons;
            self.miss_ready(reasons);
        }
        self.release(out);
        if let Some(lost) = &mut self.lost {
            silent.merge(lost.reasons);
            let (stray, reasons, reported) = (std::mem::take(&mut lost.stray), lost.reasons, lost.reported);
            if stray.tells() && reported == 0 {
                self.emit_unsolicited(stray.cut(), reasons, out);
            }
        }
        self.lose_all(silent, true, out);
    }

    /// The server wants data of a COPY, in both directions if `both`.
    pub(super) fn begin_copy_in(&mut self) {
        let ended = self.queue.front().and_then(|front| front.draft.as_ref()).is_some_and(|draft| draft.copy_ended);
        self.copying_in = !ended;
        if self.copies_in_by_execute() {
            let removed = self.queue.remove_syncs_behind_front();
            self.turns.asked = self.turns.asked.saturating_sub(removed);
        }
    }

    pub(super) fn end_copy_in(&mut self) {
        self.copying_in = false;
    }

    /// The server has failed. If it had asked for data of a COPY, what came of it may not be all that was sent.
    pub(super) fn fail_copy_in(&mut self) {
        let of_query = self.queue.front_mut().filter(|front| self.copying_in && front.kind == Kind::Query);
        if let Some(draft) = of_query.and_then(|front| front.draft.as_mut()) {
            draft.copy_failed = true;
        }
        self.copying_in = false;
    }

    /// The server has all data of a COPY: then so should we.
    pub(super) fn check_copy_in(&mut self) {
        if self.copying_in
            && let Some(copy) = self.copy_in()
        {
            copy.miss(Reason::Gap.into(), 0);
        }
        self.copying_in = false;
    }

    pub(super) fn copies_in_by_execute(&self) -> bool {
        self.copying_in && self.queue.front().is_some_and(|front| front.kind == Kind::Execute)
    }

    /// The request that takes data of a COPY.
    pub(super) fn copy_in(&mut self) -> Option<&mut Draft> {
        if self.copying_in {
            return self.queue.front_mut()?.draft.as_deref_mut();
        }
        // The server's invitation may not have been seen yet.
        self.queue.back_mut().filter(|asked| asked.kind == Kind::Query)?.draft.as_deref_mut().filter(|it| it.is_copy())
    }

    /// Statements and portals may have been given new names without that being seen.
    pub(super) fn forget_names(&mut self, reasons: Reasons) {
        self.statements.clear();
        self.portals.clear();
        self.unseen.merge(reasons);
    }

    /// Statements that the server was told to forget by SQL.
    pub(super) fn forget_after(&mut self, tag: &Text) {
        if ["DISCARD ALL", "DEALLOCATE", "DEALLOCATE ALL", "PREPARE"].iter().any(|forgets| tag == forgets) {
            self.statements.clear();
            self.portals.clear();
        }
    }
}
