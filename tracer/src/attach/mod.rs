//! Probes in TLS libraries, for the traced processes only.
//!
//! Which libraries a process has is read from what it has mapped, through its own mount namespace, also where the file
//! on disk has been replaced meanwhile. A process that execs gets probes in the libraries that are already known
//! before it maps them: the kernel puts a probe into a mapping when it is made.

pub mod embedded;
mod layer;
pub mod library;
mod maps;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use symbols::{Arguments, Exit, Function, Register, Role, Session, Site};

pub use library::{Library, LibraryFile};
pub use maps::{FileId, MappedFile, mapped_files};

use crate::kernel::{Kernel, KernelError, Probe};

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
    /// The TLS library of those whose functions serve other files too is loaded, and the kernel side knows where.
    layered: bool,
}

/// What a look at a process found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Libraries that got probes now.
    pub attached: Vec<Arc<LibraryFile>>,
    /// What encrypts and is not seen.
    pub blind: Vec<String>,
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
                continue;
            }
            match self.look_into(pid, &file) {
                Ok(Some(library)) if !self.has_layer(kernel, pid, &library, &mut scan) => {}
                Ok(Some(library)) => self.attach(kernel, pid, library, &mut scan),
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

    /// Whether calls of this file's functions can be told from those on other files; tells the kernel side how. The
    /// library that does TLS may be loaded later than this one, or never: then this one is of no interest.
    fn has_layer(&mut self, kernel: &mut Kernel, pid: u32, file: &LibraryFile, scan: &mut Scan) -> bool {
        let Some(function) = file.libraries.iter().find_map(|library| match library.session {
            Session::FirstWordWithin(function) => Some(function),
            _ => None,
        }) else {
            return true;
        };
        let Some(range) = layer::range(pid, function) else { return false };
        if let Err(error) = kernel.set_layer(pid, range) {
            scan.failures.push(format!("{}: {error}", file.path.display()));
            return false;
        }
        self.processes.entry(pid).or_default().layered = true;
        true
    }

    /// Looks into the TLS libraries that the dynamic linker would load, so that a process that is yet to execute a
    /// program gets its probes before it maps them.
    pub fn prepare(&mut self) {
        for path in library::installed() {
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
            // Where the layer will be is not known yet.
            let layered = library.libraries.iter().any(|library| library.session != Session::Every);
            if !layered && !self.processes.get(&pid).is_some_and(|process| process.probes.contains_key(&library.id)) {
                self.attach(kernel, pid, library, &mut scan);
            }
        }
    }

    /// Takes a process's probes away.
    pub fn forget(&mut self, kernel: &mut Kernel, pid: u32) {
        let process = self.processes.remove(&pid);
        if process.as_ref().is_some_and(|process| process.layered) {
            kernel.remove_layer(pid);
        }
        let probes = process.into_iter().flat_map(|process| process.probes.into_values());
        for probe in probes.flatten() {
            kernel.remove_probe(probe);
        }
    }

    /// Whether something that a process has mapped encrypts and is not seen.
    pub fn is_blind(&self, pid: u32) -> bool {
        let files = self.processes.get(&pid).into_iter().flat_map(|process| process.probes.keys());
        files.filter_map(|id| self.files.get(id)?.as_deref()).any(|file| !file.blind().is_empty())
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
            for function in library.cheapest() {
                if let Err(error) = probe_function(kernel, &file, function, library, nonzero, probes) {
                    scan.failures.push(format!("{} in {}: {error}", function.name, file.path.display()));
                }
            }
        }
        scan.blind.extend(file.blind());
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

/// Whether the kernel programs know how this library's calls look. Go has its own calling convention.
pub fn is_supported(library: &Library) -> bool {
    let ours = |function: &Function| !matches!(function.arguments, Arguments::Go);
    !library.functions.is_empty() && library.functions.iter().all(ours)
}

/// Puts the probes of one function.
fn probe_function(
    kernel: &mut Kernel,
    file: &LibraryFile,
    function: &Function,
    library: &Library,
    pid: NonZeroU32,
    probes: &mut Vec<Probe>,
) -> Result<(), KernelError> {
    let cookie = library::number(library.kind);
    for (program, site) in sites(function, library.session) {
        probes.push(kernel.probe(program, &file.probe_path(), site.offset.0, pid, cookie)?);
    }
    Ok(())
}

/// The programs of one function and where each goes. The exit comes first: an entry whose exit is never seen would
/// leave its thread inside a TLS call.
pub fn sites(function: &Function, session: Session) -> Vec<(&'static str, &Site)> {
    let enter = match session {
        Session::Every => enter_program(function.role, function.arguments),
        _ => layer_program(function.role, function.arguments),
    };
    let Some(enter) = enter else { return Vec::new() };
    let exit = match (&function.exit, function.role) {
        (Exit::Return(_), Role::Write) if function.arguments == Arguments::WithVector => "tls_return_pieces",
        (Exit::Result(_), Role::Flush) => "tls_flushed",
        (Exit::Return(_), Role::Flush) => "tls_flushed_return",
        (Exit::Result(_), _) => "tls_result",
        (Exit::Return(_), _) => "tls_return",
        (Exit::Through(_) | Exit::Unneeded, _) => "",
    };
    let moves = matches!(function.role, Role::Read | Role::Write | Role::Flush);
    let exits = function.exit.sites().iter().filter(|_| moves).map(|site| (exit, site));
    exits.chain(function.enter.iter().map(|site| (enter, site))).collect()
}

/// The program for the entry of a function; `None`: it needs none.
fn enter_program(role: Role, arguments: Arguments) -> Option<&'static str> {
    Some(match (role, arguments) {
        (Role::Read, Arguments::Plain) => "tls_read",
        (Role::Write, Arguments::Plain) => "tls_write",
        (Role::Read, Arguments::WithLength(Register::Rcx)) => "tls_read_rcx",
        (Role::Read, Arguments::WithLength(Register::R8)) => "tls_read_r8",
        (Role::Read, Arguments::WithLength(Register::R9)) => "tls_read_r9",
        (Role::Write, Arguments::WithLength(Register::Rcx)) => "tls_write_rcx",
        (Role::Write, Arguments::WithLength(Register::R8)) => "tls_write_r8",
        (Role::Write, Arguments::WithLength(Register::R9)) => "tls_write_r9",
        (Role::Flush, _) => "tls_flush",
        (Role::Free | Role::Clear, _) => "tls_free",
        _ => return None,
    })
}

/// The same for a function that serves other files too.
fn layer_program(role: Role, arguments: Arguments) -> Option<&'static str> {
    Some(match (role, arguments) {
        (Role::Read, Arguments::Plain) => "tls_layer_read",
        (Role::Read, Arguments::WithFlags) => "tls_layer_receive",
        (Role::Write, Arguments::Plain | Arguments::WithVector) => "tls_layer_write",
        (Role::Free | Role::Clear, _) => "tls_free",
        _ => return None,
    })
}
