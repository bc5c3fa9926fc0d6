//! From bytes to lexemes, with doubt where a server may read the same bytes differently.
//!
//! The tokenizer works on characters; each byte is given to it as one character (ISO 8859-1), so that bytes that are
//! not UTF-8 need no special case and every position it reports is a byte position. Both dialects take every byte
//! from 0x80 on for a part of an identifier, as the servers do.

use std::any::TypeId;
use std::borrow::Cow;

use sqlparser::dialect::{Dialect as Rules, MySqlDialect, PostgreSqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::{Dialect, plain};

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unquoted word. `keyword`: one that SQL knows.
    Word {
        keyword: bool,
    },
    /// A quoted identifier.
    Quoted,
    /// A literal in quotes of any kind.
    Text,
    /// A literal without quotes.
    Number,
    Placeholder,
    Space,
    Comment,
    /// The frame of a comment that MySQL executes: `/*!40101` and its `*/`.
    Hint,
    Punctuation,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lexeme<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
}

/// How far the lexemes of a text go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To its end.
    Whole,
    /// To where the tokenizer failed, which is often a literal that does not end.
    Error,
    /// To where a server may read the text differently: the lexemes must not be trusted.
    Doubt,
}

#[derive(Debug)]
pub(super) struct Lexed<'a> {
    pub(super) lexemes: Vec<Lexeme<'a>>,
    pub(super) end: End,
}

impl Lexed<'_> {
    /// Bytes of all lexemes: about what a text that is made of them takes.
    pub(super) fn length(&self) -> usize {
        self.lexemes.iter().map(|lexeme| lexeme.text.len()).sum()
    }
}

/// MySQL's rules, except that comments with a version (`/*!40101 … */`) are left to us: the tokenizer forgets where
/// in the text their content was.
#[derive(Debug)]
struct MySqlRules(MySqlDialect);

impl Rules for MySqlRules {
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_delimited_identifier_start(ch)
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        self.0.supports_string_literal_backslash_escape()
    }

    fn supports_numeric_prefix(&self) -> bool {
        self.0.supports_numeric_prefix()
    }

    fn requires_single_line_comment_whitespace(&self) -> bool {
        self.0.requires_single_line_comment_whitespace()
    }
}

pub(super) fn lex(sql: &[u8], dialect: Dialect) -> Lexed<'_> {
    match plain::lexemes(sql, dialect) {
        Some(lexemes) => Lexed { lexemes, end: End::Whole },
        None => tokenize(sql, dialect, false),
    }
}

/// As the tokenizer has it. `in_hint`: inside of a comment that MySQL executes.
pub(super) fn tokenize(sql: &[u8], dialect: Dialect, in_hint: bool) -> Lexed<'_> {
    let rules: &dyn Rules = match dialect {
        Dialect::MySql => &MySqlRules(MySqlDialect {}),
        Dialect::Postgres => &PostgreSqlDialect {},
    };
    let characters = one_character_a_byte(sql);
    let mut tokens = Vec::new();
    let result = Tokenizer::new(rules, &characters).with_unescape(false).tokenize_with_location_into_buf(&mut tokens);
    let mut lexer = Lexer { dialect, in_hint, sql, taken: 0, at: Location::new(1, 1), lexemes: Vec::new() };
    let sound = tokens.iter().all(|token| lexer.push(token).is_some());
    let end = match result {
        _ if !sound => End::Doubt,
        Ok(()) if lexer.taken == sql.len() => End::Whole,
        Ok(()) => End::Doubt,
        Err(_) => End::Error,
    };
    Lexed { lexemes: lexer.lexemes, end }
}

fn one_character_a_byte(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

struct Lexer<'a> {
    dialect: Dialect,
    in_hint: bool,
    sql: &'a [u8],
    /// Bytes that the lexemes cover.
    taken: usize,
    /// The same as the tokenizer counts it.
    at: Location,
    lexemes: Vec<Lexeme<'a>>,
}

impl<'a> Lexer<'a> {
    /// Takes a token; `None` if a server might see another one.
    fn push(&mut self, token: &TokenWithSpan) -> Option<()> {
        let text = self.take_until(token.span.end)?;
        if let (Token::Whitespace(Whitespace::MultiLineComment(_)), Dialect::MySql, false, [b'/', b'*', b'!', ..]) =
            (&token.token, self.dialect, self.in_hint, text)
        {
            return self.push_hint(text);
        }
        let kind = self.kind(&token.token, text)?;
        match self.lexemes.last_mut() {
            // `0b01` is a number and a word to the tokenizer.
            Some(last) if last.kind == Kind::Number && matches!(kind, Kind::Word { .. } | Kind::Number) => {
                last.text = self.sql.get(self.taken - text.len() - last.text.len()..self.taken)?;
            }
            _ => self.lexemes.push(Lexeme { kind, text }),
        }
        Some(())
    }

