//! What is printed of a command and of its reply.

use schemars::JsonSchema;
use serde::Serialize;

use super::commands::{Secret, is_secret, redact_arguments, target};
use super::value::{Kept, List, Value};
use crate::{Payload, Summary, Text};

/// A Redis command.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RedisRequest")]
pub(super) struct Request {
    /// In capitals, without a subcommand.
    pub(super) command: Text,
    pub(super) args: Vec<Kept>,
    /// Arguments beyond those printed.
    #[serde(skip_serializing_if = "is_zero")]
    args_omitted: u64,
    /// Number of the database that it works on, where that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<u64>,
    /// The client has asked for no reply to it (CLIENT REPLY).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) no_reply: bool,
}

impl Request {
    /// Whether bytes were lost in the words that tell what the server answers.
    pub(super) fn is_doubtful(words: &List) -> bool {
        let mut words = words.items.iter().map(|word| match word {
            Value::Bulk(word) if word.is_whole() => Some(word.bytes.as_slice()),
            _ => None,
        });
        match words.next() {
            Some(Some(name)) if name.eq_ignore_ascii_case(b"CLIENT") => words.take(2).any(|word| word.is_none()),
            Some(name) => name.is_none(),
            None => false,
        }
    }

    /// The words of a command; `None` without a first one.
    pub(super) fn new(words: List) -> Option<Self> {
        let mut kept = words.items.into_iter().filter_map(|word| match word {
            Value::Bulk(word) => Some(word),
            _ => None,
        });
        let mut command = kept.next()?.bytes;
        command.make_ascii_uppercase();
        let args: Vec<_> = kept.collect();
        let args_omitted = words.length.saturating_sub(1).saturating_sub(args.len() as u64);
        Some(Self { command: Text::new(command), args, args_omitted, database: None, no_reply: false })
    }

    /// How many arguments it has, printed or not.
    pub(super) fn arguments(&self) -> u64 {
        self.args_omitted.saturating_add(self.args.len() as u64)
    }

    /// Whether the argument at `place` is `word`.
    pub(super) fn has(&self, place: usize, word: &str) -> bool {
        self.args.get(place).is_some_and(|argument| argument.bytes.eq_ignore_ascii_case(word.as_bytes()))
    }
}

impl Payload for Request {
    fn redact(&mut self) {
        redact_arguments(self.command.as_bytes(), &mut self.args);
    }

    fn summary(&self) -> Summary<'_> {
        Summary {
            operation: Some(self.command.display()),
            target: target(self.command.as_bytes(), &self.args).map(|key| String::from_utf8_lossy(&key.bytes)),
            ..Summary::default()
        }
    }
}

/// A reply of Redis.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RedisResponse")]
pub(super) struct Response {
    /// simple_string, error, integer, bulk_string, array, null, map, set, push, double, boolean, big_number,
    /// verbatim_string or bulk_error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Absent for errors. Nested; long strings and many elements are cut, and say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Code and text of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Kept>,
    /// Replies to one command, where it has several: (un)subscribing gives one for each channel. `value` holds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    replies: Option<u64>,
    /// Messages that the server sent on its own between the last reply and this one: of pub/sub and MONITOR,
    /// invalidations. They are counted here and are no records.
    #[serde(skip_serializing_if = "is_zero")]
    pushes: u64,
    #[serde(skip)]
    secret: Secret,
}

impl Response {
    pub(super) fn new(value: Value, pushes: u64, secret: Secret) -> Self {
        let error = value.error().cloned();
        let kind = value.kind();
        let value = if error.is_some() { None } else { Some(value) };
        Self { kind, value, error, replies: None, pushes, secret }
    }

    /// Several replies to one command.
    pub(super) fn several(values: Vec<Value>, count: u64, pushes: u64) -> Self {
        let kind = values.first().map_or("array", Value::kind);
        let value = Value::Array(List { items: values, length: count });
        Self { kind, value: Some(value), error: None, replies: Some(count), pushes, secret: Secret::Nothing }
    }

    fn code(&self) -> Option<Text> {
        let text = &self.error.as_ref()?.bytes;
        text.split(|byte| *byte == b' ').next().map(Text::from)
    }
}

impl Payload for Response {
    fn redact(&mut self) {
        let redacted = Value::Bulk(Kept::whole(Text::REDACTED.as_bytes()));
        match (self.secret, &mut self.value) {
            (Secret::Nothing, _) | (_, None) => {}
            (Secret::All, Some(value)) => *value = redacted,
            (Secret::Parameters, Some(value)) => {
                for pair in value.list_mut().into_iter().flat_map(|list| list.items.chunks_mut(2)) {
                    if let [name, value] = pair
                        && name.text().is_some_and(is_secret)
                    {
                        *value = redacted.clone();
                    }
                }
            }
        }
    }

    /// An error counts as failed, and so does an array with an error in it: what EXEC gives when a command of the
    /// transaction failed. Redirections in a cluster (MOVED, ASK) are answered by asking elsewhere.
    fn summary(&self) -> Summary<'_> {
        let code = self.code();
        let nested = self.value.as_ref().and_then(Value::list);
        let nested_error = nested.is_some_and(|list| list.items.iter().any(|item| item.error().is_some()));
        let redirected = code.as_ref().is_some_and(|code| *code == "MOVED" || *code == "ASK");
        let status = match (&code, &self.value) {
            (Some(code), _) => code.display().into_owned(),
            (None, Some(Value::Simple(text))) => String::from_utf8_lossy(&text.bytes).into_owned(),
            _ => self.kind.to_owned(),
        };
        Summary {
            status: Some(status.into()),
            failed: nested_error || (code.is_some() && !redirected),
            ..Summary::default()
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
