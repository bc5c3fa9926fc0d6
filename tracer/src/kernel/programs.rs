//! Loading the kernel programs and attaching those that are not bound to a process.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, RawTracePoint};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use tracer_ebpf::{
    Counters, GOROUTINE_CALL, GoroutineKey, Session, SessionKey, Socket, process_flag, socket_flag, switch,
};

use super::btf::{Btf, BtfError};
use super::functions::{self, Function, FunctionError, KRETPROBE};
use super::layout;
use super::probes::{Placer, Point, Probe, Remover, place_inherited};
use super::tree::Tracefs;
use crate::sys;

/// The object that the build made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_PROGRAMS"));

/// Where transfers on sockets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// The first of fentry, kprobe and syscall that this kernel allows.
    Auto,
    /// Trampolines on the protocols' send and receive functions.
    Fentry,
    /// Kprobes on the same functions.
    Kprobe,
    /// The tracepoints of socket calls, for kernels that forbid the other two (Linux 6.3 or later).
    Syscall,
}

impl Hook {
    /// As given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        }
    }
}

/// How to load the programs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where transfers on sockets are to be seen.
    pub hook: Hook,
    /// Size of the ring in bytes: a power of two, a multiple of the page size.
    pub ring_size: u32,
    /// Payload bytes taken of one transfer.
    pub max_capture: u32,
    /// Sockets, and TLS sessions, that are remembered at once.
    pub max_connections: u32,
}

