//! Clients as traced processes: `tracer -- COMMAND`.

use serde_json::Value;

use crate::support::{Audit, Nginx, NginxConfig, Outcome, Role, Row, Scheme, Tracer, unused_port, virtual_machine};

const SCHEMES: [Scheme; 2] = [Scheme::Http, Scheme::Https];

fn audit(nginx: &Nginx, log: &[Value], outcome: &Outcome, context: &str) {
    assert_eq!(outcome.records().count(), log.len(), "{context}: {}", outcome.stdout());
    Audit::new(nginx).role(Role::Client).compare(log, &[], outcome.records(), context);
    let ledger = outcome.ledger();
    ledger.assert_balanced();
    ledger.assert_nothing_lost();
}

#[test]
fn curl() {
    for scheme in SCHEMES {
        let row = Row::openssl(scheme == Scheme::Https, "curl");
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let upload = tempfile::NamedTempFile::new().expect("no temporary file");
        std::fs::write(upload.path(), vec![b'u'; 1 << 20]).expect("cannot write a temporary file");
        let upload = upload.path().to_str().expect("UTF-8");
        let urls = ["/small.txt?id=1", "/big.bin?id=2", "/missing?id=3", "/upload/file?id=4", "/text.txt?id=5"];
        let [small, big, missing, put, text] = urls.map(|path| nginx.url(path));
        // One process and one connection, as far as curl keeps it; what it writes goes to stderr, stdout is the tracer's.
        let common = [
            "-s",
            "-k",
            "--http1.1",
            "--ipv4",
            "-o",
            "/dev/null",
            "-w",
            "%{stderr}curl-saw %{http_code} %{local_port}\\n",
        ];
        let mut command = vec!["curl"];
        for arguments in [
            &[&*small][..],
            &[&*big],
            &["--head", &*missing],
            &["-H", "Expect:", "-T", upload, &*put],
            &["--compressed", &*text],
        ] {
            if command.len() > 1 {
                command.push("--next");
            }
            command.extend(common);
            command.extend(arguments);
        }
        let outcome = Tracer::launch(&[], &command).wait();
        outcome.assert_success();
        let log = nginx.wait_for_log(urls.len());
        audit(&nginx, &log, &outcome, &format!("curl, {scheme}"));
        let seen: Vec<_> = outcome.stderr.lines().filter_map(|line| line.strip_prefix("curl-saw ")).collect();
        let recorded = outcome.records().map(|record| {
            assert_eq!(record["process"]["comm"], "curl", "{record}");
            format!("{} {}", record["response"]["status"], record["connection"]["local"]["port"])
        });
        assert_eq!(recorded.collect::<Vec<_>>(), seen);
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// Python's ssl module calls SSL_read_ex and SSL_write_ex; http.client sends head and body apart.
#[test]
fn python() {
    const SCRIPT: &str = r#"
import http.client, ssl, sys
scheme, port = sys.argv[1], int(sys.argv[2])
if scheme == "https":
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
else:
    connection = http.client.HTTPConnection("127.0.0.1", port)
for number in range(5):
    connection.request("GET", "/small.txt?id=%d" % number)
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b"Hello, tracer\n"
connection.request("PUT", "/upload/file?id=put", body=b"p" * 200000)
response = connection.getresponse()
response.read()
assert response.status in (201, 204), response.status
connection.request("PUT", "/upload/file?id=chunks", body=iter([b"c" * 1000, b"d" * 10000]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})
response = connection.getresponse()
response.read()
connection.request("GET", "/big.bin?id=big")
assert len(connection.getresponse().read()) == 1 << 20
sys.exit(42)
"#;
    for scheme in SCHEMES {
        let row = Row::openssl(scheme == Scheme::Https, "Python ssl");
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let (name, port) = (scheme.to_string(), nginx.port.to_string());
        let outcome = Tracer::launch(&[], &["python3", "-c", SCRIPT, &name, &port]).wait();
        assert_eq!(outcome.status.code(), Some(42), "the script's own status: {}", outcome.stderr);
        let log = nginx.wait_for_log(8);
        audit(&nginx, &log, &outcome, &format!("Python, {scheme}"));
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// Children of the command are followed, and two of them at a time are told apart. They take their time before they
/// call: probes for a new process need some hundred milliseconds (docs/limits.md), and stay when it executes.
#[test]
fn children_of_a_command() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let curl = |id: &str| format!("curl -s -k --ipv4 -o /dev/null '{}'", nginx.url(&format!("/small.txt?id={id}")));
    let child = |id: &str| format!("(sleep 5; exec {})", curl(id));
    let script = format!("{} & {} & wait; {}", child("a"), child("b"), child("c"));
    let outcome = Tracer::launch(&[], &["sh", "-c", &script]).wait();
    outcome.assert_success();
    let log = nginx.wait_for_log(3);
    audit(&nginx, &log, &outcome, "children");
    let mut pids: Vec<_> = outcome.records().map(|record| record["process"]["pid"].as_u64()).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3, "each curl is a process of its own: {}", outcome.stdout());
}

#[test]
fn the_status_is_the_commands() {
    let refused = format!("http://127.0.0.1:{}/", unused_port());
    let cases: [(&[&str], i32); 4] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["curl", "-s", &refused], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
    ];
    for (command, code) in cases {
        let outcome = Tracer::launch(&[], command).wait();
        assert_eq!(outcome.status.code(), Some(code), "{command:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout(), "", "{command:?} made a record");
    }
}

#[test]
fn a_command_that_does_not_exist() {
    let outcome = Tracer::launch(&[], &["/no/such/command"]).wait();
    assert!(!outcome.status.success() && outcome.status.code() != Some(101), "{}: {}", outcome.status, outcome.stderr);
    assert!(outcome.stderr.contains("/no/such/command"), "{}", outcome.stderr);
}

/// A script whose children live for milliseconds, one after the other and then some at once: every request is seen.
#[test]
fn a_script_of_short_lived_children() {
    const SCRIPT: &str = r#"
fetch() { curl -s -k --http1.1 -o /dev/null "$url?id=$1" || echo "curl failed: $?" >&2; }
url=$1 number=0
while [ $number -lt $2 ]; do number=$((number + 1)); fetch $number; done
while [ $number -lt $(($2 + $3)) ]; do number=$((number + 1)); fetch $number & done
wait
"#;
    let (in_turn, at_once) = if virtual_machine() { (10, 4) } else { (200, 40) };
    for scheme in SCHEMES {
        let nginx = Nginx::start(NginxConfig::new(scheme));
        let arguments = [nginx.url("/small.txt"), in_turn.to_string(), at_once.to_string()];
        let [url, in_turn_text, at_once_text] = arguments.each_ref().map(String::as_str);
        let tracer = Tracer::launch(&[], &["sh", "-c", SCRIPT, "sh", url, in_turn_text, at_once_text]);
        // Each with the patience for one step.
        (0..=in_turn).step_by(50).for_each(|step| drop(nginx.wait_for_log(step)));
        let log = nginx.wait_for_log(in_turn + at_once);
        let outcome = tracer.wait();
        outcome.assert_success();
        assert!(!outcome.stderr.contains("curl failed"), "{}", outcome.stderr);
        audit(&nginx, &log, &outcome, &format!("a script, {scheme}"));
        assert!(outcome.records().all(|record| record["process"]["comm"] == "curl"), "{}", outcome.stdout());
    }
}
