use proptest::prelude::*;
use serde_json::{Value, json};

use super::frame::PREFACE;
use super::hpack::testing::{Encoder, Form};
use super::*;
use crate::testing::{Conversation, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender, Side};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

const MS: u64 = 1_000_000;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// One side of a conversation.
struct Peer(Encoder);

impl Peer {
    fn new() -> Self {
        Self(Encoder::new())
    }

    fn headers(&mut self, flags: u8, stream: u32, fields: Fields<'_>) -> Vec<u8> {
        frame(HEADERS, flags | END_HEADERS, stream, &self.0.block(fields, Form::Indexing))
    }

    fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "example.org"),
            ("accept", "*/*"),
        ];
        self.headers(END_STREAM, stream, &fields)
    }

    fn call(&mut self, stream: u32, path: &str) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "example.org"),
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ];
        self.headers(0, stream, &fields)
    }
}

fn message(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn client_start() -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), &frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])].concat()
}

fn server_start() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]), frame(SETTINGS, ACK, 0, &[])].concat()
}

type Owned = Vec<(Side, Vec<u8>)>;

fn script(owned: &Owned) -> Vec<(Side, &[u8])> {
    owned.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

fn begin(rest: Owned) -> Owned {
    let mut owned = vec![(Side::Client, client_start()), (Side::Server, server_start())];
    owned.extend(rest);
    owned
}

fn records(rest: Owned) -> Vec<Value> {
    assert_split_invariant(&REGISTRATION, &script(&begin(rest)))
}

/// Asserts that `value` has every field of `expected`.
fn assert_has(value: &Value, expected: &Value) {
    for (name, expected) in expected.as_object().expect("an object") {
        match (&value[name], expected) {
            (found @ Value::Object(_), Value::Object(inner)) if !inner.is_empty() => assert_has(found, expected),
            (found, expected) => assert_eq!(found, expected, "{name} of {value:#}"),
        }
    }
}

#[test]
fn a_request_and_its_response() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let get = client.get(1, "/a?b=1");
    let head = server.headers(0, 1, &[(":status", "200"), ("content-type", "text/html"), ("set-cookie", "secret")]);
    let body = frame(DATA, END_STREAM, 1, b"hello");
    let owned = vec![(Side::Client, get.clone()), (Side::Server, head.clone()), (Side::Server, body.clone())];
    let expected = json!({
        "protocol": "http",
        "sequence": 0,
        "request": {
            "bytes": get.len(), "start": 3 * MS, "end": 3 * MS,
            "method": "GET", "target": "/a?b=1", "path": "/a", "version": "2", "scheme": "http",
            "host": "example.org", "stream_id": 1, "body_bytes": 0, "headers": {"accept": ["*/*"]},
        },
        "response": {
            "bytes": head.len() + body.len(), "start": 4 * MS, "end": 5 * MS,
            "status": 200, "version": "2", "body_bytes": 5,
            "headers": {"content-type": ["text/html"], "set-cookie": ["secret"]},
        },
        "reasons": [],
        "missing_bytes": 0,
    });
    assert_eq!(records(owned), [expected]);
}

#[test]
fn streams_are_paired_by_identifier() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let asked = [client.get(1, "/1"), client.get(3, "/3"), client.get(5, "/5")].concat();
    let answered = [
        server.headers(0, 5, &[(":status", "205")]),
        server.headers(0, 1, &[(":status", "201")]),
        frame(DATA, 0, 1, b"on"),
        frame(DATA, END_STREAM, 5, b"five"),
        server.headers(END_STREAM, 3, &[(":status", "203")]),
        frame(DATA, END_STREAM, 1, b"e"),
    ]
    .concat();
    let records = records(vec![(Side::Client, asked), (Side::Server, answered)]);
    let got: Vec<_> = records
        .iter()
        .map(|record| {
            let (request, response) = (&record["request"], &record["response"]);
            assert_eq!(record["reasons"], json!([]));
            (
                record["sequence"].clone(),
                request["path"].clone(),
                response["status"].clone(),
                response["body_bytes"].clone(),
            )
        })
        .collect();
    let expected = [(2, "/5", 205, 4), (1, "/3", 203, 0), (0, "/1", 201, 3)];
    assert_eq!(got, expected.map(|(s, p, st, b)| (json!(s), json!(p), json!(st), json!(b))));
}

