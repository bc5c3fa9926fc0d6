//! The connections of a replay, bounded in number and in memory.
//!
//! Connections wait in three queues, each in the order of their last packets: those with recent packets, streams that
//! have been quiet, and what can be forgotten without loss (quiet datagram flows, closed streams). Eviction begins
//! with the last of these.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use protocols::{Connection, Time, Transport};

use super::tcp::Stream;
use crate::record::{ConnectionInfo, Process};

/// What packets of one connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Both ends, the smaller one first.
    Tcp(SocketAddr, SocketAddr),
    /// Both ends, the smaller one first.
    Udp(SocketAddr, SocketAddr),
    /// The id that a recording gave it.
    Recorded(String),
}

/// What is special about a kind of connection.
#[derive(Debug)]
pub enum Kind {
    /// Packets of TCP.
    Tcp(Stream),
    /// Packets of UDP.
    Udp(super::udp::Copies),
    /// A recording.
    Recorded {
        /// The process that was traced.
        process: Option<Process>,
        /// What the recording says of the connection.
        info: ConnectionInfo,
    },
}

/// One connection.
#[derive(Debug)]
pub struct Entry {
    /// In order of first packets, from 1.
    pub number: u64,
    pub connection: Connection,
    pub kind: Kind,
    /// The end whose bytes are `Direction::Read`, and the other one.
    pub ends: Option<[SocketAddr; 2]>,
    /// A packet without a time was among its packets: no time is known for sure.
    pub untimed: bool,
    /// Of a recording: plaintext of a TLS library was among its packets.
    pub tls: bool,
    /// Built when the roles are known.
    pub info: Option<ConnectionInfo>,
    held: usize,
    stamp: u64,
    queue: Queue,
    last: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Active = 0,
    Quiet = 1,
    Forgettable = 2,
}

impl Entry {
    pub fn new(number: u64, connection: Connection, kind: Kind, ends: Option<[SocketAddr; 2]>) -> Self {
        Self {
            number,
            connection,
            kind,
            ends,
            untimed: false,
            tls: false,
            info: None,
            held: 0,
            stamp: 0,
            queue: Queue::Active,
            last: Time(0),
        }
    }

    /// How its bytes are carried.
    pub fn transport(&self) -> Transport {
        match &self.kind {
            Kind::Tcp(_) => Transport::Tcp,
            Kind::Udp(_) => Transport::Udp,
            Kind::Recorded { info, .. } => info.transport,
        }
    }

    fn forgettable(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.closed,
            Kind::Udp(_) => true,
            Kind::Recorded { .. } => self.connection.is_done(),
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Table {
    entries: HashMap<Key, Entry>,
    queues: [BTreeMap<u64, Key>; 3],
    next_stamp: u64,
    held: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that all connections hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a connection out, for a packet to be given to it.
    pub fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.queues[entry.queue as usize].remove(&entry.stamp);
        self.held -= entry.held;
        Some(entry)
    }

    /// Puts a connection back after a packet.
    pub fn put(&mut self, key: Key, entry: Entry, now: Time) {
        self.place(key, Entry { last: now, ..entry }, Queue::Active);
    }

    /// Puts a connection back that was quiet.
    pub fn put_quiet(&mut self, key: Key, entry: Entry) {
        let queue = if entry.forgettable() { Queue::Forgettable } else { Queue::Quiet };
        self.place(key, entry, queue);
    }

    fn place(&mut self, key: Key, mut entry: Entry, queue: Queue) {
        entry.held = entry.connection.held();
        entry.stamp = self.next_stamp;
        entry.queue = queue;
        self.next_stamp += 1;
        self.held += entry.held;
        self.queues[queue as usize].insert(entry.stamp, key.clone());
        self.entries.insert(key, entry);
    }

    /// Takes out the next connection that had no packet since `before`.
    pub fn take_quiet(&mut self, before: Time) -> Option<(Key, Entry)> {
        self.take_first(Queue::Active, |entry| entry.last < before)
    }

    /// Takes out the next connection that can be forgotten and had no packet since `before`.
    pub fn take_forgettable(&mut self, before: Time) -> Option<(Key, Entry)> {
        self.take_first(Queue::Forgettable, |entry| entry.last < before)
    }

    /// Takes out the connection that is missed least, and says whether anything may be lost with it.
    pub fn take_least(&mut self) -> Option<(Entry, bool)> {
        let first = [Queue::Forgettable, Queue::Quiet, Queue::Active];
        let (_, entry) = first.into_iter().find_map(|queue| self.take_first(queue, |_| true))?;
        let loses = entry.queue != Queue::Forgettable;
        Some((entry, loses))
    }

    /// Takes out all connections in the order of their first packets.
    pub fn drain(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = std::mem::take(&mut *self).entries.into_values().collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    fn take_first(&mut self, queue: Queue, due: impl FnOnce(&Entry) -> bool) -> Option<(Key, Entry)> {
        let (_, key) = self.queues[queue as usize].first_key_value()?;
        if !due(self.entries.get(key)?) {
            return None;
        }
        let key = key.clone();
        let entry = self.take(&key)?;
        Some((key, entry))
    }
}
