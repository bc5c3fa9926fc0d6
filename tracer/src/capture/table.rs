//! The connections of a replay, bounded in number and in memory.
//!
//! Connections wait in three queues, each in the order of their last packets: those with recent packets, streams that
//! have been quiet, and what can be forgotten without loss (quiet datagram flows, closed streams). Eviction begins
//! with the last of these.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hashbrown::HashMap;
use protocols::{Connection, Time, Transport};

use super::sctp::Association;
use super::tcp::Stream;
use crate::record::{ConnectionInfo, Process};

/// What packets of one connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Both ends, the smaller one first.
    Tcp(SocketAddr, SocketAddr),
    /// Both ends, the smaller one first.
    Udp(SocketAddr, SocketAddr),
    /// Both ends, the smaller one first.
    Sctp(SocketAddr, SocketAddr),
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
    /// An association of SCTP. The entry's connection is that of stream 0, which every association has (RFC 9260
    /// section 3.3.2).
    Sctp(Association),
    /// Another stream of an association, inside of its entry.
    SctpStream,
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
            Kind::Sctp(_) | Kind::SctpStream => Transport::Sctp,
            Kind::Recorded { info, .. } => info.transport,
        }
    }

    /// The connection of a stream of an association.
    pub fn stream(&mut self, number: u16) -> Option<&mut Self> {
        if number == 0 {
            return Some(self);
        }
        let Kind::Sctp(association) = &mut self.kind else { return None };
        association.streams.get_mut(&number).map(Box::as_mut)
    }

    fn association(&self) -> Option<&Association> {
        if let Kind::Sctp(association) = &self.kind { Some(association) } else { None }
    }

    fn connections(&self) -> usize {
        1 + self.association().map_or(0, |association| association.streams.len())
    }

    fn forgettable(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.closed,
            Kind::Sctp(association) => association.closed,
            Kind::Udp(_) => true,
            Kind::SctpStream | Kind::Recorded { .. } => self.connection.is_done(),
        }
    }
}

/// Where a connection is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

#[derive(Debug)]
struct Slot {
    key: Key,
    /// Boxed: it is taken out and put back for each packet. `None`: out for a packet, or free.
    entry: Option<Box<Entry>>,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Table {
    places: HashMap<Key, Place>,
    slots: Vec<Slot>,
    free: Vec<Place>,
    /// Connections with the stamp of when they were put there. One with another stamp since then is passed over.
    queues: [VecDeque<(u64, Place)>; 3],
    next_stamp: u64,
    connections: usize,
    held: usize,
}

impl Table {
    /// Connections that are not out for a packet.
    pub fn len(&self) -> usize {
        self.connections
    }

    /// Bytes that all connections hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a connection out, for a packet to be given to it. It, or another in its stead, is put back at this place.
    pub fn take(&mut self, key: &Key) -> (Place, Option<Box<Entry>>) {
        let Some(&place) = self.places.get(key) else { return (self.reserve(key), None) };
        (place, self.take_from(place))
    }

    /// Puts a connection back after a packet.
    pub fn put(&mut self, place: Place, mut entry: Box<Entry>, now: Time) {
        entry.last = now;
        self.enqueue(place, entry, Queue::Active);
    }

    /// Puts a connection back that was quiet.
    pub fn put_quiet(&mut self, place: Place, entry: Box<Entry>) {
        let queue = if entry.forgettable() { Queue::Forgettable } else { Queue::Quiet };
        self.enqueue(place, entry, queue);
    }

    fn enqueue(&mut self, place: Place, mut entry: Box<Entry>, queue: Queue) {
        entry.held = entry.connection.held() + entry.association().map_or(0, Association::held);
        entry.stamp = self.next_stamp;
        entry.queue = queue;
        self.next_stamp += 1;
        self.held += entry.held;
        self.connections += entry.connections();
        self.tidy(queue);
        self.queues[queue as usize].push_back((entry.stamp, place));
        if let Some(slot) = self.slots.get_mut(place.0) {
            slot.entry = Some(entry);
        }
    }

    /// Takes out the next connection that had no packet since `before`, to be put back as quiet.
    pub fn take_quiet(&mut self, before: Time) -> Option<(Place, Box<Entry>)> {
        let place = self.first(Queue::Active).filter(|(_, entry)| entry.last < before)?.0;
        Some((place, self.take_from(place)?))
    }

    /// Removes the next connection that can be forgotten and had no packet since `before`.
    pub fn remove_forgettable(&mut self, before: Time) -> Option<Box<Entry>> {
        let place = self.first(Queue::Forgettable).filter(|(_, entry)| entry.last < before)?.0;
        self.remove(place)
    }

    /// Removes the connection that is missed least, and says whether anything may be lost with it.
    pub fn remove_least(&mut self) -> Option<(Box<Entry>, bool)> {
        let queues = [Queue::Forgettable, Queue::Quiet, Queue::Active];
        let place = queues.into_iter().find_map(|queue| self.first(queue).map(|(place, _)| place))?;
        let entry = self.remove(place)?;
        let loses = entry.queue != Queue::Forgettable;
        Some((entry, loses))
    }

    /// Takes out all connections in the order of their first packets.
    pub fn drain(&mut self) -> impl Iterator<Item = Box<Entry>> + use<> {
        let mut entries: Vec<_> = std::mem::take(self).slots.into_iter().filter_map(|slot| slot.entry).collect();
        entries.sort_by_key(|entry| entry.number);
        entries.into_iter()
    }

    fn reserve(&mut self, key: &Key) -> Place {
        let slot = Slot { key: key.clone(), entry: None };
        let place = self.free.pop().unwrap_or(Place(self.slots.len()));
        match self.slots.get_mut(place.0) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.places.insert(key.clone(), place);
        place
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        self.slots.get(place.0)?.entry.as_deref()
    }

    fn take_from(&mut self, place: Place) -> Option<Box<Entry>> {
        let entry = self.slots.get_mut(place.0)?.entry.take()?;
        self.held -= entry.held;
        self.connections -= entry.connections();
        Some(entry)
    }

    fn remove(&mut self, place: Place) -> Option<Box<Entry>> {
        let entry = self.take_from(place)?;
        self.places.remove(&self.slots.get(place.0)?.key);
        self.free.push(place);
        Some(entry)
    }

    /// The connection that has been longest in a queue.
    fn first(&mut self, queue: Queue) -> Option<(Place, &Entry)> {
        let Self { queues, slots, .. } = self;
        let waiting = &mut queues[queue as usize];
        while waiting.pop_front_if(|at| !stands(slots, *at)).is_some() {}
        let &(_, place) = waiting.front()?;
        Some((place, self.entry(place)?))
    }

    /// Clears a queue of what has been put elsewhere since, once that is most of it.
    fn tidy(&mut self, queue: Queue) {
        let Self { queues, slots, .. } = self;
        let waiting = &mut queues[queue as usize];
        if waiting.len() > 2 * slots.len() + 1024 {
            waiting.retain(|at| stands(slots, *at));
        }
    }
}

/// Whether a connection is still where it was put.
fn stands(slots: &[Slot], (stamp, place): (u64, Place)) -> bool {
    slots.get(place.0).and_then(|slot| slot.entry.as_ref()).is_some_and(|entry| entry.stamp == stamp)
}
