//! Commands of the client: what they ask for.

use super::login;
use super::packet::Packet;
use super::parameters::Parameters;
use super::session::Session;
use super::statements::{self, LAST};
use super::types;
use super::wire::{self, Command, Kind, capability};
use crate::sql::{Dialect, Hole, Statement};
use crate::{Cursor, Reasons, Text, Time};

/// What a command changes if it succeeds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Effect {
    #[default]
    None,
    /// The current database; `None` where it is not known which.
    Database(Option<Text>),
    /// User and database, as far as they are known.
    Login(Option<Text>, Option<Text>),
    Prepare,
    /// Prepared statements are gone.
    Reset,
}

/// Bytes of a command that tell what it changes.
const TELLING: usize = 16;

impl Effect {
    /// That of a command of which only so many bytes were seen: a name may be cut, and so may the verb.
    fn in_part(self, seen: usize) -> Self {
        match self {
            Self::None if seen > TELLING => Self::None,
            Self::None | Self::Database(_) => Self::Database(None),
            Self::Login(..) => Self::Login(None, None),
            Self::Prepare | Self::Reset => self,
        }
    }
}

/// A request as far as it was seen.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) command: &'static str,
    pub(super) kind: Kind,
    /// Sequence id of the command's last packet.
    pub(super) last_packet: u8,
    pub(super) sequence: Option<u64>,
    pub(super) start: Time,
    /// `None` when the end was not seen.
    pub(super) end: Option<Time>,
    /// `None` when some of it was not seen.
    pub(super) bytes: Option<u64>,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
    pub(super) sql: Option<Statement>,
    pub(super) statement_id: Option<u32>,
    /// Values of an execution that cannot be read yet.
    pub(super) execute: Option<Vec<u8>>,
    parameters: Parameters,
    argument: Option<Text>,
    row_limit: Option<u32>,
    pub(super) data_bytes: Option<u64>,
    /// The client has sent all of a file.
    pub(super) data_ended: bool,
    pub(super) effect: Effect,
}

impl Draft {
    pub(super) fn new(command: &'static str, kind: Kind, packet: &Packet<'_>) -> Self {
        let mut draft = Self {
            command,
            kind,
            last_packet: packet.last_sequence,
            sequence: None,
            start: packet.first.start,
            end: None,
            bytes: Some(0),
            reasons: Reasons::NONE,
            missing: 0,
            sql: None,
            statement_id: None,
            execute: None,
            parameters: Parameters::default(),
            argument: None,
            row_limit: None,
            data_bytes: None,
            data_ended: false,
            effect: Effect::None,
        };
        draft.add(packet);
        draft
    }

    /// Adds a packet that belongs to the same request.
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        self.bytes = self.bytes.map(|bytes| bytes + packet.bytes);
        self.end = packet.last.map(|span| span.end);
        self.reasons.merge(Hole::reasons(packet.hole));
        self.missing += packet.hole.map_or(0, |hole| hole.lost);
    }

    /// Some of the file that belongs to it was not seen, nor how long it is.
    pub(super) fn lose_data(&mut self, reasons: Reasons) {
        self.reasons.merge(reasons);
        (self.data_bytes, self.bytes, self.end) = (None, None, None);
        self.data_ended = true;
    }

    /// The fields that do not come from the login.
    pub(super) fn fields(self) -> types::Request {
        let Parameters { values, truncated } = self.parameters;
        types::Request {
            command: self.command,
            sql: self.sql,
            statement_id: self.statement_id.filter(|&id| id != LAST),
            parameters: Some(values).filter(|values| !values.is_empty() || truncated),
            parameters_truncated: truncated,
            argument: self.argument,
            row_limit: self.row_limit,
            data_bytes: self.data_bytes,
            ..types::Request::default()
        }
    }
}

