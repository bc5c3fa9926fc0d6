//! What tracing must not do: a traced process loses no request, does not crash, and has nothing left in it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use procfs::process::{MMPermissions, MMapPath, Process};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::go;
use crate::support::{
    Nginx, NginxConfig, Scheme, Server, Tracer, bound, comes_true, make_certificate, run, virtual_machine, wait_until,
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

/// The BPF objects that a process owns, by what the kernel calls their ids.
fn owned(pid: u32, kind: &str) -> BTreeSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("a process");
    let id = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix(kind)?.trim().parse().ok())
    };
    descriptors.filter_map(id).collect()
}

fn links(pid: u32) -> BTreeSet<u32> {
    owned(pid, "link_id:")
}

/// The links of a set that still exist, whoever owns them.
fn existing(links: &BTreeSet<u32>) -> BTreeSet<u32> {
    // One that goes while they are listed is an error.
    aya::programs::loaded_links().flatten().map(|link| link.id()).filter(|id| links.contains(id)).collect()
}

/// The same of programs.
fn existing_programs(programs: &BTreeSet<u32>) -> BTreeSet<u32> {
    aya::programs::loaded_programs().flatten().map(|program| program.id()).filter(|id| programs.contains(id)).collect()
}

/// Names in tracefs, which need not be mounted anywhere, that begin with a tracer's group.
fn named_probes(tracer: u32) -> Vec<String> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).expect("tracefs");
    fsconfig_create(context.as_fd()).expect("tracefs");
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("tracefs");
    let file = rustix::fs::openat(&root, "uprobe_events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let text = std::io::read_to_string(std::fs::File::from(file.expect("its list of probes"))).expect("UTF-8");
    text.lines().filter(|line| line.contains(&format!(":tracer_{tracer}/"))).map(ToOwned::to_owned).collect()
}

/// One request to each server is answered.
fn assert_answering(urls: &[String]) {
    for url in urls {
        run(Command::new("curl").args(["-s", "-k", "-f", "--max-time", "20", "-o", "/dev/null", url]));
    }
}

/// Tracers come and go under load, one round in ten by force.
#[derive(Default)]
struct Rounds {
    pids: Vec<u32>,
    urls: Vec<String>,
    crashed: Vec<Tracer>,
    tracers: Vec<u32>,
    links: BTreeSet<u32>,
    programs: BTreeSet<u32>,
    records: usize,
    abandoned: u64,
    lost: u64,
}

impl Rounds {
    fn run(&mut self, round: u32) {
        let tracer = Tracer::attach(&self.pids, &[]);
        std::thread::sleep(Duration::from_millis(200));
        self.tracers.push(tracer.pid());
        let links = links(tracer.pid());
        assert!(!links.is_empty() && existing(&links) == links, "the links of a tracer are found");
        self.links.extend(links);
        let programs = owned(tracer.pid(), "prog_id:");
        assert!(!programs.is_empty() && existing_programs(&programs) == programs, "its programs are found");
        self.programs.extend(programs);
        if round % 10 == 1 {
            // The kernel closes its links one after the other, each when nobody can be running its programs any more,
            // which takes it up to a minute under this load. The processes must not feel it, nor the next tracer.
            tracer.crash();
            assert_answering(&self.urls);
            self.crashed.push(tracer);
        } else {
            let outcome = tracer.stop();
            let (records, ledger) = (outcome.records().count(), outcome.ledger());
            assert!(records > 0, "round {round}: nothing was seen");
            self.records += records;
            self.abandoned += ledger.get("calls abandoned");
            self.lost += ledger.lost_events();
        }
    }

    fn assert_nothing_left(&mut self) {
        let all_gone = |crashed: &mut Vec<Tracer>| crashed.iter_mut().all(Tracer::is_gone);
        assert!((0..6).any(|_| comes_true(|| all_gone(&mut self.crashed))), "a killed tracer does not end");
        wait_until("no link is left", || existing(&self.links).is_empty());
        wait_until("no program is left", || existing_programs(&self.programs).is_empty());
        wait_until("no breakpoint is left", || self.pids.iter().all(|pid| changed_code(*pid).is_empty()));
        let named: Vec<String> = self.tracers.iter().flat_map(|tracer| named_probes(*tracer)).collect();
        assert_eq!(named, Vec::<String>::new());
        assert_answering(&self.urls);
    }
}

/// A process that is traced again and again loses no request, does not grow, and has nothing left in it. `HARM_ROUNDS`
/// says how often.
#[test]
fn attached_again_and_again_under_load() {
    let default = if virtual_machine() { 2 } else { 3 };
    let rounds: u32 = std::env::var("HARM_ROUNDS").map_or(default, |text| text.parse().expect("a number"));
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let mut node = Program::start(&["node", "-e", NODE, "cert.pem", "key.pem"]);
    let go = go::program("program");
    let go = go.to_str().expect("UTF-8");
    let mut go = Program::start(&[go, "server", "/dev/null", "cert.pem", "key.pem", "https"]);
    let urls = [nginx.url("/small.txt"), node.url(), go.url() + "bytes/10"];
    let pids = [nginx.workers()[0], node.server.pid(), go.server.pid()];
    let loads = urls.each_ref().map(|url| Load::start(url));
    // Their memory has its size when they have worked for a while.
    std::thread::sleep(Duration::from_secs(2));
    let before = pids.map(resident_kilobytes);
    let mut all = Rounds { pids: pids.to_vec(), urls: urls.to_vec(), ..Rounds::default() };
    let started = Instant::now();
    for round in 0..rounds {
        all.run(round);
    }
    let took = started.elapsed();
    let after = pids.map(resident_kilobytes);
    let answered = loads.map(Load::stop);
    all.assert_nothing_left();
    eprintln!(
        "{rounds} rounds in {took:?}, cleaned up after {:?}; answered {answered:?}; resident before {before:?} kB, \
         after {after:?} kB; {} links, {} programs; {} records, {} calls abandoned, {} events lost",
        started.elapsed(),
        all.links.len(),
        all.programs.len(),
        all.records,
        all.abandoned,
        all.lost,
    );
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
