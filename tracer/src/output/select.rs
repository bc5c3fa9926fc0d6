//! The format and destination that the command line asks for.

use std::io::IsTerminal as _;

use super::{Destination, Json, Reporter, Sink, SinkError, Table, TableOptions};
use crate::cli::{OutputArgs, OutputFormat};
use crate::record::Redaction;

/// Makes what the command line asks for.
pub fn reporter(arguments: &OutputArgs) -> Result<Reporter, SinkError> {
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
