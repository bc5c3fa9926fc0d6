//! Every TLS library that a gateway may have, one test a row of docs/tls.md.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Audit, Differences, Held, Nginx, NginxConfig, Outcome, Program, Role, Row, Scheme, Server, Tracer, certificate,
    run, unused_port, wait_until,
};

/// Connections that the client makes, two requests on each.
const CONNECTIONS: usize = 4;

/// A library that `scripts/fetch-libssl` has downloaded.
fn fetched(file: &str) -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/libssl");
    let path = std::env::var_os("TRACER_LIBSSL_DIR").map_or(default, PathBuf::from).join(file);
    assert!(path.exists(), "{} is missing: run scripts/setup --test", path.display());
    path.canonicalize().expect("it exists")
}

/// Where Debian has a library of this machine.
fn installed(name: &str) -> PathBuf {
    Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join(name)
}

/// Compares the records of the traced client with nginx's log and with what the client said itself.
fn audit(nginx: &Nginx, library: &'static str, said: &str, outcome: &Outcome) {
    outcome.assert_success();
    let log = nginx.wait_for_log(2 * CONNECTIONS);
    assert_eq!(outcome.records().count(), log.len(), "{}{}", outcome.stderr, outcome.stdout());
    Audit::new(nginx).role(Role::Client).library(library).compare(&log, &[], outcome.records(), library);
    let recorded = outcome.records().map(|record| {
        let Value::String(target) = &record["request"]["target"] else { panic!("{record}") };
        format!("{target} {} {}", record["response"]["status"], record["connection"]["local"]["port"])
    });
    assert_eq!(recorded.collect::<Vec<_>>(), said.lines().collect::<Vec<_>>());
    let ledger = outcome.ledger();
    ledger.assert_balanced();
    ledger.assert_nothing_lost();
}

/// Traces the client once its library is loaded.
fn trace_client(row: Row, library: &'static str, command: &mut Command, prepare: impl FnOnce()) {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let client = Held::start(command.arg(nginx.port.to_string()).arg(CONNECTIONS.to_string()));
    finish_client(row, library, &nginx, client, prepare);
}

fn finish_client(row: Row, library: &'static str, nginx: &Nginx, client: Held, prepare: impl FnOnce()) {
    prepare();
    let tracer = Tracer::attach(&[client.pid()], &[]);
    let said = client.go("\n");
    let outcome = tracer.wait();
    audit(nginx, library, &said, &outcome);
    row.passed(outcome.records());
}

/// The client with a pair of libraries that it loads.
fn trace_loaded(row: Row, library: &'static str, crypto: &Path, ssl: &Path, prepare: impl FnOnce()) {
    let program = Program::compile("gcc", "tls_client.c", &["-ldl".as_ref()]);
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut command = Command::new(program.path());
    command.args([nginx.port.to_string(), CONNECTIONS.to_string()]).arg(crypto).arg(ssl);
    // What they need themselves may be beside them.
    command.env("LD_LIBRARY_PATH", ssl.parent().expect("a file"));
    let client = Held::start(&command);
    finish_client(row, library, &nginx, client, prepare);
}

#[test]
fn openssl_1_0_2_from_a_wheel() {
    let row = Row::new("OpenSSL 1.0.2", "dynamic symbols, bundled under another name", "C client");
    let folder = fetched("bundled");
    let find = |start: &str| {
        let entries = folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path());
        let own = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        entries.into_iter().find(own).unwrap_or_else(|| panic!("no {start} in {}", folder.display()))
    };
    trace_loaded(row, "openssl", &find("libcrypto-"), &find("libssl-"), || {});
}

#[test]
fn openssl_1_1_shared() {
    let row = Row::new("OpenSSL 1.1.1 (Debian 11)", "dynamic symbols", "C client");
    trace_loaded(row, "openssl", &fetched("debian11/libcrypto.so.1.1"), &fetched("debian11/libssl.so.1.1"), || {});
}

#[test]
fn boringssl_shared() {
    let row = Row::new("BoringSSL (Debian 12, Android 13)", "dynamic symbols", "C client");
    let [crypto, ssl] = ["libcrypto.so.0", "libssl.so.0"].map(|file| fetched("debian12-boringssl").join(file));
    trace_loaded(row, "boringssl", &crypto, &ssl, || {});
}

