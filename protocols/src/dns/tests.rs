use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Conversation, assert_split_invariant, context, run, with_holes};
use crate::{Inference, Sender};

use Side::{Client as C, Server as S};

const A: u16 = 1;
const SOA: u16 = 6;
const AXFR: u16 = 252;
const IXFR: u16 = 251;

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [words(&[id, flags]), words(&counts)].concat()
}

fn question(text: &str, kind: u16) -> Vec<u8> {
    [name(text), words(&[kind, 1])].concat()
}

/// A record of class IN and TTL 60 for the name at the start of the question section.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    [words(&[0xc00c, kind, 1, 0, 60, data.len() as u16]), data.to_vec()].concat()
}

fn soa(serial: u16) -> Vec<u8> {
    record(SOA, &[name(""), name(""), words(&[0, serial, 0, 1, 0, 2, 0, 3, 0, 4])].concat())
}

fn query(id: u16, text: &str, kind: u16) -> Vec<u8> {
    [header(id, 0x0100, [1, 0, 0, 0]), question(text, kind)].concat()
}

fn response(id: u16, flags: u16, text: &str, kind: u16, answers: &[Vec<u8>]) -> Vec<u8> {
    [header(id, flags, [1, answers.len() as u16, 0, 0]), question(text, kind), answers.concat()].concat()
}

/// An answer to a query for an address.
fn answer(id: u16, text: &str, last: u8) -> Vec<u8> {
    response(id, 0x8180, text, A, &[record(A, &[192, 0, 2, last])])
}

/// Asks for the name of an address (RFC 1035 section 6.4).
fn inverse_query() -> Vec<u8> {
    [header(1, 0x0800, [0, 1, 0, 0]), name(""), words(&[A, 1, 0, 0, 4]), vec![192, 0, 2, 1]].concat()
}

/// As it goes over a stream.
fn framed(message: &[u8]) -> Vec<u8> {
    [words(&[message.len() as u16]), message.to_vec()].concat()
}

fn datagrams(script: &[(Side, Vec<u8>)]) -> Vec<Value> {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Udp, false));
    for (side, bytes) in script {
        conversation.datagram(*side, bytes);
    }
    conversation.close()
}

fn stream(script: &[(Side, Vec<u8>)]) -> Vec<Value> {
    let framed: Vec<_> = script.iter().map(|(side, message)| (*side, framed(message))).collect();
    let script: Vec<_> = framed.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect();
    run(&REGISTRATION, &script)
}

/// A record on one line: id or "-", name, last answer's data or "-", retransmissions, reasons.
fn brief(record: &Value) -> String {
    let subject = if record["request"].is_null() { &record["response"] } else { &record["request"] };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let reasons: Vec<_> = record["reasons"].as_array().unwrap().iter().map(text).collect();
    let answers = record["response"]["answers"].as_array();
    let code = text(&record["response"]["rcode"]);
    [
        subject["id"].to_string(),
        text(&subject["questions"][0]["name"]),
        answers.and_then(|answers| answers.last()).map_or(code, |answer| text(&answer["data"])),
        subject["retransmissions"].as_u64().unwrap_or_default().to_string(),
        reasons.join("+"),
    ]
    .join(" ")
    .trim_end()
    .to_owned()
}

fn briefs(records: &[Value]) -> Vec<String> {
    records.iter().map(brief).collect()
}

