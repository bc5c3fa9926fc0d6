//! From capture files to exchanges.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use protocols::{
    Connection, Context, Direction, Exchange, Layer, Limits, Registration, Segment, Span, Time, Transport,
};

use super::annotation::{Annotation, Event};
use super::chunk::{self, Chunk};
use super::file::{CaptureFile, FileError, Problem};
use super::ip::{Datagram, Header, Network, Tcp};
use super::ledger::{ReplayLedger, Skip};
use super::link;
use super::packet::{Packet, Wire};
use super::sctp::{self, Association, Piece, Step};
use super::table::{Entry, Key, Kind, Place, Table};
use super::tcp::{Arrival, Opening, Stream, Target};
use super::udp::Copies;
use crate::record::{Clock, ConnectionInfo, Endpoint, Origin, Role, TupleSource};

/// How long a datagram flow without packets, or a closed stream, is remembered.
const FORGET_NS: u64 = 60_000_000_000;

/// What a replay keeps to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The protocols that may be recognised.
    pub candidates: Arc<[&'static Registration]>,
    /// Bounds on each connection.
    pub limits: Limits,
    /// Connections that are followed at a time.
    pub max_connections: usize,
    /// Bytes that all connections together may hold.
    pub max_held: usize,
}

/// `tracer replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Capture files (pcap or pcapng, also compressed with gzip), read in this order; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Connections followed at once; the one that has been quiet longest is given up beyond it
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub max_connections: u32,
    /// Bytes held for half-seen messages, all connections together
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = crate::cli::size)]
    pub max_buffered: u32,
}

impl ReplayArgs {
    /// The files.
    pub fn inputs(&self) -> Vec<Input> {
        self.files.iter().cloned().map(Input::File).collect()
    }

