//! A process: who it is, and what of it could be traced.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Result;
use procfs::process::Process as Proc;

use super::report::Process;
use super::{libraries, machine, sockets};
use crate::trace::processes;

/// Looks at a process and its descendants; an error when it cannot be traced at all.
pub fn examine(pid: u32) -> Result<Process> {
    processes::check(&[pid])?;
    let traced = processes::with_descendants(&[pid]);
    let described = processes::describe(pid);
    let mut process = Process {
        pid,
        comm: lossy(&described.comm),
        executable: described.executable.as_ref().map(lossy),
        namespace_pid: described.namespace_pid,
        container_id: described.container_id,
        descendants: traced.len().saturating_sub(1),
        bits: bits(pid),
        seccomp: traced.iter().filter_map(|&pid| seccomp(pid)).max_by_key(|mode| strictness(mode)),
        sockets: sockets::examine(&traced),
        ..Process::default()
    };
    libraries::examine(&traced, &mut process);
    Ok(process)
}

fn seccomp(pid: u32) -> Option<&'static str> {
    machine::seccomp(Proc::new(i32::try_from(pid).ok()?).ok()?.status().ok()?.seccomp)
}

fn lossy(text: &protocols::Text) -> String {
    text.display().into_owned()
}

fn strictness(mode: &str) -> u8 {
    match mode {
        "none" => 0,
        "filter" => 1,
        _ => 2,
    }
}

/// Word size of the program, by the class in its ELF header (ELF, "ELF Identification").
fn bits(pid: u32) -> Option<u8> {
    let mut head = [0; 5];
    std::fs::File::open(PathBuf::from(format!("/proc/{pid}/exe"))).ok()?.read_exact(&mut head).ok()?;
    match head {
        [0x7f, b'E', b'L', b'F', 1] => Some(32),
        [0x7f, b'E', b'L', b'F', 2] => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let process = examine(std::process::id()).unwrap();
        assert_eq!(process.bits, Some(64));
        assert!(process.maps_error.is_none() && process.unreadable.is_empty(), "{process:?}");
        assert_eq!(process.sockets.unreadable, 0);
    }

    #[test]
    fn no_such_process() {
        // Above the kernel's limit for process ids (PID_MAX_LIMIT, 2^22).
        assert!(examine(4_194_305).unwrap_err().to_string().contains("4194305"));
        assert!(examine(0).is_err() && examine(u32::MAX).is_err());
    }
}