/// Why the kernel side cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Type information is missing.
    #[error("cannot attach: {0}")]
    Btf(#[from] BtfError),
    /// Type information cannot be loaded.
    #[error("cannot attach: the kernel's BTF cannot be read: {0}")]
    AyaBtf(#[from] aya::BtfError),
    /// The object cannot be loaded.
    #[error("cannot load the kernel programs: {}{hint}", chain(source))]
    Load {
        /// What failed.
        source: aya::EbpfError,
        /// What to do about it.
        hint: &'static str,
    },
    /// A program cannot be loaded or attached.
    #[error("cannot attach the kernel program `{program}`: {}{hint}", chain(source))]
    Program {
        /// Its name.
        program: String,
        /// What failed.
        source: aya::programs::ProgramError,
        /// What to do about it.
        hint: &'static str,
    },
    /// Probes cannot be placed.
    #[error("cannot attach the kernel program `{program}`: {source}{hint}")]
    Probe {
        /// Its name.
        program: &'static str,
        /// What failed.
        source: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// A function that the programs follow is not as they know it.
    #[error("cannot attach: {0}")]
    Function(#[from] FunctionError),
    /// No source of socket transfers works on this kernel.
    #[error("cannot attach: no source of socket transfers works on this kernel ({0})")]
    NoHook(String),
    /// The object lacks something that this binary expects.
    #[error("the kernel object has no `{0}`: the binary was built wrongly")]
    Incomplete(&'static str),
    /// A map cannot be used.
    #[error("cannot use the kernel map `{map}`: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What failed.
        source: aya::maps::MapError,
    },
}

impl KernelError {
    pub(super) fn probe(program: &'static str, source: std::io::Error) -> Self {
        Self::Probe { program, hint: hint(&source), source }
    }
}

/// An error with all its causes on one line. Of the verifier's log, which is for developers and may have thousands of
/// lines, only the end is kept: it says what was refused.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text = causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    });
    let Some((before, log)) = text.split_once("Verifier output: ") else { return text };
    let mut end: Vec<&str> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(4).collect();
    end.reverse();
    format!("{before}the verifier says: {}", end.join("; "))
}

fn hint(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let text = chain(error);
    if text.contains("os error 1)") {
        "; needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (see `tracer doctor`)"
    } else if text.contains("Cannot allocate memory") || text.contains("os error 12)") {
        "; not enough memory: choose a smaller --ring-size or --max-connections"
    } else {
        ""
    }
}

/// The loaded programs and their maps. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    hook: Hook,
    processes: HashMap<MapData, u32, u32>,
    may_be_traced: Array<MapData, u32>,
    /// How many times a process has ceased to be traced.
    removals: u32,
    layers: HashMap<MapData, u32, [u64; 2]>,
    sockets: HashMap<MapData, u64, [u8; size_of::<Socket>()]>,
    go_processes: HashMap<MapData, u32, u64>,
    rustls_processes: HashMap<MapData, u32, [u8; 2]>,
    goroutines: HashMap<MapData, [u8; size_of::<GoroutineKey>()], [u8; GOROUTINE_CALL]>,
    sessions: HashMap<MapData, [u8; size_of::<SessionKey>()], [u8; size_of::<Session>()]>,
    /// Processes that have ended and may have left sessions.
    ended: HashSet<u32>,
    switches: Array<MapData, u32>,
    counters: PerCpuArray<MapData, [u64; COUNTER_WORDS]>,
    awaits_addresses: bool,
    /// Runs left out of programs that are no longer loaded.
    skipped_runs: u64,
    /// Processes whose sends are compared with what their TLS libraries make.
    compared: HashSet<u32>,
    placer: Placer,
    /// Opened when it is needed first.
    tracefs: Option<Tracefs>,
    remover: Remover,
}

const COUNTER_WORDS: usize = size_of::<Counters>() / 8;

/// How often the kernel has left out a program, as it tells of the program's descriptor (proc(5), fdinfo).
fn recursion_misses(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    told.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Names of the programs of `sock_send_length` and `sock_recv_length`, which are also those of the tracepoints.
const SYSCALL_SOURCE: [&str; 2] = ["sock_send_length", "sock_recv_length"];
const LIFECYCLE: [&str; 4] = ["inet_sock_set_state", "sched_process_fork", "sched_process_exec", "sched_process_exit"];

impl Kernel {
    /// Loads everything and attaches what is not bound to a process.
    pub fn load(options: Options) -> Result<Self, KernelError> {
        // Read twice rather than held, below, beside what the loader builds.
        let globals = layout::globals(&Btf::running()?)?;
        // There is nothing to relocate, and the whole graph of the kernel's types, which the loader has built by itself,
        // is as large as all else together: there must not be two of them.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        // What the verifier refuses it says at this level, too; telling each of its steps takes most of the load's time.
        loader.verifier_log_level(VerifierLogLevel::STATS);
        for (name, value) in &globals {
            loader.override_global(name, value, false);
        }
        let cookies = u32::from(aya::features().bpf_cookie());
        let wake_at = options.ring_size / 8;
        let pieces = pieces();
        loader
            .override_global("MAX_CAPTURE", &options.max_capture, true)
            .override_global("WAKE_AT", &wake_at, true)
            .override_global("PIECES", &pieces, true)
            .override_global("HAS_COOKIE", &cookies, false)
            // Both came with Linux 5.15.
            .override_global("HAS_TASK_REGISTERS", &cookies, false)
            .map_max_entries("EVENTS", options.ring_size)
            .map_max_entries("SOCKETS", options.max_connections)
            .map_max_entries("SESSIONS", options.max_connections)
            .map_max_entries("GOROUTINES", options.max_connections)
            .map_max_entries("RUSTLS_HALVES", options.max_connections.saturating_mul(2))
            .map_max_entries("RUSTLS_POSITIONS", options.max_connections.saturating_mul(2));
        let mut ebpf = loader.load(OBJECT).map_err(|source| KernelError::Load { hint: hint(&source), source })?;
        drop(loader);
        sys::give_back_memory();
        let hook = Self::attach(&mut ebpf, options.hook)?;
        sys::give_back_memory();
        let kernel = Self::assemble(ebpf, hook)?;
        sys::give_back_memory();
        Ok(kernel)
    }

    fn attach(ebpf: &mut Ebpf, hook: Hook) -> Result<Hook, KernelError> {
        let btf = aya::Btf::from_sys_fs()?;
        let types = &Btf::running()?;
        for tracepoint in LIFECYCLE {
            tracepoint_program(ebpf, tracepoint, &btf)?;
        }
        attach_hook(ebpf, hook, types, &btf)
    }

    fn assemble(mut ebpf: Ebpf, hook: Hook) -> Result<Self, KernelError> {
        // Before any map is taken out.
        let placer = Placer::choose(OBJECT, &ebpf);
        Ok(Self {
            processes: HashMap::try_from(take(&mut ebpf, "PROCESSES")?).map_err(map_error("PROCESSES"))?,
            may_be_traced: Array::try_from(take(&mut ebpf, "MAY_BE_TRACED")?).map_err(map_error("MAY_BE_TRACED"))?,
            removals: 0,
            layers: HashMap::try_from(take(&mut ebpf, "LAYERS")?).map_err(map_error("LAYERS"))?,
            sockets: HashMap::try_from(take(&mut ebpf, "SOCKETS")?).map_err(map_error("SOCKETS"))?,
            sessions: HashMap::try_from(take(&mut ebpf, "SESSIONS")?).map_err(map_error("SESSIONS"))?,
            ended: HashSet::new(),
            switches: Array::try_from(take(&mut ebpf, "SWITCHES")?).map_err(map_error("SWITCHES"))?,
            go_processes: HashMap::try_from(take(&mut ebpf, "GO_PROCESSES")?).map_err(map_error("GO_PROCESSES"))?,
            rustls_processes: HashMap::try_from(take(&mut ebpf, "RUSTLS_PROCESSES")?)
                .map_err(map_error("RUSTLS_PROCESSES"))?,
            goroutines: HashMap::try_from(take(&mut ebpf, "GOROUTINES")?).map_err(map_error("GOROUTINES"))?,
            counters: PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?).map_err(map_error("COUNTERS"))?,
            ebpf,
            hook,
            awaits_addresses: false,
            skipped_runs: 0,
            compared: HashSet::new(),
            placer,
            tracefs: None,
            remover: Remover::default(),
        })
    }

    /// The ring, of which there is one reader. It is mapped with this: twice its size in memory, better not beside what
    /// looking into libraries takes for a moment.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?).map_err(map_error("EVENTS"))
    }

    /// The source of socket transfers that is in use.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Begins to trace a process; its sockets are seen from now on.
    pub fn add_process(&mut self, pid: u32) -> Result<(), KernelError> {
        self.begin_process(pid);
        let index = tracer_ebpf::may_be_traced(pid);
        self.may_be_traced.set(index, 1, 0).map_err(map_error("MAY_BE_TRACED"))?;
        self.processes.insert(pid, 0, 0).map_err(map_error("PROCESSES"))
    }

    /// Leaves out connections whose mark is below this from now on ([`tracer_ebpf::sample`]); 0: none.
    pub fn shed(&mut self, level: u32) -> Result<(), KernelError> {
        self.switches.set(switch::SHED_LEVEL, level, 0).map_err(map_error("SWITCHES"))
    }

    /// Tells from where to where a process has its TLS library.
    pub fn set_layer(&mut self, pid: u32, range: [u64; 2]) -> Result<(), KernelError> {
        self.layers.insert(pid, range, 0).map_err(map_error("LAYERS"))
    }

    /// Forgets that.
    pub fn remove_layer(&mut self, pid: u32) {
        // It may be gone already.
        let _ = self.layers.remove(&pid);
    }

    /// Ends tracing a process.
    pub fn remove_process(&mut self, pid: u32) {
        // It may be gone already: an exit is seen more than once.
        let _ = self.processes.remove(&pid);
        self.removals = self.removals.wrapping_add(1);
        // An element of an array is always there to be set.
        let _ = self.switches.set(switch::REMOVALS, self.removals, 0);
        self.ended.insert(pid);
    }

    /// A process has begun: the sessions of this id are its own from now on.
    pub fn begin_process(&mut self, pid: u32) {
        self.ended.remove(&pid);
    }

    /// Forgets the sessions of processes that have ended without freeing them. Looks at all sessions: not to be called
    /// too often.
    pub fn forget_sessions(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let keys: Vec<_> = self.sessions.keys().filter_map(Result::ok).collect();
        for key in keys {
            let tgid = sys::read::<SessionKey>(&key).and_then(|key| u32::try_from(key.tgid).ok());
            if tgid.is_some_and(|tgid| self.ended.contains(&tgid)) {
                let _ = self.sessions.remove(&key);
            }
        }
        self.ended.clear();
    }

    /// Says that a process has probes in Go's crypto/tls, and where its code of `net.(*TCPConn).Read` is, if that is
    /// known. Tells whether that is new.
    pub fn add_go_process(&mut self, pid: u32, tcp_read: Option<u64>) -> Result<bool, KernelError> {
        let new = self.go_processes.get(&pid, 0).is_err();
        self.go_processes.insert(pid, tcp_read.unwrap_or(0), 0).map_err(map_error("GO_PROCESSES"))?;
        self.switches.set(switch::GO, 1, 0).map_err(map_error("SWITCHES"))?;
        Ok(new)
    }

    /// Forgets what was known of a process's Go code.
    pub fn remove_go_process(&mut self, pid: u32) {
        if self.go_processes.remove(&pid).is_err() {
            return;
        }
        // Goroutines that will not return.
        let keys: Vec<_> = self.goroutines.keys().filter_map(Result::ok).collect();
        for key in keys {
            if sys::read::<GoroutineKey>(&key).is_some_and(|key| key.tgid == u64::from(pid)) {
                let _ = self.goroutines.remove(&key);
            }
        }
    }

    /// Says that a process has probes in rustls, and what results of decrypting and encrypting begin with if they are no
    /// errors: its sockets' ciphertext is looked at from now on.
    pub fn add_rustls_process(&mut self, pid: u32, ok: [u8; 2]) -> Result<(), KernelError> {
        self.rustls_processes.insert(pid, ok, 0).map_err(map_error("RUSTLS_PROCESSES"))?;
        self.switches.set(switch::RUSTLS, 1, 0).map_err(map_error("SWITCHES"))
    }

    /// Ends that.
    pub fn remove_rustls_process(&mut self, pid: u32) {
        // It may be none.
        let _ = self.rustls_processes.remove(&pid);
    }

    /// Compares what a process sends with what its TLS libraries make, or no longer.
    pub fn compare_ciphertext(&mut self, pid: u32, compare: bool) -> Result<(), KernelError> {
        let changed = if compare { self.compared.insert(pid) } else { self.compared.remove(&pid) };
        if changed {
            let flags = if compare { process_flag::CIPHERTEXT } else { 0 };
            // BPF_EXIST: it may have ended meanwhile.
            let _ = self.processes.insert(pid, flags, 2);
            let count = self.compared.len() as u32;
            self.switches.set(switch::COMPARED, count, 0).map_err(map_error("SWITCHES"))?;
        }
        Ok(())
    }

    /// Marks a socket whose bytes are of no interest, or whose protocol is known. Forgotten sockets are ignored.
    pub fn mark_socket(&mut self, address: u64, id: u64, flags: u32) {
        let Ok(bytes) = self.sockets.get(&address, 0) else { return };
        let mut socket = sys::socket_from_bytes(bytes);
        if socket.id == id && socket.flags & flags != flags {
            socket.flags |= flags | socket_flag::ANNOUNCED;
            // BPF_EXIST: it may have been closed meanwhile.
            let _ = self.sockets.insert(address, sys::socket_to_bytes(socket), 2);
        }
    }

    /// Forgets a socket that is over.
    pub fn forget_socket(&mut self, address: u64, id: u64) {
        if self.sockets.get(&address, 0).is_ok_and(|bytes| sys::socket_from_bytes(bytes).id == id) {
            let _ = self.sockets.remove(&address);
        }
    }

    /// Makes received datagrams wait for their sender's address. Costs every system call on the machine a little, so
    /// it is done only for processes that need it, and only with the source that does not see addresses otherwise.
    pub fn await_addresses(&mut self) -> Result<(), KernelError> {
        if self.awaits_addresses || self.hook != Hook::Syscall {
            return Ok(());
        }
        let program: &mut RawTracePoint = program(&mut self.ebpf, "sys_exit")?;
        program.load().map_err(program_error("sys_exit"))?;
        program.attach("sys_exit").map_err(program_error("sys_exit"))?;
        self.switches.set(switch::SYS_EXIT, 1, 0).map_err(map_error("SWITCHES"))?;
        self.awaits_addresses = true;
        Ok(())
    }

    /// The kernel side's counters, all CPUs together.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let per_cpu = self.counters.get(&0, 0).map_err(map_error("COUNTERS"))?;
        let mut total = [0_u64; COUNTER_WORDS];
        for words in per_cpu.iter() {
            for (sum, word) in total.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        Ok(sys::counters_from_words(total))
    }

    /// Runs of programs on sockets and processes that the kernel has left out, because the program was running on that
    /// processor already, in a thread that was preempted (`__bpf_prog_enter_recur` of kernel/bpf/trampoline.c,
    /// `__bpf_trace_run` of kernel/trace/bpf_trace.c; Linux 5.12).
    pub fn skipped_runs(&self) -> u64 {
        self.skipped_runs + self.ebpf.programs().filter_map(|(_, program)| recursion_misses(program)).sum::<u64>()
    }

    /// Puts probes into a file, for one process only. Where several programs are involved they are placed in the order
    /// in which they first occur.
    pub fn probe(&mut self, file: &Path, points: &[Point], pid: NonZeroU32) -> Result<Vec<Probe>, KernelError> {
        self.placer.place(&mut self.ebpf, file, points, pid)
    }

    /// Puts probes into a file for a process of one thread and for all that it will beget. Not every kernel can.
    pub fn probe_tree(&mut self, file: &Path, points: &[Point], pid: NonZeroU32) -> Result<Vec<Probe>, KernelError> {
        // Links of perf events came with Linux 5.15, as cookies did.
        if !aya::features().bpf_cookie() {
            return Err(KernelError::probe("tree", std::io::ErrorKind::Unsupported.into()));
        }
        let tracefs = match &mut self.tracefs {
            Some(tracefs) => tracefs,
            none => none.insert(Tracefs::open().map_err(|error| KernelError::probe("tree", error))?),
        };
        place_inherited(tracefs, &mut self.ebpf, file, points, pid)
    }

    /// Takes the programs of sockets and processes away: no event is made from now on. The counters stay.
    pub fn detach(&mut self) {
        self.skipped_runs = self.skipped_runs();
        for (_, program) in self.ebpf.programs_mut() {
            // Those that were never loaded have nothing to take away.
            let _ = match program {
                Program::BtfTracePoint(program) => program.unload(),
                Program::RawTracePoint(program) => program.unload(),
                Program::FEntry(program) => program.unload(),
                Program::FExit(program) => program.unload(),
                Program::KProbe(program) => program.unload(),
                _ => Ok(()),
            };
        }
    }

    /// Takes a probe away, soon.
    pub fn remove_probe(&mut self, probe: Probe) {
        self.remover.remove(probe);
    }

    /// Takes no more probes away; says whether all that were to be are.
    pub fn finish_removals(&mut self) -> bool {
        self.remover.finish()
    }
}

