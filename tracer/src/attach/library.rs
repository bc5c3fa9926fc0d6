//! A file with TLS libraries in it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use symbols::{ElfError, LibraryKind, TlsLibrary};

use super::{FileId, MappedFile};
use crate::sys;

/// A TLS library inside a file.
pub type Library = TlsLibrary;

/// A file that holds TLS libraries. It stays open, so that probes go into this very file whatever happens to its name.
#[derive(Debug)]
pub struct LibraryFile {
    /// Which file.
    pub id: FileId,
    /// Its path as the process sees it.
    pub path: PathBuf,
    /// What is in it.
    pub libraries: Vec<Library>,
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
    /// Looks into a file that a process has mapped; `None`: it holds no TLS library.
    pub fn open(pid: u32, mapped: &MappedFile) -> Result<Option<Self>, LibraryError> {
        let file = mapped.open(pid)?;
        let bytes = sys::map(&file)?;
        // A mapped file that is no ELF file (a device, a font cache) is nobody's fault.
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let libraries = symbols::tls_libraries(&bytes)?;
        let found = !libraries.is_empty();
        Ok(found.then(|| Self { id: mapped.id, path: mapped.path.clone(), libraries, file }))
    }

    /// A path that leads to this file for as long as it is open.
    pub fn probe_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
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
const NAMES: [&str; 6] = ["openssl", "boringssl", "gnutls", "nss", "go", "rustls"];
