//! The parts of an ELF file that finding functions needs.

use std::{collections::HashMap, fmt};

use object::{
    Endianness, Object, ObjectSymbol, ObjectSymbolTable, RelocationFlags, RelocationTarget, SymbolKind,
    elf::{PF_X, PT_LOAD, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT},
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
}

/// A loadable, executable stretch of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'data> {
    pub address: u64,
    pub offset: u64,
    pub bytes: &'data [u8],
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// A function by its symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub name: String,
    pub address: u64,
    /// Zero where the symbol does not say.
    pub size: u64,
}

/// An ELF file for one of the supported machines.
pub(crate) struct Image<'data> {
    file: ElfFile64<'data, Endianness>,
    code: Vec<Segment<'data>>,
    /// The defined functions of the dynamic symbol table, by address.
    exports: Vec<Symbol>,
    /// Names of the functions that slots of the global offset table are filled with, by the slot's address.
    slots: HashMap<u64, String>,
}

/// Hostile files may claim as many symbols as fit in them; a real library has some thousands.
const MAX_SYMBOLS: usize = 1 << 20;

impl<'data> Image<'data> {
    pub fn parse(data: &'data [u8]) -> Result<Self, ElfError> {
        let file = ElfFile64::<Endianness>::parse(data)?;
        let machine = file.elf_header().e_machine(file.endian());
        if machine != object::elf::EM_X86_64 {
            return Err(ElfError::Machine { machine: machine.0 });
        }
        let code = executable_segments(&file, data);
        let exports = exports(&file);
        let slots = slots(&file);
        Ok(Self { file, code, exports, slots })
    }

    /// All bytes of the sections that hold constants.
    pub fn constants(&self) -> Option<&'data [u8]> {
        use object::ObjectSection;
        self.file.section_by_name(".rodata")?.data().ok()
    }

    pub fn code(&self) -> &[Segment<'data>] {
        &self.code
    }

    pub fn exports(&self) -> &[Symbol] {
        &self.exports
    }

    pub fn export(&self, name: &str) -> Option<&Symbol> {
        self.exports.iter().find(|symbol| symbol.name == name)
    }

    /// The exported function whose code holds `address`.
    pub fn export_around(&self, address: u64) -> Option<&Symbol> {
        self.exports.iter().find(|symbol| (symbol.address..self.end_of(symbol)).contains(&address))
    }

    /// Name of the function that this slot of the global offset table points to.
    pub fn slot(&self, address: u64) -> Option<&str> {
        self.slots.get(&address).map(String::as_str)
    }

    /// The code from `address` to the end of its segment.
    pub fn code_at(&self, address: u64) -> Option<&'data [u8]> {
        let segment = self.code.iter().find(|segment| segment.contains(address))?;
        segment.bytes.get(usize::try_from(address - segment.address).ok()?..)
    }

    pub fn file_offset(&self, address: u64) -> Option<FileOffset> {
        let segment = self.code.iter().find(|segment| segment.contains(address))?;
        segment.offset.checked_add(address - segment.address).map(FileOffset)
    }

    /// Where a function's code ends: by its size, else where the next function starts, else with its segment.
    pub fn end_of(&self, symbol: &Symbol) -> u64 {
        let segment = self.code.iter().find(|segment| segment.contains(symbol.address));
        let limit = segment.map_or(symbol.address, Segment::end);
        if symbol.size > 0 {
            return symbol.address.saturating_add(symbol.size).min(limit);
        }
        let next = self.exports.partition_point(|other| other.address <= symbol.address);
        self.exports.get(next).map_or(limit, |other| other.address.min(limit))
    }
}

fn executable_segments<'data>(file: &ElfFile64<'data, Endianness>, data: &'data [u8]) -> Vec<Segment<'data>> {
    let endian = file.endian();
    let loaded = file.elf_program_headers().iter().filter(|header| {
        header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X != object::elf::ProgramFlags(0)
    });
    loaded
        .filter_map(|header| {
            let bytes = header.data(endian, data).ok()?;
            Some(Segment { address: header.p_vaddr(endian), offset: header.p_offset(endian), bytes })
        })
        .collect()
}

fn exports(file: &ElfFile64<'_, Endianness>) -> Vec<Symbol> {
    let functions = file
        .dynamic_symbols()
        .take(MAX_SYMBOLS)
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text && symbol.address() != 0);
    let mut exports: Vec<Symbol> = functions
        .filter_map(|symbol| {
            Some(Symbol { name: symbol.name().ok()?.to_owned(), address: symbol.address(), size: symbol.size() })
        })
        .collect();
    exports.sort_by_key(|symbol| symbol.address);
    exports
}

fn slots(file: &ElfFile64<'_, Endianness>) -> HashMap<u64, String> {
    let Some(symbols) = file.dynamic_symbol_table() else { return HashMap::new() };
    let Some(relocations) = file.dynamic_relocations() else { return HashMap::new() };
    let named = relocations.take(MAX_SYMBOLS).filter_map(|(address, relocation)| {
        let RelocationFlags::Elf { r_type: R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT } = relocation.flags() else {
            return None;
        };
        let RelocationTarget::Symbol(index) = relocation.target() else { return None };
        let name = symbols.symbol_by_index(index).ok()?.name().ok()?.to_owned();
        (!name.is_empty()).then_some((address, name))
    });
    named.collect()
}
