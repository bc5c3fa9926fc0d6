//! Messages of the client.

use std::sync::Arc;

use super::message::Message;
use super::parameters;
use super::prepared::{Portal, Prepared};
use super::queue::{Asked, Draft, Kind, Undo};
use super::session::Session;
use super::startup::Packet;
use super::wire::HEADER;
use crate::sql::{Dialect, Statement};
use crate::{Cursor, Output, Text};

impl Session {
    /// A packet of the kind that begins a connection.
    pub(super) fn startup(&mut self, packet: Packet, message: &Message<'_>, out: &mut Output<'_>) {
        let mut draft = Draft::new("startup", message);
        match packet {
            Packet::SslRequest | Packet::GssRequest => self.ask(Kind::Negotiation, draft, None, out),
            Packet::Startup(parameters) => {
                self.begin(parameters);
                self.ask(Kind::Startup, draft, None, out);
            }
            Packet::Cancel { process } => {
                // The server closes the connection and answers nothing, whatever became of it.
                draft.command = "cancel";
                draft.sequence = Some(out.next_sequence());
                self.set_backend(process);
                self.emit(draft, None, out);
            }
        }
    }

    /// A message with a type.
    pub(super) fn client(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        if matches!(message.kind, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'S' | b'F') {
            self.resume(message.first.start);
        }
        match message.kind {
            b'Q' => self.query(message, out),
            b'P' => self.parse(message, out),
            b'B' => self.bind(message, out),
            b'D' => self.describe(message, out),
            b'E' => self.execute(message, out),
            b'C' => self.close_name(message, out),
            b'S' => self.sync(message, out),
            b'F' => self.function(message, out),
            b'd' | b'c' | b'f' => self.copied_in(message),
            // Flush, Terminate, and everything that has to do with passwords.
            _ => {}
        }
    }

    fn query(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut draft = Draft::new("query", message);
        draft.sql = Some(self.statement(&mut Cursor::new(message.body)));
        self.end_unit();
        self.ask(Kind::Query, draft, None, out);
    }

    /// Reads text up to its zero byte, or what there is of it.
    fn statement(&self, cursor: &mut Cursor<'_>) -> Statement {
        let limit = self.limits.value;
        match cursor.until(0) {
            Some(sql) => Statement::new(sql, false, Dialect::Postgres, limit),
            None => Statement::new(cursor.rest(), true, Dialect::Postgres, limit),
        }
    }

    fn parse(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut cursor = Cursor::new(message.body);
        self.end_unit();
        let draft = self.unit("parse", message);
        let Some(name) = name(&mut cursor) else {
            // Any name may mean another statement from now on.
            self.forget_names(message.reasons());
            return self.ask(Kind::Parse, draft, None, out);
        };
        let sql = self.statement(&mut cursor);
        let mut types = Vec::new();
        for _ in 0..cursor.u16_be().unwrap_or(0) {
            let Some(of_type) = cursor.u32_be() else { break };
            types.push(of_type);
        }
        let prepared = Arc::new(Prepared { name: name.clone(), sql, types, reasons: message.reasons() });
        let draft = self.unit_with(draft, |draft| {
            draft.statement = name.clone();
            draft.prepared = Some(Arc::clone(&prepared));
        });
        let undo = self.set_statement(name, Some(prepared));
        self.ask(Kind::Parse, draft, Some(undo), out);
    }

    fn bind(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut cursor = Cursor::new(message.body);
        if self.draft.as_ref().is_some_and(|draft| draft.bound.is_some()) {
            self.end_unit();
        }
        let draft = self.unit("bind", message);
        let (Some(portal_name), Some(statement)) = (name(&mut cursor), name(&mut cursor)) else {
            self.forget_names(message.reasons());
            return self.ask(Kind::Bind, draft, None, out);
        };
        let prepared = self.statements.get(&statement).cloned();
        let types = prepared.as_ref().map_or(&[][..], |prepared| &prepared.types);
        let parameters = parameters::read(&mut cursor, types, self.limits.value);
        let mut reasons = prepared.as_ref().map_or(self.unseen, |prepared| prepared.reasons);
        reasons.merge(message.reasons());
        let portal = Arc::new(Portal { prepared, statement, parameters, reasons });
        let draft = self.unit_with(draft, |draft| {
            draft.portal = portal_name.clone();
            draft.bound = Some(Arc::clone(&portal));
        });
        let undo = self.set_portal(portal_name, Some(portal));
        self.ask(Kind::Bind, draft, Some(undo), out);
    }

