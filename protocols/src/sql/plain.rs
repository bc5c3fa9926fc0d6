//! The lexemes of statements in which nothing is to be doubted.
//!
//! Most statements are words, numbers, literals without escapes, and a few operators. Those are told here in one pass
//! over the bytes, several times as fast as by the tokenizer, which makes a string of each token and looks it up among
//! all keywords. At anything else this gives up, and the tokenizer decides. A test proves that the two agree.

use super::Dialect;
use super::lex::{Kind, Lexeme};

/// The lexemes of the whole text; `None` where it takes the tokenizer to know.
pub(super) fn lexemes(sql: &[u8], dialect: Dialect) -> Option<Vec<Lexeme<'_>>> {
    let mut lexemes = Vec::with_capacity(sql.len() / 3 + 1);
    let mut rest = sql;
    while !rest.is_empty() {
        let (kind, length) = first(rest, dialect)?;
        let (text, behind) = rest.split_at_checked(length)?;
        lexemes.push(Lexeme { kind, text });
        rest = behind;
    }
    Some(lexemes)
}

/// What a text begins with, and how long that is.
fn first(text: &[u8], dialect: Dialect) -> Option<(Kind, usize)> {
    match (text, dialect) {
        ([b' ' | b'\t' | b'\n', ..], _) => Some((Kind::Space, 1)),
        ([b'(' | b')' | b',' | b';' | b'+' | b'*', ..], _) => Some((Kind::Punctuation, 1)),
        ([b'a'..=b'z' | b'A'..=b'Z' | b'_', ..], _) => word(text),
        ([b'0'..=b'9', ..], _) => number(text),
        ([b'\'', ..], _) => Some((Kind::Text, quoted(text)?)),
        ([b'"', ..], Dialect::Postgres) | ([b'`', ..], Dialect::MySql) => Some((Kind::Quoted, quoted(text)?)),
        ([b'$', b'0'..=b'9', ..], Dialect::Postgres) => placeholder(text),
        ([b'?', next, ..], Dialect::MySql) if next.is_ascii_digit() => None,
        ([b'?', ..], Dialect::MySql) => Some((Kind::Placeholder, 1)),
        // `.5` is a number.
        ([b'.', b'a'..=b'z' | b'A'..=b'Z' | b'*', ..], _) => Some((Kind::Punctuation, 1)),
        ([b'<', b'=' | b'>', ..] | [b'>' | b'!', b'=', ..], _) => operator(text, 2),
        ([b'=' | b'<' | b'>' | b'-', ..], _) => operator(text, 1),
        _ => None,
    }
}

/// How many bytes at the beginning are parts of a word.
fn letters(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// What follows directly may make something else of it: `E'text'`, `U&'text'`, `a$b`, `a@b`, letters beyond ASCII.
fn word(text: &[u8]) -> Option<(Kind, usize)> {
    let length = letters(text);
    let alone = !matches!(text.get(length), Some(b'\'' | b'"' | b'`' | b'$' | b'&' | b'@' | b'#' | 0x80..));
    // Whether it is a keyword matters only to texts that cannot be told apart to their end.
    alone.then_some((Kind::Word { keyword: true }, length))
}

/// Decimal digits, with others behind a point or not.
fn number(text: &[u8]) -> Option<(Kind, usize)> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut length = digits(text);
    if let Some([b'.', behind @ ..]) = text.get(length..) {
        length += 1 + Some(digits(behind)).filter(|count| *count > 0)?;
    }
    ends_number(text.get(length)).then_some((Kind::Number, length))
}

fn placeholder(text: &[u8]) -> Option<(Kind, usize)> {
    let length = 1 + text.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    ends_number(text.get(length)).then_some((Kind::Placeholder, length))
}

fn ends_number(next: Option<&u8>) -> bool {
    matches!(
        next,
        None | Some(b' ' | b'\t' | b'\n' | b',' | b';' | b'(' | b')' | b'=' | b'<' | b'>' | b'+' | b'*' | b'-')
    )
}