#[test]
fn a_record_in_full() {
    let opt = [vec![0], words(&[41, 1232, 0, 0x8000, 4 + 8, 8, 8]), words(&[1, 24 << 8]), vec![192, 0, 2, 0]].concat();
    let asked = [header(7, 0x0110, [1, 0, 0, 1]), question("Www.example", 65), opt].concat();
    let answered = [
        header(7, 0x85a3, [1, 1, 1, 2]),
        question("wWw.EXAMPLE", 65),
        record(65, &[words(&[1]), vec![0], words(&[1, 3]), b"\x02h3".to_vec()].concat()),
        soa(9),
        record(65280, b"\xab"),
        [vec![0], words(&[41, 512, 0x0100, 0, 4 + 7, 15, 7, 22]), b"doc's".to_vec()].concat(),
    ]
    .concat();
    let records = datagrams(&[(C, asked.clone()), (S, answered.clone())]);
    assert_eq!(
        records,
        [json!({
            "protocol": "dns",
            "sequence": 0,
            "request": {
                "id": 7,
                "questions": [{ "name": "Www.example", "type": "HTTPS", "class": "IN" }],
                "opcode": "QUERY",
                "recursion_desired": true,
                "checking_disabled": true,
                "edns": {
                    "version": 0, "udp_size": 1232, "do": true,
                    "options": [{ "name": "CLIENT-SUBNET", "data": "192.0.2.0/24/0" }],
                },
                "bytes": asked.len(), "start": 1_000_000, "end": 1_000_000,
            },
            "response": {
                // 3 in the header, 1 above it in OPT: 19.
                "rcode": "BADMODE",
                "answers": [{ "name": "wWw.EXAMPLE", "type": "HTTPS", "ttl": 60, "data": "1 . alpn=\"h3\"" }],
                "authorities": [{ "name": "wWw.EXAMPLE", "type": "SOA", "ttl": 60, "data": ". . 9 1 2 3 4" }],
                "additionals": [{ "name": "wWw.EXAMPLE", "type": "TYPE65280", "ttl": 60, "data": "\\# 1 ab" }],
                "truncated": false,
                "authoritative": true,
                "recursion_available": true,
                "authentic_data": true,
                "edns": {
                    "version": 0, "udp_size": 512, "do": false,
                    "options": [{ "name": "EDE", "data": "22 (No Reachable Authority): doc's" }],
                },
                "bytes": answered.len(), "start": 2_000_000, "end": 2_000_000,
            },
            "reasons": [],
            "missing_bytes": 0,
        })]
    );
}

