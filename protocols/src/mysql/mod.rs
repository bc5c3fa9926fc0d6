//! MySQL: the client/server protocol of MySQL 4.1 and later, of MariaDB, and of what speaks like them.
//!
//! One record for each command (`COM_*`), however many results answer it: `rows` and `affected_rows` are sums,
//! `results` has each. Commands that get no answer (`quit`, `stmt_close`, `stmt_send_long_data`) are complete without a
//! response. A login makes a record ("login") only if it fails or is not answered; otherwise its user and database
//! are on every record of the connection, and so is what changes them later (`USE`, COM_INIT_DB, COM_CHANGE_USER,
//! session tracking). A failure that the server tells without being asked ("Too many connections") is a response alone.
//!
//! The request starts with the first byte of the command's packet and ends with its last (of LOAD DATA LOCAL, with the
//! end of the file), the response ends with the last byte of its last packet: latency is what the client waits for.
//!
//! Rows and files are counted and not looked at. What proves a user's identity is never looked at. Texts of statements
//! that were prepared before the connection was seen are not known, and so absent; where the login was not seen, what
//! depends on the capabilities is left out unless the packets themselves tell (see `reply.rs`).
//!
//! A compressed connection (zlib, zstd) is decompressed within bounds (see `compress.rs`). Content that is cut off by
//! the capture limit hides where packets begin until the next command: the records it touched say "truncated".
//!
//! COM_BINLOG_DUMP and COM_BINLOG_DUMP_GTID are one record each, whose response has no end: nothing is made of what
//! follows.
//!
//! Not decoded: results, values of COM_STMT_BULK_EXECUTE, names and values of query attributes, session variables
//! that the server reports, old commands that no server answers any more (COM_TIME, COM_CONNECT, …), MySQL X.

mod command;
mod compress;
mod login;
mod packet;
mod parameters;
mod recognise;
mod reply;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod turns;
mod types;
mod wire;

use packet::{Framer, Packet, Taken};
use session::{Control, Phase, Session};
use turns::Turns;

use crate::parser::Mark;
use crate::reassembly::Cause;
use crate::sql::Hole;
use crate::{
    Boundary, Context, Input, Output, Parser, Reason, Registration, Side, Skipped, Span, Step, Time, Transport,
};

const NAME: &str = "mysql";

/// MySQL and MariaDB.
pub static REGISTRATION: Registration = Registration {
    names: &[NAME],
    carries: |transport| transport != Transport::Udp,
    answers_nonsense: false,
    infer: |head, _| recognise::infer(head),
    parser: |context| Box::new(Mysql::new(context)),
    schema: |generator| [generator.subschema_for::<types::Request>(), generator.subschema_for::<types::Response>()],
};

/// One connection.
#[derive(Debug)]
struct Mysql {
    client: Framer,
    server: Framer,
    /// Around them, if the connection is compressed.
    compressed_client: compress::Stream,
    compressed_server: compress::Stream,
    session: Session,
    turns: Turns,
}

impl Mysql {
    fn new(context: Context) -> Self {
        Self {
            client: Framer::default(),
            server: Framer::default(),
            compressed_client: compress::Stream::default(),
            compressed_server: compress::Stream::default(),
            session: Session::new(context),
            turns: Turns::default(),
        }
    }

    fn framer(&mut self, side: Side) -> &mut Framer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn packet(&mut self, side: Side, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        match side {
            Side::Client => self.session.client(packet, out),
            Side::Server => self.session.server(packet, out),
        }
    }

    fn stream(&mut self, side: Side) -> &mut compress::Stream {
        match side {
            Side::Client => &mut self.compressed_client,
            Side::Server => &mut self.compressed_server,
        }
    }

