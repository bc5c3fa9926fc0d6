//! nginx as a gateway: it answers clients and asks another server, and both sides are told apart.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, Differences, Nginx, NginxConfig, Request, Scheme, Server, Tracer, unused_ports, wait_until,
};

#[test]
fn both_sides_of_a_proxy() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let backend = Nginx::start(NginxConfig::new(Scheme::Http));
        let gateway = Nginx::start(NginxConfig { upstream: Some(backend.port), ..NginxConfig::new(scheme) });
        let tracer = Tracer::attach(&[gateway.pid()], &[]);
        let mut client = Client::connect(&gateway);
        let paths = ["/proxy/small.txt", "/proxy/big.bin", "/proxy/missing", "/proxy/text.txt"];
        let calls: Vec<_> = paths.iter().map(|path| client.call(Request::get(path))).collect();
        let outside = gateway.wait_for_log(calls.len());
        let inside = backend.wait_for_log(calls.len());
        tracer.wait_for(2 * calls.len());
        let records: Vec<Value> = tracer.stop().records().collect();

        let mut differences = Differences::default();
        let side = |role: &str| -> Vec<&Value> {
            records.iter().filter(|record| record["connection"]["role"] == role).collect()
        };
        let (answered, asked) = (side("server"), side("client"));
        differences.expect(answered.len() == calls.len() && asked.len() == calls.len(), || format!("{records:?}"));
        for (record, entry) in answered.iter().zip(&outside) {
            differences.field(record, "/request/target", entry["target"].clone());
            differences.field(record, "/request/bytes", entry["request_length"].clone());
            differences.field(record, "/response/status", entry["status"].clone());
            differences.field(record, "/response/bytes", entry["bytes_sent"].clone());
            differences.field(record, "/connection/remote/port", entry["remote_port"].clone());
            differences.field(record, "/connection/local/port", gateway.port);
        }
        for ((record, entry), front) in asked.iter().zip(&inside).zip(&outside) {
            differences.field(record, "/request/target", entry["target"].clone());
            differences.field(record, "/request/bytes", entry["request_length"].clone());
            differences.field(record, "/response/status", entry["status"].clone());
            differences.field(record, "/response/bytes", entry["bytes_sent"].clone());
            differences.field(record, "/connection/local/port", entry["remote_port"].clone());
            differences.field(record, "/connection/remote/port", backend.port);
            differences.field(record, "/connection/tls", Value::Null);
            differences.field(record, "/connection/tuple_source", "socket");
            let received = record["response"]["bytes"].to_string();
            differences.expect(front["upstream_bytes_received"] == received.as_str(), || format!("{front}: {record}"));
        }
        differences.assert_none(&format!("gateway over {scheme}"));
    }
}

/// haproxy passes connections on and says whose they are (PROXY protocol, both versions); TLS ends at nginx.
#[test]
fn behind_a_load_balancer() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let nginx = Nginx::start(NginxConfig { proxied: true, ..NginxConfig::new(scheme) });
        let directory = tempfile::tempdir().expect("no temporary directory");
        let [first, second] = unused_ports();
        let mut haproxy = haproxy(&directory, &[(first, "send-proxy"), (second, "send-proxy-v2")], nginx.port);
        let tracer = Tracer::attach(&[nginx.pid()], &[]);
        for port in [first, second] {
            let mut client = Client::connect_through(port, &nginx);
            (0..2).for_each(|_| drop(client.call(Request::get("/small.txt"))));
        }
        let log = nginx.wait_for_log(4);
        tracer.wait_for(4);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let mut differences = Differences::default();
        differences.expect(records.len() == 4, || format!("{records:?}"));
        for ((record, entry), port) in records.iter().zip(&log).zip([first, first, second, second]) {
            let source_port: u16 = entry["proxied_port"].as_str().and_then(|port| port.parse().ok()).expect("a port");
            let source = json!({ "address": entry["proxied_address"], "port": source_port });
            let destination = json!({ "address": "127.0.0.1", "port": port });
            differences.field(record, "/connection/proxied", json!({ "source": source, "destination": destination }));
            differences.field(record, "/connection/remote/port", entry["remote_port"].clone());
            differences.field(record, "/request/target", entry["target"].clone());
            differences.field(record, "/integrity/complete", true);
        }
        differences.assert_none(&format!("behind a load balancer, {scheme}"));
        outcome.ledger().assert_nothing_lost();
        haproxy.stop("haproxy");
    }
}

/// haproxy that passes connections on from each port to another, with an option of its `server` line.
fn haproxy(directory: &tempfile::TempDir, ports: &[(u16, &str)], to: u16) -> Server {
    let defaults = "defaults\n  mode tcp\n  timeout client 20s\n  timeout server 20s\n  timeout connect 5s\n";
    let listens = ports.iter().map(|(port, option)| {
        format!("listen port-{port}\n  bind 127.0.0.1:{port}\n  server nginx 127.0.0.1:{to} {option}\n")
    });
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, defaults.to_owned() + &listens.collect::<String>()).expect("cannot write");
    let server = Server::start(Command::new("haproxy").arg("-db").arg("-f").arg(&file), Signal::TERM);
    let listens = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
    wait_until("haproxy listens", || ports.iter().all(|(port, _)| listens(port)));
    server
}
