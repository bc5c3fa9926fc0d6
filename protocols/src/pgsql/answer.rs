//! A response as far as it was seen.

use super::message::Message;
use super::types::Response;
use super::wire::HEADER;
use crate::{Cursor, Part, Reasons, Text, Time};

/// The messages that answer one request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    start: Option<Time>,
    end: Option<Time>,
    bytes: Option<u64>,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
    /// Rows of the statement that is being answered.
    returned: Option<u64>,
    response: Response,
}

impl Answer {
    /// Of a request that the server ignored.
    pub(super) fn skipped() -> Self {
        let response = Response { status: "skipped", ..Response::default() };
        Self { bytes: Some(0), response, ..Self::default() }
    }

    /// Adds a message to what is measured.
    pub(super) fn add(&mut self, message: &Message<'_>) {
        self.start.get_or_insert(message.first.start);
        self.end = message.last.map(|span| span.end);
        *self.bytes.get_or_insert(0) += message.bytes;
        if let Some(hole) = message.hole {
            self.reasons.add(hole.reason);
            self.missing += hole.lost;
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// Whether it says more than that the server is ready.
    pub(super) fn tells(&self) -> bool {
        !self.response.status.is_empty() || self.returned.is_some() || self.response.copy_bytes.is_some()
    }

    /// What is known although the rest was not seen.
    pub(super) fn cut(mut self) -> Self {
        self.end = None;
        self.bytes = None;
        self
    }

    /// Takes what a message says of results, whatever it answers. Gives the command tag if it ends a statement.
    pub(super) fn take_result(&mut self, message: &Message<'_>) -> Option<Text> {
        let mut cursor = Cursor::new(message.body);
        match message.kind {
            b'T' => {
                self.response.columns = cursor.u16_be();
                self.returned.get_or_insert(0);
            }
            b'D' => *self.returned.get_or_insert(0) += 1,
            b'C' => return self.complete(&mut cursor),
            b'I' => self.set_status("empty"),
            b's' => {
                self.response.add_rows(self.returned.take());
                self.set_status("suspended");
            }
            b'E' => self.fail(&mut cursor),
            b'G' | b'H' | b'W' => {
                self.response.columns = cursor.take(1).and_then(|_| cursor.u16_be());
                if message.kind != b'G' {
                    self.response.copy_bytes.get_or_insert(0);
                }
            }
            b'd' => *self.response.copy_bytes.get_or_insert(0) += message.bytes - HEADER as u64,
            b'V' => self.set_status("ok"),
            b'Z' => self.response.transaction_status = transaction_status(message.body),
            _ => {}
        }
        None
    }

    fn set_status(&mut self, status: &'static str) {
        self.response.status = status;
    }

    fn complete(&mut self, cursor: &mut Cursor<'_>) -> Option<Text> {
        let tag = cursor.until(0).map(Text::from)?;
        let returned = self.returned.take();
        // Rows of `SELECT` that were not sent went into a table.
        let none = tag.as_bytes().starts_with(b"SELECT ").then_some(0);
        self.response.complete(tag.clone(), returned.or(none));
        self.set_status("ok");
        Some(tag)
    }

    /// Fields of an ErrorResponse: manual, 55.8.
    fn fail(&mut self, cursor: &mut Cursor<'_>) {
        self.set_status("error");
        let response = &mut self.response;
        response.add_rows(self.returned.take());
        while let Some(field) = cursor.u8().filter(|field| *field != 0) {
            let Some(value) = cursor.until(0).map(Text::from) else { return };
            match field {
                b'C' => response.error_code = Some(value),
                b'M' => response.error_message = Some(value),
                // The translated one comes first; servers from 9.6 on send this one too.
                b'V' => response.severity = Some(value),
                b'S' => response.severity = response.severity.take().or(Some(value)),
                _ => {}
            }
        }
    }

    /// Whether the server closes the connection after this error.
    pub(super) fn is_fatal(&self) -> bool {
        self.response.severity.as_ref().is_some_and(|severity| severity == &"FATAL" || severity == &"PANIC")
    }

    pub(super) fn into_part(mut self) -> Part {
        if self.response.results.len() + usize::from(self.response.error_code.is_some()) < 2 {
            self.response.results.clear();
        }
        if self.response.status.is_empty() {
            self.response.status = "unknown";
            self.response.add_rows(self.returned.take());
        }
        Part { bytes: self.bytes, start: self.start, end: self.end, payload: Box::new(self.response) }
    }
}

fn transaction_status(body: &[u8]) -> Option<&'static str> {
    match body {
        b"I" => Some("idle"),
        b"T" => Some("in_transaction"),
        b"E" => Some("failed"),
        _ => None,
    }
}
