//! Compares records with nginx's access log, and both with what the clients did, field by field.
//!
//! The three are joined by the request's target, which has an id in it.

use std::collections::HashMap;

use serde_json::Value;

use super::client::Call;
use super::differences::Differences;
use super::nginx::{Nginx, Scheme};
use super::process::virtual_machine;

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// nginx's own.
    Server,
    /// Those of a traced client of nginx.
    Client,
}

/// A comparison to be made.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    role: Role,
    scheme: Scheme,
    port: u16,
    joined_late: bool,
    losses_allowed: bool,
    library: &'static str,
}

/// nginx reads its clock once per round of its event loop, and on a busy machine it is preempted between that and the
/// call that the tracer times.
fn tolerance_ns() -> u64 {
    if virtual_machine() { 3_000_000_000 } else { 250_000_000 }
}

impl Audit {
    /// Records of nginx itself, traced before any client came.
    pub fn new(nginx: &Nginx) -> Self {
        let (scheme, port) = (nginx.config.scheme, nginx.port);
        Self { role: Role::Server, scheme, port, joined_late: false, losses_allowed: false, library: "openssl" }
    }

    /// Records of this side.
    pub fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The TLS library that the traced process has.
    pub fn library(self, library: &'static str) -> Self {
        Self { library, ..self }
    }

    /// Connections had carried requests before they were traced: those have no record, and `sequence` counts from the
    /// first that has one.
    pub fn joined_late(self) -> Self {
        Self { joined_late: true, ..self }
    }

    /// Some requests may have no record, or one that says what it lacks; [`Audit::compare`] tells how many.
    pub fn losses_allowed(self) -> Self {
        Self { losses_allowed: true, ..self }
    }

    /// Compares all; gives the number of requests in the log that have no complete record.
    pub fn compare(&self, log: &[Value], calls: &[Call], records: impl Iterator<Item = Value>, context: &str) -> u64 {
        let mut differences = Differences::default();
        let by_target: HashMap<&str, &Value> =
            log.iter().filter_map(|entry| Some((text(entry, "target")?, entry))).collect();
        assert_eq!(by_target.len(), log.len(), "{context}: targets in the log are not unique");
        let calls_by_target: HashMap<&str, &Call> = calls.iter().map(|call| (call.target.as_str(), call)).collect();
        let mut seen: HashMap<String, u64> = HashMap::new();
        let mut connections = Connections::default();
        let mut complete = 0;
        for record in records {
            if self.losses_allowed && record["request"].is_null() {
                // The request was lost: the response says so, and nothing can be said of it here.
                let reasons = record.pointer("/integrity/reasons").map(Value::to_string).unwrap_or_default();
                differences.expect(reasons.contains("unsolicited"), || format!("a request out of nothing: {record}"));
                continue;
            }
            let target = record.pointer("/request/target").and_then(Value::as_str).unwrap_or_default().to_owned();
            let count = seen.entry(target.clone()).or_default();
            *count += 1;
            differences.expect(*count == 1, || format!("a second record of {target}: {record}"));
            let Some(entry) = by_target.get(target.as_str()) else {
                differences.add(|| format!("nginx has logged nothing like it: {record}"));
                continue;
            };
            complete += u64::from(record.pointer("/integrity/complete") == Some(&Value::Bool(true)));
            self.compare_one(entry, &record, &mut differences);
            if let Some(call) = calls_by_target.get(target.as_str()) {
                compare_with_call(call, &record, &mut differences);
            }
            connections.add(entry, &record, self, &mut differences);
        }
        if !self.losses_allowed && !self.joined_late {
            for target in by_target.keys().filter(|target| !seen.contains_key(**target)) {
                differences.add(|| format!("no record of {target}"));
            }
        }
        for call in calls {
            compare_call(call, by_target.get(call.target.as_str()).copied(), &mut differences);
        }
        differences.assert_none(context);
        (log.len() as u64).saturating_sub(complete)
    }

