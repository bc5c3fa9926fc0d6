//! An encoder for tests, which keeps a dynamic table of its own.

use super::huffman::tests::encode as huffman;

/// How a field is to be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http2) enum Form {
    /// By reference where the table allows, else added to it.
    Indexing,
    /// As a literal that leaves the table alone.
    Literal,
    /// As a literal that no intermediary may index.
    Never,
}

/// A peer's encoder.
#[derive(Debug)]
pub(in crate::http2) struct Encoder {
    table: Vec<(Vec<u8>, Vec<u8>)>,
    limit: usize,
    /// A size update that the next block has to begin with.
    update: Option<usize>,
    /// Whether strings are Huffman coded.
    pub(in crate::http2) huffman: bool,
}

impl Encoder {
    pub(in crate::http2) fn new() -> Self {
        Self { table: Vec::new(), limit: 4096, update: None, huffman: true }
    }

    /// Changes the size of the table with the next block.
    pub(in crate::http2) fn resize(&mut self, limit: usize) {
        self.update = Some(limit);
    }

    /// One header block in which every field has the same form.
    pub(in crate::http2) fn block(&mut self, fields: &[(&str, &str)], form: Form) -> Vec<u8> {
        let fields: Vec<_> = fields.iter().map(|&(name, value)| (name, value, form)).collect();
        self.encode(&fields)
    }

    /// One header block.
    pub(in crate::http2) fn encode(&mut self, fields: &[(&str, &str, Form)]) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(limit) = self.update.take() {
            integer(&mut out, 0x20, 5, limit);
            self.limit = limit;
            self.evict();
        }
        for &(name, value, form) in fields {
            self.field(&mut out, name.as_bytes(), value.as_bytes(), form);
        }
        out
    }

    fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], form: Form) {
        if let (Form::Indexing, Some(index)) = (form, self.find(|n, v| n == name && v == value)) {
            return integer(out, 0x80, 7, index);
        }
        let (pattern, prefix) = match form {
            Form::Indexing => (0x40, 6),
            Form::Literal => (0x00, 4),
            Form::Never => (0x10, 4),
        };
        match self.find(|n, _| n == name) {
            Some(index) => integer(out, pattern, prefix, index),
            None => {
                integer(out, pattern, prefix, 0);
                self.string(out, name);
            }
        }
        self.string(out, value);
        if form == Form::Indexing {
            self.table.insert(0, (name.to_vec(), value.to_vec()));
            self.evict();
        }
    }

    fn find(&self, matches: impl Fn(&[u8], &[u8]) -> bool) -> Option<usize> {
        let fixed = super::table::STATIC.iter().position(|(n, v)| matches(n, v)).map(|i| i + 1);
        fixed.or_else(|| self.table.iter().position(|(n, v)| matches(n, v)).map(|i| i + 62))
    }

    fn evict(&mut self) {
        let mut room = self.limit;
        let fits = self.table.iter().take_while(|(n, v)| match room.checked_sub(n.len() + v.len() + 32) {
            Some(rest) => {
                room = rest;
                true
            }
            None => false,
        });
        let kept = fits.count();
        self.table.truncate(kept);
    }

    fn string(&self, out: &mut Vec<u8>, string: &[u8]) {
        if self.huffman {
            let coded = huffman(string);
            integer(out, 0x80, 7, coded.len());
            out.extend(coded);
        } else {
            integer(out, 0, 7, string.len());
            out.extend(string);
        }
    }
}

fn integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = usize::from(u8::MAX >> (8 - prefix));
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
