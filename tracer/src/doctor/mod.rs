//! `tracer doctor`: what this machine allows, what a process offers, and what stays blind.
//!
//! Facts are gathered first ([`report`]), by trying rather than by version numbers wherever trying is safe; findings
//! are then drawn from the facts alone, which is what the tests do too. Nothing is left attached.

mod findings;
mod libraries;
mod machine;
mod process;
pub mod report;
mod sockets;
mod text;
mod trial;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cli::{DoctorArgs, DoctorFormat};
use report::{Mark, Report};

/// Examines and prints; succeeds when tracing would work.
pub fn run(arguments: &DoctorArgs) -> Result<ExitCode> {
    let report = examine(arguments.pid);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let printed = match arguments.format {
        DoctorFormat::Text => text::print(&report, colour),
        DoctorFormat::Json => serde_json::to_string_pretty(&report).context("cannot print the report")? + "\n",
    };
    match std::io::stdout().write_all(printed.as_bytes()) {
        // A reader that has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        result => result.context("cannot write to standard output")?,
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(pid: Option<u32>) -> Report {
    let trials = trial::run();
    let mut report = Report {
        ok: false,
        tracer: env!("CARGO_PKG_VERSION"),
        hook: trials.sources.iter().find(|source| source.trial.works).map(|source| source.name),
        machine: machine::examine(trials.uprobe, trials.uretprobe),
        privileges: machine::privileges(),
        sources: trials.sources,
        process: None,
        process_error: None,
        findings: Vec::new(),
    };
    match pid.map(process::examine) {
        Some(Ok(process)) => report.process = Some(process),
        Some(Err(error)) => report.process_error = Some(error.to_string()),
        None => {}
    }
    report.findings = findings::all(&report);
    report.ok = report.findings.iter().all(|finding| finding.mark != Mark::Fail);
    report
}
