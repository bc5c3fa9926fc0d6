use super::*;
use crate::doctor::report::*;

fn trial(cause: Option<&str>) -> Trial {
    Trial { works: cause.is_none(), cause: cause.map(Into::into) }
}

fn source(name: &'static str, cause: Option<&str>) -> Source {
    Source { name, trial: trial(cause) }
}

/// A machine on which everything works.
fn good() -> Report {
    let names = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE"];
    Report {
        ok: false,
        tracer: "0",
        hook: Some("fentry"),
        machine: Machine {
            kernel: Some("6.12.1".into()),
            architecture: "x86_64",
            socket_tracepoints: true,
            uprobe_pmu: true,
            kprobe_pmu: true,
            uprobe: Some(trial(None)),
            uretprobe: Some(trial(None)),
            ring_buffer: Some(true),
            attach_cookies: Some(true),
            task_pt_regs: Some(true),
            ..Machine::default()
        },
        privileges: Privileges {
            capabilities: Some(names.into_iter().map(|name| (name, true)).collect()),
            initial_pid_namespace: Some(true),
            initial_user_namespace: Some(true),
            seccomp: Some("none"),
        },
        sources: vec![source("fentry", None), source("kprobe", None), source("syscall", None)],
        process: None,
        process_error: None,
        findings: Vec::new(),
    }
}

fn library() -> Library {
    let probe = |kind, emulated| Probe {
        function: "SSL_read".into(),
        role: "read",
        kind,
        offset: 0x1234,
        instruction: "push rbp".into(),
        emulated,
    };
    Library {
        path: "/lib/libssl.so.3".into(),
        kind: "openssl",
        version: Some("3.0.1".into()),
        supported: true,
        processes: 2,
        probes: vec![probe("entry", true), probe("return", false)],
        blind: vec!["SSL_sendfile: content unseen".into()],
    }
}

fn with_process(change: impl FnOnce(&mut Process)) -> Report {
    let mut process = Process { pid: 1, bits: Some(64), ..Process::default() };
    change(&mut process);
    Report { process: Some(process), ..good() }
}

fn marks(report: &Report, subject: &str) -> Vec<Mark> {
    all(report).iter().filter(|finding| finding.subject == subject).map(|finding| finding.mark).collect()
}

#[test]
fn a_good_machine_has_nothing_to_complain_of() {
    let findings = all(&good());
    assert!(findings.iter().all(|finding| finding.mark == Mark::Ok), "{findings:#?}");
}

#[test]
fn whatever_is_not_good_has_a_cure() {
    let mut report = with_process(|process| {
        process.libraries = vec![library(), Library { supported: false, ..library() }];
        process.sockets.quic = 1;
    });
    report.hook = None;
    report.privileges = Privileges::default();
    report.machine = Machine::default();
    report.sources = vec![source("fentry", Some("no"))];
    for finding in all(&report) {
        assert_eq!(finding.mark == Mark::Ok, finding.cure.is_none(), "{finding:?}");
    }
}

