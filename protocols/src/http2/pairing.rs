//! The streams of a connection: requests find their responses by stream identifier.

use std::collections::{BTreeMap, VecDeque};

use super::fields::{Fields, Section};
use super::grpc::Messages;
use super::stream::{Message, Stream};
use crate::{Limits, Output, Part, Reason, Reasons, Side, Time};

/// Streams that were handed out and may still be named by frames under way.
const CLOSED_KEPT: usize = 256;

/// Nanoseconds after which a stream is given up on which nothing passes, if its end may have passed unseen.
const SILENCE: u64 = 60_000_000_000;

/// Nanoseconds for which a message is waited for that may be late: the request of a response, and the end of what one
/// side had under way when the other reset the stream.
const LATE: u64 = 1_000_000_000;

/// A header block on a stream.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) fields: Fields,
    /// Bytes of its frames.
    pub(super) wire: u64,
    /// When its first byte passed.
    pub(super) start: Time,
    /// When its last byte passed, if that was seen.
    pub(super) end: Option<Time>,
    /// Bytes of it that were lost.
    pub(super) missing: u64,
}

/// A DATA frame that has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    /// Bytes without padding, or why it could not be seen how much of it is padding.
    pub(super) body: Result<u64, Reason>,
    /// Bytes of the frame.
    pub(super) wire: u64,
    /// When its last byte passed, if that was seen.
    pub(super) end: Option<Time>,
}

/// The streams that are open, and what is known of the others.
#[derive(Debug)]
pub(super) struct Streams {
    open: BTreeMap<u32, Stream>,
    closed: VecDeque<u32>,
    limits: Limits,
    /// The highest stream that the client was seen opening.
    highest: u32,
    /// Streams of the client from this one on were all seen from their start.
    certain_from: u32,
    /// Whether responses may be open whose requests have not been seen.
    orphans: bool,
    /// Why frames of the client may have passed unseen.
    unseen_client: Reasons,
    /// Why frames of the server may have passed unseen.
    unseen_server: Reasons,
}

impl Streams {
    /// `midstream`: requests may have passed before.
    pub(super) fn new(midstream: bool, limits: Limits) -> Self {
        let mut streams = Self {
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            limits,
            highest: 0,
            certain_from: 0,
            orphans: false,
            unseen_client: Reasons::NONE,
            unseen_server: Reasons::NONE,
        };
        if midstream {
            streams.join();
        }
        streams
    }

    /// The connection is seen from its start after all.
    pub(super) fn begin(&mut self) {
        self.certain_from = 0;
        self.unseen_client = Reasons::NONE;
        self.unseen_server = Reasons::NONE;
    }

    /// The connection had begun before it could be seen.
    pub(super) fn join(&mut self) {
        self.miss_streams(Side::Client, Reason::Midstream);
        self.miss_streams(Side::Server, Reason::Midstream);
    }

    /// `side` may have opened streams unseen.
    fn miss_streams(&mut self, side: Side, reason: Reason) {
        match side {
            Side::Client => {
                self.certain_from = u32::MAX;
                self.unseen_client.add(reason);
            }
            Side::Server => self.unseen_server.add(reason),
        }
    }

    /// Whether a stream is open.
    pub(super) fn is_open(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    /// The highest stream that a frame may well name next.
    pub(super) fn plausible(&self) -> u32 {
        const AHEAD: u32 = 1 << 20;
        if self.highest == 0 { u32::MAX >> 1 } else { self.highest.saturating_add(AHEAD) }
    }

    /// Takes the request of an upgraded connection (RFC 7540, section 3.2): it opens stream 1 and has ended.
    pub(super) fn upgrade(&mut self, request: Part, sequence: u64) {
        let mut stream = Stream::new(1, Reasons::NONE, request.start.unwrap_or_default());
        stream.request.ended = true;
        stream.upgraded = Some(request);
        stream.sequence = Some(sequence);
        self.highest = 1;
        self.open.insert(1, stream);
    }

    /// A header block of `side` has passed.
    pub(super) fn headers(&mut self, side: Side, head: Head, out: &mut Output<'_>) {
        let id = head.stream;
        let doubt = !self.unseen(side).is_empty();
        let Some(stream) = self.find(side, &head, out) else { return };
        stream.missing += head.missing;
        stream.active = head.start;
        match side {
            Side::Client => request_headers(stream, head, doubt, out),
            Side::Server => response_headers(stream, head, doubt),
        }
        self.settle(id, out);
    }

    /// The server promises the response to a request that it makes up itself (RFC 9113, section 8.4).
    pub(super) fn promise(&mut self, promised: u32, head: Head, out: &mut Output<'_>) {
        if promised == 0 || opener(promised) != Side::Server || self.is_open(promised) {
            return;
        }
        let stream = self.insert(Stream::new(promised, Reasons::NONE, head.start), out);
        stream.pushed = true;
        stream.missing = head.missing;
        request_headers(stream, Head { end_stream: true, ..head }, false, out);
    }

    /// The gRPC messages that `side` sends on a stream, where they are to be counted.
    pub(super) fn messages(&mut self, side: Side, id: u32) -> Option<&mut Messages> {
        message(self.open.get_mut(&id)?, side).messages.as_mut()
    }

    /// Content passed unseen, in a frame that is known to belong to the stream. `framing`: gRPC's may have been in
    /// it.
    pub(super) fn content_lost(&mut self, side: Side, id: u32, length: u64, reason: Reason, framing: bool) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        let messages = &mut message(stream, side).messages;
        let torn = framing && messages.take().is_some();
        if reason == Reason::Gap {
            stream.missing += length;
        }
        if torn || reason == Reason::Gap {
            stream.reasons.add(reason);
        }
    }

