//! Probes in TLS libraries, for the traced processes only.
//!
//! Which libraries a process has is read from what it has mapped, through its own mount namespace, also where the file
//! on disk has been replaced meanwhile. A process that execs gets probes in the libraries that are already known
//! before it maps them: the kernel puts a probe into a mapping when it is made.

pub mod library;
mod maps;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use symbols::{Arguments, Exit, Function, LibraryKind, Register, Role, Session, Site};

pub use library::{Library, LibraryFile};
pub use maps::{FileId, MappedFile, mapped_files};

use crate::kernel::{Kernel, Point, Probe};

/// The probes of the traced processes.
#[derive(Debug, Default)]
pub struct Attacher {
    /// Every file that was looked into; `None`: no TLS library in it.
    files: HashMap<FileId, Option<Arc<LibraryFile>>>,
    processes: HashMap<u32, Process>,
}

#[derive(Debug, Default)]
struct Process {
    probes: HashMap<FileId, Vec<Probe>>,
}

/// What a look at a process found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Libraries that got probes now.
    pub attached: Vec<Arc<LibraryFile>>,
    /// Why some could not be probed.
    pub failures: Vec<String>,
}

impl Attacher {
    /// Looks at what a process has mapped, and puts probes into the TLS libraries that have none yet.
    pub fn scan(&mut self, kernel: &mut Kernel, pid: u32) -> Scan {
        let mut scan = Scan::default();
        let files = match mapped_files(pid) {
            Ok(files) => files,
            // It has ended meanwhile; its exit is reported on its own.
            Err(_) => return scan,
        };
        for file in likeliest_first(files) {
            if self.processes.get(&pid).is_some_and(|process| process.probes.contains_key(&file.id)) {
                // They were put there before it was mapped, perhaps.
                self.begin_go(kernel, pid, file.id, Some(&file), &mut scan);
                continue;
            }
            match self.look_into(pid, &file) {
                Ok(Some(library)) => {
                    self.attach(kernel, pid, library, &mut scan);
                    self.begin_go(kernel, pid, file.id, Some(&file), &mut scan);
                }
                Ok(None) => {}
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        if !scan.failures.is_empty() && mapped_files(pid).map_or(true, |files| files.is_empty()) {
            // It has ended meanwhile.
            scan.failures.clear();
        }
        scan
    }

    /// Looks into the TLS libraries that the dynamic linker would load, and into the program that is to be executed, so
    /// that the process gets its probes before it maps them.
    pub fn prepare(&mut self, program: Option<&Path>) {
        for path in library::installed().into_iter().chain(program.map(Path::to_owned)) {
            // What cannot be read now is reported if a process maps it.
            if let Ok(Some(file)) = LibraryFile::open_path(&path) {
                self.files.entry(file.id).or_insert_with(|| Some(Arc::new(file)));
            }
        }
    }

    /// Puts probes into every library known so far, for a process that may map them in a moment.
    pub fn attach_ahead(&mut self, kernel: &mut Kernel, pid: u32) {
        let known: Vec<_> = self.files.values().flatten().cloned().collect();
        let mut scan = Scan::default();
        for library in known {
            if !self.processes.get(&pid).is_some_and(|process| process.probes.contains_key(&library.id)) {
                let id = library.id;
                self.attach(kernel, pid, library, &mut scan);
                self.begin_go(kernel, pid, id, None, &mut scan);
            }
        }
    }

    /// Lets the calls of a Go program count, now that all its probes are in place: were reads seen and writes not, for as
    /// long as it takes to place them, a request would get the response of another. Where the program is mapped, the
    /// kernel side is told where the code is that tells a connection's type.
    fn begin_go(&self, kernel: &mut Kernel, pid: u32, id: FileId, mapped: Option<&MappedFile>, scan: &mut Scan) {
        let Some(Some(file)) = self.files.get(&id) else { return };
        for library in file.libraries.iter().filter(|library| library.kind == LibraryKind::Go) {
            let transport = library.functions.iter().find(|function| function.role == Role::Transport);
            let address = transport.and_then(|function| mapped?.address_of(function.symbol_offset.0));
            if let Err(error) = kernel.add_go_process(pid, address) {
                scan.failures.push(format!("{}: {error}", file.path.display()));
            }
        }
    }

    /// Takes a process's probes away.
    pub fn forget(&mut self, kernel: &mut Kernel, pid: u32) {
        kernel.remove_go_process(pid);
        let probes = self.processes.remove(&pid).into_iter().flat_map(|process| process.probes.into_values());
        for probe in probes.flatten() {
            kernel.remove_probe(probe);
        }
    }

    /// Names of the libraries that a process has probes in.
    pub fn libraries(&self, pid: u32) -> Vec<&'static str> {
        let files = self.processes.get(&pid).into_iter().flat_map(|process| process.probes.keys());
        let libraries = files.filter_map(|id| self.files.get(id)?.as_deref());
        let supported = libraries.flat_map(|file| file.libraries.iter().filter(|library| is_supported(library)));
        supported.map(|library| library.kind.name()).collect()
    }

    fn look_into(&mut self, pid: u32, file: &MappedFile) -> Result<Option<Arc<LibraryFile>>, library::LibraryError> {
        if let Some(known) = self.files.get(&file.id) {
            return Ok(known.clone());
        }
        let found = LibraryFile::open(pid, file)?.map(Arc::new);
        self.files.insert(file.id, found.clone());
        Ok(found)
    }

    fn attach(&mut self, kernel: &mut Kernel, pid: u32, file: Arc<LibraryFile>, scan: &mut Scan) {
        let Some(nonzero) = NonZeroU32::new(pid) else { return };
        let probes = self.processes.entry(pid).or_default().probes.entry(file.id).or_default();
        for library in file.libraries.iter().filter(|library| is_supported(library)) {
            match kernel.probe(&file.probe_path(), &points(library), nonzero) {
                Ok(placed) => probes.extend(placed),
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        scan.attached.push(file);
    }
}

/// Short-lived processes may call a library within milliseconds, and looking into all files takes as long: a name says
/// nothing about what a file holds, but where to look first.
fn likeliest_first(mut files: Vec<MappedFile>) -> Vec<MappedFile> {
    let likely = |file: &MappedFile| {
        let name = file.path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        ["ssl", "tls", "nspr"].iter().any(|part| name.contains(part))
    };
    files.sort_by_key(|file| !likely(file));
    files
}

/// Whether the kernel programs know how this library's calls look. NSPR's carry all kinds of connections.
pub fn is_supported(library: &Library) -> bool {
    let moves = |function: &Function| matches!(function.role, Role::Read | Role::Write);
    library.functions.iter().any(moves) && library.session == Session::Every
}

/// Every probe of a library. The exits come first: an entry whose exit is never seen would leave its thread inside a TLS
/// call.
fn points(library: &Library) -> Vec<Point> {
    let cookie = library::number(library.kind);
    let exits = library.cheapest().flat_map(exits);
    let all = exits.chain(library.cheapest().flat_map(enters));
    all.map(|(program, site)| Point { program, offset: site.offset.0, cookie }).collect()
}

/// The programs of one function and where each goes.
pub fn sites(function: &Function) -> Vec<(&'static str, &Site)> {
    exits(function).into_iter().chain(enters(function)).collect()
}

fn enters(function: &Function) -> Vec<(&'static str, &Site)> {
    let program = enter_program(function.role, function.arguments);
    function.enter.iter().filter_map(|site| Some((program?, site))).collect()
}

fn exits(function: &Function) -> Vec<(&'static str, &Site)> {
    let program = match &function.exit {
        Exit::Result(_) if function.role == Role::Handshake => "go_handshake_return",
        Exit::Result(_) if function.arguments == Arguments::Go => "go_return",
        Exit::Result(_) if function.arguments == Arguments::GoSpilled => "go_return_spilled",
        Exit::Result(_) => "tls_result",
        Exit::Return(_) => "tls_return",
        Exit::Through(_) | Exit::Unneeded => return Vec::new(),
    };
    let waits = matches!(function.role, Role::Read | Role::Write | Role::Handshake);
    let waits = waits && enter_program(function.role, function.arguments).is_some();
    function.exit.sites().iter().filter(|_| waits).map(|site| (program, site)).collect()
}

/// The program for the entry of a function; `None`: it needs none.
fn enter_program(role: Role, arguments: Arguments) -> Option<&'static str> {
    Some(match (role, arguments) {
        (Role::Read, Arguments::Go | Arguments::GoSpilled) => "go_read",
        (Role::Write, Arguments::Go | Arguments::GoSpilled) => "go_write",
        (Role::Handshake, Arguments::Go | Arguments::GoSpilled) => "go_handshake",
        (Role::Free, Arguments::Go | Arguments::GoSpilled) => "go_close",
        (Role::Read, Arguments::Plain) => "tls_read",
        (Role::Write, Arguments::Plain) => "tls_write",
        (Role::Read, Arguments::WithLength(Register::Rcx)) => "tls_read_rcx",
        (Role::Read, Arguments::WithLength(Register::R8)) => "tls_read_r8",
        (Role::Read, Arguments::WithLength(Register::R9)) => "tls_read_r9",
        (Role::Write, Arguments::WithLength(Register::Rcx)) => "tls_write_rcx",
        (Role::Write, Arguments::WithLength(Register::R8)) => "tls_write_r8",
        (Role::Write, Arguments::WithLength(Register::R9)) => "tls_write_r9",
        (Role::Free | Role::Clear, _) => "tls_free",
        _ => return None,
    })
}
