//! Recognising the protocol of a connection from its first bytes.

use super::half::{Half, Mode, Untold};
use super::{Connection, Direction, Stage, side};
use crate::parser::Mark;
use crate::proxy::{self, Look};
use crate::{Exchange, Inference, Output, Registration, Sender, Side, Transport};

/// Bytes that recognition looks at in each direction before it gives up.
const HEAD: usize = 4096;

/// How often recognition starts anew on a connection that was joined in its middle.
const ATTEMPTS: u32 = 64;

enum Verdict {
    Is(&'static Registration, Direction),
    Wait,
    Unknown,
}

enum Weight {
    Client(Direction),
    Wait,
    No,
}

impl Connection {
    pub(super) fn infer(&mut self, direction: Direction, bytes: &[u8], mark: Mark, out: &mut Vec<Exchange>) {
        let half = self.half_mut(direction);
        if half.buffer.is_empty() && !mark.transfer_start && self.context.midstream {
            self.counters.unrecognised += bytes.len() as u64;
            return;
        }
        self.half_mut(direction).append(bytes, mark);
        if self.may_be_proxied(direction) {
            return;
        }
        match self.recognise() {
            Verdict::Wait => {}
            Verdict::Is(registration, client) => self.start(registration, client, out),
            Verdict::Unknown => self.give_up_head(direction),
        }
    }

    /// Takes a header of the PROXY protocol from the start of a stream; whether one may be there and needs more bytes.
    /// Only the client sends one.
    fn may_be_proxied(&mut self, direction: Direction) -> bool {
        let may_be = self.client.is_none_or(|client| client == direction) && !self.context.midstream;
        let half = self.half_mut(direction);
        if !half.at_start || !may_be {
            return false;
        }
        let look = proxy::look(&half.buffer);
        half.at_start = look == Look::More;
        if let Look::Header(length, proxied) = look {
            half.drain(length);
            self.client = Some(direction);
            self.proxied = proxied;
            self.counters.proxy_headers += 1;
        }
        self.half(direction).at_start
    }

    /// Begins to speak a protocol with what was buffered while it was being recognised.
    fn start(&mut self, registration: &'static Registration, client: Direction, out: &mut Vec<Exchange>) {
        self.client = Some(client);
        for direction in [Direction::Read, Direction::Write] {
            let known = infer_half(registration, self.half(direction), self.context.transport);
            let midstream = self.context.midstream;
            let half = self.half_mut(direction);
            // Behind a gap the parser says where a message begins, although the bytes may look like one.
            let gapped = matches!(half.mode, Mode::Resync);
            // Where the beginning was not seen, "too few bytes to say" may be the middle of a message.
            let certain = !gapped
                && match known {
                    Inference::Maybe(_) | Inference::Sure(_) => true,
                    // What no protocol knows has been answered in this one: it is for the parser to object.
                    Inference::More | Inference::No => !midstream,
                };
            half.mode = if certain { Mode::Parse } else { Mode::Resync };
            self.forget_missing(direction);
        }
        self.stage = Stage::Speak { name: registration.name(), parser: (registration.parser)(self.context) };
        // What passed first is parsed first: a response is not to meet a request that came after it.
        let passed = |half: &Half| half.marks.first().map(|mark| mark.span.end);
        let server_first = match (passed(self.half(client)), passed(self.half(client.other()))) {
            (Some(client), Some(server)) => server < client,
            _ => false,
        };
        let first = if server_first { client.other() } else { client };
        for direction in [first, first.other()] {
            self.tell_missing(direction, out);
            self.speak(direction, &[], None, out);
        }
        self.go_on(first, out);
    }

    /// Forgets what is missing from before the other direction's first bytes: it answers nothing that is known.
    fn forget_missing(&mut self, direction: Direction) {
        let other = self.half(direction.other()).marks.first().map(|mark| mark.span.start);
        let before = |untold: &Untold| untold.span.zip(other).is_some_and(|(span, other)| span.end <= other);
        let half = self.half_mut(direction);
        half.untold = half.untold.filter(|untold| !before(untold));
    }

    /// Tells the parser what was missing before it was there: what has been asked may have been answered in it.
    fn tell_missing(&mut self, direction: Direction, out: &mut Vec<Exchange>) {
        let Some(Untold { length, cause, .. }) = self.half_mut(direction).untold.take() else { return };
        let (Some(client), Stage::Speak { parser, .. }) = (self.client, &mut self.stage) else { return };
        let mut output = Output { exchanges: out, sequence: &mut self.sequence };
        parser.gap(side(client, direction), length, cause, &mut output);
    }

    /// These bytes are not the start of anything known: the end of it, unless the connection was joined in its
    /// middle and may yet come to a boundary.
    fn give_up_head(&mut self, direction: Direction) {
        let Stage::Infer { attempts } = &mut self.stage else { return };
        *attempts += 1;
        if !self.context.midstream || *attempts > ATTEMPTS {
            self.counters.unrecognised += self.buffered() as u64;
            self.finish();
            return;
        }
        let half = self.half_mut(direction);
        let given_up = half.buffer.len() as u64;
        half.forget_buffer();
        self.counters.unrecognised += given_up;
    }