    /// What the flags say, for these protocols.
    pub fn options(&self, candidates: Arc<[&'static Registration]>, limits: Limits) -> Options {
        Options {
            candidates,
            limits,
            max_connections: self.max_connections as usize,
            max_held: self.max_buffered as usize,
        }
    }
}

/// Where packets come from.
pub enum Input {
    /// A file by its path; `-` is standard input.
    File(PathBuf),
    /// Something that can be read, with a name for messages.
    Reader(String, Box<dyn Read>),
}

impl Input {
    fn open(self) -> Result<CaptureFile, FileError> {
        let (name, source): (String, io::Result<Box<dyn Read>>) = match self {
            Self::File(path) if path.as_os_str() == "-" => ("standard input".into(), Ok(Box::new(io::stdin()))),
            Self::File(path) => {
                let file = File::open(&path).map(|file| Box::new(file) as Box<dyn Read>);
                (path.display().to_string(), file)
            }
            Self::Reader(name, source) => (name, Ok(source)),
        };
        match source {
            Ok(source) => CaptureFile::open(name, source),
            Err(error) => Err(FileError { file: name, offset: 0, problem: Problem::Read(error) }),
        }
    }
}

/// A replay that came to its end.
#[derive(Debug)]
pub struct Replayed {
    /// What became of everything that was read.
    pub ledger: ReplayLedger,
    /// Files that could not be read to their end. What came before the error has been replayed.
    pub errors: Vec<FileError>,
}

/// Reads the files one after the other, as one capture, and gives `sink` each exchange when it is complete. An error
/// of the sink ends the replay.
pub fn replay<E>(
    options: &Options,
    inputs: impl IntoIterator<Item = Input>,
    sink: impl FnMut(Exchange, Origin<'_>) -> Result<(), E>,
) -> Result<Replayed, E> {
    let mut run = Run::new(options, sink);
    let mut errors = Vec::new();
    for input in inputs {
        let mut file = match input.open() {
            Ok(file) => file,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        loop {
            match file.step(&mut |packet| run.packet(packet)) {
                Ok(true) if run.failed.is_some() => break,
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    errors.push(error);
                    break;
                }
            }
        }
    }
    run.finish();
    match run.failed {
        Some(error) => Err(error),
        None => Ok(Replayed { ledger: run.ledger, errors }),
    }
}

struct Run<'a, S, E> {
    options: &'a Options,
    sink: S,
    /// The sink's error.
    failed: Option<E>,
    network: Network,
    table: Table,
    ledger: ReplayLedger,
    /// Time of the last packet that had one.
    now: Time,
    exchanges: Vec<Exchange>,
}

/// When a packet passed.
#[derive(Clone, Copy)]
struct Moment {
    time: Time,
    /// The file does not say: `time` is that of an earlier packet.
    unknown: bool,
}

/// A packet that may begin a connection.
struct Beginning {
    /// Its source and its destination.
    ends: [SocketAddr; 2],
    /// Of a SYN or INIT: whether it answers one.
    answers: Option<bool>,
    /// What is special about the connection, whose client may be known.
    kind: fn(client: Option<Direction>) -> Kind,
}

impl<'a, S, E> Run<'a, S, E>
where
    S: FnMut(Exchange, Origin<'_>) -> Result<(), E>,
{
    fn new(options: &'a Options, sink: S) -> Self {
        Self {
            options,
            sink,
            failed: None,
            network: Network::default(),
            table: Table::default(),
            ledger: ReplayLedger::default(),
            now: Time(0),
            exchanges: Vec::new(),
        }
    }

    fn packet(&mut self, packet: Packet<'_>) {
        self.ledger.packets.read += 1;
        self.now = packet.time.unwrap_or(self.now);
        self.expire();
        let moment = Moment { time: self.now, unknown: packet.time.is_none() };
        let annotation = match packet.comment.and_then(Annotation::parse) {
            Some(Ok(annotation)) => Some(annotation),
            Some(Err(_)) => return self.ledger.skip(Skip::Comment),
            None => None,
        };
        let mut network = std::mem::take(&mut self.network);
        let decoded = link::decode(packet.link_type, packet.wire).and_then(|frame| {
            network.decode(frame, self.now, &mut |datagram| match &annotation {
                Some(annotation) => self.recorded(annotation, datagram.payload, moment),
                None => self.datagram(datagram, moment),
            })
        });
        if let Err(skip) = decoded {
            self.ledger.skip(skip);
        }
        self.network = network;
        self.count_fragments();
    }

    fn count_fragments(&mut self) {
        let counts = self.network.take_counts();
        let packets = &mut self.ledger.packets;
        packets.fragments += counts.fragments;
        packets.reassembled += counts.reassembled;
        for (count, skip) in
            [(counts.incomplete, Skip::FragmentIncomplete), (counts.overlapping, Skip::FragmentOverlap)]
        {
            (0..count).for_each(|_| self.ledger.skip(skip));
        }
    }

    fn datagram(&mut self, datagram: Datagram<'_>, moment: Moment) {
        let Datagram { source, destination, transport, payload } = datagram;
        let (low, high) = if source <= destination { (source, destination) } else { (destination, source) };
        match transport {
            Header::Tcp(header) => {
                self.ledger.packets.delivered += 1;
                let key = Key::Tcp(low, high);
                let (place, entry) = self.table.take(&key);
                let mut entry = self.stream(entry, [source, destination], header);
                self.segment(&mut entry, source, header, payload, moment);
                self.put(place, entry);
            }
            Header::Udp { identification } => {
                let key = Key::Udp(low, high);
                let (place, entry) = self.table.take(&key);
                let mut entry = entry
                    .unwrap_or_else(|| self.begin(Kind::Udp(Copies::default()), [source, destination], None, false));
                self.udp(&mut entry, source, identification, payload, moment);
                self.put(place, entry);
            }
            Header::Sctp { tag } => {
                let chunks = match chunk::chunks(payload) {
                    Ok(chunks) => chunks,
                    Err(skip) => return self.ledger.skip(skip),
                };
                self.ledger.packets.delivered += 1;
                let key = Key::Sctp(low, high);
                let (place, entry) = self.table.take(&key);
                let mut entry = self.association(entry, [source, destination], &chunks);
                self.chunks(&mut entry, source, tag, &chunks, moment);
                self.put(place, entry);
            }
        }
    }

    /// The connection that a segment belongs to: the one that its addresses had so far, unless a SYN begins another.
    fn stream(&mut self, entry: Option<Box<Entry>>, ends: [SocketAddr; 2], header: Tcp) -> Box<Entry> {
        let opening = match entry.as_deref() {
            Some(entry @ Entry { kind: Kind::Tcp(stream), .. }) if header.syn && !header.rst => {
                Some(stream.opening(direction(entry, ends[0]), header))
            }
            _ => None,
        };
        let answers = header.syn.then_some(header.acknowledgment.is_some());
        self.continued(entry, opening, Beginning { ends, answers, kind: |_| Kind::Tcp(Stream::default()) })
    }

    /// The association that a packet belongs to: as [`Self::stream`], with INIT for SYN.
    fn association(&mut self, entry: Option<Box<Entry>>, ends: [SocketAddr; 2], chunks: &[Chunk<'_>]) -> Box<Entry> {
        let init = chunks.iter().find_map(|chunk| if let Chunk::Init(init) = chunk { Some(*init) } else { None });
        let opening = match (entry.as_deref(), init) {
            (Some(entry @ Entry { kind: Kind::Sctp(association), .. }), Some(init)) => {
                Some(association.opening(direction(entry, ends[0]), init))
            }
            _ => None,
        };
        let answers = init.map(|init| init.answer);
        self.continued(entry, opening, Beginning { ends, answers, kind: |client| Kind::Sctp(Association::new(client)) })
    }

    /// The connection that goes on with a packet, or begins with it.
    fn continued(&mut self, entry: Option<Box<Entry>>, opening: Option<Opening>, packet: Beginning) -> Box<Entry> {
        match (entry, opening) {
            (Some(entry), None | Some(Opening::Same)) => entry,
            (Some(mut entry), Some(Opening::Simultaneous)) => {
                entry.connection = self.connection(entry.transport(), None, false);
                if let Kind::Sctp(association) = &mut entry.kind {
                    association.client = None;
                }
                entry
            }
            (replaced, _) => {
                if let Some(entry) = replaced {
                    self.close(entry);
                }
                let Beginning { ends: [source, destination], answers, kind } = packet;
                let client = answers.map(|_| Direction::Read);
                let ends = if answers == Some(true) { [destination, source] } else { [source, destination] };
                self.begin(kind(client), ends, client, answers.is_none())
            }
        }
    }

    fn begin(&mut self, kind: Kind, ends: [SocketAddr; 2], client: Option<Direction>, midstream: bool) -> Box<Entry> {
        let transport = match &kind {
            Kind::Udp(_) => Transport::Udp,
            Kind::Sctp(_) | Kind::SctpStream => Transport::Sctp,
            Kind::Tcp(_) | Kind::Recorded { .. } => Transport::Tcp,
        };
        let connection = self.connection(transport, client, midstream);
        self.enter(connection, kind, Some(ends))
    }

    fn connection(&self, transport: Transport, client: Option<Direction>, midstream: bool) -> Connection {
        let context = Context { transport, midstream, limits: self.options.limits };
        Connection::new(Arc::clone(&self.options.candidates), context, client)
    }

    fn enter(&mut self, connection: Connection, kind: Kind, ends: Option<[SocketAddr; 2]>) -> Box<Entry> {
        self.ledger.connections.opened += 1;
        Box::new(Entry::new(self.ledger.connections.opened, connection, kind, ends))
    }

    fn segment(&mut self, entry: &mut Entry, source: SocketAddr, header: Tcp, payload: Wire<'_>, moment: Moment) {
        entry.untimed |= moment.unknown;
        let arrival = Arrival { direction: direction(entry, source), header, payload, time: moment.time };
        let Kind::Tcp(stream) = &mut entry.kind else { return };
        let mut target =
            Target { connection: &mut entry.connection, exchanges: &mut self.exchanges, ledger: &mut self.ledger };
        stream.segment(&arrival, &mut target);
        self.emit(entry);
    }

    fn chunks(&mut self, entry: &mut Entry, source: SocketAddr, tag: u32, chunks: &[Chunk<'_>], moment: Moment) {
        entry.untimed |= moment.unknown;
        let (direction, limit) = (direction(entry, source), self.options.limits.out_of_order);
        let Kind::Sctp(association) = &mut entry.kind else { return };
        let arrival = sctp::Arrival { direction, tag, time: moment.time, limit };
        let steps = association.packet(arrival, chunks, &mut self.ledger.bytes);
        self.carry_out(entry, steps);
    }

    fn carry_out(&mut self, entry: &mut Entry, steps: Vec<Step>) {
        let now = self.now;
        for step in steps {
            match step {
                Step::Piece(piece) => self.piece(entry, &piece),
                Step::End(direction) => {
                    self.each_stream(entry, |connection, exchanges| connection.end(direction, now, exchanges));
                }
                Step::Close => self.each_stream(entry, |connection, exchanges| connection.close(now, exchanges)),
            }
        }
    }

    /// Gives bytes to their stream's connection. What is missing before them is known to have passed.
    fn piece(&mut self, entry: &mut Entry, piece: &Piece) {
        let Piece { direction, position, lost, ref bytes, length, span, .. } = *piece;
        self.begin_stream(entry, piece.stream);
        let untimed = entry.untimed;
        let Some(stream) = entry.stream(piece.stream) else { return };
        stream.untimed |= untimed;
        let (connection, exchanges) = (&mut stream.connection, &mut self.exchanges);
        if connection.is_done() {
            self.ledger.bytes.passed_over += length;
            return;
        }
        if lost > 0 {
            connection.flush_before(direction, position - lost, exchanges);
            connection.flush_before(direction, position, exchanges);
        }
        connection.data(Layer::Socket, direction, Segment { position, bytes, length, span }, exchanges);
        self.emit(stream);
    }

    /// Begins the connection of a stream that carries something for the first time.
    fn begin_stream(&mut self, entry: &mut Entry, number: u16) {
        let (Some(ends), None) = (entry.ends, entry.stream(number)) else { return };
        let Kind::Sctp(association) = &mut entry.kind else { return };
        let stream = self.begin(Kind::SctpStream, ends, association.client, association.midstream);
        association.streams.insert(number, stream);
    }

    /// Does something with the connection of each stream of an entry.
    fn each_stream(&mut self, entry: &mut Entry, act: impl Fn(&mut Connection, &mut Vec<Exchange>)) {
        act(&mut entry.connection, &mut self.exchanges);
        self.emit(entry);
        let Kind::Sctp(association) = &mut entry.kind else { return };
        for stream in association.streams.values_mut() {
            act(&mut stream.connection, &mut self.exchanges);
            self.emit(stream);
        }
    }

    fn udp(&mut self, entry: &mut Entry, source: SocketAddr, identification: u16, payload: Wire<'_>, moment: Moment) {
        entry.untimed |= moment.unknown;
        let direction = direction(entry, source);
        let length = payload.length as u64;
        self.ledger.bytes.seen += length;
        let Kind::Udp(copies) = &mut entry.kind else { return };
        if copies.is_copy(direction, identification, payload, moment.time) {
            self.ledger.packets.duplicate += 1;
            self.ledger.bytes.duplicate += length;
            return;
        }
        self.ledger.packets.delivered += 1;
        entry.connection.tick(moment.time, &mut self.exchanges);
        entry.connection.datagram(direction, payload.bytes, length, Span::at(moment.time), &mut self.exchanges);
        self.count_datagram(entry, payload.bytes.len() as u64, length);
        self.emit(entry);
    }

    /// Datagrams pass no reassembly, which would count them.
    fn count_datagram(&mut self, entry: &Entry, captured: u64, length: u64) {
        let bytes = &mut self.ledger.bytes;
        if entry.connection.protocol().is_none() {
            bytes.passed_over += length;
            return;
        }
        bytes.delivered += captured;
        bytes.truncated += length - captured;
    }

    /// Takes a packet of a recording: everything but the payload is in its comment.
    fn recorded(&mut self, annotation: &Annotation, payload: Wire<'_>, moment: Moment) {
        self.ledger.packets.delivered += 1;
        let key = Key::Recorded(annotation.info.id.clone());
        let (place, entry) = self.table.take(&key);
        let mut entry = match entry {
            Some(entry) => entry,
            None => {
                let connection = self.connection(annotation.info.transport, annotation.client, annotation.midstream);
                self.enter(connection, Kind::Recorded { process: None, info: annotation.info.clone() }, None)
            }
        };
        entry.kind = Kind::Recorded { process: annotation.process.clone(), info: annotation.info.clone() };
        entry.untimed |= moment.unknown;
        let (connection, exchanges) = (&mut entry.connection, &mut self.exchanges);
        match annotation.event {
            Event::Open => {}
            Event::Data { direction, layer, position, length, duration_ns } => {
                let bytes = payload.bytes;
                let length = length.max(bytes.len() as u64);
                let span = Span { start: Time(moment.time.0.saturating_sub(duration_ns)), end: moment.time };
                self.ledger.bytes.seen += length;
                if annotation.info.transport == Transport::Udp {
                    connection.tick(span.start, exchanges);
                    connection.datagram(direction, bytes, length, span, exchanges);
                    self.count_datagram(&entry, bytes.len() as u64, length);
                } else if connection.is_done() || (entry.tls && layer == Layer::Socket) {
                    self.ledger.bytes.passed_over += length;
                } else {
                    if layer == Layer::Tls && !std::mem::replace(&mut entry.tls, true) {
                        connection.flush(exchanges);
                    }
                    connection.data(layer, direction, Segment { position, bytes, length, span }, exchanges);
                }
            }
            Event::End { direction } => connection.end(direction, moment.time, exchanges),
            Event::Close => connection.close(moment.time, exchanges),
        }
        self.emit(&mut entry);
        self.put(place, entry);
    }

    fn put(&mut self, place: Place, entry: Box<Entry>) {
        self.table.put(place, entry, self.now);
        while self.table.len() > self.options.max_connections || self.table.held() > self.options.max_held {
            let Some((entry, loses)) = self.table.remove_least() else { break };
            self.ledger.connections.evicted += u64::from(loses);
            self.close(entry);
        }
    }

    /// Lets connections without packets know that time went by, and forgets those of which nothing can come.
    fn expire(&mut self) {
        let before = |age| Time(self.now.0.saturating_sub(age));
        let (quiet, forget) = (before(self.options.limits.datagram_timeout_ns), before(FORGET_NS));
        while let Some((place, mut entry)) = self.table.take_quiet(quiet) {
            let now = self.now;
            self.each_stream(&mut entry, |connection, exchanges| connection.tick(now, exchanges));
            self.table.put_quiet(place, entry);
        }
        while let Some(entry) = self.table.remove_forgettable(forget) {
            self.close(entry);
        }
    }

    fn finish(&mut self) {
        self.network.finish();
        self.count_fragments();
        for entry in self.table.drain() {
            self.close(entry);
        }
    }

    fn close(&mut self, mut entry: Box<Entry>) {
        match &mut entry.kind {
            Kind::Tcp(stream) => {
                let connection = &mut entry.connection;
                let mut target = Target { connection, exchanges: &mut self.exchanges, ledger: &mut self.ledger };
                stream.finish(self.now, &mut target);
            }
            Kind::Sctp(association) => {
                let mut steps = Vec::new();
                association.finish(self.now, &mut steps);
                self.carry_out(&mut entry, steps);
            }
            Kind::Udp(_) | Kind::SctpStream | Kind::Recorded { .. } => {
                entry.connection.close(self.now, &mut self.exchanges);
            }
        }
        self.emit(&mut entry);
        self.ledger.connection(entry.connection.counters());
        let Kind::Sctp(association) = entry.kind else { return };
        for stream in association.streams.into_values() {
            self.close(stream);
        }
    }

    /// Hands out what came of the last step.
    fn emit(&mut self, entry: &mut Entry) {
        if self.exchanges.is_empty() {
            return;
        }
        let described = entry.info.take().unwrap_or_else(|| describe(entry));
        if let Kind::Recorded { info, .. } = &mut entry.kind {
            info.proxied = entry.connection.proxied().cloned();
        }
        let (process, info) = match &entry.kind {
            Kind::Recorded { process, info } => (process.as_ref(), info),
            Kind::Tcp(_) | Kind::Udp(_) | Kind::Sctp(_) | Kind::SctpStream => (None, &described),
        };
        for mut exchange in self.exchanges.drain(..) {
            if entry.untimed {
                forget_times(&mut exchange);
            }
            self.ledger.records.count(&exchange);
            if self.failed.is_none() {
                let origin = Origin { process, connection: info, clock: &Clock::WALL };
                self.failed = (self.sink)(exchange, origin).err();
            }
        }
        if described.role != Role::Unknown {
            entry.info = Some(described);
        }
    }
}

fn direction(entry: &Entry, source: SocketAddr) -> Direction {
    match entry.ends {
        Some([first, _]) if first == source => Direction::Read,
        _ => Direction::Write,
    }
}

/// What a plain capture knows of a connection: the server's view, without a process.
fn describe(entry: &Entry) -> ConnectionInfo {
    let client = entry.connection.client();
    let [first, second] = match entry.ends {
        Some(ends) => ends.map(|end| Some(Endpoint::Inet(end))),
        None => [None, None],
    };
    let (remote, local) = if client == Some(Direction::Write) { (second, first) } else { (first, second) };
    ConnectionInfo {
        id: format!("cap-{}", entry.number),
        transport: entry.transport(),
        role: if client.is_some() { Role::Server } else { Role::Unknown },
        local,
        remote,
        proxied: entry.connection.proxied().cloned(),
        tls: None,
        tuple_source: TupleSource::Packet,
    }
}

fn forget_times(exchange: &mut Exchange) {
    for part in [&mut exchange.request, &mut exchange.response].into_iter().flatten() {
        (part.start, part.end) = (None, None);
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
