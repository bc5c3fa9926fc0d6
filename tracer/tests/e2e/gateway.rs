//! nginx as a gateway: it answers clients and asks another server, and both sides are told apart.

use serde_json::Value;

use crate::support::{Client, Differences, Nginx, NginxConfig, Request, Scheme, Tracer};

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
