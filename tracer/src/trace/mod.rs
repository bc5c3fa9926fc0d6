//! The main job: from attaching to the last record.

mod command;
pub(crate) mod processes;
mod recorder;
mod session;
mod shedding;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{self, RecordCommand, TargetArgs, TraceArgs};
use crate::connections::Candidates;
use crate::connections::{NoTap, Tap};
use crate::output::{Reporter, reporter};
use command::Held;
use recorder::Recorder;
use session::{Outcome, Session};
pub use shedding::Sample;

/// Traces until the traced processes have ended, or a signal says so.
pub fn run(arguments: TraceArgs) -> Result<ExitCode> {
    let job = Job {
        candidates: cli::candidates(&arguments.output.filter.protocols),
        stats_interval: arguments.stats_interval,
        reporter: Some(reporter(&arguments.output)?),
        tap: Box::new(NoTap),
    };
    start(&arguments.target, job)
}

/// Traces likewise, and writes what was captured to a file instead of printing records.
pub fn record(arguments: RecordCommand) -> Result<ExitCode> {
    let job = Job {
        candidates: cli::candidates(&arguments.protocols),
        stats_interval: None,
        reporter: None,
        tap: Box::new(Recorder::create(&arguments.output)?),
    };
    start(&arguments.target, job)
}

/// What is to be done with what is seen.
struct Job {
    candidates: Candidates,
    stats_interval: Option<Duration>,
    /// Prints records.
    reporter: Option<Reporter>,
    tap: Box<dyn Tap>,
}

fn start(target: &TargetArgs, job: Job) -> Result<ExitCode> {
    if target.pids.is_empty() && target.command.is_empty() {
        bail!("nothing to trace: give --pid PID or -- COMMAND (see --help)");
    }
    processes::check(&target.pids)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(trace(target, job))
}

async fn trace(target: &TargetArgs, job: Job) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut held = match target.command.split_first() {
        Some((program, rest)) => Some(Held::start(program, rest)?),
        None => None,
    };
    let mut session = Session::start(target, job, held.as_ref().map(|held| (held.pid(), held.executable())))?;
    session.ready();
    if let Some(held) = &mut held {
        held.release()?;
    }
    let outcome = session.run(&mut signals).await;
    let status = session.finish(outcome)?;
    Ok(match held {
        Some(mut held) => held.status(status)?,
        None => status,
    })
}

/// The signals that a tracer listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ended | Outcome::Closed => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
        }
    }
}
