//! Probes in a process and in all that it will beget.
//!
//! A probe of one process takes the kernel milliseconds to place (it waits for RCU), more than a short command may live
//! from its beginning to its first request. Perf events can be inherited: then the kernel itself gives each child, as it
//! is made, what its parent has, and no call is missed. Of perf events for uprobes only those with a name in tracefs let
//! children share their parent's BPF program (kernel/trace/trace_uprobe.c). The name is taken away with the probe; a
//! tracer that is killed leaves it behind, and nothing else: a line of text, which the next one removes.

use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::probes::Point;
use crate::sys::{self, PerfEvent};

/// How names of this program's groups begin; the process id follows.
const GROUP: &str = "tracer_";

/// tracefs, for this program only: it need not be mounted anywhere.
#[derive(Debug)]
pub struct Tracefs {
    root: OwnedFd,
    group: String,
    names: u32,
}

/// A probe that children inherit. Dropping it takes it away from all of them.
#[derive(Debug)]
pub struct Inherited {
    /// The event that is inherited, the link, and this program's own event, which has the link: the end of a child would
    /// take the program of an event that it has inherited away from all (`perf_event_detach_bpf_prog`).
    handles: Option<[OwnedFd; 3]>,
    _name: Name,
}

/// The name of a probe in tracefs.
#[derive(Debug)]
struct Name {
    tracefs: OwnedFd,
    name: String,
}

impl Tracefs {
    /// Opens it, and takes away what tracers that were killed have left there.
    pub fn open() -> io::Result<Self> {
        let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let root = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let tracefs = Self { root, group: format!("{GROUP}{}", std::process::id()), names: 0 };
        tracefs.remove_left_behind()?;
        Ok(tracefs)
    }

    /// Puts a program on places of a file that have the same cookie, for a process that has one thread, and for what it
    /// begets from now on.
    pub fn place(
        &mut self,
        program: BorrowedFd<'_>,
        on_return: bool,
        file: &Path,
        points: &[&Point],
        pid: NonZeroU32,
    ) -> io::Result<Inherited> {
        self.names += 1;
        let name = format!("{}/p{}", self.group, self.names);
        let kind = if on_return { 'r' } else { 'p' };
        let definitions = self.open_file("uprobe_events", OFlags::WRONLY | OFlags::APPEND)?;
        let name = Name { tracefs: definitions, name };
        for point in points {
            write(&name.tracefs, &format!("{kind}:{} {}:{:#x}", name.name, file.display(), point.offset))?;
        }
        let mut id = String::new();
        let path = format!("events/{}/id", name.name);
        std::fs::File::from(self.open_file(&path, OFlags::RDONLY)?).read_to_string(&mut id)?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        let own = sys::open_event(PerfEvent::Tracepoint(id), 0, false)?;
        let link = sys::link_event(program, own.as_fd(), points.first().map_or(0, |point| point.cookie))?;
        let inherited = sys::open_event(PerfEvent::Tracepoint(id), pid.get() as i32, true)?;
        Ok(Inherited { handles: Some([inherited, link, own]), _name: name })
    }

    fn open_file(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn remove_left_behind(&self) -> io::Result<()> {
        let mut known = String::new();
        std::fs::File::from(self.open_file("uprobe_events", OFlags::RDONLY)?).read_to_string(&mut known)?;
        let definitions = self.open_file("uprobe_events", OFlags::WRONLY | OFlags::APPEND)?;
        for name in known.lines().filter_map(left_behind) {
            // Another tracer may do the same at this moment.
            let _ = write(&definitions, &format!("-:{name}"));
        }
        Ok(())
    }
}

/// The name of a probe ("p:tracer_PID/p1 …") whose tracer is gone.
fn left_behind(definition: &str) -> Option<&str> {
    let (_, rest) = definition.split_once(':')?;
    let name = rest.split_whitespace().next()?;
    let pid: u32 = name.strip_prefix(GROUP)?.split_once('/')?.0.parse().ok()?;
    // One with this program's own id is older than it.
    let gone = pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
    gone.then_some(name)
}

fn write(file: &OwnedFd, line: &str) -> io::Result<()> {
    // One write is one definition (Documentation/trace/uprobetracer.rst).
    std::fs::File::from(file.try_clone()?).write_all(line.as_bytes())
}

/// What makes a process keep the events that it has inherited, for as long as it is open.
///
/// When the kernel switches between two threads that have inherited the same events, it may exchange their events rather
/// than stop the ones and start the others (kernel/events/core.c, `perf_event_context_sched_out`); then the end of the
/// one takes the probes of the other. A process that has an event of its own is not taken for a copy of another, nor
/// are those that it forks.
#[derive(Debug)]
pub struct Keeper {
    _event: OwnedFd,
}

impl Keeper {
    /// For a process in its first thread.
    pub fn open(pid: u32) -> io::Result<Self> {
        sys::open_event(PerfEvent::Dummy, pid as i32, false).map(|event| Self { _event: event })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        // The name, which goes next, is in use until they are closed.
        self.handles.take();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for _ in 0..50 {
            match write(&self.tracefs, &format!("-:{}", self.name)) {
                // Events of children may be about to go.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tracers_that_are_gone() {
        let own = format!("p:tracer_{}/p1 /proc/self/fd/9:0x10", std::process::id());
        let cases = [
            ("r:tracer_4194304/p17 /proc/self/fd/9:0x10", Some("tracer_4194304/p17")),
            ("p:tracer_1/p1 /proc/self/fd/9:0x10", None),
            ("p:other_4194304/p1 /bin/sh:0x10", None),
            ("p:tracer_x/p1 /bin/sh:0x10", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(left_behind(line), expected, "{line}");
        }
        assert!(left_behind(&own).is_some());
    }
}