/// A copy under another name; while the process runs, its file is deleted and another takes its place.
#[test]
fn a_copy_that_was_replaced() {
    let row = Row::new("OpenSSL 3.0 (Debian 12)", "dynamic symbols, file replaced since", "C client");
    let directory = tempfile::tempdir().expect("no temporary directory");
    let copy = directory.path().join("libbundled-1a2b3c.so");
    std::fs::copy(installed("libssl.so.3"), &copy).expect("cannot copy libssl");
    trace_loaded(row, "openssl", &installed("libcrypto.so.3"), &copy, || {
        std::fs::remove_file(&copy).expect("it was there");
        std::fs::write(&copy, "something else").expect("cannot write");
    });
}

/// The client with a release's OpenSSL linked into it.
fn linked(release: &str) -> Program {
    let [ssl, crypto] = ["libssl.a", "libcrypto.a"].map(|file| fetched(&format!("{release}/{file}")));
    let mut options: Vec<OsString> = vec!["-DLINKED".into(), ssl.into(), crypto.into()];
    options.extend(["-ldl", "-lpthread"].map(OsString::from));
    if release == "debian13" {
        options.extend(["-l:libz.so.1", "-l:libzstd.so.1"].map(OsString::from));
    }
    let options: Vec<&OsStr> = options.iter().map(OsString::as_os_str).collect();
    Program::compile("gcc", "tls_client.c", &options)
}

const RELEASES: [(&str, &str); 3] = [
    ("debian11", "OpenSSL 1.1.1 (Debian 11)"),
    ("debian12", "OpenSSL 3.0 (Debian 12)"),
    ("debian13", "OpenSSL 3.5 (Debian 13)"),
];

#[test]
fn openssl_linked_in() {
    for (release, name) in RELEASES {
        let program = linked(release);
        let row = Row::new(name, "symbol table of the executable", "C client");
        trace_client(row, "openssl", &mut Command::new(program.path()), || {});
    }
}

#[test]
fn openssl_linked_in_and_stripped() {
    for (release, name) in RELEASES {
        let program = linked(release);
        program.edit("strip", &["program"]);
        let row = Row::new(name, "error reports of the stripped executable", "C client");
        trace_client(row, "openssl", &mut Command::new(program.path()), || {});
    }
}

#[test]
fn openssl_with_packed_symbols() {
    let program = linked("debian12");
    program.edit("objcopy", &["--only-keep-debug", "--strip-debug", "program", "symbols"]);
    program.edit("xz", &["symbols"]);
    program.edit("strip", &["program"]);
    program.edit("objcopy", &["--add-section", ".gnu_debugdata=symbols.xz", "program"]);
    let row = Row::new("OpenSSL 3.0 (Debian 12)", ".gnu_debugdata of the stripped executable", "C client");
    trace_client(row, "openssl", &mut Command::new(program.path()), || {});
}

/// What cannot surely be found is named, and no record is made of it.
#[test]
fn a_stripped_library_that_cannot_be_found_is_named() {
    let program = linked("debian12");
    // What is left says that it is OpenSSL, but not which function is which.
    let bytes = std::fs::read(program.path()).expect("compiled");
    let hidden = replaced(&bytes, b"\0ssl_read_internal\0", b"\0xxx_xxxx_xxxxxxxx\0");
    std::fs::write(program.path(), hidden).expect("cannot write");
    program.edit("strip", &["program"]);
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut command = Command::new(program.path());
    let client = Held::start(command.args([nginx.port.to_string(), CONNECTIONS.to_string()]));
    let tracer = Tracer::attach(&[client.pid()], &[]);
    client.go("\n");
    let outcome = tracer.wait();
    outcome.assert_success();
    assert_eq!(outcome.stdout(), "");
    let warnings: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("warning")).collect();
    assert_eq!(warnings.len(), 1, "{}", outcome.stderr);
    assert!(warnings[0].contains("not surely found"), "{warnings:?}");
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, old).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

// --- Clients that bring their own way of speaking ----------------------------------------------------------------------

#[test]
fn gnutls_wget() {
    let row = Row::new("GnuTLS", "dynamic symbols", "wget");
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let urls: Vec<String> = (0..2 * CONNECTIONS).map(|id| nginx.url(&format!("/big.bin?id={id}"))).collect();
    let mut command = vec!["wget", "-q", "-4", "--no-check-certificate", "-O", "/dev/null"];
    command.extend(urls.iter().map(String::as_str));
    let outcome = Tracer::launch(&[], &command).wait();
    outcome.assert_success();
    let log = nginx.wait_for_log(urls.len());
    assert_eq!(outcome.records().count(), urls.len(), "{}{}", outcome.stderr, outcome.stdout());
    Audit::new(&nginx).role(Role::Client).library("gnutls").compare(&log, &[], outcome.records(), "wget");
    outcome.ledger().assert_nothing_lost();
    row.passed(outcome.records());
}

