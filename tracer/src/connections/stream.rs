//! One socket, or one TLS session.

use protocols::{
    Connection, Context, Counters, Direction, Exchange, Layer, Limits, Reason, Segment, Span, Time, Transport,
};
use tracer_ebpf::{Data, Open, flag, origin};

use super::address;
use super::table::{Candidates, Libraries};
use super::tap::{Facts, Tap};
use crate::attach::library;
use crate::record::{ConnectionInfo, Endpoint, Role, Tls, TupleSource};

const AF_UNIX: u16 = 1;

/// One socket, or one TLS session that no socket is known for.
#[derive(Debug)]
pub struct Stream {
    /// What records say of it.
    pub info: ConnectionInfo,
    /// The process that uses it.
    pub pid: u32,
    /// Process and thread that moved its last bytes, as the kernel puts them together; 0: not known.
    pub thread: u64,
    /// Address of the kernel's `struct sock`; 0: not known.
    pub socket: u64,
    /// When it was over, while its last events are awaited.
    pub closed: Option<Time>,
    /// Whether the kernel side has been told that its bytes are of no interest.
    pub dismissed: bool,
    /// Whether bytes of it were left out, so that nothing may be concluded from what was not seen.
    pub shed: bool,
    /// What the kernel side said at its end of how many bytes it had read and written: a FIN may be among them.
    pub totals: Option<[u32; 2]>,
    /// Whether it may have begun before it could be seen.
    midstream: bool,
    /// When it was first seen.
    opened: Time,
    /// The direction that carries the client's bytes, where the way the socket was made tells.
    client: Option<Direction>,
    connection: Connection,
    /// Where the next byte of the socket stands in each direction: TCP positions come modulo 2^32.
    next: [u64; 2],
    /// How the socket of its TLS session was found.
    bound: TupleSource,
    /// Whether a record has named it.
    pub reported: bool,
    /// Exchanges of a TLS session whose socket is about to show, with the thread that completed each.
    held_back: Vec<(u64, Exchange)>,
    /// Whether its socket has shown, or has not in time.
    settled: bool,
}

/// Exchanges that wait for a session's socket at most.
const HELD_BACK: usize = 256;

impl Stream {
    /// A connection of which bytes came before (or without) its addresses.
    pub fn unknown(id: String, pid: u32, candidates: &Candidates, limits: Limits) -> Self {
        let info = ConnectionInfo {
            id,
            transport: Transport::Tcp,
            role: Role::Unknown,
            local: None,
            remote: None,
            proxied: None,
            tls: None,
            tuple_source: TupleSource::None,
        };
        let context = Context { transport: Transport::Tcp, midstream: true, limits };
        Self {
            info,
            pid,
            thread: 0,
            socket: 0,
            closed: None,
            dismissed: false,
            shed: false,
            totals: None,
            midstream: true,
            opened: Time(0),
            client: None,
            connection: Connection::new(candidates.clone(), context, None),
            next: [0; 2],
            bound: TupleSource::None,
            reported: false,
            held_back: Vec::new(),
            settled: false,
        }
    }

    /// A connection whose addresses are known.
    pub fn open(id: String, pid: u32, open: &Open, candidates: &Candidates, limits: Limits) -> Self {
        let mut stream = Self::unknown(id, pid, candidates, limits);
        stream.identify(open);
        let client = client_direction(&stream.info, open.origin);
        let midstream = open.origin == origin::UNKNOWN;
        let context = Context { transport: stream.info.transport, midstream, limits };
        stream.connection = Connection::new(candidates.clone(), context, client);
        (stream.midstream, stream.client) = (midstream, client);
        stream.opened = Time(open.header.time);
        stream.info.role = role(client);
        stream.begin(Layer::Socket, Time(open.header.time));
        stream
    }

    /// Says where both directions of a connection start that is seen from its beginning, so that the loss of its first
    /// bytes shows.
    fn begin(&mut self, layer: Layer, at: Time) {
        if self.midstream {
            return;
        }
        for direction in [Direction::Read, Direction::Write] {
            let nothing = Segment { position: 0, bytes: &[], length: 0, span: Span::at(at) };
            self.connection.data(layer, direction, nothing, &mut Vec::new());
        }
    }

