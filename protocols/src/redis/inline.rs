//! Inline commands: a line of words, as typed by hand.

use super::value::{Kept, List, Value};

/// The words of a line; each keeps at most `value` bytes. Words may stand in quotes, with escapes in double ones.
/// `None`: quotes that do not close, which the server refuses.
pub(super) fn words(line: &[u8], value: usize) -> Option<List> {
    let mut list = List::default();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let mut word = Vec::new();
        match bytes.peek() {
            None => return Some(list),
            Some(&quote @ (b'"' | b'\'')) => {
                bytes.next();
                quoted(&mut bytes, quote, &mut word)?;
            }
            Some(_) => {
                while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                    word.push(byte);
                }
            }
        }
        let length = word.len() as u64;
        word.truncate(value);
        list.items.push(Value::Bulk(Kept { bytes: word, length }));
        list.length += 1;
    }
}

fn quoted(bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>, quote: u8, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'\\' if quote == b'"' => word.push(escaped(bytes)?),
            b'\\' if bytes.peek() == Some(&b'\'') => word.extend(bytes.next()),
            byte if byte == quote => break,
            byte => word.push(byte),
        }
    }
    bytes.peek().is_none_or(u8::is_ascii_whitespace).then_some(())
}

/// What stands for `\n`, `\r`, `\t`, `\b`, `\a`, `\xHH` and for any other character itself.
fn escaped(bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        b'x' => {
            let Some(high) = bytes.next_if(u8::is_ascii_hexdigit) else { return Some(b'x') };
            let low = bytes.next_if(u8::is_ascii_hexdigit)?;
            let digits = [high, low];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        }
        byte => byte,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let cases: &[(&[u8], Option<&[&[u8]]>)] = &[
            (b"PING", Some(&[b"PING"])),
            (b" set  k\tv \r", Some(&[b"set", b"k", b"v"])),
            (b"", Some(&[])),
            (br#"set k "a b\n\x41\"" 'c\'d'"#, Some(&[b"set", b"k", b"a b\nA\"", b"c'd"])),
            (br#"set "" ''"#, Some(&[b"set", b"", b""])),
            (br#"set "a"#, None),
            (br#"set "a"b"#, None),
        ];
        for (line, expected) in cases {
            let list = words(line, 100);
            let found = list.as_ref().map(|list| list.items.iter().filter_map(Value::text).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), *expected, "{:?}", line.escape_ascii().to_string());
        }
    }
}
