//! One session: what waits for an answer, what is known of the login, and whether pairing is certain.
//!
//! The server answers commands in order, and what can answer each is known. Sequence ids begin anew with every
//! command, so they tell where a response begins and that none of its packets is missing, not which one it answers.
//!
//! ```text
//!              server: gap, or an answer to nothing that was asked         joined midstream
//!   Certain ------------------------------------------------------> Lost <-----------------
//!      ^       client: gap (what was asked before it is still paired)     |
//!      '-----------------------------------------------------------------'
//!         a client that waits its turn asks something new: whatever it asked before has been answered
//! ```
//!
//! A client waits its turn if, while pairing was certain, it was seen to ask only after the answer before had ended.
//! Where it had no occasion yet to show it (joined midstream, a gap in the first response), that is taken for granted
//! until it is seen not to hold; pairing is lost again then. A client that was seen to pipeline is not paired any more
//! after a gap.

mod loss;

use std::collections::VecDeque;

use super::command::{Draft, Effect};
use super::login::{Greeting, Login};
use super::packet::{Head, Packet};
use super::reply::{Failure, Progress, Reply, Terms};
use super::statements::{LAST, Statements};
use super::turns::Awaited;
use super::types;
use super::wire::{Kind, capability};
use crate::sql::Hole;
use crate::{Context, Exchange, Handoff, Limits, Output, Part, Reason, Reasons, Side, Text, Time, Violation};

/// Bytes kept of a packet beyond a printed value: types, lengths, names.
const AROUND_VALUE: usize = 1024;

/// What records call a login.
const LOGIN: &str = "login";

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server greets.
    Greeting,
    /// The client answers the greeting.
    Login,
    /// Both prove who they are.
    Auth,
    /// Commands and responses.
    Command,
}

/// What the driver is to do after a packet.
#[derive(Debug)]
pub(super) enum Control {
    Go,
    Stop(Handoff),
    Resync(Violation),
}

/// Pairing is lost.
#[derive(Debug)]
struct Lost {
    reasons: Reasons,
    /// The client had no occasion yet to show that it waits its turn.
    early: bool,
    /// Nothing was seen of either side before.
    blank: bool,
    /// Whatever was asked before has been answered if the client waits its turn and asks again.
    quiet: bool,
    /// Requests that were reported without a response that may still come.
    reported: u64,
    /// An answer to requests that were not seen.
    stray: Reply,
}

impl Lost {
    fn new(reasons: Reasons) -> Self {
        Self { reasons, early: false, blank: false, quiet: false, reported: 0, stray: Reply::default() }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    greeting: Option<Greeting>,
    pub(super) terms: Terms,
    /// Whether packets are inside of compressed ones; `None` where the login was not seen.
    pub(super) compressed: Option<bool>,
    user: Option<Text>,
    database: Option<Text>,
    pub(super) statements: Statements,
    /// A login that has not succeeded yet.
    login: Option<Draft>,
    /// Whether it has may have been said in bytes that are missing.
    missed_login: bool,
    /// Of both that prove who they are, the client has spoken last.
    servers_turn: bool,
    queue: VecDeque<Draft>,
    /// The response to the first of them.
    reply: Reply,
    /// Sequence id of the next packet of the response, where known.
    next_sequence: Option<u8>,
    lost: Option<Lost>,
    /// The server's framing was lost and has not been found again, why.
    blind: Option<Reasons>,
    /// Pairing goes on because the client is believed to wait its turn.
    doubt: Option<Reasons>,
    /// What the first record after joining midstream has to say.
    joined: Reasons,
    /// Why statements may be unknown.
    unseen: Reasons,
    /// The last response was seen to end with nothing else waiting, and nothing was missed since.
    at_rest: bool,
    waits: bool,
    pipelines: bool,
}

impl Session {
    pub(super) fn new(context: Context) -> Self {
        let midstream = context.midstream;
        let unseen = if midstream { Reason::Midstream.into() } else { Reasons::NONE };
        let lost = midstream.then(|| Lost { early: true, blank: true, ..Lost::new(unseen) });
        Self {
            limits: context.limits,
            phase: if midstream { Phase::Command } else { Phase::Greeting },
            greeting: None,
            terms: Terms::default(),
            compressed: if midstream { None } else { Some(false) },
            user: None,
            database: None,
            statements: Statements::default(),
            login: None,
            missed_login: false,
            servers_turn: false,
            queue: VecDeque::new(),
            reply: Reply::default(),
            next_sequence: None,
            lost,
            blind: midstream.then_some(unseen),
            doubt: None,
            joined: Reasons::NONE,
            unseen,
            at_rest: false,
            waits: false,
            pipelines: false,
        }
    }