/// Events that one transfer makes at most. Each is a piece of program to verify; before Linux 5.15 (which is when cookies
/// came, and the verifier learnt to see sooner that two states are alike) more than a few take it minutes.
fn pieces() -> u32 {
    if aya::features().bpf_cookie() { 12 } else { 4 }
}

fn map_error(map: &'static str) -> impl Fn(aya::maps::MapError) -> KernelError {
    move |source| KernelError::Map { map, source }
}

pub(super) fn program_error(name: &str) -> impl Fn(aya::programs::ProgramError) -> KernelError {
    let name = name.to_owned();
    move |source| KernelError::Program { program: name.clone(), hint: hint(&source), source }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Incomplete(name))
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).ok_or(KernelError::Incomplete(name))?;
    program.try_into().map_err(|_| KernelError::Incomplete(name))
}

fn tracepoint_program(ebpf: &mut Ebpf, name: &'static str, btf: &aya::Btf) -> Result<(), KernelError> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    program.load(name, btf).map_err(program_error(name))?;
    program.attach().map_err(program_error(name))?;
    Ok(())
}

fn attach_hook(ebpf: &mut Ebpf, hook: Hook, types: &Btf, btf: &aya::Btf) -> Result<Hook, KernelError> {
    if hook != Hook::Auto {
        attach_source(ebpf, hook, types, btf)?;
        return Ok(hook);
    }
    let mut failures = Vec::new();
    for hook in [Hook::Fentry, Hook::Kprobe, Hook::Syscall] {
        match attach_source(ebpf, hook, types, btf) {
            Ok(()) => return Ok(hook),
            Err(error) => failures.push(format!("{}: {error}", hook.name())),
        }
    }
    Err(KernelError::NoHook(failures.join("; ")))
}

