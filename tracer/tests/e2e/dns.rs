//! dnsmasq as a traced server, dig as a traced client; dig's own output is the witness.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Differences, Server, Tracer, run, unused_port, unused_ports, virtual_machine, wait_until};

/// How a question travels.
#[derive(Clone, Copy, Debug)]
struct Route {
    address: &'static str,
    transport: &'static str,
    edns: bool,
}

const ROUTES: [Route; 6] = [
    Route { address: "127.0.0.1", transport: "udp", edns: false },
    Route { address: "127.0.0.1", transport: "udp", edns: true },
    Route { address: "127.0.0.1", transport: "tcp", edns: false },
    Route { address: "127.0.0.1", transport: "tcp", edns: true },
    Route { address: "::1", transport: "udp", edns: true },
    Route { address: "::1", transport: "tcp", edns: false },
];

/// Questions with the status and the number of answers that dnsmasq is set up to give.
const QUESTIONS: [(&str, &str, &str, usize); 8] = [
    ("host.test", "A", "NOERROR", 1),
    ("host.test", "AAAA", "NOERROR", 1),
    ("alias.test", "A", "NOERROR", 2),
    ("missing.test", "A", "NXDOMAIN", 0),
    ("text.test", "TXT", "NOERROR", 1),
    ("mail.test", "MX", "NOERROR", 1),
    ("_http._tcp.test", "SRV", "NOERROR", 1),
    ("elsewhere.example", "A", "REFUSED", 0),
];

/// A dnsmasq that knows some names and asks nobody.
struct Dnsmasq {
    port: u16,
    server: Server,
}

