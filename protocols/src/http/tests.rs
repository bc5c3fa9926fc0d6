use proptest::prelude::*;
use serde_json::{Value, json};

use super::REGISTRATION;
use crate::Side::{Client, Server};
use crate::testing::{Conversation, Script, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender, Side, Transport};

const HTTP: &crate::Registration = &REGISTRATION;

fn records(script: &Script<'_>) -> Vec<Value> {
    assert_split_invariant(HTTP, script)
}

/// "POST /a 5 > 200 3 gap": body sizes, `?` where unknown, `-` for a message that was not seen, then the reasons.
fn brief(record: &Value) -> String {
    let size = |part: &Value| {
        assert_eq!(part["bytes"].is_null(), part["body_bytes"].is_null(), "{part}");
        part["body_bytes"].as_u64().map_or("?".to_owned(), |size| size.to_string())
    };
    let text = |value: &Value| value.as_str().unwrap_or("not text").to_owned();
    let mut words = Vec::new();
    match &record["request"] {
        Value::Null => words.push("-".to_owned()),
        request => words.extend([text(&request["method"]), text(&request["target"]), size(request)]),
    }
    words.push(">".to_owned());
    match &record["response"] {
        Value::Null => words.push("-".to_owned()),
        response => words.extend([response["status"].to_string(), size(response)]),
    }
    words.extend(record["reasons"].as_array().into_iter().flatten().map(text));
    words.join(" ")
}

fn briefs(records: &[Value]) -> Vec<String> {
    records.iter().map(brief).collect()
}

#[test]
fn a_request_and_its_response() {
    let get = b"GET /a?b=1 HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\nX-Id: 1\r\naccept: b\r\n\r\n";
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(
        records(&[(Client, get), (Server, ok)]),
        [json!({
            "protocol": "http",
            "sequence": 0,
            "request": {
                "method": "GET", "target": "/a?b=1", "path": "/a", "version": "1.1", "host": "localhost",
                "headers": { "host": ["localhost"], "accept": ["a", "b"], "x-id": ["1"] }, "body_bytes": 0,
                "bytes": get.len(), "start": 1_000_000, "end": 1_000_000,
            },
            "response": {
                "status": 200, "reason": "OK", "version": "1.1", "headers": { "content-length": ["5"] },
                "body_bytes": 5, "bytes": ok.len(), "start": 2_000_000, "end": 2_000_000,
            },
            "reasons": [],
            "missing_bytes": 0,
        })]
    );
}

/// Name, conversation, what comes out.
type Case<'a> = (&'a str, &'a Script<'a>, &'a [&'a str]);

