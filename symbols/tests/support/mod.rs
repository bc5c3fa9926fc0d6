//! Small shared libraries, built in memory.

use iced_x86::code_asm::CodeAssembler;

/// Where the code is in the file, and where it is loaded: apart, so that a test sees the two confused.
pub const CODE_OFFSET: u64 = 0x1000;
pub const CODE_ADDRESS: u64 = 0x41000;

/// Functions start this far apart.
pub const STRIDE: u64 = 0x100;

/// Slots of the global offset table start here, eight bytes each; nothing reads their contents.
const SLOTS: u64 = 0x90000;

/// A shared library to be.
#[derive(Default)]
pub struct Library {
    code: Vec<u8>,
    /// Name, address and size.
    symbols: Vec<(&'static str, u64, u64)>,
    imports: Vec<&'static str>,
    /// Name, address and contents.
    sections: Vec<(&'static str, u64, Vec<u8>)>,
}

impl Library {
    /// Address of the function that is added as number `index`.
    pub fn address(index: u64) -> u64 {
        CODE_ADDRESS + index * STRIDE
    }

    /// File offset of a byte of the function that was added as number `index`.
    pub fn offset(index: u64, into: u64) -> u64 {
        CODE_OFFSET + index * STRIDE + into
    }

    /// Adds code under a name.
    pub fn export(mut self, name: &'static str, write: impl FnOnce(&mut CodeAssembler)) -> Self {
        let (address, size) = self.code(write);
        self.symbols.push((name, address, size));
        self
    }

    /// The same, with a symbol that does not say the size.
    pub fn export_unsized(mut self, name: &'static str, write: impl FnOnce(&mut CodeAssembler)) -> Self {
        let (address, _) = self.code(write);
        self.symbols.push((name, address, 0));
        self
    }

    /// Adds code without a symbol.
    pub fn local(mut self, write: impl FnOnce(&mut CodeAssembler)) -> Self {
        self.code(write);
        self
    }

    /// Adds a stub of the procedure linkage table for a function of another library.
    pub fn stub(mut self, name: &'static str) -> Self {
        let slot = SLOTS + 8 * self.imports.len() as u64;
        self.imports.push(name);
        let next = CODE_ADDRESS + self.code.len() as u64 + 6;
        let displacement = u32::try_from(slot - next).unwrap().to_le_bytes();
        // jmp [rip+displacement]
        self.code(|a| a.db(&[&[0xff, 0x25], displacement.as_slice()].concat()).unwrap());
        self
    }

    /// Adds a section that is not code.
    pub fn section(mut self, name: &'static str, address: u64, contents: Vec<u8>) -> Self {
        self.sections.push((name, address, contents));
        self
    }

    fn code(&mut self, write: impl FnOnce(&mut CodeAssembler)) -> (u64, u64) {
        let address = CODE_ADDRESS + self.code.len() as u64;
        let mut assembler = CodeAssembler::new(64).unwrap();
        write(&mut assembler);
        let bytes = assembler.assemble(address).unwrap();
        assert!(bytes.len() as u64 <= STRIDE);
        self.code.extend(&bytes);
        self.code.resize(self.code.len().next_multiple_of(STRIDE as usize), 0xcc);
        (address, bytes.len() as u64)
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut symbols = vec![0; 24];
        let defined = self.symbols.iter().map(|(name, address, size)| (*name, 1_u16, *address, *size));
        let imported = self.imports.iter().map(|name| (*name, 0, 0, 0));
        for (name, section, address, size) in defined.chain(imported) {
            // STB_GLOBAL, STT_FUNC
            symbols.extend(fields(&[(strings.len() as u64, 4), (0x12, 1), (0, 1), (u64::from(section), 2)]));
            symbols.extend(fields(&[(address, 8), (size, 8)]));
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let mut relocations = vec![];
        for index in 0..self.imports.len() as u64 {
            let symbol = 1 + self.symbols.len() as u64 + index;
            // R_X86_64_JUMP_SLOT
            relocations.extend(fields(&[(SLOTS + 8 * index, 8), (symbol << 32 | 7, 8), (0, 8)]));
        }
        let mut names = b"\0.text\0.dynsym\0.dynstr\0.rela.plt\0.shstrtab\0".to_vec();
        let mut extra = vec![];
        for (name, address, contents) in &self.sections {
            extra.push((names.len() as u64, 1, 2, *address, contents.clone(), 0, 0, 0));
            names.extend(name.as_bytes());
            names.push(0);
        }
        let code_size = self.code.len() as u64;
        // name, type, flags, address, contents, link, info, entry size
        let known = [
            (1, 1, 6, CODE_ADDRESS, self.code.clone(), 0, 0, 0),
            (7, 11, 2, 0, symbols, 3, 1, 24),
            (15, 3, 2, 0, strings, 0, 0, 0),
            (23, 4, 2, 0, relocations, 2, 0, 24),
            (33, 3, 0, 0, names, 0, 0, 0),
        ];
        let sections: Vec<_> = known.into_iter().chain(extra).collect();
        let section_count = sections.len() as u64 + 1;
        let mut body = vec![];
        let mut headers = vec![0; 64];
        for (name, kind, flags, address, contents, link, info, entry) in sections {
            body.resize(body.len().next_multiple_of(8), 0);
            let offset = CODE_OFFSET + body.len() as u64;
            headers.extend(fields(&[(name, 4), (kind, 4), (flags, 8), (address, 8), (offset, 8)]));
            headers.extend(fields(&[(contents.len() as u64, 8), (link, 4), (info, 4), (8, 8), (entry, 8)]));
            body.extend(contents);
        }
        body.resize(body.len().next_multiple_of(8), 0);
        let section_headers = CODE_OFFSET + body.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        // ET_DYN, EM_X86_64, one program header, and section headers of which the fifth names them
        file.extend(fields(&[(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (section_headers, 8), (0, 4)]));
        file.extend(fields(&[(64, 2), (56, 2), (1, 2), (64, 2), (section_count, 2), (5, 2)]));
        // PT_LOAD, readable and executable
        file.extend(fields(&[(1, 4), (5, 4), (CODE_OFFSET, 8), (CODE_ADDRESS, 8), (CODE_ADDRESS, 8)]));
        file.extend(fields(&[(code_size, 8), (code_size, 8), (0x1000, 8)]));
        file.resize(CODE_OFFSET as usize, 0);
        file.extend(body);
        file.extend(headers);
        file
    }
}

/// Little-endian numbers of so many bytes each.
pub fn fields(fields: &[(u64, usize)]) -> Vec<u8> {
    fields.iter().flat_map(|(value, size)| value.to_le_bytes().into_iter().take(*size)).collect()
}
