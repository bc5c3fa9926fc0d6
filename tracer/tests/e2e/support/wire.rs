//! What all records of a connection must say of it.

use serde_json::Value;

use super::differences::Differences;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP port of 127.0.0.1.
    Port(u16),
    /// A unix socket.
    Path(String),
}

/// A connection, as the traced process knows it.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The protocol on it.
    pub protocol: &'static str,
    /// "server" or "client": what the traced process is.
    pub role: &'static str,
    /// Where the server listens.
    pub server: Place,
    /// The client's port, where it is known.
    pub client: Option<u16>,
    /// Whether OpenSSL carries it.
    pub tls: bool,
}

impl Wire {
    /// A plaintext connection of a traced server.
    pub fn of_server(protocol: &'static str, port: u16) -> Self {
        Self { protocol, role: "server", server: Place::Port(port), client: None, tls: false }
    }

    /// Compares what a record says of its connection, and the times of a complete one.
    pub fn compare(&self, record: &Value, differences: &mut Differences) {
        self.compare_connection(record, differences);
        compare_times(record, differences);
    }

    /// Compares what a record says of its connection.
    pub fn compare_connection(&self, record: &Value, differences: &mut Differences) {
        let (server, client) = if self.role == "server" { ("local", "remote") } else { ("remote", "local") };
        differences.field(record, "/protocol", self.protocol);
        differences.field(record, "/connection/role", self.role);
        match &self.server {
            Place::Port(port) => {
                differences.field(record, "/connection/transport", "tcp");
                differences.field(record, &format!("/connection/{server}/address"), "127.0.0.1");
                differences.field(record, &format!("/connection/{server}/port"), *port);
                differences.field(record, &format!("/connection/{client}/address"), "127.0.0.1");
            }
            Place::Path(path) => {
                differences.field(record, "/connection/transport", "unix");
                differences.field(record, &format!("/connection/{server}/path"), path.as_str());
                differences.field(record, &format!("/connection/{client}/path"), "");
            }
        }
        if let Some(port) = self.client {
            differences.field(record, &format!("/connection/{client}/port"), port);
        }
        differences.field(record, "/connection/tls/library", self.tls.then_some("openssl"));
        differences.field(record, "/connection/tuple_source", if self.tls { "nested" } else { "socket" });
    }

    /// Compares the records of one connection with what is known of each request, in order.
    pub fn compare_all(&self, records: &[Value], expected: &[Value], differences: &mut Differences) {
        differences.expect(records.len() == expected.len(), || {
            format!("{} records, should be {}: {records:#?}", records.len(), expected.len())
        });
        let mut records: Vec<&Value> = records.iter().collect();
        records.sort_by_key(|record| record["sequence"].as_u64());
        for (sequence, (record, expected)) in records.into_iter().zip(expected).enumerate() {
            self.compare(record, differences);
            differences.field(record, "/sequence", sequence);
            differences.field(record, "/integrity/complete", true);
            differences.members(record, expected);
        }
    }
}

/// A request is over before its response is, and a response begins before it ends.
fn compare_times(record: &Value, differences: &mut Differences) {
    if record.pointer("/integrity/complete") != Some(&Value::Bool(true)) {
        return;
    }
    let offset = |name: &str| record.pointer(&format!("/timing/{name}")).and_then(Value::as_u64);
    let times = ["request_start_ns", "request_end_ns", "response_start_ns", "response_end_ns"].map(offset);
    let [Some(start), Some(request_end), Some(response_start), Some(end)] = times else {
        return differences.add(|| format!("a complete record with unknown times: {record}"));
    };
    let in_order = start == 0 && request_end <= end && response_start <= end && end > 0;
    differences.expect(in_order, || format!("times out of order: {record}"));
    differences.field(record, "/latency_ns", end);
}
