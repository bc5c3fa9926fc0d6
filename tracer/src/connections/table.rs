//! Every connection and flow that is being followed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use protocols::{Counters, Exchange, Limits, Registration, Time};
use tracer_ebpf::{Bind, Close, Data, Datagram, Open, Released, Tuple, flag, socket_flag};

use super::flow::Flow;
use super::holds::Holds;
use super::stream::Stream;
use super::tap::Tap;
use crate::kernel::Kernel;
use crate::ledger;
use crate::record::{ConnectionInfo, TupleSource};

/// The protocols to look for.
pub type Candidates = Arc<[&'static Registration]>;

/// How long after its end a connection's last events are awaited: data that was read after a reset, or that another
/// CPU was about to report.
const GRACE_NS: u64 = 100_000_000;

/// How long bytes that overtook others wait for them. The ring keeps order but for calls that overlap, so what has
/// not come by then was lost.
const PATIENCE_NS: u64 = 50_000_000;

/// How long exchanges of a TLS session wait for its socket: the ciphertext of a response is sent right after the call
/// that made it, by the same thread or another.
const SOCKET_PATIENCE_NS: u64 = 30_000_000;

/// How often streams are told that time goes by: for what may stay unanswered on a connection that goes on, such as a
/// cancelled request of HTTP/2.
const STREAMS_TICK_NS: u64 = 500_000_000;

/// How long a silent datagram flow is remembered.
const FLOW_IDLE_NS: u64 = 60_000_000_000;

/// What the table needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The protocols to look for.
    pub candidates: Candidates,
    /// Bounds of each connection.
    pub limits: Limits,
    /// Connections and flows followed at once.
    pub max_connections: usize,
    /// Bytes held for all connections together.
    pub max_buffered: usize,
}

/// What the table counted, for the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tallies {
    /// Opened, closed, evicted.
    pub connections: ledger::Connections,
    /// Captured bytes that came in.
    pub delivered: u64,
    /// Bytes that came in as lengths only, because the capture limit cut them off.
    pub truncated: u64,
    /// Bytes that a call was to write and did not, as far as it is known.
    pub not_written: u64,
    /// Captured bytes that nothing was made of.
    pub unrecognised: u64,
    /// Times that a message boundary had to be looked for.
    pub resyncs: u64,
    /// Times that bytes broke a rule of their protocol.
    pub violations: u64,
    /// Bytes of TLS calls while probes were being placed or taken away.
    pub attaching: u64,
}

/// Every connection and flow that is being followed.
pub struct Table {
    settings: Settings,
    streams: HashMap<u64, Stream>,
    flows: HashMap<(u32, Tuple), Flow>,
    holds: Holds,
    /// Streams in the order in which they were opened, for eviction.
    order: VecDeque<u64>,
    waiting: VecDeque<(Time, u64)>,
    /// TLS sessions whose exchanges wait for their socket.
    unbound: VecDeque<(Time, u64)>,
    closing: VecDeque<(Time, u64)>,
    /// When streams were last told the time.
    ticked: Time,
    /// Makes printed ids unique across runs: this run's start.
    run: u64,
    opened: u64,
    /// Of those, the ones that turned out to be one with another.
    joined: u64,
    buffered: usize,
    tallies: Tallies,
    exchanges: Vec<Exchange>,
    tap: Box<dyn Tap>,
}

/// Where finished exchanges go: with the process and the connection that they belong to.
pub type Report<'a> = &'a mut dyn FnMut(u32, u64, &ConnectionInfo, Exchange);

/// What is known of the TLS libraries of the traced processes.
pub trait Libraries {
    /// The names of those that a process has probes in.
    fn names(&self, pid: u32) -> Vec<&'static str>;

    /// From when to when a library of a process, by its number (0: any), has had all its probes in place. Of what passed
    /// outside, some calls were seen and others were not.
    fn covered(&self, pid: u32, number: u8) -> Range<Time>;
}

impl Table {
    /// An empty table. `run`: what distinguishes this run's ids from another's. `tap` sees what connections are given.
    pub fn new(settings: Settings, run: u64, tap: Box<dyn Tap>) -> Self {
        Self {
            settings,
            streams: HashMap::new(),
            flows: HashMap::new(),
            holds: Holds::default(),
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            unbound: VecDeque::new(),
            closing: VecDeque::new(),
            ticked: Time(0),
            run,
            opened: 0,
            joined: 0,
            buffered: 0,
            tallies: Tallies::default(),
            exchanges: Vec::new(),
            tap,
        }
    }

