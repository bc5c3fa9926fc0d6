//! The Huffman code of header strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of the same length are consecutive, in the order of their symbols, so the lengths
//! alone define it.

/// Length in bits of the code of each octet and, last, of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const EOS: u16 = 256;
const LONGEST: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    bits: u32,
    /// The first code, and how many follow it.
    first: u32,
    count: u32,
    /// Where its symbols begin in [`Code::symbols`].
    offset: u32,
}

struct Code {
    rows: [Row; LONGEST + 1],
    symbols: [u16; SYMBOLS],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code { rows: [Row { bits: 0, first: 0, count: 0, offset: 0 }; LONGEST + 1], symbols: [0; SYMBOLS] };
    let (mut next, mut placed, mut bits) = (0, 0, 1);
    while bits <= LONGEST {
        next <<= 1;
        let offset = placed;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == bits {
                code.symbols[placed] = symbol as u16;
                placed += 1;
            }
            symbol += 1;
        }
        let count = (placed - offset) as u32;
        code.rows[bits] = Row { bits: bits as u32, first: next, count, offset: offset as u32 };
        next += count;
        bits += 1;
    }
    code
}

/// The string that `encoded` stands for; `None` if it breaks the code (EOS inside, wrong padding).
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len().saturating_mul(8) / 5);
    let mut input = encoded.iter();
    let (mut window, mut filled) = (0u64, 0u32);
    loop {
        while filled <= 32 {
            let Some(&byte) = input.next() else { break };
            window |= u64::from(byte) << (56 - filled);
            filled += 8;
        }
        match symbol(window, filled) {
            Some((symbol, bits)) => {
                decoded.push(u8::try_from(symbol).ok().filter(|_| symbol != EOS)?);
                window <<= bits;
                filled -= bits;
            }
            None => return is_padding(window, filled).then_some(decoded),
        }
    }
}

/// The symbol whose code the window begins with, if that many bits are there.
fn symbol(window: u64, filled: u32) -> Option<(u16, u32)> {
    for row in CODE.rows.iter().filter(|row| row.count > 0) {
        if row.bits > filled {
            return None;
        }
        let index = ((window >> (64 - row.bits)) as u32).wrapping_sub(row.first);
        if index < row.count {
            return Some((*CODE.symbols.get((row.offset + index) as usize)?, row.bits));
        }
    }
    None
}

/// Fewer than 8 bits, all ones.
fn is_padding(window: u64, filled: u32) -> bool {
    filled < 8 && window == !(u64::MAX.checked_shr(filled).unwrap_or(0))
}

#[cfg(test)]
pub(in crate::http2) mod tests {
    use super::*;

    /// The code of an octet and its length, by the same canonical rule.
    fn code(symbol: u16) -> (u64, u32) {
        let place = CODE.symbols.iter().position(|&s| s == symbol).unwrap() as u32;
        let row = CODE.rows.iter().find(|row| (row.offset..row.offset + row.count).contains(&place)).unwrap();
        (u64::from(row.first + place - row.offset), row.bits)
    }

    /// Encodes for tests.
    pub(in crate::http2) fn encode(string: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in string {
            let (code, length) = code(u16::from(byte));
            bits.extend((0..length).rev().map(|i| code >> i & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|chunk| chunk.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        for (symbol, expected) in [
            (u16::from(b'0'), (0x0, 5)),
            (u16::from(b'a'), (0x3, 5)),
            (u16::from(b' '), (0x14, 6)),
            (u16::from(b':'), (0x5c, 7)),
            (u16::from(b'&'), (0xf8, 8)),
            (u16::from(b'!'), (0x3f8, 10)),
            (u16::from(b'\\'), (0x7fff0, 19)),
            (0, (0x1ff8, 13)),
            (1, (0x7fffd8, 23)),
            (249, (0xffffffe, 28)),
            (10, (0x3ffffffc, 30)),
            (EOS, (0x3fffffff, 30)),
        ] {
            assert_eq!(code(symbol), expected, "symbol {symbol}");
        }
    }

    #[test]
    fn every_octet_survives() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all.clone()));
        for byte in all {
            assert_eq!(decode(&encode(&[byte])), Some(vec![byte]));
        }
        assert_eq!(decode(b""), Some(vec![]));
    }

    #[test]
    fn wrong_padding_is_refused() {
        let encoded = encode(b"a");
        assert_eq!(encoded, [0b0001_1111]);
        for (name, bytes) in [
            ("zeros", &[0b0001_1000][..]),
            ("a whole octet of ones", &[0b0001_1111, 0xff]),
            ("EOS", &[0xff, 0xff, 0xff, 0xfc]),
        ] {
            assert_eq!(decode(bytes), None, "{name}");
        }
    }
}
