//! HTTP/2: nginx as a traced server under curl and h2load, with TLS and with prior knowledge; curl as a traced client.
//! The witnesses are nginx's access log and what curl says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    Differences, Nginx, NginxConfig, Outcome, Peer, Place, Scheme, Tracer, Wire, run, virtual_machine,
};

const SCHEMES: [Scheme; 2] = [Scheme::Http, Scheme::Https];

/// Between the frames of a large read or write are the headers of other streams: all of it must be captured.
const LIMIT: &[&str] = &["--max-capture", "256K"];

fn start(scheme: Scheme, workers: usize) -> Nginx {
    Nginx::start(NginxConfig { http2: true, workers, ..NginxConfig::new(scheme) })
}

fn wire(nginx: &Nginx, role: &'static str) -> Wire {
    let tls = nginx.config.scheme == Scheme::Https;
    Wire { role, tls, ..Wire::of_server("http", nginx.port) }
}

/// What both the log and a record say of a request, to be counted: requests under way at once have no order.
type Exchange = (u64, String, String, u64, u64);

fn logged(entry: &Value) -> Exchange {
    let text = |name: &str| entry[name].as_str().unwrap_or("?").to_owned();
    let number = |name: &str| entry[name].as_u64().unwrap_or(u64::MAX);
    (number("remote_port"), text("method"), text("target"), number("status"), number("body_bytes_sent"))
}

fn recorded(record: &Value, client: &str) -> Exchange {
    let at = |pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
    let text = |pointer: &str| at(pointer).as_str().unwrap_or("?").to_owned();
    let number = |pointer: &str| at(pointer).as_u64().unwrap_or(u64::MAX);
    (
        number(&format!("/connection/{client}/port")),
        text("/request/method"),
        text("/request/target"),
        number("/response/status"),
        number("/response/body_bytes"),
    )
}

/// One record for each line of the log, and nothing else; streams and sequence are unique on each connection.
fn compare(nginx: &Nginx, log: &[Value], outcome: &Outcome, role: &'static str, context: &str) {
    let mut differences = Differences::default();
    let mut counts: BTreeMap<Exchange, i64> = BTreeMap::new();
    for entry in log {
        differences.field(entry, "/protocol", "HTTP/2.0");
        *counts.entry(logged(entry)).or_default() += 1;
    }
    let mut streams: BTreeMap<String, (BTreeSet<u64>, BTreeSet<u64>, usize)> = BTreeMap::new();
    let wire = wire(nginx, role);
    let client = if role == "server" { "remote" } else { "local" };
    for record in outcome.records() {
        wire.compare(&record, &mut differences);
        differences.members(
            &record,
            &json!({
                "request": {"version": "2", "scheme": nginx.config.scheme.to_string(),
                    "host": format!("localhost:{}", nginx.port)},
                "response": {"version": "2"},
                "integrity": {"complete": true},
            }),
        );
        *counts.entry(recorded(&record, client)).or_default() -= 1;
        let connection = record["connection"]["id"].as_str().unwrap_or_default().to_owned();
        let (ids, sequences, count) = streams.entry(connection).or_default();
        ids.extend(record["request"]["stream_id"].as_u64());
        sequences.extend(record["sequence"].as_u64());
        *count += 1;
    }
    for (exchange, difference) in counts.iter().filter(|(_, difference)| **difference != 0) {
        differences.add(|| format!("{difference} more in the log than records: {exchange:?}"));
    }
    for (id, (ids, sequences, count)) in streams {
        let in_order = sequences.iter().copied().eq(0..count as u64);
        differences.expect(ids.len() == count && in_order, || format!("{id}: {ids:?}, {sequences:?}"));
    }
    differences.assert_none(context);
    let ledger = outcome.ledger();
    ledger.assert_balanced();
    ledger.assert_nothing_lost();
}

