//! Processes as containers have them: their own files, their own process ids, another C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Audit, Held, Nginx, NginxConfig, Outcome, Program, Role, Scheme, Tracer, children_of, run};

/// Requests that the client makes: two on each of two connections.
const REQUESTS: usize = 4;

fn libraries() -> [PathBuf; 2] {
    let folder = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    ["libcrypto.so.3", "libssl.so.3"].map(|name| folder.join(name))
}

fn client(program: &Program, nginx: &Nginx) -> String {
    let [crypto, ssl] = libraries();
    format!("exec {} {} 2 {} {}", program.path().display(), nginx.port, crypto.display(), ssl.display())
}

/// Runs the client by a command of a shell and compares its records with nginx's log; `pid` tells the client's.
fn trace(nginx: &Nginx, shell: &mut Command, pid: impl FnOnce(u32) -> u32) -> (u32, Outcome) {
    let held = Held::start(shell);
    let pid = pid(held.pid());
    let tracer = Tracer::attach(&[pid], &[]);
    held.go("\n");
    let outcome = tracer.wait();
    outcome.assert_success();
    let log = nginx.wait_for_log(REQUESTS);
    assert_eq!(outcome.records().count(), REQUESTS, "{}{}", outcome.stderr, outcome.stdout());
    Audit::new(nginx).role(Role::Client).compare(&log, &[], outcome.records(), &format!("{shell:?}"));
    outcome.ledger().assert_nothing_lost();
    (pid, outcome)
}

fn assert_process(outcome: &Outcome, field: &str, expected: &Value) {
    for record in outcome.records() {
        assert_eq!(record["process"][field], *expected, "{record}");
    }
}

/// At the path of libssl the process has another file than the tracer.
#[test]
fn files_of_another_mount_namespace() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let program = Program::compile("gcc", "tls_client.c", &["-ldl".as_ref()]);
    let [_, ssl] = libraries();
    let copy = program.directory.path().join("copy");
    std::fs::copy(&ssl, &copy).expect("cannot copy libssl");
    let script = format!("mount --bind {} {} && {}", copy.display(), ssl.display(), client(&program, &nginx));
    trace(&nginx, Command::new("unshare").args(["-m", "sh", "-c", &script]), |pid| pid);
}

/// The process has a root folder of its own, with copies of its libraries, in which the tracer's paths lead nowhere.
#[test]
fn a_root_of_its_own() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let program = Program::compile("gcc", "tls_client.c", &["-ldl".as_ref()]);
    let root = program.directory.path();
    let [crypto, ssl] = libraries();
    // What it needs, the libraries that it loads and the dynamic linker, each at its own path.
    let copy = format!(
        "for file in $(ldd {0} {1} | grep -o '/[^ :]*' | sort -u) {1}; do cp -L --parents $file {2}; done",
        program.path().display(),
        [&crypto, &ssl].map(|path| path.display().to_string()).join(" "),
        root.display()
    );
    run(Command::new("sh").args(["-c", &copy]));
    std::fs::rename(root.join(ssl.strip_prefix("/").expect("absolute")), root.join("libother.so")).expect("copied");
    let script = format!("exec chroot {} /program {} 2 {} /libother.so", root.display(), nginx.port, crypto.display());
    trace(&nginx, Command::new("unshare").args(["-m", "sh", "-c", &script]), |pid| pid);
}

/// The process has two ids, and records have both.
#[test]
fn ids_of_another_pid_namespace() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let program = Program::compile("gcc", "tls_client.c", &["-ldl".as_ref()]);
    let script = client(&program, &nginx);
    let mut shell = Command::new("unshare");
    shell.args(["-p", "-f", "sh", "-c", &script]);
    let (pid, outcome) = trace(&nginx, &mut shell, |outer| children_of(outer)[0]);
    assert_process(&outcome, "pid", &pid.into());
    assert_process(&outcome, "namespace_pid", &1.into());
}

/// A control group that is removed with the test.
struct ControlGroup(PathBuf);

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn the_id_of_a_container() {
    let id = format!("{:064x}", u128::from(std::process::id()) << 64 | 0x5eed);
    let mounts = std::fs::read_to_string("/proc/mounts").expect("no /proc");
    let mut root = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        // Of version 1, any hierarchy will do.
        (kind == "cgroup2" || (kind == "cgroup" && path.ends_with("pids"))).then(|| path.to_owned())
    });
    let root = root.next_back().expect("no control groups are mounted");
    let group = ControlGroup(Path::new(&root).join(format!("docker-{id}.scope")));
    std::fs::create_dir(&group.0).unwrap_or_else(|error| panic!("{}: {error}", group.0.display()));
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let program = Program::compile("gcc", "tls_client.c", &["-ldl".as_ref()]);
    let script = format!("echo $$ > {}/cgroup.procs && {}", group.0.display(), client(&program, &nginx));
    let (_, outcome) = trace(&nginx, Command::new("sh").args(["-c", &script]), |pid| pid);
    assert_process(&outcome, "container_id", &id.as_str().into());
}

/// A program with another C library and another dynamic linker, and one with none.
#[test]
fn musl() {
    for options in [&["-DPLAIN"][..], &["-DPLAIN", "-static"]] {
        let nginx = Nginx::start(NginxConfig::new(Scheme::Http));
        let options: Vec<_> = options.iter().map(AsRef::as_ref).collect();
        let program = Program::compile("musl-gcc", "tls_client.c", &options);
        let mut command = Command::new(program.path());
        trace(&nginx, command.args([&nginx.port.to_string(), "2"]), |pid| pid);
    }
}
