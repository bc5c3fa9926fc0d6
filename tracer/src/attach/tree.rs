//! The probes that a command, its children and all that they execute have from their beginning.
//!
//! They are for the time until a process has probes of its own, which it gets as any traced process does: a child that
//! its parent makes in the very moment in which it is made itself may lose what it has inherited (see [`Keeper`]). While
//! it has both, a call is seen twice and told once: the second entry of the same call replaces the first, and the second
//! exit finds no call.

use std::num::NonZeroU32;

use protocols::Time;
use symbols::{LibraryKind, Session};

use super::{Attacher, LibraryFile, is_supported, library, points, seccomp};
use crate::kernel::{Keeper, Kernel, Probe};

/// What the descendants of a command inherit.
#[derive(Debug, Default)]
pub struct Tree {
    kinds: Vec<LibraryKind>,
    probes: Vec<Probe>,
}

impl Attacher {
    /// Puts probes into the installed libraries for a command that has not begun, and for all that it will beget. Where
    /// the kernel cannot do that, each process gets its own, as soon as it is known.
    pub fn attach_tree(&mut self, kernel: &mut Kernel, pid: u32) {
        let Some(nonzero) = NonZeroU32::new(pid) else { return };
        let files: Vec<_> = self.files.values().flatten().filter(|file| is_inheritable(file)).cloned().collect();
        // What a descendant will allow itself is not known.
        for file in files.into_iter().filter(|_| !seccomp::kernel_kills()) {
            let supported = || file.libraries.iter().filter(|library| is_supported(library));
            let points: Vec<_> = supported()
                .flat_map(|library| points(library.cheapest(), library.session, library::number(library.kind)))
                .collect();
            let Ok(probes) = kernel.probe_tree(&file.probe_path(), &points, nonzero) else { break };
            self.tree.probes.extend(probes);
            self.tree.kinds.extend(supported().map(|library| library.kind));
        }
        self.enter_tree(pid);
    }

    /// A process has a child.
    pub fn inherit(&mut self, parent: u32, child: u32) {
        self.inherit_ciphertext(parent, child);
        if self.processes.get(&parent).is_some_and(|parent| parent.in_tree) {
            self.enter_tree(child);
        }
    }

    /// Takes away what descendants inherit.
    pub fn forget_tree(&mut self, kernel: &mut Kernel) {
        for probe in self.tree.probes.drain(..) {
            kernel.remove_probe(probe);
        }
    }

    pub(super) fn has_inherited(&self, pid: u32, kind: LibraryKind) -> bool {
        self.tree.kinds.contains(&kind) && self.processes.get(&pid).is_some_and(|process| process.in_tree)
    }

    fn enter_tree(&mut self, pid: u32) {
        let process = self.processes.entry(pid).or_default();
        process.in_tree = !self.tree.kinds.is_empty();
        // It may have ended meanwhile.
        process.keeper = Keeper::open(pid).ok().filter(|_| process.in_tree);
        // From its first instruction.
        let since = self.tree.kinds.iter().map(|kind| (library::number(*kind) as u8, Time(0)));
        self.since.entry(pid).or_default().extend(since);
    }
}

/// Whether descendants should have the probes of a file from their beginning. Each costs the making of every thread a
/// little: not the hundreds of a Go program. Those in rustls are of no use without what is told of each process.
fn is_inheritable(file: &LibraryFile) -> bool {
    let of_program = |kind| matches!(kind, LibraryKind::Go | LibraryKind::Rustls);
    let inheritable = |library: &library::Library| library.session == Session::Every && !of_program(library.kind);
    file.libraries.iter().any(is_supported) && file.libraries.iter().all(inheritable)
}
