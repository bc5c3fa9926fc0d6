//! Bytes that are usually text.

use std::borrow::Cow;

use base64::Engine as _;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// Bytes from the wire that are text by convention only.
///
/// Serialises as a JSON string when it is valid UTF-8 and as `{"base64":"…"}` otherwise, never lossily.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// What a sensitive value prints as.
    pub const REDACTED: &'static str = "[redacted]";

    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The text that stands where a sensitive value was.
    pub fn redacted() -> Self {
        Self::new(Self::REDACTED)
    }

    /// The bytes as they were on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people: bytes that are not UTF-8 are replaced. Records use [`Serialize`] instead.
    pub fn display(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        TextRef::from(self.as_bytes()).serialize(serializer)
    }
}

/// [`Text`] that stands in a message and need not be copied to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextRef<'a>(pub(crate) Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for TextRef<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl Serialize for TextRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &base64::engine::general_purpose::STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl schemars::JsonSchema for TextRef<'_> {
    fn schema_name() -> Cow<'static, str> {
        Text::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Text::json_schema(generator)
    }
}

impl schemars::JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "UTF-8 text, or bytes that are not UTF-8 in base64",
            "oneOf": [
                { "type": "string" },
                { "type": "object", "properties": { "base64": { "type": "string" } }, "required": ["base64"] }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_printed_in_base64() {
        assert_eq!(serde_json::to_string(&Text::from("ü\"")).unwrap(), r#""ü\"""#);
        assert_eq!(serde_json::to_string(&Text::new(vec![0xff, 0])).unwrap(), r#"{"base64":"/wA="}"#);
    }
}
