//! An aligned table for people.
//!
//! ```text
//!   TIME (UTC)   PROCESS     PROTO  METHOD  TARGET                STATUS   LATENCY
//!   10:12:01.123 nginx/1234  <http  GET     /a?b=1                200        412µs
//! ! 10:12:01.130 nginx/1234  >http  POST    /orders               503       1.20ms
//! * 10:12:02.001 nginx/1234  >redis HGETALL session:1             map        812ms
//!  ~10:12:02.002 nginx/1234  <http  GET     /b ~no_response       -              -
//! ```
//!
//! The first column marks what deserves a look, also where there is no colour: `!` a failed request, `*` a slow one,
//! and `~` one that is not completely known, with the reason behind its target. `<` before the protocol: the process
//! answers the request; `>`: it sends it; `?`: not known. `-` stands for what is not known. Times are UTC, as in the
//! JSON records.

mod cell;
mod layout;

use std::fmt::Write as _;
use std::time::Duration;

use protocols::{Reason, Summary};

use self::cell::{Cut, clean, human_bytes, human_duration, put};
use self::layout::Layout;
use super::sink::Format;
use crate::record::{Endpoint, Record, Rfc3339, Role};

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";

/// How the table looks.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Columns of the terminal. Below 72 lines wrap.
    pub width: usize,
    /// Whether to colour. The caller decides by the terminal and `NO_COLOR`.
    pub colour: bool,
    /// Latency from which on a request is marked as slow.
    pub slow: Duration,
    /// Rows after which the header is printed again: the height of the terminal; `None` prints it once.
    pub header_every: Option<usize>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { width: 80, colour: false, slow: Duration::from_millis(500), header_every: None }
    }
}

/// The format for people.
#[derive(Debug)]
pub struct Table {
    options: TableOptions,
    layout: Layout,
    rows: usize,
    timestamps: Rfc3339,
    cell: String,
    line: String,
}

impl Table {
    /// A table that looks as `options` say.
    pub fn new(options: TableOptions) -> Self {
        Self {
            options,
            layout: Layout::for_width(options.width),
            rows: 0,
            timestamps: Rfc3339::default(),
            cell: String::new(),
            line: String::new(),
        }
    }

    /// The terminal has another width from here on; the next row has a header above it.
    pub fn resize(&mut self, width: usize) {
        self.layout = Layout::for_width(width);
        self.rows = 0;
    }

    fn header_is_due(&self) -> bool {
        self.rows == 0 || self.options.header_every.is_some_and(|every| self.rows.is_multiple_of(every.max(2)))
    }

    fn header(&mut self) {
        let layout = self.layout;
        self.begin(BOLD);
        self.line.push_str("  ");
        self.left("TIME (UTC)", layout::TIME);
        self.left("PROCESS", layout.process);
        self.left("PROTO", layout::PROTOCOL);
        self.left("METHOD", layout.operation);
        self.left("TARGET", layout.target);
        self.left("STATUS", layout.status);
        self.right("LATENCY", layout::LATENCY);
        if layout.sizes {
            self.right("REQ", layout::SIZE);
            self.right("RESP", layout::SIZE);
        }
        if let Some(width) = layout.peer {
            self.left("PEER", width);
        }
        self.end(BOLD);
    }

    fn row(&mut self, record: &Record<'_>) {
        let layout = self.layout;
        let look = Look::new(record, self.options.slow);
        self.begin(look.colour());
        self.line.push_str(look.mark());
        self.line.push(if look.incomplete { '~' } else { ' ' });
        self.time(record);
        self.process(record);
        self.protocol(record);
        let (request, response) = (record.request_summary(), record.response_summary());
        self.left(request.operation.as_deref().unwrap_or("-"), layout.operation);
        self.target(record, &request);
        self.left(response.status.as_deref().unwrap_or("-"), layout.status);
        self.right(&human_duration(record.latency_ns()), layout::LATENCY);
        if layout.sizes {
            let exchange = record.exchange();
            let bytes = [&exchange.request, &exchange.response].map(|part| part.as_ref().and_then(|part| part.bytes));
            bytes.iter().for_each(|bytes| self.right(&human_bytes(*bytes), layout::SIZE));
        }
        if let Some(width) = layout.peer {
            self.peer(record, width);
        }
        self.end(look.colour());
    }

    fn time(&mut self, record: &Record<'_>) {
        // Hours to milliseconds of "2026-11-20T10:12:01.123456789Z".
        let text = record.timestamp().map(|time| self.timestamps.format(time));
        let time = text.and_then(|text| text.get(11..23)).unwrap_or("-");
        put(&mut self.line, time, layout::TIME, Cut::End);
        self.line.push(' ');
    }