/// The length of a text in quotes that holds neither quotes nor backslashes.
fn quoted(text: &[u8]) -> Option<usize> {
    let (quote, behind) = text.split_first()?;
    let length = behind.iter().position(|byte| byte == quote || *byte == b'\\')?;
    let ends = behind.get(length) == Some(quote) && behind.get(length + 1) != Some(quote);
    ends.then_some(length + 2)
}

/// PostgreSQL's operators may have any length: this one ends where none goes on.
fn operator(text: &[u8], length: usize) -> Option<(Kind, usize)> {
    let ends = |byte: &u8| byte.is_ascii_alphanumeric() || b" \t\n'\"`($?_".contains(byte);
    text.get(length).is_some_and(ends).then_some((Kind::Punctuation, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lex::{self, End};
    use super::*;

    /// What the tokenizer makes of a text, without what it knows of keywords.
    fn tokenized(sql: &[u8], dialect: Dialect) -> Option<Vec<(Kind, &[u8])>> {
        let lexed = lex::tokenize(sql, dialect, false);
        (lexed.end == End::Whole).then(|| comparable(&lexed.lexemes))
    }

    fn comparable<'a>(lexemes: &[Lexeme<'a>]) -> Vec<(Kind, &'a [u8])> {
        let kind = |kind| if let Kind::Word { .. } = kind { Kind::Word { keyword: true } } else { kind };
        lexemes.iter().map(|lexeme| (kind(lexeme.kind), lexeme.text)).collect()
    }

    fn agrees(sql: &[u8], dialect: Dialect) -> bool {
        let Some(plain) = lexemes(sql, dialect) else { return false };
        let text = String::from_utf8_lossy(sql);
        assert_eq!(Some(comparable(&plain)), tokenized(sql, dialect), "{dialect:?}: {text}");
        true
    }

    #[test]
    fn usual_statements_are_plain() {
        use Dialect::{MySql, Postgres};
        for (dialect, sql) in [
            (MySql, "SELECT name, t.* FROM `items` t WHERE id = 42 AND shop IN ('east', \"x\", ?)".replace('"', "'")),
            (MySql, "INSERT INTO t (a, b) VALUES (1, -2.5), (3, 'x y')".into()),
            (Postgres, "UPDATE \"t\" SET n = n + 1 WHERE id<>$1 AND x >= 10\n;".into()),
            (Postgres, "SELECT count(*) FROM pgbench_accounts WHERE aid = 4711;".into()),
        ] {
            assert!(agrees(sql.as_bytes(), dialect), "{sql} is not plain");
        }
    }

    #[test]
    fn whatever_is_plain_is_what_the_tokenizer_says() {
        let pieces = [
            "SELECT", "a", "_b", "e", "E", "n", "x", "X", "b", "u", "U&", "q", "0", "7", "12", "1.5", ".5", "1e5",
            "0x1f", "'", "''", "'t'", "\"", "`", "$", "$1", "?", "?|", "@", "@@", "#", "\\", "-", "--", "->", "/",
            "/*", "*/", "*", "=", "==", "=>", "<", ">", "<=", "<>", ">=", "!", "!=", "~", "|", "||", "&", "%", "^",
            "+", ":", "::", ".", "..", ",", ";", "(", ")", "[", "]", "{", "}", " ", "\t", "\n", "\r", "\0", "é",
        ];
        let text = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12);
        let config = ProptestConfig { cases: 20_000, ..ProptestConfig::default() };
        proptest!(config, |(text in text)| {
            let sql = text.concat();
            agrees(sql.as_bytes(), Dialect::MySql);
            agrees(sql.as_bytes(), Dialect::Postgres);
        });
        // Every pair and every three, as each depends on what follows.
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let sql = [first, second, third].concat();
                    agrees(sql.as_bytes(), Dialect::MySql);
                    agrees(sql.as_bytes(), Dialect::Postgres);
                }
            }
        }
    }
}
