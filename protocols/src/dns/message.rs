//! DNS messages (RFC 1035 §4) with EDNS (RFC 6891).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::Serialize;

use super::codes::{Class, ExtendedError, Opcode, OptionCode, Rcode, Type};
use super::name::Name;
use super::rdata::{hex, present};
use crate::Cursor;

/// Length of a header.
pub(super) const HEADER: usize = 12;

/// Records and questions of one message that are kept for printing; the others are only counted.
const KEPT: usize = 128;

/// The first 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    /// Questions, answers, authorities, additionals.
    pub(super) counts: [u16; 4],
}

impl Header {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let (id, flags) = (cursor.u16_be()?, cursor.u16_be()?);
        let counts = [cursor.u16_be()?, cursor.u16_be()?, cursor.u16_be()?, cursor.u16_be()?];
        Some(Self { id, flags, counts })
    }

    pub(super) fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub(super) fn opcode(&self) -> Opcode {
        Opcode(self.flags >> 11 & 0xf)
    }

    pub(super) fn authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    pub(super) fn truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    pub(super) fn recursion_desired(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    pub(super) fn recursion_available(&self) -> bool {
        self.flags & 0x0080 != 0
    }

    pub(super) fn authentic_data(&self) -> bool {
        self.flags & 0x0020 != 0
    }

    pub(super) fn checking_disabled(&self) -> bool {
        self.flags & 0x0010 != 0
    }

    /// The four bits of the response code that fit into the header.
    pub(super) fn rcode(&self) -> u16 {
        self.flags & 0xf
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "DnsQuestion")]
pub(super) struct Question {
    #[schemars(with = "String")]
    pub(super) name: Name,
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub(super) kind: Type,
    #[schemars(with = "String")]
    pub(super) class: Class,
    /// mDNS: a unicast response is wanted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unicast_response: bool,
}

impl Question {
    pub(super) fn read<'a>(cursor: &mut Cursor<'a>, message: &'a [u8]) -> Option<Self> {
        let name = Name::read(cursor, message)?;
        let kind = Type(cursor.u16_be()?);
        let (class, unicast_response) = Class::split(cursor.u16_be()?);
        Some(Self { name, kind, class, unicast_response })
    }

    /// Whether a response to one question is a response to the other. Responses need not repeat the mDNS bit.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.name == other.name && self.kind == other.kind && self.class == other.class
    }
}

/// A resource record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "DnsRecord")]
pub(super) struct Record {
    #[schemars(with = "String")]
    name: Name,
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    kind: Type,
    /// Absent where it is IN.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    class: Option<Class>,
    ttl: u32,
    /// In presentation format; the generic format of RFC 3597 for unknown types and for data that does not fit.
    data: String,
    /// Wire length of the whole data, where `data` shows only the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_bytes: Option<u16>,
    /// mDNS: other records of this name and type are outdated.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cache_flush: bool,
}

/// EDNS parameters: what the OPT record carries.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Edns {
    version: u8,
    udp_size: u16,
    #[serde(rename = "do")]
    dnssec_ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<EdnsOption>,
    /// Upper eight bits of the response code.
    #[serde(skip)]
    rcode: u8,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct EdnsOption {
    #[schemars(with = "String")]
    name: OptionCode,
    data: String,
}

/// Whether a message was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything is there and well formed.
    Whole,
    /// Everything is there, but some data does not fit its type or bytes are left over.
    Odd,
    /// The bytes end, or are malformed, in the question section.
    ToQuestions,
    /// The bytes end, or are malformed, in a later section.
    ToRecords,
}

/// A message as far as it can be read.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) questions: Vec<Question>,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    /// Without OPT, which is in `edns`.
    pub(super) additionals: Vec<Record>,
    pub(super) edns: Option<Edns>,
    /// Records that were read and not kept.
    pub(super) omitted: u32,
    /// Serials of the SOA records in the answer and authority sections, each with its place in its section: for zone
    /// transfers.
    pub(super) answer_soas: Vec<(u16, u32)>,
    pub(super) authority_soa: Option<u32>,
    pub(super) reading: Reading,
}

impl Message {
    /// Reads a message; `None` where not even a header is there. `value`: bytes of one record's data that are kept.
    pub(super) fn read(bytes: &[u8], value: usize) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::read(&mut cursor)?;
        let mut message = Self {
            header,
            questions: Vec::new(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: None,
            omitted: 0,
            answer_soas: Vec::new(),
            authority_soa: None,
            reading: Reading::ToQuestions,
        };
        if message.read_questions(&mut cursor, bytes).is_some() {
            message.reading = Reading::ToRecords;
            if let Some(fits) = message.read_records(&mut cursor, bytes, value) {
                message.reading = if fits && cursor.rest().is_empty() { Reading::Whole } else { Reading::Odd };
            }
        }
        Some(message)
    }

    /// The response code with the bits that EDNS adds.
    pub(super) fn rcode(&self) -> Rcode {
        let high = self.edns.as_ref().map_or(0, |edns| u16::from(edns.rcode));
        Rcode(high << 4 | self.header.rcode())
    }

