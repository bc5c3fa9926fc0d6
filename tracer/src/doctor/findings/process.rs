//! Conclusions about a process: what would be seen of it, and what not.

use super::Section;
use crate::doctor::machine::version;
use crate::doctor::report::{Library, Probe, Process, Report, Sockets};

/// Kernels whose return probes enter the kernel by a system call that a seccomp filter may kill for: from the one that
/// brought it (arch/x86/kernel/uprobes.c, `uretprobe`) until the one whose kernel/seccomp.c lets it pass.
const RETURN_CALL: std::ops::Range<(u32, u32)> = (6, 11)..(6, 14);

/// Addresses that are listed by name.
const LISTED: usize = 4;

/// Who it is and what it holds.
pub fn process(report: &Report, section: &mut Section<'_>) {
    if let Some(error) = &report.process_error {
        section.fail("process", error.clone(), "give the id of a running process: pgrep -o NAME");
    }
    let Some(process) = &report.process else { return };
    section.ok("identity", identity(process));
    if let Some(error) = &process.maps_error {
        section.fail("memory map", format!("cannot be read: {error}"), "run as root, or give CAP_SYS_PTRACE");
    }
    if process.bits == Some(32) {
        section.warn(
            "32-bit",
            "a 32-bit program: its TLS and the content of its system calls are not seen",
            "trace the other end of its connections",
        );
    }
    seccomp(report, process, section);
    sockets(report, process, section);
}

fn identity(process: &Process) -> String {
    let mut text = process.executable.clone().unwrap_or_else(|| "program unknown".to_owned());
    text += &match process.descendants {
        0 => "; no children".to_owned(),
        1 => "; 1 descendant, traced with it".to_owned(),
        many => format!("; {many} descendants, traced with it"),
    };
    if let Some(inner) = process.namespace_pid {
        text += &format!("; pid {inner} in its own namespace");
    }
    if let Some(id) = &process.container_id {
        text += &format!("; container {}", id.get(..12).unwrap_or(id));
    }
    text
}

fn seccomp(report: &Report, process: &Process, section: &mut Section<'_>) {
    let filtered = matches!(process.seccomp, Some("strict" | "filter"));
    let returns = process.libraries.iter().flat_map(|library| &library.probes).any(|probe| probe.kind == "return");
    let kernel = report.machine.kernel.as_deref().and_then(version);
    if filtered && returns && kernel.is_some_and(|kernel| RETURN_CALL.contains(&kernel)) {
        section.warn(
            "seccomp",
            "a filter in the process may KILL it: return probes of Linux 6.11 to 6.13 make a system call of their own",
            "do not trace it here unless this kernel has the fix (6.12.17, 6.13.5, 6.14): try it on a copy first",
        );
    } else if filtered {
        section.ok("seccomp", "filtered; no matter on this kernel");
    }
}

fn sockets(report: &Report, process: &Process, section: &mut Section<'_>) {
    let sockets = &process.sockets;
    if sockets.unreadable <= process.descendants {
        section.ok("sockets", counts(sockets));
    }
    if sockets.unreadable > 0 {
        let text = format!("descriptors of {} processes cannot be read", sockets.unreadable);
        section.warn("descriptors", text, "run as root, or give CAP_SYS_PTRACE");
    }
    if sockets.quic > 0 {
        let text = format!("{} UDP sockets with port 443: QUIC (HTTP/3) is encrypted and not seen", sockets.quic);
        section.warn("QUIC", text, "switch HTTP/3 off where its requests must be seen");
    }
    if let Some(sessions @ 1..) = sockets.kernel_tls {
        section.warn(
            "kernel TLS",
            format!(
                "{sessions} sessions in its network namespace: what does not pass SSL_read or SSL_write is not seen"
            ),
            "switch kTLS off in the program (OpenSSL: Options -KTLS)",
        );
    }
    if sockets.io_urings > 0 && report.hook == Some("syscall") {
        section.warn(
            "io_uring",
            format!("{} rings: what moves through them is counted, its content is not seen", sockets.io_urings),
            "a kernel that allows fentry or kprobe sees it; or switch io_uring off in the program",
        );
    } else if sockets.io_urings > 0 {
        section.ok("io_uring", format!("{} rings, seen by this source", sockets.io_urings));
    }
}

