//! Every way in which the socket of a TLS session is found ("tuple_source"), against what the server or the client
//! itself knows of its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Client, Differences, Held, Nginx, NginxConfig, Outcome, Request, Row, Scheme, Server, Tracer, make_certificate,
    run, unused_port, wait_until,
};

/// A program under test, with a certificate beside it. What it prints is a log.
struct Program {
    server: Server,
    directory: TempDir,
    /// Where it listens; 0 if it does not.
    port: u16,
}

/// A request as a server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Served {
    target: String,
    /// The client's port.
    peer: u16,
    /// A proxy's own port on the other side.
    onward: Option<u16>,
}

impl Program {
    /// Starts a command in a directory of its own. It prints its port first if `listens`.
    fn start(directory: TempDir, command: &[&str], listens: bool) -> Self {
        let output = |name| File::create(directory.path().join(name)).expect("a temporary file");
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "--"]).args(command).current_dir(directory.path());
        wrapped.stdin(Stdio::null()).stdout(output("log")).stderr(output("stderr"));
        let mut program = Self { server: Server::spawn(&mut wrapped, Signal::TERM), directory, port: 0 };
        if listens {
            wait_until(&format!("{command:?} listens"), || {
                assert!(program.server.ended().is_none(), "{command:?} has ended: {}", program.read("stderr"));
                program.read("log").contains('\n')
            });
            program.port = program.read("log").lines().next().and_then(|line| line.parse().ok()).expect("a port");
        }
        program
    }

    /// Starts a script of `programs/` as a server with a certificate.
    fn script(interpreter: &str, name: &str, text: &str, arguments: &[&str]) -> Self {
        let directory = prepared();
        std::fs::write(directory.path().join(name), text).expect("a temporary file");
        let command = [&[interpreter, name, "cert.pem", "key.pem"][..], arguments].concat();
        Self::start(directory, &command, true)
    }

    /// Starts the server that is written in C.
    fn tls_server(mode: &str, arguments: &[&str]) -> Self {
        let directory = prepared();
        compile(&directory, "tls_server", include_str!("programs/tls_server.c"), &["-lssl", "-lcrypto"]);
        Self::start(directory, &[&["./tls_server", mode, "cert.pem", "key.pem"][..], arguments].concat(), true)
    }

    fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// The requests that it has logged in `file`, once there are that many.
    fn served_in(&self, file: &str, skip: usize, count: usize) -> Vec<Served> {
        let mut served = Vec::new();
        wait_until(&format!("{count} requests are logged"), || {
            let log = self.read(file);
            let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).skip(skip);
            served = complete.map(Served::parse).collect();
            served.len() >= count
        });
        assert_eq!(served.len(), count, "{served:?}");
        served
    }

    fn served(&self, count: usize) -> Vec<Served> {
        self.served_in("log", 1, count)
    }
}

impl Served {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let target = words.next().expect("a target").to_owned();
        let mut port = || words.next().map(|word| word.parse().unwrap_or_else(|_| panic!("not a port: {line}")));
        Self { target, peer: port().expect("a port"), onward: port() }
    }
}

fn compile(directory: &TempDir, name: &str, text: &str, libraries: &[&str]) {
    let source = directory.path().join(name).with_extension("c");
    std::fs::write(&source, text).expect("a temporary file");
    run(Command::new("cc").arg("-O1").arg("-o").arg(directory.path().join(name)).arg(&source).args(libraries));
}

/// A directory with a certificate and its key.
fn prepared() -> TempDir {
    let directory = tempfile::tempdir().expect("no temporary directory");
    make_certificate(directory.path());
    directory
}

/// Asks a server for targets, one after another on one connection.
fn curl(port: u16, targets: &[&str]) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-S", "-k", "--http1.1", "--max-time", "60"]);
    for target in targets {
        curl.args(["-o", "/dev/null"]).arg(format!("https://127.0.0.1:{port}{target}"));
    }
    run(&mut curl);
}

/// What the records of one side of a program should be.
struct Side<'a> {
    role: &'a str,
    source: &'a str,
    /// Of the server that it is or asks.
    port: u16,
}

