//! A response as far as it was seen: which packets it is made of, and what they say.
//!
//! ```text
//! First --OK, ERR----------------------------------------------> Done
//!   |  ^                                                          ^
//!   |  '--OK or end of rows with MORE_RESULTS_EXISTS--.           |
//!   |                                                 |           |
//!   +--column count--> Definitions --> MetadataEnd --> Rows --end-'
//!   +--0xfb----------> File (the client sends it) --OK, ERR-------'
//!   '--prepared------> Definitions (parameters) --> Definitions (columns)
//! ```
//!
//! Whether EOF packets stand behind column definitions depends on DEPRECATE_EOF. Where the login was not seen, what
//! is seen tells: an EOF packet has 5 bytes, the OK packet that may stand in its place at least 7, and no row of less
//! than 16 MB begins like either. Only the end of what answers COM_STMT_PREPARE is in doubt then ([`State::Ended`]).

use super::packet::Packet;
use super::types::{Response, StatementResult};
use super::wire::{self, Kind, capability, status};
use crate::sql::Hole;
use crate::{Cursor, Part, Reasons, Text, Time};

/// More columns than any server allows.
const COLUMNS: u64 = 1 << 16;

/// What is known of how the two sides speak.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// Capabilities that both sides have; `None` where the login was not seen.
    pub(super) capabilities: Option<u64>,
    /// Whether EOF packets behind metadata are left out, where known.
    pub(super) deprecate_eof: Option<bool>,
}

impl Terms {
    pub(super) fn of(capabilities: u64) -> Self {
        let deprecate_eof = capabilities & capability::DEPRECATE_EOF != 0;
        Self { capabilities: Some(capabilities), deprecate_eof: Some(deprecate_eof) }
    }

    pub(super) fn has(&self, capability: u64) -> Option<bool> {
        self.capabilities.map(|capabilities| capabilities & capability != 0)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    First,
    /// Column definitions of a result set.
    Definitions(u64),
    /// An EOF packet, or the first row.
    MetadataEnd,
    Rows,
    /// The client sends a file.
    File,
    /// Definitions of parameters, then of columns.
    Parameters {
        left: u16,
        columns: u16,
    },
    /// Definitions of columns of a prepared statement.
    Prepared {
        left: u16,
    },
    /// An EOF packet behind the parameters, if there is one.
    ParametersEnd {
        columns: u16,
    },
    /// An EOF packet, certainly or perhaps.
    Ended {
        certainly: bool,
    },
    Done,
}

/// What a packet did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// It was the last one.
    Done,
    /// It cannot be part of this response.
    Foreign,
}

/// The packets that answer one request.
#[derive(Debug, Default)]
pub(super) struct Reply {
    start: Option<Time>,
    end: Option<Time>,
    bytes: u64,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
    state: State,
    /// The result that is being received.
    current: StatementResult,
    pub(super) response: Response,
    /// The schema that the server says is current now.
    pub(super) schema: Option<Text>,
    /// It may have said so in bytes that are missing.
    pub(super) schema_unseen: bool,
}

impl Reply {
    pub(super) fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    pub(super) fn end(&self) -> Option<Time> {
        self.end
    }

    /// Whether the client is to send a file.
    pub(super) fn wants_file(&self) -> bool {
        self.state == State::File
    }

    /// Whether it may be complete.
    pub(super) fn may_be_complete(&self) -> bool {
        matches!(self.state, State::Ended { certainly: false })
    }

    /// Whether the next packet is a row or a definition, of which the first byte is enough.
    pub(super) fn is_bulk(&self) -> bool {
        !matches!(self.state, State::First | State::File | State::Done)
    }

    /// Adds a packet to what is measured.
    pub(super) fn measure(&mut self, packet: &Packet<'_>) {
        self.start.get_or_insert(packet.first.start);
        self.end = packet.last.map(|span| span.end);
        self.bytes += packet.bytes;
        if let Some(hole) = packet.hole {
            self.reasons.merge(Hole::reasons(Some(hole)));
            self.missing += hole.lost;
        }
    }

