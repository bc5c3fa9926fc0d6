//! The event loop: drains the ring, follows processes, feeds connections, reports records.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use protocols::{Exchange, Limits, Time};
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use super::processes::{self, Processes};
use super::shedding::{Change, Shedding};
use super::tally::{self, Read};
use super::{Job, Signals};
use crate::attach::{Attacher, Scan};
use crate::cli::TargetArgs;
use crate::connections::{Libraries as _, Settings, Table};
use crate::events::{self, Event};
use crate::kernel::{Kernel, Options};
use crate::ledger::Ledger;
use crate::output::{Reporter, SinkError};
use crate::record::{self, Clock, ConnectionInfo, Origin};
use crate::sys;

/// How often the ring is looked at without being woken.
const LOOK: Duration = Duration::from_millis(10);

/// How often records are written at the latest.
const FLUSH: Duration = Duration::from_millis(50);

/// How often what ended processes have left is cleared away.
const SWEEP: Duration = Duration::from_secs(1);

/// Events taken before anything else gets its turn.
const BATCH: usize = 4096;

/// After a process has executed another program, its libraries are looked for at these times: the dynamic linker maps
/// them within the first milliseconds, an interpreter may do it later.
const LOOK_AGAIN_MS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 250, 1000, 4000];

/// Why tracing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A signal, or the traced processes have ended.
    Ended,
    /// Nobody reads the records any more.
    Closed,
    /// Records could not be written.
    Failed,
}

/// One run of the tracer.
pub struct Session {
    kernel: Kernel,
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    attacher: Attacher,
    processes: Processes,
    table: Table,
    output: Output,
    read: Read,
    looks: VecDeque<(Instant, u32)>,
    /// Processes whose end has been announced.
    ending: Vec<u32>,
    stats_interval: Option<Duration>,
    wants_datagrams: bool,
    warned: std::collections::HashSet<String>,
    shedding: Shedding,
    started: Instant,
    /// When the event was made that was read last, while there are more to read.
    behind: Option<Time>,
}

/// Where records go.
struct Output {
    /// `None`: nothing is printed, only recorded.
    reporter: Option<Reporter>,
    clock: Clock,
    failure: Option<Outcome>,
}

impl Output {
    fn report(
        &mut self,
        processes: &mut Processes,
        pid_tgid: u64,
        pid: u32,
        info: &ConnectionInfo,
        exchange: Exchange,
    ) {
        // Only the thread that completed the exchange is known, and only if an event did.
        let tid = Some(pid_tgid as u32).filter(|_| pid_tgid >> 32 == u64::from(pid));
        let origin = Origin { process: processes.get(pid, tid), connection: info, clock: &self.clock };
        if let Some(reporter) = &mut self.reporter {
            let result = reporter.report(exchange, origin);
            self.check(result);
        }
    }

    /// Lets the reporter do something, if there is one.
    fn with(&mut self, run: impl FnOnce(&mut Reporter) -> Result<(), SinkError>) {
        if let Some(reporter) = &mut self.reporter {
            let result = run(reporter);
            self.check(result);
        }
    }

    fn check(&mut self, result: Result<(), SinkError>) {
        match result {
            Ok(()) => {}
            Err(SinkError::Closed { .. }) => self.failure = Some(Outcome::Closed),
            Err(error) => {
                eprintln!("tracer: error: {:#}", anyhow::Error::new(error));
                self.failure.get_or_insert(Outcome::Failed);
            }
        }
    }
}

