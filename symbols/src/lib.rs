//! Bytes of an ELF file in, file offsets of the functions to probe out.
//!
//! [`tls_libraries`] says which TLS libraries a file holds, found by what it exports and never by its name, and for
//! each of their functions where to put the probes. A probe is dear where the kernel must single-step the instruction
//! under it, so a site is an instruction that the kernel emulates, wherever one is proved to be as good as the symbol;
//! [`Class`] says which it is. Nothing here reads a file, attaches a probe or keeps state.
//!
//! Limits: x86-64 only (`arch` holds all that depends on it); symbols are found by section headers, which every
//! library has that a dynamic linker's build produced.
#![forbid(unsafe_code)]

mod arch;
mod elf;
mod library;
mod probe;

pub use elf::{ElfError, FileOffset};
pub use library::{Function, Inner, LibraryKind, Role, TlsLibrary};
pub use probe::{Arguments, Class, Exit, Register, Site};

/// The TLS libraries that an ELF file holds: an empty list when there is none.
///
/// `elf` is the whole file, mapped by the caller; only its headers, its symbols and the code near the functions of
/// interest are read.
///
/// # Errors
/// When the bytes are not an ELF file that can be read. A TLS library without usable functions is no error: it is
/// listed, with the reasons in [`TlsLibrary::blind`].
pub fn tls_libraries(elf: &[u8]) -> Result<Vec<TlsLibrary>, ElfError> {
    let image = elf::Image::parse(elf)?;
    Ok(library::ALL.iter().filter_map(|find| find(&image)).collect())
}
