//! The compressed protocol: packets inside of packets that may be compressed with zlib or zstd.
//!
//! An outer packet has the length of its payload, a sequence id and the length of what the payload decompresses to;
//! zero if it is not compressed. What they hold is one stream of ordinary packets. Which compression it is shows in
//! the first bytes of each payload.

use flate2::{Decompress, FlushDecompress};
use ruzstd::decoding::FrameDecoder;

use super::packet::Packet;
use super::wire;
use crate::{Cursor, Input, Span, Violation};

/// Length of the payload, sequence id, length before compression.
pub(super) const HEADER: usize = 7;

/// Bytes that are decompressed at a time.
const CHUNK: usize = 16 * 1024;

/// The most that is held of a payload that is decompressed as a whole (zstd), and what it may become.
const HELD: usize = 256 * 1024;
const BECOMES: u32 = 1 << 20;

/// Shorter content is not compressed, and so holds whole packets.
const SHORT: u32 = 50;

/// First byte of a zlib stream as every implementation writes it.
const ZLIB: u8 = 0x78;
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Header of an outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outer {
    length: u32,
    sequence: u8,
    /// Zero if the payload is not compressed.
    becomes: u32,
}

impl Outer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let (length, sequence) = wire::u24(&mut cursor).zip(cursor.u8())?;
        Some(Self { length, sequence, becomes: wire::u24(&mut cursor)? })
    }
}

/// What some bytes hold, or the start of it, if they begin with an outer packet.
pub(super) fn first_content(bytes: &[u8]) -> Option<Vec<u8>> {
    let outer = Outer::read(bytes)?;
    let payload = bytes.get(HEADER..)?;
    let whole = payload.get(..outer.length as usize);
    if outer.becomes == 0 {
        return whole.filter(|payload| !payload.is_empty()).map(<[u8]>::to_vec);
    }
    let mut current = Current::new(outer, Span::default());
    let (_, content) = current.decode(whole.unwrap_or(payload)).ok()?;
    Some(content).filter(|content| !content.is_empty())
}

/// Whether an outer packet of a command, or of the start of a response, may begin here.
pub(super) fn begins(bytes: &[u8], sequence: u8) -> bool {
    let Some(outer) = Outer::read(bytes) else { return false };
    let payload = bytes.get(HEADER..).unwrap_or_default();
    let compressed = payload.first() == Some(&ZLIB) || payload.starts_with(&ZSTD);
    let stored = || holds_first_packet(payload, outer.length, sequence);
    outer.sequence == sequence && outer.length > 0 && if outer.becomes == 0 { stored() } else { compressed }
}

/// Bytes of an outer packet that tell whether one begins.
pub(super) const TELLING: usize = HEADER + wire::HEADER;

/// Whether content that is not compressed begins with a command, or with the first packet of a response. Behind a lost
/// header a short packet looks like the header of an outer one.
fn holds_first_packet(content: &[u8], length: u32, sequence: u8) -> bool {
    let mut cursor = Cursor::new(content);
    let Some((inner, inner_sequence)) = wire::u24(&mut cursor).zip(cursor.u8()) else { return false };
    let fits = inner > 0 && length >= wire::HEADER as u32 && (length >= SHORT || inner <= length - wire::HEADER as u32);
    fits && (inner_sequence == 0) == (sequence == 0)
}

/// Decompresses a whole zstd frame; `None` if it is none, or not of that length.
fn unzstd(payload: &[u8], becomes: u32) -> Option<Vec<u8>> {
    if becomes > BECOMES || window(payload)? > u64::from(BECOMES) {
        return None;
    }
    let mut content = vec![0; becomes as usize];
    let made = FrameDecoder::new().decode_all(payload, &mut content).ok()?;
    (made == content.len()).then_some(content)
}

