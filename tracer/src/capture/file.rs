//! Reading capture files: pcap and pcapng, plain or compressed with gzip.
//!
//! Records are framed here, with a bound on their size, and parsed by pcap-parser once they are whole: a length that
//! the file claims is never allocated, and every error knows its offset.
//!
//! pcap: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html>; pcapng:
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, LegacyPcapBlock, OptionCode, PcapHeader, SimplePacketBlock,
    parse_block_be, parse_block_le, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use protocols::{Cursor, Time};

use super::packet::{Packet, Wire};

/// Largest record that is believed. libpcap's largest snapshot length is 128 MiB (for USB); network captures stay far
/// below this.
const MAX_RECORD: usize = 16 << 20;

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// Interfaces that one section may describe.
const MAX_INTERFACES: usize = 65_536;

const PCAP_FILE_HEADER: usize = 24;
const PCAP_RECORD_HEADER: usize = 16;
/// Of the "modified" format (magic a1b2cd34): interface, protocol and packet type follow the usual header.
const PCAP_MODIFIED_RECORD_HEADER: usize = 24;
/// Block type, total length, and the byte order magic of a section header.
const BLOCK_HEADER: usize = 12;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// The Packet Block that Enhanced Packet Blocks replaced.
const OBSOLETE_PACKET_BLOCK: u32 = 2;

const NANOSECONDS: u64 = 1_000_000_000;

/// A capture file could not be read further.
#[derive(Debug, thiserror::Error)]
#[error("{file}: at byte {offset}: {problem}")]
pub struct FileError {
    /// Name of the file.
    pub file: String,
    /// Where the record begins that could not be read, counted in the uncompressed file.
    pub offset: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a capture file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Reading failed; for a compressed file also because the compression is broken.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The first bytes are those of no known format.
    #[error("neither pcap nor pcapng")]
    UnknownFormat,
    /// A version of the format that is not known.
    #[error("version {major}.{minor} of the format is not known")]
    UnknownVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The file ends inside a record.
    #[error("the file ends inside a record: {missing} bytes are missing, or more")]
    Truncated {
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// A record is too long to be believed.
    #[error("a record of {length} bytes is not believed (the limit is {MAX_RECORD})")]
    TooLong {
        /// The length that the record claims.
        length: u64,
    },
    /// A record contradicts itself.
    #[error("malformed record")]
    Malformed,
    /// A packet of an interface that the section has not described.
    #[error("a packet of interface {interface}, which the file does not describe")]
    UnknownInterface {
        /// Number of the interface.
        interface: u32,
    },
}

/// Packets of one capture file.
pub struct CaptureFile {
    name: String,
    window: Window,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Pcap { header: PcapHeader },
    Pcapng { big_endian: bool, interfaces: Vec<Interface> },
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    snapshot_length: u32,
    /// `if_tsresol`: a power of ten, or of two with the highest bit set.
    resolution: u8,
    /// `if_tsoffset`: seconds to add.
    offset: i64,
}

impl CaptureFile {
    /// Looks at the beginning of a file. `name` is for messages.
    pub fn open(name: impl Into<String>, source: Box<dyn Read>) -> Result<Self, FileError> {
        let name = name.into();
        let begin = || -> Result<(Window, Format), Problem> {
            let mut window = Window::new(decompress(source)?);
            let format = recognise(&mut window)?;
            Ok((window, format))
        };
        match begin() {
            Ok((window, format)) => Ok(Self { name, window, format }),
            Err(problem) => Err(FileError { file: name, offset: 0, problem }),
        }
    }

