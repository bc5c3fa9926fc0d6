//! PostgreSQL: frontend/backend protocol 3 (PostgreSQL manual, chapter 55), as spoken by PostgreSQL 7.4 and later, by
//! poolers and by compatible servers.
//!
//! One record for each
//! - simple query: however many statements it holds, it is one message and is answered as a whole, up to
//!   ReadyForQuery. `rows` and `affected_rows` are sums, `command_tag` is the last one, `results` has each.
//! - Execute of the extended protocol, with the Parse, Bind and Describe that lead to it: `bytes` counts all of them,
//!   the request starts with the first of them and ends with Execute; the response starts with the first answer to
//!   them and ends with CommandComplete (or what stands for it). Sync and its ReadyForQuery belong to no Execute, but
//!   `transaction_status` is taken from there (so a record waits until the client sends something behind Execute). What
//!   was answered before the next of them was sent (a Parse with Flush) was a request of its own, and is not counted:
//!   the client may let any time pass. If the implicit commit at Sync fails, the last Execute before it has failed.
//! - function call.
//! - message that fails without an Execute: "parse", "bind", "describe", "close", "sync".
//! - login that fails or is not answered ("startup"), and cancel request. A login that succeeds makes no record: its
//!   user and database are on every record of the connection.
//!
//! An Execute that the server ignored because something before it failed is reported with status "skipped".
//! Latency is therefore what the client waits for. The server's own `log_duration` leaves out the way to the client,
//! and, of an Execute, the planning that Parse and Bind did.
//!
//! The data of rows and COPY is counted and not looked at. Passwords are never looked at. Texts of statements that
//! were prepared before the connection was seen are not known, and so absent.
//!
//! Not decoded: results, notices, notifications, settings, GSSAPI encryption, the content of replication (START_REPLICATION
//! is a "copy" that lasts as long as the stream).

mod answer;
mod certainty;
mod client;
mod message;
mod parameters;
mod prepared;
mod queue;
mod server;
mod session;
mod startup;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use message::Message;
use queue::Kind;
use session::Session;
use wire::{HEADER, Header};

use crate::reassembly::Cause;
use crate::sql::Hole;
use crate::{
    Boundary, Context, Handoff, Inference, Input, Output, Parser, Reason, Registration, Sender, Side, Skipped, Span,
    Step, Time, Transport, Violation,
};

/// PostgreSQL.
pub static REGISTRATION: Registration = Registration {
    names: &["pgsql"],
    carries: |transport| transport != Transport::Udp,
    answers_nonsense: false,
    infer: |head, _| infer(head),
    parser: |context| Box::new(Pgsql::new(context)),
    schema: |generator| [generator.subschema_for::<types::Request>(), generator.subschema_for::<types::Response>()],
};

/// Bytes of a server that came before its client's that are held until those come.
const EARLY: usize = 4096;

/// Bytes kept of a message beyond a printed value: names, types, lengths.
const AROUND_VALUE: usize = 1024;

fn infer(head: &[u8]) -> Inference {
    match startup::look(head) {
        startup::Look::Packet(..) => return Inference::Sure(Sender::Client),
        startup::Look::Need(_) => return Inference::More,
        startup::Look::No => {}
    }
    if let b"S" | b"N" = head {
        // The answer to SSLRequest.
        return Inference::Maybe(Sender::Server);
    }
    let client = judge(Side::Client, head);
    if client != Inference::No { client } else { judge(Side::Server, head) }
}

/// Judges messages with a type. Whole ones that end where the bytes end are no accident; where more is to come, the
/// other side has to be plausible too.
fn judge(side: Side, head: &[u8]) -> Inference {
    let (Some(chain), sender) =
        (wire::chain(side, head), if side == Side::Client { Sender::Client } else { Sender::Server })
    else {
        return Inference::No;
    };
    let ends_well = match side {
        Side::Client => chain.complete && chain.telling > 0,
        Side::Server => chain.complete && chain.telling > 0 && chain.last == b'Z',
    };
    match chain.whole {
        _ if ends_well => Inference::Sure(sender),
        0 => Inference::More,
        _ => Inference::Maybe(sender),
    }
}

/// A message whose body is not all there yet.
#[derive(Debug)]
struct Partial {
    header: Header,
    kept: Vec<u8>,
    /// Bytes of the body that have passed.
    passed: u64,
    first: Span,
    last: Option<Span>,
}

/// Framing of one direction.
#[derive(Debug, Default)]
struct Half {
    partial: Option<Partial>,
    /// After bytes were lost inside a body: how many more end it.
    rest_of_body: Option<u64>,
}

/// One connection.
#[derive(Debug)]
struct Pgsql {
    client: Half,
    server: Half,
    /// Whether the client is past the packets that have no type.
    started: bool,
    midstream: bool,
    /// When the client was first seen, if its login was not.
    joined: Option<Time>,
    session: Session,
}