    /// How much to keep of a packet that `side` sends.
    pub(super) fn keep(&self, side: Side, code: Option<u8>) -> usize {
        let bulk = match side {
            Side::Client => self.takes_data(),
            Side::Server => !self.queue.is_empty() && self.reply.is_bulk() && !matches!(code, Some(0xfe | 0xff)),
        };
        if bulk { 1 } else { self.limits.value.saturating_add(AROUND_VALUE) }
    }

    /// Why the statement that a command names is not known.
    pub(super) fn why_unknown(&self, id: u32) -> Reasons {
        let mut reasons = self.unseen;
        reasons.merge(self.blind.unwrap_or(Reasons::NONE));
        if id != LAST && self.queue.iter().any(|it| it.kind == Kind::Prepare) {
            // The client has had the answer, which names it.
            reasons.add(Reason::Gap);
        }
        reasons
    }

    /// Whether a statement of this id may be what is being prepared.
    pub(super) fn is_preparing(&self, id: u32) -> bool {
        self.statements.get(id).is_none_or(|_| id == LAST) && self.queue.iter().any(|it| it.kind == Kind::Prepare)
    }

    /// Whether what the client sends belongs to the command that is being answered.
    pub(super) fn takes_data(&self) -> bool {
        self.reply.wants_file() && self.queue.front().is_some_and(|front| !front.data_ended)
    }

    /// What the command that is answered next expects.
    pub(super) fn expects(&self) -> Option<Kind> {
        self.queue.front().map(|front| front.kind)
    }

    /// Sequence id of the server's next packet during the login, where known.
    pub(super) fn next_of_login(&self) -> Option<u8> {
        self.next_sequence.filter(|_| self.phase == Phase::Auth)
    }

    /// What has to come before the packet of `side` can be read that `bytes` begin.
    pub(super) fn awaited(&self, side: Side, bytes: &[u8]) -> Option<Awaited> {
        let is_command = || Head::read(bytes).is_ok_and(|head| head.sequence == 0);
        let awaited = match (side, self.phase) {
            (Side::Client, Phase::Greeting) => Awaited::Greeting,
            (Side::Server, Phase::Login) => Awaited::Login,
            (Side::Client, Phase::Auth) if is_command() => Awaited::Admission,
            (Side::Client, Phase::Auth) => Awaited::Answer,
            _ => return None,
        };
        Some(awaited).filter(|&it| !self.has_come(it))
    }

    /// Whether it has come, or may be in what is missing.
    pub(super) fn has_come(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Greeting => self.phase != Phase::Greeting,
            Awaited::Login => self.phase != Phase::Login,
            Awaited::Answer => self.phase != Phase::Auth || !self.servers_turn || self.is_login_missed(),
            Awaited::Admission => self.phase != Phase::Auth || self.is_login_missed(),
        }
    }

    /// Whether the answer to the login may be in what is missing.
    fn is_login_missed(&self) -> bool {
        self.missed_login || self.blind.is_some()
    }

    fn is_authenticating(&self) -> bool {
        self.queue.front().is_some_and(|front| front.kind == Kind::Auth) && self.reply.has_begun()
    }

    // ---- client ----

