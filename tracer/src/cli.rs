//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocols::Registration;

use crate::capture::ReplayArgs;
use crate::filter::FilterArgs;
use crate::kernel::Hook;
use crate::trace::Sample;

/// Attach to a running process and print one line per request, TLS included.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    tracer --pid 1234 --protocols http,dns\n  \
    tracer --pid $(cat /run/nginx.pid) --status 5xx --min-latency 200ms\n  \
    tracer -- curl https://example.org/\n  \
    tracer doctor --pid 1234")]
pub struct Cli {
    /// What to do other than trace.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Tracing.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// What to do other than trace.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this machine allows, what a process offers, and what stays blind
    Doctor(DoctorArgs),
    /// Print the records of capture files (pcap, pcapng)
    Replay(ReplayCommand),
    /// Trace, and write what was captured, decrypted, to a pcapng file
    Record(RecordCommand),
}

/// `tracer replay`.
#[derive(Debug, Args)]
pub struct ReplayCommand {
    /// What to read.
    #[command(flatten)]
    pub replay: ReplayArgs,
    /// How to print it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `tracer record`.
#[derive(Debug, Args)]
pub struct RecordCommand {
    /// The pcapng file to write: plaintext of TLS connections included
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: PathBuf,
    /// What to trace, and how.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Protocols to look for; without it everything is recorded that any of them may be
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = crate::filter::parse_protocol)]
    pub protocols: Vec<&'static str>,
}

/// `tracer doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at this process too
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = DoctorFormat::Text)]
    pub format: DoctorFormat,
}

/// How `tracer doctor` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One JSON object a line.
    Json,
    /// An aligned table for people.
    Table,
}

/// `tracer` itself.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// What to trace, and how.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Print the loss ledger as JSON this often (for example 10s)
    #[arg(long, value_name = "DURATION", value_parser = crate::filter::parse_duration)]
    pub stats_interval: Option<std::time::Duration>,
}

/// What to print, and where to.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Format of records [default: table on a terminal, json otherwise]
    #[arg(long, value_enum)]
    pub format: Option<OutputFormat>,
    /// Append records to this file instead of standard output; reopened on SIGHUP
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show sensitive values (authorisation, cookies, passwords, SQL literals)
    #[arg(long)]
    pub no_redact: bool,
    /// Which records to print.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What to trace, and within which bounds.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Trace this process with its threads and children (several: repeat, or separate by commas)
    #[arg(long = "pid", short = 'p', value_name = "PID", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Where to see transfers on sockets
    #[arg(long, value_enum, default_value_t = Hook::Auto)]
    pub hook: Hook,
    /// Bytes captured of one call at most; longer calls are counted in full
    #[arg(long, value_name = "BYTES", default_value = "16K", value_parser = size)]
    pub max_capture: u32,
    /// Size of the ring buffer between kernel and tracer: a power of two
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = ring_size)]
    pub ring_size: u32,
    /// Connections followed at once
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub max_connections: u32,
    /// Bytes held for half-seen messages, all connections together
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = size)]
    pub max_buffered: u32,
    /// Trace only this share of the connections, each as a whole: 1/N, or N%
    #[arg(long, value_name = "SHARE", default_value = "1/1")]
    pub sample: Sample,
    /// When the tracer cannot keep up, lose pieces of any connection instead of leaving out whole ones
    #[arg(long)]
    pub no_shed: bool,
    /// Start this command and trace it from its first instruction; exits with its status
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The registrations of these protocols: all if none is named.
pub fn candidates(protocols: &[&'static str]) -> Arc<[&'static Registration]> {
    let wanted = |registration: &&'static Registration| {
        protocols.is_empty() || registration.names.iter().any(|name| protocols.contains(name))
    };
    protocols::registry::ALL.iter().filter(wanted).collect()
}

/// A number of bytes, with K, M or G for powers of 1024.
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1), 10),
        Some(b'm' | b'M') => (text.get(..text.len() - 1), 20),
        Some(b'g' | b'G') => (text.get(..text.len() - 1), 30),
        _ => (Some(text), 0),
    };
    let number: u64 =
        digits.unwrap_or_default().parse().map_err(|_| "expected a number of bytes such as 4096 or 64K")?;
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| u32::try_from(bytes).ok());
    bytes.ok_or_else(|| "too large: at most 4095M".to_owned())
}

/// What `BPF_MAP_TYPE_RINGBUF` takes (kernel/bpf/ringbuf.c): a power of two, whole pages.
fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    if !(65_536..=1 << 30).contains(&bytes) || !bytes.is_power_of_two() {
        return Err("expected a power of two from 64K to 1G".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("4096", 4096), ("64K", 65_536), ("16M", 1 << 24), ("1G", 1 << 30), ("0", 0)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "K", "-1", "4G", "1T", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(ring_size("100000").is_err() && ring_size("2G").is_err() && ring_size("1K").is_err());
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let cli = Cli::try_parse_from(["tracer", "--pid", "1,2", "--", "curl", "--pid", "x"]).unwrap();
        assert_eq!(cli.trace.target.pids, [1, 2]);
        assert_eq!(cli.trace.target.command, ["curl", "--pid", "x"]);
    }

    #[test]
    fn an_unknown_protocol_is_answered_with_the_known_ones() {
        let error = Cli::try_parse_from(["tracer", "--protocols", "http,gopher"]).unwrap_err().to_string();
        assert!(error.contains("gopher") && error.contains("dns, grpc, http, "), "{error}");
    }
}
