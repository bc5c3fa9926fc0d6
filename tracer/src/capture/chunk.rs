//! The chunks of an SCTP packet (RFC 9260 section 3).

use protocols::Cursor;

use super::ledger::Skip;
use super::packet::Wire;

/// What a chunk begins with: type, flags, length (section 3.2).
const CHUNK_HEADER: usize = 4;

/// What is of interest in a packet.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    Data(Data<'a>),
    /// INIT, or INIT ACK.
    Init(Init),
    /// The receiver has everything up to this TSN.
    Sack(u32),
    /// The sender has given up what was before this TSN and has not arrived (RFC 3758).
    ForwardTsn(u32),
    /// As SACK, and the sender has nothing more to send, and nothing that has not arrived (section 9.2).
    Shutdown(u32),
    /// SHUTDOWN ACK, SHUTDOWN COMPLETE or ABORT. `reflected`: the packet has the tag of its own sender (section 8.5.1).
    Over {
        reflected: bool,
    },
}

/// A DATA chunk (section 3.3.1).
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    pub tsn: u32,
    pub place: InStream,
    pub user: Wire<'a>,
}

/// Where a chunk stands in its stream.
#[derive(Clone, Copy, Debug)]
pub struct InStream {
    pub stream: u16,
    pub sequence: u16,
    pub unordered: bool,
    /// First and last of a message.
    pub first: bool,
    pub last: bool,
}

/// INIT and INIT ACK (sections 3.3.2 and 3.3.3).
#[derive(Clone, Copy, Debug)]
pub struct Init {
    pub answer: bool,
    /// What packets to its sender have as their verification tag.
    pub tag: u32,
    pub tsn: u32,
}

/// The chunks of a packet, up to where the capture cut it off. A packet that contradicts itself is not believed at all.
pub fn chunks(payload: Wire<'_>) -> Result<Vec<Chunk<'_>>, Skip> {
    let mut chunks = Vec::new();
    let mut rest = payload;
    loop {
        let known = match chunk(rest) {
            Err(Skip::CutOff) if rest.length < payload.length => return Ok(chunks),
            result => result?,
        };
        chunks.extend(known.chunk);
        match rest.behind_uncaptured(known.length.next_multiple_of(4)) {
            Some(behind) if behind.length >= CHUNK_HEADER => rest = behind,
            _ => return Ok(chunks),
        }
    }
}

struct Known<'a> {
    length: usize,
    chunk: Option<Chunk<'a>>,
}

fn chunk(wire: Wire<'_>) -> Result<Known<'_>, Skip> {
    let mut cursor = Cursor::new(fixed(wire, CHUNK_HEADER)?);
    let mut header = || Some((cursor.u8()?, cursor.u8()?, usize::from(cursor.u16_be()?)));
    let (kind, flags, length) = header().ok_or(Skip::CutOff)?;
    if length < CHUNK_HEADER || length > wire.length {
        return Err(Skip::Malformed);
    }
    let body = wire.with_length(length).behind(CHUNK_HEADER).ok_or(Skip::CutOff)?;
    let chunk = match kind {
        0 => Some(Chunk::Data(data(flags, body)?)),
        1 | 2 => Some(Chunk::Init(init(kind == 2, body)?)),
        3 => Some(Chunk::Sack(number(body)?)),
        7 => Some(Chunk::Shutdown(number(body)?)),
        6 | 8 | 14 => Some(Chunk::Over { reflected: flags & 1 != 0 }),
        // I-DATA (RFC 8260) carries data, by other numbers.
        64 => return Err(Skip::SctpChunk(kind)),
        192 => Some(Chunk::ForwardTsn(number(body)?)),
        _ => None,
    };
    Ok(Known { length, chunk })
}

/// The first `length` bytes, which every one of a kind has.
fn fixed(wire: Wire<'_>, length: usize) -> Result<&[u8], Skip> {
    if wire.length < length {
        return Err(Skip::Malformed);
    }
    wire.bytes.get(..length).ok_or(Skip::CutOff)
}

fn number(body: Wire<'_>) -> Result<u32, Skip> {
    Cursor::new(fixed(body, 4)?).u32_be().ok_or(Skip::CutOff)
}

fn data(flags: u8, body: Wire<'_>) -> Result<Data<'_>, Skip> {
    const FIXED: usize = 12;
    let mut cursor = Cursor::new(fixed(body, FIXED)?);
    let mut fields = || Some((cursor.u32_be()?, cursor.u16_be()?, cursor.u16_be()?));
    let (tsn, stream, sequence) = fields().ok_or(Skip::CutOff)?;
    let [last, first, unordered] = [1, 2, 4].map(|bit| flags & bit != 0);
    let user = body.behind(FIXED).ok_or(Skip::CutOff)?;
    Ok(Data { tsn, place: InStream { stream, sequence, unordered, first, last }, user })
}

fn init(answer: bool, body: Wire<'_>) -> Result<Init, Skip> {
    let mut cursor = Cursor::new(fixed(body, 16)?);
    let mut fields = || {
        let tag = cursor.u32_be()?;
        cursor.take(8)?;
        Some((tag, cursor.u32_be()?))
    };
    let (tag, tsn) = fields().ok_or(Skip::CutOff)?;
    Ok(Init { answer, tag, tsn })
}
