//! nginx as a server: every kind of exchange, with and without TLS, with one worker and two, with sendfile and without.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Audit, Call, Client, Nginx, NginxConfig, Request, Row, Scheme, Tracer};

const MEGABYTE: usize = 1 << 20;

macro_rules! cases {
    ($($name:ident: $scheme:ident, $workers:literal, $sendfile:literal;)*) => {
        $(#[test]
        fn $name() {
            let scheme = Scheme::$scheme;
            every_exchange(NginxConfig { workers: $workers, sendfile: $sendfile, ..NginxConfig::new(scheme) });
        })*
    };
}

cases! {
    plain_1_worker_sendfile: Http, 1, true;
    plain_1_worker_no_sendfile: Http, 1, false;
    plain_2_workers_sendfile: Http, 2, true;
    plain_2_workers_no_sendfile: Http, 2, false;
    tls_1_worker_sendfile: Https, 1, true;
    tls_1_worker_no_sendfile: Https, 1, false;
    tls_2_workers_sendfile: Https, 2, true;
    tls_2_workers_no_sendfile: Https, 2, false;
}

/// One record for each request, and every field of it as nginx and the client know it.
fn every_exchange(config: NginxConfig) {
    let one = config.scheme == Scheme::Https && config.workers == 1 && config.sendfile;
    let row = Row::openssl(one, "nginx");
    let nginx = Nginx::start(config);
    let tracer = Tracer::attach(&[nginx.pid()], &[]);
    let calls = converse(&nginx);
    let log = nginx.wait_for_log(calls.len());
    tracer.wait_for(calls.len());
    let outcome = tracer.stop();
    assert_eq!(log.len(), calls.len());
    Audit::new(&nginx).compare(&log, &calls, outcome.records(), &format!("{config:?}"));
    outcome.ledger().assert_nothing_lost();
    row.into_iter().for_each(|row| row.passed(outcome.records()));
}

fn converse(nginx: &Nginx) -> Vec<Call> {
    let conversations: [fn(&Nginx) -> Vec<Call>; 7] =
        [keep_alive, pipelined, chunked, transfers, old_version, closing, over_ipv6];
    conversations.iter().flat_map(|conversation| conversation(nginx)).collect()
}

/// Without a tracer: the access log and the client agree. If this fails, the tests are wrong, not the tracer.
#[test]
fn the_witnesses_agree() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let nginx = Nginx::start(NginxConfig { workers: 2, ..NginxConfig::new(scheme) });
        let calls = converse(&nginx);
        let log = nginx.wait_for_log(calls.len());
        assert_eq!(log.len(), calls.len());
        Audit::new(&nginx).joined_late().compare(&log, &calls, std::iter::empty(), &format!("{scheme}"));
    }
}

/// A client of something else: what it said is no request, and the refusal says so. What begins like TLS is counted
/// as ciphertext, and not looked at.
#[test]
fn nonsense_is_refused() {
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 506]].concat();
    for (said, reasons) in
        [(&b"SSH-2.0-OpenSSH_9.2\r\n"[..], json!(["unsolicited", "parse_error"])), (&hello, json!(["unsolicited"]))]
    {
        let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let mut client = TcpStream::connect(("127.0.0.1", nginx.port)).expect("nginx listens");
        client.write_all(said).expect("nginx reads");
        client.read_to_end(&mut Vec::new()).expect("nginx answers and closes");
        let [logged] = &nginx.wait_for_log(1)[..] else { panic!("one line") };
        tracer.wait_for(1);
        let outcome = tracer.stop();
        let [record] = &outcome.records().collect::<Vec<_>>()[..] else { panic!("one record") };
        assert_eq!(record["request"], Value::Null);
        assert_eq!(record["integrity"]["reasons"], reasons);
        assert_eq!(record["response"]["status"], logged["status"]);
        outcome.ledger().assert_nothing_lost();
    }
}