fn check(cases: &[Case<'_>]) {
    for (name, script, expected) in cases {
        assert_eq!(briefs(&records(script)), *expected, "{name}");
    }
}

#[test]
fn framing_of_requests() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    check(&[
        ("no body", &[(Client, b"GET / HTTP/1.1\r\n\r\n"), (Server, OK)], &["GET / 0 > 200 0"]),
        ("no response", &[(Client, b"GET / HTTP/1.1\r\n\r\n")], &["GET / 0 > - no_response"]),
        (
            "length",
            &[(Client, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), (Server, OK)],
            &["POST / 3 > 200 0"],
        ),
        (
            "length repeated in one field and in two",
            &[(Client, b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\ncontent-length:3\r\n\r\nabc"), (Server, OK)],
            &["POST / 3 > 200 0"],
        ),
        (
            "chunks with extensions and trailers",
            &[
                (Client, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n"),
                (Client, b"00A ;c=\"d\"\r\n0123456789\r\n000\r\nX-T: 1\r\n\r\n"),
                (Server, OK),
            ],
            &["POST / 13 > 200 0"],
        ),
        (
            "length is overruled by chunked, which may follow other codings",
            &[
                (Client, b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n"),
                (Client, b"Transfer-Encoding: , Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
                (Server, OK),
            ],
            &["POST / 1 > 200 0"],
        ),
        (
            "line ends before requests, bare line feeds",
            &[
                (Client, b"\r\nPOST /a HTTP/1.1\nContent-Length: 2\n\nab\r\n\r\n"),
                (Server, OK),
                (Client, b"GET /b HTTP/1.0\n\n"),
                (Server, b"HTTP/1.0 204 No Content\n\n"),
            ],
            &["POST /a 2 > 200 0", "GET /b 0 > 204 0"],
        ),
        (
            "a folded field is one",
            &[(Client, b"POST / HTTP/1.1\r\nX-A: b\r\n\tc\r\nContent-Length:\r\n 1\r\n\r\na"), (Server, OK)],
            &["POST / 1 > 200 0"],
        ),
        (
            "unusual methods",
            &[(Client, b"get / HTTP/1.1\r\n\r\n"), (Server, OK), (Client, b"M-X!2 / HTTP/1.1\r\n\r\n"), (Server, OK)],
            &["get / 0 > 200 0", "M-X!2 / 0 > 200 0"],
        ),
    ]);
}

#[test]
fn framing_of_responses() {
    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    check(&[
        (
            "HEAD, 204 and 304 have no body whatever they say",
            &[
                (Client, b"HEAD / HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
                (Client, GET),
                (Server, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"),
                (Client, GET),
                (Server, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
                (Client, GET),
                (Server, b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na"),
            ],
            &["HEAD / 0 > 200 0", "GET / 0 > 304 0", "GET / 0 > 204 0", "GET / 0 > 200 1"],
        ),
        (
            "interim responses are not responses",
            &[
                (Client, b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
                (Server, b"HTTP/1.1 100 Continue\r\n\r\n"),
                (Client, b"ab"),
                (
                    Server,
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                ),
            ],
            &["POST / 2 > 201 0"],
        ),
        (
            "until the end",
            &[(Client, b"GET / HTTP/1.0\r\n\r\n"), (Server, b"HTTP/1.0 200 OK\r\n\r\nabc"), (Server, b"def")],
            &["GET / 0 > 200 6"],
        ),
        ("nothing until the end", &[(Client, GET), (Server, b"HTTP/1.1 200 OK\r\n\r\n")], &["GET / 0 > 200 0"]),
        (
            "a coding that does not end itself",
            &[(Client, GET), (Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nabc")],
            &["GET / 0 > 200 3"],
        ),
        (
            "HTTP/1.0 that stays open",
            &[
                (Client, b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                (Server, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na"),
                (Client, b"GET /2 HTTP/1.0\r\n\r\n"),
                (Server, b"HTTP/1.0 200 OK\r\n\r\nbc"),
            ],
            &["GET /1 0 > 200 1", "GET /2 0 > 200 2"],
        ),
        (
            "pipelining",
            &[
                (Client, b"GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\n"),
                (Server, b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
            ],
            &["GET /1 0 > 200 1", "HEAD /2 0 > 201 0", "GET /3 0 > 202 2"],
        ),
    ]);
}

/// Two threads serve the directions: the call that wrote the request is reported after the one that read its response,
/// of which not all was captured, and after the end of the connection.
#[test]
fn a_response_that_is_reported_before_its_request_waits_for_it() {
    for (length, captured, body) in [("Content-Length: 9000\r\n", 100, 9000), ("", 100, 9000), ("", 9000, 9000)] {
        let response = [format!("HTTP/1.1 200 OK\r\n{length}\r\n").as_bytes(), &vec![b'a'; body]].concat();
        let captured = response.len() - body + captured;
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
        conversation.pause(5_000_000);
        conversation.say_part(Server, &response[..captured], response.len() as u64);
        conversation.end(Server);
        assert_eq!(conversation.emitted(), 0);
        conversation.back(4_000_000);
        conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
        assert_eq!(conversation.emitted(), 1);
        assert_eq!(briefs(&conversation.take()), ["GET /1 0 > 200 9000"], "{length}");
        assert_eq!(conversation.close(), Vec::<Value>::new());
    }
}

#[test]
fn joined_in_its_middle_a_connection_may_show_a_response_first() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, true));
    conversation.pause(5_000_000);
    conversation.say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(conversation.emitted(), 0);
    conversation.back(4_000_000);
    conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
    assert_eq!(briefs(&conversation.take()), ["GET /1 0 > 200 2"]);
}

#[test]
fn where_no_requests_are_seen_every_response_is_reported() {
    for midstream in [false, true] {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, midstream));
        for _ in 0..1000 {
            conversation.say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
            conversation.say(Server, &[b'a'; 100]);
        }
        let records = conversation.close();
        assert_eq!(records.len(), 1000);
        assert!(records.iter().all(|record| record["response"]["body_bytes"] == 100), "{}", records[0]);
    }
}

#[test]
fn a_response_whose_request_does_not_come_is_given_up() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    conversation.say_part(Server, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 9\r\n\r\nab", 61);
    conversation.end(Server);
    assert_eq!(conversation.emitted(), 0);
    assert_eq!(briefs(&conversation.take()), ["- > 408 9 unsolicited"]);
}

/// What a client that speaks TLS says to a server that does not.
#[test]
fn nonsense_that_is_answered() {
    let hello: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let refusal: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(briefs(&records(&[(Client, hello), (Server, refusal)])), ["- > 400 0 unsolicited parse_error"]);
    let goes_on: &Script<'_> = &[
        (Client, hello),
        (Server, refusal),
        (Client, b"GET /1 HTTP/1.1\r\n\r\n"),
        (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    ];
    let [first, second] = &briefs(&records(goes_on))[..] else { panic!("two records") };
    assert_eq!([first.as_str(), second], ["- > 400 0 unsolicited parse_error", "GET /1 0 > 200 1"]);
    // The answer to the first may be either's.
    let in_a_row: &Script<'_> = &[
        (Client, hello),
        (Client, b"GET /1 HTTP/1.1\r\n\r\n"),
        (Server, refusal),
        (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    ];
    let unpaired = records(in_a_row);
    assert!(unpaired.iter().all(|record| record["request"].is_null() || record["response"].is_null()));
    let statuses = unpaired.iter().filter_map(|record| record["response"]["status"].as_u64());
    assert_eq!(statuses.collect::<Vec<_>>(), [400, 200]);
}

#[test]
fn responses_that_come_early_or_alone() {
    check(&[
        (
            "before the request has ended",
            &[
                (Client, b"POST /1 HTTP/1.1\r\nContent-Length: 6\r\n\r\nab"),
                (Server, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
                (Client, b"cdef"),
                (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["POST /1 6 > 413 0", "GET /2 0 > 200 0"],
        ),
        (
            "instead of 100, and the body is not sent",
            &[
                (Client, b"POST /1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"),
                (Server, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
                (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["POST /1 0 > 401 0", "GET /2 0 > 200 0"],
        ),
        (
            "instead of 100, and nothing follows",
            &[
                (Client, b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 6\r\n\r\n"),
                (Server, b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["POST / 0 > 417 0"],
        ),
        (
            "instead of 100, and the body is sent all the same",
            &[
                (Client, b"POST /1 HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"),
                (Server, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
                (Client, b"2\r\nab\r\n0\r\n\r\n"),
                (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["POST /1 2 > 401 0", "GET /2 0 > 200 0"],
        ),
        (
            "the connection ends inside the request",
            &[
                (Client, b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nab"),
                (Server, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["POST / ? > 413 0 closed"],
        ),
        (
            "the connection ends inside the request's chunks, without a response",
            &[(Client, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")],
            &["POST / ? > - no_response closed"],
        ),
        (
            "the connection ends inside the response",
            &[(Client, b"GET / HTTP/1.1\r\n\r\n"), (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab")],
            &["GET / 0 > 200 ? closed"],
        ),
        (
            "the connection ends inside the response's head",
            &[(Client, b"GET / HTTP/1.1\r\n\r\n"), (Server, b"HTTP/1.1 200 OK\r\nContent-Le")],
            &["GET / 0 > 200 ? closed"],
        ),
        (
            "a timeout inside the request's head",
            &[
                (Client, b"GET / HTTP/1.1\r\nHost: "),
                (Server, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
            ],
            &["GET / ? > 408 0 closed"],
        ),
        (
            "a timeout on an idle connection",
            &[
                (Client, b"GET / HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
                (Server, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 1\r\n\r\na"),
            ],
            &["GET / 0 > 200 0", "- > 408 1 unsolicited"],
        ),
        (
            "a timeout that crosses the next request",
            &[
                (Client, b"GET /1 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
                (Server, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 1\r\n\r\na"),
                (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
            ],
            &["GET /1 0 > 200 0", "- > 408 1 unsolicited", "GET /2 0 > - no_response"],
        ),
    ]);
}

#[test]
fn what_is_behind_an_upgrade_waits_for_the_answer() {
    const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x82GET";
    const REFUSED: &[u8] = b"GET /ws HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /next HTTP/1.1\r\n\r\n";
    const NO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    check(&[
        (
            "granted",
            &[
                (Client, UPGRADE),
                (Server, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"),
                (Client, b"GET / HTTP/1.1\r\n\r\n"),
            ],
            &["GET /ws 0 > 101 0"],
        ),
        ("refused", &[(Client, REFUSED), (Server, NO), (Server, NO)], &["GET /ws 0 > 200 0", "GET /next 0 > 200 0"]),
        ("unanswered", &[(Client, REFUSED)], &["GET /ws 0 > - no_response"]),
        (
            "a tunnel",
            &[
                (Client, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\x16\x03"),
            ],
            &["CONNECT a:443 0 > 200 0"],
        ),
        (
            "a tunnel that is refused",
            &[
                (Client, b"CONNECT a:443 HTTP/1.1\r\n\r\nCONNECT b:443 HTTP/1.1\r\n\r\n"),
                (Server, b"HTTP/1.1 407 Auth\r\nContent-Length: 1\r\n\r\na"),
                (Server, b"HTTP/1.1 200 OK\r\n\r\n\0\0"),
            ],
            &["CONNECT a:443 0 > 407 1", "CONNECT b:443 0 > 200 0"],
        ),
    ]);
}

#[test]
fn broken_messages_are_reported_and_never_misread() {
    const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let cases: &[(&str, &[u8])] = &[
        ("lengths that differ", b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("lengths that differ in a list", b"Content-Length: 3, 4\r\n\r\nabcd"),
        ("an empty element in a list", b"Content-Length: 3,\r\n\r\nabcd"),
        ("no length", b"Content-Length:\r\n\r\nabcd"),
        ("a sign", b"Content-Length: +3\r\n\r\nabc"),
        ("a negative length", b"Content-Length: -3\r\n\r\nabc"),
        ("a hexadecimal length", b"Content-Length: 0x3\r\n\r\nabc"),
        ("a length beyond 64 bits", b"Content-Length: 18446744073709551616\r\n\r\nabc"),
        ("chunked twice", b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked not last", b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("an unknown coding", b"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\nabc"),
        ("space before the colon", b"Content-Length : 3\r\n\r\nabc"),
        ("a line without a colon", b"Host a\r\n\r\n"),
        ("no name", b": a\r\n\r\n"),
        ("a chunk size with a sign", b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk size with a prefix", b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk size beyond 64 bits", b"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("an empty chunk size", b"Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n"),
        ("a chunk longer than its size", b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
    ];
    for (name, rest) in cases {
        let request = [b"POST /bad HTTP/1.1\r\n", *rest].concat();
        let script: &Script<'_> = &[
            (Client, &request),
            (Server, BAD),
            (Client, b"GET /good HTTP/1.1\r\n\r\n"),
            (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ];
        assert_eq!(briefs(&records(script)), ["POST /bad ? > 400 0 parse_error", "GET /good 0 > 200 0"], "{name}");
    }
}

#[test]
fn text_that_is_not_http_ends_the_pairing() {
    let script: &Script<'_> = &[
        (Client, b"GET /1 HTTP/1.1\r\n\r\n"),
        (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"),
        (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
        (Server, b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n"),
        (Client, b"GET /3 HTTP/1.1\r\n\r\n"),
        (Server, b"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    for record in run(HTTP, script) {
        let status = 199 + record["request"]["target"].as_str().map_or(0, |target| target[1..].parse().unwrap());
        assert!(
            record["response"]["status"].is_null()
                || record["request"].is_null()
                || record["response"]["status"] == status,
            "{record}"
        );
    }
}

#[test]
fn targets() {
    let cases = [
        ("GET /a/b?c=d?e HTTP/1.1\r\nHost: h:1\r\n\r\n", "/a/b?c=d?e", "/a/b", json!("h:1")),
        ("GET http://u@h:2/a?b HTTP/1.1\r\nHost: x\r\n\r\n", "http://u@h:2/a?b", "/a", json!("x")),
        ("GET http://u:p@h:2?b HTTP/1.0\r\n\r\n", "http://u:p@h:2?b", "/", json!("h:2")),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "*", "*", json!(null)),
        ("CONNECT [::1]:443 HTTP/1.1\r\n\r\n", "[::1]:443", "[::1]:443", json!("[::1]:443")),
        ("GET /a b HTTP/1.1\r\n\r\n", "/a b", "/a b", json!(null)),
        ("GET /a?u=http://b/c HTTP/1.1\r\n\r\n", "/a?u=http://b/c", "/a", json!(null)),
    ];
    for (request, target, path, host) in cases {
        let record = run(HTTP, &[(Client, request.as_bytes())]).remove(0);
        let request = &record["request"];
        assert_eq!((&request["target"], &request["path"], &request["host"]), (&json!(target), &json!(path), &host));
    }
}

#[test]
fn text_that_is_not_utf8_is_printed_in_base64() {
    let records = records(&[
        (Client, b"GET /\xff HTTP/1.1\r\nX: \xe9\r\n\r\n"),
        (Server, b"HTTP/1.1 200 \xe9\r\nContent-Length: 0\r\n\r\n"),
    ]);
    assert_eq!(records[0]["request"]["target"], json!({ "base64": "L/8=" }));
    assert_eq!(records[0]["request"]["headers"], json!({ "x": [{ "base64": "6Q==" }] }));
    assert_eq!(records[0]["response"]["reason"], json!({ "base64": "6Q==" }));
}

#[test]
fn trailers_and_times() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    conversation.say(Client, b"GET / HTTP/1.1\r\n");
    conversation.say(Client, b"\r\n");
    conversation.say(Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na");
    conversation.say(Server, b"bc\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r");
    conversation.say(Server, b"\n");
    conversation.end(Server);
    let records = conversation.take();
    let (request, response) = (&records[0]["request"], &records[0]["response"]);
    assert_eq!(response["trailers"], json!({ "x-sum": ["1", "2"] }));
    assert!(request.get("trailers").is_none());
    let times = [&request["start"], &request["end"], &response["start"], &response["end"]];
    assert_eq!(times.map(|time| time.as_u64().unwrap() / 1_000_000), [1, 2, 3, 5]);
    assert_eq!(response["bytes"], 47 + 8 + 3 + 20 + 2);
}

/// A client that sends one request at a time; `/n` is answered by `X-Id: n`. Bodies quote messages.
const ONE_AT_A_TIME: &Script<'_> = &[
    (Client, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 48\r\n\r\nHTTP/1.1 200 OK\r\nX-Id: 90\r\nContent-Length: 0\r\n\r\n"),
    (Client, b"POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n23\r\nGET /91 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
    (Client, b"\r\n3;x\r\nabc\r\n0\r\n\r\n"),
    (Server, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Id: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (Server, b"30\r\nHTTP/1.1 200 OK\r\nX-Id: 92\r\nContent-Length: 0\r\n\r\n\r\n"),
    (Server, b"5\r\nHTTP/\r\n0\r\nX-Sum: 1\r\n\r\n"),
    (Client, b"HEAD /3 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 3\r\nContent-Length: 4000\r\n\r\n"),
    (Client, b"PUT /4 HTTP/1.1\r\nContent-Length: 31\r\n\r\nGET /93 HTTP/1.1\r\n"),
    (Server, b"HTTP/1.1 413 Too Large\r\nX-Id: 4\r\nContent-Length: 1\r\n\r\n!"),
    (Client, b"Host: abc\r\n\r\n"),
    (Client, b"GET /5 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 304 Not Modified\r\nX-Id: 5\r\n\r\n"),
    (Client, b"GET /6 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 6\r\nContent-Length: 0\r\n\r\n"),
    (Client, b"GET /7 HTTP/1.0\r\n\r\n"),
    (Server, b"HTTP/1.0 200 OK\r\nX-Id: 7\r\n\r\nuntil the end"),
];

/// A client that sends requests before earlier ones are answered.
const PIPELINED: &Script<'_> = &[
    (Client, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 2\r\n\r\nok"),
    (Client, b"GET /3 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 2\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Id: 3\r\nContent-Length: 0\r\n\r\n"),
    (Client, b"GET /4 HTTP/1.1\r\n\r\n"),
    (Client, b"GET /5 HTTP/1.1\r\n\r\n"),
    (Client, b"GET /6 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 4\r\nContent-Length: 0\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 5\r\nContent-Length: 0\r\n\r\n"),
    (Client, b"GET /7 HTTP/1.1\r\n\r\n"),
    (Server, b"HTTP/1.1 200 OK\r\nX-Id: 6\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Id: 7\r\nContent-Length: 0\r\n\r\n"),
];

/// Panics unless `record` pairs a request with its own response, as far as the response's head was seen.
fn assert_true_pair(record: &Value, what: &str) {
    let (Some(target), Some(headers)) = (record["request"]["target"].as_str(), record["response"].get("headers"))
    else {
        return;
    };
    if headers.as_object().is_some_and(|headers| !headers.is_empty()) {
        assert_eq!(headers["x-id"], json!([target.trim_start_matches('/')]), "{what}: {record}");
    }
}

fn without_sequence(record: &Value) -> Value {
    let mut record = record.clone();
    record["sequence"] = Value::Null;
    record
}

/// Whatever is lost: no request is paired with another's response, what claims to be complete is true, and every
/// message that was seen whole outside the hole's reach is still there.
fn holes(script: &Script<'_>, sizes: &[usize], exempt: &[&str]) -> Vec<usize> {
    let truth: Vec<Value> = records(script).iter().map(without_sequence).collect();
    assert!(truth.iter().all(|record| record["reasons"] == json!([])), "the script itself is complete");
    let mut complete = Vec::new();
    with_holes(HTTP, script, sizes, |what, records| {
        if exempt.iter().any(|exempt| what.starts_with(exempt)) {
            return;
        }
        for record in &records {
            assert_true_pair(record, what);
            if record["reasons"] == json!([]) {
                let record = without_sequence(record);
                let is_true = truth.contains(&record) || truth.iter().any(|truth| same_but_cut(truth, &record));
                assert!(is_true, "{what}: {record}");
            }
        }
        if what.ends_with("LostAndMissedLate") {
            return;
        }
        complete.push(records.iter().filter(|record| record["reasons"] == json!([])).count());
    });
    complete
}

/// The last response ends with the connection: bytes cut off at its end leave nothing but its time unknown.
fn same_but_cut(truth: &Value, record: &Value) -> bool {
    truth["request"] == record["request"] && truth["response"]["bytes"] == record["response"]["bytes"]
}

#[test]
fn holes_never_make_wrong_pairs() {
    // Where a direction ends is not known: what is lost there is not missed.
    let exempt = ["transfer 17, "];
    let complete = holes(ONE_AT_A_TIME, &[1, 40, 1000], &exempt);
    assert!(complete.iter().all(|&n| n >= 4), "pairing resumes: {:?}", complete.iter().min());
}

#[test]
fn holes_never_make_wrong_pairs_where_requests_are_pipelined() {
    // With the first transfer it is lost that this client pipelines.
    holes(PIPELINED, &[1, 40, 1000], &["transfer 0, "]);
}

/// When what is missing is given up.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// With each transfer.
    None,
    /// After so many transfers.
    Transfers(usize),
    /// When the connection ends.
    Endless,
}

/// How the responses of [`sequential`] are sent.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Whole,
    HeadThenBody,
    Chunked,
}

impl Answer {
    fn transfers(self, id: usize) -> Vec<Vec<u8>> {
        let head = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\n");
        match self {
            Self::Whole => vec![format!("{head}Content-Length: 3\r\n\r\nabc").into_bytes()],
            Self::HeadThenBody => vec![format!("{head}Content-Length: 3\r\n\r\n").into_bytes(), b"abc".to_vec()],
            Self::Chunked => vec![
                format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").into_bytes(),
                b"0\r\n\r\n".to_vec(),
            ],
        }
    }
}

/// `count` exchanges one after the other, without the transfers for which `is_lost`: ids of those that came out
/// complete. No pair may be wrong, and no request that was seen may be missing.
fn sequential(count: usize, answer: Answer, patience: Patience, is_lost: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    let mut records = Vec::new();
    let mut transfer = 0;
    let mut seen = Vec::new();
    for id in 0..count {
        let request = format!("GET /{id} HTTP/1.1\r\n\r\n").into_bytes();
        let answers = answer.transfers(id).into_iter().map(|bytes| (Server, bytes));
        for (side, bytes) in std::iter::once((Client, request)).chain(answers) {
            let lost = is_lost(transfer);
            transfer += 1;
            if lost {
                conversation.lose(side, bytes.len() as u64);
                conversation.pause(1_000_000);
            } else {
                conversation.say(side, &bytes);
                seen.extend((side == Client).then_some(id));
            }
            match patience {
                Patience::None => records.extend(conversation.take()),
                Patience::Transfers(n) if transfer.is_multiple_of(n) => records.extend(conversation.take()),
                Patience::Transfers(_) | Patience::Endless => {}
            }
        }
    }
    records.extend(conversation.close());
    let id = |record: &Value| record["request"]["target"].as_str().map(|target| target[1..].parse().unwrap());
    for record in &records {
        assert_true_pair(record, "sequential");
    }
    let mut requests: Vec<usize> = records.iter().filter_map(id).collect();
    requests.sort_unstable();
    assert_eq!(requests, seen, "every request that was seen comes out once");
    records.iter().filter(|record| record["reasons"] == json!([])).filter_map(id).collect()
}

const ANSWERS: [Answer; 3] = [Answer::Whole, Answer::HeadThenBody, Answer::Chunked];
const PATIENCES: [Patience; 4] = [Patience::None, Patience::Transfers(3), Patience::Transfers(17), Patience::Endless];

#[test]
fn pairing_recovers_after_a_long_loss() {
    for (answer, patience) in ANSWERS.into_iter().flat_map(|answer| PATIENCES.map(|patience| (answer, patience))) {
        let per_exchange = 1 + answer.transfers(0).len();
        for first in 4..12 {
            let complete = sequential(20, answer, patience, |transfer| (first..first + 10).contains(&transfer));
            // Until the loss of requests shows, responses may be known to be nobody's.
            let unnoticed = if let Patience::Transfers(n) = patience { n } else { 0 };
            let back = (first + 10 + unnoticed).div_ceil(per_exchange) + 2;
            let expected: Vec<_> = (0..first / per_exchange).chain(back..20).collect();
            let missing: Vec<_> = expected.iter().filter(|id| !complete.contains(id)).collect();
            assert!(missing.is_empty(), "{answer:?}, {patience:?}, lost from {first} on: {missing:?} of {complete:?}");
        }
    }
}

#[test]
fn pairing_recovers_where_bodies_are_never_seen() {
    let mut records = Vec::new();
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    for id in 0..6 {
        let request = format!("GET /{id} HTTP/1.1\r\n\r\n");
        let head = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nContent-Length: 600\r\n\r\n");
        if id == 1 {
            conversation.lose(Client, request.len() as u64);
        } else {
            conversation.say(Client, request.as_bytes());
        }
        conversation.say(Server, head.as_bytes());
        conversation.say_part(Server, b"", 600);
        records.extend(conversation.take());
    }
    records.extend(conversation.close());
    records.iter().for_each(|record| assert_true_pair(record, "bodies"));
    let complete: Vec<_> = records.iter().filter(|record| record["reasons"] == json!([])).map(brief).collect();
    assert_eq!(complete, ["GET /0 0 > 200 600", "GET /3 0 > 200 600", "GET /4 0 > 200 600", "GET /5 0 > 200 600"]);
}

/// More responses wait than there is room for, while the requests are held behind one that was lost.
#[test]
fn a_lost_request_costs_few_of_the_responses_behind_it() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    let count = 300;
    for id in 0..count {
        let request = format!("GET /{id} HTTP/1.1\r\n\r\n");
        if id == 1 {
            conversation.lose(Client, request.len() as u64);
        } else {
            conversation.say(Client, request.as_bytes());
        }
        let response = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nContent-Length: 800\r\n\r\n{}", "a".repeat(800));
        conversation.say(Server, response.as_bytes());
    }
    let records = conversation.close();
    records.iter().for_each(|record| assert_true_pair(record, "few"));
    let complete = records.iter().filter(|record| record["reasons"] == json!([])).count();
    assert!(complete >= count - 3, "{complete} of {count}");
}

#[test]
fn a_connection_joined_in_its_middle() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, true));
    conversation.say(Server, b"the end of a body HTTP/1.1 200 OK\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n");
    conversation.say(Client, b"GET /2 HTTP/1.1\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        briefs(&conversation.close()),
        ["- > 200 2 midstream unsolicited", "GET /1 0 > 201 0", "GET /2 0 > 202 0"]
    );
    for body in [0, 1000] {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, true));
        conversation.say_part(Server, b"", body);
        conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
        conversation.say(Server, b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(briefs(&conversation.close()), ["GET /1 0 > 201 0"], "from its first request on");
    }
}

#[test]
fn bytes_lost_inside_bodies() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let ask = || {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
        conversation.say(Client, b"GET / HTTP/1.1\r\n\r\n");
        conversation.say(Server, HEAD);
        conversation
    };
    let total = HEAD.len() + 1000;

    let mut conversation = ask();
    conversation.lose(Server, 900);
    conversation.say(Server, &[b'a'; 100]);
    let record = conversation.close().remove(0);
    assert_eq!(brief(&record), "GET / 0 > 200 1000 gap");
    assert_eq!((&record["missing_bytes"], &record["response"]["bytes"]), (&json!(900), &json!(total)));
    assert_eq!(record["response"]["end"], 3_000_000);

    let mut conversation = ask();
    conversation.lose(Server, 1000);
    conversation.say(Client, b"GET /2 HTTP/1.1\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    let records = conversation.close();
    assert_eq!(briefs(&records), ["GET / 0 > 200 1000 gap", "GET /2 0 > 204 0"], "framing is intact");
    assert_eq!(records[0]["response"]["end"], Value::Null, "when the last byte passed is unknown");

    let mut conversation = ask();
    conversation.say_part(Server, b"a", 1000);
    assert_eq!(briefs(&conversation.take()), ["GET / 0 > 200 1000"], "the capture limit does no harm in a body");
}

#[test]
fn a_chunk_end_that_the_capture_limit_hides() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nC350\r\n");
    conversation.say_part(Server, &[b'a'; 16384], 50_002);
    conversation.say_part(Server, b"5\r\nab", 10);
    conversation.say(Server, b"0\r\n\r\n");
    conversation.say(Client, b"GET /2 HTTP/1.1\r\n\r\n");
    conversation.say(Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(briefs(&conversation.close()), ["GET /1 0 > 200 50005", "GET /2 0 > 204 0"]);
}

#[test]
fn a_chunk_header_that_the_capture_limit_hides() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    conversation.say(Client, b"GET /1 HTTP/1.1\r\n\r\n");
    conversation.say_part(Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 500);
    assert_eq!(briefs(&conversation.take()), ["GET /1 0 > 200 ? truncated"]);
    for id in ["/2", "/3"] {
        conversation.say(Client, format!("GET {id} HTTP/1.1\r\n\r\n").as_bytes());
        conversation.say(Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    assert_eq!(
        briefs(&conversation.close()),
        ["GET /2 0 > - truncated", "- > 204 0 truncated unsolicited", "GET /3 0 > 204 0"]
    );
}

#[test]
fn inference() {
    use Inference::{More, No, Sure};
    let long = format!("GET /{}", "a".repeat(300));
    let cases: &[(&[u8], Inference)] = &[
        (b"GET / HTTP/1.1\r\n", Sure(Sender::Client)),
        (b"\r\nGET / HTTP/1.0\n", Sure(Sender::Client)),
        (b"frob http://a/b HTTP/1.1\r\n", Sure(Sender::Client)),
        (long.as_bytes(), Sure(Sender::Client)),
        (b"HTTP/1.1 200 OK", Sure(Sender::Server)),
        (b"HTTP/1.0 404\r\n", Sure(Sender::Server)),
        (b"\r\n", More),
        (b"G", More),
        (b"GET ", More),
        (b"GET /a HTTP/1.1", More),
        (b"H", More),
        (b"HTTP/1.", More),
        (b"HTTP/1.1 20", More),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", No),
        (b"OPTIONS rtsp://a RTSP/1.0\r\n", No),
        (b"INVITE sip:a@b SIP/2.0\r\n", No),
        (b"REQMOD icap://a ICAP/1.0\r\n", No),
        (b"RTSP/1.0 200 OK\r\n", No),
        (b"HTTP/2 200\r\n", No),
        (b"HTTP/1.1 2000 OK", No),
        (b"HTTP/1.1 OK", No),
        (b"GET /\r\n", No),
        (b"GET\r\n", No),
        (b"*1\r\n$4\r\nPING\r\n", No),
        (b"SSH-2.0-OpenSSH_9.2\r\n", No),
        (b"\x16\x03\x01\x02\x00\x01", No),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", No),
    ];
    for (bytes, expected) in cases {
        assert_eq!((HTTP.infer)(bytes, Transport::Tcp), *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn no_prefix_of_a_message_is_taken_for_something_else() {
    for message in [&b"POST /a?b HTTP/1.1\r\n"[..], b"HTTP/1.1 200 OK\r\n", b"M-SEARCH * HTTP/1.1\r\n"] {
        for end in 1..message.len() {
            assert_ne!(
                (HTTP.infer)(&message[..end], Transport::Tcp),
                Inference::No,
                "{}",
                message[..end].escape_ascii()
            );
        }
    }
}

#[test]
fn secrets_are_redacted() {
    let request = "GET http://joe:pw@a/b;jsessionid=s3?q=1&Api_Key=s3&x=2&sig=s3&%74oken=s3;pwd=s3#access_token=s3 HTTP/1.1\r\n\
        Host: a\r\nAuthorization: Basic s3\r\nCookie: a=s3\r\ncookie: b=s3\r\nProxy-Authorization: s3\r\nX-API-Key: s3\r\n\
        X-Auth-Token: s3\r\nX-Csrf-Token: s3\r\nX-Amz-Security-Token: s3\r\nToken: s3\r\nAccept: text/html\r\n\
        Authority: kept\r\nReferer: https://u:s3@a/?token=s3&b=1\r\n\r\n";
    let response = "HTTP/1.1 302 Found\r\nSet-Cookie: a=s3\r\nSet-Cookie: b=s3\r\nContent-Length: 0\r\n\
        Location: /cb?code=s3&state=1\r\n\r\n";
    let mut exchanges = Vec::new();
    let candidates = std::sync::Arc::from([HTTP]);
    let mut connection = crate::Connection::new(candidates, context(Transport::Tcp, false), None);
    for (direction, bytes) in [(crate::Direction::Read, request), (crate::Direction::Write, response)] {
        let length = bytes.len() as u64;
        let segment = crate::Segment { position: 0, bytes: bytes.as_bytes(), length, span: crate::Span::default() };
        connection.data(crate::Layer::Socket, direction, segment, &mut exchanges);
    }
    let shown = crate::testing::render(&exchanges[0]);
    assert_eq!(shown["request"]["headers"]["cookie"], json!(["a=s3", "b=s3"]), "as it is unless redacted");
    let crate::Exchange { request, response, .. } = &mut exchanges[0];
    for part in [request, response] {
        part.as_mut().unwrap().payload.redact();
    }
    let record = crate::testing::render(&exchanges[0]);
    let text = record.to_string();
    assert!(!text.contains("s3") && !text.contains("pw@"), "{text}");
    let request = &record["request"];
    assert_eq!(
        request["target"],
        "http://[redacted]@a/b;jsessionid=[redacted]?q=1&Api_Key=[redacted]&x=2&sig=[redacted]&%74oken=[redacted]\
         ;pwd=[redacted]#access_token=[redacted]"
    );
    assert_eq!(request["path"], "/b;jsessionid=[redacted]");
    assert_eq!(request["headers"]["cookie"], json!(["[redacted]", "[redacted]"]));
    assert_eq!(request["headers"]["accept"], json!(["text/html"]));
    assert_eq!(request["headers"]["authority"], json!(["kept"]));
    assert_eq!(request["headers"]["referer"], json!(["https://[redacted]@a/?token=[redacted]&b=1"]));
    assert_eq!(record["response"]["headers"]["location"], json!(["/cb?code=[redacted]&state=1"]));
    let summary = exchanges[0].request.as_ref().unwrap().payload.summary();
    assert_eq!(summary.target.as_deref(), Some("/b;jsessionid=[redacted]"));
}

#[test]
fn hostile_conversations_stay_bounded() {
    let fields = |count: usize| {
        let fields: String = (0..count).map(|index| format!("h{index}:\r\n")).collect();
        format!("GET /fields HTTP/1.1\r\n{fields}\r\n").into_bytes()
    };
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("1000 fields", fields(1000), &["GET /fields 0 > 200 0", "GET /next 0 > 200 0"]),
        ("1100 fields", fields(1100), &["GET /fields ? > 200 0 parse_error", "GET /next 0 > 200 0"]),
        ("100,000 fields", fields(100_000), &["- > 200 0 truncated unsolicited", "GET /next 0 > 200 0"]),
        (
            "no line end",
            [&b"GET /"[..], &[b'a'; 1 << 20]].concat(),
            &["- > 200 0 truncated unsolicited", "GET /next 0 > 200 0"],
        ),
        (
            "a chunk line without end",
            [&b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;"[..], &[b'a'; 1 << 17]].concat(),
            &["POST / ? > 200 0 parse_error", "GET /next 0 > 200 0"],
        ),
        (
            "a huge length",
            b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec(),
            &["POST / ? > 200 0 closed", "- > 200 0 unsolicited"],
        ),
        (
            "huge chunks",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
            &["POST / ? > 200 0 closed", "- > 200 0 unsolicited"],
        ),
    ];
    for (name, request, expected) in cases {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
        for part in request.chunks(1 << 14) {
            conversation.say(Client, part);
        }
        conversation.say(Server, ok);
        conversation.say(Client, b"GET /next HTTP/1.1\r\n\r\n");
        conversation.say(Server, ok);
        assert_eq!(briefs(&conversation.close()), *expected, "{name}");
    }
}

#[test]
fn requests_that_are_never_answered_are_given_up() {
    let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
    for _ in 0..crate::Limits::default().pending + 1 {
        conversation.say(Client, b"GET / HTTP/1.1\r\n\r\n");
    }
    conversation.say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let records = conversation.close();
    assert_eq!(records.len(), crate::Limits::default().pending + 2);
    assert!(records.iter().all(|record| record["request"].is_null() || record["response"].is_null()));
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunks(Vec<Vec<u8>>, bool),
}

impl Body {
    fn size(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Length(body) => body.len(),
            Self::Chunks(chunks, _) => chunks.iter().map(Vec::len).sum(),
        }
    }

    fn trailers(&self) -> Value {
        if let Self::Chunks(_, true) = self { json!({ "x-trailer": ["t"] }) } else { Value::Null }
    }

    /// Behind a head's last field.
    fn wire(&self) -> Vec<u8> {
        match self {
            Self::None => b"Content-Length: 0\r\n\r\n".to_vec(),
            Self::Length(body) => [format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
            Self::Chunks(chunks, trailers) => {
                let mut wire = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in chunks {
                    wire.extend([format!("{:X};e=1\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                }
                wire.extend_from_slice(if *trailers { b"0\r\nX-Trailer: t\r\n\r\n" } else { b"0\r\n\r\n" });
                wire
            }
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..50);
    prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        (proptest::collection::vec(bytes(), 0..4), any::<bool>())
            .prop_map(|(chunks, trailers)| Body::Chunks(chunks, trailers)),
    ]
}

#[derive(Clone, Debug)]
struct Model {
    head: bool,
    request: Body,
    interim: bool,
    status: u16,
    response: Body,
}

impl Model {
    fn wire(&self, id: usize) -> [Vec<u8>; 2] {
        let method = if self.head { "HEAD" } else { "POST" };
        let request = [format!("{method} /{id} HTTP/1.1\r\n").as_bytes(), &self.request.wire()].concat();
        let mut response = self.response.wire();
        if self.head {
            let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
            response.truncate(head);
        }
        [request, [format!("HTTP/1.1 {} \r\nX-Id: {id}\r\n", self.status).as_bytes(), &response].concat()]
    }

    fn assert_is(&self, id: usize, record: &Value) {
        let [request, response] = self.wire(id);
        assert_eq!(record["reasons"], json!([]), "{record}");
        assert_eq!(record["sequence"], id);
        assert_eq!(record["request"]["target"], format!("/{id}"));
        assert_eq!(record["request"]["bytes"], request.len());
        assert_eq!(record["request"]["body_bytes"], self.request.size());
        assert_eq!(record["response"]["status"], self.status);
        assert_eq!(record["response"]["headers"]["x-id"], json!([id.to_string()]));
        assert_eq!(record["response"]["bytes"], response.len());
        assert_eq!(record["response"]["body_bytes"], if self.head { 0 } else { self.response.size() });
        assert_eq!(record["response"]["trailers"], if self.head { Value::Null } else { self.response.trailers() });
    }
}

fn model() -> impl Strategy<Value = Model> {
    (any::<bool>(), body(), any::<bool>(), 200_u16..600, body())
        .prop_filter("no body", |(_, _, _, status, _)| ![204, 304].contains(status))
        .prop_map(|(head, request, interim, status, response)| Model { head, request, interim, status, response })
}

fn say_cut(conversation: &mut Conversation, side: Side, bytes: &[u8], cuts: &mut impl Iterator<Item = usize>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        conversation.say(side, part);
        rest = behind;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_conversation_is_read_as_it_was_meant(
        models in proptest::collection::vec(model(), 1..8),
        together in 1_usize..4,
        cuts in proptest::collection::vec(1_usize..40, 0..60),
    ) {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
        let mut cuts = cuts.into_iter();
        let wires: Vec<_> = models.iter().enumerate().map(|(id, model)| (model, model.wire(id))).collect();
        for batch in wires.chunks(together) {
            let requests: Vec<u8> = batch.iter().flat_map(|(_, [request, _])| request.clone()).collect();
            say_cut(&mut conversation, Client, &requests, &mut cuts);
            let mut responses = Vec::new();
            for (model, [_, response]) in batch {
                if model.interim {
                    responses.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
                }
                responses.extend_from_slice(response);
            }
            say_cut(&mut conversation, Server, &responses, &mut cuts);
        }
        let records = conversation.close();
        prop_assert_eq!(records.len(), models.len());
        for (id, (model, record)) in models.iter().zip(&records).enumerate() {
            model.assert_is(id, record);
        }
    }

    #[test]
    fn pairing_recovers_after_each_loss(
        lost in proptest::collection::btree_set(1_usize..100, 0..12),
        answer in proptest::sample::select(ANSWERS.to_vec()),
        patience in proptest::sample::select(PATIENCES.to_vec()),
    ) {
        let complete = sequential(50, answer, patience, |transfer| lost.contains(&transfer));
        // A request that is lost while order is, is missed only after the patience: until then responses are nobody's.
        let unnoticed = if let Patience::Transfers(n) = patience { n.div_ceil(2) } else { 0 };
        let expected = 50_usize.saturating_sub((3 + unnoticed) * lost.len());
        prop_assert!(complete.len() >= expected, "{} of 50 with {} lost", complete.len(), lost.len());
    }

    #[test]
    fn random_bytes_do_no_harm(parts in proptest::collection::vec((any::<bool>(), any::<Noise>()), 0..40)) {
        let mut conversation = Conversation::new(HTTP, context(Transport::Tcp, false));
        for (client, noise) in parts {
            let side = if client { Client } else { Server };
            match noise {
                Noise::Bytes(bytes) => conversation.say(side, &bytes),
                Noise::Piece(piece) => conversation.say(side, piece.as_bytes()),
                Noise::Lost(length) => conversation.lose(side, length.into()),
                Noise::Cut(bytes, more) => conversation.say_part(side, &bytes, bytes.len() as u64 + u64::from(more)),
            }
            conversation.take();
        }
        conversation.close();
    }
}

#[derive(Clone, Debug)]
enum Noise {
    Bytes(Vec<u8>),
    Piece(&'static str),
    Lost(u8),
    Cut(Vec<u8>, u8),
}

impl Arbitrary for Noise {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let pieces = [
            "GET / HTTP/1.1\r\n",
            "\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 101 X\r\n\r\n",
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "0\r\n",
            "5\r\nabcde\r\n",
            "\n",
            " ",
            "Upgrade: a\r\n",
            "CONNECT a HTTP/1.1\r\n",
        ];
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..40).prop_map(Self::Bytes),
            proptest::sample::select(pieces.to_vec()).prop_map(Self::Piece),
            proptest::sample::select(pieces.to_vec()).prop_map(Self::Piece),
            (1_u8..).prop_map(Self::Lost),
            (proptest::collection::vec(any::<u8>(), 0..40), 1_u8..).prop_map(|(bytes, more)| Self::Cut(bytes, more)),
        ]
        .boxed()
    }
}
