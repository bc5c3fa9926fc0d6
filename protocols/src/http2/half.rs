//! The framing of one direction.
//!
//! Every byte is consumed as soon as it is there, so that of a frame whose header was seen it is always known how
//! much is still to come: bytes missing inside a payload do not cost the framing.

use super::fields::Fields;
use super::frame::{self, DEFAULT_MAX_FRAME, FrameHeader, HEADER, Kind, LARGEST_FRAME, Setting, flag};
use super::grpc::Messages;
use super::hpack::Decoder;
use super::pairing::Head;
use crate::{Cursor, Reason, Span, Time};

/// What is expected next.
#[derive(Debug)]
pub(super) enum State {
    /// The client's preface.
    Preface,
    /// The header of a frame.
    Header,
    /// The payload of a frame that is looked at.
    Payload(Payload),
    /// The payload of DATA.
    Content(Content),
    /// The payload of a frame that is passed over.
    Pass,
}

/// A payload being collected.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) header: FrameHeader,
    /// When the first byte of the frame passed.
    pub(super) start: Time,
    /// The beginning of the payload.
    pub(super) bytes: Vec<u8>,
    /// Bytes that have not passed.
    pub(super) left: u64,
    /// How many bytes are wanted.
    pub(super) wanted: usize,
    /// Why `bytes` is not all that is wanted.
    pub(super) cut: Option<Reason>,
    /// Bytes of it that were lost.
    pub(super) missing: u64,
}

impl Payload {
    /// `wanted`: how many bytes are looked at.
    pub(super) fn new(header: FrameHeader, start: Time, wanted: usize) -> Self {
        let left = u64::from(header.length);
        Self { header, start, bytes: Vec::new(), left, wanted, cut: None, missing: 0 }
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_enough(&self) -> bool {
        self.cut.is_some() || self.bytes.len() >= self.wanted
    }

    /// Takes what is wanted of `bytes`, and says how many of them that is.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let room = if self.is_enough() { 0 } else { self.wanted - self.bytes.len() };
        let length = room.min(bytes.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.bytes.extend_from_slice(bytes.get(..length).unwrap_or_default());
        self.left = self.left.saturating_sub(length as u64);
        length
    }

    /// Bytes passed unseen.
    pub(super) fn lose(&mut self, length: u64, reason: Reason) {
        self.cut = self.cut.or(Some(reason));
        self.left = self.left.saturating_sub(length);
        if reason == Reason::Gap {
            self.missing += length;
        }
    }
}

/// DATA that is passing.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) header: FrameHeader,
    /// Bytes that have not passed.
    pub(super) left: u64,
    /// How many of them, at the end, are padding; not known before the first byte of a padded payload.
    pub(super) padding: Padding,
}

/// Padding of DATA.
#[derive(Clone, Copy, Debug)]
pub(super) enum Padding {
    /// Its length comes first.
    Ahead,
    /// This many bytes at the end.
    Known(u64),
    /// Its length passed unseen.
    Unknown(Reason),
}

/// What is next in DATA.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// Nothing.
    End,
    /// The length of the padding.
    Padding,
    /// The prefix of a gRPC message.
    Prefix,
    /// This many bytes that need not be seen.
    Pass(u64),
}

impl Content {
    pub(super) fn new(header: FrameHeader) -> Self {
        let padding = if header.has(flag::PADDED) { Padding::Ahead } else { Padding::Known(0) };
        Self { header, left: u64::from(header.length), padding }
    }

    /// What is next, if `messages` are in it.
    pub(super) fn next(&self, messages: Option<&Messages>) -> Next {
        let content = match self.padding {
            _ if self.left == 0 => return Next::End,
            Padding::Ahead => return Next::Padding,
            Padding::Known(padding) => self.left.saturating_sub(padding),
            Padding::Unknown(_) => self.left,
        };
        match messages {
            Some(messages) if content > 0 && messages.remaining() == 0 => Next::Prefix,
            Some(messages) if content > 0 => Next::Pass(messages.remaining().min(content)),
            _ => Next::Pass(self.left),
        }
    }

    /// Takes the length of the padding from the start of `bytes`.
    pub(super) fn take_padding(&mut self, bytes: &[u8]) -> usize {
        let Some(&padding) = bytes.first() else { return 0 };
        self.left = self.left.saturating_sub(1);
        self.padding = Padding::Known(u64::from(padding).min(self.left));
        1
    }

    /// Takes bytes of a message's prefix from the start of `bytes`, which passed `at`.
    pub(super) fn take_prefix(&mut self, bytes: &[u8], messages: Option<&mut Messages>, at: Time) -> usize {
        let Padding::Known(padding) = self.padding else { return 0 };
        let most = usize::try_from(self.left.saturating_sub(padding)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let Some(messages) = messages.filter(|_| !bytes.is_empty()) else { return 0 };
        let taken = messages.feed(bytes, at);
        self.left = self.left.saturating_sub(taken as u64);
        taken
    }

    /// Bytes passed unseen, the length of the padding perhaps among them.
    pub(super) fn lose_padding(&mut self, reason: Reason) {
        if let Padding::Ahead = self.padding {
            self.padding = Padding::Unknown(reason);
        }
    }

    /// Bytes of content in the whole frame.
    pub(super) fn body(&self) -> Result<u64, Reason> {
        let length = u64::from(self.header.length);
        match self.padding {
            Padding::Known(_) if !self.header.has(flag::PADDED) => Ok(length),
            Padding::Known(padding) => Ok(length.saturating_sub(padding + 1)),
            Padding::Ahead => Ok(0),
            Padding::Unknown(reason) => Err(reason),
        }
    }
}

/// A header block whose end has not been seen.
#[derive(Debug)]
pub(super) struct OpenBlock {
    header: FrameHeader,
    start: Time,
    bytes: Vec<u8>,
    wire: u64,
    cut: Option<Reason>,
    missing: u64,
}

/// A header block that has passed.
#[derive(Debug)]
pub(super) struct Section {
    /// The stream that a PUSH_PROMISE promises.
    pub(super) promised: Option<u32>,
    pub(super) head: Head,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) state: State,
    /// The framing survived a gap.
    pub(super) is_framed: bool,
    decoder: Decoder,
    block: Option<OpenBlock>,
    /// The largest payload that is expected of this side.
    max_frame: u32,
    /// Whether larger ones may have been allowed unseen.
    may_exceed: bool,
    buffered: usize,
    value: usize,
}