    /// What was counted so far.
    pub fn tallies(&self) -> Tallies {
        let mut tallies = self.tallies;
        for stream in self.streams.values() {
            add(&mut tallies, stream.counters());
        }
        tallies.not_written = self.holds.not_written();
        tallies.unrecognised += self.flows.values().map(Flow::unrecognised).sum::<u64>();
        tallies.connections.opened = self.opened - self.joined;
        tallies.connections.open = (self.streams.len() + self.flows.len()) as u64;
        tallies
    }

    /// A connection is seen for the first time.
    pub fn open(&mut self, open: &Open, report: Report<'_>) {
        let key = open.header.connection;
        if let Some(stream) = self.streams.get_mut(&key) {
            // Its addresses had found no room in the ring before its first bytes did.
            stream.identify(open);
            return;
        }
        let pid = (open.header.pid_tgid >> 32) as u32;
        let id = self.next_id(pid);
        let stream = Stream::open(id, pid, open, &self.settings.candidates, self.settings.limits);
        self.insert(key, stream, Time(open.header.time), report);
    }

    /// Bytes of a stream, or the end of a direction. Of the first bytes of a TLS session: the process, and how the
    /// session's socket was found.
    pub fn data(
        &mut self,
        data: &Data,
        payload: &[u8],
        libraries: &dyn Libraries,
        kernel: &mut Kernel,
        report: Report<'_>,
    ) -> Option<(u32, TupleSource)> {
        let key = data.header.connection;
        let now = Time(data.header.time);
        let pid = (data.header.pid_tgid >> 32) as u32;
        if data.header.flags & flag::TLS != 0 && !libraries.covered(pid, data.header.program).contains(&now) {
            if data.header.flags & (flag::UNSEEN | flag::FAULT) == 0 {
                self.tallies.attaching += u64::from(data.length);
            }
            return None;
        }
        self.count(data.header.flags, data.length, payload);
        if !self.streams.contains_key(&key) {
            let id = self.next_id(pid);
            let stream = Stream::unknown(id, pid, &self.settings.candidates, self.settings.limits);
            self.insert(key, stream, now, report);
        }
        let stream = self.streams.get_mut(&key)?;
        let was_tls = stream.info.tls.is_some();
        stream.thread = data.header.pid_tgid;
        let before = stream.held();
        let waited = stream.is_waiting();
        stream.data(data, payload, libraries, self.tap.as_mut(), &mut self.exchanges);
        if stream.is_done() && !stream.dismissed && stream.info.tls.is_none() && stream.socket != 0 {
            stream.dismissed = true;
            kernel.mark_socket(stream.socket, key, socket_flag::SKIP);
        }
        if stream.is_waiting() && !waited {
            self.waiting.push_back((now, key));
        }
        self.buffered = (self.buffered + stream.held()).saturating_sub(before);
        let begun = (stream.info.tls.is_some() && !was_tls).then_some((stream.pid, stream.info.tuple_source));
        if stream.awaits_socket() {
            if stream.hold_back(data.header.pid_tgid, self.exchanges.drain(..)) {
                self.unbound.push_back((now, key));
            }
        } else {
            release(stream, report);
            tell(stream, data.header.pid_tgid, &mut self.exchanges, report);
        }
        if self.buffered > self.settings.max_buffered {
            self.evict(key, now, report);
        }
        begun
    }

    /// A TLS session has turned out to be on a connection: they go on as one. The process, and how it was found.
    pub fn bind(&mut self, bind: &Bind, report: Report<'_>) -> Option<(u32, TupleSource)> {
        let (key, now) = (bind.header.connection, Time(bind.header.time));
        let mut session = self.streams.remove(&bind.session)?;
        match self.streams.remove(&key) {
            Some(mut socket) => {
                self.buffered = self.buffered.saturating_sub(socket.held());
                self.tap.close(socket.pid, &socket.facts(), now);
                socket.close(now, &mut self.exchanges);
                let thread = socket.thread;
                tell(&mut socket, thread, &mut self.exchanges, report);
                add(&mut self.tallies, socket.counters());
                self.joined += 1;
                session.join(socket, bind.header.flags);
            }
            None => self.order.push_back(key),
        }
        if session.is_waiting() {
            self.waiting.push_back((now, key));
        }
        release(&mut session, report);
        let bound = (session.pid, session.info.tuple_source);
        session.shed |= bind.header.flags & flag::SHED != 0;
        self.streams.insert(key, session);
        Some(bound)
    }

