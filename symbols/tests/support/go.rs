//! Go programs, built in memory.

use iced_x86::code_asm::*;

use crate::support::{Library, fields};

/// What Go's linker writes of a program's functions: their names and where they start, and the end of the last.
pub struct Functions {
    pub starts: Vec<(&'static str, u64)>,
    pub end: u64,
}

impl Functions {
    /// As Go 1.16 and 1.17 write it.
    pub fn layout_1_16(&self) -> Vec<u8> {
        self.table(0xffff_fffa, None, 8, 8)
    }

    /// As Go 1.20 and later write it, counting from `code`.
    pub fn layout_1_20(&self, code: u64, stated: u64) -> Vec<u8> {
        self.table(0xffff_fff1, Some((code, stated)), 4, 4)
    }

    fn table(&self, magic: u64, code: Option<(u64, u64)>, start_size: usize, pointer_size: usize) -> Vec<u8> {
        let from = code.map_or(0, |(code, _)| code);
        let count = self.starts.len() as u64;
        let described = (start_size + pointer_size) as u64 * count + start_size as u64;
        let (mut names, mut entries, mut descriptions) = (vec![0], vec![], vec![]);
        for (name, start) in &self.starts {
            let at = described + descriptions.len() as u64;
            entries.extend(fields(&[(start - from, start_size), (at, pointer_size)]));
            descriptions.extend(fields(&[(start - from, start_size), (names.len() as u64, 4)]));
            names.extend(name.as_bytes());
            names.push(0);
        }
        entries.extend(fields(&[(self.end - from, start_size)]));
        let header = 64 + if code.is_some() { 8 } else { 0 };
        let mut table = fields(&[(magic, 4), (0, 2), (1, 1), (8, 1), (count, 8), (0, 8)]);
        table.extend(code.map_or(vec![], |(_, stated)| fields(&[(stated, 8)])));
        table.extend(fields(&[(header, 8), (0, 8), (0, 8), (0, 8), (header + names.len() as u64, 8)]));
        table.extend(names);
        table.extend(entries);
        table.extend(descriptions);
        table
    }
}

/// `.go.buildinfo` since Go 1.18.
pub fn build_info(version: &str) -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.push(u8::try_from(version.len()).unwrap());
    info.extend(version.as_bytes());
    info
}

/// The same before, with the address of a string.
pub fn build_info_by_address(string: u64) -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x00".to_vec();
    info.extend(fields(&[(string, 8), (0, 8)]));
    info
}

/// A function as Go's compiler makes it: it checks its stack, and returns in two places.
pub fn function(a: &mut CodeAssembler) {
    let mut grow = a.create_label();
    let mut other = a.create_label();
    let mut start = a.create_label();
    a.set_label(&mut start).unwrap();
    a.cmp(rsp, qword_ptr(r14 + 0x10)).unwrap(); // 0, 4 bytes
    a.jbe(grow).unwrap(); // 4, 2 bytes
    a.push(rbp).unwrap(); // 6
    a.test(rax, rax).unwrap(); // 7, 3 bytes
    a.je(other).unwrap(); // 10, 2 bytes
    a.pop(rbp).unwrap(); // 12
    a.ret().unwrap(); // 13
    a.set_label(&mut other).unwrap();
    a.pop(rbp).unwrap(); // 14
    a.ret().unwrap(); // 15
    a.set_label(&mut grow).unwrap();
    a.call(Library::address(3)).unwrap();
    a.jmp(start).unwrap();
}