    /// A DATA frame of `side` has passed.
    pub(super) fn content_ends(&mut self, side: Side, content: Content, out: &mut Output<'_>) {
        let Some(stream) = self.open.get_mut(&content.stream) else { return };
        stream.active = content.end.unwrap_or(stream.active);
        let message = message(stream, side);
        message.wire += content.wire;
        match content.body {
            Ok(body) => message.body += body,
            Err(reason) => message.tear(reason),
        }
        if content.end_stream {
            message.ended = true;
            message.end = content.end;
        }
        self.settle(content.stream, out);
    }

    /// `side` ends a stream early.
    pub(super) fn reset(&mut self, side: Side, id: u32, code: u32, at: Time, out: &mut Output<'_>) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        let message = match side {
            Side::Client => &mut stream.request,
            Side::Server => &mut stream.response,
        };
        message.reset = Some((code, at));
        stream.active = at;
        self.settle(id, out);
    }

    /// `side` will not process the streams above `last` that the other side opened.
    pub(super) fn goaway(&mut self, side: Side, last: u32, code: u32, at: Time, out: &mut Output<'_>) {
        let refused: Vec<u32> = self.open.range(last.saturating_add(1)..).map(|(&id, _)| id).collect();
        for id in refused.into_iter().filter(|id| opener(*id) != side) {
            if let Some(stream) = self.open.get_mut(&id) {
                stream.goaway = Some((code, at));
            }
            self.settle(id, out);
        }
    }

    /// Frames of `side` passed unseen, how many and on which streams is not known.
    pub(super) fn lost(&mut self, side: Side, reason: Reason, out: &mut Output<'_>) {
        self.miss_streams(side, reason);
        for stream in self.open.values_mut() {
            let sent = message(stream, side);
            if !sent.ended {
                sent.tear(reason);
            }
        }
        let open: Vec<u32> = self.open.keys().copied().collect();
        for id in open {
            self.settle(id, out);
        }
    }

    /// Gives up what has been silent too long.
    pub(super) fn tick(&mut self, now: Time, out: &mut Output<'_>) {
        let silent = |stream: &Stream, limit| now.0.saturating_sub(stream.active.0) > limit;
        let over = |stream: &Stream| {
            let torn = !stream.request.torn.is_empty() || !stream.response.torn.is_empty();
            let waits = stream.is_finished() || stream.is_cut_short();
            silent(stream, SILENCE) && torn || silent(stream, LATE) && waits
        };
        let over: Vec<u32> = self.open.values().filter(|stream| over(stream)).map(|stream| stream.id).collect();
        for id in over {
            self.hand_out(id, out);
        }
    }

    /// The connection is over.
    pub(super) fn close(&mut self, out: &mut Output<'_>) {
        while let Some((&id, _)) = self.open.first_key_value() {
            self.hand_out(id, out);
        }
    }

    /// The stream that a header block belongs to, which it may open.
    fn find(&mut self, side: Side, head: &Head, out: &mut Output<'_>) -> Option<&mut Stream> {
        let id = head.stream;
        let is_new = id > self.highest && opener(id) == Side::Client;
        let known = self.is_open(id) || is_new || self.may_be_older(id);
        if side == Side::Client && is_new && head.fields.section != Section::Trailers {
            self.highest = id;
            self.certain_from = self.certain_from.min(id);
            self.hand_out_orphans(out);
        }
        if known && !self.is_open(id) {
            self.orphans |= side == Side::Server;
            self.insert(Stream::new(id, self.unseen_start(id), head.start), out);
        }
        self.open.get_mut(&id)
    }

    /// Why frames of `side` may have passed unseen.
    fn unseen(&self, side: Side) -> Reasons {
        match side {
            Side::Client => self.unseen_client,
            Side::Server => self.unseen_server,
        }
    }

    /// Why the start of a stream may have passed unseen.
    fn unseen_start(&self, id: u32) -> Reasons {
        let certain = id >= self.certain_from && opener(id) == Side::Client;
        if certain { Reasons::NONE } else { self.unseen(opener(id)) }
    }

    /// Whether a stream that is not known may have been opened unseen, as opposed to having been handed out.
    fn may_be_older(&self, id: u32) -> bool {
        !self.unseen_start(id).is_empty() && !self.closed.contains(&id)
    }

    /// Why `side` was not seen to begin its message; `otherwise`, if nothing of it was lost.
    fn unseen_or(&self, side: Side, otherwise: Reason) -> Reasons {
        let unseen = self.unseen(side);
        if unseen.is_empty() { otherwise.into() } else { unseen }
    }

    /// Hands out finished responses whose requests can no longer come: the client opens streams in ascending order.
    fn hand_out_orphans(&mut self, out: &mut Output<'_>) {
        if !std::mem::take(&mut self.orphans) {
            return;
        }
        let highest = self.highest;
        self.orphans = self.open.values().any(|stream| !stream.has_request() && !stream.is_finished());
        let orphans = self.open.range(..highest).filter(|(_, stream)| !stream.has_request() && stream.is_finished());
        for id in orphans.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.hand_out(id, out);
        }
    }

    /// Adds a stream; the oldest makes room if there are too many.
    fn insert(&mut self, stream: Stream, out: &mut Output<'_>) -> &mut Stream {
        while self.open.len() >= self.limits.pending.max(1) {
            let Some(oldest) = self.open.first_key_value().map(|(&id, _)| id) else { break };
            self.hand_out(oldest, out);
        }
        self.open.entry(stream.id).or_insert(stream)
    }

    /// Hands out a stream if it is finished, unless its request may be late.
    fn settle(&mut self, id: u32, out: &mut Output<'_>) {
        let late = id > self.highest && opener(id) == Side::Client;
        let finished = self.open.get(&id).is_some_and(|stream| stream.is_finished() && (stream.has_request() || !late));
        if finished {
            self.hand_out(id, out);
        }
    }

    fn hand_out(&mut self, id: u32, out: &mut Output<'_>) {
        let Some(mut stream) = self.open.remove(&id) else { return };
        if !stream.has_request_head() {
            stream.reasons.merge(self.unseen_or(opener(id), Reason::Unsolicited));
        }
        if stream.response.head.is_none() && stream.response.wire > 0 {
            stream.reasons.merge(self.unseen_or(Side::Server, Reason::ParseError));
        }
        if self.closed.len() >= CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(id);
        if let Some(exchange) = stream.into_exchange() {
            out.emit(exchange);
        }
    }
}

