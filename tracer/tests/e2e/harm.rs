//! What tracing must not do: a traced process loses no request, does not crash, and has nothing left in it afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use procfs::process::{MMPermissions, MMapPath, Process};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::go;
use crate::support::{
    Nginx, NginxConfig, Scheme, Server, Tracer, bound, make_certificate, run, virtual_machine, wait_until,
};

const NODE: &str = r"
const fs = require('fs'), https = require('https');
const [certificate, key] = process.argv.slice(1).map(name => fs.readFileSync(name));
const server = https.createServer({ cert: certificate, key }, (request, response) => response.end('hello'));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

/// A server that prints lines when it is ready, with a certificate beside it.
struct Program {
    server: Server,
    lines: BufReader<std::process::ChildStdout>,
    _directory: TempDir,
}

impl Program {
    /// Starts a command whose arguments may be "cert.pem" and "key.pem".
    fn start(command: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        make_certificate(directory.path());
        let mut plain = Command::new(command[0]);
        plain.args(&command[1..]).current_dir(directory.path());
        let mut command = bound(&plain);
        let mut server = Server::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()), Signal::TERM);
        let lines = BufReader::new(server.streams().stdout.take().expect("piped"));
        Self { server, lines, _directory: directory }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        line.trim_end().to_owned()
    }

    fn url(&mut self) -> String {
        format!("https://127.0.0.1:{}/", self.line())
    }
}

/// Load until it is ended.
struct Load(Server);

impl Load {
    fn start(url: &str) -> Self {
        let mut plain = Command::new("wrk");
        // An overloaded machine is no failure.
        plain.args(["-t1", "-c4", "-d3600s", "--timeout", "60s", url]);
        Self(Server::spawn(bound(&plain).stdin(Stdio::null()).stdout(Stdio::piped()), Signal::INT))
    }

    /// How many requests were answered. None may have failed.
    fn stop(mut self) -> u64 {
        assert!(self.0.stop("wrk").success());
        let mut said = String::new();
        self.0.streams().stdout.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        // It prints these only if there were any.
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
        let requests = said.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok());
        requests.unwrap_or_else(|| panic!("no requests: {said}"))
    }
}

fn process(pid: u32) -> Process {
    Process::new(i32::try_from(pid).expect("a pid")).unwrap_or_else(|error| panic!("{pid} is gone: {error}"))
}

fn resident_kilobytes(pid: u32) -> u64 {
    process(pid).status().expect("its status").vmrss.expect("a process with memory")
}

/// Where the code that a process has mapped differs from its file: breakpoints.
fn changed_code(pid: u32) -> Vec<String> {
    use std::os::unix::fs::FileExt as _;
    let process = process(pid);
    let memory = process.mem().expect("its memory");
    let maps = process.maps().expect("its memory map");
    let code = maps.into_iter().filter(|map| map.perms.contains(MMPermissions::EXECUTE));
    let changed = code.filter_map(|map| {
        let MMapPath::Path(path) = map.pathname else { return None };
        let length = usize::try_from(map.address.1 - map.address.0).expect("it is in memory");
        let (mut own, mut original) = (vec![0; length], Vec::new());
        memory.read_exact_at(&mut own, map.address.0).expect("its code");
        let mut file = std::fs::File::open(&path).expect("what it has mapped");
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(map.offset)).expect("a file");
        file.take(length as u64).read_to_end(&mut original).expect("a file");
        let at = own.iter().zip(&original).position(|(own, original)| own != original)?;
        Some(format!("{pid}: {} at {:#x}", path.display(), map.offset + at as u64))
    });
    changed.collect()
}