impl Session {
    /// Loads the programs and attaches to the processes and their descendants.
    pub fn start(arguments: &TargetArgs, job: Job, command: Option<(u32, &Path)>) -> Result<Self> {
        let started = Instant::now();
        let Job { candidates, stats_interval, reporter, tap } = job;
        let kernel = Kernel::load(Options {
            hook: arguments.hook,
            ring_size: arguments.ring_size,
            max_capture: arguments.max_capture,
            max_connections: arguments.max_connections,
        })?;
        let clock = Clock::kernel()?;
        let wants_datagrams = candidates.iter().any(|registration| (registration.carries)(protocols::Transport::Udp));
        let settings = Settings {
            candidates,
            limits: Limits::default(),
            max_connections: arguments.max_connections as usize,
            max_buffered: arguments.max_buffered as usize,
        };
        let mut session = Self {
            kernel,
            ring: None,
            attacher: Attacher::default(),
            processes: Processes::default(),
            table: Table::new(settings, run_id(&clock), tap),
            output: Output { reporter, clock, failure: None },
            read: Read::default(),
            looks: VecDeque::new(),
            ending: Vec::new(),
            stats_interval,
            wants_datagrams,
            warned: std::collections::HashSet::new(),
            shedding: Shedding::new(arguments.sample, !arguments.no_shed, Instant::now()),
            started,
            behind: None,
        };
        session.kernel.shed(session.shedding.level())?;
        session.attacher.prepare(command.map(|(_, executable)| executable));
        session.add_roots(&arguments.pids)?;
        session.warn_if_blind(&arguments.pids);
        if let Some((command, _)) = command {
            // It still is a copy of this program. What it will map gets its probes now: a probe takes the kernel some
            // tens of milliseconds, more than a short command may live, and stays with the process when it executes.
            session.kernel.add_process(command)?;
            session.processes.add(command);
            session.attacher.attach_tree(&mut session.kernel, command);
            session.attacher.attach_ahead(&mut session.kernel, command);
        }
        sys::give_back_memory();
        session.ring = Some(sys::watch(session.kernel.take_ring()?).context("cannot watch the ring buffer")?);
        Ok(session)
    }

    /// Children that are born while the descendants are being listed are noticed by the kernel side from the moment
    /// on at which their parent is traced; listing again finds those from before.
    fn add_roots(&mut self, roots: &[u32]) -> Result<()> {
        loop {
            let found = processes::with_descendants(roots);
            let new: Vec<u32> =
                found.into_iter().filter(|pid| self.processes.live().all(|live| live != *pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                self.kernel.add_process(pid)?;
                self.add_process(pid)?;
            }
        }
    }

    fn add_process(&mut self, pid: u32) -> Result<()> {
        self.processes.add(pid);
        let scan = self.attacher.scan(&mut self.kernel, pid);
        self.note(pid, &scan);
        self.attacher.attach_where_late(&mut self.kernel, pid);
        if self.wants_datagrams && processes::has_open_udp_socket(pid) {
            self.kernel.await_addresses()?;
        }
        Ok(())
    }

    fn note(&mut self, pid: u32, scan: &Scan) {
        for failure in scan.failures.iter().chain(&scan.blind) {
            if self.warned.insert(failure.clone()) {
                eprintln!("tracer: warning: process {pid}: {failure}");
            }
        }
    }

    fn warn_if_blind(&self, roots: &[u32]) {
        for &pid in roots {
            let covered = processes::with_descendants(&[pid]);
            // What was found and is not seen has been told already.
            if covered.iter().all(|pid| self.attacher.names(*pid).is_empty() && !self.attacher.is_blind(*pid)) {
                eprintln!(
                    "tracer: warning: process {pid} has no TLS library that is known: only plaintext is traced \
                     (see `tracer doctor --pid {pid}`)"
                );
            }
        }
    }

    /// Says on stderr that every probe is in place.
    pub fn ready(&self) {
        let count = self.processes.live().count();
        let libraries: std::collections::BTreeSet<_> =
            self.processes.live().flat_map(|pid| self.attacher.names(pid)).collect();
        let libraries =
            if libraries.is_empty() { "none".to_owned() } else { libraries.into_iter().collect::<Vec<_>>().join(", ") };
        let plural = if count == 1 { "process" } else { "processes" };
        eprintln!(
            "tracer: ready: {count} {plural}, sockets by {}, TLS libraries: {libraries}, attached in {:.1} s",
            self.kernel.hook().name(),
            self.started.elapsed().as_secs_f64()
        );
    }

    /// Runs until there is a reason to end.
    pub async fn run(&mut self, signals: &mut Signals) -> Outcome {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushed = Instant::now();
        let mut told = Instant::now();
        let mut swept = Instant::now();
        loop {
            let Some(ring) = &self.ring else { return Outcome::Failed };
            tokio::select! {
                _ = signals.interrupt.recv() => return Outcome::Ended,
                _ = signals.terminate.recv() => return Outcome::Ended,
                _ = signals.hang_up.recv() => {
                    self.output.with(Reporter::reopen);
                }
                guard = ring.readable() => if let Ok(mut guard) = guard { guard.clear_ready() },
                _ = look.tick() => {}
            }
            while self.drain(BATCH) == BATCH && self.output.failure.is_none() {
                // A signal must get through under full load.
                tokio::task::yield_now().await;
                if self.flush_due(&mut flushed) {
                    break;
                }
            }
            self.tick();
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.kernel.forget_sessions();
            }
            self.keep_up();
            self.flush_due(&mut flushed);
            if self.stats_interval.is_some_and(|every| told.elapsed() >= every) {
                told = Instant::now();
                self.tell();
            }
            if let Some(failure) = self.output.failure.filter(|failure| *failure == Outcome::Closed) {
                return failure;
            }
            if self.processes.is_empty() {
                return Outcome::Ended;
            }
        }
    }