#[test]
fn pairing_of_datagrams() {
    let none: &[&str] = &[];
    type Case<'a> = (&'a str, Vec<(Side, Vec<u8>)>, &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("one", vec![(C, query(1, "a.b", A)), (S, answer(1, "a.b", 9))], &["1 a.b 192.0.2.9 0"]),
        ("other capitals", vec![(C, query(1, "a.b", A)), (S, answer(1, "A.b", 9))], &["1 a.b 192.0.2.9 0"]),
        (
            "two in the other order",
            vec![(C, query(1, "a", A)), (C, query(2, "b", A)), (S, answer(2, "b", 2)), (S, answer(1, "a", 1))],
            &["2 b 192.0.2.2 0", "1 a 192.0.2.1 0"],
        ),
        (
            "one id for two questions",
            vec![(C, query(1, "a", A)), (C, query(1, "b", A)), (S, answer(1, "b", 2)), (S, answer(1, "a", 1))],
            &["1 b 192.0.2.2 0", "1 a 192.0.2.1 0"],
        ),
        (
            "sent three times, answered twice",
            vec![
                (C, query(1, "a", A)),
                (C, query(1, "a", A)),
                (C, query(1, "a", A)),
                (S, answer(1, "a", 1)),
                (S, answer(1, "a", 1)),
            ],
            &["1 a 192.0.2.1 2", "1 a 192.0.2.1 0 unsolicited"],
        ),
        (
            "another id, another question, another type",
            vec![
                (C, query(1, "a", A)),
                (S, answer(2, "a", 1)),
                (S, answer(1, "b", 1)),
                (S, response(1, 0x8180, "a", 28, &[])),
            ],
            &[
                "2 a 192.0.2.1 0 unsolicited",
                "1 b 192.0.2.1 0 unsolicited",
                "1 a NOERROR 0 unsolicited",
                "1 a - 0 no_response",
            ],
        ),
        (
            "an update is not answered by a response to a query",
            vec![
                (C, [header(1, 0x2800, [1, 0, 0, 0]), question("a", SOA)].concat()),
                (S, response(1, 0x8180, "a", SOA, &[])),
            ],
            &["1 a NOERROR 0 unsolicited", "1 a - 0 no_response"],
        ),
        (
            "an update and its response without a zone",
            vec![(C, [header(1, 0x2800, [1, 0, 0, 0]), question("a", SOA)].concat()), (S, header(1, 0xa805, [0; 4]))],
            &["1 a REFUSED 0"],
        ),
        (
            "both ask",
            vec![(C, query(1, "a", A)), (S, query(1, "a", A)), (C, answer(1, "a", 1)), (S, answer(1, "a", 2))],
            &["1 a 192.0.2.1 0", "1 a 192.0.2.2 0"],
        ),
        (
            "an error without the question",
            vec![(C, query(5, "a", A)), (S, header(5, 0x8001, [0; 4]))],
            &["5 a FORMERR 0"],
        ),
        (
            "an error without the question, for one of two",
            vec![(C, query(5, "a", A)), (C, query(5, "b", A)), (S, header(5, 0x8001, [0; 4]))],
            &["5 - FORMERR 0 unsolicited", "5 a - 0 no_response", "5 b - 0 no_response"],
        ),
        (
            "a multicast response pairs with nothing",
            vec![
                (C, query(0, "a.local", A)),
                (
                    S,
                    [header(0, 0x8400, [0, 1, 0, 0]), name("a.local"), words(&[A, 0x8001, 0, 60, 4, 0xc000, 0x0201])]
                        .concat(),
                ),
            ],
            &["0 - 192.0.2.1 0 unsolicited", "0 a.local - 0 no_response"],
        ),
        (
            "bytes behind the message",
            vec![(C, query(1, "a", A)), (S, [answer(1, "a", 1), vec![0]].concat())],
            &["1 a 192.0.2.1 0 parse_error"],
        ),
        (
            "data that is too short for its type",
            vec![(C, query(1, "a", A)), (S, response(1, 0x8180, "a", A, &[record(A, &[1, 2, 3])]))],
            &["1 a \\# 3 010203 0 parse_error"],
        ),
        (
            "fewer records than announced",
            vec![
                (C, query(1, "a", A)),
                (S, [header(1, 0x8180, [1, 2, 0, 0]), question("a", A), record(A, &[192, 0, 2, 1])].concat()),
            ],
            &["1 a 192.0.2.1 0 parse_error"],
        ),
        (
            "a question that cannot be read",
            vec![(C, query(1, "a", A)), (S, [header(1, 0x8180, [1, 0, 0, 0]), vec![0xc0, 0x0c]].concat())],
            &["1 - NOERROR 0 unsolicited+parse_error", "1 a - 0 no_response"],
        ),
        ("not a header", vec![(C, query(1, "a", A)), (S, vec![0; 11])], &["1 a - 0 no_response"]),
        ("not DNS", vec![(C, vec![0; 12]), (S, answer(1, "a", 1))], &["1 a 192.0.2.1 0 unsolicited"]),
        ("nothing", vec![(C, b"GET / HTTP/1.1\r\n\r\n".to_vec())], none),
    ];
    for (case, script, expected) in cases {
        assert_eq!(briefs(&datagrams(script)), *expected, "{case}");
    }
}

#[test]
fn a_datagram_that_is_answered_late_or_never() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Udp, false));
    conversation.datagram(C, &query(1, "a", A));
    conversation.pause(3_000_000_000);
    conversation.datagram(C, &query(1, "a", A));
    conversation.datagram(C, &query(2, "b", A));
    conversation.pause(4_998_000_000);
    assert_eq!(conversation.take(), [] as [Value; 0], "a query is waited for from its last transmission");
    conversation.pause(1_000_000);
    assert_eq!(briefs(&conversation.take()), ["1 a - 1 no_response"]);
    conversation.pause(1_000_000);
    assert_eq!(briefs(&conversation.take()), ["2 b - 0 no_response"]);
    conversation.datagram(S, &answer(1, "a", 1));
    assert_eq!(briefs(&conversation.close()), ["1 a 192.0.2.1 0 unsolicited"]);
}

#[test]
fn the_oldest_of_too_many_queries_is_given_up() {
    let mut context = context(Transport::Udp, false);
    context.limits.pending = 2;
    let mut conversation = Conversation::new(&REGISTRATION, context);
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        conversation.datagram(C, &query(id, name, A));
    }
    assert_eq!(briefs(&conversation.take()), ["1 a - 0 no_response"]);
    conversation.datagram(S, &answer(2, "b", 2));
    assert_eq!(briefs(&conversation.close()), ["2 b 192.0.2.2 0", "3 c - 0 no_response"]);
}