/// What `side` sends on a stream. Of a pushed stream the server sends both messages, the request in the promise alone.
fn message(stream: &mut Stream, side: Side) -> &mut Message {
    match side {
        Side::Client => &mut stream.request,
        Side::Server => &mut stream.response,
    }
}

/// The side that opens the stream (RFC 9113, section 5.1.1).
fn opener(id: u32) -> Side {
    if id.is_multiple_of(2) { Side::Server } else { Side::Client }
}

fn end(message: &mut Message, head: &Head) {
    if message.head.is_none() && head.fields.section != Section::Trailers {
        // It begins here: an end that was seen before is not its own.
        (message.ended, message.end) = (false, None);
    }
    message.wire += head.wire;
    if head.end_stream {
        message.ended = true;
        message.end = head.end;
    }
}

/// A header block of the request. `doubt`: its head may have passed unseen; then a block that may as well be trailers
/// says nothing certain.
fn request_headers(stream: &mut Stream, head: Head, doubt: bool, out: &mut Output<'_>) {
    end(&mut stream.request, &head);
    let Head { fields, start, wire, .. } = head;
    match fields.section {
        Section::Head if stream.has_request_head() => stream.reasons.add(Reason::ParseError),
        Section::Unknown if stream.has_request_head() => trailers(stream, Side::Client, fields),
        Section::Unknown if doubt && head.end_stream => stream.reasons.merge(fields.reasons),
        Section::Head | Section::Unknown => {
            stream.sequence = Some(out.next_sequence());
            stream.request.begin(fields, start, wire);
        }
        Section::Trailers => trailers(stream, Side::Client, fields),
    }
}

/// A header block of the response, or of an interim one. `doubt`: as for requests.
fn response_headers(stream: &mut Stream, head: Head, doubt: bool) {
    if let Some(status) = head.fields.interim().filter(|_| !head.end_stream) {
        stream.interim.push(status);
        return;
    }
    let had_content = stream.response.body > 0;
    // Behind the end of a message no other head may be (RFC 9113, section 8.1).
    let had_ended = stream.response.head.is_some() && stream.response.ended;
    end(&mut stream.response, &head);
    let Head { fields, start, wire, .. } = head;
    match (fields.section, stream.response.head.as_ref().map(|before| before.status)) {
        // A head whose status is not known may have been an interim response.
        (Section::Head, None | Some(None)) if !had_ended => stream.response.begin(fields, start, wire),
        (Section::Head, _) => stream.reasons.add(Reason::ParseError),
        (Section::Unknown, None) if doubt && head.end_stream => stream.reasons.merge(fields.reasons),
        (Section::Unknown, None) => stream.response.begin(fields, start, wire),
        (Section::Unknown, Some(None)) if !had_content => {
            stream.reasons.merge(fields.reasons);
            stream.response.tear(Reason::HpackUnknown);
            stream.response.head = None;
        }
        (Section::Unknown | Section::Trailers, _) => trailers(stream, Side::Server, fields),
    }
}

fn trailers(stream: &mut Stream, side: Side, fields: Fields) {
    stream.reasons.merge(fields.reasons);
    message(stream, side).trailers = Some(fields.headers);
}