impl Half {
    /// `known`: seen from its start.
    pub(super) fn new(state: State, known: bool, limits: &crate::Limits) -> Self {
        Self {
            state,
            is_framed: false,
            decoder: Decoder::new(known),
            block: None,
            max_frame: DEFAULT_MAX_FRAME,
            may_exceed: !known,
            buffered: limits.buffered,
            value: limits.value,
        }
    }

    /// It is seen from its start after all.
    pub(super) fn know(&mut self) {
        self.may_exceed = false;
        self.decoder.know();
    }

    /// Header blocks may have passed unseen.
    pub(super) fn forget(&mut self) {
        self.decoder.forget();
    }

    /// The largest payload that is expected of a frame.
    pub(super) fn max_frame(&self) -> u32 {
        self.max_frame
    }

    /// The largest payload that a frame may have.
    pub(super) fn largest_frame(&self) -> u32 {
        if self.may_exceed { LARGEST_FRAME } else { self.max_frame }
    }

    /// The other side may have allowed larger frames unseen.
    pub(super) fn may_exceed(&mut self) {
        self.may_exceed = true;
    }

    /// The other side allows larger frames. Allowing smaller ones does not change what is under way.
    pub(super) fn allow(&mut self, settings: &[u8]) {
        for setting in frame::settings(settings) {
            if let Setting::MaxFrameSize(size) = setting {
                self.max_frame = self.max_frame.max(size);
            }
        }
    }

    /// How many bytes of a frame's payload are looked at, unless the frame is of no interest.
    pub(super) fn wanted(&mut self, kind: Kind) -> Option<usize> {
        match (kind, &self.block) {
            (Kind::Continuation, None) => {
                // What it continues passed unseen, and so did what that added to the table.
                self.decoder.forget();
                None
            }
            (Kind::Continuation, Some(block)) => Some(self.buffered.saturating_sub(block.bytes.len())),
            (Kind::Headers | Kind::PushPromise, _) => Some(self.buffered),
            (Kind::Settings, _) => Some(DEFAULT_MAX_FRAME as usize),
            (Kind::RstStream, _) => Some(4),
            (Kind::Goaway, _) => Some(8),
            _ => None,
        }
    }

    /// Whether only a CONTINUATION of this stream may come next.
    pub(super) fn continues(&self) -> Option<u32> {
        self.block.as_ref().map(|block| block.header.stream)
    }

    /// Takes a frame that carries a part of a header block; gives the block if that was its last part.
    pub(super) fn add(&mut self, payload: Payload, last: Option<Span>) -> Option<Section> {
        let header = payload.header;
        let bounds = frame::fragment(&header, &payload.bytes);
        let (start, end) = bounds.unwrap_or_default();
        let missed = payload.bytes.len() < end || payload.cut.is_some();
        let invalid = bounds.is_none().then_some(Reason::ParseError);
        let cut = payload.cut.or(missed.then_some(Reason::Truncated)).or(invalid);
        let fragment = payload.bytes.get(start..end.min(payload.bytes.len())).unwrap_or_default();
        let block = self.block.get_or_insert_with(|| OpenBlock {
            header,
            start: payload.start,
            bytes: Vec::new(),
            wire: 0,
            cut: None,
            missing: 0,
        });
        if block.cut.is_none() {
            block.bytes.extend_from_slice(fragment);
        }
        block.cut = block.cut.or(cut);
        block.wire += HEADER as u64 + u64::from(header.length);
        block.missing += payload.missing;
        if header.has(flag::END_HEADERS) { self.finish_block(None, last) } else { None }
    }

    /// Ends the open header block, with `cut` before its end has come.
    pub(super) fn finish_block(&mut self, cut: Option<Reason>, last: Option<Span>) -> Option<Section> {
        let block = self.block.take()?;
        let cut = block.cut.or(cut);
        let mut bytes = block.bytes.as_slice();
        let mut promised = None;
        if block.header.kind == Kind::PushPromise {
            let mut cursor = Cursor::new(bytes);
            promised = Some(cursor.u32_be().unwrap_or_default() & 0x7fff_ffff);
            bytes = cursor.rest();
        }
        let mut fields = Fields::new(self.decoder.decode(bytes, cut.is_some()), self.value);
        if let Some(reason) = cut {
            fields.reasons.add(reason);
        }
        let head = Head {
            stream: block.header.stream,
            end_stream: block.header.kind == Kind::Headers && block.header.has(flag::END_STREAM),
            fields,
            wire: block.wire,
            start: block.start,
            end: last.map(|span| span.end),
            missing: block.missing,
        };
        Some(Section { promised, head })
    }
}