#[test]
fn a_datagram_cut_off_by_the_capture_limit() {
    let whole = answer(1, "a", 1);
    for kept in HEADER..whole.len() {
        let mut table = Vec::new();
        let mut sequence = 0;
        let mut dns = Dns::new(context(Transport::Udp, false));
        let mut out = Output { exchanges: &mut table, sequence: &mut sequence };
        let asked = query(1, "a", A);
        let input = |bytes, uncaptured| Input { bytes, uncaptured, transfer_start: true, offset: 0, marks: &[] };
        assert!(matches!(dns.step(C, input(&asked, 0), &mut out), Step::Consumed(_)));
        let cut = input(&whole[..kept], (whole.len() - kept) as u64);
        assert!(matches!(dns.step(S, cut, &mut out), Step::Consumed(_)));
        dns.close(Time(0), &mut out);
        let records: Vec<_> = table.iter().map(crate::testing::render).collect();
        let question_ends = HEADER + 3 + 4;
        let response = if kept < question_ends {
            assert_eq!(briefs(&records), ["1 - NOERROR 0 truncated+unsolicited", "1 a - 0 no_response"], "{kept}");
            &records[0]["response"]
        } else {
            assert_eq!(briefs(&records), ["1 a NOERROR 0 truncated"], "{kept}");
            &records[0]["response"]
        };
        assert_eq!(response["bytes"], whole.len());
    }
}

#[test]
fn streams() {
    let axfr = |id, answers: &[Vec<u8>]| response(id, 0x8400, "a", AXFR, answers);
    let ixfr_query = |serial| [header(1, 0, [1, 0, 1, 0]), question("a", IXFR), soa(serial)].concat();
    let ixfr = |answers: &[Vec<u8>]| response(1, 0x8400, "a", IXFR, answers);
    let a = |last| record(A, &[192, 0, 2, last]);
    // A record's name is a pointer to the question, which these messages lack.
    let unnamed = |answers: &[Vec<u8>]| {
        let records = answers.iter().flat_map(|record| [&name("a"), &record[2..]].concat());
        [header(1, 0x8400, [0, answers.len() as u16, 0, 0]), records.collect()].concat()
    };
    type Case<'a> = (&'a str, Vec<(Side, Vec<u8>)>, &'a [&'a str], &'a [u64]);
    let cases: &[Case<'_>] = &[
        ("one", vec![(C, query(1, "a", A)), (S, answer(1, "a", 1))], &["1 a 192.0.2.1 0"], &[0]),
        (
            "pipelined, in the other order",
            vec![(C, query(1, "a", A)), (C, query(2, "b", A)), (S, answer(2, "b", 2)), (S, answer(1, "a", 1))],
            &["2 b 192.0.2.2 0", "1 a 192.0.2.1 0"],
            &[0, 0],
        ),
        (
            "the same query twice is two queries",
            vec![(C, query(1, "a", A)), (C, query(1, "a", A)), (S, answer(1, "a", 1)), (S, answer(1, "a", 2))],
            &["1 a 192.0.2.1 0", "1 a 192.0.2.2 0"],
            &[0, 0],
        ),
        (
            "id 0 for all",
            vec![(C, query(0, "a", A)), (S, answer(0, "a", 1)), (C, query(0, "b", A)), (S, answer(0, "b", 2))],
            &["0 a 192.0.2.1 0", "0 b 192.0.2.2 0"],
            &[0, 0],
        ),
        (
            "a zone in one message",
            vec![(C, query(1, "a", AXFR)), (S, axfr(1, &[soa(5), a(1), soa(5)]))],
            &["1 a . . 5 1 2 3 4 0"],
            &[0],
        ),
        (
            "a zone in four messages, three without a question, and a query in between",
            vec![
                (C, query(1, "a", AXFR)),
                (S, axfr(1, &[soa(5)])),
                (S, unnamed(&[a(1)])),
                (C, query(2, "b", A)),
                (S, answer(2, "b", 2)),
                (S, unnamed(&[a(2), a(3)])),
                (S, unnamed(&[soa(5)])),
            ],
            &["2 b 192.0.2.2 0", "1 a . . 5 1 2 3 4 0"],
            &[0, 4],
        ),
        (
            "a transfer that is refused",
            vec![(C, query(1, "a", AXFR)), (S, response(1, 0x8005, "a", AXFR, &[]))],
            &["1 a REFUSED 0"],
            &[0],
        ),
        (
            "a transfer that breaks off",
            vec![(C, query(1, "a", AXFR)), (S, axfr(1, &[soa(5), a(1)]))],
            &["1 a 192.0.2.1 0 closed"],
            &[0],
        ),
        (
            "no differences",
            vec![(C, ixfr_query(5)), (S, ixfr(&[soa(5)])), (C, query(1, "b", A)), (S, answer(1, "b", 1))],
            &["1 a . . 5 1 2 3 4 0", "1 b 192.0.2.1 0"],
            &[0, 0],
        ),
        (
            "differences, of which the last additions begin a message",
            vec![
                (C, ixfr_query(4)),
                (S, ixfr(&[soa(5), soa(4), a(1), soa(5)])),
                (S, ixfr(&[a(2), soa(5)])),
                (C, query(1, "b", A)),
                (S, answer(1, "b", 1)),
            ],
            &["1 a . . 5 1 2 3 4 0", "1 b 192.0.2.1 0"],
            &[2, 0],
        ),
    ];
    for (case, script, expected, messages) in cases {
        let records = stream(script);
        // Of a transfer the records of the first message are printed.
        assert_eq!(briefs(&records), *expected, "{case}");
        let counted: Vec<_> = records.iter().map(|r| r["response"]["messages"].as_u64().unwrap_or_default()).collect();
        assert_eq!(counted, *messages, "{case}");
    }
}