    fn compare_one(&self, entry: &Value, record: &Value, differences: &mut Differences) {
        let target = text(entry, "target").unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        self.compare_connection(entry, record, differences);
        differences.field(record, "/protocol", "http");
        differences.field(record, "/request/method", entry["method"].clone());
        differences.field(record, "/request/path", path);
        differences.field(
            record,
            "/request/version",
            entry["protocol"].as_str().unwrap_or_default().trim_start_matches("HTTP/"),
        );
        if record.pointer("/integrity/complete") != Some(&Value::Bool(true)) {
            // nginx itself may have failed to answer: then the record must say so, else losses must be allowed.
            let unanswered = entry["completion"] != "OK";
            differences.expect(unanswered || self.losses_allowed, || format!("not complete: {record}"));
            let reasons = record.pointer("/integrity/reasons").and_then(Value::as_array).map_or(0, Vec::len);
            differences.expect(reasons > 0, || format!("not complete for no reason: {record}"));
            return;
        }
        differences.field(record, "/request/bytes", entry["request_length"].clone());
        differences.field(record, "/response/status", entry["status"].clone());
        differences.field(record, "/response/version", "1.1");
        differences.field(record, "/response/bytes", entry["bytes_sent"].clone());
        if self.role == Role::Server {
            differences.field(record, "/process/tid", entry["pid"].clone());
        }
        compare_times(entry, record, self.role, differences);
    }

    fn compare_connection(&self, entry: &Value, record: &Value, differences: &mut Differences) {
        let (server, client) = match self.role {
            Role::Server => ("local", "remote"),
            Role::Client => ("remote", "local"),
        };
        differences.field(record, &format!("/connection/{client}/address"), entry["remote_addr"].clone());
        differences.field(record, &format!("/connection/{client}/port"), entry["remote_port"].clone());
        differences.field(record, &format!("/connection/{server}/address"), entry["server_addr"].clone());
        differences.field(record, &format!("/connection/{server}/port"), self.port);
        differences.field(record, "/connection/transport", "tcp");
        match self.scheme {
            Scheme::Http => {
                differences.field(record, "/connection/tls", Value::Null);
                differences.field(record, "/connection/tuple_source", "socket");
            }
            Scheme::Https => {
                differences.field(record, "/connection/tls/library", self.library);
                differences.field(record, "/connection/tuple_source", "nested");
            }
        }
        match self.role {
            Role::Client => differences.field(record, "/connection/role", "client"),
            Role::Server => {
                differences.field(record, "/connection/role", "server");
                differences.field(record, "/process/pid", entry["pid"].clone());
                differences.field(record, "/process/comm", "nginx");
                let executable = record.pointer("/process/executable").and_then(Value::as_str).unwrap_or_default();
                differences.expect(executable.ends_with("/nginx"), || format!("wrong executable: {record}"));
            }
        }
    }
}

/// Latency against nginx's own measure, and all times in order.
fn compare_times(entry: &Value, record: &Value, role: Role, differences: &mut Differences) {
    let tolerance = tolerance_ns();
    let offset = |name: &str| record.pointer(&format!("/timing/{name}")).and_then(Value::as_u64);
    let times = ["request_start_ns", "request_end_ns", "response_start_ns", "response_end_ns"].map(offset);
    let [Some(start), Some(request_end), Some(response_start), Some(end)] = times else {
        return differences.add(|| format!("a complete record with unknown times: {record}"));
    };
    differences
        .expect(start == 0 && request_end <= end && response_start <= end, || format!("times out of order: {record}"));
    differences.field(record, "/latency_ns", end);
    // nginx's measure ends when the last byte is handed to the kernel; a client has it later, a slow one much later.
    let request_time = nanoseconds(&entry["request_time"]);
    let low = request_time.saturating_sub(tolerance);
    let high = if role == Role::Server { request_time + tolerance } else { u64::MAX };
    differences.between(record, "/latency_ns", low, high);
    if role == Role::Server {
        let logged = nanoseconds(&entry["msec"]);
        let ended = timestamp(record).map(|timestamp| timestamp + end);
        let near = ended.is_some_and(|ended| ended.abs_diff(logged) <= tolerance);
        differences.expect(near, || format!("ended at {ended:?}, logged at {logged}: {record}"));
    }
}

/// What only the client knows: the content without framing, and bounds of the time.
fn compare_with_call(call: &Call, record: &Value, differences: &mut Differences) {
    if record.pointer("/integrity/complete") != Some(&Value::Bool(true)) {
        return;
    }
    differences.field(record, "/request/version", call.version);
    differences.field(record, "/request/bytes", call.request_bytes);
    differences.field(record, "/request/body_bytes", call.request_body_bytes);
    differences.field(record, "/response/body_bytes", call.body_bytes);
    let tolerance = tolerance_ns();
    let bounds = call.started_ns - tolerance..=call.finished_ns + tolerance;
    let latency = record["latency_ns"].as_u64().unwrap_or_default();
    let within = timestamp(record).is_some_and(|start| bounds.contains(&start) && bounds.contains(&(start + latency)));
    differences.expect(within, || format!("the client saw it within {bounds:?}: {record}"));
}

