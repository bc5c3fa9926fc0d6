//! Pairing by order, and the few commands that change what is answered.
//!
//! ```text
//!                 loss (of requests: when those before it are answered)
//!   order known -------------------------------------------------------> order lost
//!               <-------------------------------------------------------
//!                 two clean turns, on a connection that has not pipelined
//! ```
//!
//! Replies carry nothing that says what they answer. When an unknown number of messages has been lost, a reply pairs
//! with a request again only where the client waits for each reply before it sends on: then, at the start of a turn,
//! nothing is under way. Whether it does is known from the replies before the loss. A client that pipelines gets no
//! pairs on this connection any more; its requests and replies are printed apart.

use super::commands::{Secret, secret_reply};
use super::pushed::{Confirmation, is_message, is_monitor_line, is_push_word, is_subscription};
use super::types::{Request, Response};
use super::value::Value;
use crate::{Context, Exchange, Fifo, Output, Part, Reason, Reasons, Time};

/// Turns (a reply, then a request) after a loss before the order counts as known.
const TURNS: u32 = 2;

/// Confirmations of one command that are kept.
const CONFIRMATIONS: usize = 64;

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Wire size; `None` where the end was not seen.
    pub(super) bytes: Option<u64>,
    pub(super) start: Time,
    pub(super) end: Option<Time>,
    /// When the last transfer that was seen of it began.
    pub(super) last: Time,
    pub(super) reasons: Reasons,
    pub(super) missing_bytes: u64,
    /// It begins in the transfer in which the one before it ended.
    pub(super) same_transfer: bool,
}

impl Arrival {
    fn part(&self, payload: impl crate::Payload + 'static) -> Part {
        Part { bytes: self.bytes, start: Some(self.start), end: self.end, payload: Box::new(payload) }
    }
}

#[derive(Debug)]
struct Pending {
    sequence: u64,
    request: Request,
    arrival: Arrival,
    /// Confirmations of a command that is answered once for each channel.
    confirmed: Confirmed,
}

#[derive(Debug, Default)]
struct Confirmed {
    values: Vec<Value>,
    count: u64,
    first: Option<Arrival>,
}

/// Whether replies can be told apart.
#[derive(Clone, Copy, Debug)]
enum Order {
    Known,
    Lost {
        why: Reasons,
        /// Turns seen since.
        turns: u32,
        /// The last message was a reply.
        replied: bool,
    },
}

/// Which commands are answered (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    SkipNext,
}

/// What a reply means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    /// Replication begins.
    Replication,
}

#[derive(Debug)]
pub(super) struct Session {
    waiting: Fifo<Pending>,
    order: Order,
    /// When the last reply had passed for which no request waited.
    unmatched: Option<Time>,
    /// The client has sent a request before the reply to the one before.
    pipelines: bool,
    replies: Replies,
    /// Between MULTI and EXEC, as asked for.
    transaction: bool,
    /// Database selected inside the transaction, and whether a secret will be in the reply to EXEC.
    queued: Queued,
    database: Option<u64>,
    subscribed: Subscribed,
    monitors: bool,
    pushes: u64,
    /// Why there may have been more or fewer of them.
    uncounted: Reasons,
    /// Replies to come for requests that were given up because too many waited.
    given_up: u64,
}

/// What is subscribed to.
#[derive(Clone, Copy, Debug, Default)]
struct Subscribed {
    channels: u64,
    patterns: u64,
    shards: u64,
    /// There may be more than was seen.
    unsure: bool,
}

impl Subscribed {
    fn perhaps(&self) -> bool {
        self.unsure || self.channels > 0 || self.patterns > 0 || self.shards > 0
    }

    /// Takes the numbers from a confirmation; gives that of its kind.
    fn count(&mut self, is: &Confirmation) -> u64 {
        let (kind, total) = match is.name.first() {
            // Subscriptions to shard channels are counted apart.
            Some(b's') if is.name.starts_with(b"ss") || is.name.starts_with(b"sun") => (&mut self.shards, is.total),
            Some(b'p') => (&mut self.patterns, is.total.saturating_sub(self.channels)),
            _ => (&mut self.channels, is.total.saturating_sub(self.patterns)),
        };
        *kind = total;
        total
    }

