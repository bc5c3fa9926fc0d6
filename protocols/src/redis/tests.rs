use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{Conversation, assert_split_invariant, context, render, run, with_holes};
use crate::{Exchange, Inference, Limits, Sender};

use Side::{Client as C, Server as S};

/// A command as clients send it.
fn command(words: &str) -> Vec<u8> {
    let words: Vec<_> = words.split(' ').collect();
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    wire.extend(words.iter().flat_map(|word| format!("${}\r\n{word}\r\n", word.len()).into_bytes()));
    wire
}

/// Runs a conversation in which lines of the client are commands, and those of the server are wire bytes.
fn talk(script: &[(Side, &str)]) -> Vec<serde_json::Value> {
    let script: Vec<_> = script.iter().map(|(side, text)| (*side, wire(*side, text))).collect();
    run(&REGISTRATION, &borrowed(&script))
}

/// Commands of one transfer are separated by "; ".
fn wire(side: Side, text: &str) -> Vec<u8> {
    match side {
        C => text.split("; ").flat_map(command).collect(),
        S => text.as_bytes().to_vec(),
    }
}

fn borrowed(script: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
    script.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

/// A record on one line: command and arguments, "@database", "->", type and value or error, reasons.
fn brief(record: &serde_json::Value) -> String {
    let mut parts = Vec::new();
    let request = &record["request"];
    if let Some(name) = request["command"].as_str() {
        parts.push(name.to_owned());
        parts.extend(
            request["args"].as_array().unwrap().iter().map(|arg| arg.as_str().map_or(arg.to_string(), str::to_owned)),
        );
        parts.extend(
            request["database"].as_u64().filter(|database| *database > 0).map(|database| format!("@{database}")),
        );
        parts.extend(request["no_reply"].as_bool().map(|_| "(no reply)".to_owned()));
    }
    if let Some(kind) = record["response"]["type"].as_str() {
        let response = &record["response"];
        let value = if response["error"].is_null() { &response["value"] } else { &response["error"] };
        parts.push(format!("-> {kind} {value}"));
        parts.extend(response["pushes"].as_u64().map(|pushes| format!("({pushes} pushed)")));
        parts.extend(response["replies"].as_u64().map(|replies| format!("({replies} replies)")));
    }
    parts.extend(record["reasons"].as_array().unwrap().iter().map(|reason| format!("!{}", reason.as_str().unwrap())));
    parts.join(" ")
}

fn briefs(records: &[serde_json::Value]) -> Vec<String> {
    records.iter().map(brief).collect()
}

#[test]
fn a_record_in_full() {
    assert_eq!(
        talk(&[(C, "hset key field value"), (S, ":1\r\n")]),
        [json!({
            "protocol": "redis",
            "sequence": 0,
            "request": {
                "command": "HSET", "args": ["key", "field", "value"], "database": 0,
                "bytes": 45, "start": 1_000_000, "end": 1_000_000,
            },
            "response": { "type": "integer", "value": 1, "bytes": 4, "start": 2_000_000, "end": 2_000_000 },
            "reasons": [],
            "missing_bytes": 0,
        })]
    );
}

#[test]
fn values_of_every_type() {
    let cases = [
        ("+OK\r\n", "simple_string \"OK\""),
        ("-WRONGTYPE Operation\r\n", "error \"WRONGTYPE Operation\""),
        (":-12\r\n", "integer -12"),
        ("$5\r\nhello\r\n", "bulk_string \"hello\""),
        ("$0\r\n\r\n", "bulk_string \"\""),
        ("$2\r\n\r\n\r\n", "bulk_string \"\\r\\n\""),
        ("$-1\r\n", "null null"),
        ("*-1\r\n", "null null"),
        ("*0\r\n", "array []"),
        ("*3\r\n$1\r\na\r\n:1\r\n*2\r\n+x\r\n$-1\r\n", "array [\"a\",1,[\"x\",null]]"),
        ("*2\r\n*0\r\n*1\r\n*0\r\n", "array [[],[[]]]"),
        ("*2\r\n+OK\r\n-ERR no\r\n", "array [\"OK\",{\"error\":\"ERR no\"}]"),
        ("_\r\n", "null null"),
        ("#t\r\n", "boolean true"),
        (",1.5\r\n", "double 1.5"),
        (",inf\r\n", "double \"inf\""),
        (",-inf\r\n", "double \"-inf\""),
        (",nan\r\n", "double \"NaN\""),
        (
            "(3492890328409238509324850943850943825024385\r\n",
            "big_number \"3492890328409238509324850943850943825024385\"",
        ),
        ("!10\r\nSYNTAX bad\r\n", "bulk_error \"SYNTAX bad\""),
        ("=7\r\ntxt:abc\r\n", "verbatim_string \"abc\""),
        ("%2\r\n+a\r\n:1\r\n:2\r\n*1\r\n#f\r\n", "map [[\"a\",1],[2,[false]]]"),
        ("~2\r\n+a\r\n+b\r\n", "set [\"a\",\"b\"]"),
        ("|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n", "bulk_string \"v\""),
        ("*2\r\n:1\r\n|1\r\n+k\r\n*2\r\n:8\r\n:9\r\n:2\r\n", "array [1,2]"),
        ("|0\r\n:7\r\n", "integer 7"),
        ("$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", "bulk_string \"Hello\""),
        ("*?\r\n:1\r\n*?\r\n.\r\n.\r\n", "array [1,[]]"),
        ("%?\r\n+a\r\n:1\r\n.\r\n", "map [[\"a\",1]]"),
    ];
    for (reply, expected) in cases {
        let get = command("GET k");
        let then = command("PING");
        let script = [(C, get.as_slice()), (S, reply.as_bytes()), (C, then.as_slice()), (S, b"+PONG\r\n")];
        let records = assert_split_invariant(&REGISTRATION, &script);
        let expected = [format!("GET k -> {expected}"), "PING -> simple_string \"PONG\"".to_owned()];
        assert_eq!(briefs(&records), expected, "{reply:?}");
        assert_eq!(records[0]["response"]["bytes"], reply.len(), "{reply:?}");
    }
}

#[test]
fn conversations() {
    let confirm = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n";
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
    let confirmed = "-> array [[\"subscribe\",\"a\",1],[\"subscribe\",\"b\",2]]";
    type Case<'a> = (&'a str, &'a [(Side, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "a pipeline",
            &[(C, "SET a 1; INCR a; GET a"), (S, "+OK\r\n:2\r\n"), (S, "$1\r\n2\r\n")],
            &["SET a 1 -> simple_string \"OK\"", "INCR a -> integer 2", "GET a -> bulk_string \"2\""],
        ),
        (
            "a transaction",
            &[(C, "MULTI; SET a 1; LPOP a; EXEC"), (S, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-WRONGTYPE x\r\n")],
            &[
                "MULTI -> simple_string \"OK\"",
                "SET a 1 -> simple_string \"QUEUED\"",
                "LPOP a -> simple_string \"QUEUED\"",
                "EXEC -> array [\"OK\",{\"error\":\"WRONGTYPE x\"}]",
            ],
        ),
        (
            "a transaction that is given up, one that is watched, one that fails",
            &[
                (C, "WATCH a"),
                (S, "+OK\r\n"),
                (C, "MULTI"),
                (S, "+OK\r\n"),
                (C, "EXEC"),
                (S, "*-1\r\n"),
                (C, "MULTI; NOPE; EXEC; MULTI; DISCARD"),
                (S, "+OK\r\n-ERR unknown\r\n-EXECABORT x\r\n+OK\r\n+OK\r\n"),
            ],
            &[
                "WATCH a -> simple_string \"OK\"",
                "MULTI -> simple_string \"OK\"",
                "EXEC -> null null",
                "MULTI -> simple_string \"OK\"",
                "NOPE -> error \"ERR unknown\"",
                "EXEC -> error \"EXECABORT x\"",
                "MULTI -> simple_string \"OK\"",
                "DISCARD -> simple_string \"OK\"",
            ],
        ),
        (
            "databases",
            &[
                (C, "SELECT 3; GET a"),
                (S, "+OK\r\n$-1\r\n"),
                (C, "SELECT 99; GET a"),
                (S, "-ERR DB index\r\n$-1\r\n"),
                (C, "MULTI; SELECT 5; GET a; EXEC; GET a"),
                (S, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$-1\r\n$-1\r\n"),
                (C, "RESET; GET a"),
                (S, "+RESET\r\n$-1\r\n"),
            ],
            &[
                "SELECT 3 -> simple_string \"OK\"",
                "GET a @3 -> null null",
                "SELECT 99 @3 -> error \"ERR DB index\"",
                "GET a @3 -> null null",
                "MULTI @3 -> simple_string \"OK\"",
                "SELECT 5 @3 -> simple_string \"QUEUED\"",
                "GET a @3 -> simple_string \"QUEUED\"",
                "EXEC @3 -> array [\"OK\",null]",
                "GET a @5 -> null null",
                "RESET @5 -> simple_string \"RESET\"",
                "GET a -> null null",
            ],
        ),
        (
            "replies off, skipped and on",
            &[
                (C, "CLIENT REPLY SKIP; SET a 1; GET a"),
                (S, "$1\r\n1\r\n"),
                (C, "CLIENT REPLY OFF; SET a 2; CLIENT REPLY SKIP; SET a 3; SET a 4; CLIENT REPLY ON; GET a"),
                (S, "+OK\r\n$1\r\n4\r\n"),
            ],
            &[
                "CLIENT REPLY SKIP (no reply)",
                "SET a 1 (no reply)",
                "GET a -> bulk_string \"1\"",
                "CLIENT REPLY OFF (no reply)",
                "SET a 2 (no reply)",
                "CLIENT REPLY SKIP (no reply)",
                "SET a 3 (no reply)",
                "SET a 4 (no reply)",
                "CLIENT REPLY ON -> simple_string \"OK\"",
                "GET a -> bulk_string \"4\"",
            ],
        ),
        (
            "publish/subscribe in RESP2",
            &[
                (C, "SUBSCRIBE a b"),
                (S, confirm),
                (S, message),
                (S, message),
                (C, "PING"),
                (S, "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
                (C, "UNSUBSCRIBE"),
                (S, message),
                (S, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n"),
                (C, "LRANGE l 0 -1"),
                (S, message),
            ],
            &[
                &format!("SUBSCRIBE a b {confirmed} (2 replies)"),
                "PING -> array [\"pong\",\"\"] (2 pushed)",
                "UNSUBSCRIBE -> array [[\"unsubscribe\",\"a\",1],[\"unsubscribe\",\"b\",0]] (1 pushed) (2 replies)",
                "LRANGE l 0 -1 -> array [\"message\",\"a\",\"hi\"]",
            ],
        ),
        (
            "a message between two confirmations, and a command behind",
            &[
                (C, "SUBSCRIBE a b; PSUBSCRIBE p*"),
                (S, &confirm[..confirm.len() / 2]),
                (S, message),
                (S, &confirm[confirm.len() / 2..]),
                (S, "*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n"),
                (S, "*4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$1\r\np\r\n$2\r\nhi\r\n"),
                (C, "PUNSUBSCRIBE; UNSUBSCRIBE"),
                (S, "*3\r\n$12\r\npunsubscribe\r\n$2\r\np*\r\n:2\r\n"),
                (S, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n"),
                (C, "UNSUBSCRIBE"),
                (S, "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
            ],
            &[
                &format!("SUBSCRIBE a b {confirmed} (1 pushed) (2 replies)"),
                "PSUBSCRIBE p* -> array [\"psubscribe\",\"p*\",3]",
                "PUNSUBSCRIBE -> array [\"punsubscribe\",\"p*\",2] (1 pushed)",
                "UNSUBSCRIBE -> array [[\"unsubscribe\",\"a\",1],[\"unsubscribe\",\"b\",0]] (2 replies)",
                "UNSUBSCRIBE -> array [\"unsubscribe\",null,0]",
            ],
        ),
        (
            "publish/subscribe and invalidations in RESP3",
            &[
                (C, "HELLO 3"),
                (S, "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n"),
                (C, "SUBSCRIBE a; GET k"),
                (S, ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
                (
                    S,
                    ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$1\r\nv\r\n",
                ),
            ],
            &[
                "HELLO 3 -> map [[\"server\",\"redis\"]]",
                "SUBSCRIBE a -> push [\"subscribe\",\"a\",1]",
                "GET k -> bulk_string \"v\" (2 pushed)",
            ],
        ),
        (
            "a subscription that is refused",
            &[(C, "SUBSCRIBE a"), (S, "-NOPERM no\r\n"), (C, "PING"), (S, "+PONG\r\n")],
            &["SUBSCRIBE a -> error \"NOPERM no\"", "PING -> simple_string \"PONG\""],
        ),
        (
            "a monitor",
            &[
                (C, "MONITOR"),
                (S, "+OK\r\n"),
                (S, "+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n"),
                (C, "QUIT"),
                (S, "+1339518087.877697 [0 127.0.0.1:60866] \"dbsize\"\r\n+OK\r\n"),
            ],
            &["MONITOR -> simple_string \"OK\"", "QUIT -> simple_string \"OK\" (2 pushed)"],
        ),
        (
            "replication is left alone",
            &[
                (C, "REPLCONF capa eof"),
                (S, "+OK\r\n"),
                (C, "PSYNC ? -1"),
                (S, "+FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 0\r\n$5\r\nREDIS"),
                (C, "REPLCONF ACK 0"),
            ],
            &[
                "REPLCONF capa eof -> simple_string \"OK\"",
                "PSYNC ? -1 -> simple_string \"FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 0\"",
            ],
        ),
        ("no reply", &[(C, "GET a; GET b"), (S, "$-1\r\n")], &["GET a -> null null", "GET b !no_response"]),
        (
            "half a reply",
            &[(C, "LRANGE l 0 -1"), (S, "*3\r\n$1\r\na\r\n$5\r\nbc")],
            &["LRANGE l 0 -1 -> array [\"a\",{\"bytes\":5,\"prefix\":\"bc\"},{\"omitted\":1}] !closed"],
        ),
        (
            "a reply without a request",
            &[(C, "PING"), (S, "+PONG\r\n+PONG\r\n")],
            &["PING -> simple_string \"PONG\"", "-> simple_string \"PONG\" !unsolicited"],
        ),
        (
            "redirections",
            &[(C, "GET a"), (S, "-MOVED 3999 127.0.0.1:6381\r\n")],
            &["GET a -> error \"MOVED 3999 127.0.0.1:6381\""],
        ),
    ];
    for (case, script, expected) in cases {
        assert_eq!(briefs(&talk(script)), *expected, "{case}");
        let script: Vec<_> = script.iter().map(|(side, text)| (*side, wire(*side, text))).collect();
        let split = assert_split_invariant(&REGISTRATION, &borrowed(&script));
        assert_eq!(briefs(&split), *expected, "{case}, split");
    }
}

#[test]
fn inline_commands() {
    let script: &[(Side, &[u8])] = &[
        (C, b"ping\r\n"),
        (S, b"+PONG\r\n"),
        (C, b"\r\n*0\r\nset k \"a b\"\n"),
        (S, b"+OK\r\n"),
        (C, b"*1\r\n$4\r\nPING\r\nget k\r\n"),
        (S, b"+PONG\r\n$3\r\na b\r\n"),
    ];
    let records = assert_split_invariant(&REGISTRATION, script);
    let expected = [
        "PING -> simple_string \"PONG\"",
        "SET k a b -> simple_string \"OK\"",
        "PING -> simple_string \"PONG\"",
        "GET k -> bulk_string \"a b\"",
    ];
    assert_eq!(briefs(&records), expected);
    assert_eq!(records[1]["request"]["bytes"], "set k \"a b\"\n".len());
}

#[test]
fn what_is_long_is_cut_and_says_so() {
    let limit = Limits::default().value;
    let long = "x".repeat(limit * 3);
    let set = command(&format!("SET k {long} EX 1"));
    let reply = format!("*2\r\n${}\r\n{long}\r\n:1\r\n", long.len());
    let records = run(&REGISTRATION, &[(C, &set), (S, reply.as_bytes())]);
    let cut = json!({ "prefix": "x".repeat(limit), "bytes": long.len() });
    assert_eq!(records[0]["request"]["args"], json!(["k", cut, "EX", "1"]));
    assert_eq!(records[0]["response"]["value"], json!([cut, 1]));
    assert_eq!(records[0]["request"]["bytes"], set.len());
    assert_eq!(records[0]["response"]["bytes"], reply.len());
    assert_eq!(records[0]["reasons"], json!([]));

    let many = format!("*1000\r\n{}", ":7\r\n".repeat(1000));
    let mget = command(&format!("MGET{}", " k".repeat(1000)));
    let records = run(&REGISTRATION, &[(C, &mget), (S, many.as_bytes())]);
    let value = records[0]["response"]["value"].as_array().unwrap();
    let (last, numbers) = value.split_last().unwrap();
    assert!(numbers.iter().all(|number| *number == 7));
    assert_eq!(last, &json!({ "omitted": 1000 - numbers.len() }));
    let args = records[0]["request"]["args"].as_array().unwrap().len();
    assert_eq!(records[0]["request"]["args_omitted"], 1000 - args);

    let umlauts = command(&format!("SET k x{}", "ü".repeat(limit)));
    let records = run(&REGISTRATION, &[(C, &umlauts), (S, b"+OK\r\n")]);
    let prefix = records[0]["request"]["args"][1]["prefix"].as_str().unwrap();
    assert_eq!(prefix, format!("x{}", "ü".repeat(limit / 2 - 1)), "no character is cut in two");
}

#[test]
fn what_is_not_kept_is_still_followed() {
    let entry = "*5\r\n$3\r\nabc\r\n*0\r\n*2\r\n+x\r\n$5\r\nhello\r\n:1\r\n%1\r\n$-1\r\n*1\r\n_\r\n";
    let reply = format!("*200\r\n{}", entry.repeat(200));
    let reply = reply.as_bytes();
    // All cuts that can matter are in the last entry and the one before.
    for cut in reply.len() - entry.len() * 2..reply.len() {
        let script = [
            (C, command("COMMAND")),
            (S, reply[..cut].to_vec()),
            (S, reply[cut..].to_vec()),
            (C, command("PING")),
            (S, b"+PONG\r\n".to_vec()),
        ];
        let records = run(&REGISTRATION, &borrowed(&script));
        assert_eq!(records.len(), 2, "cut at {cut}");
        assert_eq!(records[0]["response"]["bytes"], reply.len(), "cut at {cut}");
    }
}

#[test]
fn counts_of_the_wire_allocate_nothing() {
    for reply in ["*9223372036854775807\r\n:1\r\n", "%4611686018427387903\r\n:1\r\n", "$9223372036854775807\r\nabc"] {
        let records = run(&REGISTRATION, &[(C, &command("GET k")), (S, reply.as_bytes())]);
        assert_eq!(records.len(), 1, "{reply}");
        assert_eq!(records[0]["reasons"], json!(["closed"]), "{reply}");
    }
    let nested = "*1\r\n".repeat(100_000);
    let records = run(&REGISTRATION, &[(C, &command("GET k")), (S, nested.as_bytes())]);
    assert_eq!(records[0]["reasons"], json!(["parse_error"]));
}

/// What a person sees of the only record.
fn redacted(script: &[(Side, &str)]) -> serde_json::Value {
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut sequence = 0;
    let mut redis = Redis::new(&context(Transport::Tcp, false));
    for (side, text) in script {
        let bytes = wire(*side, text);
        let mut at = 0;
        while at < bytes.len() {
            let input = Input { bytes: &bytes[at..], uncaptured: 0, transfer_start: at == 0, offset: 0, marks: &[] };
            let mut out = Output { exchanges: &mut exchanges, sequence: &mut sequence };
            let Step::Consumed(n) = redis.step(*side, input, &mut out) else { panic!("whole messages") };
            at += n;
        }
    }
    let mut last = exchanges.pop().unwrap();
    for part in [&mut last.request, &mut last.response].into_iter().flatten() {
        part.payload.redact();
    }
    render(&last)
}

#[test]
fn secrets() {
    let hidden = "[redacted]";
    let auth = redacted(&[(C, "AUTH user pass"), (S, "+OK\r\n")]);
    assert_eq!(auth["request"]["args"], json!([hidden, hidden]));
    let set = redacted(&[(C, "SET AUTH pass"), (S, "+OK\r\n")]);
    assert_eq!(set["request"]["args"], json!(["AUTH", "pass"]));
    let parameters = "$11\r\nrequirepass\r\n$4\r\npass\r\n$4\r\nsave\r\n$0\r\n\r\n";
    let array = redacted(&[(C, "CONFIG GET *"), (S, &format!("*4\r\n{parameters}"))]);
    assert_eq!(array["response"]["value"], json!(["requirepass", hidden, "save", ""]));
    let map = redacted(&[(C, "CONFIG GET *"), (S, &format!("%2\r\n{parameters}"))]);
    assert_eq!(map["response"]["value"], json!([["requirepass", hidden], ["save", ""]]));
    let queued = [(C, "MULTI"), (S, "+OK\r\n"), (C, "CONFIG GET *"), (S, "+QUEUED\r\n"), (C, "EXEC")];
    let exec = redacted(&[&queued[..], &[(S, &format!("*1\r\n*4\r\n{parameters}"))]].concat());
    assert_eq!(exec["response"]["value"], hidden);
    let acl = redacted(&[(C, "ACL LIST"), (S, "*1\r\n$22\r\nuser u on #abcdef ~* +\r\n")]);
    assert_eq!(acl["response"]["value"], hidden);
}

#[test]
fn summaries() {
    let cases = [
        ("GET k", "$1\r\nv\r\n", "GET", Some("k"), "bulk_string", false),
        ("SET k v", "+OK\r\n", "SET", Some("k"), "OK", false),
        ("PING", "+PONG\r\n", "PING", None, "PONG", false),
        ("GET k", "$-1\r\n", "GET", Some("k"), "null", false),
        ("GET k", "-WRONGTYPE Operation\r\n", "GET", Some("k"), "WRONGTYPE", true),
        ("GET k", "-ASK 1 127.0.0.1:1\r\n", "GET", Some("k"), "ASK", false),
        ("EXEC", "*2\r\n+OK\r\n-ERR x\r\n", "EXEC", None, "array", true),
    ];
    for (words, reply, operation, target, status, failed) in cases {
        let mut exchanges = Vec::new();
        let mut sequence = 0;
        let mut redis = Redis::new(&context(Transport::Tcp, false));
        for (side, bytes) in [(C, command(words)), (S, reply.as_bytes().to_vec())] {
            let input = Input { bytes: &bytes, uncaptured: 0, transfer_start: true, offset: 0, marks: &[] };
            redis.step(side, input, &mut Output { exchanges: &mut exchanges, sequence: &mut sequence });
        }
        let exchange = exchanges.pop().unwrap();
        let (request, response) = (exchange.request.unwrap(), exchange.response.unwrap());
        let (request, response) = (request.payload.summary(), response.payload.summary());
        assert_eq!(request.operation.as_deref(), Some(operation), "{words}");
        assert_eq!(request.target.as_deref(), target, "{words}");
        assert_eq!((response.status.as_deref(), response.failed), (Some(status), failed), "{words} {reply}");
    }
}

#[test]
fn bytes_missing_inside_a_string_do_no_harm() {
    let limit = Limits::default().value;
    let long = "x".repeat(limit * 2);
    let set = command(&format!("SET k {long}"));
    // Lost or cut off: within what would be printed, beyond it, up to the line end and with it.
    let value = set.len() - 2 - long.len();
    for (from, to, reasons, bytes) in [
        (value + 100, value + 200, json!(["gap"]), 100),
        (value + limit + 100, value + limit + 200, json!(["gap"]), limit),
        (value + limit + 100, set.len() - 1, json!(["gap"]), limit),
        (value + limit + 100, set.len(), json!(["gap"]), limit),
        (value + 100, set.len() - 2, json!(["gap"]), 100),
        (value + 100, set.len() - 1, json!(["gap"]), 100),
        (value + 100, set.len(), json!(["gap"]), 100),
    ] {
        for lost in [true, false] {
            let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
            if lost {
                conversation.say(C, &set[..from]);
                conversation.lose(C, (to - from) as u64);
            } else {
                conversation.say_part(C, &set[..from], to as u64);
            }
            conversation.say_part(C, &set[to..], (set.len() - to) as u64);
            conversation.take();
            conversation.say(S, b"+OK\r\n");
            conversation.say(C, &command("GET k"));
            let mut records = conversation.take();
            conversation.say(S, b"$1\r\nv\r\n");
            records.extend(conversation.close());
            let beyond = bytes == limit;
            let expected = if lost {
                reasons.clone()
            } else if beyond {
                json!([])
            } else {
                json!(["truncated"])
            };
            assert_eq!(records.len(), 2, "{from}..{to} {lost} {records:#?}");
            assert_eq!(records[0]["reasons"], expected, "{from}..{to} {lost}");
            assert_eq!(records[0]["missing_bytes"], if lost { to - from } else { 0 }, "{from}..{to}");
            assert_eq!(records[0]["request"]["args"][1], json!({ "prefix": "x".repeat(bytes), "bytes": long.len() }));
            assert_eq!(records[0]["request"]["bytes"], set.len());
            assert!(lost || !beyond || !records[0]["request"]["end"].is_null(), "{from}..{to}");
            assert_eq!(records[0]["response"]["value"], "OK");
            assert_eq!(brief(&records[1]), "GET k -> bulk_string \"v\"");
        }
    }
}

/// A conversation of one request at a time; each key and value has its number in it.
fn turns(count: usize) -> Vec<(Side, Vec<u8>)> {
    (0..count)
        .flat_map(|turn| {
            let request = if turn % 3 == 0 { format!("MGET a{turn:02} b") } else { format!("GET a{turn:02}") };
            let value = format!("$3\r\nv{turn:02}\r\n");
            let reply = if turn % 3 == 0 { format!("*2\r\n{value}+OK\r\n") } else { value };
            [(C, command(&request)), (S, reply.into_bytes())]
        })
        .collect()
}

/// The numbers in a record's request and response.
fn numbers(record: &serde_json::Value) -> (Option<String>, Option<String>) {
    let value = &record["response"]["value"];
    let value = value.as_str().or_else(|| value[0].as_str());
    let key = record["request"]["args"][0].as_str();
    (key.and_then(|key| key.get(1..)).map(str::to_owned), value.and_then(|value| value.get(1..)).map(str::to_owned))
}

/// Whether a hole lies in the first transfer of a direction. Where a stream begins, and so whether anything is missing
/// there, is the driver's business; see `requests_that_are_found_late_are_not_paired` for what follows from it.
fn is_at_the_start(hole: &str) -> bool {
    hole.starts_with("transfer 0,") || hole.starts_with("transfer 1,")
}

/// Says how many records are complete, after looking that every pair is a true one.
fn check_pairs(hole: &str, records: &[serde_json::Value]) -> usize {
    let mut complete = 0;
    for record in records {
        if let (Some(key), Some(value)) = numbers(record)
            && value.len() == 2
            && key.len() == 2
        {
            assert_eq!(key, value, "{hole}: {record}");
        }
        if record["reasons"] == json!([]) {
            assert!(!record["response"].is_null() && !record["request"].is_null(), "{hole}: {record}");
            complete += 1;
        }
    }
    complete
}

#[test]
fn pairs_are_true_whatever_is_missing_and_pairing_resumes() {
    let script = turns(10);
    with_holes(&REGISTRATION, &borrowed(&script), &[1, 2, 7, 20, 60], |hole, records| {
        if is_at_the_start(hole) {
            return;
        }
        let complete = check_pairs(hole, &records);
        // What is missing at the end of a transfer shows only later.
        let late = script.iter().any(|(_, bytes)| hole.contains(&format!("..{},", bytes.len())));
        assert!(complete >= 5 || late, "{hole}: {complete} of 10 are complete: {:#?}", briefs(&records));
    });
}

#[test]
fn pairs_are_true_whatever_is_missing_in_a_pipeline() {
    // Three at a time, and before that one reply behind.
    let turns = turns(12);
    let (requests, replies): (Vec<_>, Vec<_>) = turns.chunks(2).map(|turn| (turn[0].clone(), turn[1].clone())).unzip();
    let batch = |part: &[(Side, Vec<u8>)]| (part[0].0, part.iter().flat_map(|(_, bytes)| bytes.clone()).collect());
    let script: Vec<_> = requests.chunks(3).zip(replies.chunks(3)).flat_map(|(r, a)| [batch(r), batch(a)]).collect();
    let mut fewest = usize::MAX;
    with_holes(&REGISTRATION, &borrowed(&script), &[1, 2, 7, 20, 60], |hole, records| {
        if !is_at_the_start(hole) {
            fewest = fewest.min(check_pairs(hole, &records));
        }
    });
    assert!(fewest <= 3, "after a loss in the second batch nothing is certain: {fewest}");
}

#[test]
fn requests_that_are_found_late_are_not_paired() {
    let mut exchanges = Vec::new();
    let mut sequence = 0;
    let mut redis = Redis::new(&context(Transport::Tcp, true));
    let request = command("GET b");
    assert_eq!(redis.resync(C, &request, true), Boundary::At(0));
    for (side, bytes) in [(C, request.as_slice()), (S, b"$1\r\na\r\n")] {
        let input = Input { bytes, uncaptured: 0, transfer_start: true, offset: 0, marks: &[] };
        redis.step(side, input, &mut Output { exchanges: &mut exchanges, sequence: &mut sequence });
    }
    let records: Vec<_> = exchanges.iter().map(render).collect();
    assert_eq!(briefs(&records), ["GET b !gap", "-> bulk_string \"a\" !gap !unsolicited"]);
}

#[test]
fn a_client_that_is_seen_to_pipeline_gets_no_pairs_after_a_loss() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, &command("GET a"));
    conversation.say(C, &command("GET b"));
    conversation.say(S, b"$1\r\na\r\n");
    conversation.say(S, b"$1\r\nb\r\n");
    conversation.lose(C, 20);
    for _ in 0..4 {
        conversation.say(C, &command("GET c"));
        conversation.take();
        conversation.say(S, b"$1\r\nc\r\n");
    }
    let records = briefs(&conversation.close());
    assert!(records.iter().all(|record| record.contains("!gap")), "{records:?}");
}

#[test]
fn a_request_that_is_broken_off() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab");
    conversation.end(C);
    conversation.say(S, b"-ERR x\r\n");
    let expected = [r#"SET k {"bytes":5,"prefix":"ab"} !closed"#, "-> error \"ERR x\" !unsolicited"];
    assert_eq!(briefs(&conversation.close()), expected);
}

/// PING is answered by an array with "pong", or not at all; what says that it is complete is what was said.
fn check_subscription(confirm: char, script: &[(Side, String)]) {
    let script: Vec<_> = script.iter().map(|(side, text)| (*side, wire(*side, text))).collect();
    let whole = briefs(&run(&REGISTRATION, &borrowed(&script)));
    assert_eq!(whole.len(), 3, "{whole:?}");
    with_holes(&REGISTRATION, &borrowed(&script), &[1, 3, 20], |hole, records| {
        for record in records {
            let line = brief(&record);
            let answered = line.starts_with("PING") && line.contains("->");
            assert!(!answered || line.contains("pong"), "{confirm} {hole}: {line}");
            assert!(line.contains('!') || whole.contains(&line), "{confirm} {hole}: {line}");
        }
    });
}

#[test]
fn a_loss_in_a_subscription_makes_nothing_false() {
    for confirm in ['*', '>'] {
        let array = |text: &str| format!("{confirm}3\r\n{text}");
        let confirmed = array("$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n") + &array("$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
        let message = array("$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
        let script = [
            (C, "GET x".to_owned()),
            (S, "$-1\r\n".to_owned()),
            (C, "SUBSCRIBE a b".to_owned()),
            (S, confirmed),
            (S, message.clone()),
            (C, "PING".to_owned()),
            (S, message + "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        ];
        check_subscription(confirm, &script);
    }
}

#[test]
fn a_loss_before_recognition_is_no_answer() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, b"PING\r\n");
    conversation.lose(S, 1);
    conversation.say(S, b"PONG\r\n");
    conversation.say(C, &command("SET a b"));
    conversation.say(S, b"+OK\r\n");
    let records = conversation.close();
    assert!(records.iter().all(|record| record["reasons"] != json!([])), "{:?}", briefs(&records));
    assert!(records.iter().all(|record| record["request"]["command"] != "PING" || record["response"].is_null()));
}

#[test]
fn a_mode_of_replies_that_may_have_changed_is_not_claimed() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, &command("CLIENT REPLY OFF"));
    conversation.lose(C, 36);
    conversation.say(C, &command("GET a"));
    assert_eq!(briefs(&conversation.close()), ["CLIENT REPLY OFF (no reply)", "GET a !gap"]);
}

#[test]
fn joined_in_the_middle() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    conversation.say(S, b"ail of a value\r\n");
    conversation.say(C, &command("GET a"));
    conversation.say(S, b"$1\r\na\r\n");
    let records = conversation.close();
    assert_eq!(briefs(&records), ["GET a -> bulk_string \"a\""]);
    assert!(records[0]["request"]["database"].is_null(), "what was selected before is unknown");
}

#[test]
fn joined_in_the_middle_of_a_long_reply() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    let long = format!("*20000\r\n{}", "$4\r\ntype\r\n".repeat(20000));
    let parts: Vec<_> = long.as_bytes().chunks(1000).collect();
    for part in &parts[parts.len() - 30..] {
        conversation.say(S, part);
    }
    conversation.say(C, &command("LRANGE l 0 -1"));
    for part in &parts {
        conversation.say(S, part);
    }
    conversation.say(C, &command("PING"));
    conversation.say(S, b"+PONG\r\n");
    let records = conversation.close();
    assert_eq!(records.len(), 2, "{:?}", briefs(&records));
    assert_eq!(records[0]["response"]["bytes"], long.len());
    assert_eq!(brief(&records[1]), "PING -> simple_string \"PONG\"");
}

#[test]
fn bytes_that_only_a_server_sends_do_not_stand_in_the_way_of_recognition() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    conversation.say(C, b"$5\r\nvalue\r\n");
    conversation.say(C, &command("GET b"));
    conversation.say(S, b"$1\r\nb\r\n");
    assert_eq!(briefs(&conversation.close()), ["GET b -> bulk_string \"b\""]);
}

#[test]
fn what_passed_before_the_protocol_was_recognised_is_parsed_in_its_order() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, true));
    conversation.say(S, b"$1\r\na\r\n");
    conversation.say(C, &command("GET b"));
    conversation.say(S, b"$1\r\nb\r\n");
    let expected = ["-> bulk_string \"a\" !unsolicited", "GET b -> bulk_string \"b\""];
    assert_eq!(briefs(&conversation.close()), expected);
}