#[test]
fn every_frame_type_padding_priority_continuation_and_trailers() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let fields = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "h"), ("x-a", "1")];
    let block = client.0.block(&fields, Form::Indexing);
    let mut padded = vec![2];
    padded.extend([0, 0, 0, 0, 15]);
    padded.extend(&block[..3]);
    padded.extend([0, 0]);
    let asked = [
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]),
        frame(HEADERS, PADDED | WITH_PRIORITY, 1, &padded),
        frame(CONTINUATION, 0, 1, &block[3..4]),
        frame(CONTINUATION, END_HEADERS, 1, &block[4..]),
        frame(PING, 0, 0, b"12345678"),
        frame(DATA, PADDED, 1, b"\x03abc\0\0\0"),
        frame(0xbb, 0x7f, 1, b"unknown"),
        frame(DATA, PADDED, 1, b"\0d"),
        frame(DATA, 0, 1, b""),
        client.headers(END_STREAM, 1, &[("x-checksum", "7")]),
    ]
    .concat();
    let answered = [
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
        frame(PING, ACK, 0, b"12345678"),
        frame(0x0a, 0, 0, b"altsvc"),
        server.headers(0, 1, &[(":status", "103"), ("link", "</s.css>")]),
        server.headers(0, 1, &[(":status", "200"), ("x-b", "2")]),
        frame(DATA, PADDED, 1, b"\x01ok\0"),
        server.headers(END_STREAM, 1, &[("x-trailer", "t")]),
        frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0bye"),
    ]
    .concat();
    let records = records(vec![(Side::Client, asked), (Side::Server, answered)]);
    assert_eq!(records.len(), 1);
    let expected = json!({
        "request": {
            "method": "POST", "body_bytes": 4, "headers": {"x-a": ["1"]}, "trailers": {"x-checksum": ["7"]},
        },
        "response": {
            "status": 200, "body_bytes": 2, "interim": [103], "headers": {"x-b": ["2"]},
            "trailers": {"x-trailer": ["t"]},
        },
        "reasons": [],
    });
    assert_has(&records[0], &expected);
}

#[test]
fn resets_end_a_record() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let asked = [client.get(1, "/1"), client.get(3, "/3"), client.call(5, "/s/m"), client.get(7, "/7")].concat();
    let owned = vec![
        (Side::Client, asked),
        (
            Side::Server,
            [server.headers(0, 1, &[(":status", "200")]), server.headers(0, 7, &[(":status", "204")])].concat(),
        ),
        (Side::Server, frame(DATA, 0, 1, b"par")),
        (Side::Client, [frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(RST_STREAM, 0, 7, &[0, 0, 0, 8])].concat()),
        (Side::Server, frame(RST_STREAM, 0, 3, &[0, 0, 0, 7])),
        (Side::Client, frame(RST_STREAM, 0, 5, &[0, 0, 0xff, 0xff])),
        (Side::Server, frame(DATA, END_STREAM, 7, b"late")),
    ];
    let records = records(owned);
    assert_eq!(records.len(), 4);
    let cancel = json!({"code": 8, "error": "CANCEL", "at_ns": 3 * MS});
    let expected = [
        json!({
            "sequence": 1, "reasons": [],
            "response": {"status": null, "reset": {"code": 7, "error": "REFUSED_STREAM", "at_ns": 4 * MS}, "end": 7 * MS},
        }),
        json!({
            "sequence": 3, "reasons": [],
            "request": {"reset": cancel}, "response": {"status": 204, "body_bytes": 4, "end": 9 * MS},
        }),
        json!({
            "sequence": 0, "reasons": [],
            "request": {"reset": cancel}, "response": {"status": 200, "bytes": null, "body_bytes": null, "end": null},
        }),
        json!({
            "sequence": 2, "reasons": ["no_response"], "response": null,
            "request": {"reset": {"code": 65535, "at_ns": 5 * MS}},
        }),
    ];
    for (record, expected) in records.iter().zip(&expected) {
        assert_has(record, expected);
    }
}

#[test]
fn a_cancelled_request_waits_a_moment_for_a_late_response() {
    let mut client = Peer::new();
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(Side::Client, &client_start());
    conversation.say(Side::Client, &client.get(1, "/1"));
    conversation.say(Side::Client, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    assert_eq!(conversation.take().len(), 0);
    conversation.pause(500 * MS);
    assert_eq!(conversation.take().len(), 0);
    conversation.pause(501 * MS);
    assert_has(&conversation.take()[0], &json!({"response": null, "reasons": ["no_response"]}));
}

#[test]
fn an_early_response_waits_a_moment_for_the_end_of_the_request() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = vec![
        (Side::Client, [client.call(1, "/s/m"), frame(DATA, 0, 1, &message(b"abc"))].concat()),
        (Side::Server, server.headers(END_STREAM, 1, &[(":status", "413")])),
        (Side::Server, frame(RST_STREAM, 0, 1, &[0, 0, 0, 0])),
        (Side::Client, frame(DATA, END_STREAM, 1, b"late")),
    ];
    let records = records(owned);
    assert_eq!(records.len(), 1);
    let reset = json!({"code": 0, "error": "NO_ERROR", "at_ns": 2 * MS});
    assert_has(
        &records[0],
        &json!({"request": {"end": 6 * MS}, "response": {"status": 413, "end": 4 * MS}, "reasons": []}),
    );
    assert_eq!(records[0]["response"]["reset"], reset);
}

#[test]
fn an_early_response_to_a_request_that_never_ends_is_not_complete() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = vec![
        (Side::Client, [client.call(1, "/s/m"), frame(DATA, 0, 1, &message(b"abc"))].concat()),
        (Side::Server, server.headers(END_STREAM, 1, &[(":status", "413")])),
    ];
    let records = records(owned);
    let expected = json!({
        "request": {"bytes": null, "end": null}, "response": {"status": 413, "end": 4 * MS}, "reasons": ["closed"],
    });
    assert_has(&records[0], &expected);
}

