//! Golden lines: each was written by hand after the record contract, and is checked against the schema as well.

use std::sync::LazyLock;

use jsonschema::Validator;
use protocols::{Exchange, Part, Payload, Proxied, Reason, Reasons, Span, Summary, Text, Time, Transport};
use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::output::schema::schema;
use crate::output::testing::{
    CLOCK, Request, START, connection, exchange, get, inet, origin, process, request, response,
};
use crate::record::{ConnectionInfo, Endpoint, Origin, Process, Redaction, Role, Tls, TupleSource};

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

/// Prints the exchange as one of a protocol that does not exist: the schemas of those that do are not the point here.
fn print(mut exchange: Exchange, origin: Origin<'_>, redaction: Redaction) -> String {
    exchange.protocol = "echo";
    let mut out = Vec::new();
    Json::default().record(&Record::new(&mut exchange, origin, redaction), &mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    let value: Value = serde_json::from_str(&line).unwrap();
    if let Err(error) = SCHEMA.validate(&value) {
        panic!("{error} at {} in {line}", error.instance_path());
    }
    line
}

fn line(exchange: Exchange, process: &Process, connection: &ConnectionInfo) -> String {
    print(exchange, origin(process, connection), Redaction::On)
}

/// The line of an exchange on the usual connection.
fn usual(exchange: Exchange) -> String {
    line(exchange, &process(), &connection())
}

/// The line with these parts changed.
fn with(base: &str, changes: &[(&str, &str)]) -> String {
    let mut text = base.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text = text.replace(from, to);
    }
    text
}

const COMPLETE: &str = concat!(
    r#"{"schema":1,"kind":"l7","timestamp":"2026-11-20T10:12:01.000000000Z","protocol":"echo","#,
    r#""process":{"pid":1234,"tid":1240,"comm":"nginx","executable":"/usr/sbin/nginx"},"#,
    r#""connection":{"id":"1234-9f3c-17","transport":"tcp","role":"server","#,
    r#""local":{"address":"127.0.0.1","port":8443},"remote":{"address":"127.0.0.1","port":51522},"#,
    r#""tuple_source":"socket"},"#,
    r#""sequence":3,"latency_ns":412345,"#,
    r#""timing":{"request_start_ns":0,"request_end_ns":10000,"response_start_ns":411345,"response_end_ns":412345},"#,
    r#""request":{"bytes":78,"method":"GET","target":"/a?b=1"},"#,
    r#""response":{"bytes":1243,"status":"200"},"#,
    r#""integrity":{"complete":true}}"#,
    "\n"
);

#[test]
fn a_complete_exchange() {
    assert_eq!(usual(get()), COMPLETE);
}