impl Side<'_> {
    /// Compares the records with what was served: one for each, on the connection that it came by; connections are told
    /// apart exactly as the peers' ports are.
    fn compare(&self, records: &[&Value], served: &[Served], client: impl Fn(&Served) -> u16, context: &str) {
        let mut differences = Differences::default();
        differences.expect(records.len() == served.len(), || format!("{} of {}", records.len(), served.len()));
        let mut ids = BTreeMap::new();
        for request in served {
            let own = records.iter().filter(|record| record["request"]["target"] == request.target.as_str());
            let [record] = own.collect::<Vec<_>>()[..] else {
                differences.add(|| format!("not one record of {request:?}"));
                continue;
            };
            let (own, other) = if self.role == "server" { ("local", "remote") } else { ("remote", "local") };
            differences.field(record, "/connection/role", self.role);
            let source = record["connection"]["tuple_source"].as_str().unwrap_or_default();
            differences.expect(self.source.split(" or ").any(|one| one == source), || format!("{source}: {record}"));
            differences.field(record, &format!("/connection/{own}/port"), self.port);
            differences.field(record, &format!("/connection/{other}/port"), client(request));
            differences.field(record, "/connection/tls/library", "openssl");
            differences.field(record, "/response/status", 200);
            differences.field(record, "/integrity/complete", true);
            ids.entry(client(request)).or_insert_with(BTreeSet::new).insert(record["connection"]["id"].as_str());
        }
        let distinct: BTreeSet<_> = ids.values().flatten().collect();
        differences
            .expect(distinct.len() == ids.len() && ids.values().all(|ids| ids.len() == 1), || format!("{ids:?}"));
        differences.assert_none(context);
    }
}

fn records<'a>(all: &'a [Value], role: &str) -> Vec<&'a Value> {
    all.iter().filter(|record| record["connection"]["role"] == role).collect()
}

/// What a program served, compared with the records of its being traced.
fn compare_server(program: &Program, source: &str, served: &[Served], outcome: &Outcome, context: &str) {
    let all: Vec<Value> = outcome.records().collect();
    let side = Side { role: "server", source, port: program.port };
    side.compare(&all.iter().collect::<Vec<_>>(), served, |request| request.peer, context);
    let ledger = outcome.ledger();
    ledger.assert_nothing_lost();
    assert_eq!(ledger.get("connections tuple disagreements"), 0, "{context}");
}

/// A row of docs/tls.md.
fn row(peer: &'static str) -> Row {
    Row::new("OpenSSL", "dynamic symbols", peer)
}

/// Traces a server from before its connections.
fn trace_server(program: &Program, source: &str, peer: &'static str) {
    let row = row(peer);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    for connection in 0..3 {
        let targets = ["a", "b", "big", "c"].map(|name| format!("/{name}?connection={connection}"));
        curl(program.port, &targets.each_ref().map(String::as_str));
    }
    let served = program.served(12);
    tracer.wait_for(12);
    let outcome = tracer.stop();
    compare_server(program, source, &served, &outcome, peer);
    row.passed(outcome.records());
}

#[test]
fn node_as_server() {
    trace_server(&node_server(), "ciphertext", "Node.js server");
}

#[test]
fn asyncio_as_server() {
    trace_server(&asyncio_server(&[]), "ciphertext", "Python asyncio server");
}

#[test]
fn sessions_that_go_from_thread_to_thread() {
    let program = Program::script("python3", "threads_server.py", include_str!("programs/threads_server.py"), &[]);
    trace_server(&program, "nested", "Python server, sessions that change threads");
}

/// One SSL object for all connections, and one file descriptor.
#[test]
fn a_session_object_that_is_cleared_and_used_again() {
    trace_server(&Program::tls_server("clear", &[]), "nested", "C server, one object for all sessions");
}

#[test]
fn a_descriptor_for_each_direction() {
    trace_server(&Program::tls_server("two", &[]), "nested", "C server, a descriptor for each direction");
}

fn node_server() -> Program {
    Program::script("node", "node_server.js", include_str!("programs/node_server.js"), &[])
}

fn asyncio_server(arguments: &[&str]) -> Program {
    Program::script("python3", "asyncio_server.py", include_str!("programs/asyncio_server.py"), arguments)
}

/// Connections that were open before: already the first response has its addresses, though what shows them is sent only
/// when the response has been written.
#[test]
fn memory_sessions_open_before() {
    for program in [node_server(), asyncio_server(&[])] {
        let mut clients: Vec<Client> = (0..3).map(|_| Client::to_tls(program.port)).collect();
        let get = |client: &mut Client| client.call(Request::get("/small"));
        clients.iter_mut().for_each(|client| drop(get(client)));
        let tracer = Tracer::attach(&[program.pid()], &[]);
        clients.iter_mut().for_each(|client| drop((get(client), get(client))));
        let served = program.served(9);
        tracer.wait_for(6);
        compare_server(&program, "ciphertext", &served[3..], &tracer.stop(), "open before");
    }
}

