//! `tracer`: one line per request of a running process.

use std::process::ExitCode;

use clap::Parser as _;
use tracer::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Doctor(arguments)) => tracer::doctor::run(&arguments),
        None => tracer::trace::run(cli.trace),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tracer: error: {error:#}");
        ExitCode::FAILURE
    })
}