    /// Takes the next packet.
    pub(super) fn take(&mut self, packet: &Packet<'_>, kind: Kind, terms: &mut Terms) -> Progress {
        let progress = self.advance(packet, kind, terms);
        if progress != Progress::Foreign {
            self.measure(packet);
        }
        if progress == Progress::Done {
            self.state = State::Done;
        }
        progress
    }

    fn advance(&mut self, packet: &Packet<'_>, kind: Kind, terms: &mut Terms) -> Progress {
        if packet.is_error() && !matches!(self.state, State::Ended { .. } | State::Done) {
            return self.error(packet, terms);
        }
        match self.state {
            State::First => self.first(packet, kind, terms),
            State::File => self.ok(packet, terms),
            State::Definitions(left) => {
                self.state = if left > 1 { State::Definitions(left - 1) } else { State::MetadataEnd };
                Progress::More
            }
            State::MetadataEnd => self.metadata_end(packet, terms),
            State::Rows => self.row(packet, terms),
            State::Parameters { left, columns } => self.parameter(left, columns, terms),
            State::ParametersEnd { columns } => {
                let eof = packet.is_eof();
                terms.deprecate_eof.get_or_insert(!eof);
                match (eof, columns) {
                    (true, 0) => Progress::Done,
                    (true, left) => self.goes_on(State::Prepared { left }),
                    (false, 0) => Progress::Foreign,
                    (false, left) => self.column(left, terms),
                }
            }
            State::Prepared { left } => self.column(left, terms),
            State::Ended { .. } if packet.is_eof() => {
                terms.deprecate_eof = Some(false);
                Progress::Done
            }
            State::Ended { .. } | State::Done => Progress::Foreign,
        }
    }

    fn goes_on(&mut self, state: State) -> Progress {
        self.state = state;
        Progress::More
    }

    fn first(&mut self, packet: &Packet<'_>, kind: Kind, terms: &mut Terms) -> Progress {
        match (kind, packet.code()) {
            (Kind::Prepare, Some(0)) => self.prepared(packet),
            (Kind::Columns | Kind::Rows, _) => {
                self.current.rows = Some(0);
                self.state = State::Rows;
                self.row(packet, terms)
            }
            (Kind::Text, _) => {
                self.response.status = "ok";
                Progress::Done
            }
            (Kind::Auth, Some(1 | 2 | 0xfe)) => Progress::More,
            (Kind::Stream, Some(0)) => {
                self.response.status = "ok";
                Progress::Done
            }
            (_, Some(0)) => self.ok(packet, terms),
            (_, Some(0xfe)) if packet.ends_rows() => self.end_of_rows(packet, terms),
            (Kind::Results, Some(0xfb)) => self.goes_on(State::File),
            (Kind::Results, Some(_)) => self.column_count(packet, terms),
            _ => Progress::Foreign,
        }
    }

    fn column_count(&mut self, packet: &Packet<'_>, terms: &mut Terms) -> Progress {
        let mut cursor = Cursor::new(&packet.body);
        let Some(columns) = wire::lenenc(&mut cursor).filter(|columns| (1..COLUMNS).contains(columns)) else {
            return Progress::Foreign;
        };
        // MARIADB_CLIENT_CACHE_METADATA, CLIENT_OPTIONAL_RESULTSET_METADATA: whether definitions follow.
        let follows = cursor.u8();
        if packet.length != cursor.position() as u64 || follows.is_some_and(|follows| follows > 1) {
            return Progress::Foreign;
        }
        self.response.status = "resultset";
        self.response.columns = Some(columns);
        self.current.rows = Some(0);
        self.state = match follows {
            Some(0) if terms.deprecate_eof == Some(true) => State::Rows,
            Some(0) => State::MetadataEnd,
            _ => State::Definitions(columns),
        };
        Progress::More
    }

    fn metadata_end(&mut self, packet: &Packet<'_>, terms: &mut Terms) -> Progress {
        if !packet.is_eof() {
            terms.deprecate_eof.get_or_insert(true);
            self.state = State::Rows;
            return self.row(packet, terms);
        }
        terms.deprecate_eof = Some(false);
        let flags = eof(packet).map_or(0, |(_, flags)| flags);
        if flags & status::CURSOR_EXISTS != 0 {
            // The rows are fetched later.
            return self.end_of_rows(packet, terms);
        }
        self.goes_on(State::Rows)
    }

