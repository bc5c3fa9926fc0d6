//! Writing the blocks of a pcapng file: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

const COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const NANOSECONDS: u8 = 9;

/// LINKTYPE_RAW: IPv4 or IPv6 without a link layer.
const LINK_TYPE_RAW: u16 = 101;

/// A block being built: its body, to which type and length are added when it is written.
#[derive(Default)]
struct Block(Vec<u8>);

impl Block {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn option(self, code: u16, value: &[u8]) -> io::Result<Self> {
        let length = u16::try_from(value.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a pcapng option holds at most 65535 bytes"))?;
        Ok(self.bytes(&code.to_le_bytes()).bytes(&length.to_le_bytes()).bytes(value).pad())
    }

    fn write(self, kind: u32, out: &mut dyn Write) -> io::Result<()> {
        let end_of_options = [0; 4];
        let body = self.bytes(&end_of_options).0;
        let length = u32::try_from(body.len() + 12)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a pcapng block holds at most 4 GiB"))?;
        out.write_all(&kind.to_le_bytes())?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&body)?;
        out.write_all(&length.to_le_bytes())
    }
}

/// The head of a file with one interface: raw IP, times in nanoseconds.
pub fn write_head(out: &mut dyn Write) -> io::Result<()> {
    let application = concat!("tracer ", env!("CARGO_PKG_VERSION"));
    Block::default()
        .bytes(&BYTE_ORDER_MAGIC.to_le_bytes())
        .bytes(&1_u16.to_le_bytes())
        .bytes(&0_u16.to_le_bytes())
        .bytes(&u64::MAX.to_le_bytes())
        .option(SHB_USERAPPL, application.as_bytes())?
        .write(SECTION_HEADER, out)?;
    let no_snapshot_length = 0_u32;
    Block::default()
        .bytes(&LINK_TYPE_RAW.to_le_bytes())
        .bytes(&[0; 2])
        .bytes(&no_snapshot_length.to_le_bytes())
        .option(IF_NAME, b"tracer")?
        .option(IF_TSRESOL, &[NANOSECONDS])?
        .write(INTERFACE_DESCRIPTION, out)
}

/// One packet of `length` bytes, of which `packet` was captured. `time`: nanoseconds since 1970-01-01 UTC.
pub fn write_packet(out: &mut dyn Write, time: u64, packet: &[u8], length: u64, comment: &str) -> io::Result<()> {
    let saturated = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    Block::default()
        .bytes(&0_u32.to_le_bytes())
        .bytes(&((time >> 32) as u32).to_le_bytes())
        .bytes(&(time as u32).to_le_bytes())
        .bytes(&saturated(packet.len() as u64).to_le_bytes())
        .bytes(&saturated(length).to_le_bytes())
        .bytes(packet)
        .pad()
        .option(COMMENT, comment.as_bytes())?
        .write(ENHANCED_PACKET, out)
}
