//! MySQL: the client/server protocol of MySQL 4.1 and later and of MariaDB.

mod command;
mod login;
mod packet;
mod parameters;
mod recognise;
mod reply;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use packet::{Framer, Hole, Packet, Taken};
use session::{Control, Session};

use crate::reassembly::Cause;
use crate::{Boundary, Context, Input, Output, Parser, Registration, Side, Skipped, Step, Time, Transport};

const NAME: &str = "mysql";

/// MySQL and MariaDB.
pub static REGISTRATION: Registration = Registration {
    names: &[NAME],
    carries: |transport| transport != Transport::Udp,
    infer: |head, _| recognise::infer(head),
    parser: |context| Box::new(Mysql::new(context)),
    schema: |generator| [generator.subschema_for::<types::Request>(), generator.subschema_for::<types::Response>()],
};

/// One connection.
#[derive(Debug)]
struct Mysql {
    client: Framer,
    server: Framer,
    session: Session,
}

impl Mysql {
    fn new(context: Context) -> Self {
        Self { client: Framer::default(), server: Framer::default(), session: Session::new(context) }
    }

    fn framer(&mut self, side: Side) -> &mut Framer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn packet(&mut self, side: Side, packet: &Packet<'_>, out: &mut Output<'_>) -> Control {
        match side {
            Side::Client => self.session.client(packet, true, out),
            Side::Server => self.session.server(packet, true, out),
        }
    }
}

impl Parser for Mysql {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let framer = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let session = &self.session;
        match framer.take(input, |head| session.keep(side, head.code)) {
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
        let (packet, survives) = self.framer(side).lose(length, hole);
        if let Some(packet) = packet.filter(|_| survives) {
            self.packet(side, &packet, out);
        } else if !survives {
            self.session.gap(side, hole.reason.into(), length, out);
        }
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
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
        let expects = self.session.expects();
        if side == Side::Server && expects.is_none() {
            self.session.saw_server();
        }
        recognise::boundary(side, bytes, transfer_start, expects)
    }

    fn end(&mut self, side: Side, _rest: &[u8], _at: Time, out: &mut Output<'_>) {
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