/// The access log itself agrees with what the client did: the two witnesses are independent.
fn compare_call(call: &Call, entry: Option<&Value>, differences: &mut Differences) {
    let Some(entry) = entry else {
        return differences.add(|| format!("nginx has not logged {call:?}"));
    };
    differences.field(entry, "/method", call.method);
    differences.field(entry, "/status", call.status);
    differences.field(entry, "/request_length", call.request_bytes);
    differences.field(entry, "/bytes_sent", call.response_bytes + call.interim_bytes);
    if let Some(port) = call.port {
        differences.field(entry, "/remote_port", port);
    }
}

/// Connections by nginx's number and by ours: one to one, with requests in order.
#[derive(Default)]
struct Connections {
    ours: HashMap<(u64, u64), String>,
    nginx: HashMap<String, (u64, u64)>,
    last: HashMap<String, (u64, u64)>,
}

impl Connections {
    fn add(&mut self, entry: &Value, record: &Value, audit: &Audit, differences: &mut Differences) {
        let id = record.pointer("/connection/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        // nginx's numbers are shared by its workers, but a reload may begin anew.
        let number = (entry["pid"].as_u64().unwrap_or_default(), entry["connection"].as_u64().unwrap_or_default());
        let ours = self.ours.entry(number).or_insert_with(|| id.clone());
        differences.expect(*ours == id, || format!("connection {number:?} had the id {ours}: {record}"));
        let nginx = *self.nginx.entry(id.clone()).or_insert(number);
        differences.expect(nginx == number, || format!("connection {number:?} has the id of {nginx:?}: {record}"));

        let place = entry["connection_requests"].as_u64().unwrap_or_default();
        let Some(sequence) = record["sequence"].as_u64() else {
            return differences.add(|| format!("no sequence: {record}"));
        };
        // A request that was lost has no number.
        if !audit.joined_late && !audit.losses_allowed {
            differences.field(record, "/sequence", place - 1);
        }
        if record.pointer("/integrity/complete") != Some(&Value::Bool(true)) {
            return; // It may have waited for what did not come, while later ones were printed.
        }
        if let Some((last_sequence, last_place)) = self.last.insert(id, (sequence, place)) {
            let steps = (sequence.checked_sub(last_sequence), place.checked_sub(last_place));
            let in_order = steps.0.is_some_and(|step| step > 0) && (steps.0 == steps.1 || audit.losses_allowed);
            differences.expect(in_order, || format!("after sequence {last_sequence}, place {last_place}: {record}"));
        }
    }
}

fn text<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry[name].as_str()
}

/// Seconds with a fraction, as nginx writes them.
fn nanoseconds(seconds: &Value) -> u64 {
    (seconds.as_f64().unwrap_or_default() * 1e9) as u64
}

/// A record's timestamp in nanoseconds since 1970-01-01 UTC.
pub fn timestamp(record: &Value) -> Option<u64> {
    let text = record["timestamp"].as_str()?.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.')?;
    let seconds = time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))?;
    // Days since 1970-01-01 by counting: March is the first month, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let fraction = format!("{fraction:0<9}").parse::<i64>().ok()?;
    u64::try_from((days * 86_400 + seconds) * 1_000_000_000 + fraction).ok()
}

/// The comparison itself: it passes what is right and finds each thing that is wrong.
mod tests {
    use serde_json::{Value, json};

    use super::{Audit, Role, Scheme};

    const AUDIT: Audit = Audit {
        role: Role::Server,
        scheme: Scheme::Https,
        port: 443,
        joined_late: false,
        losses_allowed: false,
        library: "openssl",
    };

    fn log() -> Vec<Value> {
        let entry = |number: u64| {
            json!({"target": format!("/a?id={number}"), "method": "GET", "protocol": "HTTP/1.1",
                "remote_addr": "127.0.0.1", "remote_port": 50000, "server_addr": "127.0.0.1", "server_port": 443,
                "status": 200, "bytes_sent": 1234, "request_length": 78, "request_time": 0.500, "msec": 1_795_169_522.0,
                "connection": 7, "connection_requests": number, "pid": 99, "completion": "OK"})
        };
        vec![entry(1), entry(2)]
    }

