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
use super::types::{Request, Response};
use super::value::{List, Value};
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
    /// The client has sent a request before the reply to the one before.
    pipelines: bool,
    replies: Replies,
    /// Between MULTI and EXEC, as asked for.
    transaction: bool,
    /// Database selected inside the transaction, and whether a secret will be in the reply to EXEC.
    queued: Queued,
    database: Option<u64>,
    /// Channels and patterns subscribed to.
    channels: u64,
    patterns: u64,
    monitors: bool,
    pushes: u64,
    /// Replies to come for requests that were given up because too many waited.
    given_up: u64,
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
            pipelines: false,
            replies: Replies::On,
            transaction: false,
            queued: Queued::default(),
            database: (!context.midstream).then_some(0),
            channels: 0,
            patterns: 0,
            monitors: false,
            pushes: 0,
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
        if let Some(confirmation) = Confirmation::of(&value)
            && self.confirm(&confirmation, &value, arrival, out)
        {
            return Next::Continue;
        }
        if self.is_pushed(&value) {
            self.pushes += 1;
            return Next::Continue;
        }
        self.finish_confirmed(out);
        if self.given_up > 0 {
            self.given_up -= 1;
            self.emit_unsolicited(value, arrival, Reasons::NONE, out);
            return Next::Continue;
        }
        self.pipelines |= self.waiting.len() > 1;
        // A reply that had passed before the end of the request did cannot answer it.
        let earlier = |front: &Pending| arrival.end.is_some_and(|end| end < front.arrival.last);
        match if self.waiting.front().is_some_and(earlier) { None } else { self.waiting.pop() } {
            Some(pending) => self.complete(pending, value, arrival, out),
            None => {
                let why = self.note_reply_without_request();
                self.emit_unsolicited(value, arrival, why, out);
                Next::Continue
            }
        }
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
        let begins = |text: &[u8]| matches!(&value, Value::Simple(line) if line.bytes.starts_with(text));
        let replication = pending.request.command == "PSYNC" && (begins(b"FULLRESYNC") || begins(b"CONTINUE"));
        let response = Response::new(value, std::mem::take(&mut self.pushes), secret);
        emit(pending, Some((response, arrival)), Reasons::NONE, out);
        if replication { Next::Replication } else { Next::Continue }
    }

    /// What a reply says of the connection's state; gives what is secret in it.
    fn learn(&mut self, request: &Request, value: &Value) -> Secret {
        let simple = |text: &[u8]| matches!(value, Value::Simple(line) if line.bytes == text);
        let selected = || request.args.first().and_then(|index| std::str::from_utf8(&index.bytes).ok()?.parse().ok());
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
                (self.database, self.channels, self.patterns, self.monitors) = (Some(0), 0, 0, false);
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
                let listens = self.channels + self.patterns > 0 || self.waiting.is_empty();
                let name = list.items.first().and_then(Value::text).unwrap_or_default();
                let message = match name {
                    b"message" | b"smessage" => list.length == 3,
                    b"pmessage" => list.length == 4,
                    _ => Confirmation::of(value).is_some(),
                };
                listens && message
            }
            Value::Simple(line) => self.monitors && is_monitor_line(&line.bytes),
            _ => false,
        }
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
        let rest = self.count_subscriptions(is);
        // Without an argument: all are cancelled, one by one; or there is none.
        if if wanted > 0 { count >= wanted } else { rest == 0 || !is.has_channel } {
            self.finish_confirmed(out);
        }
        true
    }

    /// Keeps the numbers of subscriptions; gives that of the kind that was confirmed.
    fn count_subscriptions(&mut self, is: &Confirmation) -> u64 {
        match is.name.first() {
            // Subscriptions to shard channels are counted apart.
            Some(b's') if is.name.starts_with(b"ss") || is.name.starts_with(b"sun") => is.total,
            Some(b'p') => {
                self.patterns = is.total.saturating_sub(self.channels);
                self.patterns
            }
            _ => {
                self.channels = is.total.saturating_sub(self.patterns);
                self.channels
            }
        }
    }

    /// Hands out a command that has all its confirmations (or is followed by another reply).
    fn finish_confirmed(&mut self, out: &mut Output<'_>) {
        if self.waiting.front().is_none_or(|front| front.confirmed.count == 0) {
            return;
        }
        self.pipelines |= self.waiting.len() > 1;
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
        emit(pending, Some((response, arrival)), Reasons::NONE, out);
    }

    fn emit_unsolicited(&mut self, value: Value, arrival: Arrival, why: Reasons, out: &mut Output<'_>) {
        let mut reasons = arrival.reasons;
        reasons.merge(why);
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
        self.finish_confirmed(out);
        if self.is_pushed(&value) || self.given_up > 0 {
            return;
        }
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
        self.finish_confirmed(out);
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

/// `subscribe`, a channel, how many there are now: what confirms each channel of a command.
struct Confirmation {
    name: Vec<u8>,
    has_channel: bool,
    total: u64,
}

impl Confirmation {
    fn of(value: &Value) -> Option<Self> {
        let (Value::Array(List { items, .. }) | Value::Push(List { items, .. })) = value else { return None };
        let [name, channel, Value::Integer(total)] = items.as_slice() else { return None };
        let name = name.text()?;
        let kinds = [&b"subscribe"[..], b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"];
        let has_channel = channel.text().is_some();
        kinds.contains(&name).then_some(Self { name: name.to_vec(), has_channel, total: u64::try_from(*total).ok()? })
    }
}

/// `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn is_monitor_line(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let time = parts.next().unwrap_or_default();
    let digits = time.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') && time.contains(&b'.');
    digits && parts.next().is_some_and(|rest| rest.starts_with(b"["))
}