#[test]
fn a_head_behind_the_end_of_a_response_is_no_part_of_it() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = vec![
        (Side::Client, client.call(1, "/s/m")),
        (Side::Server, server.headers(END_STREAM, 1, &[(":scheme", "http")])),
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Client, frame(DATA, END_STREAM, 1, b"")),
    ];
    let records = records(owned);
    assert_has(&records[0], &json!({"response": {"status": null, "start": 4 * MS, "end": 4 * MS}}));
    assert_eq!(records[0]["reasons"], json!(["parse_error"]));
}

#[test]
fn a_message_behind_the_reset_of_its_sender_does_not_end_with_it() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let reset = || frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let of_client = records(vec![
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Client, reset()),
        (Side::Client, client.get(1, "/")),
        (Side::Server, frame(DATA, END_STREAM, 1, b"hello")),
    ]);
    assert_eq!(of_client.len(), 1);
    let request = json!({ "start": 5 * MS, "end": 5 * MS, "reset": null });
    assert_has(&of_client[0], &json!({ "reasons": ["parse_error"], "request": request }));

    let (mut client, mut server) = (Peer::new(), Peer::new());
    let of_server = records(vec![
        (Side::Server, server.headers(0, 1, &[(":status", "103")])),
        (Side::Server, reset()),
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Client, client.get(1, "/")),
        (Side::Server, frame(DATA, END_STREAM, 1, b"hello")),
    ]);
    assert_eq!(of_server.len(), 1);
    let response = json!({ "start": 5 * MS, "end": 7 * MS, "reset": null });
    assert_has(&of_server[0], &json!({ "reasons": ["parse_error"], "response": response }));
}

#[test]
fn goaway_gives_up_what_was_not_processed() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = vec![
        (Side::Client, [client.get(1, "/1"), client.get(3, "/3")].concat()),
        (Side::Server, frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0bcalm")),
        (Side::Server, server.headers(END_STREAM, 1, &[(":status", "204")])),
    ];
    let records = records(owned);
    assert_eq!(records.len(), 2);
    let goaway = json!({"code": 11, "error": "ENHANCE_YOUR_CALM", "at_ns": MS});
    assert_has(&records[0], &json!({"sequence": 1, "response": {"status": null, "goaway": goaway}, "reasons": []}));
    assert_has(&records[1], &json!({"sequence": 0, "response": {"status": 204}, "reasons": []}));
}

#[test]
fn content_before_a_head_is_no_part_of_the_message() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = begin(vec![
        (Side::Client, client.get(1, "/")),
        (Side::Client, client.get(3, "/3")),
        (Side::Server, frame(DATA, 0, 1, b"early")),
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Server, frame(DATA, END_STREAM, 1, b"ok")),
        (Side::Server, frame(DATA, END_STREAM, 3, b"never a head")),
    ]);
    let records = run(&REGISTRATION, &script(&owned));
    assert_has(&records[0], &json!({"sequence": 0, "response": {"status": 200, "body_bytes": 2}, "reasons": []}));
    assert_has(&records[1], &json!({"sequence": 1, "response": {"status": null}, "reasons": ["parse_error"]}));

    // Ended before it began, while the request goes on.
    let call = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h")];
    let owned = begin(vec![
        (Side::Client, client.headers(0, 5, &call)),
        (Side::Server, frame(DATA, END_STREAM, 5, b"early")),
        (Side::Server, server.headers(0, 5, &[(":status", "200")])),
    ]);
    let records = run(&REGISTRATION, &script(&owned));
    assert_has(&records[0], &json!({"response": {"status": 200, "bytes": null, "end": null}}));
}

#[test]
fn a_pushed_stream_is_an_exchange_of_its_own() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut promise = vec![0, 0, 0, 2];
    let request = [(":method", "GET"), (":scheme", "http"), (":path", "/style"), (":authority", "h")];
    promise.extend(server.0.block(&request, Form::Indexing));
    let answered = [
        frame(PUSH_PROMISE, END_HEADERS, 1, &promise),
        server.headers(END_STREAM, 1, &[(":status", "200")]),
        server.headers(0, 2, &[(":status", "200")]),
        frame(DATA, END_STREAM, 2, b"css"),
    ]
    .concat();
    let records = records(vec![(Side::Client, client.get(1, "/")), (Side::Server, answered)]);
    assert_eq!(records.len(), 2);
    assert_has(&records[0], &json!({"sequence": 0, "request": {"path": "/", "pushed": null}, "reasons": []}));
    let expected = json!({
        "sequence": 1, "reasons": [],
        "request": {"path": "/style", "stream_id": 2, "pushed": true, "bytes": promise.len() + 9},
        "response": {"status": 200, "body_bytes": 3},
    });
    assert_has(&records[1], &expected);
}

