//! Header fields as they are printed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::Text;
use crate::http::redaction;

/// Header fields by lower-case name, each with its values in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Http2Headers")]
pub struct Headers(BTreeMap<String, Vec<Text>>);

impl Headers {
    /// Adds a field. A name that is not a token, which no valid message has, is printed escaped.
    pub(super) fn add(&mut self, name: &[u8], value: Text) {
        let name = match std::str::from_utf8(name) {
            Ok(name) => name.to_ascii_lowercase(),
            Err(_) => name.escape_ascii().to_string(),
        };
        self.0.entry(name).or_default().push(value);
    }

    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Text> {
        self.0.get(name)?.first()
    }

    /// Takes out what gives access to something.
    pub(super) fn redact(&mut self) {
        for (name, values) in &mut self.0 {
            for value in values {
                *value = Text::new(redaction::field(name.as_bytes(), value.as_bytes()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_grouped_and_redacted_by_name() {
        let mut headers = Headers::default();
        for (name, value) in [
            (&b"Accept"[..], "a"),
            (b"cookie", "secret=1"),
            (b"accept", "b"),
            (b"cookie", "b=2"),
            (b"\xff", "c"),
            (b"referer", "https://h/?token=1"),
        ] {
            headers.add(name, Text::from(value));
        }
        assert_eq!(headers.get("accept"), Some(&Text::from("a")));
        headers.redact();
        assert_eq!(
            serde_json::to_value(&headers).unwrap(),
            serde_json::json!({
                "\\xff": ["c"], "accept": ["a", "b"], "cookie": ["[redacted]", "[redacted]"],
                "referer": ["https://h/?token=[redacted]"],
            })
        );
    }
}
