//! The parser: from bytes to what happens on streams.

use super::frame::{FrameHeader, HEADER, Kind, PREFACE, flag};
use super::half::{Content, Half, Next, Payload, Section, State};
use super::pairing::{self, Streams};
use super::recognise::{self, Knowledge};
use crate::reassembly::Cause;
use crate::{Boundary, Context, Cursor, Input, Output, Parser, Part, Reason, Side, Skipped, Span, Step, Time};

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Http2 {
    /// Seen from its start.
    known: bool,
    client: Half,
    server: Half,
    streams: Streams,
}

impl Http2 {
    pub(super) fn new(context: Context) -> Self {
        let known = !context.midstream;
        Self {
            known,
            client: Half::new(State::Preface, known, &context.limits),
            server: Half::new(State::Header, known, &context.limits),
            streams: Streams::new(context.midstream, context.limits),
        }
    }

    /// A connection that was upgraded by a request in HTTP/1.1, whose response is to come on stream 1.
    pub(super) fn upgraded(context: Context, request: Part, sequence: u64) -> Self {
        let mut connection = Self::new(Context { midstream: false, ..context });
        // By the field HTTP2-Settings of the request.
        connection.server.may_exceed();
        connection.streams.upgrade(request, sequence);
        connection
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The preface, if the client's bytes begin with it; otherwise the connection was joined in its middle.
    fn preface(&mut self, bytes: &[u8]) -> Option<Step> {
        let compared = bytes.len().min(PREFACE.len());
        let is_preface = bytes.get(..compared) == PREFACE.get(..compared);
        if is_preface && compared < PREFACE.len() {
            // What is none shows before all of it would be there.
            return Some(Step::Need(compared + 1));
        }
        self.client.state = State::Header;
        match (is_preface, self.known) {
            (true, false) => {
                self.client.know();
                self.server.know();
                self.streams.begin();
            }
            (false, true) => {
                for half in [&mut self.client, &mut self.server] {
                    half.forget();
                    half.may_exceed();
                }
                self.streams.join();
            }
            _ => {}
        }
        self.known = is_preface;
        is_preface.then_some(Step::Consumed(PREFACE.len()))
    }

    /// The header of a frame.
    fn header(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let Some(header) = FrameHeader::read(input.bytes) else { return Step::Need(HEADER) };
        if let Err(violation) = header.check(self.half(side).largest_frame()) {
            self.lose_framing(side, Reason::ParseError, out);
            return Step::Resync(violation);
        }
        let continued = self.half(side).continues();
        if continued.is_some_and(|stream| (header.kind, header.stream) != (Kind::Continuation, stream)) {
            self.end_block(side, Reason::ParseError, None, out);
        }
        self.begin_frame(side, header, input, out)
    }

    fn begin_frame(&mut self, side: Side, header: FrameHeader, input: Input<'_>, out: &mut Output<'_>) -> Step {
        if header.kind == Kind::Data {
            self.half(side).state = State::Content(Content::new(header));
            return self.content(side, HEADER, input, out);
        }
        let half = self.half(side);
        let Some(wanted) = half.wanted(header.kind) else {
            half.state = State::Pass;
            return Step::Skip { consumed: HEADER, length: u64::from(header.length) };
        };
        half.state = State::Payload(Payload::new(header, input.span(0).start, wanted));
        self.payload(side, HEADER, input, out)
    }

    /// Goes on with a payload that is looked at; `consumed` bytes of the input are done with.
    fn payload(&mut self, side: Side, consumed: usize, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let State::Payload(payload) = &mut self.half(side).state else { return Step::Consumed(consumed) };
        let consumed = consumed + payload.take(input.bytes.get(consumed..).unwrap_or_default());
        if payload.left == 0 {
            self.finish_payload(side, Some(input.span(consumed.saturating_sub(1))), out);
        } else if payload.is_enough() {
            return Step::Skip { consumed, length: payload.left };
        }
        Step::Consumed(consumed)
    }

    fn finish_payload(&mut self, side: Side, last: Option<Span>, out: &mut Output<'_>) {
        let half = self.half(side);
        let State::Payload(payload) = std::mem::replace(&mut half.state, State::Header) else { return };
        let header = payload.header;
        match header.kind {
            Kind::Headers | Kind::PushPromise | Kind::Continuation => {
                let section = half.add(payload, last);
                self.take_section(side, section, out);
            }
            Kind::Settings if !header.has(flag::ACK) => self.half(side.other()).allow(&payload.bytes),
            Kind::RstStream => {
                let at = last.map_or(payload.start, |span| span.end);
                if let Some(code) = Cursor::new(&payload.bytes).u32_be() {
                    self.streams.reset(side, header.stream, code, at, out);
                }
            }
            Kind::Goaway => {
                let mut cursor = Cursor::new(&payload.bytes);
                if let (Some(id), Some(code)) = (cursor.u32_be(), cursor.u32_be()) {
                    self.streams.goaway(side, id & 0x7fff_ffff, code, payload.start, out);
                }
            }
            _ => {}
        }
    }

    fn take_section(&mut self, side: Side, section: Option<Section>, out: &mut Output<'_>) {
        match section {
            Some(Section { promised: None, head }) => self.streams.headers(side, head, out),
            Some(Section { promised: Some(promised), head }) if side == Side::Server => {
                self.streams.promise(promised, head, out);
            }
            _ => {}
        }
    }

    fn end_block(&mut self, side: Side, reason: Reason, last: Option<Span>, out: &mut Output<'_>) {
        let section = self.half(side).finish_block(Some(reason), last);
        self.take_section(side, section, out);
    }

    /// Goes on with DATA; `consumed` bytes of the input are done with.
    fn content(&mut self, side: Side, consumed: usize, input: Input<'_>, out: &mut Output<'_>) -> Step {
        let half = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let State::Content(content) = &mut half.state else { return Step::Consumed(consumed) };
        let messages = self.streams.messages(side, content.header.stream);
        let rest = input.bytes.get(consumed..).unwrap_or_default();
        let taken = match content.next(messages.as_deref()) {
            Next::End => 0,
            Next::Pass(length) => return Step::Skip { consumed, length },
            Next::Padding => content.take_padding(rest),
            Next::Prefix => content.take_prefix(rest, messages, input.span(consumed).start),
        };
        let consumed = consumed + taken;
        if content.left == 0 {
            self.finish_content(side, Some(input.span(consumed.saturating_sub(1))), out);
        }
        Step::Consumed(consumed)
    }

    fn finish_content(&mut self, side: Side, last: Option<Span>, out: &mut Output<'_>) {
        let State::Content(content) = std::mem::replace(&mut self.half(side).state, State::Header) else { return };
        let passed = pairing::Content {
            stream: content.header.stream,
            end_stream: content.header.has(flag::END_STREAM),
            body: content.body(),
            wire: HEADER as u64 + u64::from(content.header.length),
            end: last.map(|span| span.end),
        };
        self.streams.content_ends(side, passed, out);
    }

    /// Bytes of the payload that is passing are missing. Gives what is missing beyond it.
    fn miss_payload(&mut self, side: Side, length: u64, reason: Reason, out: &mut Output<'_>) -> u64 {
        let half = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        match &mut half.state {
            State::Payload(payload) => {
                let beyond = length.saturating_sub(payload.left);
                payload.lose(length - beyond, reason);
                if payload.left == 0 {
                    self.finish_payload(side, None, out);
                }
                beyond
            }
            State::Content(content) => {
                let beyond = length.saturating_sub(content.left);
                content.left -= length - beyond;
                content.lose_padding(reason);
                self.streams.content_lost(side, content.header.stream, length - beyond, reason, true);
                if content.left == 0 {
                    self.finish_content(side, None, out);
                }
                beyond
            }
            State::Preface | State::Header | State::Pass => length,
        }
    }

    /// Where the next frame begins is not known any longer.
    fn lose_framing(&mut self, side: Side, reason: Reason, out: &mut Output<'_>) {
        self.end_block(side, reason, None, out);
        let half = self.half(side);
        half.state = State::Header;
        half.is_framed = false;
        half.forget();
        self.half(side.other()).may_exceed();
        self.streams.lost(side, reason, out);
    }
}

impl Parser for Http2 {
    fn step(&mut self, side: Side, input: Input<'_>, out: &mut Output<'_>) -> Step {
        if let State::Preface = self.half(side).state
            && let Some(step) = self.preface(input.bytes)
        {
            return step;
        }
        match &self.half(side).state {
            State::Payload(_) => self.payload(side, 0, input, out),
            State::Content(_) => self.content(side, 0, input, out),
            State::Preface | State::Header | State::Pass => self.header(side, input, out),
        }
    }