    /// Reads the next record and hands out its packet, if it holds one. `false` at the end; after an error there is
    /// nothing more.
    pub fn step(&mut self, each: &mut dyn FnMut(Packet<'_>)) -> Result<bool, FileError> {
        let offset = self.window.offset;
        self.record(each).map_err(|problem| FileError { file: self.name.clone(), offset, problem })
    }

    fn record(&mut self, each: &mut dyn FnMut(Packet<'_>)) -> Result<bool, Problem> {
        if !self.window.fill(1)? {
            return Ok(false);
        }
        let length = self.format.record_length(&mut self.window)?;
        self.window.need(length)?;
        let record = self.window.bytes().get(..length).unwrap_or_default();
        match &mut self.format {
            Format::Pcap { header } => each(pcap_packet(header, record)?),
            Format::Pcapng { big_endian, interfaces } => block(*big_endian, interfaces, record, each)?,
        }
        self.window.consume(length);
        Ok(true)
    }
}

impl Format {
    /// Length of the record that comes next. Learns the byte order of a new section.
    fn record_length(&mut self, window: &mut Window) -> Result<usize, Problem> {
        let length = match self {
            Self::Pcap { header } => {
                let fixed = if header.is_modified_format() { PCAP_MODIFIED_RECORD_HEADER } else { PCAP_RECORD_HEADER };
                let captured = read_u32(window.need(fixed)?, 8, header.is_bigendian());
                u64::from(captured) + fixed as u64
            }
            Self::Pcapng { big_endian, .. } => {
                let head = window.need(BLOCK_HEADER)?;
                // The type of a section header reads the same in both byte orders.
                if read_u32(head, 0, false) == SECTION_HEADER {
                    *big_endian = read_u32(head, 8, true) == pcap_parser::BOM_MAGIC;
                }
                u64::from(read_u32(head, 4, *big_endian))
            }
        };
        match usize::try_from(length) {
            Ok(length) if length > MAX_RECORD => Err(Problem::TooLong { length: length as u64 }),
            Ok(length) if length < BLOCK_HEADER => Err(Problem::Malformed),
            Ok(length) => Ok(length),
            Err(_) => Err(Problem::TooLong { length }),
        }
    }
}

fn pcap_packet<'a>(header: &PcapHeader, record: &'a [u8]) -> Result<Packet<'a>, Problem> {
    let parse = match (header.is_modified_format(), header.is_bigendian()) {
        (true, _) => parse_pcap_frame_modified,
        (false, true) => parse_pcap_frame_be,
        (false, false) => parse_pcap_frame,
    };
    let LegacyPcapBlock { ts_sec, ts_usec, origlen, data, .. } = parse(record).map_err(|_| Problem::Malformed)?.1;
    let fraction = u64::from(ts_usec) * if header.is_nanosecond_precision() { 1 } else { 1000 };
    Ok(Packet {
        // The upper half holds the length of the frame check sequence.
        link_type: header.network.0 as u32 & 0xffff,
        time: Some(Time(u64::from(ts_sec) * NANOSECONDS + fraction)),
        wire: Wire::new(data, origlen as usize),
        comment: None,
    })
}

/// Takes a block: what it says of the file, or its packet.
fn block(
    big_endian: bool,
    interfaces: &mut Vec<Interface>,
    record: &[u8],
    each: &mut dyn FnMut(Packet<'_>),
) -> Result<(), Problem> {
    let parse = if big_endian { parse_block_be } else { parse_block_le };
    match parse(record).map_err(|_| Problem::Malformed)?.1 {
        Block::SectionHeader(block) => {
            known_version(1, block.major_version, block.minor_version)?;
            interfaces.clear();
        }
        Block::InterfaceDescription(block) if interfaces.len() < MAX_INTERFACES => {
            interfaces.push(Interface::new(&block, big_endian));
        }
        Block::InterfaceDescription(_) => return Err(Problem::Malformed),
        Block::EnhancedPacket(block) => each(enhanced(interfaces, &block)?),
        Block::SimplePacket(block) => each(simple(interfaces, &block)?),
        Block::Unknown(block) if read_u32(record, 0, big_endian) == OBSOLETE_PACKET_BLOCK => {
            each(obsolete(interfaces, block.data, big_endian)?);
        }
        _ => {}
    }
    Ok(())
}

fn described(interfaces: &[Interface], interface: u32) -> Result<&Interface, Problem> {
    interfaces.get(interface as usize).ok_or(Problem::UnknownInterface { interface })
}

fn enhanced<'a>(interfaces: &[Interface], block: &'a EnhancedPacketBlock<'_>) -> Result<Packet<'a>, Problem> {
    let interface = described(interfaces, block.if_id)?;
    let comment = block.options.iter().filter(|option| option.code == OptionCode::Comment);
    Ok(Packet {
        link_type: interface.link_type,
        time: interface.time(block.ts_high, block.ts_low),
        wire: Wire::new(block.packet_data(), block.origlen as usize),
        comment: comment.filter_map(|option| option.as_str().ok()).next(),
    })
}

/// A simple packet block tells neither its time nor its captured length; it belongs to the first interface.
fn simple<'a>(interfaces: &[Interface], block: &'a SimplePacketBlock<'_>) -> Result<Packet<'a>, Problem> {
    let interface = described(interfaces, 0)?;
    let data = block.packet_data();
    let captured = match interface.snapshot_length as usize {
        0 => data,
        limit => data.get(..limit).unwrap_or(data),
    };
    let wire = Wire::new(captured, block.origlen as usize);
    Ok(Packet { link_type: interface.link_type, time: None, wire, comment: None })
}

fn obsolete<'a>(interfaces: &[Interface], data: &'a [u8], big_endian: bool) -> Result<Packet<'a>, Problem> {
    let mut cursor = Cursor::new(data);
    let interface = if big_endian { cursor.u16_be() } else { cursor.u16_le() };
    let _drops = cursor.take(2);
    let mut next = || if big_endian { cursor.u32_be() } else { cursor.u32_le() };
    let fields = (interface, next(), next(), next(), next());
    let (Some(interface), Some(high), Some(low), Some(captured), Some(length)) = fields else {
        return Err(Problem::Malformed);
    };
    let bytes = cursor.take(captured as usize).ok_or(Problem::Malformed)?;
    let interface = described(interfaces, interface.into())?;
    let wire = Wire::new(bytes, length as usize);
    Ok(Packet { link_type: interface.link_type, time: interface.time(high, low), wire, comment: None })
}