    fn read_questions<'a>(&mut self, cursor: &mut Cursor<'a>, bytes: &'a [u8]) -> Option<()> {
        let [questions, ..] = self.header.counts;
        for _ in 0..questions {
            let question = Question::read(cursor, bytes)?;
            if self.questions.len() < KEPT {
                self.questions.push(question);
            } else {
                self.omitted += 1;
            }
        }
        Some(())
    }

    /// Says whether all data fits its type.
    fn read_records<'a>(&mut self, cursor: &mut Cursor<'a>, bytes: &'a [u8], value: usize) -> Option<bool> {
        let [_, answers, authorities, additionals] = self.header.counts;
        let mut fits = true;
        for (section, count) in
            [(Section::Answer, answers), (Section::Authority, authorities), (Section::Additional, additionals)]
        {
            for place in 0..count {
                let raw = RawRecord::read(cursor, bytes)?;
                fits &= self.take_record(section, place, raw, bytes, value);
            }
        }
        Some(fits)
    }

    fn take_record(&mut self, section: Section, place: u16, raw: RawRecord<'_>, bytes: &[u8], value: usize) -> bool {
        if raw.kind == Type::OPT && section == Section::Additional && self.edns.is_none() {
            let (edns, fits) = Edns::read(&raw);
            self.edns = Some(edns);
            return fits;
        }
        if let (Type::SOA, Some(serial)) = (raw.kind, raw.soa_serial()) {
            match section {
                Section::Answer => self.answer_soas.push((place, serial)),
                Section::Authority => self.authority_soa = Some(serial),
                Section::Additional => {}
            }
        }
        if self.answers.len() + self.authorities.len() + self.additionals.len() >= KEPT {
            self.omitted += 1;
            return true;
        }
        let (record, fits) = raw.keep(bytes, value);
        match section {
            Section::Answer => self.answers.push(record),
            Section::Authority => self.authorities.push(record),
            Section::Additional => self.additionals.push(record),
        }
        fits
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record before its data is looked at.
pub(super) struct RawRecord<'a> {
    name: Name,
    pub(super) kind: Type,
    class: u16,
    ttl: u32,
    data: &'a [u8],
    data_start: usize,
}

impl<'a> RawRecord<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>, message: &'a [u8]) -> Option<Self> {
        let name = Name::read(cursor, message)?;
        let (kind, class, ttl) = (Type(cursor.u16_be()?), cursor.u16_be()?, cursor.u32_be()?);
        let length = usize::from(cursor.u16_be()?);
        let data_start = cursor.position();
        let data = cursor.take(length)?;
        Some(Self { name, kind, class, ttl, data, data_start })
    }

    /// The serial is the first of the five numbers that end the data.
    fn soa_serial(&self) -> Option<u32> {
        let numbers = self.data.len().checked_sub(20)?;
        Cursor::new(self.data.get(numbers..)?).u32_be()
    }

    fn keep(self, message: &[u8], value: usize) -> (Record, bool) {
        let (mut data, fits) = present(self.kind, self.data, message, self.data_start);
        let cut = data.len() > value;
        data.truncate(data.floor_char_boundary(value));
        let (class, cache_flush) = Class::split(self.class);
        let record = Record {
            name: self.name,
            kind: self.kind,
            class: (class != Class::IN).then_some(class),
            ttl: self.ttl,
            data,
            data_bytes: u16::try_from(self.data.len()).ok().filter(|_| cut),
            cache_flush,
        };
        (record, fits)
    }
}

impl Edns {
    /// RFC 6891 §6.1.3: the class is a size, the TTL holds the rest of the response code, version and flags.
    fn read(raw: &RawRecord<'_>) -> (Self, bool) {
        let [rcode, version, flags, _] = raw.ttl.to_be_bytes();
        let mut options = Vec::new();
        let mut cursor = Cursor::new(raw.data);
        let mut fits = true;
        while !cursor.rest().is_empty() && fits {
            match EdnsOption::read(&mut cursor) {
                Some(option) if options.len() < KEPT => options.push(option),
                Some(_) => {}
                None => fits = false,
            }
        }
        (Self { version, udp_size: raw.class, dnssec_ok: flags & 0x80 != 0, options, rcode }, fits)
    }
}

impl EdnsOption {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let name = OptionCode(cursor.u16_be()?);
        let length = usize::from(cursor.u16_be()?);
        let bytes = cursor.take(length)?;
        let known = match name.name() {
            Some("CLIENT-SUBNET") => client_subnet(bytes),
            Some("EDE") => extended_error(bytes),
            Some("PADDING") => Some(format!("{length} bytes")),
            _ => None,
        };
        let data = known.unwrap_or_else(|| {
            let mut text = String::new();
            hex(&mut text, bytes);
            text
        });
        Some(Self { name, data })
    }
}

/// RFC 7871 §6: family, source and scope prefix length, as much of the address as the source prefix has.
fn client_subnet(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let (family, source, scope) = (cursor.u16_be()?, cursor.u8()?, cursor.u8()?);
    let mut address = [0; 16];
    let prefix = cursor.rest();
    address.get_mut(..prefix.len())?.copy_from_slice(prefix);
    let address = match family {
        1 if prefix.len() <= 4 => Ipv4Addr::from(Cursor::new(&address).array::<4>()?).to_string(),
        2 => Ipv6Addr::from(address).to_string(),
        _ => return None,
    };
    Some(format!("{address}/{source}/{scope}"))
}

/// RFC 8914 §2: a code and text for people.
fn extended_error(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let code = cursor.u16_be()?;
    let mut text = format!("{code} ({})", ExtendedError(code));
    if !cursor.rest().is_empty() {
        write!(text, ": {}", String::from_utf8_lossy(cursor.rest())).ok()?;
    }
    Some(text)
}
