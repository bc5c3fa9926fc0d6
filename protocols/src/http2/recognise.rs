//! Telling HTTP/2 from other bytes: at the start of a connection, in its middle, and behind a gap.

use super::fields::{Fields, Section};
use super::frame::{self, DEFAULT_MAX_FRAME, FrameHeader, HEADER, Kind, PREFACE, Setting, flag};
use super::hpack::Decoder;
use crate::{Boundary, Cursor, Inference, Sender, Side, Transport};

/// Frames that are looked at.
const ENOUGH: usize = 4;

/// Frames in a row that bytes of another kind do not form.
const CERTAIN: usize = 3;

/// Frame headers that are looked at, with those of empty frames.
const WALK: usize = 16;

/// Bytes of a header value that are looked at.
const LONGEST: usize = 64;

/// Header blocks that may be decoded in the search for one boundary.
const BLOCKS: usize = 64;

/// Judges the first bytes of one direction.
///
/// SETTINGS at the start do not tell the server: a client sends them too, and its preface may have passed unseen.
pub(super) fn infer(head: &[u8], _transport: Transport) -> Inference {
    let compared = head.len().min(PREFACE.len());
    if !head.is_empty() && head.get(..compared) == PREFACE.get(..compared) {
        return if compared == PREFACE.len() { Inference::Sure(Sender::Client) } else { Inference::More };
    }
    let mut blocks = BLOCKS;
    let chain = Chain::of(head, DEFAULT_MAX_FRAME, u32::MAX >> 1, &mut blocks);
    match chain {
        Chain { broken: true, .. } => Inference::No,
        Chain { sender: Some(side), .. } => {
            Inference::Sure(if side == Side::Client { Sender::Client } else { Sender::Server })
        }
        Chain { frames: 0, .. } | Chain { frames: 1, exact: false, .. } => Inference::More,
        Chain { frames: ..CERTAIN, .. } => Inference::Maybe(Sender::Either),
        Chain { .. } => Inference::Sure(Sender::Either),
    }
}

/// What the receiver of some bytes knows that helps to find frames in them.
pub(super) struct Knowledge<'a> {
    /// The largest payload that the sender may use.
    pub(super) max_frame: u32,
    /// The highest stream that may be named.
    pub(super) max_stream: u32,
    pub(super) is_open: &'a dyn Fn(u32) -> bool,
}

/// Finds where a frame begins.
pub(super) fn boundary(bytes: &[u8], transfer_start: bool, knowledge: &Knowledge<'_>) -> Boundary {
    let mut blocks = BLOCKS;
    let mut waiting = None;
    for index in 0..bytes.len().saturating_sub(HEADER - 1) {
        let rest = bytes.get(index..).unwrap_or_default();
        let chain = Chain::of(rest, knowledge.max_frame, knowledge.max_stream, &mut blocks);
        if chain.broken {
            continue;
        }
        if chain.is_certain(transfer_start && index == 0, knowledge) {
            return Boundary::At(index);
        }
        waiting = waiting.or(Some(index));
    }
    Boundary::None { discard: waiting.unwrap_or(bytes.len().saturating_sub(HEADER - 1)) }
}

/// The frames that some bytes begin with, if they do.
#[derive(Debug)]
struct Chain {
    /// The header of the first frame.
    first: Option<FrameHeader>,
    /// Whole frames; empty DATA, which is little but zeros, does not count.
    frames: usize,
    /// Whether the bytes end where a frame does.
    exact: bool,
    /// A frame that no peer would send was met.
    broken: bool,
    /// Who sent a frame that only one side sends.
    sender: Option<Side>,
}

impl Chain {
    fn of(bytes: &[u8], max_frame: u32, max_stream: u32, blocks: &mut usize) -> Self {
        let mut chain = Self { first: None, frames: 0, exact: false, broken: false, sender: None };
        let mut cursor = Cursor::new(bytes);
        let mut continued = None;
        for _ in 0..WALK {
            if chain.broken || chain.exact || chain.frames >= ENOUGH {
                break;
            }
            let Some(header) = cursor.take(HEADER).and_then(FrameHeader::read) else {
                chain.broken |= cursor.rest().first().is_some_and(|&high| u32::from(high) > max_frame >> 16);
                break;
            };
            // Nor may it begin with one: the end of another frame is easily taken for empty DATA.
            chain.broken |= chain.first.is_none() && header.kind == Kind::Data && header.length == 0;
            chain.first = chain.first.or(Some(header));
            chain.broken |= !header.is_plausible(max_frame)
                || header.stream > max_stream
                || continued.is_some_and(|stream| (header.kind, header.stream) != (Kind::Continuation, stream));
            let Some(payload) = cursor.take(header.length as usize).filter(|_| !chain.broken) else { break };
            continued = continues(&header).then_some(header.stream);
            chain.look(&header, payload, blocks);
            chain.exact = cursor.rest().is_empty();
        }
        chain
    }

