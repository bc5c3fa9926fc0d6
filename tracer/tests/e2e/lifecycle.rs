//! Beginning, change and end: of the tracer, of the traced processes, and of their connections.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    Audit, Call, Client, Differences, Nginx, NginxConfig, Request, Scheme, Server, Tracer, command, signal, wait_until,
};

const SCHEMES: [Scheme; 2] = [Scheme::Http, Scheme::Https];

fn get(client: &mut Client) -> Call {
    client.call(Request::get("/small.txt"))
}

/// Workers that a reload starts are followed like those before.
#[test]
fn workers_of_a_reload() {
    for scheme in SCHEMES {
        let nginx = Nginx::start(NginxConfig { workers: 2, ..NginxConfig::new(scheme) });
        let before = nginx.workers();
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let mut calls = vec![get(&mut Client::connect(&nginx))];
        signal(nginx.pid(), Signal::HUP);
        wait_until("nginx has new workers only", || {
            let now = nginx.workers();
            now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
        });
        calls.extend((0..4).map(|_| get(&mut Client::connect(&nginx))));
        tracer.wait_for(calls.len());
        let outcome = tracer.stop();
        let log = nginx.wait_for_log(calls.len());
        Audit::new(&nginx).compare(&log, &calls, outcome.records(), &format!("reload, {scheme}"));
        let new = outcome.records().filter(|record| !before.iter().any(|pid| record["process"]["pid"] == *pid)).count();
        assert_eq!(new, 4, "{}", outcome.stdout());
    }
}

/// A connection that was open before has its addresses, and its next request is complete.
#[test]
fn connections_open_before() {
    for scheme in SCHEMES {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&nginx)).collect();
        let early: Vec<Call> = clients.iter_mut().map(get).collect();
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let late: Vec<Call> = clients.iter_mut().flat_map(|client| [get(client), get(client)]).collect();
        tracer.wait_for(late.len());
        let outcome = tracer.stop();
        let log = nginx.wait_for_log(early.len() + late.len());
        let calls = [early, late].concat();
        Audit::new(&nginx).joined_late().compare(&log, &calls, outcome.records(), &format!("open before, {scheme}"));
        assert_eq!(outcome.records().count(), 6, "one for each request since: {}", outcome.stdout());
        for record in outcome.records() {
            assert_eq!(record["integrity"]["complete"], true, "{record}");
        }
    }
}

/// Attached in the middle of a response: what is told of it is told as incomplete, and the next request is whole.
#[test]
fn a_response_that_was_under_way() {
    for scheme in SCHEMES {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let mut client = Client::connect(&nginx);
        let slow = Request::get("/slow/big.bin");
        let started = client.begin(&slow);
        std::thread::sleep(Duration::from_millis(300));
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let first = client.receive(&slow, started);
        let next = get(&mut client);
        let outcome = {
            wait_until("the second request has its record", || {
                tracer.records().iter().any(|record| record["request"]["target"] == next.target.as_str())
            });
            tracer.stop()
        };
        assert_eq!(first.status, 200);
        for record in outcome.records() {
            let known = record["request"]["target"] == next.target.as_str();
            assert_eq!(record["integrity"]["complete"], known, "{scheme}: {record}");
            if known {
                assert_eq!(record["response"]["bytes"], next.response_bytes, "{record}");
            } else {
                assert_eq!(record["latency_ns"], serde_json::Value::Null, "{scheme}: {record}");
            }
        }
    }
}

/// Two processes are traced at once, and a third one is not, though it uses the same library.
#[test]
fn two_of_three_processes() {
    for scheme in SCHEMES {
        let nginx: [Nginx; 3] = std::array::from_fn(|_| Nginx::start(NginxConfig::new(scheme)));
        let tracer = Tracer::attach(&[nginx[0].pid(), nginx[1].pid()], &[]);
        for server in &nginx {
            let mut client = Client::connect(server);
            (0..5).for_each(|_| drop(get(&mut client)));
        }
        tracer.wait_for(10);
        let outcome = tracer.stop();
        for server in &nginx[..2] {
            let own = outcome.records().filter(|record| record["connection"]["local"]["port"] == server.port);
            Audit::new(server).compare(&server.wait_for_log(5), &[], own, &format!("{scheme}"));
        }
        assert_eq!(outcome.records().count(), 10, "{}", outcome.stdout());
    }
}

