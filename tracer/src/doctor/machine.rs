//! What the kernel offers, and what this run may do.

use std::path::Path;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use procfs::process::Process;

use super::report::{Machine, Privileges, Trial};
use crate::kernel::btf::Btf;

/// Capabilities that matter, by their bits (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 5] =
    [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYS_ADMIN", 21), ("CAP_SYS_PTRACE", 19), ("CAP_SYS_RESOURCE", 24)];

/// Inode numbers of the namespaces that every machine begins with (include/uapi/linux/nsfs.h).
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Looks at the kernel.
pub fn examine(uprobe: Option<Trial>, uretprobe: Option<Trial>) -> Machine {
    let btf = Btf::running();
    let tracepoint = |name| btf.as_ref().is_ok_and(|btf| btf.has_tracepoint(name));
    Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH,
        socket_tracepoints: tracepoint("sock_send_length") && tracepoint("sock_recv_length"),
        btf_error: btf.err().map(|error| error.to_string()),
        uprobe_pmu: Path::new("/sys/bus/event_source/devices/uprobe/type").exists(),
        kprobe_pmu: Path::new("/sys/bus/event_source/devices/kprobe/type").exists(),
        uprobe,
        uretprobe,
        ring_buffer: helper(BpfHelper::BPF_FUNC_ringbuf_reserve),
        attach_cookies: helper(BpfHelper::BPF_FUNC_get_attach_cookie),
        task_pt_regs: helper(BpfHelper::BPF_FUNC_task_pt_regs),
        lockdown: read("/sys/kernel/security/lockdown").and_then(|modes| chosen(&modes)),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
    }
}

/// Looks at this run.
pub fn privileges() -> Privileges {
    let status = Process::myself().and_then(|process| process.status()).ok();
    let effective = status.as_ref().map(|status| status.capeff);
    let has = |bit| effective.map(|effective| effective >> bit & 1 == 1);
    Privileges {
        capabilities: CAPABILITIES.iter().map(|&(name, bit)| Some((name, has(bit)?))).collect(),
        initial_pid_namespace: is_namespace("pid", INITIAL_PID_NAMESPACE),
        initial_user_namespace: is_namespace("user", INITIAL_USER_NAMESPACE),
        seccomp: status.and_then(|status| seccomp(status.seccomp)),
    }
}

/// The mode of system call filtering, by the number in /proc/PID/status.
pub fn seccomp(mode: Option<u32>) -> Option<&'static str> {
    Some(match mode? {
        0 => "none",
        1 => "strict",
        _ => "filter",
    })
}

/// Major and minor version of a kernel's release.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Asks the verifier; unknown without the privilege to.
fn helper(helper: BpfHelper) -> Option<bool> {
    is_helper_supported(ProgramType::KProbe, helper).ok()
}

fn is_namespace(kind: &str, inode: u64) -> Option<bool> {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
    Some(link.to_str()? == format!("{kind}:[{inode}]"))
}

/// The mode in brackets of "none [integrity] confidentiality".
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

fn number(path: &str) -> Option<i32> {
    read(path)?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_odd_kernels() {
        for (release, expected) in [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("7.2-rc1", Some((7, 2))),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(chosen("[none] integrity confidentiality").as_deref(), Some("none"));
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn missing_files_are_unknown() {
        assert_eq!(number("/nonexistent"), None);
        assert_eq!(is_namespace("nonexistent", 1), None);
    }

    #[test]
    fn seccomp_modes() {
        assert_eq!(
            [None, Some(0), Some(1), Some(2)].map(seccomp),
            [None, Some("none"), Some("strict"), Some("filter")]
        );
    }
}
