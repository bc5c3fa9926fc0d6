//! Inline commands: a line of words, as typed by hand.

use super::value::{Kept, List, Value};

/// The words of a line; each keeps at most `value` bytes. Words may stand in quotes, with escapes in double ones.
/// A line with quotes that do not close, which the server refuses, has the command and all the rest as words.
pub(super) fn words(line: &[u8], value: usize) -> List {
    let line = line.trim_ascii();
    quoted_words(line, value).unwrap_or_else(|| {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (command, rest) = line.split_at(end);
        let words = [command, rest.trim_ascii()].map(|word| kept(word.to_vec(), value));
        List { items: words.into(), length: 2 }
    })
}

fn kept(mut word: Vec<u8>, value: usize) -> Value {
    let length = word.len() as u64;
    word.truncate(value);
    Value::Bulk(Kept { bytes: word, length })
}

fn quoted_words(line: &[u8], value: usize) -> Option<List> {
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
        list.items.push(kept(word, value));
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
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"PING", &[b"PING"]),
            (b" set  k\tv \r", &[b"set", b"k", b"v"]),
            (b"\r", &[]),
            (br#"set k "a b\n\x41\"" 'c\'d'"#, &[b"set", b"k", b"a b\nA\"", b"c'd"]),
            (br#"set "" ''"#, &[b"set", b"", b""]),
            (br#"set k "a "#, &[b"set", br#"k "a"#]),
            (br#"set "a"b"#, &[b"set", br#""a"b"#]),
        ];
        for (line, expected) in cases {
            let list = words(line, 100);
            let found: Vec<_> = list.items.iter().filter_map(Value::text).collect();
            assert_eq!(found, *expected, "{:?}", line.escape_ascii().to_string());
        }
    }
}