    fn row(&mut self, packet: &Packet<'_>, terms: &mut Terms) -> Progress {
        if packet.ends_rows() {
            return self.end_of_rows(packet, terms);
        }
        let rows = self.current.rows.get_or_insert(0);
        *rows = rows.saturating_add(1);
        Progress::More
    }

    /// An EOF packet, or the OK packet that stands in its place.
    fn end_of_rows(&mut self, packet: &Packet<'_>, terms: &mut Terms) -> Progress {
        if !packet.is_eof() {
            return self.ok(packet, terms);
        }
        let (warnings, flags) = eof(packet).unwrap_or_default();
        self.response.warnings = Some(warnings);
        self.complete(flags)
    }

    fn ok(&mut self, packet: &Packet<'_>, terms: &Terms) -> Progress {
        let Some(ok) = Ok::read(&packet.body, terms) else { return Progress::Foreign };
        if self.current.rows.is_none() {
            self.current.affected_rows = Some(ok.affected_rows);
            self.response.last_insert_id =
                Some(ok.last_insert_id).filter(|&id| id != 0).or(self.response.last_insert_id);
        }
        self.response.warnings = ok.warnings;
        self.response.info = ok.info;
        self.schema = ok.schema.or(self.schema.take());
        self.schema_unseen |= packet.hole.is_some() && terms.has(capability::SESSION_TRACK) != Some(false);
        self.complete(ok.flags)
    }

    /// A result is complete.
    fn complete(&mut self, flags: u16) -> Progress {
        if self.response.status.is_empty() {
            self.response.status = if self.current.rows.is_some() { "resultset" } else { "ok" };
        }
        self.response.add(std::mem::take(&mut self.current));
        if flags & status::MORE_RESULTS_EXISTS != 0 {
            return self.goes_on(State::First);
        }
        Progress::Done
    }

    fn error(&mut self, packet: &Packet<'_>, terms: &Terms) -> Progress {
        let Some(error) = Failure::read(&packet.body, terms) else { return Progress::Foreign };
        if error.code == Failure::PROGRESS {
            // MariaDB: how far a long statement has come.
            return Progress::More;
        }
        self.response.status = "error";
        self.response.rows = self.response.rows.or(self.current.rows.filter(|&rows| rows > 0));
        self.response.error_code = Some(error.code);
        self.response.sql_state = error.sql_state;
        self.response.error_message = Some(error.message);
        Progress::Done
    }

    fn prepared(&mut self, packet: &Packet<'_>) -> Progress {
        let mut cursor = Cursor::new(packet.body.get(1..).unwrap_or_default());
        let read = |cursor: &mut Cursor<'_>| Some((cursor.u32_le()?, cursor.u16_le()?, cursor.u16_le()?, cursor.u8()?));
        let Some((id, columns, parameters, 0)) = read(&mut cursor) else { return Progress::Foreign };
        self.response.status = "ok";
        self.response.statement_id = Some(id);
        self.response.columns = Some(columns.into());
        self.response.parameters = Some(parameters);
        self.response.warnings = cursor.u16_le();
        // CLIENT_OPTIONAL_RESULTSET_METADATA: whether definitions follow.
        match (cursor.u8(), parameters, columns) {
            (Some(0), ..) | (_, 0, 0) => Progress::Done,
            (_, 0, left) => self.goes_on(State::Prepared { left }),
            (_, left, columns) => self.goes_on(State::Parameters { left, columns }),
        }
    }

    /// Definition of a parameter of a prepared statement.
    fn parameter(&mut self, left: u16, columns: u16, terms: &Terms) -> Progress {
        if left > 1 {
            return self.goes_on(State::Parameters { left: left - 1, columns });
        }
        match (terms.deprecate_eof, columns) {
            (Some(true), 0) => Progress::Done,
            (Some(true), left) => self.goes_on(State::Prepared { left }),
            (None, 0) => self.goes_on(State::Ended { certainly: false }),
            (None | Some(false), columns) => self.goes_on(State::ParametersEnd { columns }),
        }
    }