#[test]
fn connect_and_extended_connect() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "h"),
    ];
    let asked =
        [client.headers(0, 1, &[(":method", "CONNECT"), (":authority", "h:25")]), client.headers(0, 3, &extended)];
    let owned = vec![
        (Side::Client, asked.concat()),
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Server, server.headers(0, 3, &[(":status", "200")])),
        (Side::Client, [frame(DATA, END_STREAM, 1, b"HELO"), frame(DATA, END_STREAM, 3, b"x")].concat()),
        (Side::Server, [frame(DATA, END_STREAM, 1, b"250"), frame(DATA, END_STREAM, 3, b"y")].concat()),
    ];
    let records = records(owned);
    assert_has(
        &records[0],
        &json!({"request": {"method": "CONNECT", "target": "h:25", "path": "h:25", "body_bytes": 4}}),
    );
    let expected =
        json!({"request": {"target": "/chat", "connect_protocol": "websocket"}, "response": {"body_bytes": 1}});
    assert_has(&records[1], &expected);
}

fn grpc_conversation() -> Owned {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut split = message(b"abcdefgh");
    let tail = split.split_off(3);
    vec![
        (Side::Client, [client.call(1, "/pkg.Greeter/Hello"), frame(DATA, END_STREAM, 1, &message(b"me"))].concat()),
        (Side::Server, server.headers(0, 1, &[(":status", "200"), ("content-type", "application/grpc")])),
        (Side::Server, frame(DATA, 0, 1, &[message(b"one"), message(b""), split].concat())),
        (Side::Server, frame(DATA, PADDED, 1, &[&[2], &tail[..], &[0, 0]].concat())),
        (Side::Server, server.headers(END_STREAM, 1, &[("grpc-status", "5"), ("grpc-message", "not%20here")])),
    ]
}

#[test]
fn a_grpc_call() {
    let records = records(grpc_conversation());
    assert_eq!(records.len(), 1);
    let expected = json!({
        "protocol": "grpc", "sequence": 0, "reasons": [],
        "request": {
            "service": "pkg.Greeter", "method": "Hello", "path": "/pkg.Greeter/Hello", "messages": 1,
            "first_message_ns": 0, "last_message_ns": 0, "body_bytes": 7, "stream_id": 1, "host": "example.org",
        },
        "response": {
            "status": 200, "grpc_status": 5, "grpc_message": "not here", "messages": 3, "first_message_ns": 2 * MS,
            "last_message_ns": 2 * MS, "body_bytes": 26, "version": "2", "end": 7 * MS,
            "headers": {"content-type": ["application/grpc"]},
            "trailers": {"grpc-status": ["5"], "grpc-message": ["not%20here"]},
        },
    });
    assert_has(&records[0], &expected);
}

#[test]
fn a_grpc_call_answered_by_trailers_only() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")];
    let owned = vec![
        (Side::Client, [client.call(1, "/s/m"), frame(DATA, END_STREAM, 1, &message(b""))].concat()),
        (Side::Server, server.headers(END_STREAM, 1, &fields)),
    ];
    let records = records(owned);
    let expected = json!({"protocol": "grpc", "response": {"grpc_status": 12, "messages": 0}, "reasons": []});
    assert_has(&records[0], &expected);
}

#[test]
fn an_unanswered_request_is_reported_at_the_end() {
    let mut client = Peer::new();
    let records = records(vec![(Side::Client, client.get(1, "/1"))]);
    assert_has(&records[0], &json!({"sequence": 0, "response": null, "reasons": ["no_response"]}));
}

fn upgrading_conversation() -> Owned {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let asked = b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABk\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec();
    let first = server.headers(END_STREAM, 1, &[(":status", "204")]);
    vec![
        (Side::Client, asked.to_vec()),
        (Side::Server, [switched, server_start(), first].concat()),
        (Side::Client, [client_start(), client.get(3, "/3")].concat()),
        (Side::Server, server.headers(END_STREAM, 3, &[(":status", "404")])),
    ]
}

#[test]
fn an_upgraded_connection_answers_on_stream_1() {
    let owned = upgrading_conversation();
    let records = assert_split_invariant(&UPGRADING, &script(&owned));
    assert_eq!(records.len(), 2);
    let request = json!({"bytes": owned[0].1.len(), "start": MS, "path": "/1", "version": "1.1"});
    let response = json!({"status": 204, "version": "2", "start": 2 * MS});
    assert_has(&records[0], &json!({"sequence": 0, "request": request, "response": response, "reasons": []}));
    let response = json!({"status": 404, "version": "2"});
    assert_has(&records[1], &json!({"sequence": 1, "request": {"path": "/3"}, "response": response, "reasons": []}));
}

#[test]
fn holes_in_an_upgrade_pair_nothing_wrongly() {
    let owned = upgrading_conversation();
    with_holes(&UPGRADING, &script(&owned), &[1, 5, 30, 100], |what, records| {
        for record in records {
            let (path, status) = (&record["request"]["path"], &record["response"]["status"]);
            let pairs = [("/1", 204), ("/1", 101), ("/3", 404)];
            let known = path.is_string() && status.is_number();
            assert!(!known || pairs.iter().any(|(p, s)| path == p && status == s), "{what}: {record:#}");
        }
    });
}