impl Dnsmasq {
    fn start() -> Self {
        let port = unused_port();
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]);
        command.args(["--user=root", "--log-facility=/dev/null", "--bind-interfaces"]);
        command.args(["--listen-address=127.0.0.1", "--listen-address=::1"]).arg(format!("--port={port}"));
        command.args([
            "--local=/test/",
            "--host-record=host.test,192.0.2.1,2001:db8::1",
            "--cname=alias.test,host.test",
        ]);
        command.args(["--txt-record=text.test,hello tracer", "--mx-host=mail.test,host.test,10"]);
        command.args(["--srv-host=_http._tcp.test,host.test,8080,1,2"]);
        let mut server = Server::start(&command, Signal::TERM);
        wait_until("dnsmasq answers", || {
            if let Some(status) = server.ended() {
                panic!("dnsmasq did not start: {status}");
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { port, server }
    }
}

/// What dig was asked and what it saw.
#[derive(Debug)]
struct Lookup {
    route: Route,
    question: (&'static str, &'static str),
    port: u16,
    id: u64,
    status: String,
    query_bytes: u64,
    answer_bytes: u64,
    answers: Vec<Value>,
}

impl Lookup {
    /// The arguments for dig. Its port is chosen here, so that it is known.
    fn arguments(route: Route, question: (&str, &str), server: u16, port: u16) -> Vec<String> {
        let mut arguments = vec![format!("@{}", route.address), "-p".into(), server.to_string()];
        arguments.extend(["-b".into(), format!("{}#{port}", route.address)]);
        arguments.extend(["+qr", "+tries=1", "+time=20", "+noall", "+comments", "+stats", "+answer"].map(String::from));
        arguments.push(if route.transport == "tcp" { "+tcp" } else { "+notcp" }.into());
        arguments.push(if route.edns { "+edns=0" } else { "+noedns" }.into());
        arguments.extend([question.0.into(), question.1.into()]);
        arguments
    }

    fn parse(route: Route, question: (&'static str, &'static str), port: u16, output: &str) -> Self {
        let after = |key: &str| -> &str {
            let rest = output.rfind(key).map(|place| output[place + key.len()..].trim_start());
            rest.and_then(|rest| rest.split([',', '\n']).next())
                .unwrap_or_else(|| panic!("dig told no {key:?}: {output}"))
        };
        // Over TCP a length of two bytes goes before each message (RFC 1035 §4.2.2).
        let framing = if route.transport == "tcp" { 2 } else { 0 };
        let answers = output.lines().filter(|line| !line.starts_with(';')).filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, ttl, _class, kind) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let data = words.collect::<Vec<_>>().join(" ");
            Some(json!({"name": plain(name), "ttl": ttl.parse::<u64>().ok()?, "type": kind, "data": plain(&data)}))
        });
        Self {
            route,
            question,
            port,
            id: after(" id:").parse().expect("an id"),
            status: after("status:").into(),
            query_bytes: after("QUERY SIZE:").parse::<u64>().expect("a size") + framing,
            answer_bytes: after("MSG SIZE  rcvd:").parse::<u64>().expect("a size") + framing,
            answers: answers.collect(),
        }
    }

    fn make(route: Route, question: (&'static str, &'static str), server: u16) -> Self {
        let port = source_port();
        let output = run(Command::new("dig").args(Self::arguments(route, question, server, port)));
        Self::parse(route, question, port, &String::from_utf8_lossy(&output.stdout))
    }

    /// Compares a record with it. `own` is the end that the traced process is.
    fn compare(&self, record: &Value, server: u16, role: &str, differences: &mut Differences) {
        let (client, other) = if role == "server" { ("remote", "local") } else { ("local", "remote") };
        differences.field(record, "/protocol", "dns");
        differences.field(record, "/connection/role", role);
        differences.field(record, "/connection/transport", self.route.transport);
        differences.field(record, "/connection/tls", Value::Null);
        differences.field(record, "/connection/tuple_source", "socket");
        differences.field(record, &format!("/connection/{client}/address"), self.route.address);
        differences.field(record, &format!("/connection/{client}/port"), self.port);
        differences.field(record, &format!("/connection/{other}/address"), self.route.address);
        differences.field(record, &format!("/connection/{other}/port"), server);
        differences.field(record, "/sequence", 0);
        differences.field(record, "/request/id", self.id);
        differences.field(
            record,
            "/request/questions",
            json!([{"name": self.question.0, "type": self.question.1, "class": "IN"}]),
        );
        differences.field(record, "/request/opcode", "QUERY");
        differences.field(record, "/request/recursion_desired", true);
        differences.field(record, "/request/bytes", self.query_bytes);
        differences.field(record, "/response/bytes", self.answer_bytes);
        differences.field(record, "/response/rcode", self.status.as_str());
        differences.field(record, "/response/truncated", false);
        differences.field(record, "/integrity/complete", true);
        let edns = record.pointer("/request/edns").is_some();
        differences.expect(edns == self.route.edns, || format!("EDNS: {record}"));
        let answers = record.pointer("/response/answers").and_then(Value::as_array).cloned().unwrap_or_default();
        let answers: Vec<Value> = answers.iter().map(comparable).collect();
        differences
            .expect(answers == self.answers, || format!("answers {answers:?}, dig saw {:?}: {record}", self.answers));
        let latency = record["latency_ns"].as_u64();
        differences.expect(latency.is_some_and(|latency| latency > 0), || format!("latency: {record}"));
    }
}

