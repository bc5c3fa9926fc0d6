//! What is printed of a query and of its response.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::codes::{Opcode, Rcode};
use super::message::{Edns, Message, Question, Record};
use crate::{Payload, Summary};

/// A DNS request. Of an UPDATE, `questions` is the zone, `answers` the prerequisites and `authorities` the updates
/// (RFC 2136 §2).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DnsRequest")]
pub(super) struct Request {
    pub(super) id: u16,
    pub(super) questions: Vec<Question>,
    #[schemars(with = "String")]
    pub(super) opcode: Opcode,
    recursion_desired: bool,
    /// The client wants data that fails DNSSEC validation, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    checking_disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    edns: Option<Edns>,
    #[serde(flatten)]
    records: Records,
    /// How many times the query was sent again before an answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) retransmissions: u32,
}

impl Request {
    pub(super) fn new(message: Message) -> Self {
        let header = message.header;
        Self {
            id: header.id,
            opcode: header.opcode(),
            recursion_desired: header.recursion_desired(),
            checking_disabled: header.checking_disabled(),
            questions: message.questions,
            edns: message.edns,
            records: Records {
                answers: Some(message.answers).filter(|answers| !answers.is_empty()),
                authorities: message.authorities,
                additionals: message.additionals,
                records_omitted: message.omitted,
            },
            retransmissions: 0,
        }
    }
}

impl Payload for Request {
    fn summary(&self) -> Summary<'_> {
        subject(self.opcode, &self.questions)
    }
}

/// A DNS response.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DnsResponse")]
pub(super) struct Response {
    #[schemars(with = "String")]
    rcode: Rcode,
    #[serde(flatten)]
    records: Records,
    truncated: bool,
    authoritative: bool,
    recursion_available: bool,
    /// The server says that it has validated the data (DNSSEC).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    authentic_data: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    edns: Option<Edns>,
    /// Messages of a zone transfer that make up this response, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u32>,
    /// What identifies a response without a request.
    #[serde(flatten)]
    unpaired: Option<Unpaired>,
}

/// What is otherwise printed with the request.
#[derive(Debug, Serialize, JsonSchema)]
struct Unpaired {
    id: u16,
    questions: Vec<Question>,
    #[schemars(with = "String")]
    opcode: Opcode,
}

/// The records of a message, by section.
#[derive(Debug, Serialize, JsonSchema)]
struct Records {
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Vec<Record>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additionals: Vec<Record>,
    /// Records and questions that the message has beyond those printed.
    #[serde(skip_serializing_if = "is_zero")]
    records_omitted: u32,
}

impl Response {
    /// `paired`: whether the request is printed with it.
    pub(super) fn new(message: Message, paired: bool) -> Self {
        let header = message.header;
        let unpaired = Unpaired { id: header.id, opcode: header.opcode(), questions: Vec::new() };
        Self {
            rcode: message.rcode(),
            truncated: header.truncated(),
            authoritative: header.authoritative(),
            recursion_available: header.recursion_available(),
            authentic_data: header.authentic_data(),
            records: Records {
                answers: Some(message.answers),
                authorities: message.authorities,
                additionals: message.additionals,
                records_omitted: message.omitted,
            },
            edns: message.edns,
            messages: None,
            unpaired: (!paired).then_some(Unpaired { questions: message.questions, ..unpaired }),
        }
    }

    /// Adds the next message of a zone transfer: its records are counted, not printed.
    pub(super) fn add(&mut self, message: &Message) {
        let records = message.header.counts.iter().skip(1).map(|&count| u32::from(count)).sum::<u32>();
        let opt = u32::from(message.edns.is_some());
        self.records.records_omitted = self.records.records_omitted.saturating_add(records.saturating_sub(opt));
        self.messages = Some(self.messages.unwrap_or(1).saturating_add(1));
        self.rcode = message.rcode();
    }
}

impl Payload for Response {
    /// Every response code but NOERROR counts as failed, NXDOMAIN too: for who runs a gateway, the name of an upstream
    /// that does not exist is an outage. Lookups through a search list make harmless ones; they have their own status.
    fn summary(&self) -> Summary<'_> {
        let subject = self.unpaired.as_ref().map(|unpaired| subject(unpaired.opcode, &unpaired.questions));
        Summary {
            status: Some(self.rcode.name().map_or_else(|| Cow::from(self.rcode.to_string()), Cow::from)),
            failed: self.rcode != Rcode::NOERROR,
            ..subject.unwrap_or_default()
        }
    }
}

/// The type of a query and its name; of other kinds of request, the kind.
fn subject(opcode: Opcode, questions: &[Question]) -> Summary<'static> {
    let question = questions.first();
    let operation = match question {
        Some(question) if opcode == Opcode::QUERY => question.kind.to_string(),
        _ => opcode.to_string(),
    };
    Summary {
        operation: Some(operation.into()),
        target: question.map(|question| question.name.to_string().into()),
        ..Summary::default()
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}
