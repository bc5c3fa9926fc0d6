//! What works, found out by doing it and undoing it at once.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;

use super::report::{Source, Trial};
use crate::kernel::{Hook, Kernel, KernelError, Options, Point};

/// What tracing uses by default.
const OPTIONS: Options =
    Options { hook: Hook::Auto, ring_size: 8 << 20, max_capture: 16 << 10, max_connections: 65_536 };

/// In the order in which `--hook auto` tries them.
const SOURCES: [Hook; 3] = [Hook::Fentry, Hook::Kprobe, Hook::Syscall];

/// What came of it all.
pub struct Trials {
    /// The sources of socket transfers.
    pub sources: Vec<Source>,
    /// A probe; `None`: not tried, as no programs could be loaded.
    pub uprobe: Option<Trial>,
    /// A return probe.
    pub uretprobe: Option<Trial>,
}

/// Loads and attaches each source, one after the other, for no process: the kernel programs ignore all they see.
pub fn run() -> Trials {
    let mut trials = Trials { sources: Vec::new(), uprobe: None, uretprobe: None };
    for hook in SOURCES {
        let trial = match Kernel::load(Options { hook, ..OPTIONS }) {
            Ok(mut kernel) => {
                trials.uprobe.get_or_insert_with(|| probe_self(&mut kernel, "tls_read"));
                trials.uretprobe.get_or_insert_with(|| probe_self(&mut kernel, "tls_return"));
                Trial::worked()
            }
            Err(error) => Trial::failed(cause(&error)),
        };
        trials.sources.push(Source { name: hook.name(), trial });
    }
    trials
}

impl Trial {
    fn worked() -> Self {
        Self { works: true, cause: None }
    }

    fn failed(cause: String) -> Self {
        Self { works: false, cause: Some(cause) }
    }
}

/// A probe on this program's first instruction, for this process only: it has been executed already and never will be
/// again.
fn probe_self(kernel: &mut Kernel, program: &'static str) -> Trial {
    let (Some((path, offset)), Some(pid)) = (first_instruction(), NonZeroU32::new(std::process::id())) else {
        return Trial::failed("this program's own memory map cannot be read".into());
    };
    match kernel.probe(&path, &[Point { program, offset, cookie: 0 }], pid) {
        Ok(probes) => {
            probes.into_iter().for_each(|probe| kernel.remove_probe(probe));
            Trial::worked()
        }
        Err(error) => Trial::failed(cause(&error)),
    }
}

/// File and offset of the entry point.
fn first_instruction() -> Option<(PathBuf, u64)> {
    // AT_ENTRY of include/uapi/linux/auxvec.h.
    const AT_ENTRY: u64 = 9;
    let process = procfs::process::Process::myself().ok()?;
    let entry = *process.auxv().ok()?.get(&AT_ENTRY)?;
    let maps = process.maps().ok()?;
    let map = maps.into_iter().find(|map| (map.address.0..map.address.1).contains(&entry))?;
    Some((Path::new("/proc/self/exe").to_owned(), entry - map.address.0 + map.offset))
}

/// Why it failed, short: which program and the kernel's own word, without the verifier's log.
fn cause(error: &KernelError) -> String {
    match error {
        KernelError::Program { program, source, .. } => {
            let refused = if is_verifiers(source) { "the verifier refused it: " } else { "" };
            format!("{program}: {refused}{}", innermost(source))
        }
        KernelError::Load { source, .. } => innermost(source),
        KernelError::NoHook(cause) => cause.clone(),
        KernelError::Btf(error) => error.to_string(),
        error => innermost(error),
    }
}

/// Whether the program itself was at fault. Without privilege there is EPERM, and nothing was verified.
fn is_verifiers(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. }
        if matches!(io_error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::E2BIG)))
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_instruction_is_in_this_file() {
        let (path, offset) = first_instruction().unwrap();
        let length = std::fs::metadata(path).unwrap().len();
        assert!(offset > 0 && offset < length, "{offset} of {length}");
    }

    #[test]
    fn causes_are_short() {
        let denied = |errno| KernelError::Program {
            program: "fentry_tcp_sendmsg".into(),
            source: ProgramError::SyscallError(aya::sys::SyscallError {
                call: "bpf_raw_tracepoint_open",
                io_error: std::io::Error::from_raw_os_error(errno),
            }),
            hint: "; needs root",
        };
        assert_eq!(cause(&denied(libc::EPERM)), "fentry_tcp_sendmsg: Operation not permitted (os error 1)");
        assert_eq!(cause(&KernelError::NoHook("no tracepoint".into())), "no tracepoint");
    }
}