const TWO_REQUESTS: [&str; 2] = [
    "GET /small.txt?id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /small.txt?id=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
];

/// A client that is connected already and sends what it reads.
fn interactive(row: Row, library: &'static str, nginx: &Nginx, mut client: Held) {
    let tracer = Tracer::attach(&[client.pid()], &[]);
    for (before, request) in TWO_REQUESTS.into_iter().enumerate() {
        client.send(request);
        tracer.wait_for(before + 1);
    }
    // Some end when the server closes the connection, others do not.
    drop(client);
    let outcome = tracer.wait();
    outcome.assert_success();
    let log = nginx.wait_for_log(2);
    assert_eq!(outcome.records().count(), 2, "{}{}", outcome.stderr, outcome.stdout());
    Audit::new(nginx).role(Role::Client).library(library).compare(&log, &[], outcome.records(), library);
    row.passed(outcome.records());
}

#[test]
fn gnutls_cli() {
    let row = Row::new("GnuTLS", "dynamic symbols", "gnutls-cli");
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut command = Command::new("gnutls-cli");
    command.args(["--insecure", "--port", &nginx.port.to_string(), "127.0.0.1"]);
    let client = Held::start_until(&command, "Simple Client Mode");
    interactive(row, "gnutls", &nginx, client);
}

/// It reads its input and writes its output by the functions that it uses for TLS too.
#[test]
fn nss_tstclnt() {
    let row = Row::new("NSS", "dynamic symbols of NSPR, TLS layers told by their methods", "tstclnt");
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let database = nss_database();
    let port = nginx.port.to_string();
    let mut command = Command::new("tstclnt");
    command.args(["-h", "127.0.0.1", "-p", &port, "-o", "-v", "-d"]).arg(database.path()).arg("-V").arg("tls1.2:");
    let shell = format!("{command:?} 2>&1").replace("\\\"", "\"");
    let client = Held::start_until(Command::new("sh").args(["-c", &format!("exec {shell}")]), "ready");
    interactive(row, "nss", &nginx, client);
}

// --- Servers -----------------------------------------------------------------------------------------------------------

/// A request as the client knows it.
struct Asked {
    target: String,
    status: u64,
    port: u64,
}

/// Two requests by one curl.
fn curl(port: u16, number: usize) -> Vec<Asked> {
    let targets = ["a", "b"].map(|letter| format!("/?id={number}{letter}"));
    let mut command = Command::new("curl");
    command.args(["-s", "-k", "--http1.1", "-w", "%{http_code} %{local_port}\\n"]);
    for target in &targets {
        command.args(["-o", "/dev/null", &format!("https://127.0.0.1:{port}{target}")]);
    }
    let said = String::from_utf8(run(&mut command).stdout).expect("UTF-8");
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("curl: {said}"));
    let lines = targets.into_iter().zip(said.lines());
    let asked = lines.map(|(target, line)| {
        let mut words = line.split(' ');
        Asked { target, status: number(words.next()), port: number(words.next()) }
    });
    asked.collect()
}

