//! HTTP/2 and gRPC.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literals with incremental indexing (RFC 7541 section 6.2.1).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0x40], string(name), string(value)].concat()).collect()
}

fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])].concat()
}

pub fn all() -> Vec<(&'static str, Conversation)> {
    // :method GET, :scheme http, :path / from the static table.
    let get = [&[0x82, 0x86, 0x84][..], &fields(&[(":authority", "h")])].concat();
    let post =
        [&[0x83, 0x86][..], &fields(&[(":path", "/s.T/M"), ("content-type", "application/grpc"), ("te", "trailers")])];
    let ok = [&[0x88][..], &fields(&[("content-type", "application/grpc")])].concat();
    let message = b"\0\0\0\0\x02\x08\x01";
    vec![
        ("get", vec![
            (C, preface()),
            (S, frame(SETTINGS, 0, 0, &[])),
            (C, [frame(SETTINGS, 1, 0, &[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &get)].concat()),
            (C, frame(HEADERS, END_STREAM | END_HEADERS, 3, &[0x82, 0x86, 0x84, 0xbe])),
            (S, [frame(SETTINGS, 1, 0, &[]), frame(HEADERS, END_HEADERS, 3, &[0x8d]), frame(DATA, END_STREAM, 3, b"no")].concat()),
            (S, [frame(HEADERS, END_HEADERS, 1, &[0x88]), frame(DATA, END_STREAM | 8, 1, b"\x02hello\0\0")].concat()),
            (S, frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])),
        ]),
        ("grpc", vec![
            (C, [preface(), frame(HEADERS, 0, 1, post[0]), frame(CONTINUATION, END_HEADERS, 1, post[1])].concat()),
            (S, frame(SETTINGS, 0, 0, &[])),
            (C, frame(DATA, END_STREAM, 1, message)),
            (S, [frame(HEADERS, END_HEADERS, 1, &ok), frame(DATA, 0, 1, message)].concat()),
            (S, frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&[("grpc-status", "5"), ("grpc-message", "none")]))),
        ]),
        ("reset", vec![
            (C, [preface(), frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, &[&[0, 0, 0, 0, 15][..], &get].concat())].concat()),
            (S, [frame(SETTINGS, 0, 0, &[]), frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())].concat()),
            (S, [frame(HEADERS, END_HEADERS, 2, &[0x88]), frame(3, 0, 1, &[0, 0, 0, 8])].concat()),
            (S, [frame(6, 0, 0, &[0; 8]), frame(8, 0, 0, &[0, 0, 1, 0]), frame(DATA, END_STREAM, 2, b"")].concat()),
        ]),
        ("upgraded", vec![
            (C, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".to_vec()),
            (S, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec()),
            (C, preface()),
            (S, [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88])].concat()),
        ]),
    ]
}
