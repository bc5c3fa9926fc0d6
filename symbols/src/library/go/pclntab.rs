//! Go's table of functions, `runtime.pclntab` (src/debug/gosym/pclntab.go, src/runtime/symtab.go).

use std::{collections::HashMap, ops::Range};

use memchr::memmem;

use crate::elf::Image;

/// The layouts, by the number that a table starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Go 1.16 and 1.17: addresses.
    Go116,
    /// Go 1.18 and later (1.20 changed the number only): offsets from the start of the code.
    Go118,
}

const MAGICS: [([u8; 6], Layout); 3] = [
    ([0xfa, 0xff, 0xff, 0xff, 0, 0], Layout::Go116),
    ([0xf0, 0xff, 0xff, 0xff, 0, 0], Layout::Go118),
    ([0xf1, 0xff, 0xff, 0xff, 0, 0], Layout::Go118),
];

/// After the magic: the instruction alignment and the pointer size of x86-64.
const QUANTUM_AND_POINTER: [u8; 2] = [1, 8];

/// More functions than the largest programs have.
const MAX_FUNCTIONS: u64 = 1 << 22;

/// The table, and what it needs to be read.
pub(super) struct Table<'data> {
    layout: Layout,
    count: u64,
    /// What the offsets of functions count from.
    code: u64,
    /// The names, each ended by a zero.
    names: &'data [u8],
    /// The entries, and the functions that they point to by an offset into the same bytes.
    entries: &'data [u8],
}

impl<'data> Table<'data> {
    /// The table has a section of its own, except in position-independent programs that another linker made: there it
    /// is somewhere among the relocated constants.
    pub fn find(image: &Image<'data>) -> Option<Self> {
        candidates(image).find_map(|(address, bytes)| Self::parse(image, address, bytes))
    }

    fn parse(image: &Image<'data>, address: u64, bytes: &'data [u8]) -> Option<Self> {
        let (_, layout) = MAGICS.into_iter().find(|(magic, _)| bytes.starts_with(magic))?;
        (bytes.get(6..8)? == QUANTUM_AND_POINTER).then_some(())?;
        let count = word(bytes, 8)?;
        (count <= MAX_FUNCTIONS).then_some(())?;
        let offsets = match layout {
            Layout::Go116 => 24,
            Layout::Go118 => 32,
        };
        let part = |at| bytes.get(usize::try_from(word(bytes, at)?).ok()?..);
        let (names, entries) = (part(offsets)?, part(offsets + 32)?);
        let code = match layout {
            Layout::Go116 => 0,
            Layout::Go118 => start_of_code(image, address, word(bytes, 24)?, half(entries, 0)?)?,
        };
        Some(Self { layout, count, code, names, entries })
    }

    /// Go 1.16 shares its layout with 1.17, which is the first that passes arguments in registers.
    pub fn may_precede_register_arguments(&self) -> bool {
        self.layout == Layout::Go116
    }

    /// Where the code of each of these functions is, of those that are there.
    pub fn functions<'name>(&self, wanted: &[&'name str]) -> HashMap<&'name str, Range<u64>> {
        let found = (0..self.count).filter_map(|index| {
            let (start, function) = self.entry(index)?;
            let name = self.name(function)?;
            let wanted = wanted.iter().find(|wanted| name.strip_prefix(wanted.as_bytes()).is_some_and(ends))?;
            let (end, _) = self.entry(index + 1)?;
            Some((*wanted, start..end))
        });
        found.collect()
    }

    /// Where a function starts, and where it is described.
    fn entry(&self, index: u64) -> Option<(u64, usize)> {
        let index = usize::try_from(index).ok()?;
        let (start, function) = match self.layout {
            Layout::Go116 => (
                word(self.entries, index.checked_mul(16)?)?,
                word(self.entries, index.checked_mul(16)?.checked_add(8)?)?,
            ),
            Layout::Go118 => (
                self.code.checked_add(u64::from(half(self.entries, index.checked_mul(8)?)?))?,
                // The entry after the last is only an end.
                u64::from(half(self.entries, index.checked_mul(8)?.checked_add(4)?).unwrap_or(u32::MAX)),
            ),
        };
        Some((start, usize::try_from(function).ok()?))
    }

    /// The name of the function that is described here, and all that follows it.
    fn name(&self, function: usize) -> Option<&'data [u8]> {
        let start_size = match self.layout {
            Layout::Go116 => 8,
            Layout::Go118 => 4,
        };
        let offset = half(self.entries, function.checked_add(start_size)?)?;
        self.names.get(usize::try_from(offset).ok()?..)
    }
}

fn ends(rest: &[u8]) -> bool {
    rest.first() == Some(&0)
}

/// Whether what may be a table, readable or not, has this name in it.
pub(super) fn mentions(image: &Image<'_>, name: &str) -> bool {
    candidates(image).any(|(_, bytes)| memmem::find(bytes, name.as_bytes()).is_some())
}

fn candidates<'data>(image: &Image<'data>) -> impl Iterator<Item = (u64, &'data [u8])> {
    let own = [".gopclntab", ".data.rel.ro.gopclntab"].into_iter();
    let own = own.filter_map(|name| Some((image.section_address(name)?, image.section(name)?)));
    own.chain(among_constants(image))
}

fn among_constants<'data>(image: &Image<'data>) -> impl Iterator<Item = (u64, &'data [u8])> {
    let section = image.section_address(".data.rel.ro").zip(image.section(".data.rel.ro"));
    section.into_iter().flat_map(|(address, bytes)| {
        let starts = MAGICS.into_iter().flat_map(move |(magic, _)| {
            let starts: Vec<usize> = memmem::find_iter(bytes, &magic).collect();
            starts
        });
        starts.filter_map(move |start| Some((address.wrapping_add(start as u64), bytes.get(start..)?)))
    })
}

/// What the offsets of functions count from: `runtime.text`.
///
/// The table states it; in a position-independent program the dynamic linker fills it in. The newest versions leave it
/// out: it is in the module data, which point to the table (`runtime.moduledata`: `text` is its 23rd word, `minpc`, the
/// start of the first function, its 21st; so in Go 1.20 to 1.27).
fn start_of_code(image: &Image<'_>, table: u64, stated: u64, first: u32) -> Option<u64> {
    const FIELD: u64 = 24;
    const LOWEST: u64 = 20 * 8;
    const CODE: u64 = 22 * 8;
    if stated != 0 {
        return Some(stated);
    }
    let filled_in: HashMap<u64, u64> = image.pointers().collect();
    let pointer = |at: u64| filled_in.get(&at).copied().or_else(|| word(image.bytes_at(at)?, 0));
    if let Some(code) = filled_in.get(&table.wrapping_add(FIELD)) {
        return Some(*code);
    }
    let relocated = filled_in.iter().filter(|(_, target)| **target == table).map(|(address, _)| *address);
    relocated.chain(image.addresses_of(&table.to_le_bytes())).find_map(|module| {
        let code = pointer(module.wrapping_add(CODE))?;
        (pointer(module.wrapping_add(LOWEST))? == code.wrapping_add(u64::from(first))).then_some(code)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
