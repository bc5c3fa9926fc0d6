//! `tracer replay`: the records of capture files.

use std::process::ExitCode;

use anyhow::Result;
use protocols::Limits;

use crate::capture;
use crate::cli::{self, ReplayCommand};
use crate::output::{SinkError, reporter};

/// Prints the records of the files; fails if one of them could not be read to its end.
pub fn run(arguments: &ReplayCommand) -> Result<ExitCode> {
    let mut reporter = reporter(&arguments.output)?;
    let candidates = cli::candidates(&arguments.output.filter.protocols);
    let options = arguments.replay.options(candidates, Limits::default());
    let replayed =
        capture::replay(&options, arguments.replay.inputs(), |exchange, origin| reporter.report(exchange, origin));
    let replayed = match replayed.and_then(|replayed| reporter.finish().map(|()| replayed)) {
        Ok(replayed) => replayed,
        // `tracer replay | head` has read enough.
        Err(SinkError::Closed { .. }) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error.into()),
    };
    eprint!("{}", replayed.ledger);
    for error in &replayed.errors {
        eprintln!("tracer: error: {error}");
    }
    Ok(if replayed.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