/// Requests of every shape: curl's arguments and path.
const REQUESTS: [(&[&str], &str); 9] = [
    (&[], "/small.txt?id=1"),
    (&[], "/big.bin?id=2"),
    (&["--head"], "/big.bin?id=3"),
    (&[], "/missing?id=4"),
    (&["-T", "UPLOAD"], "/upload/file?id=5"),
    (&["--compressed"], "/text.txt?id=6"),
    (&["-H", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"], "/small.txt?id=7"),
    (&["-X", "OPTIONS"], "/small.txt?id=8"),
    (&[], "/empty?id=9"),
];

/// The shell's words for curl with all of the requests: one after another on one connection, or one connection each
/// without TLS, as curl 7.88 fails at the second request with prior knowledge.
fn curl(nginx: &Nginx, upload: &str) -> String {
    let together = nginx.config.scheme == Scheme::Https;
    let requests = REQUESTS.map(|(arguments, path)| {
        let mut words = common(nginx);
        words.extend(arguments.iter().map(|word| if *word == "UPLOAD" { upload.into() } else { (*word).into() }));
        words.push(nginx.url(path));
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    });
    format!("curl {}", requests.join(if together { " --next " } else { " && curl " }))
}

fn common(nginx: &Nginx) -> Vec<String> {
    let version = if nginx.config.scheme == Scheme::Https { "--http2" } else { "--http2-prior-knowledge" };
    ["-s", "-k", "--ipv4", "-o", "/dev/null", version].map(String::from).to_vec()
}

fn upload() -> tempfile::NamedTempFile {
    let upload = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(upload.path(), vec![b'u'; 300_000]).expect("cannot write a temporary file");
    upload
}

#[test]
fn every_exchange() {
    let upload = upload();
    let upload = upload.path().to_str().expect("UTF-8");
    for scheme in SCHEMES {
        let nginx = start(scheme, 1);
        let tracer = Tracer::attach(&[nginx.pid()], LIMIT);
        run(Command::new("sh").args(["-c", &curl(&nginx, upload)]));
        tracer.wait_for(REQUESTS.len());
        let log = nginx.wait_for_log(REQUESTS.len());
        let outcome = tracer.stop();
        compare(&nginx, &log, &outcome, "server", &format!("curl, {scheme}"));
        let uploads = outcome.records().find(|record| record["request"]["method"] == "PUT").expect("an upload");
        assert_eq!(uploads["request"]["body_bytes"], 300_000, "{uploads}");
    }
}

/// Many requests at once on one connection.
#[test]
fn streams_at_once() {
    for scheme in SCHEMES {
        let nginx = start(scheme, 1);
        let tracer = Tracer::attach(&[nginx.pid()], LIMIT);
        let mut command = Command::new("nghttp");
        command.args(["-n", "--no-dep"]);
        // Small responses pass large ones.
        for number in 0..40 {
            let path = ["/small.txt", "/big.bin", "/missing", "/text.txt"][number % 4];
            command.arg(nginx.url(&format!("{path}?id={number}")));
        }
        run(&mut command);
        tracer.wait_for(40);
        let log = nginx.wait_for_log(40);
        compare(&nginx, &log, &tracer.stop(), "server", &format!("nghttp, {scheme}"));
    }
}

/// As many streams and connections as h2load makes.
#[test]
fn h2load() {
    let count = if virtual_machine() { 200 } else { 6000 };
    for scheme in SCHEMES {
        let mut nginx = start(scheme, 2);
        let tracer = Tracer::attach(&[nginx.pid()], LIMIT);
        let urls: String = (0..500).map(|number| nginx.url(&format!("/small.txt?id={number}")) + "\n").collect();
        let file = tempfile::NamedTempFile::new().expect("no temporary file");
        std::fs::write(file.path(), urls).expect("cannot write a temporary file");
        let mut command = Command::new("h2load");
        command.args(["-n", &count.to_string(), "-c", "8", "-m", "50", "-t", "1", "-i"]).arg(file.path());
        let output = String::from_utf8(run(&mut command).stdout).expect("UTF-8");
        assert!(output.contains(&format!("{count} succeeded, 0 failed")), "{output}");
        nginx.stop();
        let outcome = tracer.wait();
        outcome.assert_success();
        let log = nginx.log();
        assert_eq!(log.len(), count);
        compare(&nginx, &log, &outcome, "server", &format!("h2load, {scheme}"));
    }
}

#[test]
fn curl_traced() {
    let upload = upload();
    let upload = upload.path().to_str().expect("UTF-8");
    for scheme in SCHEMES {
        let nginx = start(scheme, 1);
        let outcome = Tracer::launch(LIMIT, &["sh", "-c", &curl(&nginx, upload)]).wait();
        outcome.assert_success();
        let log = nginx.wait_for_log(REQUESTS.len());
        compare(&nginx, &log, &outcome, "client", &format!("curl traced, {scheme}"));
    }
}

/// A tracer that comes late doesn't know the headers that were sent before: it says so, and invents none.
#[test]
fn joined_in_the_middle() {
    const REQUESTS: usize = 12;
    let nginx = start(Scheme::Https, 1);
    let urls: String = (0..REQUESTS).map(|number| nginx.url(&format!("/small.txt?id={number}")) + "\n").collect();
    let file = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(file.path(), urls).expect("cannot write a temporary file");
    let mut command = Command::new("h2load");
    command.args(["-n", &REQUESTS.to_string(), "-c", "1", "-m", "1", "--rps", "2", "-i"]).arg(file.path());
    let mut client = command.stdout(Stdio::null()).spawn().expect("h2load runs");
    nginx.wait_for_log(1);
    let tracer = Tracer::attach(&[nginx.pid()], &[]);
    assert!(client.wait().expect("own child").success());
    let log = nginx.wait_for_log(REQUESTS);
    let outcome = tracer.stop();
    let targets: BTreeSet<&str> = log.iter().filter_map(|entry| entry["target"].as_str()).collect();
    let mut seen = 0;
    for record in outcome.records() {
        let request = &record["request"];
        let target = request["target"].as_str();
        assert!(target.is_none_or(|target| targets.contains(target)), "{record}");
        assert!(request["method"].is_null() || request["method"] == "GET", "{record}");
        let status = &record["response"]["status"];
        assert!(status.is_null() || *status == 200, "{record}");
        let unknown = target.is_none() || status.is_null();
        assert!(!unknown || record["integrity"]["complete"] == false, "{record}");
        seen += 1;
    }
    assert!(seen > 0 && seen < REQUESTS, "{}", outcome.stdout());
}

/// A request that its client gives up is reported although the connection goes on.
#[test]
fn a_cancelled_request_does_not_wait_for_the_end_of_the_connection() {
    let nginx = start(Scheme::Http, 1);
    let tracer = Tracer::attach(&[nginx.pid()], LIMIT);
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // GET http, a path and an authority that are in no table (RFC 7541, section 6.2.2).
    let literal = |index: u8, text: &str| [&[index, text.len() as u8][..], text.as_bytes()].concat();
    let head = [vec![0x82, 0x86], literal(4, "/slow/big.bin"), literal(1, "localhost")].concat();
    let mut client = Peer::connect(&Place::Port(nginx.port));
    client.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat());
    client.send(&frame(1, 5, 1, &head));
    let cancelled = std::time::Instant::now();
    client.send(&frame(3, 0, 1, &8_u32.to_be_bytes()));
    tracer.wait_for(1);
    assert!(cancelled.elapsed() < std::time::Duration::from_secs(10), "{:?}", cancelled.elapsed());
    let outcome = tracer.stop();
    let record = outcome.records().next().expect("a record");
    assert_eq!(record["request"]["target"], "/slow/big.bin", "{record}");
    assert_eq!(record["request"]["reset"]["error"], "CANCEL", "{record}");
    drop(client);
}
