//! All datagrams between two addresses on one process's socket.

use protocols::{Connection, Context, Direction, Exchange, Limits, Span, Time, Transport};
use tracer_ebpf::{Datagram, flag};

use super::address;
use super::table::Candidates;
use super::tap::{Facts, Tap};
use crate::record::{ConnectionInfo, Role, TupleSource};

/// All datagrams between two addresses on one process's socket.
#[derive(Debug)]
pub struct Flow {
    /// What records say of it.
    pub info: ConnectionInfo,
    /// Process and thread that moved its last datagram, as the kernel puts them together.
    pub thread: u64,
    /// When its last datagram passed.
    pub last: Time,
    connection: Connection,
}

impl Flow {
    /// The flow of a first datagram.
    pub fn new(id: String, datagram: &Datagram, candidates: &Candidates, limits: Limits) -> Self {
        let known = datagram.header.flags & flag::NO_PEER == 0;
        let ends = address::endpoints(&datagram.tuple).filter(|_| known);
        let tuple_source = if ends.is_some() { TupleSource::Socket } else { TupleSource::None };
        let (local, remote) = ends.unzip();
        let role = Role::Unknown;
        let transport = Transport::Udp;
        let info = ConnectionInfo { id, transport, role, local, remote, proxied: None, tls: None, tuple_source };
        let context = Context { transport: Transport::Udp, midstream: false, limits };
        let connection = Connection::new(candidates.clone(), context, None);
        Self { info, thread: datagram.header.pid_tgid, last: Time(datagram.header.time), connection }
    }

    /// Takes a datagram.
    pub fn datagram(
        &mut self,
        pid: u32,
        datagram: &Datagram,
        payload: &[u8],
        tap: &mut dyn Tap,
        out: &mut Vec<Exchange>,
    ) {
        let write = datagram.header.flags & flag::WRITE != 0;
        let direction = if write { Direction::Write } else { Direction::Read };
        self.last = Time(datagram.header.time);
        self.thread = datagram.header.pid_tgid;
        let (length, span) = (u64::from(datagram.length), Span::at(self.last));
        tap.datagram(pid, &self.facts(), direction, payload, length, span);
        self.connection.datagram(direction, payload, length, span, out);
        self.info.role = match self.connection.client() {
            Some(Direction::Read) => Role::Server,
            Some(Direction::Write) => Role::Client,
            None => Role::Unknown,
        };
    }

    /// What a recording needs to know of it.
    pub fn facts(&self) -> Facts<'_> {
        Facts { info: &self.info, midstream: false, client: None }
    }

    /// Time goes by: requests that nobody answered are given up.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Exchange>) {
        self.connection.tick(now, out);
    }

    /// The flow is over.
    pub fn close(&mut self, at: Time, out: &mut Vec<Exchange>) {
        self.connection.close(at, out);
    }

    /// Bytes that no protocol recognised.
    pub fn unrecognised(&self) -> u64 {
        self.connection.counters().unrecognised
    }
}
