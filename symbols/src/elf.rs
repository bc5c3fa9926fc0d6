//! The parts of an ELF file that finding functions needs.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use memchr::memmem;
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, RelocationFlags, RelocationTarget, SymbolKind,
    elf::{EM_X86_64, PF_X, PT_LOAD, ProgramFlags, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE},
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};

/// A position in the file, which is what the kernel's uprobe interface takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why the bytes could not be read as an ELF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// Not ELF, truncated, or its headers point outside of it.
    #[error("not a readable 64-bit ELF file")]
    Malformed(#[from] object::Error),
    /// Another machine's code.
    #[error("ELF machine {machine} is not supported (62, x86-64, is)")]
    Machine {
        /// `e_machine` of the file.
        machine: u16,
    },
    /// The debug file belongs to another build.
    #[error("the debug file has build id {found}, not {expected}")]
    BuildId {
        /// The build id of the file itself, in hexadecimal, or "none".
        expected: String,
        /// That of the debug file.
        found: String,
    },
}

/// A loadable stretch of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'data> {
    pub address: u64,
    pub bytes: &'data [u8],
    offset: u64,
    executable: bool,
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// A function by its symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbol<'data> {
    pub name: &'data str,
    pub address: u64,
    /// Zero where the symbol does not say.
    pub size: u64,
}

/// An ELF file for one of the supported machines.
pub(crate) struct Image<'data> {
    file: ElfFile64<'data, Endianness>,
    segments: Vec<Segment<'data>>,
    /// The defined functions of all symbol tables, by address.
    functions: Vec<Symbol<'data>>,
    /// Names of the functions that slots of the global offset table are filled with, by the slot's address.
    slots: HashMap<u64, &'data str>,
}

/// Hostile files may claim as many symbols as fit in them; the largest executables have some hundred thousand.
const MAX_SYMBOLS: usize = 1 << 21;

/// The longest string that is looked at: paths of source files.
const MAX_STRING: usize = 4096;

/// The symbols of a distribution's largest executables unpack to some ten megabytes.
const MAX_MINI_DEBUG: usize = 128 << 20;

/// The largest dictionary of `xz -9`.
const MAX_DICTIONARY: usize = 64 << 20;

