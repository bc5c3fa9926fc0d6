//! What the server still has to answer, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Message;
use super::parameters::Parameters;
use super::prepared::{Portal, Prepared};
use super::types;
use crate::sql::Statement;
use crate::{Reasons, Text, Time};

/// Which message of the client waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SSLRequest or GSSENCRequest: one byte.
    Negotiation,
    /// StartupMessage: authentication, settings, ReadyForQuery.
    Startup,
    /// ParseComplete.
    Parse,
    /// BindComplete.
    Bind,
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows, then CommandComplete, PortalSuspended or EmptyQueryResponse.
    Execute,
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// Results, then ReadyForQuery.
    Query,
    /// FunctionCallResponse, then ReadyForQuery.
    Function,
}

impl Kind {
    /// Whether it makes a record however it is answered.
    pub(super) fn is_recorded(self) -> bool {
        matches!(self, Self::Execute | Self::Query | Self::Function)
    }

    /// Whether its answer ends with ReadyForQuery.
    pub(super) fn owes_ready(self) -> bool {
        matches!(self, Self::Startup | Self::Sync | Self::Query | Self::Function)
    }

    /// Whether it is part of what Execute asks for.
    pub(super) fn is_of_unit(self) -> bool {
        !matches!(self, Self::Close | Self::Sync)
    }
}

/// A name to be set back should the message fail that changed it.
#[derive(Debug)]
pub(super) enum Undo {
    Statement(Text, Option<Arc<Prepared>>),
    Portal(Text, Option<Arc<Portal>>),
}

/// One message of the client that waits.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    /// Parse, Bind, Describe and the Execute that they lead to have the same number.
    pub(super) unit: u64,
    /// What a record would show; `None` if it has been given up.
    pub(super) draft: Option<Box<Draft>>,
    pub(super) undo: Option<Undo>,
}

/// A request as far as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) command: &'static str,
    pub(super) sequence: Option<u64>,
    pub(super) start: Time,
    /// `None` when the end was not seen.
    pub(super) end: Option<Time>,
    /// `None` when some of its messages were not seen.
    pub(super) bytes: Option<u64>,
    pub(super) reasons: Reasons,
    pub(super) missing: u64,
    pub(super) sql: Option<Statement>,
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) statement: Text,
    pub(super) portal: Text,
    pub(super) bound: Option<Arc<Portal>>,
    pub(super) row_limit: u32,
    pub(super) copy_bytes: Option<u64>,
    /// The client has said that its data of a COPY ends.
    pub(super) copy_ended: bool,
    /// The server failed before the client has said so.
    pub(super) copy_failed: bool,
    pub(super) function_oid: Option<u32>,
}

impl Draft {
    pub(super) fn new(command: &'static str, message: &Message<'_>) -> Self {
        let mut draft = Self {
            command,
            sequence: None,
            start: message.first.start,
            end: None,
            bytes: Some(0),
            reasons: Reasons::NONE,
            missing: 0,
            sql: None,
            prepared: None,
            statement: Text::default(),
            portal: Text::default(),
            bound: None,
            row_limit: 0,
            copy_bytes: None,
            copy_ended: false,
            copy_failed: false,
            function_oid: None,
        };
        draft.add(message);
        draft
    }

    /// Adds a message that belongs to the same request.
    pub(super) fn add(&mut self, message: &Message<'_>) {
        self.bytes = self.bytes.map(|bytes| bytes + message.bytes);
        self.end = message.last.map(|span| span.end);
        if let Some(hole) = message.hole {
            self.reasons.add(hole.reason);
            self.missing += hole.lost;
        }
    }

    /// Lets go of the parameters.
    pub(super) fn forget_parameters(&mut self) {
        if let Some(bound) = self.bound.as_deref() {
            self.bound = Some(Arc::new(bound.without_parameters()));
        }
    }

    /// Messages of it are missing.
    pub(super) fn miss(&mut self, reasons: Reasons, lost: u64) {
        self.reasons.merge(reasons);
        self.missing += lost;
        self.end = None;
        self.bytes = None;
        self.copy_bytes = None;
    }

    /// Whether it is of a message that comes before an Execute.
    pub(super) fn leads_to_execute(&self) -> bool {
        matches!(self.command, "parse" | "bind" | "describe")
    }