/// Traces a server and compares its records with what its clients know.
fn trace_server(row: Row, library: &'static str, command: &mut Command, port: u16, allow_unbound: bool) {
    let server = Server::start(command, Signal::TERM);
    wait_until("the server serves", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let tracer = Tracer::attach(&[server.pid()], &[]);
    let asked: Vec<Asked> = (0..CONNECTIONS).flat_map(|number| curl(port, number)).collect();
    tracer.wait_for(asked.len());
    let outcome = tracer.stop();
    let records: Vec<Value> = outcome.records().collect();
    assert_eq!(records.len(), asked.len(), "{}{}", outcome.stderr, outcome.stdout());
    let mut differences = Differences::default();
    for asked in &asked {
        let own = |record: &&Value| record["request"]["target"] == asked.target.as_str();
        let Some(record) = records.iter().find(own) else {
            differences.add(|| format!("no record of {}: {records:?}", asked.target));
            continue;
        };
        differences.field(record, "/protocol", "http");
        differences.field(record, "/response/status", asked.status);
        differences.field(record, "/connection/role", "server");
        differences.field(record, "/connection/tls/library", library);
        differences.field(record, "/integrity/complete", true);
        if record["connection"]["tuple_source"] == "none" {
            // What came with the end of the handshake is read without a call on the socket.
            differences.expect(allow_unbound, || format!("no tuple: {record}"));
            differences.field(record, "/connection/local", Value::Null);
            differences.field(record, "/connection/remote", Value::Null);
            continue;
        }
        differences.field(record, "/connection/local/address", "127.0.0.1");
        differences.field(record, "/connection/local/port", port);
        differences.field(record, "/connection/remote/address", "127.0.0.1");
        differences.field(record, "/connection/remote/port", asked.port);
    }
    differences.assert_none(library);
    outcome.ledger().assert_nothing_lost();
    row.passed(records);
}

fn certificates() -> TempDir {
    let directory = tempfile::tempdir().expect("no temporary directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("own directory");
    certificate::make(directory.path());
    directory
}

#[test]
fn gnutls_serv() {
    let row = Row::new("GnuTLS", "dynamic symbols", "gnutls-serv");
    let (directory, port) = (certificates(), unused_port());
    let mut command = Command::new("gnutls-serv");
    command.args(["--http", "--quiet", "--port", &port.to_string(), "--x509keyfile"]);
    command.arg(directory.path().join("key.pem")).arg("--x509certfile").arg(directory.path().join("cert.pem"));
    trace_server(row, "gnutls", &mut command, port, false);
}

/// A database of NSS with the certificate of [`certificate`] under the name "server".
fn nss_database() -> TempDir {
    let directory = certificates();
    let path = directory.path();
    run(Command::new("certutil").args(["-N", "--empty-password", "-d"]).arg(path));
    let mut export = Command::new("openssl");
    export.args(["pkcs12", "-export", "-name", "server", "-passout", "pass:", "-inkey", "key.pem", "-in", "cert.pem"]);
    run(export.args(["-out", "both.p12"]).current_dir(path));
    run(Command::new("pk12util").args(["-i", "both.p12", "-W", "", "-d", "."]).current_dir(path));
    directory
}

#[test]
fn nss_selfserv() {
    let row = Row::new("NSS", "dynamic symbols of NSPR, TLS layers told by their methods", "selfserv");
    let (database, port) = (nss_database(), unused_port());
    let mut command = Command::new("selfserv");
    command.args(["-p", &port.to_string(), "-V", "tls1.2:", "-e", "server", "-d"]).arg(database.path());
    trace_server(row, "nss", &mut command, port, false);
}

#[test]
fn openssl_apache2() {
    let row = Row::new("OpenSSL 3.0 (Debian 12)", "dynamic symbols", "apache2");
    let (directory, port) = (certificates(), unused_port());
    let dir = directory.path().display();
    std::fs::write(directory.path().join("index.html"), "Hello\n").expect("cannot write");
    let modules = ["mpm_event", "authz_core", "dir", "ssl"];
    let modules: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let file = directory.path().join("apache2.conf");
    let configuration = format!(
        "{modules}ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {dir}/pid\nErrorLog {dir}/error.log\n\
         Mutex file:{dir}\nDefaultRuntimeDir {dir}\nUser www-data\nGroup www-data\nDocumentRoot {dir}\n\
         DirectoryIndex index.html\nSSLEngine on\nSSLCertificateFile {dir}/cert.pem\n\
         SSLCertificateKeyFile {dir}/key.pem\n"
    );
    std::fs::write(&file, configuration).expect("cannot write");
    let mut command = Command::new("apache2");
    command.arg("-d").arg(directory.path()).arg("-f").arg(&file).arg("-DFOREGROUND");
    trace_server(row, "openssl", &mut command, port, true);
}

#[test]
fn openssl_haproxy() {
    let row = Row::new("OpenSSL 3.0 (Debian 12)", "dynamic symbols", "haproxy");
    let (directory, port) = (certificates(), unused_port());
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect("made before");
    let both = directory.path().join("both.pem");
    std::fs::write(&both, read("cert.pem") + &read("key.pem")).expect("cannot write");
    let file = directory.path().join("haproxy.cfg");
    let configuration = format!(
        "global\n  nbthread 2\ndefaults\n  mode http\n  timeout client 20s\n  timeout connect 5s\n\
         frontend https\n  bind 127.0.0.1:{port} ssl crt {}\n\
         \x20 http-request return status 200 content-type text/plain string Hello\n",
        both.display()
    );
    std::fs::write(&file, configuration).expect("cannot write");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    trace_server(row, "openssl", &mut command, port, false);
}
