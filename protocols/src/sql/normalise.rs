//! The form of a statement that does not depend on its values.

use super::lex::{Kind, Lexed, Lexeme};
use crate::Text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item<'a> {
    /// A literal or a placeholder: `?`.
    Value,
    /// A list of them: `(?)`.
    List,
    Other(&'a [u8]),
}

#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    item: Item<'a>,
    /// Whether white space or a comment stood before it.
    spaced: bool,
}

pub(super) fn normalise(lexed: &Lexed<'_>) -> Text {
    let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(lexed.lexemes.len());
    let mut spaced = false;
    for lexeme in &lexed.lexemes {
        let Some(item) = item(lexeme) else {
            spaced = true;
            continue;
        };
        push(&mut pieces, Piece { item, spaced });
        spaced = false;
    }
    render(&pieces, lexed.length())
}

fn item<'a>(lexeme: &Lexeme<'a>) -> Option<Item<'a>> {
    match lexeme.kind {
        Kind::Text | Kind::Number | Kind::Placeholder => Some(Item::Value),
        Kind::Space | Kind::Comment | Kind::Hint => None,
        Kind::Word { .. } | Kind::Quoted | Kind::Punctuation => Some(Item::Other(lexeme.text)),
    }
}

fn push<'a>(pieces: &mut Vec<Piece<'a>>, piece: Piece<'a>) {
    match piece.item {
        Item::Value => {
            let sign = drop_sign(pieces);
            pieces.push(Piece { spaced: sign.map_or(piece.spaced, |sign| sign.spaced), ..piece });
            return;
        }
        Item::Other(b")") => {
            if let Some(open) = list_start(pieces) {
                let spaced = pieces.get(open).is_some_and(|piece| piece.spaced);
                pieces.truncate(open);
                push_list(pieces, spaced);
                return;
            }
        }
        _ => {}
    }
    pieces.push(piece);
}

/// `(-1, 2)` is a list of two values: drops a sign that is not an operator between two operands.
fn drop_sign<'a>(pieces: &mut Vec<Piece<'a>>) -> Option<Piece<'a>> {
    let [.., before, sign] = pieces.as_slice() else { return None };
    let operator = |text: &[u8]| matches!(text, b"(" | b"," | b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=");
    let is_sign = matches!(sign.item, Item::Other(b"-" | b"+"));
    let drop = is_sign && matches!(before.item, Item::Other(text) if operator(text));
    if drop { pieces.pop() } else { None }
}

/// Where the list that a closing parenthesis ends begins, if it holds nothing but values.
fn list_start(pieces: &[Piece<'_>]) -> Option<usize> {
    let mut expects_value = true;
    for (index, piece) in pieces.iter().enumerate().rev() {
        match piece.item {
            Item::Value | Item::List if expects_value => expects_value = false,
            Item::Other(word) if expects_value && is_constant(word) => expects_value = false,
            Item::Other(b",") if !expects_value => expects_value = true,
            Item::Other(b"(") if !expects_value => return may_be_list(pieces.get(..index)?).then_some(index),
            _ => return None,
        }
    }
    None
}

fn is_constant(word: &[u8]) -> bool {
    [&b"null"[..], b"true", b"false", b"default"].iter().any(|constant| word.eq_ignore_ascii_case(constant))
}

/// Whether a parenthesis behind these pieces begins a list, and not the arguments of a function or a type.
fn may_be_list(before: &[Piece<'_>]) -> bool {
    let words = [&b"in"[..], b"values", b"value", b"row"];
    match before.last().map(|piece| piece.item) {
        Some(Item::Other(text)) if text.iter().any(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80) => {
            words.iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        _ => true,
    }
}

fn push_list(pieces: &mut Vec<Piece<'_>>, spaced: bool) {
    if let [.., Piece { item: Item::List, .. }, Piece { item: Item::Other(b","), .. }] = pieces.as_slice() {
        pieces.pop();
        return;
    }
    pieces.push(Piece { item: Item::List, spaced });
}

fn render(pieces: &[Piece<'_>], room: usize) -> Text {
    let mut text = Vec::with_capacity(room);
    for piece in pieces {
        if piece.spaced && !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(match piece.item {
            Item::Value => b"?",
            Item::List => b"(?)",
            Item::Other(bytes) => bytes,
        });
    }
    Text::new(text)
}