    fn process(&mut self, record: &Record<'_>) {
        let Some(process) = record.process() else { return self.left("-", self.layout.process) };
        let pid = process.pid.to_string();
        // The pid is what the next command needs: the name gives way to it.
        let room = self.layout.process.saturating_sub(pid.len() + 1);
        self.cell.clear();
        put(&mut self.cell, &clean(&process.comm.display()), room, Cut::End);
        let name = format!("{}/{pid}", self.cell.trim_end());
        self.left(&name, self.layout.process);
    }

    fn protocol(&mut self, record: &Record<'_>) {
        self.line.push(match record.connection().role {
            Role::Server => '<',
            Role::Client => '>',
            Role::Unknown => '?',
        });
        self.left(record.exchange().protocol, layout::PROTOCOL - 1);
    }

    /// The target, and behind it why the record is incomplete.
    fn target(&mut self, record: &Record<'_>, request: &Summary<'_>) {
        let width = self.layout.target;
        let mut reasons = String::new();
        for (index, reason) in record.exchange().reasons.iter().map(Reason::name).enumerate() {
            let _ = write!(reasons, "{}{reason}", if index == 0 { " ~" } else { "," });
        }
        let target = clean(request.target.as_deref().unwrap_or("-"));
        self.cell.clear();
        put(&mut self.cell, &reasons, reasons.len().min(width.saturating_sub(layout::SHORTEST_TARGET)), Cut::End);
        let reasons = std::mem::take(&mut self.cell);
        put(&mut self.cell, &target, width.saturating_sub(cell::width(&reasons)), Cut::Middle);
        let shown = self.cell.trim_end();
        let shown = format!("{shown}{reasons}");
        self.left(&shown, width);
    }

    fn peer(&mut self, record: &Record<'_>, width: usize) {
        let peer = match record.connection().known_remote() {
            None => "-".to_owned(),
            Some(Endpoint::Inet(address)) => {
                std::net::SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
            }
            Some(Endpoint::Unix(path)) if path.as_bytes().is_empty() => "unix".to_owned(),
            Some(Endpoint::Unix(path)) => match path.display().strip_prefix('\0') {
                Some(name) => format!("unix:@{name}"),
                None => format!("unix:{}", path.display()),
            },
        };
        put(&mut self.line, &clean(&peer), width, Cut::Middle);
    }

    /// A cell that is cut at its end, and the space behind it.
    fn left(&mut self, text: &str, width: usize) {
        put(&mut self.line, &clean(text), width, Cut::End);
        self.line.push(' ');
    }

    /// A cell whose text stands at its right edge, and the space behind it.
    fn right(&mut self, text: &str, width: usize) {
        self.line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell::width(text))));
        self.line.push_str(text);
        self.line.push(' ');
    }

    fn begin(&mut self, colour: &str) {
        self.line.clear();
        if self.options.colour {
            self.line.push_str(colour);
        }
    }

    fn end(&mut self, colour: &str) {
        self.line.truncate(self.line.trim_end().len());
        if self.options.colour && !colour.is_empty() {
            self.line.push_str(RESET);
        }
        self.line.push('\n');
    }
}

impl Format for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        if self.header_is_due() {
            self.header();
            out.extend_from_slice(self.line.as_bytes());
            self.rows += 1;
        }
        self.row(record);
        out.extend_from_slice(self.line.as_bytes());
        self.rows += 1;
        Ok(())
    }
}

/// What makes a row stand out.
struct Look {
    failed: bool,
    slow: bool,
    incomplete: bool,
}

impl Look {
    fn new(record: &Record<'_>, slow: Duration) -> Self {
        Self {
            failed: record.response_summary().failed,
            slow: record.latency_ns().is_some_and(|latency| Duration::from_nanos(latency) >= slow),
            incomplete: !record.exchange().reasons.is_empty(),
        }
    }

    fn mark(&self) -> &'static str {
        match (self.failed, self.slow) {
            (true, _) => "!",
            (false, true) => "*",
            (false, false) => " ",
        }
    }

    fn colour(&self) -> &'static str {
        match (self.failed, self.slow, self.incomplete) {
            (true, _, _) => BOLD_RED,
            (false, true, _) => YELLOW,
            (false, false, true) => DIM,
            (false, false, false) => "",
        }
    }
}

#[cfg(test)]
mod tests;