/// What is broken on a machine, and the finding that must say so.
#[test]
fn machine_faults() {
    type Case = (&'static str, Mark, fn(&mut Report));
    let cases: [Case; 11] = [
        ("version", Mark::Fail, |report| report.machine.kernel = Some("5.4.0-generic".into())),
        ("version", Mark::Warn, |report| report.machine.architecture = "aarch64"),
        ("BTF", Mark::Fail, |report| report.machine.btf_error = Some("no BTF".into())),
        ("ring buffer", Mark::Fail, |report| report.machine.ring_buffer = Some(false)),
        ("attach cookies", Mark::Warn, |report| report.machine.attach_cookies = Some(false)),
        ("uprobes", Mark::Fail, |report| report.machine.uprobe = Some(trial(Some("denied")))),
        ("lockdown", Mark::Warn, |report| report.machine.lockdown = Some("confidentiality".into())),
        ("pid namespace", Mark::Fail, |report| report.privileges.initial_pid_namespace = Some(false)),
        ("user namespace", Mark::Fail, |report| report.privileges.initial_user_namespace = Some(false)),
        ("kprobe", Mark::Warn, |report| report.sources[1] = source("kprobe", Some("denied"))),
        ("process", Mark::Fail, |report| report.process_error = Some("no such process".into())),
    ];
    for (subject, mark, breaks) in cases {
        let mut report = good();
        breaks(&mut report);
        assert_eq!(marks(&report, subject), [mark], "{subject}");
    }
}

#[test]
fn capabilities_that_matter() {
    let cases: [(&[&str], Mark); 4] = [
        (&[], Mark::Fail),
        (&["CAP_BPF"], Mark::Fail),
        (&["CAP_BPF", "CAP_PERFMON"], Mark::Warn),
        (&["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"], Mark::Ok),
    ];
    for (held, mark) in cases {
        let mut report = good();
        report.privileges.capabilities = Some(held.iter().map(|name| (*name, true)).collect());
        assert_eq!(marks(&report, "capabilities"), [mark], "{held:?}");
    }
}

#[test]
fn without_a_source_each_fails() {
    let mut report = good();
    report.hook = None;
    report.sources = vec![source("fentry", Some("denied")), source("syscall", Some("no tracepoint"))];
    assert_eq!((marks(&report, "fentry"), marks(&report, "syscall")), (vec![Mark::Fail], vec![Mark::Fail]));
}

/// What stays blind in a process, and the finding that must say so.
#[test]
fn blind_spots_of_a_process() {
    type Case = (&'static str, fn(&mut Process));
    let cases: [Case; 7] = [
        ("32-bit", |process| process.bits = Some(32)),
        ("QUIC", |process| process.sockets.quic = 2),
        ("kernel TLS", |process| process.sockets.kernel_tls = Some(1)),
        ("Java", |process| process.java = true),
        ("rustls", |process| process.embedded.push(Embedded { path: "/app".into(), library: "rustls" })),
        ("TLS", |_| {}),
        ("blind", |process| process.libraries.push(library())),
    ];
    for (subject, change) in cases {
        let report = with_process(change);
        assert_eq!(marks(&report, subject), [Mark::Warn], "{subject}");
    }
    let unsupported = with_process(|process| process.libraries.push(Library { supported: false, ..library() }));
    assert_eq!(marks(&unsupported, "openssl"), [Mark::Warn]);
}

#[test]
fn a_process_with_tls_shows_where_probes_go() {
    let report = with_process(|process| process.libraries.push(library()));
    let findings = all(&report);
    let texts: Vec<_> =
        findings.iter().filter(|finding| finding.subject == "SSL_read").map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        ["entry at 0x1234 `push rbp`, emulated: cheap", "return probe at 0x1234 `push rbp`, single-stepped: dear"]
    );
    assert!(marks(&report, "TLS").is_empty());
    assert_eq!(marks(&report, "cost"), [Mark::Warn]);
}

#[test]
fn io_uring_is_blind_with_the_syscall_source_only() {
    let mut report = with_process(|process| process.sockets.io_urings = 1);
    assert_eq!(marks(&report, "io_uring"), [Mark::Ok]);
    report.hook = Some("syscall");
    assert_eq!(marks(&report, "io_uring"), [Mark::Warn]);
}

#[test]
fn return_probes_under_seccomp_on_the_kernels_that_kill() {
    for (kernel, mode, mark) in [
        ("6.10.14", "filter", Mark::Ok),
        ("6.11.0", "filter", Mark::Warn),
        ("6.13.1", "strict", Mark::Warn),
        ("6.14.0", "filter", Mark::Ok),
    ] {
        let mut report = with_process(|process| {
            process.seccomp = Some(mode);
            process.libraries.push(library());
        });
        report.machine.kernel = Some(kernel.into());
        assert_eq!(marks(&report, "seccomp"), [mark], "{kernel}");
    }
}
