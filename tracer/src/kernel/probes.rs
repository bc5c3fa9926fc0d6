//! Probes in the files of one process, and taking them away without making anybody wait.

use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProbeKind, UProbe};

use super::multi::Multi;
use super::programs::{KernelError, program, program_error};
use super::tree::{Inherited, Tracefs};

/// One place to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// What runs there.
    pub program: &'static str,
    /// Where it is in the file.
    pub offset: u64,
    /// A number that the program gets.
    pub cookie: u64,
}

/// One or more probes in a process. Dropping it takes them away and waits until nobody runs them.
#[derive(Debug)]
pub enum Probe {
    /// One that is a perf event.
    Event(UProbeLink),
    /// A multi link.
    Multi(OwnedFd),
    /// One that children inherit.
    Inherited(Inherited),
}

/// How probes are placed on this kernel.
pub enum Placer {
    /// One perf event each.
    Events,
    /// Multi links.
    Multi(Multi),
}

impl Placer {
    /// The better way that this kernel offers.
    pub fn choose(object: &[u8], ebpf: &Ebpf) -> Self {
        let multi = Multi::link(object, ebpf).ok();
        let supported = multi.and_then(|mut multi| multi.is_supported("tls_free").then_some(multi));
        supported.map_or(Self::Events, Self::Multi)
    }

    /// Puts probes into a file, for one process only, in the order in which their programs come first.
    pub fn place(
        &mut self,
        ebpf: &mut Ebpf,
        file: &Path,
        points: &[Point],
        pid: NonZeroU32,
    ) -> Result<Vec<Probe>, KernelError> {
        match self {
            Self::Events => points.iter().map(|point| event(ebpf, file, point, pid)).collect(),
            Self::Multi(multi) => {
                let mut names: Vec<&'static str> = Vec::new();
                for point in points {
                    if !names.contains(&point.program) {
                        names.push(point.program);
                    }
                }
                let attach = |name| {
                    let same: Vec<&Point> = points.iter().filter(|point| point.program == name).collect();
                    let link = multi.attach(name, file, &same, pid);
                    link.map(Probe::Multi).map_err(|error| KernelError::probe(name, error))
                };
                names.into_iter().map(attach).collect()
            }
        }
    }
}

fn event(ebpf: &mut Ebpf, file: &Path, point: &Point, pid: NonZeroU32) -> Result<Probe, KernelError> {
    let name = point.program;
    let program = loaded(ebpf, name)?;
    let cookie = aya::features().bpf_cookie().then_some(point.cookie);
    let at = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(point.offset), cookie };
    let link = program.attach(at, file, UProbeScope::OneProcess(pid)).map_err(program_error(name))?;
    program.take_link(link).map(Probe::Event).map_err(program_error(name))
}

/// Puts probes into a file for a process of one thread and for all that it will beget.
pub fn place_inherited(
    tracefs: &mut Tracefs,
    ebpf: &mut Ebpf,
    file: &Path,
    points: &[Point],
    pid: NonZeroU32,
) -> Result<Vec<Probe>, KernelError> {
    let mut groups: Vec<Vec<&Point>> = Vec::new();
    for point in points {
        let alike = |group: &&mut Vec<&Point>| {
            group.first().is_some_and(|first| (first.program, first.cookie) == (point.program, point.cookie))
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(point),
            None => groups.push(vec![point]),
        }
    }
    let place = |group: Vec<&Point>| {
        let name = group.first().map_or("", |point| point.program);
        let program = loaded(ebpf, name)?;
        let on_return = matches!(program.kind(), ProbeKind::Return);
        let fd = program.fd().map_err(program_error(name))?.as_fd();
        let placed = tracefs.place(fd, on_return, file, &group, pid);
        placed.map(Probe::Inherited).map_err(|error| KernelError::probe(name, error))
    };
    groups.into_iter().map(place).collect()
}

fn loaded<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, KernelError> {
    let program: &mut UProbe = program(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(program_error(name))?;
    }
    Ok(program)
}

/// Takes probes away on threads of its own: the kernel makes each wait, and side by side they wait but once.
#[derive(Debug)]
pub struct Remover {
    queue: Option<Sender<Probe>>,
    incoming: Arc<Mutex<Receiver<Probe>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Probes that are taken away at once.
const THREADS: usize = 16;

impl Default for Remover {
    fn default() -> Self {
        let (queue, incoming) = channel();
        Self { queue: Some(queue), incoming: Arc::new(Mutex::new(incoming)), threads: Vec::new() }
    }
}

impl Remover {
    /// Takes a probe away soon.
    pub fn remove(&mut self, probe: Probe) {
        if self.threads.len() < THREADS {
            let incoming = Arc::clone(&self.incoming);
            let next = move || incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
            self.threads.extend(std::thread::Builder::new().name("remove-probes".into()).spawn(move || {
                while let Ok(probe) = next() {
                    drop(probe);
                }
            }));
        }
        if let Some(queue) = &self.queue {
            // The queue lives as long as this does. Without any thread the probe is dropped with it.
            let _ = queue.send(probe);
        }
    }

    /// Ends it when all are away; says whether they are.
    pub fn finish(&mut self) -> bool {
        self.queue = None;
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
