//! Values of the protocol as far as they are kept, and how they print.

use schemars::JsonSchema;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use crate::Text;
use crate::text::TextRef;

/// A string of which perhaps only the beginning was kept.
///
/// Prints as text, or as `{"prefix":…,"bytes":…}` with the length of the whole where that is longer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole.
    pub(super) length: u64,
}

impl Kept {
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), length: bytes.len() as u64 }
    }

    pub(super) fn redact(&mut self) {
        *self = Self::whole(Text::REDACTED.as_bytes());
    }

    pub(super) fn is_whole(&self) -> bool {
        self.length == self.bytes.len() as u64
    }

    /// What is kept, without a character that was cut in two.
    fn prefix(&self) -> TextRef<'_> {
        let end = match std::str::from_utf8(&self.bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.bytes.len(),
        };
        TextRef::from(self.bytes.get(..end).unwrap_or_default())
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_whole() {
            return TextRef::from(self.bytes.as_slice()).serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("prefix", &self.prefix())?;
        map.serialize_entry("bytes", &self.length)?;
        map.end()
    }
}

impl JsonSchema for Kept {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedisString".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = generator.subschema_for::<Text>();
        schemars::json_schema!({
            "description": "Text, or the beginning of a longer text and the length of the whole",
            "anyOf": [
                text,
                {
                    "type": "object",
                    "properties": { "prefix": text, "bytes": { "type": "integer", "minimum": 0 } },
                    "required": ["prefix", "bytes"]
                }
            ]
        })
    }
}

/// An aggregate of which perhaps only the first elements were kept. Keys and values of a map count apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    /// How many there are in all.
    pub(super) length: u64,
}

/// A reply or a part of one.
///
/// Strings print as text, numbers as numbers (a double that JSON cannot express as text), aggregates as arrays (a map
/// as an array of pairs, because its keys may be of any type), an error inside an aggregate as `{"error":…}`, and
/// `{"omitted":n}` stands for elements that were not kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Simple(Kept),
    Error(Kept),
    Bulk(Kept),
    BulkError(Kept),
    Verbatim(Kept),
    BigNumber(Kept),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Null,
    Array(List),
    Set(List),
    Push(List),
    Map(List),
}

impl Value {
    /// As printed in `type`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Simple(_) => "simple_string",
            Self::Error(_) => "error",
            Self::Bulk(_) => "bulk_string",
            Self::BulkError(_) => "bulk_error",
            Self::Verbatim(_) => "verbatim_string",
            Self::BigNumber(_) => "big_number",
            Self::Integer(_) => "integer",
            Self::Double(_) => "double",
            Self::Boolean(_) => "boolean",
            Self::Null => "null",
            Self::Array(_) => "array",
            Self::Set(_) => "set",
            Self::Push(_) => "push",
            Self::Map(_) => "map",
        }
    }

    /// The text of an error.
    pub(super) fn error(&self) -> Option<&Kept> {
        match self {
            Self::Error(text) | Self::BulkError(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) | Self::Bulk(text) | Self::Verbatim(text) => Some(&text.bytes),
            _ => None,
        }
    }

    /// The elements of an aggregate.
    pub(super) fn list(&self) -> Option<&List> {
        match self {
            Self::Array(list) | Self::Set(list) | Self::Push(list) | Self::Map(list) => Some(list),
            _ => None,
        }
    }

    /// The elements of an aggregate.
    pub(super) fn list_mut(&mut self) -> Option<&mut List> {
        match self {
            Self::Array(list) | Self::Set(list) | Self::Push(list) | Self::Map(list) => Some(list),
            _ => None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Simple(text) | Self::Bulk(text) | Self::Verbatim(text) | Self::BigNumber(text) => {
                text.serialize(serializer)
            }
            Self::Error(text) | Self::BulkError(text) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("error", text)?;
                map.end()
            }
            Self::Integer(number) => number.serialize(serializer),
            Self::Double(number) if number.is_finite() => number.serialize(serializer),
            Self::Double(number) => serializer.collect_str(number),
            Self::Boolean(value) => value.serialize(serializer),
            Self::Null => serializer.serialize_unit(),
            Self::Array(list) | Self::Set(list) | Self::Push(list) => list.elements(serializer),
            Self::Map(list) => list.pairs(serializer),
        }
    }
}

impl JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedisValue".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = generator.subschema_for::<Kept>();
        let itself = generator.subschema_for::<Self>();
        schemars::json_schema!({
            "description": "A reply: text, number, boolean, null, or an array of such; a map is an array of pairs",
            "anyOf": [
                text,
                { "type": ["integer", "number", "boolean", "null"] },
                { "type": "array", "items": itself },
                { "type": "object", "properties": { "error": text }, "required": ["error"] },
                { "type": "object", "properties": { "omitted": { "type": "integer" } }, "required": ["omitted"] }
            ]
        })
    }
}

#[derive(Serialize)]
struct Omitted {
    omitted: u64,
}

impl List {
    fn elements<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for item in &self.items {
            seq.serialize_element(item)?;
        }
        self.omitted(seq, self.length, self.items.len() as u64)
    }

    fn pairs<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for pair in self.items.chunks(2) {
            seq.serialize_element(pair)?;
        }
        self.omitted(seq, self.length.div_ceil(2), self.items.len().div_ceil(2) as u64)
    }

    fn omitted<S: serde::ser::SerializeSeq>(&self, mut seq: S, all: u64, kept: u64) -> Result<S::Ok, S::Error> {
        if all > kept {
            seq.serialize_element(&Omitted { omitted: all - kept })?;
        }
        seq.end()
    }
}
