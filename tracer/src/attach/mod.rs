//! Probes in TLS libraries, for the traced processes only.
//!
//! Which libraries a process has is read from what it has mapped, through its own mount namespace, also where the file
//! on disk has been replaced meanwhile. A process that execs gets probes in the libraries that are already known
//! before it maps them: the kernel puts a probe into a mapping when it is made.

mod ciphertext;
pub mod embedded;
mod layer;
pub mod library;
mod maps;
mod seccomp;
mod tree;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use protocols::Time;
use symbols::{Arguments, Exit, Function, LibraryKind, Register, Role, Session, Site};

use ciphertext::Ciphertext;
pub use library::{Library, LibraryFile};
pub use maps::{FileId, MappedFile, mapped_files};
use tree::Tree;

use crate::connections::Libraries;
use crate::kernel::{Keeper, Kernel, Point, Probe};
use crate::record::now;

/// The probes of the traced processes.
#[derive(Debug, Default)]
pub struct Attacher {
    /// Every file that was looked into; `None`: nothing in it matters.
    files: HashMap<FileId, Option<Arc<LibraryFile>>>,
    processes: HashMap<u32, Process>,
    /// Since when the probes of a library, by its number, are all in place.
    since: HashMap<u32, HashMap<u8, Time>>,
    /// When they began to be taken away.
    until: Option<Time>,
    tree: Tree,
}