static UPGRADING: Registration = crate::http::REGISTRATION;

#[test]
fn recognition() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let odd_settings = frame(SETTINGS, 0, 0, &[0x77, 0x77, 0, 0, 0, 1]);
    let three = [server_start(), frame(PING, 0, 0, b"12345678")].concat();
    for (name, head, expected) in [
        ("preface", client_start(), Inference::Sure(Sender::Client)),
        ("part of a preface", b"PRI * HT".to_vec(), Inference::More),
        ("another method", b"PRIX / HTTP/1.1\r\n\r\n".to_vec(), Inference::No),
        ("settings", frame(SETTINGS, 0, 0, &[]), Inference::Maybe(Sender::Either)),
        ("settings of the server", server_start(), Inference::Maybe(Sender::Either)),
        ("three frames", three, Inference::Sure(Sender::Either)),
        ("settings that do not exist", odd_settings, Inference::No),
        ("settings cut", frame(SETTINGS, 0, 0, &[])[..8].to_vec(), Inference::More),
        ("a request", client.get(7, "/"), Inference::Sure(Sender::Client)),
        ("a response", server.headers(0, 7, &[(":status", "200")]), Inference::Sure(Sender::Server)),
        ("trailers", server.headers(1, 7, &[("grpc-status", "0")]), Inference::Maybe(Sender::Either)),
        ("the start of a long frame", frame(DATA, 0, 1, &[b'x'; 9000])[..100].to_vec(), Inference::More),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Inference::No),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc], Inference::No),
        ("PostgreSQL SSLRequest", vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], Inference::More),
        ("PostgreSQL startup", b"\0\0\0\x17\0\x03\0\0user\0a\0\0".to_vec(), Inference::No),
        ("zeros", vec![0; 64], Inference::No),
        ("DNS over TCP", vec![0, 0x1d, 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], Inference::No),
    ] {
        assert_eq!((REGISTRATION.infer)(&head, Transport::Tcp), expected, "{name}");
    }
}

/// Many streams, one after another and at once, over a few transfers each.
fn long_conversation() -> Owned {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut owned = begin(vec![]);
    for round in 0..4u32 {
        let (a, b) = (4 * round + 1, 4 * round + 3);
        owned.push((Side::Client, [client.get(a, &format!("/{a}")), client.call(b, &format!("/s/m{b}"))].concat()));
        owned.push((Side::Client, frame(DATA, END_STREAM, b, &message(format!("message {b}").as_bytes()))));
        let head = [(":status", "200"), ("content-type", "application/grpc"), ("x-stream", &b.to_string())];
        let other = (201 + round).to_string();
        let first = [server.headers(0, b, &head), frame(DATA, 0, b, &message(b"first"))].concat();
        owned.push((Side::Server, first));
        let fields = [(":status", other.as_str()), ("x-stream", &a.to_string()), ("server", "test")];
        owned.push((Side::Server, server.headers(0, a, &fields)));
        owned.push((Side::Server, frame(DATA, END_STREAM, a, format!("body of {a}").as_bytes())));
        let trailers = server.headers(END_STREAM, b, &[("grpc-status", "0"), ("x-end", &b.to_string())]);
        owned.push((Side::Server, [frame(DATA, 0, b, &message(b"second")), trailers].concat()));
    }
    owned
}

/// Asserts that whatever a record of [`long_conversation`] says is the truth.
fn assert_true(record: &Value, what: &str) {
    let known = |value: &Value, truth: Value| {
        assert!(value.is_null() || *value == truth, "{what}: {value} is not {truth} in {record:#}");
    };
    let (request, response) = (&record["request"], &record["response"]);
    let id = [&request["stream_id"], &response["stream_id"]].into_iter().find_map(Value::as_u64).expect("a stream");
    let is_call = id % 4 == 3;
    let round = (id - 1) / 4;
    known(&record["sequence"], json!(record["sequence"].as_u64().filter(|sequence| *sequence <= (id - 1) / 2)));
    known(&request["path"], json!(if is_call { format!("/s/m{id}") } else { format!("/{id}") }));
    known(&request["host"], json!("example.org"));
    known(&request["scheme"], json!("http"));
    known(&request["headers"]["accept"], json!(["*/*"]));
    known(&request["headers"]["te"], json!(["trailers"]));
    known(&response["headers"]["x-stream"], json!([id.to_string()]));
    known(&response["headers"]["server"], json!(["test"]));
    known(&response["trailers"]["x-end"], json!([id.to_string()]));
    known(&response["status"], json!(if is_call { 200 } else { 201 + round }));
    if is_call {
        known(&request["messages"], json!(1));
        known(&response["messages"], json!(2));
        known(&request["body_bytes"], json!(5 + format!("message {id}").len()));
        known(&response["body_bytes"], json!(21));
        known(&response["grpc_status"], json!(0));
    } else {
        assert_eq!(record["protocol"], "http");
        assert!(response["trailers"].is_null());
        known(&request["method"], json!("GET"));
        known(&request["body_bytes"], json!(0));
        known(&response["body_bytes"], json!(format!("body of {id}").len()));
    }
    if record["reasons"] == json!([]) {
        assert!(
            request["path"].is_string() && response["status"].is_u64() && response["end"].is_u64(),
            "{what}: {record:#}"
        );
        assert_eq!(record["protocol"], if is_call { "grpc" } else { "http" });
    }
}

