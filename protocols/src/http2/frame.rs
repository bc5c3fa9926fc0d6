//! Frames (RFC 9113, sections 4 and 6) and what makes bytes look like one.

use crate::{Cursor, Violation};

/// What a client's side of a connection begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header.
pub(super) const HEADER: usize = 9;

/// The largest payload before SETTINGS_MAX_FRAME_SIZE allows more.
pub(super) const DEFAULT_MAX_FRAME: u32 = 16_384;

/// The largest payload that SETTINGS_MAX_FRAME_SIZE can allow.
pub(super) const LARGEST_FRAME: u32 = (1 << 24) - 1;

pub(super) mod flag {
    pub(in crate::http2) const ACK: u8 = 0x1;
    pub(in crate::http2) const END_STREAM: u8 = 0x1;
    pub(in crate::http2) const END_HEADERS: u8 = 0x4;
    pub(in crate::http2) const PADDED: u8 = 0x8;
    pub(in crate::http2) const PRIORITY: u8 = 0x20;
}

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    Goaway,
    WindowUpdate,
    Continuation,
    /// ALTSVC (RFC 7838), ORIGIN (RFC 8336), PRIORITY_UPDATE (RFC 9218): known to exist, of no interest.
    Extension,
    Unknown,
}

impl Kind {
    fn of(code: u8) -> Self {
        match code {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::RstStream,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::Goaway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            0xa | 0xc | 0x10 => Self::Extension,
            _ => Self::Unknown,
        }
    }

    /// The flags that are defined for this type.
    fn flags(self) -> u8 {
        use flag::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY};
        match self {
            Self::Data => END_STREAM | PADDED,
            Self::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            Self::PushPromise => END_HEADERS | PADDED,
            Self::Settings | Self::Ping => ACK,
            Self::Continuation => END_HEADERS,
            Self::Priority | Self::RstStream | Self::Goaway | Self::WindowUpdate | Self::Extension => 0,
            Self::Unknown => u8::MAX,
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    reserved: bool,
}

impl FrameHeader {
    /// Reads the header that `bytes` begins with, if all of it is there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let [high, middle, low] = cursor.array()?;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let kind = Kind::of(cursor.u8()?);
        let flags = cursor.u8()?;
        let stream = cursor.u32_be()?;
        Some(Self { length, kind, flags, stream: stream & 0x7fff_ffff, reserved: stream >> 31 != 0 })
    }

    /// Whether `flag` is set.
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What every peer has to treat as an error of the connection: in an observer, a sign that framing is lost.
    pub(super) fn check(&self, max_frame: u32) -> Result<(), Violation> {
        let connection = self.stream == 0;
        let fits = match self.kind {
            Kind::Data | Kind::Headers | Kind::PushPromise | Kind::Continuation => !connection,
            Kind::Priority => !connection && self.length == 5,
            Kind::RstStream => !connection && self.length == 4,
            Kind::Settings if self.has(flag::ACK) => connection && self.length == 0,
            Kind::Settings => connection && self.length.is_multiple_of(6),
            Kind::Ping => connection && self.length == 8,
            Kind::Goaway => connection && self.length >= 8,
            Kind::WindowUpdate => self.length == 4,
            Kind::Extension | Kind::Unknown => true,
        };
        match fits {
            true if self.length <= max_frame => Ok(()),
            true => Err(Violation("frame_size")),
            false => Err(Violation("frame_header")),
        }
    }

    /// Whether a well-behaved peer would send this: stricter than [`Self::check`], for telling frames from other
    /// bytes.
    pub(super) fn is_plausible(&self, max_frame: u32) -> bool {
        let least = match self.kind {
            Kind::Headers => 1,
            Kind::PushPromise => 5,
            _ => 0,
        };
        let parity = self.kind != Kind::PushPromise || !self.stream.is_multiple_of(2);
        self.kind != Kind::Unknown
            && !self.reserved
            && self.flags & !self.kind.flags() == 0
            && self.length >= least
            && parity
            && self.check(max_frame).is_ok()
    }
}

/// Takes padding and priority off a payload (RFC 9113, sections 6.1 to 6.3); `payload` may be cut short and `length`
/// is what it would be. `None` if the padding is longer than the payload.
pub(super) fn fragment(header: &FrameHeader, payload: &[u8]) -> Option<(usize, usize)> {
    let length = header.length as usize;
    let padded = header.has(flag::PADDED) && matches!(header.kind, Kind::Headers | Kind::PushPromise);
    let padding = if padded { usize::from(*payload.first()?) } else { 0 };
    let mut start = usize::from(padded);
    if header.kind == Kind::Headers && header.has(flag::PRIORITY) {
        start += 5;
    }
    let end = length.checked_sub(padding).filter(|&end| end >= start)?;
    Some((start, end))
}

/// The settings that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    MaxFrameSize(u32),
    /// Defined, and its value is one that it may have.
    Other,
    /// Undefined, or its value is not one that it may have.
    Odd,
}