/// Conversation for tests of splitting and of holes: several messages in a transfer, one cut over two.
fn conversation() -> Vec<(Side, Vec<u8>)> {
    let [first, second, third] = [answer(1, "a.b", 1), answer(2, "c.d", 2), answer(1, "a.b", 3)].map(|m| framed(&m));
    let (head, tail) = second.split_at(20);
    vec![
        (C, [framed(&query(1, "a.b", A)), framed(&query(2, "c.d", A))].concat()),
        (S, [first, head.to_vec()].concat()),
        (S, tail.to_vec()),
        (C, framed(&query(1, "a.b", A))),
        (S, third),
        (C, framed(&query(3, "e.f", A))),
        (S, framed(&answer(3, "e.f", 4))),
    ]
}

fn borrowed(script: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
    script.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

#[test]
fn splitting_does_not_matter() {
    let script = conversation();
    let records = assert_split_invariant(&REGISTRATION, &borrowed(&script));
    let expected = ["1 a.b 192.0.2.1 0", "2 c.d 192.0.2.2 0", "1 a.b 192.0.2.3 0", "3 e.f 192.0.2.4 0"];
    assert_eq!(briefs(&records), expected);
    let times = |record: &Value| {
        [&record["request"]["start"], &record["response"]["start"], &record["response"]["end"]]
            .map(|t| t.as_u64().unwrap() / 1_000_000)
    };
    assert_eq!(records.iter().map(times).collect::<Vec<_>>(), [[1, 2, 2], [1, 2, 3], [4, 5, 5], [6, 7, 7]]);
}

#[test]
fn pairs_are_true_whatever_is_missing() {
    let script = conversation();
    let mut paired = 0;
    let mut runs = 0;
    with_holes(&REGISTRATION, &borrowed(&script), &[1, 2, 3, 19, 40, 80], |hole, records| {
        runs += 1;
        for record in &records {
            if record["request"].is_null() || record["response"].is_null() {
                assert_ne!(record["reasons"], json!([]), "{hole}: {record}");
                continue;
            }
            paired += 1;
            let response = record["response"]["start"].as_u64().unwrap() / 1_000_000;
            let request = record["request"]["start"].as_u64().unwrap() / 1_000_000;
            let id = record["request"]["id"].as_u64().unwrap();
            let true_pairs = [(1, 1, 2), (2, 1, 2), (2, 1, 3), (1, 4, 5), (3, 6, 7)];
            assert!(true_pairs.contains(&(id, request, response)), "{hole}: {record}");
            if record["reasons"] == json!([]) {
                let expected = match (id, request) {
                    (1, 1) => "192.0.2.1",
                    (1, 4) => "192.0.2.3",
                    (2, 1) => "192.0.2.2",
                    _ => "192.0.2.4",
                };
                assert_eq!(record["response"]["answers"][0]["data"], expected, "{hole}: {record}");
            }
        }
    });
    assert!(paired > runs * 5 / 2, "a hole costs few pairs: {paired} pairs in {runs} runs of 4");
}

#[test]
fn the_end_of_a_message_may_be_missing_without_harm_to_the_next() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, &framed(&query(1, "a", A)));
    let first = framed(&answer(1, "a", 1));
    let question_ends = 2 + HEADER + 7;
    conversation.say_part(S, &first[..question_ends], first.len() as u64 - 5);
    conversation.lose(S, 2);
    let rest = [&first[first.len() - 3..], &framed(&answer(2, "b", 2))].concat();
    conversation.say_part(S, &rest, rest.len() as u64);
    conversation.say(C, &framed(&query(3, "c", A)));
    conversation.say(S, &framed(&answer(3, "c", 3)));
    let records = conversation.close();
    assert_eq!(
        briefs(&records),
        ["1 a NOERROR 0 truncated", "2 b 192.0.2.2 0 unsolicited", "3 c 192.0.2.3 0"],
        "{records:#?}"
    );
    assert_eq!(records[0]["response"]["bytes"], first.len());
    assert!(records[0]["response"]["end"].is_null(), "the last byte was not seen");
}