fn assert_all_true(records: &[Value], what: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for record in records {
        assert_true(record, what);
        let id = record["request"]["stream_id"].as_u64().or(record["response"]["stream_id"].as_u64());
        assert!(seen.insert(id), "{what}: stream {id:?} twice");
    }
}

#[test]
fn a_long_conversation_is_complete() {
    let records = run(&REGISTRATION, &script(&long_conversation()));
    assert_eq!(records.len(), 8);
    assert_all_true(&records, "whole");
    assert!(records.iter().all(|record| record["reasons"] == json!([])));
}

#[test]
fn holes_make_nothing_untrue() {
    let owned = long_conversation();
    let mut affected = 0;
    with_holes(&REGISTRATION, &script(&owned), &[1, 7, 20, 200], |what, records| {
        assert_all_true(&records, what);
        affected += usize::from(records.iter().any(|record| record["reasons"] != json!([])));
        let paired = records.iter().filter(|r| r["request"]["path"].is_string() && r["response"]["end"].is_u64());
        // What is lost in front of the first bytes that are seen cannot be noticed.
        let is_start =
            what.starts_with("transfer 0,") || what.starts_with("transfer 1, hole 0.") && !what.ends_with("Truncated");
        assert!(is_start || paired.count() >= 6, "{what}: little survived");
    });
    assert!(affected > 100);
}

#[test]
fn a_hole_within_content_costs_neither_framing_nor_table() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = begin(vec![
        (Side::Client, [client.get(1, "/1"), client.get(3, "/3")].concat()),
        (Side::Server, server.headers(0, 1, &[(":status", "203"), ("x-a", "1")])),
        (Side::Server, frame(DATA, 0, 1, &[b'x'; 200])),
        (Side::Server, frame(DATA, END_STREAM, 1, b"end")),
        (Side::Server, server.headers(END_STREAM, 3, &[(":status", "203"), ("x-a", "1")])),
    ]);
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    for (index, (side, bytes)) in owned.iter().enumerate() {
        if index == 4 {
            conversation.say_part(*side, &bytes[..50], 100);
            conversation.lose(*side, 20);
            conversation.say_part(*side, &bytes[120..], (bytes.len() - 120) as u64);
        } else {
            conversation.say(*side, bytes);
        }
    }
    let mut records = conversation.take();
    records.extend(conversation.close());
    let lossy = json!({"sequence": 0, "response": {"body_bytes": 203}, "reasons": ["gap"], "missing_bytes": 20});
    assert_has(&records[0], &lossy);
    assert_has(&records[1], &json!({"sequence": 1, "response": {"headers": {"x-a": ["1"]}}, "reasons": []}));
}

#[test]
fn a_hole_within_headers_costs_the_table_and_not_the_framing() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let head = [(":status", "203"), ("x-a", "1"), ("x-b", "2")];
    let first = server.headers(0, 1, &head);
    let lost = first.len() - 14;
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(Side::Client, &client_start());
    conversation.say(Side::Client, &[client.get(1, "/1"), client.get(3, "/3")].concat());
    conversation.say(Side::Server, &server_start());
    conversation.say_part(Side::Server, &first[..14], first.len() as u64);
    conversation.say(Side::Server, &frame(DATA, END_STREAM, 1, b"body"));
    conversation.say(Side::Server, &server.headers(END_STREAM, 3, &[(":status", "203"), ("x-b", "2"), ("x-c", "3")]));
    let records = conversation.close();
    assert!(lost > 5);
    let cut =
        json!({"response": {"status": 203, "body_bytes": 4, "bytes": first.len() + 13}, "reasons": ["truncated"]});
    assert_has(&records[0], &cut);
    let unknown = json!({"response": {"status": null, "headers": {"x-c": ["3"]}}, "reasons": ["hpack_unknown"]});
    assert_has(&records[1], &unknown);
    assert!(records[1]["response"]["headers"]["x-b"].is_null());
}

