//! All datagrams between two addresses on one process's socket.

use protocols::{Connection, Context, Direction, Exchange, Limits, Span, Time, Transport};
use tracer_ebpf::{Datagram, flag};

use super::address;
use super::table::Candidates;
use crate::record::{ConnectionInfo, Role, TupleSource};

/// All datagrams between two addresses on one process's socket.
#[derive(Debug)]
pub struct Flow {
    /// What records say of it.
    pub info: ConnectionInfo,
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
        let info = ConnectionInfo { id, transport: Transport::Udp, role, local, remote, tls: None, tuple_source };
        let context = Context { transport: Transport::Udp, midstream: false, limits };
        let connection = Connection::new(candidates.clone(), context, None);
        Self { info, last: Time(datagram.header.time), connection }
    }

    /// Takes a datagram.
    pub fn datagram(&mut self, datagram: &Datagram, payload: &[u8], out: &mut Vec<Exchange>) {
        let write = datagram.header.flags & flag::WRITE != 0;
        let direction = if write { Direction::Write } else { Direction::Read };
        self.last = Time(datagram.header.time);
        self.connection.datagram(direction, payload, u64::from(datagram.length), Span::at(self.last), out);
        self.info.role = match self.connection.client() {
            Some(Direction::Read) => Role::Server,
            Some(Direction::Write) => Role::Client,
            None => Role::Unknown,
        };
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