/// Exchanges of every shape, one after another on one connection.
fn keep_alive(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    let requests = [
        Request::get("/small.txt"),
        Request::get("/empty"),
        Request::new("HEAD", "/big.bin"),
        Request::get("/small.txt").header("If-None-Match: \"x\"").header("Range: bytes=3-7"),
        Request::get("/text.txt").header("If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"),
        Request::get("/small.txt").header("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
        Request::get("/missing"),
        Request::get("/status/204"),
        Request::get("/moved"),
        Request::new("DELETE", "/small.txt"),
        Request::new("OPTIONS", "/small.txt"),
        Request::put(0),
        Request::put(1),
        Request::put(10_000),
        Request::get("/small.txt").header(&format!("X-Long: {}", "abc ".repeat(1500))),
        Request::get(&format!("/{}", "segment/".repeat(200))),
        Request::get("/text.txt"),
    ];
    requests.into_iter().map(|request| client.call(request)).collect()
}

/// Many requests in one write, with and without bodies, small and large responses.
fn pipelined(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    let mut calls = client.pipeline((0..20).map(|_| Request::get("/small.txt")).collect());
    calls.extend(client.pipeline(vec![
        Request::put(100),
        Request::get("/missing"),
        Request::new("HEAD", "/small.txt"),
        Request::get("/text.txt"),
        Request::put(3000),
        Request::get("/small.txt").header("If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"),
        Request::get("/small.txt"),
    ]));
    calls
}

/// Chunked both ways.
fn chunked(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    let compressed = || Request::get("/text.txt").header("Accept-Encoding: gzip");
    vec![
        client.call(compressed()),
        client.call(Request::put_chunked(0)),
        client.call(Request::put_chunked(1)),
        client.call(compressed()),
        client.call(Request::put_chunked(300_000)),
        client.call(Request::get("/small.txt")),
    ]
}

/// A megabyte up and down, twice, then a small one: nothing may be shifted by it.
fn transfers(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    vec![
        client.call(Request::get("/big.bin")),
        client.call(Request::put(MEGABYTE)),
        client.call(Request::put(MEGABYTE)),
        client.call(Request::get("/big.bin")),
        client.call(Request::get("/small.txt")),
    ]
}

/// HTTP/1.0: the connection ends the response, also one whose length is not announced.
fn old_version(nginx: &Nginx) -> Vec<Call> {
    let requests = [
        Request::get("/small.txt").version_1_0(),
        Request::get("/big.bin").version_1_0(),
        Request::get("/text.txt").version_1_0().header("Accept-Encoding: gzip"),
    ];
    requests.into_iter().map(|request| Client::connect(nginx).call(request)).collect()
}

/// The client asks nginx to close.
fn closing(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    vec![client.call(Request::get("/small.txt")), client.call(Request::get("/text.txt").header("Connection: close"))]
}

fn over_ipv6(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect_to(nginx, "::1");
    vec![client.call(Request::get("/small.txt")), client.call(Request::put(5000))]
}

/// nginx writes a compressed response of 40 kB by one call. Where the capture limit cuts off a chunk's length, the
/// record says so and claims nothing that depends on it; with room for all of it, it is complete.
#[test]
fn chunks_beyond_the_capture_limit() {
    for scheme in [Scheme::Http, Scheme::Https] {
        for (limit, must_be_complete) in [("4K", false), ("256K", true)] {
            let nginx = Nginx::start(NginxConfig::new(scheme));
            let tracer = Tracer::attach(&[nginx.pid()], &["--max-capture", limit]);
            let long = Client::connect(&nginx).call(Request::get("/long.txt").header("Accept-Encoding: gzip"));
            let next = Client::connect(&nginx).call(Request::get("/small.txt"));
            tracer.wait_for(2);
            let records: Vec<_> = tracer.stop().records().collect();
            let context = format!("{scheme}, {limit}: {records:#?}");
            assert_eq!(records.len(), 2, "{context}");
            let [first, second] = ["long", "small"].map(|name| {
                let path = format!("/{name}.txt");
                records.iter().find(|record| record["request"]["path"] == path.as_str()).expect("a record")
            });
            assert_eq!(first["response"]["status"], 200, "{context}");
            if first["integrity"]["complete"] == true {
                assert_eq!(first["response"]["bytes"], long.response_bytes, "{context}");
            } else {
                assert!(!must_be_complete, "{context}");
                assert_eq!(first["integrity"]["reasons"], serde_json::json!(["truncated"]), "{context}");
            }
            assert_eq!(second["response"]["bytes"], next.response_bytes, "{context}");
            assert_eq!(second["integrity"]["complete"], true, "{context}");
        }
    }
}

/// Latency is what it was: a slow client, and a slow server.
#[test]
fn times_are_true() {
    const PAUSE: Duration = Duration::from_millis(300);
    for scheme in [Scheme::Http, Scheme::Https] {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let mut client = Client::connect(&nginx);
        let quick = client.call(Request::get("/small.txt"));
        let slow_request = client.call_slowly(&Request::put(1000), 3, PAUSE);
        let slow_response = client.call(Request::get("/slow/big.bin"));
        tracer.wait_for(3);
        let outcome = tracer.stop();
        let calls = [quick, slow_request, slow_response];
        Audit::new(&nginx).compare(&nginx.wait_for_log(3), &calls, outcome.records(), &format!("{scheme}"));

        let records: Vec<_> = outcome.records().collect();
        let time = |record: usize, name: &str| records[record]["timing"][name].as_u64().expect("a time");
        let pause = PAUSE.as_nanos() as u64;
        assert!(time(1, "request_end_ns") >= 2 * pause, "the request took two pauses: {}", records[1]);
        assert!(time(1, "response_start_ns") >= 2 * pause, "no response before the request: {}", records[1]);
        let sending = time(2, "response_end_ns") - time(2, "response_start_ns");
        assert!(sending >= 900_000_000, "1 MB at 512 kB/s takes a second at least: {}", records[2]);
        assert!(time(2, "response_start_ns") < pause, "the first bytes came at once: {}", records[2]);
    }
}

/// An interim response is no response of its own.
#[test]
fn expect_continue_is_one_exchange() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let mut client = Client::connect(&nginx);
        let request = Request::put(5000).header("Expect: 100-continue");
        // The body follows late, so that nginx asks for it.
        let call = client.call_slowly(&request, 40, Duration::from_millis(5));
        assert!(call.interim_bytes > 0, "nginx sent no interim response: {call:?}");
        let next = client.call(Request::get("/small.txt"));
        tracer.wait_for(2);
        let records: Vec<_> = tracer.stop().records().collect();
        let targets: Vec<_> =
            records.iter().map(|record| record["request"]["target"].as_str().expect("a target")).collect();
        assert_eq!(targets, [&call.target, &next.target]);
        let first = &records[0];
        assert_eq!(first["response"]["status"], call.status, "{first}");
        assert_eq!(first["request"]["bytes"], call.request_bytes, "{first}");
        assert_eq!(first["integrity"]["complete"], true, "{first}");
        assert_eq!(first["response"]["bytes"], call.response_bytes, "{first}");
    }
}

/// Headers are there; sensitive values are not, anywhere, unless asked for.
#[test]
fn sensitive_values_are_redacted() {
    for (options, shown) in [(&[][..], false), (&["--no-redact"][..], true)] {
        let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
        let tracer = Tracer::attach(&[nginx.pid()], options);
        let sensitive = ["Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key"];
        let request = sensitive.iter().fold(Request::get("/small.txt").header("X-Plain: visible"), |request, name| {
            request.header(&format!("{name}: geheim"))
        });
        Client::connect(&nginx).call(request);
        tracer.wait_for(1);
        let outcome = tracer.stop();
        let record = outcome.records().next().expect("a record");
        let headers = &record["request"]["headers"];
        assert_eq!(headers["x-plain"][0], "visible", "{record}");
        for name in sensitive {
            let expected = if shown { "geheim" } else { "[redacted]" };
            assert_eq!(headers[name.to_lowercase()][0], expected, "{name}: {record}");
        }
        let everywhere = outcome.stdout() + &outcome.stderr;
        assert_eq!(everywhere.contains("geheim"), shown, "{everywhere}");
    }
}