impl Session {
    /// Reads a command; `None` if it is none.
    pub(super) fn draft(&mut self, packet: &Packet<'_>) -> Option<Draft> {
        let code = packet.code()?;
        let command = Command::of(code).filter(|command| command.may_have(packet.length))?;
        let mut draft = Draft::new(command.name, command.kind, packet);
        if packet.hole.is_some() {
            self.statements.doubt();
        }
        let body = packet.body.get(1..).unwrap_or_default();
        let mut cursor = Cursor::new(body);
        match code {
            wire::COM_QUERY => self.query(&mut draft, packet, cursor),
            wire::COM_STMT_PREPARE => {
                draft.sql = Some(self.statement(packet, body));
                draft.effect = Effect::Prepare;
            }
            wire::COM_STMT_EXECUTE
            | wire::COM_STMT_BULK_EXECUTE
            | wire::COM_STMT_SEND_LONG_DATA
            | wire::COM_STMT_CLOSE
            | wire::COM_STMT_RESET
            | wire::COM_STMT_FETCH => self.of_statement(&mut draft, code, packet, cursor),
            wire::COM_INIT_DB => {
                draft.argument = Some(body.into());
                draft.effect = Effect::Database(Some(body.into()));
            }
            wire::COM_CREATE_DB => draft.argument = Some(body.into()),
            wire::COM_DROP_DB => {
                draft.argument = Some(body.into());
                draft.effect = Effect::Database(None);
            }
            wire::COM_FIELD_LIST => draft.argument = cursor.until(0).map(Text::from),
            wire::COM_PROCESS_KILL => draft.argument = cursor.u32_le().map(|id| id.to_string().into()),
            wire::COM_CHANGE_USER => {
                let known = login::change_user(&mut cursor, self.terms.capabilities);
                let (user, database) = known.map_or((None, None), |(user, database)| (Some(user), database));
                draft.argument = user.clone();
                draft.effect = Effect::Login(user, database);
            }
            wire::COM_RESET_CONNECTION => draft.effect = Effect::Reset,
            _ => {}
        }
        if packet.hole.is_some() {
            draft.effect = std::mem::take(&mut draft.effect).in_part(packet.body.len());
        }
        Some(draft)
    }

    fn query(&self, draft: &mut Draft, packet: &Packet<'_>, mut cursor: Cursor<'_>) {
        // No text begins with a small number and a one: so they tell where the login was not seen.
        let has_attributes = match self.terms.has(capability::QUERY_ATTRIBUTES) {
            Some(known) => known,
            None => matches!(cursor.rest(), [..0x20, 1, ..]),
        };
        let mut text = cursor.rest();
        if has_attributes {
            let whole = statements::skip_attributes(&mut cursor).is_some();
            text = if whole { cursor.rest() } else { &[] };
        }
        let statement = self.statement(packet, text);
        draft.effect = effect_of(&statement, text);
        draft.sql = Some(statement);
    }

    fn statement(&self, packet: &Packet<'_>, text: &[u8]) -> Statement {
        let truncated = (packet.body.len() as u64) < packet.length;
        Statement::new(text, truncated, Dialect::MySql, self.limits.value)
    }

    fn of_statement(&mut self, draft: &mut Draft, code: u8, packet: &Packet<'_>, mut cursor: Cursor<'_>) {
        let Some(id) = cursor.u32_le() else { return };
        draft.statement_id = Some(id);
        match code {
            wire::COM_STMT_SEND_LONG_DATA => {
                let length = packet.length.saturating_sub(7);
                draft.data_bytes = Some(length);
                if let Some(parameter) = cursor.u16_le() {
                    self.statements.add_long_data(id, parameter, length);
                }
            }
            wire::COM_STMT_FETCH => draft.row_limit = cursor.u32_le(),
            wire::COM_STMT_EXECUTE if self.is_preparing(id) => {
                draft.execute = Some(cursor.rest().to_vec());
                return;
            }
            _ => {}
        }
        self.resolve(draft, id, cursor.rest());
        match code {
            wire::COM_STMT_RESET => self.statements.reset(id),
            wire::COM_STMT_CLOSE => self.statements.close(id),
            _ => {}
        }
    }

    /// Says which statement is meant. `body`: of an execution, what is behind the id.
    pub(super) fn resolve(&mut self, draft: &mut Draft, id: u32, body: &[u8]) {
        match self.statements.get(id) {
            Some(prepared) => {
                draft.sql = Some(prepared.sql.clone());
                draft.reasons.merge(prepared.reasons);
            }
            None => draft.reasons.merge(self.why_unknown(id)),
        }
        if draft.command == "stmt_execute" {
            // Without the login it is not known whether parameters have names.
            let named = self.terms.has(capability::QUERY_ATTRIBUTES) == Some(true);
            draft.parameters = self.statements.execute(id, body, named, self.limits.value).unwrap_or_default();
        }
    }
}

/// What a statement that succeeds does to the current database, where the server does not say.
fn effect_of(statement: &Statement, text: &[u8]) -> Effect {
    match statement.verb() {
        Some("USE") => Effect::Database(used(text)),
        Some("DROP") => {
            let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let of_schema =
                |word: &[u8]| word.eq_ignore_ascii_case(b"database") || word.eq_ignore_ascii_case(b"schema");
            if words.nth(1).is_some_and(of_schema) { Effect::Database(None) } else { Effect::None }
        }
        _ => Effect::None,
    }
}

/// The name in `USE name`; `None` if it is not as plain as that.
fn used(text: &[u8]) -> Option<Text> {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let (verb, name) = text.split_at_checked(3)?;
    let name = name.trim_ascii();
    let name = name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name);
    let plain = name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-' | 0x80..));
    (verb.eq_ignore_ascii_case(b"use") && plain && !name.is_empty()).then(|| name.into())
}