    fn describe(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let draft = self.unit("describe", message);
        let Some((of_statement, name)) = target(message) else {
            return self.ask(Kind::DescribePortal, draft, None, out);
        };
        let kind = if of_statement { Kind::DescribeStatement } else { Kind::DescribePortal };
        let prepared = self.statements.get(&name).filter(|_| of_statement).cloned();
        let bound = self.portals.get(&name).filter(|_| !of_statement).cloned();
        let draft = self.unit_with(draft, |draft| {
            if of_statement {
                draft.statement = name;
            } else {
                draft.portal = name;
            }
            draft.prepared = prepared.or(draft.prepared.take());
            draft.bound = bound.or(draft.bound.take());
        });
        self.ask(kind, draft, None, out);
    }

    fn execute(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut cursor = Cursor::new(message.body);
        let mut draft = self.unit("execute", message);
        let portal = name(&mut cursor).unwrap_or_default();
        if draft.bound.is_none() || draft.portal != portal {
            draft.bound = self.portals.get(&portal).cloned();
        }
        draft.portal = portal;
        draft.prepared = None;
        draft.row_limit = cursor.u32_be().unwrap_or(0);
        draft.reasons.merge(draft.bound.as_ref().map_or(self.unseen, |portal| portal.reasons));
        self.ask(Kind::Execute, draft, None, out);
        self.end_unit();
    }

    fn close_name(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut draft = Draft::new("close", message);
        let undo = target(message).map(|(of_statement, name)| {
            if of_statement {
                draft.statement = name.clone();
                self.set_statement(name, None)
            } else {
                draft.portal = name.clone();
                self.set_portal(name, None)
            }
        });
        self.ask(Kind::Close, draft, undo, out);
    }

    fn sync(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        self.end_unit();
        // While it takes data of a COPY, the server ignores Sync (manual, 55.2.6).
        if !self.copies_in_by_execute() {
            self.ask(Kind::Sync, Draft::new("sync", message), None, out);
        }
    }

    fn function(&mut self, message: &Message<'_>, out: &mut Output<'_>) {
        let mut draft = Draft::new("function_call", message);
        draft.function_oid = Cursor::new(message.body).u32_be();
        self.end_unit();
        self.ask(Kind::Function, draft, None, out);
    }

    /// Data of a COPY, or its end, belongs to the request that is being answered.
    fn copied_in(&mut self, message: &Message<'_>) {
        let Some(copy) = self.copy_in() else { return };
        copy.add(message);
        if message.kind == b'd' {
            copy.copied(message.bytes - HEADER as u64);
        } else {
            copy.copy_ended = true;
            self.end_copy_in();
        }
    }

    /// Adds a message to what leads to the next Execute.
    fn unit(&mut self, command: &'static str, message: &Message<'_>) -> Draft {
        if self.has_answered_all() {
            // What went before was a request of its own (Parse and Flush, say), for whose answer the client has waited.
            self.end_unit();
        }
        let mut draft = match self.draft.take() {
            Some(mut draft) => {
                draft.add(message);
                draft
            }
            None => Draft::new(command, message),
        };
        draft.command = command;
        self.draft = Some(draft.clone());
        draft
    }

    fn unit_with(&mut self, mut draft: Draft, change: impl FnOnce(&mut Draft)) -> Draft {
        change(&mut draft);
        self.draft = Some(draft.clone());
        draft
    }

    fn set_statement(&mut self, name: Text, prepared: Option<Arc<Prepared>>) -> Undo {
        let previous = self.statements.set(&name, prepared);
        Undo::Statement(name, previous)
    }

    fn set_portal(&mut self, name: Text, portal: Option<Arc<Portal>>) -> Undo {
        let previous = self.portals.set(&name, portal);
        Undo::Portal(name, previous)
    }

    /// Waits for the answer to a message.
    pub(super) fn ask(&mut self, kind: Kind, mut draft: Draft, undo: Option<Undo>, out: &mut Output<'_>) {
        if kind.is_recorded() {
            draft.sequence = Some(out.next_sequence());
        }
        let asked = Asked { kind, unit: self.unit_number, draft: Some(Box::new(draft)), undo };
        self.enqueue(asked, out);
    }
}

fn name(cursor: &mut Cursor<'_>) -> Option<Text> {
    cursor.until(0).map(Text::from)
}

/// Whether Describe or Close mean a statement (or else a portal), and its name.
fn target(message: &Message<'_>) -> Option<(bool, Text)> {
    let mut cursor = Cursor::new(message.body);
    let of_statement = match cursor.u8()? {
        b'S' => true,
        b'P' => false,
        _ => return None,
    };
    Some((of_statement, name(&mut cursor)?))
}