/// What the capture limit cuts off the end of a large send, with the rest of a frame beginning the next one, costs the
/// requests in it and the table, and none of those that follow.
#[test]
fn requests_behind_a_cut_are_seen() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let call = |client: &mut Peer, stream: u32| {
        let path = format!("/s/M{}", stream % 4);
        [client.call(stream, &path), frame(DATA, END_STREAM, stream, &message(b"abc"))].concat()
    };
    let answer = |server: &mut Peer, stream| {
        let head = server.headers(0, stream, &[(":status", "200"), ("content-type", "application/grpc")]);
        let body = frame(DATA, 0, stream, &message(b"abc"));
        [head, body, server.headers(END_STREAM, stream, &[("grpc-status", "0")])].concat()
    };
    let batch: Vec<Vec<u8>> = (0..6).map(|call_number| call(&mut client, 2 * call_number + 1)).collect();
    let (cut, whole) = (batch[0].len() + 20, batch.concat());
    // The last call of the batch is in two sends.
    let split = whole.len() - 12;
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(Side::Client, &client_start());
    conversation.say(Side::Server, &server_start());
    conversation.say_part(Side::Client, &whole[..cut], split as u64);
    conversation.say(Side::Client, &[&whole[split..], &call(&mut client, 13), &call(&mut client, 15)].concat());
    conversation.say(Side::Client, &call(&mut client, 17));
    for stream in (1..=17).step_by(2) {
        conversation.say(Side::Server, &answer(&mut server, stream));
    }
    let records = conversation.close();
    assert_eq!(records.len(), 9, "{records:#?}");
    assert_has(&records[0], &json!({"request": {"stream_id": 1, "service": "s"}, "reasons": []}));
    for stream in [13, 15, 17] {
        let found = records.iter().find(|record| record["request"]["stream_id"] == stream);
        let record = found.unwrap_or_else(|| panic!("no request on stream {stream}: {records:#?}"));
        assert_has(record, &json!({"protocol": "grpc", "response": {"grpc_status": 0}, "reasons": ["hpack_unknown"]}));
        assert_eq!(record["request"]["body_bytes"], message(b"abc").len(), "{record:#?}");
    }
}

/// The conversation as seen from transfer `join` on.
fn run_from(owned: &Owned, join: usize) -> Vec<Value> {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    for (index, (side, bytes)) in owned.iter().enumerate() {
        match index < join {
            true => conversation.lose(*side, bytes.len() as u64),
            false => conversation.say(*side, bytes),
        }
    }
    let mut records = conversation.take();
    records.extend(conversation.close());
    records
}

#[test]
fn joined_at_any_transfer_nothing_is_untrue() {
    let owned = long_conversation();
    for join in 0..owned.len() {
        let records = run_from(&owned, join);
        let what = format!("joined at {join}");
        assert_all_true(&records, &what);
        let whole = owned.len().saturating_sub(join.max(2)) / 6;
        let answered = records.iter().filter(|r| r["request"]["stream_id"].is_u64() && r["response"]["end"].is_u64());
        assert!(answered.count() >= 2 * whole, "{what}: {records:#?}");
        if join <= 2 {
            let complete = records.iter().filter(|record| record["reasons"] == json!([])).count();
            assert_eq!(complete, records.len(), "{what}");
        }
    }
}

#[test]
fn joined_within_a_frame_its_rest_is_not_taken_for_one() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    conversation.say(Side::Server, &[0; 5]);
    conversation.say(Side::Client, &client.get(1, "/1"));
    conversation.say(Side::Server, &server.headers(END_STREAM, 1, &[(":status", "204")]));
    let records = conversation.close();
    assert_eq!(records.len(), 1);
    assert_has(&records[0], &json!({"request": {"path": "/1"}, "response": {"status": 204}, "reasons": []}));
}

#[test]
fn joined_late_known_fields_are_learnt_again() {
    let records = run_from(&long_conversation(), 8);
    let call = records.iter().find(|record| record["request"]["stream_id"] == 7).expect("the call on stream 7");
    let expected = json!({"request": {"path": "/s/m7", "host": null}, "response": {"status": 200, "body_bytes": 21}});
    assert_has(call, &expected);
    assert_eq!(call["reasons"], json!(["hpack_unknown"]));
}

#[test]
fn joined_late_a_request_that_is_not_answered_is_not_midstream() {
    let records = run_from(&vec![(Side::Client, Peer::new().get(9, "/"))], 0);
    assert_has(&records[0], &json!({"sequence": 0, "response": null, "reasons": ["no_response"]}));
}

#[test]
fn a_response_to_an_unseen_request_is_reported_as_such() {
    let mut server = Peer::new();
    let answered = [server.headers(0, 9, &[(":status", "200")]), frame(DATA, END_STREAM, 9, b"abc")].concat();
    let owned = vec![(Side::Client, frame(PING, 0, 0, &[0; 8]).repeat(3)), (Side::Server, answered)];
    let records = run_from(&owned, 0);
    assert_eq!(records.len(), 1);
    let response = json!({"status": 200, "body_bytes": 3, "stream_id": 9});
    assert_has(
        &records[0],
        &json!({"sequence": null, "request": null, "response": response, "reasons": ["midstream"]}),
    );
}