    pub(super) fn client(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        match self.phase {
            Phase::Greeting | Phase::Login => self.log_in(packet, out),
            Phase::Auth if packet.sequence == 0 => {
                // The answer to the login has not come, unless it was missed.
                let sequence = self.next_sequence;
                let missed = self.is_login_missed();
                let login = self.login.take().filter(|_| !missed);
                self.begin_commands();
                self.next_sequence = sequence.filter(|_| login.is_some());
                self.queue.extend(login);
                self.command(packet, out)
            }
            Phase::Auth => {
                self.servers_turn = true;
                self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
                Control::Go
            }
            Phase::Command if self.takes_data() => {
                self.file(packet);
                Control::Go
            }
            Phase::Command if packet.sequence == 0 => self.command(packet, out),
            Phase::Command if self.is_authenticating() => {
                self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
                if let Some(front) = self.queue.front_mut() {
                    front.add(packet);
                }
                Control::Go
            }
            Phase::Command if self.is_blank() && Login::read_41(&packet.body).is_some() => self.log_in(packet, out),
            Phase::Command => self.broken(Side::Client, Violation("sequence_id"), out),
        }
    }

    fn is_blank(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.blank)
    }

    fn log_in(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        let Some(login) = Login::read(packet) else { return self.unreadable(Side::Client, packet, "login", out) };
        if login.tls {
            return Control::Stop(Handoff::Tls);
        }
        let offered = self.greeting.as_ref().map_or(u64::MAX, |greeting| greeting.capabilities);
        self.terms = Terms::of(login.capabilities & offered);
        self.user = login.user;
        self.database = login.database;
        self.phase = Phase::Auth;
        self.compressed = Some(false);
        self.lost = None;
        let unseen = std::mem::take(&mut self.unseen);
        self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
        let mut draft = Draft::new(LOGIN, Kind::Auth, packet);
        if self.greeting.is_none() {
            draft.reasons.merge(if unseen.is_empty() { Reason::Midstream.into() } else { unseen });
        }
        self.login = Some(draft);
        self.missed_login = false;
        self.servers_turn = true;
        Control::Go
    }

    /// A part of the file that the server wants; the empty packet ends it.
    fn file(&mut self, packet: &Packet<'_>) {
        self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
        let Some(front) = self.queue.front_mut() else { return };
        front.add(packet);
        front.data_bytes = Some(front.data_bytes.unwrap_or(0).saturating_add(packet.length));
        front.data_ended = packet.length == 0;
    }

    fn command(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        self.settle(out);
        // Who asks has been let in, where that was missed.
        self.login = None;
        let Some(mut draft) = self.draft(packet) else {
            return self.unreadable(Side::Client, packet, "command", out);
        };
        if draft.kind != Kind::Nothing {
            self.resume(packet.first.start, out);
        }
        draft.sequence = Some(out.next_sequence());
        if draft.kind == Kind::Nothing {
            // Complete as it is: it gets no answer.
            let session = self.when_answered();
            self.emit_of(session, draft, None, out);
            return Control::Go;
        }
        self.enqueue(draft, out);
        Control::Go
    }

    fn enqueue(&mut self, mut draft: Draft, out: &mut Output<'_>) {
        self.waits |= self.at_rest;
        self.at_rest = false;
        draft.reasons.merge(std::mem::take(&mut self.joined));
        if let Some(lost) = &mut self.lost {
            lost.reported += 1;
            lost.quiet = false;
            if lost.reasons.is_empty() {
                lost.reasons.add(Reason::Gap);
            }
            let reasons = lost.reasons;
            self.let_go(&mut draft);
            let effect = std::mem::take(&mut draft.effect);
            self.emit_unanswered(draft, reasons, out);
            return self.apply_unseen(effect);
        }
        if let Some(reasons) = self.blind.filter(|_| !self.queue.is_empty()) {
            // Where the client waits its turn, what was asked before has been answered unseen.
            let lost = self.lost.take();
            self.pipelines |= !self.waits;
            self.lose_all(reasons, out);
            if !self.pipelines {
                self.lost = lost;
            }
            return self.enqueue(draft, out);
        }
        self.queue.push_back(draft);
        if self.queue.len() > self.limits.pending {
            self.lose_all(Reason::NoResponse.into(), out);
        }
    }

    /// A client that waits its turn asks something: pairing is certain again.
    fn resume(&mut self, start: Time, out: &mut Output<'_>) {
        let Some(lost) = &self.lost else { return };
        let over = lost.stray.end().is_none_or(|end| end <= start);
        let waits = !self.pipelines && (self.waits || lost.early);
        if !self.queue.is_empty() || !waits || !over || !(lost.quiet || lost.blank) {
            return;
        }
        if lost.blank {
            self.joined = lost.reasons;
        }
        if !self.waits {
            self.doubt = Some(lost.reasons);
        }
        self.end_loss(out);
        self.reply = Reply::default();
        self.next_sequence = None;
    }

    /// Reports an answer to something that was neither seen nor reported.
    fn end_loss(&mut self, out: &mut Output<'_>) {
        let Some(lost) = self.lost.take() else { return };
        if lost.reported == 0 && lost.stray.has_begun() {
            // One error, and nothing behind it.
            let complete = lost.reasons.is_empty();
            self.emit_unsolicited(lost.stray, complete, lost.reasons, out);
        }
    }

    // ---- server ----

    pub(super) fn server(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        self.blind = None;
        match self.phase {
            Phase::Greeting | Phase::Login => self.greet(packet, out),
            Phase::Command if packet.sequence == 0 && self.is_blank() && Greeting::read(&packet.body).is_some() => {
                // It was not joined in its middle after all.
                self.lost = None;
                self.unseen = Reasons::NONE;
                self.compressed = Some(false);
                self.greet(packet, out)
            }
            Phase::Auth => self.authenticate(packet, out),
            Phase::Command => self.answer(packet, out),
        }
    }

    fn greet(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        if packet.is_error() {
            // The server does not want this client (too many connections, a host that is blocked).
            return self.refuse(packet, out);
        }
        self.greeting = Greeting::of(packet);
        if self.greeting.is_none() && packet.hole.is_none() {
            return self.broken(Side::Server, Violation("greeting"), out);
        }
        self.unseen.merge(Hole::reasons(packet.hole));
        self.phase = Phase::Login;
        Control::Go
    }

    fn refuse(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        let mut reply = Reply::default();
        match reply.take(packet, Kind::Simple, &mut self.terms) {
            Progress::Done => self.emit_unsolicited(reply, packet.last.is_some(), Reasons::NONE, out),
            Progress::More | Progress::Foreign => return self.unreadable(Side::Server, packet, "greeting", out),
        }
        Control::Go
    }

    fn authenticate(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        self.saw_server();
        self.servers_turn = false;
        self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
        match packet.code() {
            Some(0) => {
                let mut reply = Reply::default();
                reply.take(packet, Kind::Simple, &mut self.terms);
                let known = reply.schema.take().or(self.database.take());
                self.database = known.filter(|_| !reply.schema_unseen);
                self.login = None;
                self.begin_commands();
            }
            Some(0xff) => {
                let mut reply = Reply::default();
                match reply.take(packet, Kind::Simple, &mut self.terms) {
                    Progress::Done => {}
                    Progress::More => return Control::Go,
                    Progress::Foreign => return self.unreadable(Side::Server, packet, "error", out),
                }
                let Some(mut draft) = self.login.take() else { return Control::Go };
                draft.reasons.merge(reply.reasons);
                draft.missing += reply.missing;
                self.emit(draft, Some(reply.into_part(packet.last.is_some())), out);
                self.begin_commands();
            }
            _ => {}
        }
        Control::Go
    }

    fn begin_commands(&mut self) {
        self.phase = Phase::Command;
        self.compressed = self.terms.capabilities.map(|it| it & capability::COMPRESSED != 0);
        self.reply = Reply::default();
        self.next_sequence = None;
    }

    fn answer(&mut self, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        let is_next = self.compressed == Some(true) || self.next_sequence == Some(packet.sequence);
        if self.reply.may_be_complete() && !(packet.is_eof() && is_next) {
            self.settle(out);
        }
        let Some(front) = self.queue.front() else { return self.stray(packet) };
        // Inside of compressed packets the server counts on from the outer sequence id (`net_flush`).
        let ordered = self.compressed != Some(true);
        let began_before = packet.last.is_some_and(|span| span.end < front.start);
        let expected = self.next_sequence.unwrap_or(front.last_packet.wrapping_add(1));
        if began_before || (ordered && packet.sequence != expected) {
            return self.broken(Side::Server, Violation("sequence_id"), out);
        }
        let kind = front.kind;
        // MariaDB reports progress meanwhile.
        let had_asked = self.reply.wants_file();
        let progress = self.reply.take(packet, kind, &mut self.terms);
        self.next_sequence = Some(packet.last_sequence.wrapping_add(1));
        match progress {
            Progress::More => {
                if self.reply.wants_file() && !had_asked {
                    self.ask_for_file();
                }
                Control::Go
            }
            Progress::Foreign => self.unreadable(Side::Server, packet, "response", out),
            Progress::Done => {
                let streams = kind == Kind::Stream && self.reply.response.status == "ok";
                self.finish(!streams, out);
                if streams { Control::Stop(Handoff::Opaque) } else { Control::Go }
            }
        }
    }

    /// The client is to send a file.
    fn ask_for_file(&mut self) {
        if let Some(front) = self.queue.front_mut() {
            front.data_bytes.get_or_insert(0);
            front.data_ended = false;
        }
    }

    /// A response that may be complete is, as something else follows.
    fn settle(&mut self, out: &mut Output<'_>) {
        if self.reply.may_be_complete() {
            self.terms.deprecate_eof = Some(true);
            self.finish(true, out);
        }
    }

    /// The response to the first command has ended.
    fn finish(&mut self, complete: bool, out: &mut Output<'_>) {
        let reply = std::mem::take(&mut self.reply);
        self.next_sequence = None;
        self.compressed.get_or_insert(false);
        let Some(mut draft) = self.queue.pop_front() else { return };
        let ahead = self.queue.front().is_some_and(|next| reply.end().is_none_or(|end| next.start < end));
        self.pipelines |= ahead;
        self.at_rest = self.queue.is_empty() && self.lost.is_none();
        self.let_go(&mut draft);
        draft.reasons.merge(reply.reasons);
        draft.missing += reply.missing;
        if draft.data_bytes.is_some() && !draft.data_ended {
            // The server answers a file when it has all of it.
            draft.lose_data(Reason::Gap.into());
        }
        let effect = std::mem::take(&mut draft.effect);
        let succeeded = reply.response.status != "error";
        let (response, schema, schema_unseen) = (reply.response.clone(), reply.schema.clone(), reply.schema_unseen);
        let sql = draft.sql.clone().filter(|_| succeeded && effect != Effect::None);
        let reasons = draft.reasons;
        if !(succeeded && draft.command == LOGIN) {
            self.emit(draft, Some(reply.into_part(complete)), out);
        }
        if effect == Effect::Prepare {
            let made = response.statement_id.zip(response.parameters).zip(sql.clone());
            if made.is_none() {
                self.unseen.merge(reasons);
            }
            self.statements.prepared(made.map(|((id, parameters), sql)| (id, parameters, sql, reasons)));
        } else if succeeded {
            self.apply(effect, response.results.len());
        }
        if schema_unseen {
            self.database = None;
        } else if let Some(schema) = schema {
            self.database = Some(schema).filter(|name| !name.as_bytes().is_empty());
        }
        if self.pipelines
            && let Some(reasons) = self.doubt.take()
        {
            self.lose_all(reasons, out);
        }
    }

    /// What a command may have changed of which it was not seen whether it succeeded.
    fn apply_unseen(&mut self, effect: Effect) {
        match effect {
            Effect::None | Effect::Prepare => {}
            Effect::Database(_) => self.database = None,
            Effect::Login(..) => (self.user, self.database) = (None, None),
            Effect::Reset => self.statements.doubt(),
        }
    }

    /// What a command that succeeded has changed.
    fn apply(&mut self, effect: Effect, results: usize) {
        match effect {
            Effect::None | Effect::Prepare => {}
            Effect::Database(name) if results < 2 => self.database = name,
            Effect::Database(_) => self.database = None,
            Effect::Login(user, database) => {
                (self.user, self.database) = (user, database);
                self.statements.clear();
            }
            Effect::Reset => self.statements.clear(),
        }
    }

    /// Late knowledge: the values of an execution whose statement was being prepared when it was sent.
    fn let_go(&mut self, draft: &mut Draft) {
        let Some(body) = draft.execute.take() else { return };
        let Some(id) = draft.statement_id else { return };
        self.resolve(draft, id, &body);
    }

    /// A packet that answers nothing that was seen.
    fn stray(&mut self, packet: &Packet<'_>) -> Control {
        self.at_rest = false;
        // An answer shows that there was a request; but with an error the server also says goodbye to an idle client.
        let reasons = if packet.is_error() { Reasons::NONE } else { Reason::Gap.into() };
        if self.lost.is_none() && !reasons.is_empty() {
            self.miss_commands(reasons);
        }
        let lost = self.lost.get_or_insert_with(|| Lost::new(reasons));
        lost.blank = false;
        lost.quiet = true;
        if lost.stray.has_begun() && lost.reasons.is_empty() {
            lost.reasons.add(Reason::Gap);
        }
        if !lost.stray.has_begun() && packet.is_error() && Failure::read(&packet.body, &self.terms).is_some() {
            lost.stray.take(packet, Kind::Simple, &mut self.terms);
        } else {
            lost.stray.measure(packet);
        }
        Control::Go
    }

    // ---- out ----

    fn emit_unanswered(&self, mut draft: Draft, reasons: Reasons, out: &mut Output<'_>) {
        draft.reasons.merge(reasons);
        self.emit(draft, None, out);
    }

    /// User and database when all that waits is answered, where that does not depend on the answers.
    fn when_answered(&self) -> (Option<Text>, Option<Text>) {
        let changes_user = |it: &Draft| matches!(it.effect, Effect::Login(..));
        let changes_database = |it: &Draft| changes_user(it) || matches!(it.effect, Effect::Database(_));
        let user = self.user.clone().filter(|_| !self.queue.iter().any(changes_user));
        let database = self.database.clone().filter(|_| !self.queue.iter().any(changes_database));
        (user, database)
    }

    fn emit(&self, draft: Draft, response: Option<Part>, out: &mut Output<'_>) {
        self.emit_of((self.user.clone(), self.database.clone()), draft, response, out);
    }

    fn emit_of(
        &self,
        (user, database): (Option<Text>, Option<Text>),
        draft: Draft,
        response: Option<Part>,
        out: &mut Output<'_>,
    ) {
        // A login has none before it is known that it makes a record.
        let sequence = Some(draft.sequence.unwrap_or_else(|| out.next_sequence()));
        let (bytes, start, end) = (draft.bytes, draft.start, draft.end);
        let (reasons, missing_bytes) = (draft.reasons, draft.missing);
        let fields = types::Request {
            user,
            database,
            connection_id: self.greeting.as_ref().map(|greeting| greeting.connection),
            server_version: self.greeting.as_ref().map(|greeting| greeting.version.clone()),
            ..draft.fields()
        };
        let request = Some(Part { bytes, start: Some(start), end, payload: Box::new(fields) });
        out.emit(Exchange { protocol: super::NAME, sequence, request, response, reasons, missing_bytes });
    }

    /// A response to nothing that was seen.
    fn emit_unsolicited(&self, reply: Reply, complete: bool, reasons: Reasons, out: &mut Output<'_>) {
        let mut reasons = reasons;
        reasons.add(Reason::Unsolicited);
        reasons.merge(reply.reasons);
        let missing_bytes = reply.missing;
        let response = Some(reply.into_part(complete));
        out.emit(Exchange { protocol: super::NAME, sequence: None, request: None, response, reasons, missing_bytes });
    }
}