/// As [`Side::compare`], of a client that is traced, with nginx's log.
fn compare_client(nginx: &Nginx, source: &str, count: usize, outcome: &Outcome, context: &str) {
    let served: Vec<Served> = nginx
        .wait_for_log(count)
        .iter()
        .map(|entry| Served {
            target: entry["target"].as_str().expect("a target").to_owned(),
            peer: entry["remote_port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port"),
            onward: None,
        })
        .collect();
    assert_eq!(served.len(), count, "{context}");
    let all: Vec<Value> = outcome.records().collect();
    let side = Side { role: "client", source, port: nginx.port };
    side.compare(&all.iter().collect::<Vec<_>>(), &served, |request| request.peer, context);
}

#[test]
fn node_as_client() {
    let row = row("Node.js client");
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let script = tempfile::Builder::new().suffix(".js").tempfile().expect("no temporary file");
    std::fs::write(script.path(), include_str!("programs/node_client.js")).expect("a temporary file");
    let (path, port) = (script.path().to_str().expect("UTF-8"), nginx.port.to_string());
    let outcome = Tracer::launch(&[], &["node", path, &port]).wait();
    outcome.assert_success();
    outcome.ledger().assert_nothing_lost();
    compare_client(&nginx, "ciphertext", 10, &outcome, "Node.js as client");
    row.passed(outcome.records());
}

/// TLS on both sides in one thread, over memory.
#[test]
fn a_proxy_over_memory() {
    let row = row("Python asyncio proxy, TLS on both sides");
    let upstream = node_server();
    let program = asyncio_server(&[&upstream.port.to_string()]);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    for connection in 0..3 {
        let targets = ["a", "b", "c"].map(|name| format!("/{name}?connection={connection}"));
        curl(program.port, &targets.each_ref().map(String::as_str));
    }
    tracer.wait_for(18);
    let outcome = tracer.stop();
    both_sides(&outcome, &program.served(9), program.port, upstream.port, "ciphertext");
    row.passed(outcome.records());
}

/// A record for each side of each request, each with its own connection.
fn both_sides(outcome: &Outcome, served: &[Served], outer: u16, inner: u16, source: &str) {
    let all: Vec<Value> = outcome.records().collect();
    assert_eq!(all.len(), 2 * served.len(), "{}", outcome.stdout());
    let answered = Side { role: "server", source, port: outer };
    answered.compare(&records(&all, "server"), served, |request| request.peer, "answered");
    let asked = Side { role: "client", source, port: inner };
    asked.compare(&records(&all, "client"), served, |request| request.onward.expect("a port"), "asked");
    assert_eq!(outcome.ledger().get("connections tuple disagreements"), 0);
}