    /// Takes the next packet, or part of one, from ordinary bytes.
    fn take<'a>(&mut self, side: Side, input: Input<'a>) -> Taken<'a> {
        let framer = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let session = &self.session;
        framer.take(input, |head| session.keep(side, head.code))
    }

    /// Whether it is not the turn of `side`, which is about to begin a packet.
    fn must_wait(&mut self, side: Side, bytes: &[u8]) -> bool {
        let Self { session, turns, .. } = self;
        turns.must_wait(side, session.awaited(side, bytes), |it| session.has_come(it))
    }

    /// Where the login was not seen, the first command shows whether the connection is compressed.
    fn is_compressed(&mut self, side: Side, bytes: &[u8]) -> bool {
        if side == Side::Client && self.session.compressed.is_none() {
            let content = compress::first_content(bytes);
            self.session.compressed = content.filter(|content| recognise::are_commands(content)).map(|_| true);
        }
        self.session.compressed == Some(true)
    }

    /// A step through the outer packets of a compressed connection.
    fn step_compressed(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let Some(mut current) = self.stream(side).current.take() else {
            return match self.stream(side).header(input) {
                Some(()) => Step::Consumed(compress::HEADER),
                None => Step::Need(compress::HEADER),
            };
        };
        let (mut at, mut broken) = (0, None);
        while let Some(rest) = input.bytes.get(at..) {
            match current.decode(rest) {
                Ok((0, content)) if content.is_empty() => break,
                Ok((consumed, content)) => {
                    at += consumed;
                    let span = compress::Stream::span(&current, input, at);
                    match self.content(side, &content, &mut current, span, out) {
                        Control::Go => {}
                        Control::Resync(violation) => broken = Some(violation),
                        Control::Stop(handoff) => return Step::Stop { consumed: at.max(1), handoff },
                    }
                }
                Err(violation) => {
                    broken = Some(violation);
                    current.ignore();
                    self.lose_content(side, Reason::ParseError, 0, out);
                }
            }
        }
        let last = input.span(at.saturating_sub(1));
        if !current.is_over() {
            self.stream(side).current = Some(current);
        } else {
            match self.end_outer(side, &mut current, last, out) {
                Control::Go => {}
                Control::Resync(violation) => broken = Some(violation),
                Control::Stop(handoff) => return Step::Stop { consumed: at.max(1), handoff },
            }
        }
        match broken {
            Some(violation) => Step::Broken { consumed: at, violation },
            None => Step::Consumed(at),
        }
    }

    /// An outer packet has ended, and with it the last packet inside of it.
    fn end_outer(&mut self, side: Side, current: &mut compress::Current, last: Span, out: &mut Output<'_>) -> Control {
        let rest = current.charge_rest();
        let stream = self.stream(side);
        let packet = stream.last.take().map(|it| Packet { last: Some(last), bytes: it.bytes + rest, ..it });
        let Some(packet) = packet else {
            stream.uncharged += if stream.lost { 0 } else { rest };
            return Control::Go;
        };
        let control = self.packet(side, &packet, out);
        if let Control::Resync(_) = control {
            self.stream(side).lose_content();
        }
        control
    }

    /// Takes some of what outer packets hold.
    fn content(
        &mut self,
        side: Side,
        content: &[u8],
        current: &mut compress::Current,
        span: Span,
        out: &mut Output<'_>,
    ) -> Control {
        if content.is_empty() {
            return Control::Go;
        }
        let given = current.give(content);
        let starts = given == 0;
        if self.stream(side).lost && !(starts && self.begins(side, content)) {
            current.charge(given + content.len() as u64);
            return Control::Go;
        }
        let mut carry = std::mem::take(&mut self.stream(side).carry);
        let carried = carry.len();
        carry.extend_from_slice(content);
        let marks = [Mark { offset: 0, span, transfer_start: starts }];
        let mut at = 0;
        while let Some(rest) = carry.get(at..).filter(|rest| !rest.is_empty()) {
            // More follows it: it was not the last.
            let before = self.stream(side).last.take();
            match before.map_or(Control::Go, |packet| self.packet(side, &packet, out)) {
                Control::Go => {}
                broken @ Control::Resync(_) => {
                    self.stream(side).lose_content();
                    return broken;
                }
                stop @ Control::Stop(_) => return stop,
            }
            let input = Input { bytes: rest, uncaptured: 0, transfer_start: starts, offset: at, marks: &marks };
            let (consumed, packet) = self.inner(side, input, span);
            if consumed == 0 {
                break;
            }
            at += consumed;
            let end = given + at.saturating_sub(carried) as u64;
            self.charge(side, packet, current.charge(end));
        }
        self.stream(side).carry = carry.get(at..).unwrap_or_default().to_vec();
        Control::Go
    }

    /// One step through content: how much it took, and the packet that ended there.
    fn inner<'a>(&mut self, side: Side, input: Input<'a>, span: Span) -> (usize, Option<Packet<'a>>) {
        let pass = &mut self.stream(side).pass;
        if *pass > 0 {
            let passed = (*pass).min(input.bytes.len() as u64);
            *pass -= passed;
            let over = *pass == 0;
            let packet = if over { self.framer(side).passed(Some(span)) } else { None };
            return (passed as usize, packet);
        }
        match self.take(side, input) {
            Taken::Need(_) => (0, None),
            Taken::More(consumed) => (consumed, None),
            Taken::Pass { consumed, length } => {
                self.stream(side).pass = length.into();
                // Nothing of the content may have been taken: what is to be passed over follows at once.
                if consumed == 0 { self.inner(side, input, span) } else { (consumed, None) }
            }
            Taken::Packet(consumed, packet) => (consumed, Some(packet)),
        }
    }

    /// A packet from compressed content is charged with the bytes on the wire since the one before. If it is the last
    /// of its outer packet, it ends where that ends.
    fn charge(&mut self, side: Side, packet: Option<Packet<'_>>, more: u64) {
        let stream = self.stream(side);
        stream.uncharged += more;
        let Some(packet) = packet else { return };
        let bytes = std::mem::take(&mut stream.uncharged);
        stream.last = Some(Packet { bytes, ..packet.into_owned() });
    }

    /// The end of the outer packet was not seen: hands out the last packet that was found in it.
    fn cut_outer(&mut self, side: Side, hole: Hole, out: &mut Output<'_>) {
        let packet = self.stream(side).last.take();
        if let Some(packet) = packet.map(|packet| Packet { last: None, hole: packet.hole.or(Some(hole)), ..packet }) {
            self.packet(side, &packet, out);
        }
    }

    /// Whether a packet surely begins with some content.
    fn begins(&mut self, side: Side, content: &[u8]) -> bool {
        let expects = self.session.expects();
        if side == Side::Server && expects.is_none() {
            self.session.saw_server();
        }
        let found = recognise::boundary(side, content, true, expects) == Boundary::At(0);
        self.stream(side).lost = !found;
        found
    }

    fn lose_content(&mut self, side: Side, reason: Reason, length: u64, out: &mut Output<'_>) {
        if let Some(packet) = self.stream(side).last.take() {
            self.packet(side, &packet, out);
        }
        self.framer(side).cut();
        self.stream(side).lose_content();
        self.session.gap(side, reason.into(), length, out);
    }
}