/// Tracers come and go, some by force, while the servers are under load. `HARM_ROUNDS` says how often.
#[test]
fn attached_again_and_again_under_load() {
    let default = if virtual_machine() { 2 } else { 10 };
    let rounds: u32 = std::env::var("HARM_ROUNDS").map_or(default, |text| text.parse().expect("a number"));
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut node = Program::start(&["node", "-e", NODE, "cert.pem", "key.pem"]);
    let go = go::program("program", &[]);
    let go = go.to_str().expect("UTF-8");
    let mut go = Program::start(&[go, "server", "/dev/null", "cert.pem", "key.pem", "https"]);
    let urls = [nginx.url("/small.txt"), node.url(), go.url() + "bytes/10"];
    let pids = [nginx.workers()[0], node.server.pid(), go.server.pid()];
    let loads = urls.each_ref().map(|url| Load::start(url));
    // Their memory has its size when they have worked for a while.
    std::thread::sleep(Duration::from_secs(2));
    let before = pids.map(resident_kilobytes);
    for round in 0..rounds {
        let tracer = Tracer::attach(&pids, &[]);
        std::thread::sleep(Duration::from_millis(200));
        if round % 10 == 1 {
            tracer.kill();
        } else {
            assert!(tracer.stop().records().next().is_some(), "round {round}: nothing was seen");
        }
    }
    wait_until("no breakpoint is left", || pids.iter().all(|pid| changed_code(*pid).is_empty()));
    let after = pids.map(resident_kilobytes);
    let answered = loads.map(Load::stop);
    eprintln!("{rounds} rounds; answered {answered:?}; resident before {before:?} kB, after {after:?} kB");
    for (before, after) in before.into_iter().zip(after) {
        // Garbage collectors take their time; a leak by round would be more.
        assert!(after < 2 * before + 16 * 1024, "{before} kB before, {after} kB after");
    }
    assert!(nginx.workers()[0] == pids[0] && node.server.ended().is_none() && go.server.ended().is_none());
}

/// Breakpoints are found by [`changed_code`] while a tracer is there.
#[test]
fn breakpoints_are_found() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let worker = nginx.workers()[0];
    assert_eq!(changed_code(worker), Vec::<String>::new());
    let tracer = Tracer::attach(&[worker], &[]);
    assert!(changed_code(worker).iter().any(|place| place.contains("libssl")), "{:?}", changed_code(worker));
    tracer.stop();
    wait_until("no breakpoint is left", || changed_code(worker).is_empty());
}

/// Many processes that share a library: each has its probes, and one request to each is one record of it.
#[test]
fn many_processes_of_one_library() {
    let count = if virtual_machine() { 10 } else { 200 };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/programs/many_servers.py");
    let mut servers = Program::start(&["python3", script, "cert.pem", "key.pem", &count.to_string()]);
    let mut ports: BTreeMap<u64, String> = BTreeMap::new();
    loop {
        let line = servers.line();
        let Some((pid, port)) = line.split_once(' ') else {
            assert_eq!(line, "ready");
            break;
        };
        ports.insert(pid.parse().expect("a pid"), port.to_owned());
    }
    assert_eq!(ports.len(), count);
    let started = Instant::now();
    let tracer = Tracer::attach(&[servers.server.pid()], &[]);
    eprintln!("{count} processes: ready after {:?}", started.elapsed());
    for port in ports.values() {
        run(Command::new("curl").args(["-s", "-k", "-o", "/dev/null"]).arg(format!("https://127.0.0.1:{port}/{port}")));
    }
    tracer.wait_for(count);
    let outcome = tracer.stop();
    let plain = format!("tracer: ready: {} processes", count + 1);
    assert!(outcome.stderr.contains(&plain) && outcome.stderr.contains(", attached in "), "{}", outcome.stderr);
    let seen: BTreeMap<u64, String> = outcome
        .records()
        .map(|record| {
            assert_eq!(record["response"]["status"], 200, "{record}");
            let target = record["request"]["target"].as_str().expect("a target");
            (record["process"]["pid"].as_u64().expect("a pid"), target.trim_start_matches('/').to_owned())
        })
        .collect();
    assert_eq!((outcome.records().count(), seen), (count, ports));
    outcome.ledger().assert_nothing_lost();
}