/// Where kernels with kprobes tell the type of their events.
const KPROBE_EVENTS: &str = "/sys/bus/event_source/devices/kprobe";

/// A program on a trampoline.
trait Trampoline: Sized {
    fn name(function: &Function) -> &'static str;
    fn put(ebpf: &mut Ebpf, name: &'static str, function: &str, btf: &aya::Btf) -> Result<(), KernelError>;
}

macro_rules! trampoline {
    ($program:ty, $field:ident) => {
        impl Trampoline for $program {
            fn name(function: &Function) -> &'static str {
                function.$field
            }

            fn put(ebpf: &mut Ebpf, name: &'static str, function: &str, btf: &aya::Btf) -> Result<(), KernelError> {
                let program: &mut Self = program(ebpf, name)?;
                program.load(function, btf).map_err(program_error(name))?;
                program.attach().map_err(program_error(name))?;
                Ok(())
            }
        }
    };
}

trampoline!(FEntry, fentry);
trampoline!(FExit, fexit);

fn trampoline<P: Trampoline>(ebpf: &mut Ebpf, function: &Function, btf: &aya::Btf) -> Result<(), KernelError> {
    P::put(ebpf, P::name(function), function.name, btf)
}

fn kernel_probe(ebpf: &mut Ebpf, name: &'static str, function: &str) -> Result<(), KernelError> {
    let program: &mut KProbe = program(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(program_error(name))?;
    }
    program.attach(function, 0).map_err(program_error(name))?;
    Ok(())
}