    /// The bytes up to a position that the tokenizer reported.
    fn take_until(&mut self, end: Location) -> Option<&'a [u8]> {
        let start = self.taken;
        while self.at != end {
            match self.sql.get(self.taken)? {
                b'\n' => self.at = Location::new(self.at.line + 1, 1),
                _ => self.at.column += 1,
            }
            self.taken += 1;
        }
        self.sql.get(start..self.taken)
    }

    /// A comment whose content MySQL executes.
    fn push_hint(&mut self, comment: &'a [u8]) -> Option<()> {
        let version = comment.iter().skip(3).take_while(|byte| byte.is_ascii_digit()).count();
        let (start, rest) = comment.split_at_checked(3 + version)?;
        let (content, end) = rest.split_at_checked(rest.len().checked_sub(2)?)?;
        let inner = tokenize(content, self.dialect, true);
        self.lexemes.push(Lexeme { kind: Kind::Hint, text: start });
        self.lexemes.extend(inner.lexemes);
        self.lexemes.push(Lexeme { kind: Kind::Hint, text: end });
        (inner.end == End::Whole).then_some(())
    }

    fn kind(&self, token: &Token, text: &[u8]) -> Option<Kind> {
        Some(match token {
            Token::Word(word) if word.quote_style.is_some() => Kind::Quoted,
            Token::Word(word) => Self::word(word.keyword != Keyword::NoKeyword, text)?,
            Token::Number(..) => Kind::Number,
            Token::HexStringLiteral(_) if !text.ends_with(b"'") => Kind::Number,
            Token::Whitespace(Whitespace::Space | Whitespace::Tab | Whitespace::Newline) => Kind::Space,
            Token::Whitespace(_) => Kind::Comment,
            Token::Placeholder(_) => self.placeholder(text)?,
            _ if is_text(token, text) => self.text(token, text)?,
            // An operator ends where a comment begins (PostgreSQL manual, 4.1.3), which the tokenizer does not know.
            _ if text.windows(2).any(|pair| pair == b"--" || pair == b"/*") => return None,
            _ => Kind::Punctuation,
        })
    }

    fn word(keyword: bool, text: &[u8]) -> Option<Kind> {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'@') || !byte.is_ascii();
        if !text.iter().all(|&byte| part(byte)) {
            // `@@"x"`: the tokenizer takes the quote for a part of the word.
            return None;
        }
        let number = matches!(text, [b'0', b'b' | b'B' | b'x' | b'X' | b'o' | b'O', ..]);
        Some(if number { Kind::Number } else { Kind::Word { keyword } })
    }

    fn placeholder(&self, text: &[u8]) -> Option<Kind> {
        let number = text.iter().skip(1).all(u8::is_ascii_digit);
        // `$tag` with letters that the tokenizer does not accept in a tag: text in dollar quotes may begin here.
        (number || self.dialect == Dialect::MySql).then_some(Kind::Placeholder)
    }

    fn text(&self, token: &Token, text: &[u8]) -> Option<Kind> {
        let escape = |second: u8| text.windows(2).any(|pair| pair == [b'\\', second]);
        let doubtful = match token {
            // With standard_conforming_strings off, a backslash escapes the quote.
            Token::SingleQuotedString(_) | Token::NationalStringLiteral(_) => {
                self.dialect == Dialect::Postgres && escape(b'\'')
            }
            Token::SingleQuotedByteStringLiteral(_) | Token::HexStringLiteral(_) => text.contains(&b'\\'),
            Token::DoubleQuotedByteStringLiteral(_) => text.contains(&b'\\'),
            // A tag does not begin with a digit: `$1$` is a parameter and something else.
            Token::DollarQuotedString(_) => text.get(1).is_some_and(u8::is_ascii_digit),
            _ => false,
        };
        (!doubtful).then_some(Kind::Text)
    }
}

fn is_text(token: &Token, text: &[u8]) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    ) || text.iter().any(|byte| matches!(byte, b'\'' | b'"'))
}