    /// Bytes that a call is about to write.
    pub fn held(&mut self, data: &Data, payload: &[u8]) {
        self.holds.hold(data, payload);
    }

    /// A call whose bytes are held has ended: they are data now.
    pub fn released(
        &mut self,
        released: &Released,
        libraries: &dyn Libraries,
        kernel: &mut Kernel,
        report: Report<'_>,
    ) -> Option<(u32, TupleSource)> {
        let mut begun = None;
        for (data, payload) in self.holds.release(released) {
            begun = begun.or(self.data(&data, &payload, libraries, kernel, report));
        }
        begun
    }

    /// One datagram.
    pub fn datagram(&mut self, datagram: &Datagram, payload: &[u8], report: Report<'_>) {
        let pid = (datagram.header.pid_tgid >> 32) as u32;
        let key = (pid, datagram.tuple);
        let now = Time(datagram.header.time);
        self.count(datagram.header.flags, datagram.length, payload);
        if !self.flows.contains_key(&key) {
            if self.flows.len() >= self.settings.max_connections {
                self.expire_flows(now, 0, report);
                self.tallies.connections.evicted += self.flows.len() as u64;
                self.flows.clear();
            }
            let id = self.next_id(pid);
            self.opened += 1;
            let flow = Flow::new(id, datagram, &self.settings.candidates, self.settings.limits);
            self.tap.open(pid, &flow.facts(), now);
            self.flows.insert(key, flow);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.datagram(pid, datagram, payload, self.tap.as_mut(), &mut self.exchanges);
        for exchange in self.exchanges.drain(..) {
            report(pid, datagram.header.pid_tgid, &flow.info, exchange);
        }
    }

    /// A connection is over.
    pub fn close(&mut self, close: &Close) {
        let key = close.header.connection;
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.shed |= close.header.flags & flag::SHED != 0;
        stream.totals = Some([close.read, close.written]);
        if stream.closed.is_none() {
            let now = Time(close.header.time);
            stream.closed = Some(now);
            self.closing.push_back((now, key));
        }
    }

    /// A process has ended: its connections cannot go on.
    pub fn process_ended(&mut self, pid: u32, now: Time) {
        for (&key, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.pid == pid && stream.closed.is_none())
        {
            stream.closed = Some(now);
            self.closing.push_back((now, key));
        }
    }

    /// Time goes by.
    pub fn tick(&mut self, now: Time, kernel: &mut Kernel, report: Report<'_>) {
        while let Some((since, key)) = self.waiting.front().copied() {
            if since.0 + PATIENCE_NS > now.0 {
                break;
            }
            self.waiting.pop_front();
            self.flush(key, report);
        }
        while let Some((_, key)) = self.unbound.pop_front_if(|(since, _)| since.0 + SOCKET_PATIENCE_NS <= now.0) {
            if let Some(stream) = self.streams.get_mut(&key) {
                release(stream, report);
            }
        }
        while let Some((since, key)) = self.closing.front().copied() {
            if since.0 + GRACE_NS > now.0 {
                break;
            }
            self.closing.pop_front();
            if let Some(stream) = self.streams.get(&key).filter(|stream| stream.socket != 0) {
                kernel.forget_socket(stream.socket, key);
            }
            self.remove(key, since, report);
        }
        self.expire_flows(now, FLOW_IDLE_NS, report);
        if self.ticked.0 + STREAMS_TICK_NS <= now.0 {
            self.ticked = now;
            self.tick_streams(now, report);
        }
    }

    fn tick_streams(&mut self, now: Time, report: Report<'_>) {
        for stream in self.streams.values_mut().filter(|stream| !stream.awaits_socket()) {
            stream.tick(now, &mut self.exchanges);
            let thread = stream.thread;
            tell(stream, thread, &mut self.exchanges, report);
        }
    }

    /// The end: everything that is still open is reported as it stands. Whether the tap could keep everything.
    pub fn finish(&mut self, now: Time, report: Report<'_>) -> bool {
        let keys: Vec<_> = self.streams.keys().copied().collect();
        for key in keys {
            self.flush(key, report);
            let closed = self.streams.get(&key).and_then(|stream| stream.closed);
            self.remove(key, closed.unwrap_or(now), report);
        }
        for ((pid, _), mut flow) in std::mem::take(&mut self.flows) {
            self.tap.close(pid, &flow.facts(), now);
            flow.close(now, &mut self.exchanges);
            self.tallies.unrecognised += flow.unrecognised();
            self.tallies.connections.closed += 1;
            for exchange in self.exchanges.drain(..) {
                report(pid, flow.thread, &flow.info, exchange);
            }
        }
        self.tap.finish()
    }

    fn next_id(&mut self, pid: u32) -> String {
        format!("{pid}-{:x}-{}", self.run, self.opened)
    }

    fn count(&mut self, flags: u16, length: u32, payload: &[u8]) {
        self.tallies.delivered += payload.len() as u64;
        if flags & (flag::UNSEEN | flag::FAULT) == 0 {
            self.tallies.truncated += u64::from(length) - payload.len() as u64;
        }
    }

    fn insert(&mut self, key: u64, stream: Stream, now: Time, report: Report<'_>) {
        while self.streams.len() >= self.settings.max_connections {
            let Some(oldest) = self.order.pop_front() else { break };
            self.evict(oldest, now, report);
        }
        self.opened += 1;
        self.tap.open(stream.pid, &stream.facts(), now);
        self.order.push_back(key);
        self.streams.insert(key, stream);
        if self.order.len() > 2 * self.streams.len() + 1024 {
            let streams = &self.streams;
            self.order.retain(|key| streams.contains_key(key));
        }
    }

    fn evict(&mut self, key: u64, now: Time, report: Report<'_>) {
        if self.remove(key, now, report) {
            self.tallies.connections.closed -= 1;
            self.tallies.connections.evicted += 1;
        }
    }

    fn flush(&mut self, key: u64, report: Report<'_>) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let before = stream.held();
        stream.flush(&mut self.exchanges);
        self.buffered = (self.buffered + stream.held()).saturating_sub(before);
        release(stream, report);
        tell(stream, stream.thread, &mut self.exchanges, report);
    }

    fn remove(&mut self, key: u64, at: Time, report: Report<'_>) -> bool {
        let Some(mut stream) = self.streams.remove(&key) else { return false };
        self.buffered = self.buffered.saturating_sub(stream.held());
        release(&mut stream, report);
        self.tap.close(stream.pid, &stream.facts(), at);
        stream.close(at, &mut self.exchanges);
        add(&mut self.tallies, stream.counters());
        self.tallies.connections.closed += 1;
        let thread = stream.thread;
        tell(&mut stream, thread, &mut self.exchanges, report);
        true
    }

    fn expire_flows(&mut self, now: Time, idle: u64, report: Report<'_>) {
        let Self { exchanges, tallies, tap, .. } = self;
        self.flows.retain(|(pid, _), flow| {
            flow.tick(now, exchanges);
            let over = flow.last.0 + idle < now.0;
            if over {
                tap.close(*pid, &flow.facts(), now);
                flow.close(now, exchanges);
                tallies.unrecognised += flow.unrecognised();
                tallies.connections.closed += 1;
            }
            for exchange in exchanges.drain(..) {
                report(*pid, flow.thread, &flow.info, exchange);
            }
            !over
        });
    }
}

/// Reports what a thread has completed.
fn tell(stream: &mut Stream, thread: u64, exchanges: &mut Vec<Exchange>, report: Report<'_>) {
    for exchange in exchanges.drain(..) {
        stream.reported = true;
        report(stream.pid, thread, &stream.info, exchange);
    }
}

/// Reports what has waited for a session's socket.
fn release(stream: &mut Stream, report: Report<'_>) {
    for (thread, exchange) in stream.settle() {
        stream.reported = true;
        report(stream.pid, thread, &stream.info, exchange);
    }
}

fn add(tallies: &mut Tallies, counters: Counters) {
    tallies.unrecognised += counters.unrecognised;
    tallies.resyncs += counters.resyncs;
    tallies.violations += counters.violations;
}