#[test]
fn a_call_joined_in_its_middle_still_tells_its_status() {
    let mut server = Peer::new();
    let trailers = server.headers(END_STREAM, 5, &[("grpc-status", "14"), ("grpc-message", "gone")]);
    let owned = vec![
        (Side::Client, frame(PING, 0, 0, &[0; 8]).repeat(3)),
        (Side::Server, [frame(DATA, 0, 5, &message(b"abc")), trailers].concat()),
    ];
    let records = run_from(&owned, 0);
    let response =
        json!({"grpc_status": 14, "grpc_message": "gone", "messages": null, "body_bytes": null, "bytes": null});
    assert_has(&records[0], &json!({"protocol": "grpc", "request": null, "response": response}));
    assert_eq!(records[0]["reasons"], json!(["midstream"]));
}

#[test]
fn hostile_peers_are_bounded() {
    let mut client = Peer::new();
    let mut flood = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    flood.say(Side::Client, &client_start());
    flood.say(Side::Client, &frame(HEADERS, 0, 1, &client.0.block(&[(":method", "GET")], Form::Literal)));
    for _ in 0..10_000 {
        flood.say(Side::Client, &frame(CONTINUATION, 0, 1, &[0x10, 1, b'a', 1, b'b'].repeat(10)));
    }
    flood.say(Side::Client, &frame(CONTINUATION, END_HEADERS | END_STREAM, 1, b""));
    flood.say(Side::Client, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    let records = flood.close();
    assert_has(&records[0], &json!({"request": {"method": "GET"}, "reasons": ["truncated", "no_response"]}));
    let values = records[0]["request"]["headers"]["a"].as_array().map(Vec::len);
    assert!(values.is_some_and(|count| count < 3000));

    let mut many = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    many.say(Side::Client, &client_start());
    for id in 0..3000 {
        many.say(Side::Client, &client.get(2 * id + 1, "/"));
    }
    let given_up = many.take();
    assert_eq!(given_up.len(), 3000 - crate::Limits::default().pending);
    assert!(given_up.iter().all(|record| record["reasons"] == json!(["no_response"])));
}

#[test]
fn broken_frames_lose_the_framing_and_it_is_found_again() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let owned = begin(vec![
        (Side::Client, [client.get(1, "/1"), client.get(3, "/3")].concat()),
        (Side::Server, server.headers(0, 1, &[(":status", "200")])),
        (Side::Server, frame(DATA, 0, 0, b"data on stream 0")),
        (Side::Server, server.headers(END_STREAM, 3, &[(":status", "404"), ("x-a", "1")])),
    ]);
    let records = run(&REGISTRATION, &script(&owned));
    assert_eq!(records.len(), 2);
    assert_has(&records[0], &json!({"sequence": 1, "response": {"status": 404, "body_bytes": 0}, "reasons": []}));
    let torn =
        json!({"sequence": 0, "response": {"status": 200, "bytes": null}, "reasons": ["no_response", "parse_error"]});
    assert_has(&records[1], &torn);
}

fn op() -> impl Strategy<Value = (bool, u8, u8, u32, Vec<u8>)> {
    (any::<bool>(), 0u8..12, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_frames_do_no_harm(ops in prop::collection::vec(op(), 0..60), midstream: bool) {
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, midstream));
        conversation.say(Side::Client, &client_start());
        for (client, kind, flags, stream, payload) in ops {
            let side = if client { Side::Client } else { Side::Server };
            let bytes = frame(kind, flags, stream, &payload);
            match flags {
                0..10 => conversation.say_part(side, &bytes[..bytes.len() / 2], bytes.len() as u64),
                10..20 => conversation.lose(side, bytes.len() as u64),
                _ => conversation.say(side, &bytes),
            }
        }
        conversation.take();
        conversation.close();
    }

    #[test]
    fn random_bytes_do_no_harm(parts in prop::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
        conversation.say(Side::Client, &client_start());
        for (client, bytes) in parts {
            conversation.say(if client { Side::Client } else { Side::Server }, &bytes);
        }
        conversation.close();
    }

    #[test]
    fn several_holes_make_nothing_untrue(holes in prop::collection::vec((0usize..30, 0usize..100, 1usize..300), 1..6)) {
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        for (index, (side, bytes)) in long_conversation().iter().enumerate() {
            match holes.iter().find(|(at, ..)| *at == index) {
                Some((_, start, length)) => {
                    let start = (*start).min(bytes.len());
                    let end = (start + length).min(bytes.len());
                    conversation.say_part(*side, &bytes[..start], end as u64);
                    conversation.say_part(*side, &bytes[end..], (bytes.len() - end) as u64);
                }
                None => conversation.say(*side, bytes),
            }
        }
        let mut records = conversation.take();
        records.extend(conversation.close());
        assert_all_true(&records, &format!("{holes:?}"));
    }
}

/// Whether the client's bytes are a preface tells whether the connection is seen from its start.
#[test]
fn a_preface_that_is_none_shows_with_the_byte_that_differs() {
    let headers = [0, 0, 1, 1, 4, 0, 0, 0, 2, 0x88, 0];
    let older = [0, 0, 1, 6, 0, 0xff, 3, 0];
    let script = [(Side::Server, &headers[..]), (Side::Client, b"PRI *P/2.0"), (Side::Server, &older)];
    assert_eq!(assert_split_invariant(&REGISTRATION, &script).len(), 1);
}