    /// Learns the addresses.
    pub fn identify(&mut self, open: &Open) {
        self.socket = open.socket;
        let unix = open.tuple.family == AF_UNIX;
        self.info.transport = if unix { Transport::Unix } else { Transport::Tcp };
        let ends = if unix { Some(address::unix_endpoints(open)) } else { address::endpoints(&open.tuple) };
        if let Some((local, remote)) = ends {
            self.info.local = Some(local);
            self.info.remote = Some(remote);
        }
        self.tell_source();
    }

    fn tell_source(&mut self) {
        self.info.tuple_source = match (&self.info.local, &self.info.tls) {
            (None, _) => TupleSource::None,
            (Some(_), None) => TupleSource::Socket,
            (Some(_), Some(_)) => self.bound,
        };
    }

    /// A TLS session's stream turns out to be on a socket, whose own stream is given up: it carried ciphertext.
    pub fn join(&mut self, socket: Self, flags: u16) {
        if socket.reported || !self.reported {
            self.info.id = socket.info.id;
        }
        self.info.transport = socket.info.transport;
        (self.info.local, self.info.remote) = (socket.info.local, socket.info.remote);
        // Its header stands before the ciphertext.
        self.info.proxied = socket.info.proxied;
        (self.socket, self.closed) = (socket.socket, socket.closed);
        if let Some(client) = socket.client {
            self.client = Some(client);
            self.info.role = role(self.client);
        }
        self.reported |= socket.reported;
        self.bound = source(flags);
        self.tell_source();
    }

    /// Whether its exchanges have to wait for its socket: ciphertext is sent after the call that made it, and shows the
    /// socket then.
    pub fn awaits_socket(&self) -> bool {
        !self.settled && self.info.tls.is_some() && self.socket == 0 && self.held_back.len() < HELD_BACK
    }

    /// Puts exchanges aside; whether they are the first.
    pub fn hold_back(&mut self, thread: u64, exchanges: impl Iterator<Item = Exchange>) -> bool {
        let first = self.held_back.is_empty();
        self.held_back.extend(exchanges.map(|exchange| (thread, exchange)));
        first && !self.held_back.is_empty()
    }

    /// Exchanges wait no longer: the socket has shown, or will not. Those that have waited.
    pub fn settle(&mut self) -> Vec<(u64, Exchange)> {
        self.settled = true;
        std::mem::take(&mut self.held_back)
    }

    /// Takes bytes, or the end of a direction.
    pub fn data(
        &mut self,
        data: &Data,
        payload: &[u8],
        libraries: &dyn Libraries,
        tap: &mut dyn Tap,
        out: &mut Vec<Exchange>,
    ) {
        let flags = data.header.flags;
        let direction = if flags & flag::WRITE != 0 { Direction::Write } else { Direction::Read };
        let tls = flags & flag::TLS != 0;
        if tls && self.info.tls.is_none() {
            self.begin_tls(data.header.program, libraries, Time(data.header.time));
        }
        if tls {
            self.bound = source(flags);
            self.tell_source();
        }
        let end = Time(data.header.time);
        if flags & flag::END != 0 {
            tap.end(self.pid, &self.facts(), direction, end);
            if !tls {
                self.reached(direction, data.position as u32, out);
            }
            self.connection.end(direction, end, out);
        } else {
            // A call that reads may have waited long before the bytes came; one that writes has them from the start.
            let elapsed = if direction == Direction::Write { data.elapsed } else { 0 };
            let span = Span { start: Time(end.0.saturating_sub(u64::from(elapsed))), end };
            let position = match self.info.transport {
                Transport::Tcp if !tls => self.unwrap(direction, data.position as u32, data.length),
                _ => data.position,
            };
            let segment = Segment { position, bytes: payload, length: u64::from(data.length), span };
            let layer = if tls { Layer::Tls } else { Layer::Socket };
            tap.data(self.pid, &self.facts(), layer, direction, segment);
            self.connection.data(layer, direction, segment, out);
        }
        self.learn_role();
        if self.info.proxied.is_none() {
            self.info.proxied = self.connection.proxied().cloned();
        }
    }

    /// Gives up on bytes that did not come.
    pub fn flush(&mut self, out: &mut Vec<Exchange>) {
        self.connection.flush(out);
        self.learn_role();
    }