fn counts(sockets: &Sockets) -> String {
    let Sockets { connections, udp, unix, .. } = sockets;
    format!("{}{connections} TCP connections, {udp} UDP, {unix} unix", listening(&sockets.listening))
}

fn listening(addresses: &[String]) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let listed: Vec<&str> = addresses.iter().take(LISTED).map(String::as_str).collect();
    let more = addresses.len() - listed.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("listens on {}{more}; ", listed.join(", "))
}

/// Its TLS libraries, and what stays blind.
pub fn tls(process: &Process, section: &mut Section<'_>) {
    for found in &process.libraries {
        library(found, section);
    }
    let (quic, embedded): (Vec<_>, Vec<_>) = process.embedded.iter().partition(|found| found.library == "quic");
    for found in quic {
        section.warn(
            "QUIC",
            format!("{}: can speak HTTP/3, which is encrypted in it and not seen", found.path),
            "switch HTTP/3 off where its requests must be seen",
        );
    }
    for found in embedded {
        section.warn(
            found.library,
            format!("{}: linked in without its symbols, not seen", found.path),
            "use a build that keeps its symbols, or trace the other end of its connections",
        );
    }
    if process.java {
        section.warn(
            "Java",
            "TLS of the JVM (JSSE) is Java code without functions to probe, not seen",
            "trace the other end, or terminate TLS in a proxy and trace that",
        );
    }
    for file in &process.unreadable {
        section.warn(
            "unreadable",
            format!("{}: {}", file.path, file.cause),
            "if it is a TLS library, it is not seen: run as root, and report the file if that does not help",
        );
    }
    if process.libraries.is_empty() && process.embedded.is_empty() && !process.java && process.maps_error.is_none() {
        section.warn(
            "TLS",
            "no library that is known: if it speaks TLS, that is not seen; plaintext is",
            "nothing to do if it does not; else trace the other end of its connections",
        );
    }
}

fn library(library: &Library, section: &mut Section<'_>) {
    let version = library.version.as_ref().map_or_else(String::new, |version| format!("{version}, "));
    let text = version + &library.path;
    let elsewhere = "trace the other end of its connections";
    if !library.supported {
        section.warn(library.kind, text + ": not supported yet, not seen", elsewhere);
        return;
    }
    if library.probes.is_empty() {
        section.warn(library.kind, text + ": no function that can be probed", elsewhere);
    } else {
        let plural = if library.processes == 1 { "process" } else { "processes" };
        section.ok(library.kind, format!("{text}, in {} {plural}", library.processes));
    }
    for probe in &library.probes {
        section.ok(&probe.function, place(probe));
    }
    let stepped = |probe: &&Probe| !probe.emulated && ["read", "write"].contains(&probe.role);
    let dear = library.probes.iter().filter(stepped).count();
    if dear > 0 {
        section.warn(
            "cost",
            format!("{dear} probes are single-stepped: each call that passes one pays tens of times as much"),
            "nothing cheaper was found in this build; watch the process's CPU time under load",
        );
    }
    for blind in &library.blind {
        section.warn("blind", blind.clone(), "matters only if the program uses it");
    }
}

/// Where a probe goes, and what it costs.
fn place(probe: &Probe) -> String {
    let cost = if probe.emulated { "emulated: cheap" } else { "single-stepped: dear" };
    let kind = match probe.kind {
        "return" => "return probe",
        other => other,
    };
    format!("{kind} at {:#x} `{}`, {cost}", probe.offset, probe.instruction)
}