    fn flush_due(&mut self, flushed: &mut Instant) -> bool {
        if flushed.elapsed() < FLUSH {
            return false;
        }
        *flushed = Instant::now();
        self.output.with(Reporter::flush);
        true
    }

    /// Takes up to `limit` events; says how many there were.
    fn drain(&mut self, limit: usize) -> usize {
        let Some(mut watched) = self.ring.take() else { return 0 };
        let ring = watched.get_mut();
        let mut count = 0;
        let mut last = None;
        while count < limit {
            let Some(item) = ring.next() else { break };
            count += 1;
            match events::decode(&item) {
                Ok(event) => {
                    self.read.decoded += 1;
                    last = Some(Time(event.header().time));
                    self.take(event);
                }
                Err(_) => self.read.rejected += 1,
            }
        }
        self.ring = Some(watched);
        self.behind = last.filter(|_| count == limit);
        count
    }

    fn take(&mut self, event: Event<'_>) {
        let Self { table, output, processes, kernel, attacher, .. } = self;
        let mut seen = None;
        let mut report = |pid, pid_tgid, info: &ConnectionInfo, exchange| {
            output.report(processes, pid_tgid, pid, info, exchange);
        };
        match event {
            Event::Data(data, payload) => {
                seen = table.data(&data, payload, attacher, kernel, &mut report);
            }
            Event::Held(data, payload) => table.held(&data, payload),
            Event::Released(released) => {
                seen = table.released(&released, attacher, kernel, &mut report);
            }
            Event::Bind(bind) => seen = table.bind(&bind, &mut report),
            Event::Datagram(datagram, payload) => {
                table.datagram(&datagram, payload, &mut report);
                if datagram.header.flags & tracer_ebpf::flag::NO_PEER != 0 && self.wants_datagrams {
                    self.await_addresses();
                }
            }
            Event::Open(open) => table.open(&open, &mut report),
            Event::Close(close) => table.close(&close),
            Event::Fork(process) => self.forked(process.subject, (process.header.pid_tgid >> 32) as u32),
            Event::Exec(process) => self.executed(process.subject, &process.comm),
            Event::Exit(process) => self.ending.push(process.subject),
            Event::Loaded(process) => self.look_soon(process.subject),
        }
        if let Some((pid, source)) = seen {
            let scan = self.attacher.session_seen(&mut self.kernel, pid, source);
            self.note(pid, &scan);
        }
    }

    /// A process may have mapped a library. One look serves many of them.
    fn look_soon(&mut self, pid: u32) {
        let now = Instant::now();
        if !self.looks.iter().any(|(due, looked_at)| *looked_at == pid && *due <= now) {
            self.looks.push_front((now, pid));
            self.looks.make_contiguous().sort_unstable();
        }
    }

    fn await_addresses(&mut self) {
        if let Err(error) = self.kernel.await_addresses() {
            let text = format!("senders of datagrams cannot be told: {error}");
            if self.warned.insert(text.clone()) {
                eprintln!("tracer: warning: {text}");
            }
        }
    }

    /// A child runs the same program with the same libraries.
    fn forked(&mut self, pid: u32, parent: u32) {
        self.kernel.begin_process(pid);
        self.processes.add_child(pid, parent);
        self.attacher.inherit(parent, pid);
        // What it has mapped first: it may call that at once. The others are for what it may execute.
        self.look(pid);
        self.attacher.attach_ahead(&mut self.kernel, pid);
    }

    /// A process has begun another program. Its libraries are not mapped yet: those that are known get their probes
    /// ahead, others when they show.
    fn executed(&mut self, pid: u32, comm: &[u8]) {
        self.processes.executed(pid, comm);
        self.attacher.attach_ahead(&mut self.kernel, pid);
        let now = Instant::now();
        self.looks.extend(LOOK_AGAIN_MS.map(|ms| (now + Duration::from_millis(ms), pid)));
        self.looks.make_contiguous().sort_unstable();
    }