#[test]
fn a_response_that_ends_before_its_length_does_is_not_complete() {
    let answered = framed(&answer(1, "a", 1));
    let whole = [&answered[..], b"more"].concat();
    let claimed = [&words(&[whole.len() as u16 - 2])[..], &answered[2..]].concat();
    let query = framed(&query(1, "a", A));
    for (response, reasons) in [(&answered, ""), (&claimed, " closed")] {
        let records = run(&REGISTRATION, &[(C, &query), (S, response)]);
        assert_eq!(briefs(&records), [format!("1 a 192.0.2.1 0{reasons}")], "{records:#?}");
    }
}

#[test]
fn joined_in_the_middle() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    let first = framed(&answer(1, "a", 1));
    conversation.say(S, &first[9..]);
    conversation.say(C, &framed(&query(2, "b", A)));
    conversation.say(S, &framed(&answer(2, "b", 2)));
    assert_eq!(briefs(&conversation.close()), ["2 b 192.0.2.2 0"]);
}

#[test]
fn an_inverse_query_is_answered_by_its_id() {
    let refused = header(1, 0x8804, [0; 4]);
    let records = datagrams(&[(C, inverse_query()), (S, refused)]);
    assert_eq!(records.len(), 1);
    let (request, response) = (&records[0]["request"], &records[0]["response"]);
    assert_eq!((&request["opcode"], &request["answers"][0]["data"]), (&json!("IQUERY"), &json!("192.0.2.1")));
    assert_eq!((&response["rcode"], &records[0]["reasons"]), (&json!("NOTIMP"), &json!([])));
}