#[test]
fn too_many_that_wait() {
    let mut context = context(Transport::Tcp, false);
    context.limits.pending = 2;
    let mut conversation = Conversation::new(&REGISTRATION, context);
    conversation.say(C, &["GET a", "GET b", "GET c"].map(command).concat());
    conversation.say(S, b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(
        briefs(&conversation.close()),
        [
            "GET a !no_response",
            "-> bulk_string \"a\" !unsolicited",
            "GET b -> bulk_string \"b\"",
            "GET c -> bulk_string \"c\"",
        ]
    );
}

#[test]
fn broken_framing_is_found_again() {
    let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
    conversation.say(C, &command("GET a"));
    conversation.say(S, b"$1\r\na\r\n");
    conversation.say(C, b"*1\r\n:5\r\n");
    conversation.say(C, &command("GET b"));
    assert_eq!(briefs(&conversation.take()), ["GET a -> bulk_string \"a\"", "GET b !parse_error"]);
}

#[test]
fn recognition() {
    use Inference::{Maybe, More, No, Sure};
    use Sender::{Client, Either, Server};
    let cases: &[(&[u8], Inference)] = &[
        (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", Sure(Client)),
        (b"*2\r\n$3\r\nget\r\n", Sure(Client)),
        (b"*2\r\n$8\r\nJSON.GET\r\n", Sure(Client)),
        (b"*2\r\n$2\r\nxy\r\n$1\r\nk\r\n", Maybe(Either)),
        (b"*2\r\n$2\r\n\xff\0\r\n$1\r\nk\r\n", Maybe(Server)),
        (b"*2\r\n$3\r\nGE", More),
        (b"*2\r\n$3", More),
        (b"*2\r\n", More),
        (b"*", More),
        (b"*x", No),
        (b"*2\r\nx", No),
        (b"*2\r\n$3\r\nGETx\r\n", No),
        (b"* OK IMAP4rev1 ready\r\n", No),
        (b"*0\r\n", Maybe(Server)),
        (b"*-1\r\n", Maybe(Server)),
        (b"*2\r\n:1\r\n:2\r\n", Maybe(Server)),
        (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", Maybe(Server)),
        (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", Maybe(Server)),
        (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb\r\n", Sure(Client)),
        (b"*2\r\n$9\r\nsubscribe\r\n$1\r\na\r\n", Sure(Client)),
        (b"+OK\r\n", Maybe(Server)),
        (b"+OK POP3 server ready\r\n", More),
        (b"+PO", More),
        (b"-ERR unknown command\r\n", More),
        (b"-WRONGTYPE Operation against a key\r\n", Maybe(Server)),
        (b"-\xff\r\n", No),
        (b":1\r\n", Maybe(Server)),
        (b":x\r\n", No),
        (b"$5\r\nhello\r\n", Maybe(Server)),
        (b"$5\r\nhel", Maybe(Server)),
        (b"$5\r\nhello!!", No),
        (b"$x\r\n", No),
        (b"%1\r\n+a\r\n:1\r\n", Maybe(Server)),
        (b"_\r\n", Maybe(Server)),
        (b"(-12\r\n", Maybe(Server)),
        (b"(OK\r\n", No),
        (b"PING\r\n", Maybe(Client)),
        (b"get k\r\n", Maybe(Client)),
        (b"GET / HTTP/1.1\r\n", No),
        (b"GET k", More),
        (b"HELO mail\r\n", No),
        (b"SSH-2.0-OpenSSH_9.2\r\n", No),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", No),
        (b"\x4a\0\0\0\x0a8.0.36\0", No),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", No),
        (b"HTTP/1.1 200 OK\r\n", No),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", No),
    ];
    for (head, expected) in cases {
        assert_eq!(infer::infer(head), *expected, "{:?}", head.escape_ascii().to_string());
    }
}

#[test]
fn the_schema_has_what_is_printed() {
    let mut generator = SchemaGenerator::default();
    let schemas =
        (REGISTRATION.schema)(&mut generator).map(|schema| json!(schema)["$ref"].as_str().unwrap().to_owned());
    let definitions = json!(generator.take_definitions(true));
    let record = talk(&[(C, "GET k"), (S, "$1\r\nv\r\n")]).remove(0);
    for (reference, part) in schemas.iter().zip(["request", "response"]) {
        let name = reference.rsplit('/').next().unwrap();
        assert!(name.starts_with("Redis"), "{name}");
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
    fn random_bytes_are_not_recognised_and_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        prop_assert!(!matches!(infer::infer(&bytes), Inference::Sure(_)));
        for side in [C, S] {
            let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
            conversation.say(C, &command("GET a"));
            conversation.say(side, &bytes);
            conversation.say(C, &command("GET b"));
            conversation.say(S, b"$1\r\na\r\n$1\r\nb\r\n");
            conversation.close();
        }
    }

    #[test]
    fn bytes_that_look_like_values_do_no_harm(
        pieces in proptest::collection::vec("[*$%~>|!=+:,#_(;.-](0|1|2|-1|[?]|7|t)\r\n|ab|\r\n", 1..60),
        cut in 1..50usize,
    ) {
        let bytes: Vec<u8> = pieces.concat().into_bytes();
        for side in [C, S] {
            let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
            conversation.say(C, &command("GET a"));
            for piece in bytes.chunks(cut) {
                conversation.say(side, piece);
            }
            conversation.lose(side, 3);
            conversation.say(side, &bytes);
            conversation.close();
        }
    }

    #[test]
    fn pairs_are_true_after_many_losses(
        losses in proptest::collection::vec((2..80usize, 0..40usize, 1..50usize, any::<bool>(), any::<bool>()), 1..8),
    ) {
        // Of each transfer at most one stretch is missing: lost or cut off, and noticed at once or with the next one.
        let mut conversation = Conversation::new(&REGISTRATION, context(Transport::Tcp, false));
        let mut records = Vec::new();
        for (index, (side, bytes)) in turns(40).into_iter().enumerate() {
            let Some((_, at, size, lost, late)) = losses.iter().find(|loss| loss.0 == index) else {
                conversation.say(side, &bytes);
                records.extend(conversation.take());
                continue;
            };
            let at = (*at).min(bytes.len() - 1);
            let end = (at + size).min(bytes.len());
            if *lost {
                conversation.say(side, &bytes[..at]);
                conversation.lose(side, (end - at) as u64);
            } else {
                conversation.say(side, &[]);
                conversation.say_part(side, &bytes[..at], end as u64);
            }
            conversation.say_part(side, &bytes[end..], (bytes.len() - end) as u64);
            if !late {
                records.extend(conversation.take());
            }
        }
        records.extend(conversation.close());
        let complete = check_pairs(&format!("{losses:?}"), &records);
        prop_assert!(complete + losses.len() * 4 >= 40, "{complete} complete with {losses:?}: {:#?}", briefs(&records));
    }

    #[test]
    fn a_model_conversation_pairs_as_it_was_made(
        kinds in proptest::collection::vec(0..6usize, 1..30),
        cuts in proptest::collection::vec(1..60usize, 20),
    ) {
        let (mut asked, mut answered, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (index, kind) in kinds.iter().enumerate() {
            let (reply, shown) = match kind {
                0 => (format!("$3\r\n{index:03}\r\n"), format!("bulk_string \"{index:03}\"")),
                1 => (format!(":{index}\r\n"), format!("integer {index}")),
                2 => (format!("-ERR {index}\r\n"), format!("error \"ERR {index}\"")),
                3 => (format!("*2\r\n*1\r\n:{index}\r\n$-1\r\n"), format!("array [[{index}],null]")),
                4 => (format!("%1\r\n+n\r\n:{index}\r\n"), format!("map [[\"n\",{index}]]")),
                _ => (format!(">1\r\n+x\r\n+{index}\r\n"), format!("simple_string \"{index}\" (1 pushed)")),
            };
            asked.extend(command(&format!("GET {index}")));
            answered.extend(reply.into_bytes());
            expected.push(format!("GET {index} -> {shown}"));
        }
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
        prop_assert_eq!(briefs(&conversation.close()), expected);
    }
}