/// The functions of this kernel that take part.
fn functions(types: &Btf) -> Result<Vec<&'static Function>, KernelError> {
    Ok(functions::select(|name| types.parameters(name))?)
}

fn attach_source(ebpf: &mut Ebpf, hook: Hook, types: &Btf, btf: &aya::Btf) -> Result<(), KernelError> {
    match hook {
        Hook::Syscall => SYSCALL_SOURCE.into_iter().try_for_each(|name| {
            if types.has_tracepoint(name) {
                tracepoint_program(ebpf, name, btf)
            } else {
                Err(KernelError::NoHook(format!("no tracepoint {name}: needs Linux 6.3 or later")))
            }
        }),
        Hook::Fentry => functions(types)?.into_iter().try_for_each(|function| {
            trampoline::<FEntry>(ebpf, function, btf)?;
            trampoline::<FExit>(ebpf, function, btf)
        }),
        // Asked before a program is verified for nothing, which takes as long as all else.
        Hook::Kprobe if !Path::new(KPROBE_EVENTS).exists() => {
            Err(KernelError::NoHook(format!("no kprobes: {KPROBE_EVENTS} is missing (CONFIG_KPROBE_EVENTS)")))
        }
        Hook::Kprobe => functions(types)?.into_iter().try_for_each(|function| {
            // The entry last: an entry whose end is not seen would stay behind.
            kernel_probe(ebpf, KRETPROBE, function.name)?;
            kernel_probe(ebpf, function.kprobe, function.name)
        }),
        Hook::Auto => Err(KernelError::NoHook("auto".into())),
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