    /// Time goes by: what has waited long enough is given up.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Exchange>) {
        self.connection.tick(now, out);
    }

    /// What a recording needs to know of it.
    pub fn facts(&self) -> Facts<'_> {
        Facts { info: &self.info, midstream: self.midstream, client: self.client }
    }

    /// The connection is over.
    pub fn close(&mut self, at: Time, out: &mut Vec<Exchange>) {
        if let Some(totals) = self.totals {
            for (direction, total) in [Direction::Read, Direction::Write].into_iter().zip(totals) {
                self.reached(direction, total.saturating_sub(1), out);
            }
        }
        let before = out.len();
        self.connection.close(at, out);
        for exchange in out.iter_mut().skip(before).filter(|exchange| self.shed && !exchange.reasons.is_empty()) {
            exchange.reasons.add(Reason::Gap);
        }
    }

    /// Whether bytes are awaited that others wait for.
    pub fn is_waiting(&self) -> bool {
        self.connection.is_waiting()
    }

    /// Whether nothing more can come of it.
    pub fn is_done(&self) -> bool {
        self.connection.is_done()
    }

    /// Bytes held for it.
    pub fn held(&self) -> usize {
        self.connection.held()
    }

    /// What happened on it.
    pub fn counters(&self) -> Counters {
        self.connection.counters()
    }

    fn begin_tls(&mut self, number: u8, libraries: &dyn Libraries, at: Time) {
        // Without cookies (before Linux 5.15) the library is known only if the process has just one.
        let only = || if let [only] = libraries.names(self.pid)[..] { Some(only) } else { None };
        let library = library::name(number).or_else(only).unwrap_or("unknown");
        self.info.tls = Some(Tls { library });
        if self.opened < libraries.covered(self.pid, number).start {
            // Its first calls may not have been seen.
            self.midstream = true;
            self.connection.join_midstream();
        }
        self.begin(Layer::Tls, at);
    }

    /// Content tells who asks where the socket does not.
    fn learn_role(&mut self) {
        if self.info.role == Role::Unknown {
            self.info.role = role(self.connection.client());
        }
    }

    /// The place of a socket's bytes in 64 bits: near where the next byte of that direction is expected.
    fn unwrap(&mut self, direction: Direction, position: u32, length: u32) -> u64 {
        let next = &mut self.next[direction as usize];
        let ahead = position.wrapping_sub(*next as u32) as i32;
        let position = next.wrapping_add_signed(i64::from(ahead));
        *next = (*next).max(position + u64::from(length));
        position
    }

    /// A TCP socket's bytes up to this place have passed: what was not seen of them has been lost.
    fn reached(&mut self, direction: Direction, position: u32, out: &mut Vec<Exchange>) {
        let plaintext = self.info.transport == Transport::Tcp && self.info.tls.is_none();
        if !plaintext || self.connection.protocol().is_none() {
            return;
        }
        let next = self.next[direction as usize];
        let missing = position.wrapping_sub(next as u32) as i32;
        if let Ok(missing @ 1..) = u64::try_from(missing) {
            self.connection.flush_before(direction, next + missing, out);
        }
    }
}

/// How the socket of a TLS session was found, whose event has these flags.
fn source(flags: u16) -> TupleSource {
    if flags & flag::BY_FD != 0 {
        TupleSource::Fd
    } else if flags & flag::BY_CIPHERTEXT != 0 {
        TupleSource::Ciphertext
    } else {
        TupleSource::Nested
    }
}

fn role(client: Option<Direction>) -> Role {
    match client {
        Some(Direction::Read) => Role::Server,
        Some(Direction::Write) => Role::Client,
        None => Role::Unknown,
    }
}

/// The direction that carries the client's bytes, from how the socket was made. A unix socket that was accepted has
/// its listener's path; one that was connected has none of its own.
fn client_direction(info: &ConnectionInfo, origin: u8) -> Option<Direction> {
    match origin {
        origin::CONNECT => Some(Direction::Write),
        origin::ACCEPT => Some(Direction::Read),
        _ => match (&info.local, &info.remote) {
            (Some(Endpoint::Unix(local)), Some(Endpoint::Unix(remote))) => {
                match (local.as_bytes().is_empty(), remote.as_bytes().is_empty()) {
                    (false, true) => Some(Direction::Read),
                    (true, false) => Some(Direction::Write),
                    _ => None,
                }
            }
            _ => None,
        },
    }
}