/// Without the dots at the ends of names.
fn plain(data: &str) -> String {
    data.split(' ').map(|word| word.strip_suffix('.').unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

fn comparable(answer: &Value) -> Value {
    let text = |name: &str| plain(answer[name].as_str().unwrap_or_default());
    json!({"name": text("name"), "ttl": answer["ttl"], "type": answer["type"], "data": text("data")})
}

/// A port for dig that no other lookup of this run has had: a TCP port stays taken for a minute after its use.
fn source_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn find(records: &[Value], port: u16, end: &str, differences: &mut Differences) -> Value {
    let found: Vec<_> = records.iter().filter(|record| record["connection"][end]["port"] == port).collect();
    differences.expect(found.len() == 1, || format!("{} records for port {port}: {found:?}", found.len()));
    found.first().map_or(Value::Null, |record| (*record).clone())
}

/// In a guest every dig takes a second: fewer do there.
fn questions() -> impl Iterator<Item = (&'static str, &'static str, &'static str, usize)> {
    QUESTIONS.into_iter().take(if virtual_machine() { 4 } else { QUESTIONS.len() })
}

fn look_up_all(dnsmasq: &Dnsmasq) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    for route in ROUTES {
        for (name, kind, status, answers) in questions() {
            let lookup = Lookup::make(route, (name, kind), dnsmasq.port);
            assert_eq!((lookup.status.as_str(), lookup.answers.len()), (status, answers), "{lookup:?}");
            lookups.push(lookup);
        }
    }
    lookups
}

/// Without a tracer: dig sees what dnsmasq is set up to say. If this fails, the tests are wrong, not the tracer.
#[test]
fn the_witness_works() {
    assert_eq!(look_up_all(&Dnsmasq::start()).len(), ROUTES.len() * questions().count());
}

#[test]
fn dnsmasq_serves() {
    let dnsmasq = Dnsmasq::start();
    let tracer = Tracer::attach(&[dnsmasq.server.pid()], &["--protocols", "dns"]);
    let lookups = look_up_all(&dnsmasq);
    tracer.wait_for(lookups.len());
    let outcome = tracer.stop();
    let records: Vec<Value> = outcome.records().collect();
    let mut differences = Differences::default();
    differences
        .expect(records.len() == lookups.len(), || format!("{} records, {} lookups", records.len(), lookups.len()));
    for lookup in &lookups {
        let record = find(&records, lookup.port, "remote", &mut differences);
        lookup.compare(&record, dnsmasq.port, "server", &mut differences);
        differences.field(&record, "/process/comm", "dnsmasq");
    }
    differences.assert_none("dnsmasq");
    outcome.ledger().assert_nothing_lost();
}

#[test]
fn dig_asks() {
    let dnsmasq = Dnsmasq::start();
    let directory = tempfile::tempdir().expect("no temporary directory");
    let mut differences = Differences::default();
    // Each is a tracer of its own, and in a guest its programs take most of a minute to be verified.
    let asked = if virtual_machine() { 1 } else { 2 };
    for route in ROUTES {
        for (name, kind, _, _) in questions().take(asked) {
            let port = source_port();
            let arguments = Lookup::arguments(route, (name, kind), dnsmasq.port, port);
            let (outcome, output) = traced_dig(&arguments, directory.path());
            outcome.assert_success();
            let lookup = Lookup::parse(route, (name, kind), port, &output);
            let records: Vec<Value> = outcome.records().collect();
            differences.expect(records.len() == 1, || format!("{} records of {lookup:?}", records.len()));
            let record = find(&records, port, "local", &mut differences);
            lookup.compare(&record, dnsmasq.port, "client", &mut differences);
        }
    }
    differences.assert_none("dig");
}

/// Runs dig under the tracer; dig's output goes to a file, stdout is the tracer's.
fn traced_dig(arguments: &[String], directory: &Path) -> (crate::support::Outcome, String) {
    let file = directory.join("dig");
    let script = r#"out=$1; shift; exec dig "$@" > "$out""#;
    let mut command = vec!["sh", "-c", script, "sh", file.to_str().expect("UTF-8")];
    command.extend(arguments.iter().map(String::as_str));
    let outcome = Tracer::launch(&["--protocols", "dns"], &command).wait();
    outcome.ledger().assert_balanced();
    (outcome, std::fs::read_to_string(file).unwrap_or_default())
}

/// Nobody answers: the question has a record that says so.
#[test]
fn a_question_without_an_answer() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("no free port");
    let server = silent.local_addr().expect("bound").port();
    let [port] = unused_ports();
    let route = Route { address: "127.0.0.1", transport: "udp", edns: false };
    let mut arguments = Lookup::arguments(route, ("host.test", "A"), server, port);
    arguments.push("+time=1".into());
    let directory = tempfile::tempdir().expect("no temporary directory");
    let (outcome, _) = traced_dig(&arguments, directory.path());
    assert_eq!(outcome.status.code(), Some(9), "dig's status for no reply: {}", outcome.stderr);
    let records: Vec<Value> = outcome.records().collect();
    let mut differences = Differences::default();
    differences.expect(records.len() == 1, || format!("{records:?}"));
    let record = find(&records, port, "local", &mut differences);
    differences.field(&record, "/request/questions/0/name", "host.test");
    differences.field(&record, "/response", Value::Null);
    differences.field(&record, "/latency_ns", Value::Null);
    differences.field(&record, "/integrity", json!({"complete": false, "reasons": ["no_response"]}));
    differences.assert_none("a question without an answer");
}