    fn recognise(&self) -> Verdict {
        let mut wait = false;
        for registration in self.candidates.iter().filter(|r| (r.carries)(self.context.transport)) {
            let read = infer_half(registration, &self.halves.read, self.context.transport);
            let write = infer_half(registration, &self.halves.write, self.context.transport);
            match self.weigh(registration, read, write) {
                Weight::Client(client) => return Verdict::Is(registration, client),
                Weight::Wait => wait = true,
                Weight::No => {}
            }
        }
        let full = self.halves.read.buffer.len().max(self.halves.write.buffer.len()) >= HEAD;
        if wait && !full { Verdict::Wait } else { Verdict::Unknown }
    }

    /// Whether a protocol's judgement of both directions is enough, and which direction is then the client's.
    fn weigh(&self, registration: &Registration, read: Inference, write: Inference) -> Weight {
        let no = [read, write].contains(&Inference::No);
        let sure = [read, write].iter().any(|inference| matches!(inference, Inference::Sure(_)));
        let plausible = |inference: Inference| inference.sender().is_some();
        if no && !(self.context.midstream && sure) {
            return if registration.answers_nonsense { self.weigh_answer(read, write) } else { Weight::No };
        }
        let clients = [Direction::Read, Direction::Write].into_iter().filter(|&client| {
            let fits = |direction, inference: Inference| {
                inference.sender().is_none_or(|sender: Sender| sender.may_be(side(client, direction)))
            };
            self.client.is_none_or(|known| known == client)
                && fits(Direction::Read, read)
                && fits(Direction::Write, write)
        });
        let enough = sure || (plausible(read) && plausible(write));
        match clients.collect::<Vec<_>>().as_slice() {
            // What only a server sends, in the client's direction: no more bytes change that.
            [] => Weight::No,
            [client] if enough => Weight::Client(*client),
            _ => Weight::Wait,
        }
    }

    /// One direction does not carry the protocol. It may be nonsense that a server answers: a client that speaks TLS,
    /// and a server that does not.
    fn weigh_answer(&self, read: Inference, write: Inference) -> Weight {
        let (client, answer) = if read == Inference::No { (Direction::Read, write) } else { (Direction::Write, read) };
        let began = |direction| self.half(direction).marks.first().map(|mark| mark.span.start);
        let is_later =
            began(client.other()).is_none_or(|answered| began(client).is_some_and(|asked| asked <= answered));
        match answer {
            _ if self.context.midstream || !is_later || self.client == Some(client.other()) => Weight::No,
            Inference::Sure(Sender::Server) => Weight::Client(client),
            Inference::More => Weight::Wait,
            _ => Weight::No,
        }
    }

    pub(super) fn recognise_datagram(&mut self, direction: Direction, bytes: &[u8]) {
        let transport = self.context.transport;
        for registration in self.candidates.iter().filter(|r| (r.carries)(transport)) {
            let Inference::Sure(sender) = (registration.infer)(bytes, transport) else { continue };
            let Some(client) = self
                .client
                .or_else(|| Some(if sender.side()? == Side::Client { direction } else { direction.other() }))
            else {
                continue;
            };
            self.client = Some(client);
            self.stage = Stage::Speak { name: registration.name(), parser: (registration.parser)(self.context) };
            return;
        }
    }
}

fn infer_half(registration: &Registration, half: &Half, transport: Transport) -> Inference {
    if half.buffer.is_empty() { Inference::More } else { (registration.infer)(&half.buffer, transport) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context;
    use crate::{Layer, Segment, Span, registry};

    fn connection(script: &[(Direction, &[u8])]) -> Connection {
        let candidates = registry::ALL.iter().collect();
        let mut connection = Connection::new(candidates, context(Transport::Tcp, false), None);
        let mut positions = [0; 2];
        for &(direction, bytes) in script {
            let position = &mut positions[direction as usize];
            let segment = Segment { position: *position, bytes, length: bytes.len() as u64, span: Span::default() };
            *position += segment.length;
            connection.data(Layer::Socket, direction, segment, &mut Vec::new());
        }
        connection
    }

    #[test]
    fn nonsense_is_kept_until_it_is_answered_and_not_for_ever() {
        use Direction::{Read, Write};
        let (nonsense, more) = ([0xaa; HEAD - 16], [0xaa; 16]);
        assert!(!connection(&[(Read, &nonsense)]).is_done());
        for script in [[(Read, &nonsense[..]), (Read, &more)], [(Write, &nonsense), (Read, &more)]] {
            let connection = connection(&script);
            assert!(connection.is_done());
            assert_eq!((connection.held(), connection.counters().unrecognised), (0, HEAD as u64));
        }
    }
}