#[test]
fn each_reason_is_named() {
    for reason in Reason::ALL {
        let mut exchange = get();
        exchange.reasons = reason.into();
        let integrity = match reason {
            Reason::Gap => r#"{"complete":false,"reasons":["gap"],"missing_bytes":0}"#.to_owned(),
            other => format!(r#"{{"complete":false,"reasons":["{}"]}}"#, other.name()),
        };
        assert_eq!(usual(exchange), with(COMPLETE, &[(r#"{"complete":true}"#, &integrity)]));
    }
}

#[test]
fn a_gap_says_how_many_bytes_are_missing_and_leaves_figures_out_that_need_them() {
    let mut exchange = get();
    exchange.reasons = Reason::Gap.into();
    exchange.reasons.add(Reason::Truncated);
    exchange.missing_bytes = 100;
    if let Some(response) = &mut exchange.response {
        (response.bytes, response.end) = (None, None);
    }
    let changes = [
        (r#""latency_ns":412345"#, r#""latency_ns":null"#),
        (r#""response_end_ns":412345"#, r#""response_end_ns":null"#),
        (r#""bytes":1243"#, r#""bytes":null"#),
        (r#"{"complete":true}"#, r#"{"complete":false,"reasons":["gap","truncated"],"missing_bytes":100}"#),
    ];
    assert_eq!(usual(exchange), with(COMPLETE, &changes));
}

#[test]
fn a_request_without_a_response() {
    let exchange = Exchange { response: None, reasons: Reason::NoResponse.into(), ..get() };
    let changes = [
        (r#""latency_ns":412345"#, r#""latency_ns":null"#),
        (
            r#""response_start_ns":411345,"response_end_ns":412345"#,
            r#""response_start_ns":null,"response_end_ns":null"#,
        ),
        (r#""response":{"bytes":1243,"status":"200"}"#, r#""response":null"#),
        (r#"{"complete":true}"#, r#"{"complete":false,"reasons":["no_response"]}"#),
    ];
    assert_eq!(usual(exchange), with(COMPLETE, &changes));
}

#[test]
fn an_unsolicited_response_is_dated_by_its_own_first_byte() {
    let exchange = Exchange { request: None, sequence: None, reasons: Reason::Unsolicited.into(), ..get() };
    let changes = [
        ("10:12:01.000000000Z", "10:12:01.000411345Z"),
        (r#""sequence":3,"latency_ns":412345"#, r#""sequence":null,"latency_ns":null"#),
        (r#""request_start_ns":0,"request_end_ns":10000"#, r#""request_start_ns":null,"request_end_ns":null"#),
        (r#""response_start_ns":411345,"response_end_ns":412345"#, r#""response_start_ns":0,"response_end_ns":1000"#),
        (r#""request":{"bytes":78,"method":"GET","target":"/a?b=1"}"#, r#""request":null"#),
        (r#"{"complete":true}"#, r#"{"complete":false,"reasons":["unsolicited"]}"#),
    ];
    assert_eq!(usual(exchange), with(COMPLETE, &changes));
}

#[test]
fn a_request_seen_from_its_middle_has_no_start_and_no_latency() {
    let mut exchange = Exchange { reasons: Reason::Midstream.into(), ..get() };
    if let Some(request) = &mut exchange.request {
        (request.start, request.bytes) = (None, None);
    }
    let changes = [
        ("10:12:01.000000000Z", "10:12:01.000010000Z"),
        (r#""latency_ns":412345"#, r#""latency_ns":null"#),
        (r#""request_start_ns":0,"request_end_ns":10000"#, r#""request_start_ns":null,"request_end_ns":0"#),
        (
            r#""response_start_ns":411345,"response_end_ns":412345"#,
            r#""response_start_ns":401345,"response_end_ns":402345"#,
        ),
        (r#""bytes":78"#, r#""bytes":null"#),
        (r#"{"complete":true}"#, r#"{"complete":false,"reasons":["midstream"]}"#),
    ];
    assert_eq!(usual(exchange), with(COMPLETE, &changes));
}

#[test]
fn where_no_moment_is_known_none_is_invented() {
    let mut exchange = Exchange { reasons: Reason::Midstream.into(), ..get() };
    for part in [&mut exchange.request, &mut exchange.response].into_iter().flatten() {
        (part.start, part.end) = (None, None);
    }
    let value: Value = serde_json::from_str(&usual(exchange)).unwrap();
    assert_eq!(value["timestamp"], Value::Null);
    assert!(value["timing"].as_object().unwrap().values().all(Value::is_null), "{value}");
}

#[test]
fn a_response_dated_before_its_request_has_no_figures_that_need_its_date() {
    let mut exchange = get();
    let early = Span::at(Time(START - 1));
    exchange.response = Some(Part { start: Some(early.start), end: Some(early.end), ..response("200", 2_000) });
    let value: Value = serde_json::from_str(&usual(exchange)).unwrap();
    assert_eq!(value["latency_ns"], Value::Null);
    assert_eq!(value["timing"]["response_start_ns"], Value::Null);
    assert_eq!(value["timing"]["request_end_ns"], 10_000);
}

#[test]
fn tls_names_its_library() {
    let connection =
        ConnectionInfo { tls: Some(Tls { library: "openssl" }), tuple_source: TupleSource::Nested, ..connection() };
    let changes = [(r#""tuple_source":"socket""#, r#""tls":{"library":"openssl"},"tuple_source":"nested""#)];
    assert_eq!(line(get(), &process(), &connection), with(COMPLETE, &changes));
}

#[test]
fn a_load_balancer_names_its_client() {
    let proxied = |source: &str, destination: &str| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Some(Proxied::Inet { source, destination })
    };
    let connection = ConnectionInfo { proxied: proxied("192.0.2.1:56324", "[2001:db8::1]:443"), ..connection() };
    let printed = concat!(
        r#""proxied":{"source":{"address":"192.0.2.1","port":56324},"#,
        r#""destination":{"address":"2001:db8::1","port":443}},"tuple_source""#
    );
    assert_eq!(line(get(), &process(), &connection), with(COMPLETE, &[(r#""tuple_source""#, printed)]));
}

#[test]
fn addresses_that_nothing_vouches_for_are_not_printed() {
    let connection = ConnectionInfo { tuple_source: TupleSource::None, ..connection() };
    let ends = concat!(
        r#""local":{"address":"127.0.0.1","port":8443},"#,
        r#""remote":{"address":"127.0.0.1","port":51522},"tuple_source":"socket""#
    );
    let changes = [(ends, r#""tuple_source":"none""#)];
    assert_eq!(line(get(), &process(), &connection), with(COMPLETE, &changes));
}

#[test]
fn ipv6_and_ipv4_in_ipv6() {
    let connection = ConnectionInfo {
        local: inet("[2001:db8::1]:443"),
        remote: inet("[::ffff:192.0.2.7]:40000"),
        role: Role::Client,
        ..connection()
    };
    let changes = [
        (r#""role":"server""#, r#""role":"client""#),
        (r#"{"address":"127.0.0.1","port":8443}"#, r#"{"address":"2001:db8::1","port":443}"#),
        (r#"{"address":"127.0.0.1","port":51522}"#, r#"{"address":"192.0.2.7","port":40000}"#),
    ];
    assert_eq!(line(get(), &process(), &connection), with(COMPLETE, &changes));
}

#[test]
fn unix_sockets_have_paths() {
    for (path, printed) in [
        (Text::from("/run/app.sock"), r#"{"path":"/run/app.sock"}"#),
        (Text::from("\0bus"), r#"{"path":"@bus"}"#),
        (Text::from(""), r#"{"path":""}"#),
        (Text::new(vec![0xff]), r#"{"path":{"base64":"/w=="}}"#),
    ] {
        let connection = ConnectionInfo {
            transport: Transport::Unix,
            local: Some(Endpoint::Unix(path)),
            remote: None,
            ..connection()
        };
        let changes = [
            (r#""transport":"tcp""#, r#""transport":"unix""#),
            (r#"{"address":"127.0.0.1","port":8443}"#, printed),
            (r#""remote":{"address":"127.0.0.1","port":51522},"#, ""),
        ];
        assert_eq!(line(get(), &process(), &connection), with(COMPLETE, &changes));
    }
}

#[test]
fn a_captured_file_knows_no_process() {
    let connection = ConnectionInfo { tuple_source: TupleSource::Packet, ..connection() };
    let printed = print(get(), Origin { process: None, connection: &connection, clock: &CLOCK }, Redaction::On);
    let process = r#""process":{"pid":1234,"tid":1240,"comm":"nginx","executable":"/usr/sbin/nginx"},"#;
    assert_eq!(printed, with(COMPLETE, &[(process, ""), (r#"e":"socket""#, r#"e":"packet""#)]));
}

#[test]
fn what_is_not_known_of_a_process_is_absent_and_what_is_known_is_printed() {
    let process = Process {
        tid: None,
        executable: None,
        comm: Text::new(vec![b'a', 0xff]),
        namespace_pid: Some(7),
        container_id: Some("0123abcd".to_owned()),
        ..process()
    };
    let printed = r#"{"pid":1234,"comm":{"base64":"Yf8="},"namespace_pid":7,"container_id":"0123abcd"}"#;
    let usual = r#"{"pid":1234,"tid":1240,"comm":"nginx","executable":"/usr/sbin/nginx"}"#;
    assert_eq!(line(get(), &process, &connection()), with(COMPLETE, &[(usual, printed)]));
}

#[test]
fn bytes_that_are_not_utf8_are_kept() {
    let exchange = exchange(request("GET", Text::new(vec![b'/', 0xfe])), response("200", 412_345));
    assert_eq!(usual(exchange), with(COMPLETE, &[(r#""/a?b=1""#, r#"{"base64":"L/4="}"#)]));
}

#[test]
fn line_ends_and_controls_in_values_stay_inside_the_line() {
    let printed = usual(exchange(request("GET", "/\n\r\u{1b}\u{0}\u{7f}\""), response("200", 412_345)));
    assert_eq!(printed.matches('\n').count(), 1);
    assert!(printed.contains(r#""/\n\r\u001b\u0000"#), "{printed}");
    assert!(printed.ends_with('\n'));
}

#[test]
fn sensitive_values_are_shown_only_when_asked_for() {
    let secret = || {
        let payload = Request { method: "GET", target: "/".into(), authorization: Some("Basic c2VjcmV0".into()) };
        let span = Span::at(Time(START));
        exchange(Part::new(1, span, span, payload), response("200", 2_000))
    };
    let (process, connection) = (process(), connection());
    let hidden = print(secret(), origin(&process, &connection), Redaction::On);
    assert!(hidden.contains(r#""authorization":"[redacted]""#) && !hidden.contains("c2VjcmV0"), "{hidden}");
    let shown = print(secret(), origin(&process, &connection), Redaction::Off);
    assert!(shown.contains("Basic c2VjcmV0"), "{shown}");
    assert_eq!(Redaction::default(), Redaction::On);
}

#[test]
fn a_payload_that_cannot_be_printed_is_an_error() {
    #[derive(Debug, Serialize)]
    struct Bare(u32);
    impl Payload for Bare {
        fn summary(&self) -> Summary<'_> {
            Summary::default()
        }
    }
    let span = Span::at(Time(START));
    let mut exchange = exchange(Part::new(1, span, span, Bare(1)), response("200", 2_000));
    let (process, connection) = (process(), connection());
    let record = Record::new(&mut exchange, origin(&process, &connection), Redaction::On);
    assert!(Json::default().record(&record, &mut Vec::new()).is_err());
}

#[test]
fn the_ledger_is_a_line_of_its_own_kind() {
    let mut ledger = Ledger::default();
    ledger.hook_hits.insert("ssl_read", 120);
    ledger.events.emitted = 3;
    ledger.events.decoded = 2;
    ledger.events.lost.insert("ring_full", 1);
    ledger.records.count(&Exchange { reasons: Reasons::NONE, ..get() });
    let mut out = Vec::new();
    Json::default().ledger(&ledger, CLOCK.wall(Time(START)), &mut out).unwrap();
    let printed = String::from_utf8(out).unwrap();
    let expected = concat!(
        r#"{"schema":1,"kind":"stats","timestamp":"2026-11-20T10:12:01.000000000Z","hook_hits":{"ssl_read":120},"#,
        r#""events":{"emitted":3,"decoded":2,"rejected":0,"lost":{"ring_full":1},"unread":0},"read_faults":0,"#,
        r#""bytes":{"seen":0,"captured":0,"delivered":0,"truncated":0,"lost":{},"ignored":{}},"#,
        r#""records":{"by_protocol":{"http":1},"incomplete":0,"by_reason":{},"filtered":0,"sinks":{}},"#,
        r#""resyncs":0,"violations":0,"connections":{"opened":0,"closed":0,"evicted":0,"open":0,"shed":0},"#,
        r#""tuple_disagreements":0,"abandoned_calls":0,"skipped_runs":0,"unverified_records":0,"failed_updates":0}"#,
        "\n"
    );
    assert_eq!(printed, expected);
    SCHEMA.validate(&serde_json::from_str(&printed).unwrap()).unwrap();
    ledger.events.emitted = 4;
    let mut out = Vec::new();
    Json::default().ledger(&ledger, CLOCK.wall(Time(START)), &mut out).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["imbalances"][0]["left"], 4, "{value}");
    SCHEMA.validate(&value).unwrap();
}

#[test]
fn the_schema_finds_lines_that_break_the_contract() {
    let good: Value = serde_json::from_str(COMPLETE).unwrap();
    SCHEMA.validate(&good).unwrap();
    let broken: [fn(&mut Value); 7] = [
        |line| line["schema"] = 2.into(),
        |line| line["latency_ns"] = (-1).into(),
        |line| drop(line.as_object_mut().unwrap().remove("integrity")),
        |line| line["integrity"]["reasons"] = serde_json::json!(["lost"]),
        |line| line["connection"]["role"] = "sender".into(),
        |line| line["request"]["bytes"] = "78".into(),
        |line| line["connection"]["local"] = serde_json::json!({ "port": 1 }),
    ];
    for (index, change) in broken.iter().enumerate() {
        let mut line = good.clone();
        change(&mut line);
        assert!(!SCHEMA.is_valid(&line), "{index}: {line}");
    }
    let mut open = good;
    open["added"] = 1.into();
    assert!(SCHEMA.is_valid(&open));
}