impl<'data> Image<'data> {
    /// Reads `data`, and the symbols of `debug`, which are files of the same build that hold symbols only.
    pub fn parse(data: &'data [u8], debug: &[&'data [u8]]) -> Result<Self, ElfError> {
        let file = supported(data)?;
        let mut functions = functions(&file);
        for data in debug {
            functions.extend(self::functions(&supported(data)?));
        }
        functions.sort_by_key(|symbol| (symbol.address, std::cmp::Reverse(symbol.size), symbol.name));
        functions.dedup_by(|next, kept| next.address == kept.address && next.name == kept.name);
        let segments = segments(&file, data);
        let slots = slots(&file);
        Ok(Self { file, segments, functions, slots })
    }

    /// From the start of its first segment to the end of its last, as it is loaded.
    pub fn extent(&self) -> Option<std::ops::Range<u64>> {
        let endian = self.file.endian();
        let loaded = self.file.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let extents = loaded.map(|header| {
            let start = header.p_vaddr(endian);
            start..start.saturating_add(header.p_memsz(endian))
        });
        extents.reduce(|all, next| all.start.min(next.start)..all.end.max(next.end))
    }

    /// The bytes of a section, as they are in the file.
    pub fn section(&self, name: &str) -> Option<&'data [u8]> {
        self.file.section_by_name(name)?.data().ok()
    }

    /// Where a section is loaded.
    pub fn section_address(&self, name: &str) -> Option<u64> {
        self.file.section_by_name(name).map(|section| section.address())
    }

    /// The pointers that the dynamic linker fills in, by their address: where each will point to in this image.
    pub fn pointers(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let relocations = self.file.dynamic_relocations().into_iter().flatten();
        relocations.filter_map(|(address, relocation)| {
            let relative = matches!(relocation.flags(), RelocationFlags::Elf { r_type: R_X86_64_RELATIVE });
            relative.then(|| (address, relocation.addend().cast_unsigned()))
        })
    }

    pub fn code(&self) -> impl Iterator<Item = &Segment<'data>> {
        self.segments.iter().filter(|segment| segment.executable)
    }

    pub fn data(&self) -> impl Iterator<Item = &Segment<'data>> {
        self.segments.iter().filter(|segment| !segment.executable)
    }

    pub fn functions(&self) -> &[Symbol<'data>] {
        &self.functions
    }

    pub fn function(&self, name: &str) -> Option<Symbol<'data>> {
        self.functions.iter().find(|symbol| symbol.name == name).copied()
    }

    /// The names of the function that starts here.
    pub fn names_at(&self, address: u64) -> impl Iterator<Item = &'data str> {
        let first = self.functions.partition_point(|symbol| symbol.address < address);
        let rest = self.functions.get(first..).unwrap_or_default();
        rest.iter().take_while(move |symbol| symbol.address == address).map(|symbol| symbol.name)
    }

    /// The function whose code holds `address`, if it has a symbol.
    pub fn function_around(&self, address: u64) -> Option<Symbol<'data>> {
        let after = self.functions.partition_point(|symbol| symbol.address <= address);
        let before = self.functions.get(..after).unwrap_or_default();
        let nearest = before.last()?.address;
        let candidates = before.iter().rev().take_while(|symbol| symbol.address == nearest);
        candidates.copied().find(|symbol| address < self.end_of(symbol))
    }

    /// Name of the function that this slot of the global offset table points to.
    pub fn slot(&self, address: u64) -> Option<&'data str> {
        self.slots.get(&address).copied()
    }

    /// What is loaded from `address` to the end of its segment.
    pub fn bytes_at(&self, address: u64) -> Option<&'data [u8]> {
        let segment = self.segments.iter().find(|segment| segment.contains(address))?;
        segment.bytes.get(usize::try_from(address - segment.address).ok()?..)
    }

    /// The same, where it is code.
    pub fn code_at(&self, address: u64) -> Option<&'data [u8]> {
        self.code().find(|segment| segment.contains(address)).and_then(|_| self.bytes_at(address))
    }

    /// The string of C that begins at `address`, without its end.
    pub fn string_at(&self, address: u64) -> Option<&'data [u8]> {
        let bytes = self.bytes_at(address)?;
        bytes.get(..memchr::memchr(0, bytes.get(..MAX_STRING).unwrap_or(bytes))?)
    }

    /// Where the strings of C are that are `text`, or also those that end in it.
    pub fn strings(&self, text: &str, as_tail: bool) -> BTreeSet<u64> {
        let ended = [text.as_bytes(), b"\0"].concat();
        let places = self.segments.iter().flat_map(|segment| {
            memmem::find_iter(segment.bytes, &ended)
                .filter_map(|at| {
                    let start = memchr::memrchr(0, segment.bytes.get(..at)?).map_or(0, |before| before + 1);
                    let fits = start == at || (as_tail && at - start < MAX_STRING);
                    fits.then(|| [start, at].map(|place| segment.address.wrapping_add(place as u64)))
                })
                .collect::<Vec<_>>()
        });
        places.flatten().collect()
    }

    /// Where these bytes are among what is loaded.
    pub fn addresses_of(&self, needle: &[u8]) -> impl Iterator<Item = u64> {
        self.segments.iter().flat_map(move |segment| {
            memmem::find_iter(segment.bytes, needle).map(|at| segment.address.wrapping_add(at as u64))
        })
    }

    /// Where code is in the file.
    pub fn file_offset(&self, address: u64) -> Option<FileOffset> {
        let segment = self.code().find(|segment| segment.contains(address))?;
        segment.offset.checked_add(address - segment.address).map(FileOffset)
    }

    /// Where a function's code ends: by its size, else where the next function starts, else with its segment.
    pub fn end_of(&self, symbol: &Symbol<'_>) -> u64 {
        let segment = self.code().find(|segment| segment.contains(symbol.address));
        let limit = segment.map_or(symbol.address, Segment::end);
        if symbol.size > 0 {
            return symbol.address.saturating_add(symbol.size).min(limit);
        }
        let next = self.functions.partition_point(|other| other.address <= symbol.address);
        self.functions.get(next).map_or(limit, |other| other.address.min(limit))
    }
}

