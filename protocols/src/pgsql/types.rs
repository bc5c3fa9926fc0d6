//! What records show of requests and responses.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::parameters::Parameter;
use crate::sql::{self, Statement};
use crate::{Payload, Summary, Text};

/// What a client asked for.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PgsqlRequest")]
pub(super) struct Request {
    /// "query" (a simple query), "execute" (extended protocol), "copy", "function_call"; for failures before anything
    /// was executed "parse", "bind", "describe", "close", "sync", "startup"; "cancel".
    pub(super) command: &'static str,
    /// The text of the statement; absent where it was prepared before it could be seen.
    #[serde(flatten)]
    pub(super) sql: Option<Statement>,
    /// Name of the prepared statement; absent for the unnamed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<Text>,
    /// Name of the portal; absent for the unnamed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) portal: Option<Text>,
    /// Values of the parameters of an execute, where Bind was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Vec<Parameter>>,
    /// Whether some of the parameters, or the ends of some, are left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) parameters_truncated: bool,
    /// Rows that an execute wants at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row_limit: Option<u32>,
    /// Bytes of data that the client sent to COPY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copy_bytes: Option<u64>,
    /// Object id of the function that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function_oid: Option<u32>,
    /// Who logged in, where the login was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Text>,
    /// The database logged in to, where the login was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<Text>,
    /// The name that the client gave itself at login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) application_name: Option<Text>,
    /// Process id of the server's backend, as in `pg_stat_activity`; of a cancel request, whose work is to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backend_pid: Option<u32>,
}

impl Payload for Request {
    fn redact(&mut self) {
        if let Some(sql) = &mut self.sql {
            sql.redact();
        }
        for parameter in self.parameters.iter_mut().flatten() {
            parameter.redact();
        }
    }

    fn summary(&self) -> Summary<'_> {
        let verb = self.sql.as_ref().and_then(Statement::verb).filter(|_| matches!(self.command, "query" | "execute"));
        let operation = verb.map_or_else(|| self.command.to_ascii_uppercase().into(), Cow::Borrowed);
        let text = self.sql.as_ref().map(Statement::query).or(self.statement.as_ref());
        let target = match self.command {
            "startup" => self.database.as_ref().map(Text::display),
            _ => text.map(Text::display),
        };
        Summary { operation: Some(operation), target, ..Summary::default() }
    }
}

/// What a server answered.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PgsqlResponse")]
pub(super) struct Response {
    /// "ok", "error", "empty" (there was no statement), "suspended" (the row limit was reached), "skipped" (not
    /// executed, because something before it in the same batch failed), "unknown" (its end was not seen).
    pub(super) status: &'static str,
    /// What was done, in the words of the server ("SELECT 5"); of several statements the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command_tag: Option<Text>,
    /// Rows returned, or copied, by all statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    /// Rows inserted, updated, deleted or merged by all statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affected_rows: Option<u64>,
    /// Columns of the rows; of several statements those of the last that has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<u16>,
    /// Bytes of data that COPY sent to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copy_bytes: Option<u64>,
    /// The statements of one simple query, where there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) results: Vec<StatementResult>,
    /// Statements whose results are left out of `results`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) results_omitted: Option<u64>,
    /// SQLSTATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(missing_docs, reason = "says what its name says")]
    pub(super) error_message: Option<Text>,
    /// "ERROR", "FATAL" or "PANIC".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) severity: Option<Text>,
    /// "idle", "in_transaction" or "failed" (in a transaction that can only be rolled back), where the server said so
    /// behind this response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transaction_status: Option<&'static str>,
}

/// What one of several statements did.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PgsqlStatementResult")]
pub(super) struct StatementResult {
    /// What was done, in the words of the server.
    pub(super) command_tag: Text,
    /// Rows returned, or copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    /// Rows inserted, updated, deleted or merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affected_rows: Option<u64>,
}

impl Payload for Response {
    fn redact(&mut self) {
        // Data exceptions and syntax errors quote what they complain of.
        let quotes = |code: &Text| code.as_bytes().starts_with(b"22") || code == &"42601";
        if self.error_code.as_ref().is_some_and(quotes) {
            self.error_message = self.error_message.as_ref().map(redact_quoted);
        }
    }

    fn summary(&self) -> Summary<'_> {
        let status = match &self.error_code {
            Some(code) => code.display(),
            None => self.command_tag.as_ref().map_or(self.status.into(), Text::display),
        };
        Summary { status: Some(status), failed: self.status == "error", ..Summary::default() }
    }
}

/// Replaces what is between the first and the last double quote: the quoted value may itself hold quotes.
fn redact_quoted(message: &Text) -> Text {
    let bytes = message.as_bytes();
    let first = bytes.iter().position(|&byte| byte == b'"');
    let last = bytes.iter().rposition(|&byte| byte == b'"').filter(|last| Some(*last) > first);
    let (Some(first), Some(last)) = (first, last) else { return message.clone() };
    let (start, end) = (bytes.get(..=first).unwrap_or_default(), bytes.get(last..).unwrap_or_default());
    Text::new([start, Text::REDACTED.as_bytes(), end].concat())
}

impl Response {
    /// Adds a statement that was completed. `returned`: rows that were sent, where the statement returns any.
    pub(super) fn complete(&mut self, tag: Text, returned: Option<u64>) {
        let counted = Counted::of(&tag);
        let rows = returned.or(counted.copied);
        let result = StatementResult { command_tag: tag.clone(), rows, affected_rows: counted.affected };
        sql::list(&mut self.results, &mut self.results_omitted, result);
        self.command_tag = Some(tag);
        self.add_rows(rows);
        self.affected_rows = sql::sum(self.affected_rows, counted.affected);
    }

    /// Adds rows that were sent, where there are any.
    pub(super) fn add_rows(&mut self, rows: Option<u64>) {
        self.rows = sql::sum(self.rows, rows);
    }
}

/// The number of rows in a command tag: "INSERT 0 5", "UPDATE 3", "COPY 7".
#[derive(Default)]
struct Counted {
    affected: Option<u64>,
    copied: Option<u64>,
}

impl Counted {
    fn of(tag: &Text) -> Self {
        let tag = tag.display();
        let mut words = tag.split(' ');
        let command = words.next().unwrap_or_default();
        let number = words.next_back().and_then(|word| word.parse().ok());
        match command {
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" => Self { affected: number, copied: None },
            "COPY" => Self { affected: None, copied: number },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_do_not_show_the_value_they_complain_of() {
        let cases = [
            (
                "22P02",
                r#"invalid input syntax for type integer: "a"b""#,
                r#"invalid input syntax for type integer: "[redacted]""#,
            ),
            ("22012", "division by zero", "division by zero"),
            ("42P01", r#"relation "t" does not exist"#, r#"relation "t" does not exist"#),
        ];
        for (code, message, expected) in cases {
            let mut response =
                Response { error_code: Some(code.into()), error_message: Some(message.into()), ..Response::default() };
            response.redact();
            assert_eq!(response.error_message, Some(expected.into()), "{code}");
        }
    }

    #[test]
    fn a_command_tag_counts_rows() {
        let cases = [
            ("INSERT 0 5", None, None, Some(5)),
            ("DELETE 2", None, None, Some(2)),
            ("COPY 7", None, Some(7), None),
            ("SELECT 3", Some(3), Some(3), None),
            ("CREATE TABLE", None, None, None),
            ("UPDATE", None, None, None),
        ];
        for (tag, returned, rows, affected) in cases {
            let mut response = Response::default();
            response.complete(tag.into(), returned);
            assert_eq!((response.rows, response.affected_rows), (rows, affected), "{tag}");
        }
    }
}