impl Parser for Mysql {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        if !self.framer(side).is_inside() && self.must_wait(side, input.bytes) {
            return Step::Wait;
        }
        if self.is_compressed(side, input.bytes) {
            return self.step_compressed(side, input, out);
        }
        match self.take(side, input) {
            Taken::Need(total) => Step::Need(total),
            Taken::More(consumed) => Step::Consumed(consumed),
            Taken::Pass { consumed, length } => Step::Skip { consumed, length: length.into() },
            Taken::Packet(consumed, packet) => match self.packet(side, &packet, out) {
                Control::Go => Step::Consumed(consumed),
                Control::Stop(handoff) => Step::Stop { consumed, handoff },
                Control::Resync(violation) => Step::Resync(violation),
            },
        }
    }

    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>) {
        if let Some(packet) = self.framer(side).passed(skipped.last) {
            self.packet(side, &packet, out);
        }
    }

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        let hole = Hole::new(length, cause);
        if self.session.compressed == Some(true) {
            self.cut_outer(side, hole, out);
            self.stream(side).lose(length);
            return self.lose_content(side, hole.reason, length, out);
        }
        let (packet, survives) = self.framer(side).lose(length, hole);
        if let Some(packet) = packet.filter(|_| survives) {
            self.packet(side, &packet, out);
        } else if !survives {
            self.session.gap(side, hole.reason.into(), length, out);
        }
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        // First: what is left of the packet that turns compression on is not compressed.
        let rest = self.framer(side).rest();
        if let Some(length) = rest.take() {
            return match usize::try_from(length) {
                Ok(length) if length <= bytes.len() => Boundary::At(length),
                _ => {
                    *rest = Some(length - bytes.len() as u64);
                    Boundary::None { discard: bytes.len() }
                }
            };
        }
        if self.is_compressed(side, bytes) {
            if transfer_start && bytes.len() < compress::TELLING {
                return Boundary::None { discard: 0 };
            }
            let inside = self.stream(side).current.is_some();
            let begins = transfer_start && compress::begins(bytes, if side == Side::Client { 0 } else { 1 });
            self.stream(side).lost = true;
            return if inside || begins { Boundary::At(0) } else { Boundary::None { discard: bytes.len() } };
        }
        if side == Side::Client && self.session.phase == Phase::Login {
            return match recognise::is_login(bytes) {
                Some(true) if transfer_start => Boundary::At(0),
                None if transfer_start => Boundary::None { discard: 0 },
                _ => Boundary::None { discard: bytes.len() },
            };
        }
        if side == Side::Server
            && let Some(sequence) = self.session.next_of_login()
        {
            return recognise::boundary_in_login(bytes, transfer_start, sequence);
        }
        let expects = self.session.expects();
        if side == Side::Server && expects.is_none() {
            self.session.saw_server();
        }
        recognise::boundary(side, bytes, transfer_start, expects)
    }

    fn lose_patience(&mut self, side: Side) -> bool {
        self.turns.lose_patience(side);
        true
    }

    fn end(&mut self, side: Side, _rest: &[u8], _at: Time, out: &mut Output<'_>) {
        self.cut_outer(side, Hole::CLOSED, out);
        if let Some(packet) = self.framer(side).cut() {
            self.packet(side, &packet, out);
        }
        if side == Side::Server {
            self.session.close(out);
        }
    }

    fn close(&mut self, _at: Time, out: &mut Output<'_>) {
        self.session.close(out);
    }
}