/// The settings of a SETTINGS payload, in their order.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = Setting> + '_ {
    let mut cursor = Cursor::new(payload);
    std::iter::from_fn(move || {
        let (id, value) = (cursor.u16_be()?, cursor.u32_be()?);
        Some(match id {
            // HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE
            1 | 3 | 6 => Setting::Other,
            // ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL (RFC 8441), NO_RFC7540_PRIORITIES (RFC 9218), and that of gRPC
            // for binary metadata
            2 | 8 | 9 | 0xfe03 if value <= 1 => Setting::Other,
            // INITIAL_WINDOW_SIZE
            4 if value >> 31 == 0 => Setting::Other,
            5 if (DEFAULT_MAX_FRAME..=LARGEST_FRAME).contains(&value) => Setting::MaxFrameSize(value),
            // Reserved to keep implementations tolerant: 0x0a0a, 0x1a1a, … (draft-bishop-httpbis-grease)
            id if id & 0x0f0f == 0x0a0a && id >> 12 == id >> 4 & 0xf => Setting::Other,
            _ => Setting::Odd,
        })
    })
}

/// The name of an error code (RFC 9113, section 7).
pub(super) fn error_name(code: u32) -> Option<&'static str> {
    Some(match code {
        0x0 => "NO_ERROR",
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, code: u8, flags: u8, stream: u32) -> FrameHeader {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([code, flags]);
        bytes.extend(stream.to_be_bytes());
        FrameHeader::read(&bytes).unwrap()
    }

    #[test]
    fn a_header_is_read() {
        assert_eq!(FrameHeader::read(&[0; 8]), None);
        let read = FrameHeader::read(&[0x01, 0x02, 0x03, 0x01, 0x25, 0x80, 0, 0, 0x07, 0xff]).unwrap();
        assert_eq!((read.length, read.kind, read.flags, read.stream), (0x01_0203, Kind::Headers, 0x25, 7));
        assert!(read.reserved && read.has(flag::PRIORITY) && !read.has(flag::PADDED));
    }

    #[test]
    fn headers_that_are_errors_and_headers_that_are_odd() {
        for (name, header, allowed, plausible) in [
            ("data", header(5, 0, 1, 1), true, true),
            ("data on stream 0", header(5, 0, 0, 0), false, false),
            ("data with an undefined flag", header(5, 0, 0x40, 1), true, false),
            ("data too long", header(16_385, 0, 0, 1), false, false),
            ("empty headers", header(0, 1, 4, 1), true, false),
            ("priority", header(5, 2, 0, 1), true, true),
            ("priority too short", header(4, 2, 0, 1), false, false),
            ("reset", header(4, 3, 0, 1), true, true),
            ("reset of stream 0", header(4, 3, 0, 0), false, false),
            ("settings", header(12, 4, 0, 0), true, true),
            ("settings on a stream", header(12, 4, 0, 1), false, false),
            ("settings cut", header(13, 4, 0, 0), false, false),
            ("settings ack with payload", header(6, 4, 1, 0), false, false),
            ("promise by the client's parity", header(10, 5, 4, 2), true, false),
            ("ping", header(8, 6, 1, 0), true, true),
            ("ping too long", header(9, 6, 0, 0), false, false),
            ("goaway", header(8, 7, 0, 0), true, true),
            ("goaway too short", header(7, 7, 0, 0), false, false),
            ("window update of the connection", header(4, 8, 0, 0), true, true),
            ("window update of a stream", header(4, 8, 0, 3), true, true),
            ("window update too long", header(5, 8, 0, 3), false, false),
            ("continuation of nothing", header(5, 9, 4, 0), false, false),
            ("priority update", header(9, 0x10, 0, 0), true, true),
            ("unknown", header(9, 0x77, 0x55, 9), true, false),
        ] {
            assert_eq!(header.check(DEFAULT_MAX_FRAME).is_ok(), allowed, "{name}");
            assert_eq!(header.is_plausible(DEFAULT_MAX_FRAME), plausible, "{name}");
        }
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        for (name, header, payload, expected) in [
            ("plain", header(3, 1, 4, 1), &b"abc"[..], Some((0, 3))),
            ("padded", header(6, 1, 0xc, 1), b"\x02abc\0\0", Some((1, 4))),
            ("priority", header(8, 1, 0x24, 1), b"ppppwabc", Some((5, 8))),
            ("both", header(10, 1, 0x2c, 1), b"\x01ppppwabc\0", Some((6, 9))),
            ("all padding", header(3, 1, 0xc, 1), b"\x02\0\0", Some((1, 1))),
            ("too much padding", header(3, 1, 0xc, 1), b"\x03\0\0", None),
            ("promise", header(7, 5, 0xc, 1), b"\x01\0\0\0\x02a\0", Some((1, 6))),
            ("continuation has no padding", header(3, 9, 0xc, 1), b"\x02ab", Some((0, 3))),
            ("cut short", header(6, 1, 0xc, 1), b"\x02a", Some((1, 4))),
        ] {
            assert_eq!(fragment(&header, payload), expected, "{name}");
        }
    }

    #[test]
    fn settings_are_read_to_the_last_whole_one() {
        let payload = [0, 5, 0, 0, 0x80, 0, 0, 4, 0x80, 0, 0, 0, 0x7a, 0xca, 0, 0, 0, 9, 0, 2, 0, 0];
        let read: Vec<_> = settings(&payload).collect();
        assert_eq!(read, [Setting::MaxFrameSize(32_768), Setting::Odd, Setting::Odd]);
        assert_eq!(settings(&[0x0a, 0x1a, 0, 0, 0, 9]).next(), Some(Setting::Odd));
        assert_eq!(settings(&[0x1a, 0x1a, 0, 0, 0, 9]).next(), Some(Setting::Other));
    }
}