#[test]
fn recognition() {
    let opt = [vec![0], words(&[41, 1232, 0, 0, 0])].concat();
    let edns = [header(1, 0x0120, [1, 0, 0, 1]), question("a", A), opt].concat();
    let mdns = [header(0, 0x8400, [0, 1, 0, 0]), name("a.local"), words(&[A, 0x8001, 0, 60, 2, 1])].concat();
    let netbios = query(1, "CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 33);
    let with = |bytes: &[u8], tail: &[u8]| [bytes, tail].concat();
    let (client, server) = (Inference::Sure(Sender::Client), Inference::Sure(Sender::Server));
    // The same message, in a datagram and behind its length.
    let both: &[(&str, Vec<u8>, Inference, Inference)] = &[
        ("query", query(1, "a", A), client, client),
        ("query for the root", query(1, "", 2), client, client),
        ("query with EDNS", edns, client, client),
        ("answer", answer(1, "a", 1), server, server),
        ("multicast response", mdns, server, server),
        ("notify", [header(1, 0x2400, [1, 0, 0, 0]), question("a", SOA)].concat(), client, client),
        ("inverse query", inverse_query(), client, client),
        ("inverse query with a byte behind it", with(&inverse_query(), &[0]), Inference::No, Inference::No),
        ("inverse query without an answer", header(1, 0x0800, [0; 4]), Inference::No, Inference::No),
        ("NetBIOS", netbios, Inference::No, Inference::No),
        (
            "an unknown opcode",
            [header(1, 0x1900, [1, 0, 0, 0]), question("a", A)].concat(),
            Inference::No,
            Inference::No,
        ),
        ("a code in a query", [header(1, 0x0103, [1, 0, 0, 0]), question("a", A)].concat(), client, client),
        (
            "more records than fit",
            [header(1, 0x8180, [1, 9, 0, 0]), question("a", A)].concat(),
            Inference::No,
            Inference::No,
        ),
        (
            "an unknown class",
            [header(1, 0x0100, [1, 0, 0, 0]), name("a"), words(&[1, 77])].concat(),
            Inference::No,
            Inference::No,
        ),
        ("type 0", [header(1, 0x0100, [1, 0, 0, 0]), name("a"), words(&[0, 1])].concat(), Inference::No, Inference::No),
        ("only a header", header(1, 0x8001, [0; 4]), Inference::No, Inference::No),
        ("zeros", vec![0; 40], Inference::No, Inference::No),
        ("query with bytes behind it", with(&query(1, "a", A), b"MS"), client, client),
        (
            "a code in a query with bytes behind it",
            with(&[header(1, 0x0103, [1, 0, 0, 0]), question("a", A)].concat(), b"MS"),
            Inference::No,
            Inference::No,
        ),
        ("half a query", query(1, "a", A)[..15].to_vec(), Inference::No, Inference::No),
    ];
    for (case, message, datagram, stream) in both {
        assert_eq!(infer::infer(message, Transport::Udp), *datagram, "{case}");
        assert_eq!(infer::infer(&framed(message), Transport::Tcp), *stream, "{case}");
    }
    let whole = framed(&query(1, "a", A));
    for end in 1..whole.len() {
        assert_eq!(infer::infer(&whole[..end], Transport::Tcp), Inference::More, "{end} bytes of a query");
    }
    assert_eq!(infer::infer(&with(&whole, &whole), Transport::Tcp), client);
    assert_eq!(infer::infer(&with(&whole, b"GET / HTTP/1.1"), Transport::Tcp), client);
}

#[test]
fn other_protocols_are_not_recognised() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x02\0\0\0\0",
        b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x02\0\0\0\0",
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x4a\0\0\0\x0a8.0.36\0\x0b\0\0\0aaaaaaaa\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0aaaaaaaaaaaa\0",
        b"\x0f\0\0\0\x03select 1 from t",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0",
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16application_name\0\0Z\0\0\0\x05I",
        b"Q\0\0\0\x0dselect 1\0",
        // STUN, NTP, RTP, QUIC.
        b"\0\x01\0\0\x21\x12\xa4\x42aaaaaaaaaaaa",
        b"\x23\0\x06\xec\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xe0\0\0\0\0\0\0\0",
        b"\x80\x60\0\x01\0\0\0\xa0\0\0\0\x01aaaaaaaaaaaaaaaaaaaaaaaa",
        b"\xc3\0\0\0\x01\x08aaaaaaaa\x08aaaaaaaa\0\x40\x75aaaaaaaaaaaaaaaaaaaa",
    ];
    for head in heads {
        let shown = head.escape_ascii().to_string();
        assert_eq!(infer::infer(head, Transport::Udp), Inference::No, "{shown}");
        let expected = if head.len() < 2 + HEADER { [Inference::No, Inference::More] } else { [Inference::No; 2] };
        assert!(expected.contains(&infer::infer(head, Transport::Tcp)), "{shown}");
    }
}

