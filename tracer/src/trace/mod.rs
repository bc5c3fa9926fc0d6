//! The main job: from attaching to the last record.

mod command;
mod processes;
mod session;
mod tally;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{OutputFormat, TraceArgs};
use crate::output::{Destination, Json, Reporter, Sink, Table, TableOptions};
use crate::record::Redaction;
use command::Held;
use session::{Outcome, Session};

/// Traces until the traced processes have ended, or a signal says so.
pub fn run(arguments: TraceArgs) -> Result<ExitCode> {
    if arguments.pids.is_empty() && arguments.command.is_empty() {
        bail!("nothing to trace: give --pid PID or -- COMMAND (see --help)");
    }
    processes::check(&arguments.pids)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(trace(arguments))
}

async fn trace(arguments: TraceArgs) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let reporter = reporter(&arguments)?;
    let mut held = match arguments.command.split_first() {
        Some((program, rest)) => Some(Held::start(program, rest)?),
        None => None,
    };
    let mut session = Session::start(&arguments, reporter, held.as_ref().map(Held::pid))?;
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

fn reporter(arguments: &TraceArgs) -> Result<Reporter> {
    let destination = match &arguments.output {
        Some(path) => Destination::file(path)?,
        None => Destination::stdout()?,
    };
    let terminal = arguments.output.is_none() && std::io::stdout().is_terminal();
    let format = arguments.format.unwrap_or(if terminal { OutputFormat::Table } else { OutputFormat::Json });
    let sink = match format {
        OutputFormat::Json => Sink::new(Json::default(), destination),
        OutputFormat::Table => Sink::new(Table::new(table_options(terminal)), destination),
    };
    let redaction = if arguments.no_redact { Redaction::Off } else { Redaction::On };
    Ok(Reporter::new(redaction, arguments.filter.clone().into(), sink))
}

fn table_options(terminal: bool) -> TableOptions {
    let size = terminal.then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok()).flatten();
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    TableOptions {
        width: size.map(|size| usize::from(size.ws_col)).filter(|&width| width > 0).or(columns).unwrap_or(120),
        colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        header_every: size.map(|size| usize::from(size.ws_row)).filter(|&rows| rows > 1),
        ..TableOptions::default()
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
