//! Prints the records of capture files.
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use tracer::capture::{ReplayArgs, replay};
use tracer::filter::{Filter, FilterArgs};
use tracer::output::{Destination, Json, Reporter, Sink};
use tracer::record::Redaction;

#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    replay: ReplayArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let candidates: Arc<[_]> = protocols::registry::ALL.iter().collect();
    let sink = Sink::new(Json::default(), Destination::stdout().expect("standard output"));
    let mut reporter = Reporter::new(Redaction::Off, Filter::from(FilterArgs::default()), sink);
    let options = args.replay.options(candidates, protocols::Limits::default());
    let result = replay(&options, args.replay.inputs(), |exchange, origin| reporter.report(exchange, origin));
    let replayed = result.and_then(|replayed| reporter.finish().map(|()| replayed)).expect("standard output");
    eprint!("{}", replayed.ledger);
    for error in &replayed.errors {
        eprintln!("{error}");
    }
    if replayed.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
