//! `tracer doctor` says what is there, and leaves nothing behind.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Held, Nginx, NginxConfig, Program, Scheme, Server, binary};

fn doctor(command: &mut Command) -> (Output, Value) {
    let output = command.args(["doctor", "--format", "json"]).output().expect("cannot run it");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (output, report)
}

fn doctor_of(pid: u32) -> (Output, Value) {
    let output = Command::new(binary())
        .args(["doctor", "--format", "json", "--pid", &pid.to_string()])
        .output()
        .expect("cannot run it");
    let report = serde_json::from_slice(&output.stdout).expect("one JSON object");
    (output, report)
}

#[test]
fn nginx_with_tls() {
    let nginx = Nginx::start(NginxConfig::new(Scheme::Https));
    let (output, report) = doctor_of(nginx.pid());
    assert!(output.status.success() && report["ok"] == true, "{report:#}");
    let process = &report["process"];
    assert_eq!(process["comm"], "nginx");
    assert_eq!(process["descendants"], nginx.workers().len());
    let library = &process["libraries"][0];
    assert_eq!((&library["kind"], &library["supported"]), (&"openssl".into(), &true.into()));
    assert_eq!(library["processes"], nginx.workers().len() + 1);
    for role in ["read", "write"] {
        let probes = library["probes"].as_array().expect("probes").iter().filter(|probe| probe["role"] == role);
        assert!(probes.clone().any(|probe| probe["kind"] == "entry"), "{library:#}");
        assert!(probes.clone().any(|probe| probe["kind"] != "entry"), "{library:#}");
    }
    let listening = process["sockets"]["listening"].as_array().expect("addresses");
    let port = nginx.url("").rsplit(':').next().expect("a port").to_owned();
    assert!(listening.contains(&format!("127.0.0.1:{port}").into()), "{listening:?}");
}

#[test]
fn no_tls_is_a_warning() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let process = Server::start(&command, Signal::TERM);
    let (output, report) = doctor_of(process.pid());
    assert!(output.status.success(), "{report:#}");
    let warned = |finding: &Value| finding["area"] == "tls" && finding["mark"] == "warn";
    assert!(report["findings"].as_array().expect("findings").iter().any(warned), "{report:#}");
}

/// A program that has no dynamic linker and another C library than the tracer.
#[test]
fn musl() {
    let program = Program::compile("musl-gcc", "tls_client.c", &["-DPLAIN".as_ref(), "-static".as_ref()]);
    let process = Held::start(Command::new(program.path()).args(["1", "1"]));
    let (output, report) = doctor_of(process.pid());
    assert!(output.status.success() && report["ok"] == true, "{report:#}");
    assert_eq!(report["process"]["executable"], program.path().to_str().expect("UTF-8"), "{report:#}");
    assert_eq!(report["process"]["libraries"], serde_json::json!([]), "{report:#}");
}

#[test]
fn no_such_process_fails() {
    let (output, report) = doctor_of(4_194_305);
    assert_eq!(output.status.code(), Some(1));
    assert!(report["process"].is_null() && report["process_error"].is_string(), "{report:#}");
}

#[test]
fn without_root_it_says_what_is_missing() {
    let directory = tempfile::tempdir().expect("no temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("own directory");
    let copy = directory.path().join("tracer");
    std::fs::copy(binary(), &copy).expect("cannot copy the tracer");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
    let (output, report) = doctor(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let says = |finding: &Value| finding["subject"] == "capabilities" && finding["mark"] == "fail";
    assert!(report["findings"].as_array().expect("findings").iter().any(says), "{report:#}");
}