    fn skipped(&mut self, side: Side, skipped: Skipped, out: &mut Output<'_>) {
        let half = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        match &mut half.state {
            State::Payload(payload) => {
                payload.left = payload.left.saturating_sub(skipped.length);
                self.finish_payload(side, skipped.last, out);
            }
            State::Content(content) => {
                content.left = content.left.saturating_sub(skipped.length);
                let (stream, left) = (content.header.stream, content.left);
                if let Some(messages) = self.streams.messages(side, stream) {
                    messages.pass(skipped.length);
                }
                if skipped.lost > 0 {
                    self.streams.content_lost(side, stream, skipped.lost, Reason::Gap, false);
                }
                if left == 0 {
                    self.finish_content(side, skipped.last, out);
                }
            }
            State::Preface | State::Header | State::Pass => half.state = State::Header,
        }
    }

    fn gap(&mut self, side: Side, length: u64, cause: Cause, out: &mut Output<'_>) {
        let reason = match cause {
            Cause::Lost => Reason::Gap,
            Cause::Truncated => Reason::Truncated,
        };
        let in_frame = matches!(self.half(side).state, State::Payload(_) | State::Content(_));
        if in_frame && self.miss_payload(side, length, reason, out) == 0 {
            self.half(side).is_framed = true;
        } else {
            self.lose_framing(side, reason, out);
        }
    }

    fn resync(&mut self, side: Side, bytes: &[u8], transfer_start: bool) -> Boundary {
        let streams = &self.streams;
        let half = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        if std::mem::take(&mut half.is_framed) {
            return Boundary::At(0);
        }
        if let State::Preface = half.state {
            let compared = bytes.len().min(PREFACE.len());
            match bytes.get(..compared) == PREFACE.get(..compared) {
                true if compared < PREFACE.len() => return Boundary::None { discard: 0 },
                true => return Boundary::At(0),
                false => {}
            }
        }
        let knowledge = Knowledge {
            max_frame: half.max_frame(),
            max_stream: streams.plausible(),
            is_open: &|id| streams.is_open(id),
        };
        recognise::boundary(bytes, transfer_start, &knowledge)
    }

    fn end(&mut self, _side: Side, _rest: &[u8], _at: Time, _out: &mut Output<'_>) {}

    fn close(&mut self, _at: Time, out: &mut Output<'_>) {
        self.streams.close(out);
    }

    fn tick(&mut self, now: Time, out: &mut Output<'_>) {
        self.streams.tick(now, out);
    }
}