    /// Definition of a column of a prepared statement.
    fn column(&mut self, left: u16, terms: &Terms) -> Progress {
        if left > 1 {
            return self.goes_on(State::Prepared { left: left - 1 });
        }
        if terms.deprecate_eof == Some(true) {
            return Progress::Done;
        }
        self.goes_on(State::Ended { certainly: terms.deprecate_eof == Some(false) })
    }

    /// What is known although the rest was not seen.
    pub(super) fn into_part(mut self, complete: bool) -> Part {
        if self.response.results.len() + usize::from(self.response.error_code.is_some()) < 2 {
            self.response.results.clear();
        }
        if self.response.status.is_empty() {
            self.response.status = "unknown";
        }
        Part {
            bytes: Some(self.bytes).filter(|_| complete),
            start: self.start,
            end: self.end.filter(|_| complete),
            payload: Box::new(self.response),
        }
    }
}

/// Warnings and status flags of an EOF packet.
fn eof(packet: &Packet<'_>) -> Option<(u16, u16)> {
    let mut cursor = Cursor::new(packet.body.get(1..)?);
    Some((cursor.u16_le()?, cursor.u16_le()?))
}

/// An OK packet.
#[derive(Debug, Default)]
pub(super) struct Ok {
    pub(super) affected_rows: u64,
    pub(super) last_insert_id: u64,
    pub(super) flags: u16,
    pub(super) warnings: Option<u16>,
    pub(super) info: Option<Text>,
    pub(super) schema: Option<Text>,
}

/// The longest info that is printed.
const INFO: usize = 256;

impl Ok {
    pub(super) fn read(body: &[u8], terms: &Terms) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        if !matches!(cursor.u8()?, 0 | 0xfe) {
            return None;
        }
        let (affected_rows, last_insert_id) = (wire::lenenc(&mut cursor)?, wire::lenenc(&mut cursor)?);
        let mut ok = Self { affected_rows, last_insert_id, ..Self::default() };
        ok.flags = cursor.u16_le().unwrap_or(0);
        ok.warnings = cursor.u16_le();
        let info = match terms.has(capability::SESSION_TRACK) {
            Some(true) => wire::lenenc_bytes(&mut cursor).unwrap_or_default(),
            Some(false) => cursor.rest(),
            // Whether a length comes first is not known.
            None => &[],
        };
        ok.info = Some(info).filter(|info| (1..=INFO).contains(&info.len())).map(Text::from);
        if terms.has(capability::SESSION_TRACK) == Some(true) && ok.flags & status::SESSION_STATE_CHANGED != 0 {
            ok.schema = wire::lenenc_bytes(&mut cursor).and_then(tracked_schema);
        }
        Some(ok)
    }
}

/// Finds the current schema among the changes of state that an OK packet reports.
fn tracked_schema(changes: &[u8]) -> Option<Text> {
    const SCHEMA: u8 = 1;
    let mut cursor = Cursor::new(changes);
    let mut schema = None;
    while let Some(of) = cursor.u8() {
        let change = wire::lenenc_bytes(&mut cursor)?;
        if of == SCHEMA {
            schema = wire::lenenc_bytes(&mut Cursor::new(change)).map(Text::from);
        }
    }
    schema
}

/// An ERR packet.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) sql_state: Option<Text>,
    pub(super) message: Text,
}

impl Failure {
    /// Stands in place of a code in MariaDB's progress reports.
    const PROGRESS: u16 = 0xffff;

    pub(super) fn read(body: &[u8], terms: &Terms) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        if cursor.u8()? != 0xff {
            return None;
        }
        let code = cursor.u16_le()?;
        let mut sql_state = None;
        if terms.has(capability::PROTOCOL_41) != Some(false) && cursor.rest().first() == Some(&b'#') {
            cursor.u8();
            sql_state = Some(cursor.take(5)?.into());
        }
        Some(Self { code, sql_state, message: cursor.rest().into() })
    }
}