    /// Whether it is a simple query that begins with COPY.
    pub(super) fn is_copy(&self) -> bool {
        self.sql.as_ref().and_then(Statement::verb) == Some("COPY")
    }

    /// Adds data of a COPY.
    pub(super) fn copied(&mut self, bytes: u64) {
        if self.bytes.is_some() {
            *self.copy_bytes.get_or_insert(0) += bytes;
        }
    }

    /// The fields that do not come from the login.
    pub(super) fn fields(self) -> types::Request {
        let named = |name: Text| Some(name).filter(|name| !name.as_bytes().is_empty());
        let bound = self.bound.as_deref();
        let prepared = bound.map_or(self.prepared.as_deref(), |portal| portal.prepared.as_deref());
        let parameters = bound.map(|portal| &portal.parameters);
        types::Request {
            command: self.command,
            parameters: parameters.filter(|it| !it.values.is_empty() || it.truncated).map(|it| it.values.clone()),
            parameters_truncated: parameters.is_some_and(|it: &Parameters| it.truncated),
            statement: named(bound.map_or(self.statement, |portal| portal.statement.clone())),
            portal: named(self.portal),
            sql: self.sql.or_else(|| prepared.map(|prepared| prepared.sql.clone())),
            row_limit: Some(self.row_limit).filter(|limit| *limit > 0),
            copy_bytes: self.copy_bytes,
            function_oid: self.function_oid,
            ..types::Request::default()
        }
    }
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Asked>,
    owed: u64,
    recorded: usize,
}

impl Queue {
    pub(super) fn push(&mut self, asked: Asked) {
        self.owed += u64::from(asked.kind.owes_ready());
        self.recorded += usize::from(asked.kind.is_recorded() && asked.draft.is_some());
        self.waiting.push_back(asked);
    }

    pub(super) fn pop(&mut self) -> Option<Asked> {
        let asked = self.waiting.pop_front()?;
        self.forget(&asked);
        Some(asked)
    }

    pub(super) fn front(&self) -> Option<&Asked> {
        self.waiting.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Asked> {
        self.waiting.front_mut()
    }

    /// The request of the next record to come.
    pub(super) fn next_recorded(&mut self) -> Option<&mut Draft> {
        let mut recorded = self.waiting.iter_mut().filter(|asked| asked.kind.is_recorded());
        recorded.find_map(|asked| asked.draft.as_deref_mut())
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut Asked> {
        self.waiting.back_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many ReadyForQuery are to come.
    pub(super) fn owed(&self) -> u64 {
        self.owed
    }

    /// How many records are to come.
    pub(super) fn recorded(&self) -> usize {
        self.recorded
    }

    /// Takes everything, if it is what asks for one record and one ReadyForQuery.
    pub(super) fn take_only_record(&mut self) -> Option<Box<Draft>> {
        let only = self.recorded == 1 && self.owed == 1;
        let ends = self.waiting.back().is_some_and(|asked| asked.kind.owes_ready());
        if !only || !ends {
            return None;
        }
        let mut draft = None;
        while let Some(asked) = self.pop() {
            if asked.kind.is_recorded() {
                draft = asked.draft;
            }
        }
        draft
    }

    /// Whether there is an Execute of this unit.
    pub(super) fn has_execute(&self, unit: u64) -> bool {
        let of_unit = self.waiting.iter().take_while(|asked| asked.kind != Kind::Sync);
        of_unit.into_iter().any(|asked| asked.unit == unit && asked.kind == Kind::Execute)
    }

    /// Takes the request of the oldest record to come, and leaves its place in the order.
    pub(super) fn give_up_oldest(&mut self) -> Option<Box<Draft>> {
        let oldest = self.waiting.iter_mut().find(|asked| asked.kind.is_recorded() && asked.draft.is_some())?;
        self.recorded -= 1;
        oldest.draft.take()
    }

    /// Removes every Sync right behind the first entry; gives how many there were.
    pub(super) fn remove_syncs_behind_front(&mut self) -> u64 {
        let owed = self.owed;
        while self.waiting.get(1).is_some_and(|asked| asked.kind == Kind::Sync) {
            self.waiting.remove(1);
            self.owed -= 1;
        }
        owed - self.owed
    }

    fn forget(&mut self, asked: &Asked) {
        self.owed -= u64::from(asked.kind.owes_ready());
        self.recorded -= usize::from(asked.kind.is_recorded() && asked.draft.is_some());
    }
}