#[derive(Debug, Default)]
struct Process {
    probes: HashMap<FileId, Vec<Probe>>,
    /// What it had mapped at the last look, as far as it matters.
    mapped: HashSet<FileId>,
    ciphertext: Ciphertext,
    /// The TLS library of those whose functions serve other files too is loaded, and the kernel side knows where.
    layered: bool,
    /// It has the probes of the tree.
    in_tree: bool,
    keeper: Option<Keeper>,
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
        let mut mapped = HashSet::new();
        for file in likeliest_first(files) {
            if self.files.get(&file.id).is_some_and(Option::is_some) {
                mapped.insert(file.id);
            }
            if self.processes.get(&pid).is_some_and(|process| process.probes.contains_key(&file.id)) {
                // They were put there before it was mapped, perhaps; or it is mapped at another place now.
                if let Some(Some(library)) = self.files.get(&file.id).cloned() {
                    self.has_layer(kernel, pid, &library, &mut scan);
                }
                self.begin_go(kernel, pid, file.id, Some(&file), &mut scan);
                continue;
            }
            match self.look_into(pid, &file) {
                Ok(Some(library)) => {
                    mapped.insert(file.id);
                    if self.has_layer(kernel, pid, &library, &mut scan) {
                        self.attach(kernel, pid, library, &mut scan);
                        self.begin_go(kernel, pid, file.id, Some(&file), &mut scan);
                    }
                }
                Ok(None) => {}
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        self.processes.entry(pid).or_default().mapped = mapped;
        self.compare_where_likely(kernel, pid, &mut scan);
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
        let matters = |file: &&Arc<LibraryFile>| !file.libraries.is_empty() || file.linkage.loader.is_some();
        let known: Vec<_> = self.files.values().flatten().filter(matters).cloned().collect();
        let mut scan = Scan::default();
        for library in known {
            // Where the layer will be is not known yet.
            let layered = library.libraries.iter().any(|library| library.session != Session::Every);
            if !layered && !self.processes.get(&pid).is_some_and(|process| process.probes.contains_key(&library.id)) {
                let id = library.id;
                self.attach(kernel, pid, library, &mut scan);
                self.begin_go(kernel, pid, id, None, &mut scan);
            }
        }
    }

    /// Lets the calls of a Go program count, now that all its probes are in place: were reads seen and writes not, for as
    /// long as it takes to place them, a request would get the response of another. Where the program is mapped, the
    /// kernel side is told where the code is that tells a connection's type.
    fn begin_go(&mut self, kernel: &mut Kernel, pid: u32, id: FileId, mapped: Option<&MappedFile>, scan: &mut Scan) {
        let Some(Some(file)) = self.files.get(&id).cloned() else { return };
        for library in file.libraries.iter().filter(|library| library.kind == LibraryKind::Go) {
            let transport = library.functions.iter().find(|function| function.role == Role::Transport);
            let address = transport.and_then(|function| mapped?.address_of(function.symbol_offset.0));
            match kernel.add_go_process(pid, address) {
                Ok(false) => {}
                Ok(true) => self.complete(pid, library.kind),
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
    }

    /// Puts probes into every library known so far where a process has none yet and may load one: then those of an
    /// installed library are there before its first call.
    pub fn attach_where_late(&mut self, kernel: &mut Kernel, pid: u32) {
        if self.names(pid).is_empty() && self.mapped(pid).iter().any(|file| file.linkage.loader.is_some()) {
            self.attach_ahead(kernel, pid);
        }
    }

    /// Takes a process's probes away.
    pub fn forget(&mut self, kernel: &mut Kernel, pid: u32) {
        kernel.remove_go_process(pid);
        kernel.remove_rustls_process(pid);
        if self.until.is_none() {
            self.since.remove(&pid);
        }
        self.stop_comparing(kernel, pid);
        let process = self.processes.remove(&pid);
        if process.as_ref().is_some_and(|process| process.layered) {
            kernel.remove_layer(pid);
        }
        let probes = process.into_iter().flat_map(|process| process.probes.into_values());
        for probe in probes.flatten() {
            kernel.remove_probe(probe);
        }
    }

    /// Nothing that is seen from now on counts: the probes are about to be taken away.
    pub fn end(&mut self, now: Time) {
        self.until = Some(now);
    }

    /// All probes of a library are in place; if a process has two of a kind, of the second one now.
    fn complete(&mut self, pid: u32, kind: LibraryKind) {
        if self.has_inherited(pid, kind) {
            return;
        }
        self.since.entry(pid).or_default().insert(library::number(kind) as u8, now());
    }

    /// Whether something that a process has mapped encrypts and is not seen.
    pub fn is_blind(&self, pid: u32) -> bool {
        self.mapped(pid).iter().any(|file| !file.blind().is_empty())
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
        let mut complete = Vec::new();
        for library in file.libraries.iter().filter(|library| is_supported(library)) {
            let returns = library.cheapest().any(|function| matches!(function.exit, Exit::Return(_)));
            if returns && seccomp::kills(pid) {
                scan.blind.push(format!(
                    "{} in {} is not seen: on this kernel (see `tracer doctor`) a return probe may make the process's \
                     seccomp filter kill it",
                    library.kind.name(),
                    file.path.display()
                ));
                continue;
            }
            let points = points(library.cheapest(), library.session, library::number(library.kind));
            match kernel.probe(&file.probe_path(), &points, nonzero) {
                Ok(placed) => {
                    probes.extend(placed);
                    complete.push(library.kind);
                }
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        if let Some(offset) = file.linkage.loader {
            let point = Point { program: "loaded", offset: offset.0, cookie: 0 };
            match kernel.probe(&file.probe_path(), &[point], nonzero) {
                Ok(placed) => probes.extend(placed),
                Err(error) => scan.failures.push(format!("{}: {error}", file.path.display())),
            }
        }
        for kind in complete {
            let ok = file.libraries.iter().filter(|library| library.kind == kind).find_map(first_bytes_of_ok);
            if let Some(ok) = ok
                && let Err(error) = kernel.add_rustls_process(pid, ok)
            {
                scan.failures.push(format!("{}: {error}", file.path.display()));
            }
            self.complete(pid, kind);
        }
        scan.blind.extend(file.blind());
        scan.attached.push(file);
    }
}

impl Libraries for Attacher {
    fn names(&self, pid: u32) -> Vec<&'static str> {
        let files = self.processes.get(&pid).into_iter().flat_map(|process| {
            // Before the first look, whatever it may map.
            let is_mapped = |id: &&FileId| process.mapped.is_empty() || process.mapped.contains(id);
            process.probes.keys().filter(is_mapped)
        });
        let libraries = files.filter_map(|id| self.files.get(id)?.as_deref());
        let supported = libraries.flat_map(|file| file.libraries.iter().filter(|library| is_supported(library)));
        supported.map(|library| library.kind.name()).collect()
    }

    fn covered(&self, pid: u32, number: u8) -> Range<Time> {
        let since = self.since.get(&pid).into_iter().flatten();
        let since = since.filter(|(known, _)| number == 0 || **known == number).map(|(_, time)| *time).max();
        let end = self.until.unwrap_or(Time(u64::MAX));
        since.unwrap_or(end)..end
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

/// What the results of rustls's decrypting and encrypting begin with if they are no errors.
fn first_bytes_of_ok(library: &Library) -> Option<[u8; 2]> {
    let of = |role| {
        library.functions.iter().filter(|function| function.role == role).find_map(|function| {
            match function.arguments {
                Arguments::Rustls(ok) => Some(ok),
                _ => None,
            }
        })
    };
    Some([of(Role::Read)?, of(Role::Write)?])
}

/// Whether the kernel programs know how this library's calls look.
pub fn is_supported(library: &Library) -> bool {
    let moves = |function: &Function| matches!(function.role, Role::Read | Role::Write);
    library.functions.iter().any(moves)
}

/// Every probe of these functions. The exits come first: an entry whose exit is never seen would leave its thread inside
/// a TLS call.
fn points<'a>(functions: impl Iterator<Item = &'a Function> + Clone, session: Session, cookie: u64) -> Vec<Point> {
    let exits = functions.clone().flat_map(|function| exits(function, session));
    let all = exits.chain(functions.flat_map(|function| enters(function, session)));
    all.map(|(program, site)| Point { program, offset: site.offset.0, cookie }).collect()
}

/// The programs of one function and where each goes.
pub fn sites(function: &Function, session: Session) -> Vec<(&'static str, &Site)> {
    exits(function, session).into_iter().chain(enters(function, session)).collect()
}

fn enters(function: &Function, session: Session) -> Vec<(&'static str, &Site)> {
    let program = entry_program(function, session);
    function.enter.iter().filter_map(|site| Some((program?, site))).collect()
}

fn exits(function: &Function, session: Session) -> Vec<(&'static str, &Site)> {
    let program = entry_program(function, session).and_then(|_| exit_program(function));
    function.exit.sites().iter().filter_map(|site| Some((program?, site))).collect()
}

fn entry_program(function: &Function, session: Session) -> Option<&'static str> {
    match session {
        Session::Every => enter_program(function.role, function.arguments),
        _ => layer_program(function.role, function.arguments),
    }
}

/// The program for the exit of a function that has one for its entry; `None`: it needs none.
fn exit_program(function: &Function) -> Option<&'static str> {
    Some(match (&function.exit, function.role, function.arguments) {
        (Exit::Result(_), Role::Handshake, Arguments::Go | Arguments::GoSpilled) => "go_handshake_return",
        (Exit::Result(_), Role::Handshake, _) => "tls_handshake_result",
        (Exit::Return(_), Role::Handshake, _) => "tls_handshake_return",
        (Exit::Result(_), Role::Flush, _) => "tls_flushed",
        (Exit::Return(_), Role::Flush, _) => "tls_flushed_return",
        (Exit::Result(_), Role::Read | Role::Write, Arguments::Go) => "go_return",
        (Exit::Result(_), Role::Read | Role::Write, Arguments::GoSpilled) => "go_return_spilled",
        (Exit::Result(_), Role::Read | Role::Write, _) => "tls_result",
        (Exit::Return(_), Role::Read, Arguments::Rustls(_)) => "rustls_decrypted",
        (Exit::Return(_), Role::Write, Arguments::Rustls(_)) => "rustls_encrypted",
        (Exit::Return(_), Role::Write, Arguments::WithVector) => "tls_return_pieces",
        (Exit::Return(_), Role::Read | Role::Write, _) => "tls_return",
        _ => return None,
    })
}

/// The program for the entry of a function; `None`: it needs none.
fn enter_program(role: Role, arguments: Arguments) -> Option<&'static str> {
    Some(match (role, arguments) {
        (Role::Read, Arguments::Go | Arguments::GoSpilled) => "go_read",
        (Role::Write, Arguments::Go | Arguments::GoSpilled) => "go_write",
        (Role::Handshake, Arguments::Go | Arguments::GoSpilled) => "go_handshake",
        (Role::Free, Arguments::Go | Arguments::GoSpilled) => "go_close",
        (Role::Read, Arguments::Rustls(_)) => "rustls_decrypt",
        (Role::Write, Arguments::Rustls(_)) => "rustls_encrypt",
        (Role::Read, Arguments::Plain) => "tls_read",
        (Role::Write, Arguments::Plain) => "tls_write",
        (Role::Read, Arguments::WithLength(Register::Rcx)) => "tls_read_rcx",
        (Role::Read, Arguments::WithLength(Register::R8)) => "tls_read_r8",
        (Role::Read, Arguments::WithLength(Register::R9)) => "tls_read_r9",
        (Role::Write, Arguments::WithLength(Register::Rcx)) => "tls_write_rcx",
        (Role::Write, Arguments::WithLength(Register::R8)) => "tls_write_r8",
        (Role::Write, Arguments::WithLength(Register::R9)) => "tls_write_r9",
        (Role::Free, _) => "tls_free",
        (Role::Clear, _) => "tls_clear",
        (Role::SetFd, _) => "tls_set_fd",
        (Role::SetOneFd, _) => "tls_set_one_fd",
        (Role::Ciphertext, _) => "tls_ciphertext",
        (Role::Handshake, _) => "tls_handshake",
        (Role::Flush, _) => "tls_flush",
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