impl Interface {
    fn new(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        let value = |code| block.options.iter().find(|option| option.code == code).and_then(|o| o.as_bytes().ok());
        let offset = value(OptionCode::IfTsoffset).and_then(|bytes| bytes.try_into().ok());
        let order = if big_endian { i64::from_be_bytes } else { i64::from_le_bytes };
        Self {
            link_type: block.linktype.0 as u32 & 0xffff,
            snapshot_length: block.snaplen,
            resolution: value(OptionCode::IfTsresol).and_then(|bytes| bytes.first().copied()).unwrap_or(6),
            offset: offset.map(order).unwrap_or_default(),
        }
    }

    /// Nanoseconds since 1970; `None` if the stamp lies outside of what 64 bits can hold of them.
    fn time(&self, high: u32, low: u32) -> Option<Time> {
        let stamp = u128::from(high) << 32 | u128::from(low);
        let exponent = u32::from(self.resolution & 0x7f);
        let units = match self.resolution & 0x80 {
            0 => 10_u128.checked_pow(exponent)?,
            _ => 1_u128.checked_shl(exponent)?,
        };
        let since = i128::try_from(stamp.checked_mul(NANOSECONDS.into())? / units).ok()?;
        let nanoseconds = since + i128::from(self.offset) * i128::from(NANOSECONDS);
        u64::try_from(nanoseconds).ok().map(Time)
    }
}

/// Starts decompressing if the file is compressed.
fn decompress(mut source: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let mut head = Vec::new();
    source.by_ref().take(2).read_to_end(&mut head)?;
    let compressed = head == [0x1f, 0x8b];
    let whole = io::Cursor::new(head).chain(source);
    Ok(if compressed { Box::new(MultiGzDecoder::new(io::BufReader::new(whole))) } else { Box::new(whole) })
}

fn recognise(window: &mut Window) -> Result<Format, Problem> {
    window.fill(4)?;
    if window.bytes().is_empty() {
        return Err(Problem::Truncated { missing: PCAP_FILE_HEADER });
    }
    let magic = window.bytes().get(..4).ok_or(Problem::UnknownFormat)?;
    if read_u32(magic, 0, false) == SECTION_HEADER {
        return Ok(Format::Pcapng { big_endian: false, interfaces: Vec::new() });
    }
    const MAGICS: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
    if ![true, false].iter().any(|&big_endian| MAGICS.contains(&read_u32(magic, 0, big_endian))) {
        return Err(Problem::UnknownFormat);
    }
    let (_, header) = parse_pcap_header(window.need(PCAP_FILE_HEADER)?).map_err(|_| Problem::UnknownFormat)?;
    known_version(2, header.version_major, header.version_minor)?;
    window.consume(PCAP_FILE_HEADER);
    Ok(Format::Pcap { header })
}

fn known_version(known: u16, major: u16, minor: u16) -> Result<(), Problem> {
    if major == known { Ok(()) } else { Err(Problem::UnknownVersion { major, minor }) }
}

/// The four bytes at `at`; 0 where there are none.
fn read_u32(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let mut cursor = Cursor::new(bytes.get(at..).unwrap_or_default());
    let value = if big_endian { cursor.u32_be() } else { cursor.u32_le() };
    value.unwrap_or_default()
}

/// What has been read and not consumed.
struct Window {
    source: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    /// Place of `start` in the file.
    offset: u64,
    /// Why nothing more can be read.
    failed: Option<io::Error>,
}

impl Window {
    fn new(source: Box<dyn Read>) -> Self {
        Self { source, buffer: Vec::new(), start: 0, offset: 0, failed: None }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Reads until `length` bytes are there; says whether they are. Grows only by what was really read. An error, such
    /// as that of a compressed file which was cut off, counts only once what came before it is used up.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        while self.bytes().len() < length {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.source.by_ref().take(READ as u64).read_to_end(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(true)
    }

    /// The next bytes, `length` of them at least.
    fn need(&mut self, length: usize) -> Result<&[u8], Problem> {
        if self.fill(length)? {
            Ok(self.bytes())
        } else {
            Err(Problem::Truncated { missing: length - self.bytes().len() })
        }
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
