//! `tracer record`, then `tracer replay`: the records are those that another tracer printed live at the same time.

use serde_json::{Value, json};

use crate::support::{Call, Client, Differences, Nginx, NginxConfig, Request, Scheme, Tracer};

/// How far two tracers may be apart that see the same call, one behind the other.
const APART_NS: u64 = 50_000_000;

#[test]
fn a_recording_replays_to_the_records_of_the_live_run() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let directory = tempfile::tempdir().expect("no temporary directory");
        let file = directory.path().join("recording.pcapng");
        let recorder = Tracer::record(nginx.pid(), &file);
        let live = Tracer::attach(&[nginx.pid()], &[]);
        let calls = converse(&nginx);
        nginx.wait_for_log(calls.len());
        live.wait_for(calls.len());
        let live = sorted(live.stop().records());
        recorder.stop();
        let replayed = sorted(Tracer::replay(&file).records());

        let mut differences = Differences::default();
        differences.expect(live.len() == calls.len(), || format!("{} live records", live.len()));
        differences.expect(replayed.len() == live.len(), || format!("{} replayed records", replayed.len()));
        for (live, replayed) in live.iter().zip(&replayed) {
            differences
                .expect(timeless(live) == timeless(replayed), || format!("\nlive     {live}\nreplayed {replayed}"));
            let latencies = [live, replayed].map(|record| record["latency_ns"].as_u64());
            let close = matches!(latencies, [Some(a), Some(b)] if a.abs_diff(b) < APART_NS);
            differences.expect(close, || format!("latencies {latencies:?}"));
        }
        differences.assert_none(&format!("a recording over {scheme}"));
    }
}

/// What is small, what is large, what is cut off by the capture limit, what is pipelined, and what closes.
fn converse(nginx: &Nginx) -> Vec<Call> {
    let mut client = Client::connect(nginx);
    let requests = [
        Request::get("/small.txt").header("Authorization: Basic eDp5"),
        Request::new("HEAD", "/big.bin"),
        Request::get("/missing"),
        Request::put_chunked(100_000),
        Request::get("/big.bin"),
        Request::get("/text.txt").header("Accept-Encoding: gzip"),
    ];
    let mut calls: Vec<Call> = requests.into_iter().map(|request| client.call(request)).collect();
    calls.extend(client.pipeline((0..10).map(|_| Request::get("/small.txt")).collect()));
    calls.push(Client::connect(nginx).call(Request::get("/text.txt").version_1_0()));
    calls
}

/// In the order of connections and of requests on each.
fn sorted(records: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut records: Vec<Value> = records.collect();
    records.sort_by_key(|record| (record["connection"]["remote"]["port"].as_u64(), record["sequence"].as_u64()));
    records
}

/// Without what two tracers cannot have in common: times of their own, and ids that each made up; and without the
/// thread, which a recording does not hold.
fn timeless(record: &Value) -> Value {
    let mut record = record.clone();
    for field in ["timestamp", "latency_ns", "timing"] {
        record[field] = json!(null);
    }
    record["connection"]["id"] = json!(null);
    record["process"]["tid"] = json!(null);
    record
}
