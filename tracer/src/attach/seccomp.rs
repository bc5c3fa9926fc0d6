//! Where a return probe would kill the process that it is put into.
//!
//! On x86-64 return probes make a system call of their own since Linux 6.11 (arch/x86/kernel/uprobes.c, `uretprobe`),
//! which a seccomp filter may answer with the death of the process. Linux 6.14 lets it pass (kernel/seccomp.c), and so
//! do 6.12.17 and 6.13.5. A filter that a process installs when it has its probes cannot be foreseen.

use procfs::process::Process;

/// Whether this kernel's return probes can be killed for.
pub fn kernel_kills() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    cfg!(target_arch = "x86_64") && release_kills(&release)
}

/// Whether return probes may kill this process.
pub fn kills(pid: u32) -> bool {
    kernel_kills() && is_filtered(pid)
}

fn is_filtered(pid: u32) -> bool {
    let status = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()?.status().ok());
    status.and_then(|status| status.seccomp).is_some_and(|mode| mode != 0)
}

fn release_kills(release: &str) -> bool {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse::<u32>());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    let (major, minor, patch) = (next(), next(), next());
    matches!((major, minor, patch), (6, 11, _) | (6, 12, ..17) | (6, 13, ..5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for release in ["6.11.0-9-generic", "6.11", "6.12.16+deb13-amd64\n", "6.13.4"] {
            assert!(release_kills(release), "{release}");
        }
        for release in ["6.10.14", "6.12.17-amd64", "6.12.48+deb13-amd64", "6.13.5", "6.14.0", "6.18.44", "5.12.1", ""]
        {
            assert!(!release_kills(release), "{release}");
        }
    }

    #[test]
    fn processes_with_a_filter() {
        assert!(!is_filtered(0), "there is none");
    }
}