/// How much memory a zstd frame asks for (RFC 8878, 3.1.1.1).
fn window(frame: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(frame.get(ZSTD.len()..)?);
    let descriptor = cursor.u8()?;
    if descriptor & 0x20 == 0 {
        let window = cursor.u8()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = match descriptor & 3 {
        3 => 4,
        length => length.into(),
    };
    cursor.take(dictionary)?;
    Some(match descriptor >> 6 {
        0 => cursor.u8()?.into(),
        1 => u64::from(cursor.u16_le()?) + 256,
        2 => cursor.u32_le()?.into(),
        _ => cursor.array().map(u64::from_le_bytes)?,
    })
}

#[derive(Debug)]
enum Decoder {
    Stored,
    /// Which compression it is has not been seen.
    Unknown,
    Zlib(Box<Decompress>),
    /// Bytes that wait for the rest.
    Zstd(Vec<u8>),
    /// Nothing can be made of the rest.
    Ignored,
}

/// One outer packet of which more is to come.
#[derive(Debug)]
pub(super) struct Current {
    /// Bytes of the payload that are to come.
    left: u32,
    becomes: u32,
    decoder: Decoder,
    first: Span,
    /// Bytes on the wire, header included.
    size: u64,
    /// How many of them a packet was charged with, or none will be.
    charged: u64,
    /// How much of its content was given.
    given: u64,
}

impl Current {
    fn new(outer: Outer, first: Span) -> Self {
        let decoder = if outer.becomes == 0 { Decoder::Stored } else { Decoder::Unknown };
        let size = HEADER as u64 + u64::from(outer.length);
        Self { left: outer.length, becomes: outer.becomes, decoder, first, size, charged: 0, given: 0 }
    }

    /// Takes some of `payload`: says how much, and what it holds. There may be more where nothing is left to take.
    pub(super) fn decode(&mut self, payload: &[u8]) -> Result<(usize, Vec<u8>), Violation> {
        let payload = payload.get(..self.left as usize).unwrap_or(payload);
        if payload.is_empty() && !matches!(self.decoder, Decoder::Zlib(_)) {
            return Ok((0, Vec::new()));
        }
        if let Decoder::Unknown = self.decoder {
            self.decoder = match payload.first() {
                Some(&ZLIB) => Decoder::Zlib(Box::new(Decompress::new(true))),
                Some(first) if *first == ZSTD[0] => Decoder::Zstd(Vec::new()),
                _ => return Err(Violation("compression")),
            };
        }
        let (consumed, content) = match &mut self.decoder {
            Decoder::Stored => (payload.len(), payload.to_vec()),
            Decoder::Zlib(decoder) => inflate(decoder, payload, self.becomes)?,
            Decoder::Zstd(held) => {
                held.extend_from_slice(payload);
                let whole = payload.len() == self.left as usize;
                let content = if whole { unzstd(held, self.becomes) } else { Some(Vec::new()) };
                let content = content.filter(|_| held.len() <= HELD).ok_or(Violation("compressed_content"))?;
                (payload.len(), content)
            }
            Decoder::Unknown | Decoder::Ignored => (payload.len(), Vec::new()),
        };
        self.left -= consumed as u32;
        Ok((consumed, content))
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Passes over the rest.
    pub(super) fn ignore(&mut self) {
        self.decoder = Decoder::Ignored;
        self.charged = self.size;
    }

    /// Notes that some content was given; says how much was given before.
    pub(super) fn give(&mut self, content: &[u8]) -> u64 {
        let before = self.given;
        self.given += content.len() as u64;
        before
    }

    /// The bytes on the wire of its content up to `end` that were not charged: of what was compressed as one, each
    /// packet has its share by length.
    pub(super) fn charge(&mut self, end: u64) -> u64 {
        let payload = self.size - HEADER as u64;
        let content = if self.becomes == 0 { payload } else { self.becomes.into() };
        self.charge_up_to(HEADER as u64 + payload * end.min(content) / content.max(1))
    }

    /// All bytes on the wire that were not charged: what the compression writes behind the last packet is that packet's.
    pub(super) fn charge_rest(&mut self) -> u64 {
        self.charge_up_to(self.size)
    }

    fn charge_up_to(&mut self, bytes: u64) -> u64 {
        let more = bytes.saturating_sub(self.charged);
        self.charged += more;
        more
    }
}

fn inflate(decoder: &mut Decompress, payload: &[u8], becomes: u32) -> Result<(usize, Vec<u8>), Violation> {
    let (read, made) = (decoder.total_in(), decoder.total_out());
    // One byte more than it may become: then it shows.
    let room = u64::from(becomes) + 1 - made.min(u64::from(becomes));
    let mut content = vec![0; CHUNK.min(room as usize)];
    decoder.decompress(payload, &mut content, FlushDecompress::Sync).map_err(|_| Violation("compressed_content"))?;
    let (read, now) = ((decoder.total_in() - read) as usize, decoder.total_out());
    content.truncate((now - made) as usize);
    if now > u64::from(becomes) {
        return Err(Violation("compressed_length"));
    }
    // Behind the end of the stream there is nothing of interest.
    let stuck = read == 0 && content.is_empty();
    Ok((if stuck { payload.len() } else { read }, content))
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) current: Option<Current>,
    /// Content that is not enough for a header.
    pub(super) carry: Vec<u8>,
    /// The last packet that was found in the current outer packet, which has not ended.
    pub(super) last: Option<Packet<'static>>,
    /// Content to pass over.
    pub(super) pass: u64,
    /// Bytes on the wire that no packet was charged with.
    pub(super) uncharged: u64,
    /// Content was lost: where a packet begins has to be found again.
    pub(super) lost: bool,
}

impl Stream {
    /// Reads a header; `None` if it is not all there.
    pub(super) fn header(&mut self, input: Input<'_>) -> Option<()> {
        let outer = Outer::read(input.bytes)?;
        let mut current = Current::new(outer, input.span(0));
        if current.is_over() {
            self.uncharged += current.charge_rest();
        } else {
            self.current = Some(current);
        }
        Some(())
    }

    /// When what is being received passed, up to the byte at `end` of the input.
    pub(super) fn span(current: &Current, input: Input<'_>, end: usize) -> Span {
        Span { start: current.first.start, end: input.span(end.saturating_sub(1)).end }
    }

    /// Bytes are missing. Says whether the end of the outer packet is still known.
    pub(super) fn lose(&mut self, length: u64) -> bool {
        self.lose_content();
        let left = self.current.as_ref().and_then(|current| u64::from(current.left).checked_sub(length));
        let Some((current, left)) = self.current.as_mut().zip(left.and_then(|left| u32::try_from(left).ok())) else {
            self.current = None;
            return false;
        };
        current.left = left;
        current.ignore();
        if left == 0 {
            self.current = None;
        }
        true
    }

    /// Nothing can be made of the content before the next outer packet.
    pub(super) fn lose_content(&mut self) {
        self.carry.clear();
        self.pass = 0;
        self.uncharged = 0;
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "hello hello hello hello" as libzstd compresses it.
    const FRAME: &[u8] = b"\x28\xb5\x2f\xfd\x20\x17\x65\0\0\x30hello \x01\0\x99\x4b\x11";

    #[test]
    fn an_outer_packet_holds_the_first_packet_of_a_response() {
        let ok = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
        let outer = [b"\x0b\0\0\x01\0\0\0".as_slice(), ok].concat();
        assert!(begins(&outer, 1));
        assert!(!begins(&outer, 0));
        // Its header is lost.
        assert!(!begins(&[ok.as_slice(), &outer].concat(), 1));
        let ping = b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e";
        assert!(begins(ping, 0));
    }

    #[test]
    fn zstd_is_bounded_by_what_the_header_claims() {
        assert_eq!(window(FRAME), Some(0x17));
        let mut hostile = FRAME.to_vec();
        hostile[4] = 0;
        hostile[5] = 0xff;
        assert!(window(&hostile).unwrap() > 1 << 40);
        assert_eq!(unzstd(&hostile, 23), None);
        assert_eq!(unzstd(FRAME, BECOMES + 1), None);
        assert_eq!(unzstd(FRAME, 23).as_deref(), Some(&b"hello hello hello hello"[..]));
    }
}
