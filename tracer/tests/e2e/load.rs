//! Full load: as many records as requests, all of them right, or the ledger says exactly what is missing.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::{Audit, Nginx, NginxConfig, Scheme, Tracer, run, virtual_machine};

/// Gives each request an id of its own.
const SCRIPT: &str = r#"
local thread, count = 0, 0
function setup(t) t:set("name", thread); thread = thread + 1 end
function request() count = count + 1; return wrk.format("GET", "/small.txt?id=" .. name .. "-" .. count) end
"#;

#[test]
fn plain_at_full_load() {
    full_load(NginxConfig::new(Scheme::Http));
}

#[test]
fn tls_at_full_load() {
    full_load(NginxConfig::new(Scheme::Https));
}

#[test]
fn tls_at_full_load_with_2_workers() {
    full_load(NginxConfig { workers: 2, ..NginxConfig::new(Scheme::Https) });
}

/// A ring buffer that is far too small: events are lost, and counted, and no record claims more than was seen.
#[test]
fn losses_are_accounted_for() {
    load(NginxConfig::new(Scheme::Http), &["--ring-size", "64K", "--no-shed"]);
}

/// Of the connections of a sample everything is reported, of the others nothing.
#[test]
fn a_sample_is_of_whole_connections() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let mut nginx = Nginx::start(NginxConfig::new(scheme));
        let tracer = Tracer::attach(&[nginx.pid()], &["--sample", "1/2", "--no-shed"]);
        wrk(&nginx);
        nginx.stop();
        let outcome = tracer.wait();
        let ledger = outcome.ledger();
        ledger.assert_balanced();
        assert_eq!(ledger.lost_events(), 0, "{ledger:#?}");
        let mut served = requests_by_port(nginx.log().iter().map(|entry| &entry["remote_port"]));
        let sample = requests_by_port(outcome.records().map(|record| record["connection"]["remote"]["port"].clone()));
        // With 16 connections there are none or all in the sample once in 32768 runs.
        assert!(!sample.is_empty() && sample.len() < served.len(), "{sample:?} of {served:?}");
        served.retain(|port, _| sample.contains_key(port));
        assert_eq!(sample, served);
        assert!(ledger.get("connections shed") > 0 && ledger.get("bytes lost: shed") > 0, "{ledger:#?}");
    }
}

/// When events are lost, whole connections are left out until no more are: at the end most records are complete.
#[test]
fn overload_sheds_whole_connections() {
    let mut nginx = Nginx::start(NginxConfig::new(Scheme::Http));
    let tracer = Tracer::attach(&[nginx.pid()], &["--ring-size", "64K"]);
    wrk(&nginx);
    nginx.stop();
    let outcome = tracer.wait();
    let ledger = outcome.ledger();
    ledger.assert_balanced();
    assert!(ledger.lost_events() > 0, "a ring of 64 KiB was enough: {ledger:#?}");
    assert!(ledger.get("connections shed") > 0, "{ledger:#?}");
    assert!(outcome.stderr.contains("cannot keep up"), "{}", outcome.stderr);
    let log = nginx.log();
    let incomplete = Audit::new(&nginx).losses_allowed().compare(&log, &[], outcome.records(), "shedding");
    assert!(incomplete > 0, "nothing was left out");
}

fn requests_by_port(ports: impl Iterator<Item = impl std::borrow::Borrow<Value>>) -> BTreeMap<u64, usize> {
    let mut requests = BTreeMap::new();
    for port in ports {
        *requests.entry(port.borrow().as_u64().expect("a port")).or_default() += 1;
    }
    requests
}

fn full_load(config: NginxConfig) {
    load(config, &["--no-shed"]);
}

fn load(config: NginxConfig, options: &[&str]) {
    let mut nginx = Nginx::start(config);
    let tracer = Tracer::attach(&[nginx.pid()], options);
    wrk(&nginx);
    // nginx ends first, and with it its connections, so that every request has been decided when the tracer ends.
    nginx.stop();
    let outcome = tracer.wait();
    outcome.assert_success();
    let ledger = outcome.ledger();
    ledger.assert_balanced();
    let log = nginx.log();
    let unanswered = log.iter().filter(|entry| entry["completion"] != "OK").count() as u64;
    let audit = if ledger.lost_events() > 0 { Audit::new(&nginx).losses_allowed() } else { Audit::new(&nginx) };
    let incomplete = audit.compare(&log, &[], outcome.records(), &format!("{config:?} {options:?}"));
    let records = outcome.records().count();
    eprintln!("{config:?} {options:?}: {} logged, {records} records, {incomplete} incomplete or missing", log.len());
    assert!(log.len() > 50, "wrk made only {} requests", log.len());
    assert_eq!(records as u64, ledger.get("records http"), "the ledger counts other records: {ledger:#?}");
    // Each of these exchanges is one read and one or two writes: a lost event spoils one, and the next at most, which
    // the connection needs to find a message boundary again.
    let excused = unanswered + 2 * ledger.lost_events();
    assert!(
        incomplete <= excused,
        "{incomplete} of {} are missing or incomplete, {excused} excused: {ledger:#?}",
        log.len()
    );
}

fn wrk(nginx: &Nginx) {
    let script = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(script.path(), SCRIPT).expect("cannot write a temporary file");
    let seconds =
        std::env::var("E2E_LOAD_SECONDS").unwrap_or_else(|_| if virtual_machine() { "2" } else { "3" }.into());
    let mut command = Command::new("wrk");
    command.args(["-t2", "-c16", &format!("-d{seconds}s"), "-s"]).arg(script.path()).arg(nginx.url("/"));
    let output = String::from_utf8_lossy(&run(&mut command).stdout).into_owned();
    assert!(!output.contains("Non-2xx"), "{output}");
    eprintln!("{output}");
}
