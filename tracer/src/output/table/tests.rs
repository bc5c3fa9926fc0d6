//! Snapshots at two widths, and what the wire must not be able to do to a terminal.

use protocols::{Exchange, Part, Text};

use super::*;
use crate::output::testing::{connection, exchange, get, inet, origin, process, request, response};
use crate::record::{ConnectionInfo, Process, Redaction, TupleSource};

fn rows(options: TableOptions, mut rows: Vec<(Exchange, Process, ConnectionInfo)>) -> String {
    let mut table = Table::new(options);
    let mut out = Vec::new();
    for (exchange, process, connection) in &mut rows {
        let record = Record::new(exchange, origin(process, connection), Redaction::On);
        table.record(&record, &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn at(width: usize, exchanges: Vec<(Exchange, Process, ConnectionInfo)>) -> String {
    rows(TableOptions { width, ..TableOptions::default() }, exchanges)
}

fn usual(exchange: Exchange) -> (Exchange, Process, ConnectionInfo) {
    (exchange, process(), connection())
}

fn named(comm: &str, pid: u32) -> Process {
    Process { pid, comm: comm.into(), ..process() }
}

/// A day at the gateway: each protocol, every mark, both ends of what a cell may hold.
fn mixed() -> Vec<(Exchange, Process, ConnectionInfo)> {
    let client = |remote: &str| ConnectionInfo { role: Role::Client, remote: inet(remote), ..connection() };
    let unix =
        |path: &str| ConnectionInfo { role: Role::Unknown, remote: Some(Endpoint::Unix(path.into())), ..connection() };
    let of = |protocol, exchange| Exchange { protocol, ..exchange };
    let gap = |exchange| {
        let mut exchange = Exchange { reasons: Reason::Gap.into(), missing_bytes: 9, ..exchange };
        exchange.reasons.add(Reason::Truncated);
        exchange
    };
    let unsolicited = Exchange { request: None, sequence: None, reasons: Reason::Unsolicited.into(), ..get() };
    let redis = exchange(request("HGETALL", "session:日本語"), response("map", 812_000_000));
    let sql = exchange(request("SELECT", "SELECT * FROM orders WHERE id = ?"), response("42P01", 9_870_000));
    vec![
        usual(get()),
        (
            exchange(request("POST", "/api/v1/customers/42/orders?expand=lines"), response("503", 1_200_000)),
            named("nginx", 1234567),
            client("[2001:db8:85a3::8a2e:370:7334]:443"),
        ),
        (of("redis", redis), named("averylongcomm15", 99), client("10.0.0.7:6379")),
        (of("pgsql", sql), named("app", 7), unix("/run/postgresql/.s.PGSQL.5432")),
        (
            of("dns", exchange(request("AAAA", "nowhere.example.com"), response("NXDOMAIN", 65_000_000_000))),
            named("app", 7),
            client("192.0.2.53:53"),
        ),
        (
            Exchange {
                response: None,
                reasons: Reason::NoResponse.into(),
                ..exchange(request("OPTIONS", "/slow"), response("", 1_000))
            },
            named("app", 7),
            unix(""),
        ),
        (
            gap(exchange(request("PROPFIND", "/files/a/long/way/down/here.txt"), response("207", 412_345))),
            process(),
            ConnectionInfo { tuple_source: TupleSource::None, ..connection() },
        ),
        usual(unsolicited),
    ]
}

#[test]
fn at_80_columns() {
    let expected = "\
\x20 TIME (UTC)   PROCESS     PROTO  METHOD  TARGET                STATUS   LATENCY
\x20 10:12:01.000 nginx/1234  <http  GET     /a?b=1                200        412µs
! 10:12:01.000 ng…/1234567 >http  POST    /api/v1/cu…pand=lines 503       1.20ms
* 10:12:01.000 averylo…/99 >redis HGETALL session:日本語        map        812ms
! 10:12:01.000 app/7       ?pgsql SELECT  SELECT * F…ERE id = ? 42P01     9.87ms
! 10:12:01.000 app/7       >dns   AAAA    nowhere.example.com   NXDOMAIN   1m05s
\x20~10:12:01.000 app/7       ?http  OPTIONS /slow ~no_response    -              -
\x20~10:12:01.000 nginx/1234  <http  PROPFI… /fil…txt ~gap,trunca… 207        412µs
\x20~10:12:01.000 nginx/1234  <http  -       - ~unsolicited        200            -
";
    assert_eq!(at(80, mixed()), expected);
}

#[test]
fn at_160_columns() {
    let expected = "\
\x20 TIME (UTC)   PROCESS                 PROTO  METHOD     TARGET                                  STATUS       LATENCY    REQ   RESP PEER
\x20 10:12:01.000 nginx/1234              <http  GET        /a?b=1                                  200            412µs    78B 1.24kB 127.0.0.1:51522
! 10:12:01.000 nginx/1234567           >http  POST       /api/v1/customers/4…orders?expand=lines 503           1.20ms    78B 1.24kB [2001:db8:85a3…370:7334]:443
* 10:12:01.000 averylongcomm15/99      >redis HGETALL    session:日本語                          map            812ms    78B 1.24kB 10.0.0.7:6379
! 10:12:01.000 app/7                   ?pgsql SELECT     SELECT * FROM orders WHERE id = ?       42P01         9.87ms    78B 1.24kB unix:/run/post….s.PGSQL.5432
! 10:12:01.000 app/7                   >dns   AAAA       nowhere.example.com                     NXDOMAIN       1m05s    78B 1.24kB 192.0.2.53:53
\x20~10:12:01.000 app/7                   ?http  OPTIONS    /slow ~no_response                      -                  -    78B      - unix
\x20~10:12:01.000 nginx/1234              <http  PROPFIND   /files/a/lon…wn/here.txt ~gap,truncated 207            412µs    78B 1.24kB -
\x20~10:12:01.000 nginx/1234              <http  -          - ~unsolicited                          200                -      - 1.24kB 127.0.0.1:51522
";
    assert_eq!(at(160, mixed()), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 72..260 {
        for line in at(width, mixed()).lines() {
            assert!(cell::width(line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn columns_stay_aligned_whatever_stands_before_them() {
    let text = at(160, mixed());
    let column = |line: &str, before: &str| cell::width(line.split(before).next().unwrap());
    let header = text.lines().next().unwrap();
    let latency_end = column(header, "LATENCY") + "LATENCY".len();
    for (line, latency) in text.lines().skip(1).zip(["412µs", "1.20ms", "812ms", "9.87ms", "1m05s"]) {
        assert_eq!(column(line, latency) + cell::width(latency), latency_end, "{line}");
    }
}

#[test]
fn what_stands_out_is_marked_and_coloured_and_reset() {
    let coloured = TableOptions { colour: true, ..TableOptions::default() };
    let text = rows(coloured, mixed());
    let starts = [BOLD, "", BOLD_RED, YELLOW, BOLD_RED, BOLD_RED, DIM, DIM, DIM];
    for (line, start) in text.lines().zip(starts) {
        assert!(line.starts_with(start), "{line:?}");
        assert_eq!(line.matches('\x1b').count(), if start.is_empty() { 0 } else { 2 }, "{line:?}");
        assert_eq!(line.ends_with(RESET), !start.is_empty(), "{line:?}");
    }
    let plain = at(80, mixed());
    assert!(!plain.contains('\x1b'));
    let marks: Vec<&str> = plain.lines().skip(1).map(|line| line.get(..2).unwrap()).collect();
    assert_eq!(marks, ["  ", "! ", "* ", "! ", "! ", " ~", " ~", " ~"]);
}

#[test]
fn the_slow_threshold_is_the_callers() {
    let options = TableOptions { slow: Duration::from_nanos(412_345), ..TableOptions::default() };
    assert!(rows(options, vec![usual(get())]).lines().nth(1).unwrap().starts_with("* "));
    let options = TableOptions { slow: Duration::from_nanos(412_346), ..TableOptions::default() };
    assert!(rows(options, vec![usual(get())]).lines().nth(1).unwrap().starts_with("  "));
}

#[test]
fn the_header_comes_again_every_screen() {
    let count = |header_every| {
        let options = TableOptions { header_every, ..TableOptions::default() };
        let text = rows(options, (0..25).map(|_| usual(get())).collect());
        let header = |line: &&str| line.contains("LATENCY");
        assert_eq!(text.lines().filter(|line| !header(line)).count(), 25);
        text.lines().filter(header).count()
    };
    assert_eq!(count(None), 1);
    assert_eq!(count(Some(10)), 3);
    assert_eq!(count(Some(0)), 25);
}

#[test]
fn a_resized_terminal_gets_a_new_header_and_its_columns() {
    let (process, connection) = (process(), connection());
    let mut table = Table::new(TableOptions::default());
    let mut out = Vec::new();
    for width in [80, 160] {
        table.resize(width);
        let mut exchange = get();
        let record = Record::new(&mut exchange, origin(&process, &connection), Redaction::On);
        table.record(&record, &mut out).unwrap();
    }
    let expected = at(80, vec![usual(get())]) + &at(160, vec![usual(get())]);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

/// Everything that the wire or another process chooses, in every cell that shows it.
#[test]
fn nothing_from_the_wire_reaches_the_terminal_unescaped() {
    let hostile = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\r\n\u{202e}evil\u{2066}\0\x08\u{7f}\u{200b}";
    let leaked: &'static str = hostile;
    for width in [80, 120, 160, 240] {
        let process = named(hostile, 1);
        let connection = ConnectionInfo { remote: Some(Endpoint::Unix(hostile.into())), ..connection() };
        let exchange = exchange(request(leaked, hostile), response(leaked, 412_345));
        let text = at(width, vec![(exchange, process, connection)]);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        let bad = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(*c);
        assert_eq!(text.chars().find(bad), None, "{text:?}");
        assert!(text.lines().all(|line| cell::width(line) <= width), "{text}");
    }
}

#[test]
fn a_huge_target_costs_one_line() {
    let target = Text::new(vec![b'x'; 1_000_000]);
    let text = at(80, vec![usual(exchange(request("GET", target), response("200", 412_345)))]);
    assert!(text.lines().nth(1).unwrap().contains("xxx…xxx"), "{}", text.len());
    assert!(text.len() < 200);
}

#[test]
fn unknown_moments_and_sizes_are_dashes() {
    let part = |part: Part| Part { bytes: None, start: None, end: None, ..part };
    let exchange = Exchange {
        reasons: Reason::Midstream.into(),
        ..exchange(part(request("GET", "/")), part(response("200", 412_345)))
    };
    let text = at(160, vec![usual(exchange)]);
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["~-", "nginx/1234", "<http", "GET", "/", "~midstream", "200", "-", "-", "-", "127.0.0.1:51522"]);
}