    fn look(&mut self, pid: u32) {
        let scan = self.attacher.scan(&mut self.kernel, pid);
        self.note(pid, &scan);
    }

    /// A process is ending, or only the thread that gave it its name.
    fn end(&mut self, now: Time) {
        let (ended, ending) = self.ending.iter().partition(|&&pid| processes::has_ended(pid));
        self.ending = ending;
        let ended: Vec<u32> = ended;
        for pid in ended {
            if self.processes.remove(pid) {
                self.kernel.remove_process(pid);
                self.attacher.forget(&mut self.kernel, pid);
                self.table.process_ended(pid, now);
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        while let Some((_, pid)) = self.looks.pop_front_if(|(due, _)| *due <= now) {
            self.look(pid);
        }
        let time = record::now();
        self.end(time);
        let Self { table, output, processes, kernel, .. } = self;
        table.tick(time, kernel, &mut |pid, pid_tgid, info: &ConnectionInfo, exchange| {
            output.report(processes, pid_tgid, pid, info, exchange);
        });
    }

    /// Leaves out more connections, or fewer, by how well the reader keeps up.
    fn keep_up(&mut self) {
        let now = Instant::now();
        if !self.shedding.is_due(now) {
            return;
        }
        let Ok(counters) = self.kernel.counters() else { return };
        self.warn_if_unverified(counters.records_unverified);
        let age = self.behind.map_or(0, |time| record::now().0.saturating_sub(time.0));
        let Some(change) = self.shedding.look(now, counters.ring_full, Duration::from_nanos(age)) else { return };
        match change {
            Change::Less(2) => eprintln!("tracer: warning: cannot keep up: whole connections are left out (\"shed\")"),
            Change::More(1) => eprintln!("tracer: keeps up again: no connection is left out"),
            Change::Less(_) | Change::More(_) => {}
        }
        if let Err(error) = self.kernel.shed(self.shedding.level()) {
            eprintln!("tracer: error: {error}");
        }
    }

    /// Says once that a program has a rustls that is not the one that the kernel programs know.
    fn warn_if_unverified(&mut self, records: u64) {
        let text = "rustls: records that do not look as expected are left out (\"unverified records\")";
        if records > 0 && self.warned.insert(text.to_owned()) {
            eprintln!("tracer: warning: {text}");
        }
    }

    /// What became of everything so far.
    fn ledger(&self) -> Ledger {
        let counters = self.kernel.counters().unwrap_or_default();
        tally::ledger(
            &counters,
            self.kernel.skipped_runs(),
            self.read,
            &self.table.tallies(),
            self.output.reporter.as_ref().map(Reporter::records).unwrap_or_default(),
        )
    }

    fn tell(&mut self) {
        let ledger = self.ledger();
        let now = self.output.clock.wall(record::now());
        self.output.with(|reporter| reporter.ledger(&ledger, now));
    }

    /// Detaches, reports what was seen, and prints the ledger.
    pub fn finish(mut self, outcome: Outcome) -> Result<std::process::ExitCode> {
        self.attacher.end(record::now());
        let live: Vec<u32> = self.processes.live().collect();
        for pid in live {
            self.kernel.remove_process(pid);
            self.attacher.forget(&mut self.kernel, pid);
        }
        self.attacher.forget_tree(&mut self.kernel);
        // What calls that were under way still bring belongs to the ledger.
        while !self.kernel.finish_removals() {
            if self.drain(BATCH) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.kernel.detach();
        while self.drain(BATCH) > 0 {}
        let Self { table, output, processes, .. } = &mut self;
        let kept = table.finish(record::now(), &mut |pid, pid_tgid, info: &ConnectionInfo, exchange| {
            output.report(processes, pid_tgid, pid, info, exchange);
        });
        if !kept {
            output.failure.get_or_insert(Outcome::Failed);
        }
        if self.stats_interval.is_some() {
            self.tell();
        }
        self.output.with(Reporter::finish);
        // Stderr has no buffer: one write, rather than one for each word.
        let ledger = self.ledger().to_string();
        eprint!("{ledger}");
        Ok(self.output.failure.unwrap_or(outcome).into())
    }
}

/// Distinguishes this run's connection ids from those of any other that a log may hold: the second it began in.
fn run_id(clock: &Clock) -> u64 {
    clock.wall(record::now()).0 / 1_000_000_000
}
