//! A file with TLS libraries in it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use symbols::{ElfError, LibraryKind, Linkage, TlsLibrary};

use super::{FileId, MappedFile, embedded};
use crate::sys;

/// A TLS library inside a file.
pub type Library = TlsLibrary;

/// A file that holds TLS libraries, what else encrypts, or what belongs to them. It stays open, so that probes go into
/// this very file whatever happens to its name.
#[derive(Debug)]
pub struct LibraryFile {
    /// Which file.
    pub id: FileId,
    /// Its path as the process sees it.
    pub path: PathBuf,
    /// What is in it.
    pub libraries: Vec<Library>,
    /// What else in it matters.
    pub linkage: Linkage,
    /// What encrypts and has no functions that can be probed.
    pub embedded: Option<&'static str>,
    file: File,
}

/// Why a mapped file could not be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It cannot be opened.
    #[error("cannot be read: {0}")]
    Open(#[from] std::io::Error),
    /// It is no ELF file that can be read.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

impl LibraryFile {
    /// Looks into a file that a process has mapped; `None`: it holds nothing that matters.
    pub fn open(pid: u32, mapped: &MappedFile) -> Result<Option<Self>, LibraryError> {
        Self::look_into(mapped.open(pid)?, mapped.id, &mapped.path, Path::new(&format!("/proc/{pid}/root")))
    }

    /// Looks into a file that no process may have mapped yet.
    pub fn open_path(path: &Path) -> Result<Option<Self>, LibraryError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let device = metadata.dev();
        let device = (rustix::fs::major(device) as i32, rustix::fs::minor(device) as i32);
        Self::look_into(file, FileId { device, inode: metadata.ino() }, path, Path::new("/"))
    }

    fn look_into(file: File, id: FileId, path: &Path, root: &Path) -> Result<Option<Self>, LibraryError> {
        let bytes = sys::map(&file)?;
        // A mapped file that is no ELF file (a device, a font cache) is nobody's fault.
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let (mut libraries, linkage) = (symbols::tls_libraries(&bytes)?, symbols::linkage(&bytes)?);
        if libraries.iter().any(|library| library.functions.is_empty()) {
            libraries = with_debug_file(&bytes, root).unwrap_or(libraries);
        }
        let embedded = if libraries.is_empty() { embedded::library(path, &bytes) } else { None };
        let found = !libraries.is_empty() || embedded.is_some() || linkage != Linkage::default();
        Ok(found.then(|| Self { id, path: path.to_owned(), libraries, embedded, linkage, file }))
    }

    /// What of it encrypts and is not seen, for people.
    pub fn blind(&self) -> Vec<String> {
        let path = self.path.display();
        let unseen = self.libraries.iter().filter(|library| !super::is_supported(library));
        let unseen = unseen.map(|library| {
            let reasons = if library.blind.is_empty() { "not supported".to_owned() } else { library.blind.join("; ") };
            format!("{} in {path} is not seen: {reasons}", library.kind.name())
        });
        let embedded = self.embedded.map(|name| format!("{name} in {path} is not seen: it has no functions to probe"));
        unseen.chain(embedded).collect()
    }

    /// A path that leads to this file for as long as it is open.
    pub fn probe_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// What is in a file when the symbols of its separate debug file are known too, if that is installed (gdb's manual,
/// "Debugging Information in Separate Files").
fn with_debug_file(bytes: &[u8], root: &Path) -> Option<Vec<TlsLibrary>> {
    let id: String = symbols::build_id(bytes).ok()??.iter().map(|byte| format!("{byte:02x}")).collect();
    let (folder, name) = id.split_at_checked(2)?;
    let path = root.join(format!("usr/lib/debug/.build-id/{folder}/{name}.debug"));
    let debug = sys::map(&File::open(path).ok()?).ok()?;
    symbols::tls_libraries_with_debug(bytes, &debug).ok()
}

/// TLS libraries where dynamic linkers look by default (ld.so(8), and Debian's multiarch folders).
pub fn installed() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from).into();
    folders.push(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into());
    let entries = folders.into_iter().filter_map(|folder| folder.read_dir().ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let tls = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        (name.starts_with("libssl.so") || name.starts_with("libgnutls.so")) && !path.is_symlink()
    };
    paths.filter(tls).collect()
}

/// The number that probes of a library carry, and events with them.
pub fn number(kind: LibraryKind) -> u64 {
    NAMES.iter().position(|name| *name == kind.name()).map_or(0, |index| index as u64 + 1)
}

/// The name of the library with that number.
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number).checked_sub(1)?).copied()
}

/// Every name that `tls.library` may have; the place in the list is the number.
const NAMES: [&str; 7] = ["openssl", "boringssl", "gnutls", "nss", "go", "rustls", "libressl"];