/// The build id, by which distributions name the separate debug files.
pub(crate) fn build_id(data: &[u8]) -> Result<Option<&[u8]>, ElfError> {
    Ok(supported(data)?.build_id()?)
}

/// Refuses a debug file of another build.
pub(crate) fn same_build(data: &[u8], debug: &[u8]) -> Result<(), ElfError> {
    let (expected, found) = (build_id(data)?, build_id(debug)?);
    let hexadecimal =
        |id: Option<&[u8]>| id.map_or("none".to_owned(), |id| id.iter().map(|byte| format!("{byte:02x}")).collect());
    if expected.is_some() && expected == found {
        return Ok(());
    }
    Err(ElfError::BuildId { expected: hexadecimal(expected), found: hexadecimal(found) })
}

/// The ELF file of symbols that some distributions pack into their stripped executables ("MiniDebugInfo").
///
/// None when there is none, and when it cannot be unpacked within bounds: then those symbols are just not known.
pub(crate) fn mini_debug(data: &[u8]) -> Result<Option<Vec<u8>>, ElfError> {
    let file = supported(data)?;
    let Some(section) = file.section_by_name(".gnu_debugdata") else { return Ok(None) };
    Ok(unpack(section.data()?).filter(|unpacked| supported(unpacked).is_ok()))
}

fn unpack(mut packed: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = xz4rust::XzDecoder::in_heap_with_alloc_dict_size(xz4rust::DICT_SIZE_MIN, MAX_DICTIONARY);
    let (mut unpacked, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    while unpacked.len() <= MAX_MINI_DEBUG {
        let step = decoder.decode(packed, &mut chunk).ok()?;
        packed = packed.get(step.input_consumed()..)?;
        unpacked.extend_from_slice(chunk.get(..step.output_produced())?);
        if step.is_end_of_stream() {
            return Some(unpacked);
        }
        step.made_progress().then_some(())?;
    }
    None
}

fn supported(data: &[u8]) -> Result<ElfFile64<'_, Endianness>, ElfError> {
    let file = ElfFile64::<Endianness>::parse(data)?;
    let machine = file.elf_header().e_machine(file.endian());
    if machine != EM_X86_64 {
        return Err(ElfError::Machine { machine: machine.0 });
    }
    Ok(file)
}

fn segments<'data>(file: &ElfFile64<'data, Endianness>, data: &'data [u8]) -> Vec<Segment<'data>> {
    let endian = file.endian();
    let loaded = file.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
    loaded
        .filter_map(|header| {
            let bytes = header.data(endian, data).ok()?;
            let executable = header.p_flags(endian) & PF_X != ProgramFlags(0);
            Some(Segment { address: header.p_vaddr(endian), offset: header.p_offset(endian), bytes, executable })
        })
        .collect()
}

fn functions<'data>(file: &ElfFile64<'data, Endianness>) -> Vec<Symbol<'data>> {
    let all = file.dynamic_symbols().take(MAX_SYMBOLS).chain(file.symbols().take(MAX_SYMBOLS));
    let defined =
        all.filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text && symbol.address() != 0);
    let functions = defined.filter_map(|symbol| {
        // Some linkers write the version into the name: SSL_read@@OPENSSL_3.0.0.
        let name = symbol.name().ok()?.split('@').next()?;
        (!name.is_empty()).then_some(Symbol { name, address: symbol.address(), size: symbol.size() })
    });
    functions.collect()
}

fn slots<'data>(file: &ElfFile64<'data, Endianness>) -> HashMap<u64, &'data str> {
    let Some(symbols) = file.dynamic_symbol_table() else { return HashMap::new() };
    let Some(relocations) = file.dynamic_relocations() else { return HashMap::new() };
    let named = relocations.take(MAX_SYMBOLS).filter_map(|(address, relocation)| {
        let RelocationFlags::Elf { r_type: R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT } = relocation.flags() else {
            return None;
        };
        let RelocationTarget::Symbol(index) = relocation.target() else { return None };
        let name = symbols.symbol_by_index(index).ok()?.name().ok()?;
        (!name.is_empty()).then_some((address, name))
    });
    named.collect()
}
