//! A decoded header block, sorted into pseudo-header fields and others.

use super::headers::Headers;
use super::hpack::{Block, Field};
use crate::{Reason, Reasons, Text};

/// What a block is, by its pseudo-header fields: they come first, and trailers have none (RFC 9113, section 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// The start of a message.
    Head,
    Trailers,
    /// It could not be known.
    Unknown,
}

/// The fields of a block.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) method: Option<Text>,
    pub(super) scheme: Option<Text>,
    pub(super) authority: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) protocol: Option<Text>,
    pub(super) status: Option<u16>,
    pub(super) headers: Headers,
    pub(super) section: Section,
    /// Why fields are missing.
    pub(super) reasons: Reasons,
}

impl Fields {
    /// Sorts the fields of `block`; of each value at most `longest` bytes are kept.
    pub(super) fn new(block: Block, longest: usize) -> Self {
        let mut sorted = Self::empty(section(&block));
        if block.invalid {
            sorted.reasons.add(Reason::ParseError);
        }
        if block.overflow {
            sorted.reasons.add(Reason::Truncated);
        }
        for field in block.fields {
            match field {
                Field::Known(name, value) => sorted.add(&name, value, longest),
                Field::Unknown => sorted.reasons.add(Reason::HpackUnknown),
            }
        }
        sorted
    }

    /// A block of which nothing is known.
    fn empty(section: Section) -> Self {
        Self {
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            status: None,
            headers: Headers::default(),
            section,
            reasons: Reasons::NONE,
        }
    }

    fn add(&mut self, name: &[u8], mut value: Vec<u8>, longest: usize) {
        if value.len() > longest {
            value.truncate(longest);
            self.reasons.add(Reason::Truncated);
        }
        let slot = match name {
            b":status" => {
                self.status = std::str::from_utf8(&value).ok().and_then(|value| value.parse().ok());
                return;
            }
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            [b':', ..] => return,
            _ => return self.headers.add(name, Text::new(value)),
        };
        slot.get_or_insert(Text::new(value));
    }

    /// Whether this is an interim response (RFC 9110, section 15.2).
    pub(super) fn interim(&self) -> Option<u16> {
        self.status.filter(|status| (100..200).contains(status))
    }
}

fn section(block: &Block) -> Section {
    let is_pseudo = |field: &Field| matches!(field, Field::Known(name, _) if name.starts_with(b":"));
    match block.fields.first() {
        _ if block.fields.iter().any(is_pseudo) => Section::Head,
        Some(Field::Known(..)) => Section::Trailers,
        Some(Field::Unknown) => Section::Unknown,
        None if block.cut || block.invalid => Section::Unknown,
        None => Section::Trailers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Block {
        let known = |&(name, value): &(&str, &str)| Field::Known(name.into(), value.into());
        Block { fields: fields.iter().map(known).collect(), ..Block::default() }
    }

    #[test]
    fn fields_are_sorted() {
        let mut long = block(&[(":method", "GET"), (":path", "/a"), (":method", "PUT"), (":odd", "1"), ("x", "12345")]);
        let fields = Fields::new(block(&[(":status", "103"), ("a", "b")]), 10);
        assert_eq!((fields.interim(), fields.section, fields.reasons), (Some(103), Section::Head, Reasons::NONE));
        long.fields.insert(0, Field::Unknown);
        let fields = Fields::new(long, 4);
        assert_eq!((fields.method, fields.path), (Some("GET".into()), Some("/a".into())));
        assert_eq!((fields.headers.get("x"), fields.section), (Some(&"1234".into()), Section::Head));
        assert_eq!(fields.reasons.iter().collect::<Vec<_>>(), [Reason::Truncated, Reason::HpackUnknown]);
        assert_eq!(Fields::new(block(&[]), 4).section, Section::Trailers);
        assert_eq!(Fields::new(block(&[("a", "b")]), 4).section, Section::Trailers);
        assert_eq!(Fields::new(Block { cut: true, ..block(&[]) }, 4).section, Section::Unknown);
        let unknown = Block { fields: vec![Field::Unknown, Field::Known("a".into(), "b".into())], ..Block::default() };
        assert_eq!(Fields::new(unknown, 4).section, Section::Unknown);
    }
}
