//! SQL text that may be shown: literals redacted, and a normalised form to group by.
//!
//! Statements carry personal data and passwords in their literals. [`Statement`] therefore makes three texts of the
//! bytes on the wire: the query as it was, the query with its literals and comments replaced, and a normalised form
//! in which statements that differ in nothing but values are equal.
//!
//! ```text
//! query       SELECT * FROM t WHERE name = 'Ann' AND id IN (1, 2)  -- for billing
//! redacted    SELECT * FROM t WHERE name = [redacted] AND id IN (?, ?)  --[redacted]
//! normalised  SELECT * FROM t WHERE name = ? AND id IN (?)
//! verb        SELECT
//! ```
//!
//! The lexical work is done by the tokenizer of `sqlparser`, but for plain statements (see `plain`), of which the same
//! is told faster; nothing is parsed beyond tokens. Where it and a server may read a text differently (see `lex`), and
//! where it cannot tokenise the text at all, nothing behind the verb is shown. Only the first bytes of a statement, up
//! to a limit, are looked at.
//!
//! Not known here: a server that runs with `NO_BACKSLASH_ESCAPES` (MySQL), where `'\'` is a whole literal.

mod hole;
mod lex;
mod normalise;
mod plain;
mod results;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::Text;
pub(crate) use hole::Hole;
use lex::{End, Kind, Lexed, Lexeme};
pub(crate) use results::{list, sum};

/// Whose lexical rules a text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `"text"` is a literal, backslash escapes, `#` comments, `` `identifier` ``.
    MySql,
    /// `"identifier"`, `E'text'`, `$tag$text$tag$`, comments nest.
    Postgres,
}

/// The longest word that is taken for a verb.
const VERB: usize = 24;

/// One SQL text, of one or several statements. Serialises as fields of the request that carried it.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Statement {
    /// The text; with its literals and comments replaced unless redaction is off.
    query: Text,
    /// The text with literals as `?`, lists of literals as `(?)`, white space folded and comments dropped.
    #[serde(rename = "normalised_query", skip_serializing_if = "Option::is_none")]
    normalised: Option<Text>,
    /// Whether the text went on beyond what is printed.
    #[serde(rename = "query_truncated", skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip)]
    redacted: Text,
    #[serde(skip)]
    verb: Option<String>,
}

impl Statement {
    /// Looks at the first `limit` bytes of `sql`. `truncated`: `sql` is itself only the start of the text.
    pub fn new(sql: &[u8], truncated: bool, dialect: Dialect, limit: usize) -> Self {
        let kept = sql.get(..limit).unwrap_or(sql);
        let truncated = truncated || kept.len() < sql.len();
        let lexed = lex::lex(kept, dialect);
        let certain = match lexed.end {
            End::Whole => true,
            // The end of the text is missing: a literal that does not end is what must be expected.
            End::Error => truncated,
            End::Doubt => false,
        };
        let verb = verb(&lexed).filter(|verb| certain || verb.keyword).map(|verb| verb.word);
        let (redacted, normalised) =
            if certain { (redact(&lexed), Some(normalise::normalise(&lexed))) } else { (hide(verb.as_deref()), None) };
        Self { query: Text::from(kept), normalised, truncated, redacted, verb }
    }

    /// The text, as it was until [`Self::redact`].
    pub fn query(&self) -> &Text {
        &self.query
    }

    /// The text with literals as `?`; `None` where they could not be told from the rest.
    pub fn normalised(&self) -> Option<&Text> {
        self.normalised.as_ref()
    }

    /// The text without its literals and comments.
    pub fn redacted(&self) -> &Text {
        &self.redacted
    }

    /// The main verb in upper case: the first word, or for `WITH` that of the statement behind it.
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// Whether the text went on beyond what is kept.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Replaces the text by the one without literals and comments.
    pub fn redact(&mut self) {
        self.query = self.redacted.clone();
    }
}

struct Verb {
    word: String,
    keyword: bool,
}

fn verb(lexed: &Lexed<'_>) -> Option<Verb> {
    let mut depth = 0_i64;
    let mut with = None;
    for lexeme in &lexed.lexemes {
        match (lexeme.kind, lexeme.text) {
            (Kind::Punctuation, b"(") => depth += 1,
            (Kind::Punctuation, b")") => depth -= 1,
            (Kind::Word { keyword }, word) if with.is_none() && word.len() <= VERB => {
                let verb = Verb { word: String::from_utf8(word.to_ascii_uppercase()).ok()?, keyword };
                if verb.word != "WITH" {
                    return Some(verb);
                }
                with = Some(verb);
                depth = 0;
            }
            (Kind::Word { .. }, word) if depth == 0 => {
                let main = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"];
                if let Some(main) = main.into_iter().find(|main| word.eq_ignore_ascii_case(main.as_bytes())) {
                    return Some(Verb { word: main.to_owned(), keyword: true });
                }
            }
            (Kind::Word { .. } | Kind::Space | Kind::Comment | Kind::Hint | Kind::Punctuation, _) => {}
            _ if with.is_none() => return None,
            _ => {}
        }
    }
    with
}

fn hide(verb: Option<&str>) -> Text {
    match verb {
        Some(verb) => format!("{verb} {}", Text::REDACTED).into(),
        None => Text::redacted(),
    }
}

fn redact(lexed: &Lexed<'_>) -> Text {
    let mut text = Vec::with_capacity(lexed.length());
    let mut secret_follows = false;
    for lexeme in &lexed.lexemes {
        match lexeme.kind {
            Kind::Text => text.extend_from_slice(Text::REDACTED.as_bytes()),
            Kind::Quoted if secret_follows => text.extend_from_slice(Text::REDACTED.as_bytes()),
            Kind::Number => text.push(b'?'),
            Kind::Comment => redact_comment(lexeme, &mut text),
            Kind::Word { .. } | Kind::Quoted | Kind::Placeholder | Kind::Space | Kind::Hint | Kind::Punctuation => {
                text.extend_from_slice(lexeme.text);
            }
        }
        if !matches!(lexeme.kind, Kind::Space | Kind::Comment) {
            // `PASSWORD "x"` is an error, but one that people make.
            secret_follows = [&b"password"[..], b"by"].iter().any(|word| lexeme.text.eq_ignore_ascii_case(word));
        }
    }
    if lexed.end == End::Error {
        text.extend_from_slice(Text::REDACTED.as_bytes());
    }
    Text::new(text)
}

fn redact_comment(comment: &Lexeme<'_>, text: &mut Vec<u8>) {
    let (start, end): (&[u8], &[u8]) = match comment.text {
        [b'/', ..] => (b"/*", b"*/"),
        [b'#', ..] => (b"#", b""),
        _ => (b"--", b""),
    };
    text.extend_from_slice(start);
    text.extend_from_slice(Text::REDACTED.as_bytes());
    text.extend_from_slice(end);
    if let [.., b'\n'] = comment.text {
        text.push(b'\n');
    }
}
