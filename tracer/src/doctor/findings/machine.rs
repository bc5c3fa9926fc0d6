//! Conclusions about the kernel and this run's privileges.

use super::Section;
use crate::doctor::machine::version;
use crate::doctor::report::{Machine, Report};

/// The first kernel with all that every source needs.
const OLDEST: (u32, u32) = (5, 10);

/// BPF's memory is not counted against RLIMIT_MEMLOCK since this one (kernel/bpf/syscall.c).
const WITHOUT_MEMLOCK: (u32, u32) = (5, 11);

/// What the kernel allows.
pub fn kernel(report: &Report, section: &mut Section<'_>) {
    let machine = &report.machine;
    release(machine, section);
    match &machine.btf_error {
        None => section.ok("BTF", "types of this kernel are known"),
        Some(error) => section.fail("BTF", error.clone(), "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
    }
    uprobes(machine, section);
    if machine.ring_buffer == Some(false) {
        section.fail("ring buffer", "this kernel has none", "boot Linux 5.10 or later");
    }
    if machine.attach_cookies == Some(false) {
        section.warn(
            "attach cookies",
            "this kernel has none: records may not name the TLS library",
            "boot Linux 5.15 or later, if that matters",
        );
    }
    lockdown(machine, section);
}

fn release(machine: &Machine, section: &mut Section<'_>) {
    let release = machine.kernel.as_deref().unwrap_or("unknown");
    let text = format!("Linux {release} on {}", machine.architecture);
    if version(release).is_some_and(|version| version < OLDEST) {
        section.fail("version", text, "boot Linux 5.10 or later");
    } else if machine.architecture == "x86_64" {
        section.ok("version", text);
    } else {
        section.warn("version", text + ": TLS is not traced here", "plaintext is traced; TLS needs x86-64");
    }
}

fn uprobes(machine: &Machine, section: &mut Section<'_>) {
    const FORBIDDEN: &str = "run as root: since Linux 6.16, and in updates of older ones, uprobes need CAP_SYS_ADMIN";
    match (&machine.uprobe, &machine.uretprobe) {
        (Some(probe), Some(returns)) => {
            for (name, trial) in [("uprobes", probe), ("uretprobes", returns)] {
                match &trial.cause {
                    None => section.ok(name, "tried: work"),
                    Some(cause) => section.fail(name, cause.clone(), FORBIDDEN),
                }
            }
        }
        _ if machine.uprobe_pmu => section.warn(
            "uprobes",
            "offered by the kernel; not tried, as no kernel programs could be loaded",
            "see below what is missing, then run this again",
        ),
        _ => section.fail("uprobes", "this kernel has none", "boot a kernel built with CONFIG_UPROBE_EVENTS=y"),
    }
}

fn lockdown(machine: &Machine, section: &mut Section<'_>) {
    match machine.lockdown.as_deref() {
        Some("confidentiality") => section.warn(
            "lockdown",
            "confidentiality: programs may not read the kernel's memory",
            "boot with lockdown=integrity, or without",
        ),
        Some(mode) => section.ok("lockdown", format!("{mode}: no hindrance")),
        None => section.ok("lockdown", "none"),
    }
}

/// What this run may do.
pub fn privileges(report: &Report, section: &mut Section<'_>) {
    capabilities(report, section);
    let privileges = &report.privileges;
    if privileges.initial_pid_namespace == Some(false) {
        section.fail(
            "pid namespace",
            "not the machine's own: process numbers here are not those that the kernel programs see",
            "run it on the host, or in a container with --pid=host",
        );
    }
    if privileges.initial_user_namespace == Some(false) {
        section.fail(
            "user namespace",
            "not the machine's own: capabilities in it do not count for kernel programs",
            "run it as the machine's root, not a container's",
        );
    }
    if let (Some(mode @ ("strict" | "filter")), None) = (privileges.seccomp, report.hook) {
        section.warn(
            "seccomp",
            format!("this run is under a system call filter ({mode}) that may forbid bpf(2)"),
            "in a container: --security-opt seccomp=unconfined, or --privileged",
        );
    }
    let value = |setting: Option<i32>| setting.map_or_else(|| "absent".to_owned(), |value| value.to_string());
    section.ok(
        "settings",
        format!(
            "unprivileged_bpf_disabled {}, perf_event_paranoid {}: no matter with the capabilities",
            value(report.machine.unprivileged_bpf_disabled),
            value(report.machine.perf_event_paranoid)
        ),
    );
}

fn capabilities(report: &Report, section: &mut Section<'_>) {
    const CURE: &str = "run as root (sudo), or give CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; \
                        since Linux 6.16 uprobes need CAP_SYS_ADMIN too";
    let Some(capabilities) = &report.privileges.capabilities else {
        section.warn("capabilities", "unknown: /proc/self/status cannot be read", "mount /proc");
        return;
    };
    let has = |name: &str| capabilities.get(name) == Some(&true);
    // CAP_SYS_ADMIN includes these two (capabilities(7)).
    let lacking = |name: &&str| !has(name) && !has("CAP_SYS_ADMIN");
    let missing: Vec<&str> = ["CAP_BPF", "CAP_PERFMON"].into_iter().filter(lacking).collect();
    if !missing.is_empty() {
        section.fail("capabilities", format!("missing: {}", missing.join(", ")), CURE);
    } else if !has("CAP_SYS_PTRACE") {
        section.warn("capabilities", "CAP_SYS_PTRACE missing: other users' processes cannot be looked into", CURE);
    } else {
        let present: Vec<&str> = capabilities.iter().filter(|(_, has)| **has).map(|(name, _)| *name).collect();
        section.ok("capabilities", present.join(", "));
    }
    let counted = report.machine.kernel.as_deref().and_then(version).is_some_and(|version| version < WITHOUT_MEMLOCK);
    if counted && !has("CAP_SYS_RESOURCE") {
        section.warn(
            "memory limit",
            "CAP_SYS_RESOURCE missing: this kernel counts maps as locked memory",
            "raise it with ulimit -l unlimited, or give CAP_SYS_RESOURCE",
        );
    }
}

/// Where socket transfers would be seen.
pub fn sources(report: &Report, section: &mut Section<'_>) {
    for source in &report.sources {
        let cause = source.trial.cause.as_deref().unwrap_or("works");
        match report.hook {
            Some(hook) if hook == source.name => section.ok(source.name, "works; --hook auto takes it"),
            _ if source.trial.works => section.ok(source.name, "works"),
            Some(hook) => section.warn(source.name, cause, &format!("nothing to do: {hook} is used instead")),
            None => section.fail(source.name, cause, cure(report, source.name)),
        }
    }
}

fn cure(report: &Report, source: &str) -> &'static str {
    let machine = &report.machine;
    let capabilities = report.privileges.capabilities.as_ref();
    let privileged = capabilities.is_some_and(|capabilities| {
        let has = |name: &str| capabilities.get(name) == Some(&true);
        has("CAP_SYS_ADMIN") || (has("CAP_BPF") && has("CAP_PERFMON"))
    });
    match source {
        _ if !privileged => "give the capabilities above first",
        _ if machine.btf_error.is_some() => "BTF first, see above",
        "syscall" if !machine.socket_tracepoints => "boot Linux 6.3 or later, or make fentry or kprobe work",
        "syscall" if machine.task_pt_regs == Some(false) => "boot Linux 6.3 or later, or make fentry or kprobe work",
        "kprobe" if !machine.kprobe_pmu => "boot a kernel built with CONFIG_KPROBE_EVENTS=y",
        _ => "the kernel or a security module forbids it: see the kernel's log (dmesg) and lockdown above",
    }
}