#[test]
fn haproxy() {
    let row = row("haproxy, TLS on both sides");
    let upstream = Program::script("node", "node_server.js", include_str!("programs/node_server.js"), &[]);
    let directory = prepared();
    let pem = ["cert.pem", "key.pem"].map(|name| std::fs::read_to_string(directory.path().join(name)).expect("made"));
    std::fs::write(directory.path().join("both.pem"), pem.concat()).expect("a temporary file");
    let port = unused_port();
    let configuration = format!(
        "global\n log stdout format raw daemon\n nbthread 1\ndefaults\n mode http\n timeout connect 20s\n \
         timeout client 60s\n timeout server 60s\nfrontend outer\n bind 127.0.0.1:{port} ssl crt both.pem alpn http/1.1\n \
         log global\n log-format \"%HU %cp %bp\"\n default_backend inner\nbackend inner\n \
         server one 127.0.0.1:{} ssl verify none\n",
        upstream.port
    );
    std::fs::write(directory.path().join("haproxy.cfg"), configuration).expect("a temporary file");
    let mut program = Program::start(directory, &["haproxy", "-db", "-f", "haproxy.cfg"], false);
    program.port = port;
    wait_until("haproxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let tracer = Tracer::attach(&[program.pid()], &[]);
    for connection in 0..3 {
        let targets = ["a", "b", "c"].map(|name| format!("/{name}?connection={connection}"));
        curl(port, &targets.each_ref().map(String::as_str));
    }
    tracer.wait_for(18);
    let outcome = tracer.stop();
    let served: Vec<Served> =
        upstream.served(9).into_iter().map(|request| Served { onward: Some(request.peer), ..request }).collect();
    let logged = program.read("log");
    let served: Vec<Served> = served
        .into_iter()
        .map(|request| {
            let line =
                logged.lines().find(|line| line.split(' ').next() == Some(request.target.as_str())).expect("a line");
            Served { peer: Served::parse(line).peer, ..request }
        })
        .collect();
    both_sides(&outcome, &served, port, upstream.port, "nested");
    row.passed(outcome.records());
}

#[test]
fn apache() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = prepared();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("own directory");
    std::fs::create_dir(directory.path().join("files")).expect("a temporary directory");
    for name in ["a", "b", "big", "c"] {
        let length = if name == "big" { 100_000 } else { 3 };
        std::fs::write(directory.path().join("files").join(name), vec![b'x'; length]).expect("a temporary file");
    }
    let (port, root) = (unused_port(), directory.path().display().to_string());
    let modules = ["mpm_event", "authz_core", "ssl"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let configuration = format!(
        "ServerRoot {root}\nServerName localhost\nDefaultRuntimeDir {root}\nMutex sem\n{}Listen 127.0.0.1:{port}\nPidFile {root}/pid\nErrorLog {root}/error\n\
         User www-data\nGroup www-data\nStartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n\
         LogFormat \"%U%q %{{remote}}p\" ports\nCustomLog {root}/access ports\nDocumentRoot {root}/files\n\
         SSLEngine on\nSSLCertificateFile {root}/cert.pem\nSSLCertificateKeyFile {root}/key.pem\n",
        modules.concat()
    );
    std::fs::write(directory.path().join("apache.conf"), configuration).expect("a temporary file");
    let conf = format!("{root}/apache.conf");
    let mut program = Program::start(directory, &["apache2", "-D", "FOREGROUND", "-f", &conf], false);
    program.port = port;
    wait_until("apache listens", || {
        assert!(program.server.ended().is_none(), "apache: {}{}", program.read("stderr"), program.read("error"));
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let tracer = Tracer::attach(&[program.pid()], &[]);
    for connection in 0..3 {
        let targets = ["a", "b", "big", "c"].map(|name| format!("/{name}?connection={connection}"));
        curl(port, &targets.each_ref().map(String::as_str));
    }
    let served = program.served_in("access", 0, 12);
    tracer.wait_for(12);
    // A request that comes with the end of the handshake is read without a socket call of its own.
    compare_server(&program, "nested or ciphertext", &served, &tracer.stop(), "Apache");
}

/// The library has read the request with the end of the handshake, and writes to a buffer: nothing but the file
/// descriptor tells the socket. The second request is read by a call of its own.
#[test]
fn a_descriptor_is_all_there_is() {
    let program = Program::tls_server("buffered", &[]);
    let client = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(client.path(), include_str!("programs/memory_client.py")).expect("a temporary file");
    let tracer = Tracer::attach(&[program.pid()], &[]);
    run(Command::new("python3").arg(client.path()).arg(program.port.to_string()).args(["/first", "/second"]));
    let served = program.served(2);
    tracer.wait_for(2);
    let outcome = tracer.stop();
    let all: Vec<Value> = outcome.records().collect();
    assert_eq!(all.len(), 2, "{}", outcome.stdout());
    for (record, (request, source)) in all.iter().zip(served.iter().zip(["fd", "nested"])) {
        let side = Side { role: "server", source, port: program.port };
        side.compare(&[record], std::slice::from_ref(request), |request| request.peer, "buffered");
    }
    assert_eq!(all[0]["connection"]["id"], all[1]["connection"]["id"]);
    assert_eq!(outcome.ledger().get("connections tuple disagreements"), 0);
}

/// A descriptor says one socket, and the calls inside of the TLS calls another: these are right, and it is counted.
#[test]
fn two_sources_that_disagree() {
    let program = Program::tls_server("swapped", &[]);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    let idle = std::net::TcpStream::connect(("127.0.0.1", program.port)).expect("it listens");
    curl(program.port, &["/one", "/two"]);
    let served = program.served(2);
    tracer.wait_for(2);
    drop(idle);
    let outcome = tracer.stop();
    let all: Vec<Value> = outcome.records().collect();
    let side = Side { role: "server", source: "nested", port: program.port };
    side.compare(&all.iter().collect::<Vec<_>>(), &served, |request| request.peer, "swapped");
    assert_eq!(outcome.ledger().get("connections tuple disagreements"), 1, "{}", outcome.stderr);
}

/// A program whose sessions have sockets does not pay for those that have none.
#[test]
fn ciphertext_is_looked_at_only_where_it_is_needed() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let tracer = Tracer::attach(&[nginx.pid()], &[]);
    curl(nginx.port, &["/small.txt?id=1", "/small.txt?id=2"]);
    tracer.wait_for(2);
    let outcome = tracer.stop();
    assert_eq!(outcome.ledger().sum("hook tls_ciphertext"), 0, "{}", outcome.stderr);
    for record in outcome.records() {
        assert_eq!(record["connection"]["tuple_source"], "nested", "{record}");
    }
}

/// The same client port, again and again: each connection is one of its own.
#[test]
fn a_port_that_is_used_again() {
    let program = Program::tls_server("plain", &[]);
    let client = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(client.path(), include_str!("programs/same_port_client.py")).expect("a temporary file");
    let tracer = Tracer::attach(&[program.pid()], &[]);
    let port = unused_port();
    let targets: Vec<String> = (0..5).map(|number| format!("/again?{number}")).collect();
    run(Command::new("python3").arg(client.path()).args([program.port.to_string(), port.to_string()]).args(&targets));
    program.served(5);
    tracer.wait_for(5);
    let all: Vec<Value> = tracer.stop().records().collect();
    let mut differences = Differences::default();
    for (record, target) in all.iter().zip(&targets) {
        differences.field(record, "/request/target", target.as_str());
        differences.field(record, "/connection/remote/port", port);
        differences.field(record, "/connection/tuple_source", "nested");
        differences.field(record, "/sequence", 0);
        differences.field(record, "/integrity/complete", true);
    }
    let ids: BTreeSet<_> = all.iter().map(|record| record["connection"]["id"].to_string()).collect();
    differences.expect(ids.len() == 5, || format!("{ids:?}"));
    differences.assert_none("one port");
}

/// A handshake in the middle of the connection (TLS 1.2).
#[test]
fn renegotiation() {
    let row = row("C server, renegotiation");
    let program = Program::tls_server("renegotiate", &[]);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    let request = |target: &str| format!("GET {target} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n");
    let typed = format!(
        "(sleep 1; printf '{}'; sleep 1; echo R; sleep 1; printf '{}'; sleep 1) | \
         openssl s_client -tls1_2 -connect 127.0.0.1:{} > {}/client 2>&1",
        request("/before"),
        request("/after"),
        program.port,
        program.path().display()
    );
    run(Command::new("sh").arg("-c").arg(typed));
    assert!(program.read("client").contains("RENEGOTIATING"), "{}", program.read("client"));
    let served = program.served(2);
    tracer.wait_for(2);
    let outcome = tracer.stop();
    compare_server(&program, "nested", &served, &outcome, "renegotiation");
    row.passed(outcome.records());
}

/// A request that comes with the first flight of a resumed session (TLS 1.3).
#[test]
fn early_data() {
    let row = row("C server, early data");
    let program = Program::tls_server("early", &[]);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    let directory = program.path().display();
    std::fs::write(program.path().join("request"), "GET /early HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a file");
    let client = format!("openssl s_client -tls1_3 -connect 127.0.0.1:{}", program.port);
    let script = format!(
        "(printf 'GET /first HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'; sleep 1) | \
         {client} -sess_out {directory}/session > {directory}/client 2>&1; \
         sleep 1 | {client} -sess_in {directory}/session -early_data {directory}/request >> {directory}/client 2>&1"
    );
    run(Command::new("sh").arg("-c").arg(script));
    assert!(program.read("client").contains("Early data was accepted"), "{}", program.read("client"));
    let served = program.served(2);
    tracer.wait_for(2);
    let outcome = tracer.stop();
    compare_server(&program, "nested", &served, &outcome, "early data");
    row.passed(outcome.records());
}

/// GnuTLS puts early data aside on both sides: the client's goes out by a call inside of the handshake, the server's has
/// been read there before it is asked for.
#[test]
fn gnutls_early_data() {
    let row = Row::new("GnuTLS", "dynamic symbols", "C server and client, early data");
    let directory = prepared();
    compile(&directory, "gnutls_early", include_str!("programs/gnutls_early.c"), &["-lgnutls"]);
    let mut client = Command::new(directory.path().join("gnutls_early"));
    let server = Program::start(directory, &["./gnutls_early", "server", "cert.pem", "key.pem"], true);
    let client = Held::start(client.args(["client", &server.port.to_string()]));
    let tracer = Tracer::attach(&[server.pid(), client.pid()], &[]);
    client.go("\n");
    let served = server.served(5);
    tracer.wait_for(10);
    let outcome = tracer.stop();
    let exchange = |role: &str, target: &str, from: u64, to: u64| format!("{role} {target} from {from} to {to}");
    let expected = served.iter().flat_map(|request| {
        let (target, peer, port) = (&*request.target, request.peer.into(), server.port.into());
        [exchange("client", target, peer, port), exchange("server", target, port, peer)]
    });
    let recorded = outcome.records().map(|record| {
        let connection = &record["connection"];
        assert!(record["integrity"]["complete"] == true && record["response"]["status"] == 200, "{record}");
        assert_eq!(connection["tls"]["library"], "gnutls", "{record}");
        let port = |end: &str| connection[end]["port"].as_u64().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        exchange(&text(&connection["role"]), &text(&record["request"]["target"]), port("local"), port("remote"))
    });
    assert_eq!(recorded.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>(), "{}", outcome.stdout());
    assert_eq!(outcome.records().count(), 10);
    outcome.ledger().assert_nothing_lost();
    assert_eq!(outcome.ledger().get("connections tuple disagreements"), 0);
    row.passed(outcome.records());
}

/// A call is left by a jump, and the thread then talks to another server in the clear, from far below on its stack:
/// nothing of that is taken for ciphertext, and the next session is traced as ever.
#[test]
fn a_call_that_is_left_by_a_jump() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
    let program = Program::tls_server("jump", &[&nginx.port.to_string()]);
    let tracer = Tracer::attach(&[program.pid()], &[]);
    let url = format!("https://127.0.0.1:{}/jump", program.port);
    let status = Command::new("curl").args(["-s", "-k", "--max-time", "20", &url]).status().expect("curl");
    assert!(!status.success(), "the server was to jump out of its response");
    curl(program.port, &["/next?1", "/next?2"]);
    let served = program.served(2);
    tracer.wait_for(4);
    let outcome = tracer.stop();
    let all: Vec<Value> = outcome.records().collect();
    let plain: Vec<&Value> = records(&all, "client");
    let [plain] = plain[..] else { panic!("not one plain record: {all:?}") };
    let entry = nginx.wait_for_log(1).remove(0);
    let mut differences = Differences::default();
    differences.field(plain, "/request/target", "/small.txt?id=plain");
    differences.field(plain, "/connection/tuple_source", "socket");
    differences.field(plain, "/connection/tls", Value::Null);
    differences.field(plain, "/connection/local/port", entry["remote_port"].clone());
    differences.field(plain, "/connection/remote/port", nginx.port);
    differences.field(plain, "/integrity/complete", true);
    differences.assert_none("in the clear");
    let complete: Vec<&Value> =
        records(&all, "server").into_iter().filter(|record| record["integrity"]["complete"] == true).collect();
    let side = Side { role: "server", source: "nested", port: program.port };
    side.compare(&complete, &served, |request| request.peer, "after the jump");
}

/// An interpreter imports ssl when it has long been traced, and asks at once: the installed library.
#[test]
fn a_library_that_is_loaded_late() {
    late_import(&[], "0");
}

/// The same with a library that is nowhere where libraries are looked for, under a name of its own folder. It may take
/// some moments to be found.
#[test]
fn a_library_from_elsewhere_that_is_loaded_late() {
    let directory = tempfile::tempdir().expect("no temporary directory");
    let script = format!(
        "for name in libssl.so.3 libcrypto.so.3; do cp $(ldconfig -p | sed -n \"s/.*$name.* => //p\" | head -n 1) {}/$name; done",
        directory.path().display()
    );
    run(Command::new("sh").arg("-c").arg(script));
    late_import(&[&format!("LD_LIBRARY_PATH={}", directory.path().display())], "2");
}

fn late_import(environment: &[&str], pause: &str) {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let directory = prepared();
    std::fs::write(directory.path().join("late_client.py"), include_str!("programs/late_client.py")).expect("a file");
    let port = nginx.port.to_string();
    let command = [&["env"][..], environment, &["python3", "late_client.py", "go", &port, pause]].concat();
    let mut program = Program::start(directory, &command, false);
    wait_until("Python runs", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", program.pid())).unwrap_or_default();
        name.starts_with("python")
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let tracer = Tracer::attach(&[program.pid()], &[]);
    std::fs::write(program.path().join("go"), "").expect("a file");
    assert!(program.server.wait("the client").success(), "{}", program.read("stderr"));
    let outcome = tracer.wait();
    outcome.assert_success();
    compare_client(&nginx, "nested", 3, &outcome, "loaded late");
}