#[test]
fn the_schema_has_what_is_printed() {
    let mut generator = SchemaGenerator::default();
    let schemas =
        (REGISTRATION.schema)(&mut generator).map(|schema| json!(schema)["$ref"].as_str().unwrap().to_owned());
    let definitions = json!(generator.take_definitions(true));
    let record = datagrams(&[(C, query(1, "a", A)), (S, answer(1, "a", 1))]).remove(0);
    for (reference, part) in schemas.iter().zip(["request", "response"]) {
        let name = reference.rsplit('/').next().unwrap();
        assert!(name.starts_with("Dns"), "{name}");
        for key in
            record[part].as_object().unwrap().keys().filter(|key| !["bytes", "start", "end"].contains(&key.as_str()))
        {
            assert!(
                definitions[name]["properties"][key].is_object() || definitions[name]["properties"][key] == true,
                "{name} {key}"
            );
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_not_recognised_and_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
        prop_assert!(!matches!(infer::infer(&bytes, Transport::Udp), Inference::Sure(_)));
        prop_assert!(!matches!(infer::infer(&bytes, Transport::Tcp), Inference::Sure(_)));
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Udp, false));
        conversation.datagram(C, &query(1, "a", A));
        conversation.datagram(S, &bytes);
        conversation.datagram(C, &[&answer(1, "a", 1)[..12], &bytes].concat());
        conversation.close();
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        conversation.say(C, &framed(&query(1, "a", A)));
        conversation.say(S, &bytes);
        conversation.say(S, &framed(&[&answer(1, "a", 1)[..20], &bytes].concat()));
        conversation.close();
    }

    #[test]
    fn pairs_are_true_after_many_losses(
        losses in proptest::collection::vec((0..60usize, 0..40usize, 1..50usize, any::<bool>(), any::<bool>()), 1..10),
        ids in proptest::collection::vec(0..2u16, 30),
    ) {
        // Ids and names collide; the address in an answer has the number of the transfer of its query.
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        let mut records = Vec::new();
        for index in 0..60u8 {
            let asked = usize::from(index / 2);
            let text = format!("n{}.test", asked % 2);
            let (side, message) = match index % 2 {
                0 => (C, query(ids[asked], &text, A)),
                _ => (S, answer(ids[asked], &text, index)),
            };
            let bytes = framed(&message);
            let Some((_, at, size, lost, late)) = losses.iter().find(|loss| loss.0 == usize::from(index)) else {
                conversation.say(side, &bytes);
                records.extend(conversation.take());
                continue;
            };
            let at = (*at).min(bytes.len() - 1);
            let end = (at + size).min(bytes.len());
            conversation.say(side, &bytes[..if *lost { at } else { 0 }]);
            if *lost {
                conversation.lose(side, (end - at) as u64);
            } else {
                conversation.say_part(side, &bytes[..at], end as u64);
            }
            conversation.say_part(side, &bytes[end..], (bytes.len() - end) as u64);
            if !late {
                records.extend(conversation.take());
            }
        }
        records.extend(conversation.close());
        for record in &records {
            let start = record["request"]["start"].as_u64().map(|start| start / 1_000_000);
            let data = record["response"]["answers"][0]["data"].as_str();
            if let (Some(start), Some(data)) = (start, data) {
                prop_assert_eq!(data, format!("192.0.2.{start}"), "{:?}: {:#?}", losses, briefs(&records));
            }
        }
    }

    #[test]
    fn a_model_conversation_pairs_as_it_was_made(
        order in Just((0..12u16).collect::<Vec<_>>()).prop_shuffle(),
        ids in proptest::collection::vec(0..4u16, 12),
        cuts in proptest::collection::vec(1..40usize, 40),
    ) {
        // Ids collide; the names tell the queries apart.
        let names: Vec<String> = (0..12).map(|index| format!("n{index}.test")).collect();
        let of = |index: u16| (ids[usize::from(index)], names[usize::from(index)].as_str());
        let asked: Vec<u8> = (0..12).flat_map(|i| framed(&query(of(i).0, of(i).1, A))).collect();
        let answered: Vec<u8> = order.iter().flat_map(|&i| framed(&answer(of(i).0, of(i).1, i as u8))).collect();
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        for (side, mut bytes) in [(C, asked.as_slice()), (S, answered.as_slice())] {
            for cut in cuts.iter().cycle() {
                let (head, tail) = bytes.split_at((*cut).min(bytes.len()));
                conversation.say(side, head);
                bytes = tail;
                if bytes.is_empty() {
                    break;
                }
            }
        }
        let expected: Vec<String> =
            order.iter().map(|&i| format!("{} {} 192.0.2.{i} 0", of(i).0, of(i).1)).collect();
        prop_assert_eq!(briefs(&conversation.close()), expected);
    }
}
