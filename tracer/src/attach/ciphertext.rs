//! Which processes have their ciphertext compared with what their sockets send, to find the sockets of TLS sessions
//! over memory.
//!
//! Most programs give their sessions a socket, and a socket call inside of the TLS call says which; they must not pay
//! for more. So a process is compared from the beginning where a file that it has mapped imports what sessions over
//! memory need (Python's ssl module), or where the library is part of a larger file, which shows no imports (Node.js).
//! There it ends again when the first sessions turn out to have sockets. Anywhere else it begins when a session without
//! a socket shows.

use std::num::NonZeroU32;
use std::sync::Arc;

use symbols::Session;

use super::{Attacher, FileId, LibraryFile, Probe, Scan, is_supported, points};
use crate::kernel::Kernel;
use crate::record::TupleSource;

/// Sessions with a socket of their own, and none without, after which nothing is compared any longer.
const ENOUGH: u32 = 8;

/// What a process's ciphertext is worth.
#[derive(Debug, Default)]
pub struct Ciphertext {
    state: State,
    probes: Vec<(FileId, Probe)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing suggests that it is needed.
    #[default]
    Unlikely,
    /// It may be needed; so many sessions have not needed it.
    Likely(u32),
    /// A session needed it.
    Needed,
    /// It was likely, and not needed.
    Unneeded,
}

impl Ciphertext {
    fn is_compared(&self) -> bool {
        matches!(self.state, State::Likely(_) | State::Needed)
    }
}

impl Attacher {
    /// Takes note of how the socket of a new session was found; what could not be done about it.
    pub fn session_seen(&mut self, kernel: &mut Kernel, pid: u32, source: TupleSource) -> Scan {
        let mut scan = Scan::default();
        let ciphertext = &mut self.processes.entry(pid).or_default().ciphertext;
        ciphertext.state = match (source, ciphertext.state) {
            (TupleSource::None | TupleSource::Ciphertext, _) => State::Needed,
            (_, State::Likely(sessions)) if sessions + 1 < ENOUGH => State::Likely(sessions + 1),
            (_, State::Likely(_)) => State::Unneeded,
            (_, state) => state,
        };
        if ciphertext.state == State::Unneeded {
            self.stop_comparing(kernel, pid);
        } else {
            self.compare(kernel, pid, &mut scan);
        }
        scan
    }

    /// A child runs the same program.
    pub(super) fn inherit_ciphertext(&mut self, parent: u32, child: u32) {
        let state = self.processes.get(&parent).map(|process| process.ciphertext.state);
        self.processes.entry(child).or_default().ciphertext.state = state.unwrap_or_default();
    }

    pub(super) fn compare_where_likely(&mut self, kernel: &mut Kernel, pid: u32, scan: &mut Scan) {
        let likely = self.mapped(pid).iter().any(|file| {
            let linked_in = file.libraries.iter().any(is_supported) && writes_ciphertext(file);
            file.linkage.uses_memory || linked_in
        });
        let ciphertext = &mut self.processes.entry(pid).or_default().ciphertext;
        if likely && ciphertext.state == State::Unlikely {
            ciphertext.state = State::Likely(0);
        }
        self.compare(kernel, pid, scan);
    }

    /// Puts the probes that are missing.
    fn compare(&mut self, kernel: &mut Kernel, pid: u32, scan: &mut Scan) {
        let Some(nonzero) = NonZeroU32::new(pid) else { return };
        let files = self.mapped(pid);
        let ciphertext = &mut self.processes.entry(pid).or_default().ciphertext;
        if !ciphertext.is_compared() {
            return;
        }
        let known: Vec<FileId> = ciphertext.probes.iter().map(|(id, _)| *id).collect();
        for file in files.iter().filter(|file| !known.contains(&file.id)) {
            let points = points(file.linkage.ciphertext.iter(), Session::Every, 0);
            match kernel.probe(&file.probe_path(), &points, nonzero) {
                Ok(placed) => ciphertext.probes.extend(placed.into_iter().map(|probe| (file.id, probe))),
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        if let Err(error) = kernel.compare_ciphertext(pid, !ciphertext.probes.is_empty()) {
            scan.failures.push(error.to_string());
        }
    }

    pub(super) fn stop_comparing(&mut self, kernel: &mut Kernel, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        for (_, probe) in process.ciphertext.probes.drain(..) {
            kernel.remove_probe(probe);
        }
        // The switch cannot fail to be set: the map has room for it.
        let _ = kernel.compare_ciphertext(pid, false);
    }

    pub(super) fn mapped(&self, pid: u32) -> Vec<Arc<LibraryFile>> {
        let mapped = self.processes.get(&pid).into_iter().flat_map(|process| &process.mapped);
        mapped.filter_map(|id| self.files.get(id)?.clone()).collect()
    }
}

fn writes_ciphertext(file: &LibraryFile) -> bool {
    file.linkage.ciphertext.iter().any(|function| function.role == symbols::Role::Ciphertext)
}
