//! Bytes of an ELF file in, file offsets of the functions to probe out.
//!
//! [`tls_libraries`] says which TLS libraries a file holds, found by what it exports and never by its name, and for
//! each of their functions where to put the probes. A probe is dear where the kernel must single-step the instruction
//! under it, so a site is an instruction that the kernel emulates, wherever one is proved to be as good as the symbol;
//! [`Class`] says which it is. Nothing here reads a file, attaches a probe or keeps state.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for library in symbols::tls_libraries(&std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3")?)? {
//!     for function in library.cheapest() {
//!         for site in &function.enter {
//!             println!("{}: enter at {site}", function.name);
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Limits: x86-64 only (`arch` holds all that depends on it); symbols are found by section headers, which every
//! library has that a dynamic linker's build produced.
#![forbid(unsafe_code)]

mod arch;
mod elf;
mod library;
mod probe;
mod unwind;

pub use elf::{ElfError, FileOffset};
pub use library::{Function, Inner, LibraryKind, Role, Session, TlsLibrary};
pub use probe::{Arguments, Class, Exit, Register, Site};

/// The TLS libraries that an ELF file holds: an empty list when there is none.
///
/// `elf` is the whole file, mapped by the caller; only its headers, its symbols and the code near the functions of
/// interest are read. The symbols are those of `.dynsym`, `.symtab` and `.gnu_debugdata`, whichever there are.
///
/// # Errors
/// When the bytes are not an ELF file that can be read. A TLS library without usable functions is no error: it is
/// listed, with the reasons in [`TlsLibrary::blind`].
pub fn tls_libraries(elf: &[u8]) -> Result<Vec<TlsLibrary>, ElfError> {
    find_in(elf, None)
}

/// The same, with the symbols of a separate debug file too, which is found by [`build_id`].
///
/// # Errors
/// Also when the debug file is of another build.
pub fn tls_libraries_with_debug(elf: &[u8], debug: &[u8]) -> Result<Vec<TlsLibrary>, ElfError> {
    elf::same_build(elf, debug)?;
    find_in(elf, Some(debug))
}

/// The build id of an ELF file: its debug file is `/usr/lib/debug/.build-id/ab/cdef….debug` for the id abcdef….
///
/// # Errors
/// When the bytes are not an ELF file that can be read.
pub fn build_id(elf: &[u8]) -> Result<Option<&[u8]>, ElfError> {
    elf::build_id(elf)
}

/// From where to where a library is loaded that exports this function, as addresses of its file; none if it does not.
///
/// It is what [`Session::FirstWordWithin`] asks for: what the dynamic linker adds to the file's addresses is where the
/// process has it.
///
/// # Errors
/// When the bytes are not an ELF file that can be read.
pub fn extent_if_exporting(elf: &[u8], function: &str) -> Result<Option<std::ops::Range<u64>>, ElfError> {
    let image = elf::Image::parse(elf, &[])?;
    Ok(image.function(function).and_then(|_| image.extent()))
}

fn find_in(elf: &[u8], debug: Option<&[u8]>) -> Result<Vec<TlsLibrary>, ElfError> {
    let packed = elf::mini_debug(elf)?;
    let sources: Vec<&[u8]> = packed.as_deref().into_iter().chain(debug).collect();
    let image = elf::Image::parse(elf, &sources)?;
    Ok(library::ALL.iter().filter_map(|find| find(&image)).collect())
}
