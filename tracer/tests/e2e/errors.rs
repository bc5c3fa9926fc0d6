//! What cannot be done is refused before anything is attached, with cause and cure.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Nginx, NginxConfig, Scheme, Server, Tracer, binary};

/// A process to trace that does nothing.
fn idle() -> Server {
    let mut command = Command::new("sleep");
    command.arg("600");
    Server::start(&command, Signal::TERM)
}

fn refused(arguments: &[&str], words: &[&str]) {
    let outcome = Tracer::start(|command| {
        command.args(arguments);
    });
    outcome.wait().assert_refused(words);
}

#[test]
fn no_such_process() {
    // Above the kernel's limit for process ids (PID_MAX_LIMIT, 2^22), so it cannot exist.
    refused(&["--pid", "4194305"], &["4194305"]);
}

#[test]
fn one_of_two_processes_does_not_exist() {
    let process = idle();
    refused(&["--pid", &process.pid().to_string(), "--pid", "4194305"], &["4194305"]);
}

#[test]
fn nothing_to_trace() {
    refused(&[], &["--pid"]);
}

#[test]
fn unknown_protocol() {
    let process = idle();
    refused(&["--pid", &process.pid().to_string(), "--protocols", "http,gopher"], &["gopher", "http", "dns"]);
}

#[test]
fn unknown_hook() {
    let process = idle();
    let mut command = Command::new(binary());
    let output = command.args(["--pid", &process.pid().to_string(), "--hook", "line"]).output().expect("cannot run it");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(["line", "fentry", "kprobe", "syscall"].iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn ring_too_large() {
    let process = idle();
    refused(&["--pid", &process.pid().to_string(), "--ring-size", "64G"], &["ring"]);
}

#[test]
fn no_privilege() {
    let process = idle();
    // Where it was built, an ordinary user may not be able to read it.
    let directory = tempfile::tempdir().expect("no temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("own directory");
    let copy = directory.path().join("tracer");
    std::fs::copy(binary(), &copy).expect("cannot copy the tracer");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&copy)
        .args(["--pid", &process.pid().to_string()])
        .output()
        .expect("cannot run setpriv");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0 && code != 101), "{}: {stderr}", output.status);
    assert!(stderr.contains("root") || stderr.contains("CAP_BPF"), "the message has no cure: {stderr}");
    assert!(!stderr.contains("tracer: ready"), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// No TLS library: a warning, and plaintext is traced.
#[test]
fn no_tls_library() {
    let process = idle();
    let outcome = Tracer::attach(&[process.pid()], &[]).stop();
    assert!(outcome.stderr.to_lowercase().contains("tls"), "no warning: {}", outcome.stderr);
    assert_eq!(outcome.records().count(), 0);
}

#[test]
fn tls_library_is_no_reason_to_warn() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let outcome = Tracer::attach(&[nginx.pid()], &[]).stop();
    let warned = outcome.stderr.lines().any(|line| line.to_lowercase().contains("no tls library"));
    assert!(!warned, "{}", outcome.stderr);
}
