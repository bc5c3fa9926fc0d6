//! What is printed of a message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::head::{Head, RequestLine, StatusLine};
use super::redaction;
use crate::text::TextRef;
use crate::{Payload, Summary, Text};

/// A message with its first line of type `L`.
#[derive(Debug)]
pub(super) struct Message<L> {
    pub(super) line: L,
    pub(super) head: Head,
    /// Bytes of the body, without framing; `None` when its end was not seen.
    pub(super) body_bytes: Option<u64>,
    pub(super) trailers: Option<Head>,
    pub(super) redacted: bool,
}

pub(super) type Request = Message<RequestLine>;
pub(super) type Response = Message<StatusLine>;

impl<L> Message<L> {
    pub(super) fn new(line: L, head: Head) -> Self {
        Self { line, head, body_bytes: None, trailers: None, redacted: false }
    }

    fn headers<'a>(&self, head: &'a Head) -> Headers<'a> {
        Headers { head, repeats: head.repeats(), redacted: self.redacted }
    }
}

/// An HTTP/1 request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HttpRequest")]
struct RequestView<'a> {
    /// The method as it was sent.
    method: TextRef<'a>,
    /// The request target as it was sent.
    target: TextRef<'a>,
    /// The target's path, without query; of CONNECT and of `*` the target itself.
    path: TextRef<'a>,
    /// "1.0" or "1.1".
    version: Cow<'static, str>,
    /// The Host header field, or else the target's authority.
    host: Option<TextRef<'a>>,
    /// Header fields in order of appearance, by name in lower case.
    headers: Headers<'a>,
    /// Size of the body without framing; null when its end was not seen.
    body_bytes: Option<u64>,
    /// Trailer fields, when the body had some.
    #[serde(skip_serializing_if = "Option::is_none")]
    trailers: Option<Headers<'a>>,
}

/// An HTTP/1 response.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HttpResponse")]
struct ResponseView<'a> {
    /// The status code.
    status: u16,
    /// The reason phrase as it was sent; absent when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<TextRef<'a>>,
    /// "1.0" or "1.1".
    version: Cow<'static, str>,
    /// Header fields in order of appearance, by name in lower case.
    headers: Headers<'a>,
    /// Size of the body without framing; null when its end was not seen.
    body_bytes: Option<u64>,
    /// Trailer fields, when the body had some.
    #[serde(skip_serializing_if = "Option::is_none")]
    trailers: Option<Headers<'a>>,
}

impl Request {
    fn target(&self) -> Target<'_> {
        Target::parse(self.head.get(self.line.method), self.head.get(self.line.target))
    }

    fn host(&self) -> Option<&[u8]> {
        self.head.values("host").next().or(self.target().authority)
    }

    /// A target, or part of one, as it may be printed.
    fn printed<'a>(&self, url: &'a [u8]) -> Cow<'a, [u8]> {
        if self.redacted { redaction::url(url) } else { Cow::Borrowed(url) }
    }

    fn view(&self) -> RequestView<'_> {
        let target = self.target();
        let whole = self.head.get(self.line.target);
        RequestView {
            method: TextRef::from(self.head.get(self.line.method)),
            target: TextRef(self.printed(whole)),
            path: TextRef(self.printed(target.path)),
            version: version(self.line.minor),
            host: self.host().map(TextRef::from),
            headers: self.headers(&self.head),
            body_bytes: self.body_bytes,
            trailers: self.trailers.as_ref().map(|trailers| self.headers(trailers)),
        }
    }
}

impl Response {
    fn view(&self) -> ResponseView<'_> {
        let reason = self.head.get(self.line.reason);
        ResponseView {
            status: self.line.status,
            reason: (!reason.is_empty()).then(|| TextRef::from(reason)),
            version: version(self.line.minor),
            headers: self.headers(&self.head),
            body_bytes: self.body_bytes,
            trailers: self.trailers.as_ref().map(|trailers| self.headers(trailers)),
        }
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl Serialize for Response {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl Payload for Request {
    fn redact(&mut self) {
        self.redacted = true;
    }

    fn summary(&self) -> Summary<'_> {
        Summary {
            operation: Some(String::from_utf8_lossy(self.head.get(self.line.method))),
            target: Some(String::from_utf8_lossy(&self.printed(self.target().path)).into_owned().into()),
            ..Summary::default()
        }
    }
}

impl Payload for Response {
    fn redact(&mut self) {
        self.redacted = true;
    }

    fn summary(&self) -> Summary<'_> {
        Summary {
            status: Some(self.line.status.to_string().into()),
            failed: self.line.status >= 400,
            ..Summary::default()
        }
    }
}

pub(super) fn schema(generator: &mut SchemaGenerator) -> [Schema; 2] {
    [generator.subschema_for::<RequestView<'static>>(), generator.subschema_for::<ResponseView<'static>>()]
}

fn version(minor: u8) -> Cow<'static, str> {
    match minor {
        0 => "1.0".into(),
        1 => "1.1".into(),
        other => format!("1.{other}").into(),
    }
}

/// The parts of a request target (RFC 9112, section 3.2).
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    path: &'a [u8],
    authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    fn parse(method: &[u8], target: &'a [u8]) -> Self {
        if method == b"CONNECT" {
            return Self { path: target, authority: Some(target) };
        }
        let (authority, rest) = match redaction::split_authority(target) {
            Some((_, authority, rest)) => (Some(redaction::without_userinfo(authority)), rest),
            None => (None, target),
        };
        let path = rest.split(|&byte| byte == b'?').next().unwrap_or_default();
        Self { path: if path.is_empty() && authority.is_some() { b"/" } else { path }, authority }
    }
}

/// Header fields as they are printed: each name once, with its values in order of appearance.
struct Headers<'a> {
    head: &'a Head,
    /// Whether a name stands there more than once.
    repeats: bool,
    redacted: bool,
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, (name, _)) in self.head.fields().enumerate() {
            let seen = self.repeats && self.head.fields().take(index).any(|(earlier, _)| earlier == name);
            if !seen {
                let name_text = String::from_utf8_lossy(name);
                map.serialize_entry(&name_text, &Values { headers: self, name, from: index })?;
            }
        }
        map.end()
    }
}

impl JsonSchema for Headers<'_> {
    fn schema_name() -> Cow<'static, str> {
        "HttpHeaders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, Vec<Text>>::json_schema(generator)
    }
}

/// The values of one name, from the field `from` on.
struct Values<'a> {
    headers: &'a Headers<'a>,
    name: &'a [u8],
    from: usize,
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let behind = if self.headers.repeats { usize::MAX } else { 1 };
        let fields = self.headers.head.fields().skip(self.from).take(behind);
        let same = fields.filter(|(name, _)| *name == self.name);
        serializer.collect_seq(same.map(|(name, value)| {
            TextRef(if self.headers.redacted { redaction::field(name, value) } else { Cow::Borrowed(value) })
        }))
    }
}
