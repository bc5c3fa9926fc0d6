//! Full load: as many records as requests, all of them right, or the ledger says exactly what is missing.

use std::process::Command;

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
    load(NginxConfig::new(Scheme::Http), &["--ring-size", "64K"]);
}

fn full_load(config: NginxConfig) {
    load(config, &[]);
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
