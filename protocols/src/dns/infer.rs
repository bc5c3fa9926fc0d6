//! Recognising DNS by its content, without a look at the port.

use super::codes::{Class, Opcode, Type};
use super::message::{HEADER, Header, Question, RawRecord};
use crate::{Cursor, Inference, Sender, Transport};

/// Shortest record: a root name, type, class, TTL, length (RFC 1035 §4.1.3).
const SHORTEST_RECORD: usize = 11;

/// Records that a query may bring along: OPT and TSIG, the SOA of an IXFR or NOTIFY, known answers of mDNS.
const QUERY_RECORDS: u16 = 64;

/// Longest encoding of a question (RFC 1035 §3.1: a name takes 255 bytes), with some room for pointers.
const LONGEST_QUESTION: usize = 300;

/// Longest message worth waiting for. Most queries are far shorter; those that carry keys or updates are not.
const LONGEST_AWAITED: usize = 4094;

/// What the first bytes of a direction look like.
pub(super) fn infer(head: &[u8], transport: Transport) -> Inference {
    if transport == Transport::Udp {
        return judge(head, head.len());
    }
    let mut cursor = Cursor::new(head);
    let Some(length) = cursor.u16_be().map(usize::from) else { return Inference::More };
    let body = cursor.rest();
    judge(body.get(..length).unwrap_or(body), length)
}

/// Whether a whole message stands at the start of `bytes`, a stream, and nothing in it is odd. `None`: too few bytes.
pub(super) fn is_framed(bytes: &[u8]) -> Option<bool> {
    match infer(bytes, Transport::Tcp) {
        Inference::More => return None,
        Inference::Sure(_) => {}
        Inference::No | Inference::Maybe(_) => return Some(false),
    }
    let mut cursor = Cursor::new(bytes);
    let length = usize::from(cursor.u16_be()?);
    let body = cursor.take(length)?;
    Some(Walk::of(body) == Walk::Whole)
}

/// Judges the message of `length` bytes that begins with `bytes`.
fn judge(bytes: &[u8], length: usize) -> Inference {
    let complete = bytes.len() == length;
    let short = if complete || length < HEADER { Inference::No } else { Inference::More };
    let Some(header) = Header::read(&mut Cursor::new(bytes)) else { return short };
    if !is_plausible(&header, length) {
        return Inference::No;
    }
    let sure = Inference::Sure(if header.is_response() { Sender::Server } else { Sender::Client });
    match Walk::of(bytes) {
        Walk::Whole if complete => sure,
        // Something odd behind the question, or a datagram that was cut off. (Windows puts "MS" behind AXFR queries.)
        Walk::ToRecords if complete && is_typical(&header) => sure,
        // The beginning of a long response.
        Walk::ToRecords if !complete && header.is_response() && is_typical(&header) => sure,
        Walk::ToRecords if length <= LONGEST_AWAITED => short,
        Walk::ToQuestions if bytes.len() < HEADER + LONGEST_QUESTION => short,
        Walk::Whole | Walk::ToRecords | Walk::ToQuestions | Walk::Wrong => Inference::No,
    }
}

/// Whether flags and counts are such as are sent, and counts fit into the message.
fn is_plausible(header: &Header, length: usize) -> bool {
    let [questions, answers, authorities, additionals] = header.counts;
    let records = usize::from(answers) + usize::from(authorities) + usize::from(additionals);
    let fits = HEADER + usize::from(questions) * 5 + records * SHORTEST_RECORD <= length;
    let known = matches!(header.opcode().name(), Some("QUERY" | "NOTIFY" | "UPDATE"));
    let kind = if header.is_response() {
        // Without a question: mDNS (RFC 6762 §18: id 0, opcode and code 0, authoritative).
        let multicast = header.id == 0 && header.authoritative() && header.rcode() == 0 && answers > 0;
        (1..=4).contains(&questions) || (questions == 0 && multicast)
    } else {
        if header.opcode() == Opcode::IQUERY {
            // Inverse queries (RFC 1035 section 6.4, withdrawn by RFC 3425) carry the answer and want the question.
            return fits && header.counts == [0, 1, 0, 0];
        }
        let few = records <= usize::from(QUERY_RECORDS) || header.opcode() != Opcode::QUERY;
        (1..=16).contains(&questions) && few
    };
    fits && known && kind
}

/// Whether the header alone, with a question behind it, leaves no reasonable doubt.
fn is_typical(header: &Header) -> bool {
    let [questions, answers, authorities, additionals] = header.counts;
    let asks = header.rcode() == 0 && !header.recursion_available();
    let query = asks && answers == 0 && authorities <= 1 && additionals <= 2;
    questions == 1 && header.opcode() == Opcode::QUERY && (header.is_response() || query)
}

/// How far a message can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// All of it; nothing is left over.
    Whole,
    /// All questions, then the bytes end or are odd.
    ToRecords,
    /// Not even the questions.
    ToQuestions,
    /// A question that nobody asks.
    Wrong,
}

impl Walk {
    fn of(bytes: &[u8]) -> Self {
        let mut cursor = Cursor::new(bytes);
        let Some(header) = Header::read(&mut cursor) else { return Self::ToQuestions };
        let [questions, answers, authorities, additionals] = header.counts;
        for _ in 0..questions {
            match Question::read(&mut cursor, bytes) {
                Some(question) if is_sane(&question) => {}
                Some(_) => return Self::Wrong,
                None => return Self::ToQuestions,
            }
        }
        let records = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
        for _ in 0..records {
            match RawRecord::read(&mut cursor, bytes) {
                Some(record) if is_known(record.kind) => {}
                _ => return Self::ToRecords,
            }
        }
        if cursor.rest().is_empty() { Self::Whole } else { Self::ToRecords }
    }
}

fn is_sane(question: &Question) -> bool {
    let class = matches!(question.class, Class(1 | 3 | 4 | 254 | 255));
    class && is_known(question.kind) && !is_netbios(question)
}

fn is_known(kind: Type) -> bool {
    kind.name().is_some() || (65280..=65534).contains(&kind.0)
}

/// NetBIOS name service (RFC 1002 §4.2) has the same header; its names are 32 letters from A to P, its types 32 and 33.
fn is_netbios(question: &Question) -> bool {
    let encoded = |label: &[u8]| label.len() == 32 && label.iter().all(|byte| (b'A'..=b'P').contains(byte));
    matches!(question.kind, Type(32 | 33)) && question.name.labels().next().is_some_and(encoded)
}