    /// A client of RESP2 that is subscribed gets errors for all but a few commands.
    fn learn(&mut self, command: &[u8], value: &Value) {
        let always = is_subscription(command) || matches!(command, b"PING" | b"QUIT" | b"RESET" | b"HELLO" | b"AUTH");
        self.unsure &= always || value.error().is_some();
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    database: Option<u64>,
    secret: bool,
}

impl Session {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            waiting: Fifo::new(context.limits.pending),
            order: Order::Known,
            unmatched: None,
            pipelines: false,
            replies: Replies::On,
            transaction: false,
            queued: Queued::default(),
            database: (!context.midstream).then_some(0),
            subscribed: Subscribed { unsure: context.midstream, ..Subscribed::default() },
            monitors: false,
            pushes: 0,
            uncounted: Reasons::NONE,
            given_up: 0,
        }
    }

    /// Takes a request.
    pub(super) fn ask(&mut self, mut request: Request, arrival: Arrival, out: &mut Output<'_>) {
        let sequence = out.next_sequence();
        let answered = self.is_answered(&request);
        self.pipelines |= arrival.same_transfer && answered;
        request.no_reply = !answered;
        let pending = Pending { sequence, request, arrival, confirmed: Confirmed::default() };
        if !answered {
            self.emit_unanswered(pending, out);
            return;
        }
        if self.unmatched.take().is_some_and(|passed| arrival.start < passed) {
            // It was held back behind a loss, and its reply may be the one that found no request.
            self.lose_order(Reason::Gap.into());
        }
        if let Order::Lost { why, turns, replied } = &mut self.order {
            *turns = if *replied { *turns + 1 } else { 0 };
            *replied = false;
            if *turns < TURNS || self.pipelines || !self.waiting.is_empty() {
                let why = *why;
                emit(pending, None, why, out);
                return;
            }
            self.order = Order::Known;
        }
        if let Some(oldest) = self.waiting.push(pending) {
            self.given_up += 1;
            self.give_up(oldest, Reason::NoResponse.into(), out);
        }
    }

    fn emit_unanswered(&mut self, mut pending: Pending, out: &mut Output<'_>) {
        if pending.request.command == "SELECT" {
            self.database = None;
        } else if self.waiting.is_empty() {
            pending.request.database = self.database;
        }
        emit(pending, None, Reasons::NONE, out);
    }

    /// Whether the server will answer this; keeps the mode that CLIENT REPLY sets.
    fn is_answered(&mut self, request: &Request) -> bool {
        let mode = self.replies;
        if mode == Replies::SkipNext {
            self.replies = Replies::On;
        }
        match request.command.as_bytes() {
            b"MULTI" => self.transaction = true,
            b"EXEC" | b"DISCARD" => self.transaction = false,
            b"RESET" => {
                self.transaction = false;
                self.replies = Replies::On;
                return true;
            }
            b"CLIENT" if request.has(0, "REPLY") && !self.transaction => {
                if request.has(1, "ON") {
                    self.replies = Replies::On;
                    return true;
                }
                if request.has(1, "OFF") {
                    self.replies = Replies::Off;
                    return false;
                }
                if request.has(1, "SKIP") {
                    self.replies = if mode == Replies::Off { Replies::Off } else { Replies::SkipNext };
                    return false;
                }
            }
            _ => {}
        }
        mode == Replies::On
    }

    /// Takes a value that the server sent.
    pub(super) fn answer(&mut self, value: Value, arrival: Arrival, out: &mut Output<'_>) -> Next {
        if !arrival.reasons.is_empty() && self.may_be_pushed(&value, |_| false) {
            // What it is was lost, and so is what comes next.
            self.lose_replies(arrival.reasons, out);
            self.emit_unsolicited(value, arrival, Reasons::NONE, out);
            return Next::Continue;
        }
        if let Some(confirmation) = Confirmation::of(&value)
            && self.confirm(&confirmation, &value, arrival, out)
        {
            return Next::Continue;
        }
        if self.is_pushed(&value) {
            self.pushes += 1;
            if let Some(confirmation) = Confirmation::of(&value) {
                self.subscribed.count(&confirmation);
            }
            return Next::Continue;
        }
        self.finish_confirmed(Reasons::NONE, out);
        if self.given_up > 0 {
            self.given_up -= 1;
            self.emit_unsolicited(value, arrival, Reasons::NONE, out);
            return Next::Continue;
        }
        self.note_pipelining(arrival.end);
        // A reply that had passed before the end of the request did cannot answer it.
        let earlier = |front: &Pending| arrival.end.is_some_and(|end| end < front.arrival.last);
        match if self.waiting.front().is_some_and(earlier) { None } else { self.waiting.pop() } {
            Some(pending) => self.complete(pending, value, arrival, out),
            None => {
                self.unmatched = Some(arrival.end.unwrap_or(Time(u64::MAX)));
                let why = self.note_reply_without_request();
                self.emit_unsolicited(value, arrival, why, out);
                Next::Continue
            }
        }
    }

    /// Whether another request had passed before the reply that ends at `end`. That it waits is not enough: a loss in
    /// the reply may have shown only after the request.
    fn note_pipelining(&mut self, end: Option<Time>) {
        let several = self.waiting.len() > 1;
        let passed = |newest: &mut Pending| end.is_some_and(|end| newest.arrival.start < end);
        self.pipelines |= several && self.waiting.back_mut().is_some_and(passed);
    }

    fn note_reply_without_request(&mut self) -> Reasons {
        match &mut self.order {
            Order::Known => {
                // The mode that was thought to hold does not.
                self.replies = Replies::On;
                Reasons::NONE
            }
            Order::Lost { why, turns, replied } => {
                if *replied {
                    *turns = 0;
                }
                *replied = true;
                *why
            }
        }
    }

    fn complete(&mut self, mut pending: Pending, value: Value, arrival: Arrival, out: &mut Output<'_>) -> Next {
        pending.request.database = self.database;
        let secret = self.learn(&pending.request, &value);
        let why = self.take_uncounted();
        let begins = |text: &[u8]| matches!(&value, Value::Simple(line) if line.bytes.starts_with(text));
        let replication = pending.request.command == "PSYNC" && (begins(b"FULLRESYNC") || begins(b"CONTINUE"));
        let response = Response::new(value, std::mem::take(&mut self.pushes), secret);
        emit(pending, Some((response, arrival)), why, out);
        if replication { Next::Replication } else { Next::Continue }
    }

    /// What a reply says of the connection's state; gives what is secret in it.
    fn learn(&mut self, request: &Request, value: &Value) -> Secret {
        let simple = |text: &[u8]| matches!(value, Value::Simple(line) if line.bytes == text);
        let index = request.args.first().filter(|index| index.is_whole());
        let selected = || index.and_then(|index| std::str::from_utf8(&index.bytes).ok()?.parse().ok());
        self.subscribed.learn(request.command.as_bytes(), value);
        let secret = secret_reply(request.command.as_bytes(), &request.args);
        if simple(b"QUEUED") {
            self.queued.secret |= secret != Secret::Nothing;
            if request.command == "SELECT" {
                self.queued.database = selected();
            }
            return Secret::Nothing;
        }
        match request.command.as_bytes() {
            b"SELECT" if simple(b"OK") => self.database = selected(),
            b"MONITOR" => self.monitors |= simple(b"OK"),
            b"RESET" if simple(b"RESET") => {
                (self.database, self.subscribed, self.monitors) = (Some(0), Subscribed::default(), false);
            }
            b"EXEC" | b"DISCARD" => return self.end_transaction(value),
            _ => {}
        }
        secret
    }

    fn end_transaction(&mut self, value: &Value) -> Secret {
        let queued = std::mem::take(&mut self.queued);
        let Value::Array(results) = value else { return Secret::Nothing };
        if queued.database.is_some() {
            let failed = results.items.iter().any(|result| result.error().is_some());
            self.database = queued.database.filter(|_| !failed);
        }
        if queued.secret { Secret::All } else { Secret::Nothing }
    }

    /// Whether the server sent this on its own.
    fn is_pushed(&self, value: &Value) -> bool {
        match value {
            Value::Push(_) => true,
            // RESP2 has no type of its own for these. Where a reply is due they count only after a subscription.
            Value::Array(list) => {
                let listens = self.subscribed.perhaps() || self.waiting.is_empty();
                listens && (is_message(list) || Confirmation::of(value).is_some())
            }
            Value::Simple(line) => self.monitors && is_monitor_line(&line.bytes),
            _ => false,
        }
    }

    /// Whether the server may have sent this, of which bytes were lost, on its own or as one of several confirmations:
    /// its first word is not all there, or `tells` so.
    fn may_be_pushed(&self, value: &Value, tells: impl Fn(&[u8]) -> bool) -> bool {
        let (Value::Array(list) | Value::Push(list)) = value else { return false };
        let tells = match list.items.first() {
            Some(Value::Bulk(word)) => !word.is_whole() || tells(&word.bytes),
            Some(_) => false,
            None => list.length > 0,
        };
        let subscribes = self.waiting.front().is_some_and(|front| is_subscription(front.request.command.as_bytes()));
        let is_push = matches!(value, Value::Push(_));
        tells && (subscribes || !is_push && self.subscribed.perhaps())
    }

    /// Why the messages since the last response may not all be counted.
    fn take_uncounted(&mut self) -> Reasons {
        std::mem::take(&mut self.uncounted)
    }

    /// Counts a confirmation of (un)subscribing for the command that waits for it; says whether one does.
    fn confirm(&mut self, is: &Confirmation, value: &Value, arrival: Arrival, out: &mut Output<'_>) -> bool {
        let Some(front) = self.waiting.front_mut() else { return false };
        if front.request.command.as_bytes() != is.name.to_ascii_uppercase() {
            return false;
        }
        let confirmed = &mut front.confirmed;
        if confirmed.values.len() < CONFIRMATIONS {
            confirmed.values.push(value.clone());
        }
        confirmed.count += 1;
        let first = confirmed.first.get_or_insert(arrival);
        first.bytes = if confirmed.count == 1 {
            arrival.bytes
        } else {
            first.bytes.zip(arrival.bytes).map(|(a, b)| a.saturating_add(b))
        };
        first.end = arrival.end;
        first.reasons.merge(arrival.reasons);
        let wanted = front.request.arguments();
        let count = confirmed.count;
        let rest = self.subscribed.count(is);
        // Without an argument: all are cancelled, one by one; or there is none.
        if if wanted > 0 { count >= wanted } else { rest == 0 || !is.has_channel } {
            self.finish_confirmed(Reasons::NONE, out);
        }
        true
    }

    /// Hands out a command that has all its confirmations, or is followed by another reply, or has lost some (`why`).
    fn finish_confirmed(&mut self, mut why: Reasons, out: &mut Output<'_>) {
        if self.waiting.front().is_none_or(|front| front.confirmed.count == 0) {
            return;
        }
        let end = self.waiting.front().and_then(|front| front.confirmed.first?.end);
        self.note_pipelining(end);
        let Some(mut pending) = self.waiting.pop() else { return };
        let Confirmed { mut values, count, first } = std::mem::take(&mut pending.confirmed);
        let Some(arrival) = first else { return };
        let pushes = std::mem::take(&mut self.pushes);
        let response = match values.pop() {
            Some(only) if count == 1 => Response::new(only, pushes, Secret::Nothing),
            last => {
                values.extend(last);
                Response::several(values, count, pushes)
            }
        };
        pending.request.database = self.database;
        why.merge(self.take_uncounted());
        emit(pending, Some((response, arrival)), why, out);
    }

    fn emit_unsolicited(&mut self, value: Value, arrival: Arrival, why: Reasons, out: &mut Output<'_>) {
        let mut reasons = arrival.reasons;
        reasons.merge(why);
        reasons.merge(self.take_uncounted());
        reasons.add(Reason::Unsolicited);
        let response = Response::new(value, std::mem::take(&mut self.pushes), Secret::Nothing);
        out.emit(Exchange {
            protocol: super::NAME,
            sequence: None,
            request: None,
            response: Some(arrival.part(response)),
            reasons,
            missing_bytes: arrival.missing_bytes,
        });
    }

    /// A request of which only the beginning was seen: it is not known how many more there were.
    pub(super) fn ask_in_part(&mut self, request: Request, arrival: Arrival, out: &mut Output<'_>) {
        let sequence = out.next_sequence();
        let pending = Pending { sequence, request, arrival, confirmed: Confirmed::default() };
        emit(pending, None, Reasons::NONE, out);
    }

    /// A reply of which only the beginning was seen: it answers what is next.
    pub(super) fn answer_in_part(&mut self, value: Value, arrival: Arrival, out: &mut Output<'_>) {
        if self.may_be_pushed(&value, is_push_word) || self.is_pushed(&value) || self.given_up > 0 {
            return;
        }
        self.finish_confirmed(arrival.reasons, out);
        match self.waiting.pop() {
            Some(mut pending) => {
                pending.request.database = self.database;
                if ["SELECT", "RESET", "EXEC"].iter().any(|command| pending.request.command == *command) {
                    self.database = None;
                }
                let secret = secret_reply(pending.request.command.as_bytes(), &pending.request.args);
                let response = Response::new(value, std::mem::take(&mut self.pushes), secret);
                emit(pending, Some((response, arrival)), Reasons::NONE, out);
            }
            None => self.emit_unsolicited(value, arrival, Reasons::NONE, out),
        }
    }

    /// Requests may have been lost. Those before them are answered first.
    pub(super) fn lose_requests(&mut self, why: Reasons) {
        self.lose_order(why);
    }

    /// Requests are found again after bytes that were lost before this was known to be Redis.
    pub(super) fn find_requests(&mut self) {
        if let Order::Known = self.order {
            self.lose_order(Reason::Gap.into());
        }
    }

    /// Whether the client has been seen to send requests before it had the replies to those before them.
    pub(super) fn pipelines(&self) -> bool {
        self.pipelines
    }

    /// Whether no request waits for a reply.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Replies may have been lost.
    pub(super) fn lose_replies(&mut self, why: Reasons, out: &mut Output<'_>) {
        self.give_up_all(why, out);
        self.lose_order(why);
        self.given_up = 0;
        self.monitors = false;
    }

    fn lose_order(&mut self, why: Reasons) {
        self.order = Order::Lost { why, turns: 0, replied: false };
        self.uncounted.merge(why);
        self.subscribed.unsure = true;
        self.replies = Replies::On;
        self.transaction = false;
        self.queued = Queued::default();
        self.database = None;
    }

    fn give_up(&mut self, mut pending: Pending, why: Reasons, out: &mut Output<'_>) {
        pending.request.database = self.database;
        if ["SELECT", "RESET", "EXEC"].iter().any(|command| pending.request.command == *command) {
            self.database = None;
        }
        emit(pending, None, why, out);
    }

    /// Reports every request that still waits.
    pub(super) fn give_up_all(&mut self, why: Reasons, out: &mut Output<'_>) {
        self.finish_confirmed(why, out);
        while let Some(pending) = self.waiting.pop() {
            self.give_up(pending, why, out);
        }
    }

    /// Why requests that wait at the end of the connection have no reply.
    pub(super) fn close(&mut self, out: &mut Output<'_>) {
        self.give_up_all(Reason::NoResponse.into(), out);
    }

    /// Whether the reply that comes next begins a replication stream in which there are no replies.
    pub(super) fn awaits_sync(&self) -> bool {
        self.waiting.front().is_some_and(|front| front.request.command == "SYNC")
    }
}

fn emit(pending: Pending, answer: Option<(Response, Arrival)>, why: Reasons, out: &mut Output<'_>) {
    let Pending { sequence, request, arrival, .. } = pending;
    let mut reasons = arrival.reasons;
    reasons.merge(why);
    let mut missing_bytes = arrival.missing_bytes;
    if let Some((_, answer)) = &answer {
        reasons.merge(answer.reasons);
        missing_bytes = missing_bytes.saturating_add(answer.missing_bytes);
    }
    out.emit(Exchange {
        protocol: super::NAME,
        sequence: Some(sequence),
        request: Some(arrival.part(request)),
        response: answer.map(|(response, arrival)| arrival.part(response)),
        reasons,
        missing_bytes,
    });
}
