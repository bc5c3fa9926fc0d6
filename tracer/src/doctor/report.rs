//! What `tracer doctor --format json` prints: one object. Facts that could not be learned are null.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether tracing would work; the exit status says the same.
    pub ok: bool,
    /// Version of this program.
    pub tracer: &'static str,
    /// The source of socket transfers that `--hook auto` would use; null: none works.
    pub hook: Option<&'static str>,
    /// The kernel.
    pub machine: Machine,
    /// What this run may do.
    pub privileges: Privileges,
    /// Each source of socket transfers, in the order in which `--hook auto` tries them.
    pub sources: Vec<Source>,
    /// The process that was asked about.
    pub process: Option<Process>,
    /// Why that process cannot be traced at all.
    pub process_error: Option<String>,
    /// What follows from the facts, for people.
    pub findings: Vec<Finding>,
}

/// The kernel and what it offers.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    /// Its release, as uname(2) gives it.
    pub kernel: Option<String>,
    /// The processor's architecture.
    pub architecture: &'static str,
    /// Why the kernel's type information is of no use; null: it is there.
    pub btf_error: Option<String>,
    /// Whether the tracepoints sock_send_length and sock_recv_length exist (Linux 6.3).
    pub socket_tracepoints: bool,
    /// Whether the kernel offers uprobes (perf_event PMU).
    pub uprobe_pmu: bool,
    /// Whether the kernel offers kprobes (perf_event PMU).
    pub kprobe_pmu: bool,
    /// Whether a probe could be put on this program itself.
    pub uprobe: Option<Trial>,
    /// The same for a return probe.
    pub uretprobe: Option<Trial>,
    /// Whether there are ring buffers (Linux 5.8).
    pub ring_buffer: Option<bool>,
    /// Whether probes carry a number, which tells records their TLS library (Linux 5.15).
    pub attach_cookies: Option<bool>,
    /// Whether programs can read the registers of the system call (Linux 5.15); the syscall source needs it.
    pub task_pt_regs: Option<bool>,
    /// Mode of kernel lockdown; null: there is none.
    pub lockdown: Option<String>,
    /// The sysctl kernel.unprivileged_bpf_disabled.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// The sysctl kernel.perf_event_paranoid.
    pub perf_event_paranoid: Option<i32>,
}

/// What this run may do.
#[derive(Debug, Default, Serialize)]
pub struct Privileges {
    /// Effective capabilities that matter; null: unknown.
    pub capabilities: Option<BTreeMap<&'static str, bool>>,
    /// Whether this is the machine's first pid namespace: the kernel side knows processes by its numbers.
    pub initial_pid_namespace: Option<bool>,
    /// Whether this is the machine's first user namespace: capabilities of another one do not count.
    pub initial_user_namespace: Option<bool>,
    /// System call filter that this run is under: none, strict or filter.
    pub seccomp: Option<&'static str>,
}

/// What came of trying something.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Whether it works.
    pub works: bool,
    /// Why not.
    pub cause: Option<String>,
}

/// A source of socket transfers.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// As `--hook` takes it.
    pub name: &'static str,
    /// Whether all its programs could be loaded and attached.
    #[serde(flatten)]
    pub trial: Trial,
}

/// A process and its descendants, all of which would be traced.
#[derive(Debug, Default, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name as the kernel keeps it.
    pub comm: String,
    /// Path of its program.
    pub executable: Option<String>,
    /// Its id in its own pid namespace, where it has one.
    pub namespace_pid: Option<u32>,
    /// Id of its container.
    pub container_id: Option<String>,
    /// Its descendants.
    pub descendants: usize,
    /// Word size of its program.
    pub bits: Option<u8>,
    /// System call filters of the process and its descendants, the strictest: none, strict or filter.
    pub seccomp: Option<&'static str>,
    /// Why its memory map cannot be read.
    pub maps_error: Option<String>,
    /// Known TLS libraries.
    pub libraries: Vec<Library>,
    /// TLS libraries inside of files that do not show their functions.
    pub embedded: Vec<Embedded>,
    /// Mapped files that could not be looked into.
    pub unreadable: Vec<Unreadable>,
    /// Whether it is a Java virtual machine.
    pub java: bool,
    /// Its sockets.
    pub sockets: Sockets,
}

/// A TLS library that a process has mapped.
#[derive(Debug, Serialize)]
pub struct Library {
    /// Its path as the process sees it.
    pub path: String,
    /// Which it is, as records name it.
    pub kind: &'static str,
    /// Its version, where the file states it.
    pub version: Option<String>,
    /// Whether this program knows how to trace it.
    pub supported: bool,
    /// How many of the traced processes have it mapped.
    pub processes: usize,
    /// Where probes would go.
    pub probes: Vec<Probe>,
    /// What moves data and is not seen.
    pub blind: Vec<String>,
}

/// One probe.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// The function that it is for.
    pub function: String,
    /// What that function does: "read", "write", "handshake", or "end" of a session.
    pub role: &'static str,
    /// "entry": reads arguments; "result": reads the result; "return": a return probe (uretprobe).
    pub kind: &'static str,
    /// Where in the file.
    pub offset: u64,
    /// The instruction there.
    pub instruction: String,
    /// Whether the kernel emulates the instruction; else it single-steps it, at tens of times the cost.
    pub emulated: bool,
}

/// A TLS library that cannot be probed where it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Embedded {
    /// The file that it is linked into.
    pub path: String,
    /// Which it is.
    pub library: &'static str,
}

/// A file that could not be looked into.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Its path.
    pub path: String,
    /// Why.
    pub cause: String,
}

/// Sockets of a process and its descendants.
#[derive(Debug, Default, Serialize)]
pub struct Sockets {
    /// Addresses that TCP connections are accepted on.
    pub listening: Vec<String>,
    /// TCP connections that are open.
    pub connections: usize,
    /// UDP sockets.
    pub udp: usize,
    /// Those of them with port 443 at either end: QUIC.
    pub quic: usize,
    /// Unix sockets.
    pub unix: usize,
    /// io_uring instances.
    pub io_urings: usize,
    /// Kernel TLS sessions in the network namespaces; null: the kernel has no such module loaded.
    pub kernel_tls: Option<u64>,
    /// Processes whose descriptors could not be read.
    pub unreadable: usize,
}

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Something stays unseen or is dearer than need be.
    Warn,
    /// Tracing does not work.
    Fail,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// The kernel.
    Machine,
    /// What this run may do.
    Privileges,
    /// Where socket transfers are seen.
    Sockets,
    /// The process.
    Process,
    /// Its TLS libraries.
    Tls,
}

/// A conclusion, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad.
    pub mark: Mark,
    /// What it is about.
    pub area: Area,
    /// In a word or two.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub cure: Option<String>,
}