impl Pgsql {
    fn new(context: Context) -> Self {
        Self {
            client: Half::default(),
            server: Half::default(),
            started: false,
            midstream: context.midstream,
            joined: None,
            session: Session::new(context),
        }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn message(&mut self, side: Side, message: &Message<'_>, out: &mut Output<'_>) {
        match side {
            Side::Client => self.session.client(message, out),
            Side::Server if self.is_of_login(message) => self.session.late_login(message),
            Side::Server => self.session.server(message, out),
        }
    }

    /// Whether the server said this to a login that was not seen, and it was held until the client was.
    fn is_of_login(&self, message: &Message<'_>) -> bool {
        message.last.zip(self.joined).is_some_and(|(last, joined)| last.end < joined)
    }

    /// A packet without a type; `None` if these bytes are none.
    fn startup(&mut self, input: Input<'_>, out: &mut Output<'_>) -> Option<Step> {
        let (packet, length) = match startup::look(input.bytes) {
            startup::Look::Packet(packet, length) => (packet, length),
            startup::Look::Need(total) => return Some(Step::Need(total)),
            startup::Look::No => return None,
        };
        let message = Message {
            kind: 0,
            body: &[],
            bytes: length as u64,
            first: input.span(0),
            last: Some(input.span(length - 1)),
            hole: None,
        };
        self.started = matches!(packet, startup::Packet::Startup(_));
        self.session.startup(packet, &message, out);
        Some(Step::Consumed(length))
    }

    /// The one byte that answers SSLRequest and GSSENCRequest; `None` if something else does.
    fn negotiated(&mut self, input: Input<'_>) -> Option<Step> {
        let byte = input.bytes.first()?;
        if !matches!(byte, b'S' | b'N' | b'G') {
            return None;
        }
        drop(self.session.queue.pop());
        Some(match byte {
            b'S' => Step::Stop { consumed: 1, handoff: Handoff::Tls },
            b'G' => Step::Stop { consumed: 1, handoff: Handoff::Opaque },
            _ => Step::Consumed(1),
        })
    }

    fn typed(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let header = match Header::read(side, input.bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return Step::Need(HEADER),
            Err(violation) => return self.broken(side, violation, out),
        };
        let first = input.span(0);
        let length = header.body as usize;
        if let Some(body) = input.bytes.get(HEADER..).and_then(|behind| behind.get(..length)) {
            let last = Some(input.span(HEADER + length - 1));
            let bytes = (HEADER + length) as u64;
            self.message(side, &Message { kind: header.kind, body, bytes, first, last, hole: None }, out);
            return Step::Consumed(HEADER + length);
        }
        let passes = is_passed_over(side, header.kind);
        self.half(side).partial = Some(Partial { header, kept: Vec::new(), passed: 0, first, last: None });
        if passes { Step::Skip { consumed: HEADER, length: length as u64 } } else { Step::Consumed(HEADER) }
    }

    fn broken(&mut self, side: Side, violation: Violation, out: &mut Output<'_>) -> Step {
        self.session.gap(side, Reason::ParseError.into(), 0, out);
        Step::Resync(violation)
    }

    /// More of a body.
    fn body(&mut self, side: Side, mut partial: Partial, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let length = partial.header.body as usize;
        let kept_at_most = length.min(self.session.limits.value.saturating_add(AROUND_VALUE));
        let wanted = kept_at_most - partial.kept.len();
        let more = input.bytes.get(..wanted).unwrap_or(input.bytes);
        partial.kept.extend_from_slice(more);
        partial.passed = partial.kept.len() as u64;
        partial.last = more.len().checked_sub(1).map(|last| input.span(last));
        if partial.kept.len() == length {
            self.finish(side, partial, None, out);
        } else {
            let full = partial.kept.len() == kept_at_most;
            let rest = (length - partial.kept.len()) as u64;
            self.half(side).partial = Some(partial);
            if full {
                return Step::Skip { consumed: more.len(), length: rest };
            }
        }
        Step::Consumed(more.len())
    }

    /// Takes a message of which no more will be seen.
    fn finish(&mut self, side: Side, partial: Partial, hole: Option<Hole>, out: &mut Output<'_>) {
        let message = Message {
            kind: partial.header.kind,
            body: &partial.kept,
            bytes: HEADER as u64 + u64::from(partial.header.body),
            first: partial.first,
            last: partial.last,
            hole,
        };
        self.message(side, &message, out);
    }

    /// Whether a server's bytes came too early to be answers.
    fn is_early(&self, input: Input<'_>) -> bool {
        let expects_client = !self.started && !self.midstream && !self.session.is_lost();
        expects_client && self.session.queue.is_empty() && input.bytes.len() < EARLY
    }
}

/// Messages whose content is not looked at: passwords, and data.
fn is_passed_over(side: Side, kind: u8) -> bool {
    match side {
        Side::Client => matches!(kind, b'p' | b'd' | b'f'),
        Side::Server => matches!(kind, b'D' | b'd' | b'R' | b'S' | b'N' | b'A' | b'V' | b'v'),
    }
}

impl Parser for Pgsql {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        if let Some(partial) = self.half(side).partial.take() {
            return self.body(side, partial, input, out);
        }
        match side {
            Side::Client if !self.started => {
                if let Some(step) = self.startup(input, out) {
                    return step;
                }
                self.started = true;
                if !self.session.is_lost() {
                    self.session.join(Reason::Gap.into());
                    self.joined = Some(input.span(0).start);
                }
            }
            Side::Server if self.is_early(input) => return Step::Wait,
            Side::Server if self.session.queue.front().is_some_and(|front| front.kind == Kind::Negotiation) => {
                if let Some(step) = self.negotiated(input) {
                    return step;
                }
            }
            _ => {}
        }
        self.typed(side, input, out)
    }

    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>) {
        let Some(mut partial) = self.half(side).partial.take() else { return };
        partial.last = skipped.last;
        self.finish(side, partial, None, out);
    }

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        let hole = Hole::new(length, cause);
        let half = self.half(side);
        // The length of a body is known: bytes that are lost inside it do not hide where the next message begins.
        let rest = match &half.partial {
            Some(partial) => Some(u64::from(partial.header.body) - partial.passed),
            None => half.rest_of_body,
        };
        half.rest_of_body = rest.and_then(|rest| rest.checked_sub(length));
        let survives = half.rest_of_body.is_some();
        if let Some(mut partial) = half.partial.take() {
            partial.last = None;
            self.finish(side, partial, Some(hole), out);
        }
        if !survives {
            self.session.gap(side, hole.reason.into(), length, out);
        }
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        let half = self.half(side);
        if let Some(rest) = half.rest_of_body.take() {
            return match usize::try_from(rest) {
                Ok(rest) if rest <= bytes.len() => Boundary::At(rest),
                _ => {
                    half.rest_of_body = Some(rest - bytes.len() as u64);
                    Boundary::None { discard: bytes.len() }
                }
            };
        }
        let may_start = side == Side::Client && transfer_start && !self.started;
        if may_start && matches!(startup::look(bytes), startup::Look::Packet(..)) {
            return Boundary::At(0);
        }
        boundary(side, bytes, transfer_start)
    }

    fn end(&mut self, side: Side, _rest: &[u8], _at: Time, out: &mut Output<'_>) {
        if let Some(mut partial) = self.half(side).partial.take() {
            partial.last = None;
            self.finish(side, partial, Some(Hole::CLOSED), out);
        }
        if side == Side::Server {
            self.session.close(out);
        }
    }

    fn close(&mut self, _at: Time, out: &mut Output<'_>) {
        self.session.close(out);
    }
}

