//! Records a second that each format prints, of an HTTP request the size of a usual one, redacted, to nowhere.
//!
//! `cargo bench -p tracer --bench print`

use std::collections::BTreeMap;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use protocols::{Exchange, Part, Payload, Reasons, Span, Summary, Text, Time, Transport};
use serde::Serialize;
use tracer::output::{Destination, Format, Json, Sink, Table, TableOptions};
use tracer::record::{Clock, ConnectionInfo, Endpoint, Origin, Process, Record, Redaction, Role, Tls, TupleSource};

/// Records printed in one sample.
const RECORDS: u64 = 10_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn json(bencher: Bencher<'_, '_>) {
    bench(bencher, Json::default);
}

#[divan::bench]
fn table(bencher: Bencher<'_, '_>) {
    bench(bencher, || Table::new(TableOptions { width: 160, colour: true, ..TableOptions::default() }));
}

fn bench<F: Format + 'static>(bencher: Bencher<'_, '_>, format: fn() -> F) {
    let connection = connection();
    let process = process();
    let bytes = length(format(), &process, &connection) * RECORDS;
    bencher
        .counter(ItemsCount::new(RECORDS))
        .counter(BytesCount::new(bytes))
        .with_inputs(|| (Sink::new(format(), Destination::new("nowhere", std::io::sink())), exchange()))
        .bench_local_refs(|(sink, exchange)| {
            for step in 0..RECORDS {
                // A request every 10 µs: the second changes as often as it would.
                let clock = Clock::with_offset(1_795_169_521_000_000_000 + step * 10_000);
                let origin = Origin { process: Some(&process), connection: &connection, clock: &clock };
                sink.record(&Record::new(exchange, origin, Redaction::On)).unwrap();
            }
            sink.finish().unwrap();
            assert_eq!(sink.counters().written, RECORDS);
        });
}

/// Bytes of one printed record, without a header.
fn length(mut format: impl Format, process: &Process, connection: &ConnectionInfo) -> u64 {
    let mut exchange = exchange();
    let origin = Origin { process: Some(process), connection, clock: &Clock::WALL };
    let record = Record::new(&mut exchange, origin, Redaction::On);
    let mut out = Vec::new();
    format.record(&record, &mut out).unwrap();
    out.clear();
    format.record(&record, &mut out).unwrap();
    out.len() as u64
}

#[derive(Debug, Serialize)]
struct Request {
    method: Text,
    target: Text,
    path: Text,
    version: &'static str,
    host: Text,
    headers: BTreeMap<String, Vec<Text>>,
    body_bytes: u64,
}

impl Payload for Request {
    fn redact(&mut self) {
        if let Some(values) = self.headers.get_mut("authorization") {
            values.iter_mut().for_each(|value| *value = Text::redacted());
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary { operation: Some(self.method.display()), target: Some(self.target.display()), ..Summary::default() }
    }
}

#[derive(Debug, Serialize)]
struct Response {
    status: u16,
    version: &'static str,
    headers: BTreeMap<String, Vec<Text>>,
    body_bytes: u64,
}

impl Payload for Response {
    fn summary(&self) -> Summary<'_> {
        Summary { status: Some(self.status.to_string().into()), failed: self.status >= 400, ..Summary::default() }
    }
}

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<Text>> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![Text::from(*value)])).collect()
}

fn exchange() -> Exchange {
    let request = Request {
        method: "GET".into(),
        target: "/api/v1/customers/42/orders?expand=lines&limit=50".into(),
        path: "/api/v1/customers/42/orders".into(),
        version: "1.1",
        host: "api.example.com".into(),
        headers: headers(&[
            ("accept", "application/json"),
            ("authorization", "Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ("user-agent", "curl/7.88.1"),
            ("x-request-id", "7f3c2b1a-0d9e-4f8a-b6c5-d4e3f2a1b0c9"),
        ]),
        body_bytes: 0,
    };
    let response = Response {
        status: 200,
        version: "1.1",
        headers: headers(&[
            ("content-length", "1024"),
            ("content-type", "application/json"),
            ("date", "Fri, 20 Nov 2026 10:12:01 GMT"),
            ("server", "nginx/1.22.1"),
        ]),
        body_bytes: 1024,
    };
    Exchange {
        protocol: "http",
        sequence: Some(3),
        request: Some(Part::new(278, Span::at(Time(0)), Span::at(Time(0)), request)),
        response: Some(Part::new(1243, Span::at(Time(398_000)), Span::at(Time(412_345)), response)),
        reasons: Reasons::NONE,
        missing_bytes: 0,
    }
}

fn process() -> Process {
    Process {
        pid: 1234,
        tid: Some(1240),
        comm: "nginx".into(),
        executable: Some("/usr/sbin/nginx".into()),
        namespace_pid: None,
        container_id: None,
    }
}

fn connection() -> ConnectionInfo {
    let end = |text: &str| text.parse().ok().map(Endpoint::Inet);
    ConnectionInfo {
        id: "1234-9f3c-17".to_owned(),
        transport: Transport::Tcp,
        role: Role::Server,
        local: end("127.0.0.1:8443"),
        remote: end("127.0.0.1:51522"),
        proxied: None,
        tls: Some(Tls { library: "openssl" }),
        tuple_source: TupleSource::Nested,
    }
}