    fn records() -> Vec<Value> {
        let record = |number: u64| {
            json!({"schema": 1, "kind": "l7", "timestamp": "2026-11-20T10:12:01.500000000Z", "protocol": "http",
                "process": {"pid": 99, "tid": 99, "comm": "nginx", "executable": "/usr/sbin/nginx"},
                "connection": {"id": "c", "transport": "tcp", "role": "server",
                    "local": {"address": "127.0.0.1", "port": 443}, "remote": {"address": "127.0.0.1", "port": 50000},
                    "tls": {"library": "openssl"}, "tuple_source": "nested"},
                "sequence": number - 1, "latency_ns": 500_000_000,
                "timing": {"request_start_ns": 0, "request_end_ns": 0, "response_start_ns": 1, "response_end_ns": 500_000_000},
                "request": {"bytes": 78, "method": "GET", "target": format!("/a?id={number}"), "path": "/a", "version": "1.1"},
                "response": {"bytes": 1234, "status": 200, "version": "1.1"},
                "integrity": {"complete": true}})
        };
        vec![record(1), record(2)]
    }

    fn passes(audit: Audit, records: Vec<Value>) -> bool {
        std::panic::catch_unwind(|| audit.compare(&log(), &[], records.into_iter(), "a trial")).is_ok()
    }

    #[test]
    fn what_is_right_passes() {
        assert!(passes(AUDIT, records()));
    }

    #[test]
    fn each_wrong_field_is_found() {
        for (pointer, wrong) in [
            ("/timestamp", json!("2026-11-20T09:12:01.500000000Z")),
            ("/protocol", json!("redis")),
            ("/process/pid", json!(98)),
            ("/process/tid", json!(98)),
            ("/process/comm", json!("curl")),
            ("/process/executable", json!("/usr/bin/curl")),
            ("/connection/transport", json!("udp")),
            ("/connection/role", json!("client")),
            ("/connection/id", json!("other")),
            ("/connection/local/port", json!(80)),
            ("/connection/remote/address", json!("::1")),
            ("/connection/remote/port", json!(50001)),
            ("/connection/tls", json!(null)),
            ("/connection/tuple_source", json!("none")),
            ("/sequence", json!(0)),
            ("/latency_ns", json!(500_000_001)),
            ("/timing/response_end_ns", json!(900_000_000)),
            ("/timing/response_start_ns", json!(null)),
            ("/request/bytes", json!(77)),
            ("/request/method", json!("HEAD")),
            ("/request/target", json!("/a?id=1")),
            ("/request/target", json!("/invented")),
            ("/request/path", json!("/b")),
            ("/request/version", json!("1.0")),
            ("/response/bytes", json!(1235)),
            ("/response/status", json!(404)),
            ("/integrity", json!({"complete": false, "reasons": ["gap"]})),
        ] {
            let mut records = records();
            *records[1].pointer_mut(pointer).expect("a field") = wrong.clone();
            assert!(!passes(AUDIT, records), "{pointer} = {wrong} is not found");
        }
    }

    #[test]
    fn missing_and_surplus_records_are_found() {
        let [first, second] = records().try_into().expect("two");
        assert!(!passes(AUDIT, vec![first.clone()]));
        assert!(!passes(AUDIT, vec![]));
        assert!(!passes(AUDIT, vec![first.clone(), second.clone(), second.clone()]));
        assert!(!passes(AUDIT, vec![second, first]), "out of order");
    }

    #[test]
    fn losses_are_counted_where_they_are_allowed() {
        let [first, mut second] = records().try_into().expect("two");
        let allowed = AUDIT.losses_allowed();
        assert_eq!(allowed.compare(&log(), &[], [first.clone()].into_iter(), "one missing"), 1);
        second["integrity"] = json!({"complete": false, "reasons": ["gap"]});
        assert_eq!(allowed.compare(&log(), &[], [first.clone(), second.clone()].into_iter(), "one incomplete"), 1);
        second["integrity"] = json!({"complete": false});
        assert!(!passes(allowed, vec![first, second]), "incomplete for no reason");
    }
}