/// Where the CommandComplete or ErrorResponse begins that ends at `ready`, if there is one.
fn end_of_statement(bytes: &[u8], ready: usize) -> usize {
    let from = ready.saturating_sub(END_OF_STATEMENT);
    let ends_there = |&at: &usize| {
        let message = bytes.get(at..ready).unwrap_or_default();
        let whole = matches!(message, [b'C' | b'E', ..]);
        whole && wire::chain(Side::Server, message).is_some_and(|chain| chain.complete && chain.whole == 1)
    };
    (from..ready).find(ends_there).unwrap_or(ready)
}

/// How far before ReadyForQuery the message that it follows may begin to be found.
const END_OF_STATEMENT: usize = 1024;

/// ReadyForQuery without its status.
const READY: &[u8] = b"Z\0\0\0\x05";

/// Bytes that may be the start of messages are held up to this length; they are looked at again with every more.
const UNDECIDED: usize = 8192;

/// How many places that look like ReadyForQuery are tried at once, so that bytes made for it cannot make it slow.
const CANDIDATES: usize = 16;

/// Where a message surely begins: where a transfer began, if all of it is messages; or at ReadyForQuery behind which
/// there is nothing, or only messages.
fn boundary(side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
    if transfer_start && let Some(chain) = wire::chain(side, bytes) {
        let ends_well = chain.complete && (chain.telling > 0 || chain.last == b'Z');
        if ends_well || chain.telling >= 3 {
            return Boundary::At(0);
        }
        if !chain.complete && bytes.len() < UNDECIDED {
            return Boundary::None { discard: 0 };
        }
    }
    if side == Side::Client {
        return Boundary::None { discard: bytes.len() };
    }
    let mut from = 0;
    for _ in 0..CANDIDATES {
        let Some(behind) = bytes.get(from..) else { break };
        let Some(found) = behind.windows(READY.len()).position(|window| window == READY) else {
            // It may begin in the last bytes.
            return Boundary::None { discard: bytes.len().saturating_sub(READY.len()).max(from) };
        };
        let at = from + found;
        match bytes.get(at..).and_then(|behind| wire::chain(side, behind)) {
            Some(chain) if chain.complete => return Boundary::At(end_of_statement(bytes, at)),
            Some(_) => return Boundary::None { discard: at },
            None => from = at + 1,
        }
    }
    Boundary::None { discard: from }
}
