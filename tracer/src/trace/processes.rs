//! The traced processes: which there are, and what records say of them.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Result, bail};
use procfs::process::Process as Proc;
use protocols::Text;

use crate::record::Process;

/// Refuses process ids that cannot be traced, before anything is attached.
pub fn check(pids: &[u32]) -> Result<()> {
    for &pid in pids {
        let process = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(|pid| Proc::new(pid).ok());
        let Some(status) = process.as_ref().and_then(|process| process.status().ok()) else {
            bail!("cannot trace process {pid}: there is no such process");
        };
        if status.tgid != pid as i32 {
            bail!("cannot trace {pid}: it is a thread of process {}; give that one", status.tgid);
        }
        if process
            .is_some_and(|process| process.exe().is_err_and(|error| matches!(error, procfs::ProcError::NotFound(_))))
        {
            bail!("cannot trace process {pid}: it is a kernel thread or has ended");
        }
    }
    Ok(())
}

/// All descendants of some processes, with these.
pub fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| process.ok()?.stat().ok())
        .map(|stat| (stat.pid as u32, stat.ppid as u32))
        .collect();
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = parents.iter().filter(|(pid, ppid)| *ppid == parent && !found.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
    }
    found
}

/// Whether a process has ended: it is gone, or a zombie without other threads.
pub fn has_ended(pid: u32) -> bool {
    let Ok(process) = Proc::new(pid as i32) else { return true };
    process.stat().map_or(true, |stat| matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1)
}

/// Whether a process receives datagrams on a socket without a fixed peer.
pub fn has_open_udp_socket(pid: u32) -> bool {
    let Ok(process) = Proc::new(pid as i32) else { return false };
    let inodes: std::collections::HashSet<u64> = process
        .fd()
        .into_iter()
        .flatten()
        .filter_map(|fd| match fd.ok()?.target {
            procfs::process::FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let sockets = process.udp().into_iter().flatten().chain(process.udp6().into_iter().flatten());
    sockets.into_iter().any(|socket| socket.remote_address.port() == 0 && inodes.contains(&socket.inode))
}

/// What records say of a process.
pub fn describe(pid: u32) -> Process {
    let process = Proc::new(pid as i32).ok();
    let comm = process.as_ref().and_then(|process| process.stat().ok()).map(|stat| Text::from(stat.comm));
    let status = process.as_ref().and_then(|process| process.status().ok());
    let inner = status.and_then(|status| status.nspid?.last().copied()).map(|inner| inner as u32);
    let executable = process.as_ref().and_then(|process| process.exe().ok());
    Process {
        pid,
        tid: None,
        comm: comm.unwrap_or_default(),
        executable: executable.map(|path| Text::from(path.as_os_str().as_bytes())),
        namespace_pid: inner.filter(|inner| *inner != pid),
        container_id: std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().and_then(|text| container_id(&text)),
    }
}

/// The id that container engines put into the name of a control group: 64 hexadecimal digits, alone or between other
/// parts ("docker-<id>.scope", "/kubepods/…/<id>", "libpod-<id>.scope").
fn container_id(cgroup: &str) -> Option<String> {
    let names = cgroup.lines().flat_map(|line| line.rsplit('/'));
    let mut parts = names.flat_map(|name| name.split(|other: char| !other.is_ascii_alphanumeric()));
    parts.find(|part| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned)
}

/// The traced processes and what records say of them.
#[derive(Debug, Default)]
pub struct Processes {
    live: HashMap<u32, Process>,
    /// Ended ones whose last connections may still be reported.
    ended: HashMap<u32, Process>,
}

/// Ended processes that are remembered.
const REMEMBERED: usize = 4096;

impl Processes {
    /// A process is being traced; reads what is known of it.
    pub fn add(&mut self, pid: u32) {
        self.live.insert(pid, describe(pid));
    }

    /// A traced process has a child, which runs the same program. It may have ended before it can be looked at.
    pub fn add_child(&mut self, pid: u32, parent: u32) {
        let mut child = describe(pid);
        if let Some(parent) = self.live.get(&parent).or_else(|| self.ended.get(&parent)) {
            if child.comm.as_bytes().is_empty() {
                child.comm = parent.comm.clone();
            }
            child.executable = child.executable.or_else(|| parent.executable.clone());
            child.container_id = child.container_id.or_else(|| parent.container_id.clone());
        }
        self.live.insert(pid, child);
    }

    /// A traced process has executed another program, whose name the kernel told.
    pub fn executed(&mut self, pid: u32, comm: &[u8]) {
        let mut process = describe(pid);
        process.comm = Text::from(comm.split(|&byte| byte == 0).next().unwrap_or_default());
        self.live.insert(pid, process);
    }

    /// A process has ended. Whether it was being traced.
    pub fn remove(&mut self, pid: u32) -> bool {
        let Some(process) = self.live.remove(&pid) else { return false };
        if self.ended.len() >= REMEMBERED {
            self.ended.clear();
        }
        self.ended.insert(pid, process);
        true
    }

    /// The traced processes.
    pub fn live(&self) -> impl Iterator<Item = u32> + '_ {
        self.live.keys().copied()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// What records say of a process, with the thread that moved the bytes.
    pub fn get(&mut self, pid: u32, tid: Option<u32>) -> Option<&Process> {
        let process = self.live.get_mut(&pid).or_else(|| self.ended.get_mut(&pid))?;
        process.tid = tid;
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids() {
        let id = "0123456789abcdef".repeat(4);
        for cgroup in [
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("12:pids:/docker/{id}\n11:cpu:/docker/{id}\n"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope/init\n"),
        ] {
            assert_eq!(container_id(&cgroup), Some(id.clone()), "{cgroup}");
        }
        for cgroup in
            ["", "0::/", "0::/user.slice/user-0.slice/session-1.scope", "4:memory:/api/5ed7afbfdcffd8e1e4aee449"]
        {
            assert_eq!(container_id(cgroup), None, "{cgroup}");
        }
    }
}