    /// Looks at one whole frame.
    fn look(&mut self, header: &FrameHeader, payload: &[u8], blocks: &mut usize) {
        self.frames += usize::from(header.kind != Kind::Data || !payload.is_empty());
        match header.kind {
            Kind::Headers | Kind::PushPromise => self.look_at_headers(header, payload, blocks),
            Kind::Settings => self.broken |= frame::settings(payload).any(|setting| setting == Setting::Odd),
            Kind::RstStream => {
                self.broken |= Cursor::new(payload).u32_be().and_then(frame::error_name).is_none();
            }
            Kind::WindowUpdate => {
                self.broken |= !Cursor::new(payload).u32_be().is_some_and(|n| (1..1 << 31).contains(&n));
            }
            Kind::Data if header.has(flag::PADDED) => {
                self.broken |= payload.first().is_none_or(|&padding| usize::from(padding) >= payload.len());
            }
            _ => {}
        }
    }

    fn look_at_headers(&mut self, header: &FrameHeader, payload: &[u8], blocks: &mut usize) {
        let skip = if header.kind == Kind::PushPromise { 4 } else { 0 };
        let block = frame::fragment(header, payload).and_then(|(start, end)| payload.get(start + skip..end));
        let (Some(block), Some(left)) = (block, blocks.checked_sub(1)) else {
            self.broken = true;
            return;
        };
        *blocks = left;
        let decoded = Decoder::new(false).decode(block, !header.has(flag::END_HEADERS));
        self.broken |= decoded.invalid;
        let fields = Fields::new(decoded, LONGEST);
        let side = match (header.kind, fields.section) {
            (Kind::PushPromise, _) => Side::Server,
            (_, Section::Head) if fields.method.is_some() || fields.path.is_some() || fields.scheme.is_some() => {
                Side::Client
            }
            (_, Section::Head) if fields.status.is_some() => Side::Server,
            _ => return,
        };
        self.sender = self.sender.or(Some(side));
    }

    /// Whether bytes of another kind would have to be made to look like this.
    fn is_certain(&self, transfer_start: bool, knowledge: &Knowledge<'_>) -> bool {
        let names_open_stream = self.first.is_some_and(|first| first.length > 0 && (knowledge.is_open)(first.stream));
        match self.frames {
            0 => transfer_start && names_open_stream,
            1 if self.exact => transfer_start || names_open_stream,
            1 => self.sender.is_some() && (transfer_start || names_open_stream),
            2 => self.exact || transfer_start,
            _ => true,
        }
    }
}

/// Whether a CONTINUATION has to follow.
fn continues(header: &FrameHeader) -> bool {
    matches!(header.kind, Kind::Headers | Kind::PushPromise | Kind::Continuation) && !header.has(flag::END_HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    const UPDATE: &[u8] = b"\0\0\x04\x08\0\0\0\0\x01\0\0\x75\x40";
    const EMPTY: &[u8] = b"\0\0\0\0\x01\0\0\0\x07";
    const BODY: &[u8] = b"\0\0\x20\0\0\0\0\0\x07xxxxxxxxxxx";

    fn find(bytes: &[u8], transfer_start: bool) -> Boundary {
        let is_open = |id| id == 7;
        boundary(bytes, transfer_start, &Knowledge { max_frame: DEFAULT_MAX_FRAME, max_stream: 99, is_open: &is_open })
    }

    #[test]
    fn boundaries_need_evidence() {
        let none = |discard| Boundary::None { discard };
        for (name, bytes, start, expected) in [
            ("a frame that is a transfer", PING.to_vec(), true, Boundary::At(0)),
            ("a frame somewhere", PING.to_vec(), false, none(0)),
            ("a frame behind something", [b"xyz", PING].concat(), true, none(3)),
            ("two frames to the end", [b"xyz", PING, UPDATE].concat(), false, Boundary::At(3)),
            ("two frames and something", [b"xyz", UPDATE, PING, b"xxxxxxxxx"].concat(), false, none(17)),
            ("three frames and more", [b"xyz", PING, UPDATE, PING, b"\0"].concat(), false, Boundary::At(3)),
            ("a long frame of an open stream", BODY.to_vec(), true, Boundary::At(0)),
            ("a long frame of an open stream somewhere", BODY.to_vec(), false, none(0)),
            ("a stream that cannot be", [&BODY[..5], b"\0\0\x10\x07xx"].concat(), true, none(3)),
            ("what empty content looks like", [&UPDATE[4..], PING, PING, PING].concat(), true, Boundary::At(9)),
            ("empty content", [EMPTY, EMPTY, EMPTY].concat(), true, none(19)),
            ("zeros", vec![0; 100], true, none(92)),
        ] {
            assert_eq!(find(&bytes, start), expected, "{name}");
        }
    }
}