/// A second tracer sees the same, and its end does not disturb the first.
#[test]
fn a_second_tracer() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let first = Tracer::attach(&[nginx.pid()], &[]);
    let second = Tracer::attach(&[nginx.pid()], &[]);
    let mut client = Client::connect(&nginx);
    let both: Vec<Call> = (0..5).map(|_| get(&mut client)).collect();
    first.wait_for(5);
    second.wait_for(5);
    let second = second.stop();
    let alone: Vec<Call> = (0..5).map(|_| get(&mut client)).collect();
    first.wait_for(10);
    let first = first.stop();
    let log = nginx.wait_for_log(10);
    let calls = [both, alone].concat();
    Audit::new(&nginx).compare(&log, &calls, first.records(), "first");
    Audit::new(&nginx).compare(&log[..5], &calls[..5], second.records(), "second");
}

/// After the tracer has gone, nothing of it is left in the process, and the process works.
#[test]
fn nothing_is_left_behind() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut client = Client::connect(&nginx);
    let tracer = Tracer::attach(&[nginx.pid()], &[]);
    get(&mut client);
    tracer.wait_for(1);
    tracer.stop();
    get(&mut client);
    let killed = Tracer::attach(&[nginx.pid()], &[]);
    get(&mut client);
    killed.kill();
    get(&mut client);
    let again = Tracer::attach(&[nginx.pid()], &[]);
    get(&mut client);
    again.wait_for(1);
    again.stop();
    assert_eq!(nginx.wait_for_log(5).len(), 5);
}

/// The traced process ends: so does the tracer, by itself, with all it has seen.
#[test]
fn the_process_ends() {
    for scheme in SCHEMES {
        let mut nginx = Nginx::start(NginxConfig::new(scheme));
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        let mut client = Client::connect(&nginx);
        let calls: Vec<Call> = (0..5).map(|_| get(&mut client)).collect();
        // Seen, but never answered.
        client.send_half(&Request::put(5000));
        nginx.stop();
        let outcome = tracer.wait();
        outcome.assert_success();
        outcome.ledger().assert_balanced();
        let complete = outcome.records().filter(|record| record["integrity"]["complete"] == true);
        let log: Vec<_> = nginx.log().into_iter().filter(|entry| entry["completion"] == "OK").collect();
        Audit::new(&nginx).compare(&log, &calls, complete, &format!("{scheme}"));
        let others: Vec<_> = outcome.records().filter(|record| record["integrity"]["complete"] != true).collect();
        assert!(others.len() <= 1, "{others:?}");
        for record in &others {
            let mut differences = Differences::default();
            differences.field(record, "/latency_ns", serde_json::Value::Null);
            differences
                .expect(record["integrity"]["reasons"].to_string().contains("no_response"), || record.to_string());
            differences.assert_none("an unanswered request");
        }
    }
}

/// SIGTERM ends the tracer as SIGINT does: what was seen is printed.
#[test]
fn sigterm() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
    let tracer = Tracer::attach(&[nginx.pid()], &[]);
    let mut client = Client::connect(&nginx);
    let calls: Vec<Call> = (0..10).map(|_| get(&mut client)).collect();
    let outcome = tracer.stop_by(Signal::TERM);
    let log = nginx.wait_for_log(calls.len());
    Audit::new(&nginx).compare(&log, &calls, outcome.records(), "SIGTERM right after the last response");
}

/// `tracer | head -1`: no message, no failure.
#[test]
fn a_closed_pipe() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
    let mut command = command();
    command.args(["--pid", &nginx.pid().to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tracer = Server::spawn(&mut command, Signal::INT);
    let stdout = tracer.streams().stdout.take().expect("piped");
    let mut stderr = BufReader::new(tracer.streams().stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.lines().any(|line| line.starts_with("tracer: ready")) {
        assert!(stderr.read_line(&mut said).expect("UTF-8") > 0, "not ready: {said}");
    }
    let mut client = Client::connect(&nginx);
    get(&mut client);
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line).expect("a record");
    serde_json::from_str::<serde_json::Value>(&line).expect("a record");
    drop(stdout);
    let mut status = None;
    wait_until("the tracer ends", || {
        get(&mut client);
        status = tracer.ended();
        status.is_some()
    });
    stderr.read_to_string(&mut said).expect("UTF-8");
    assert!(status.expect("ended").success(), "{status:?}: {said}");
    let said = said.to_lowercase();
    assert!(!said.contains("panic") && !said.contains("broken pipe"), "{said}");
}

/// Selection: only what is asked for.
#[test]
fn protocols_are_selected() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
    let dns_only = Tracer::attach(&[nginx.pid()], &["--protocols", "dns"]);
    let both = Tracer::attach(&[nginx.pid()], &["--protocols", "http,dns"]);
    get(&mut Client::connect(&nginx));
    both.wait_for(1);
    assert_eq!(both.stop().records().count(), 1);
    assert_eq!(dns_only.stop().records().count(), 0);
}
