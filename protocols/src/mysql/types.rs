//! What records show of requests and responses.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::parameters::Parameter;
use crate::sql::{self, Statement};
use crate::{Payload, Summary, Text};

/// What a client asked for.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "MysqlRequest")]
pub(super) struct Request {
    /// Name of the command without `COM_` ("query", "stmt_execute", "ping"), or "login" for one that failed.
    pub(super) command: &'static str,
    /// The text of the statement; absent where it was prepared before it could be seen.
    #[serde(flatten)]
    pub(super) sql: Option<Statement>,
    /// Id of the prepared statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) statement_id: Option<u32>,
    /// Values of the parameters of an execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Vec<Parameter>>,
    /// Whether some of the parameters, or the ends of some, are left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) parameters_truncated: bool,
    /// What other commands are about: a schema, a table, a user, the id of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) argument: Option<Text>,
    /// Rows that are to be fetched at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row_limit: Option<u32>,
    /// Bytes of a file or of a long value that the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_bytes: Option<u64>,
    /// Who is logged in, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Text>,
    /// The current database, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<Text>,
    /// Id of the connection, as in `SHOW PROCESSLIST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_id: Option<u32>,
    /// Version of the server, as in its greeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_version: Option<Text>,
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
        let runs = matches!(self.command, "query" | "stmt_execute" | "stmt_bulk_execute");
        let verb = self.sql.as_ref().and_then(Statement::verb).filter(|_| runs);
        let operation = verb.map_or_else(|| self.command.to_ascii_uppercase().into(), Cow::Borrowed);
        let target = match (&self.sql, &self.argument, self.statement_id) {
            (Some(sql), ..) => Some(sql.query().display()),
            (None, Some(argument), _) => Some(argument.display()),
            (None, None, Some(id)) => Some(id.to_string().into()),
            (None, None, None) if self.command == "login" => self.user.as_ref().map(Text::display),
            (None, None, None) => None,
        };
        Summary { operation: Some(operation), target, ..Summary::default() }
    }
}

/// What a server answered.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "MysqlResponse")]
pub(super) struct Response {
    /// "ok", "resultset", "error", "unknown" (it was not seen well enough to say).
    pub(super) status: &'static str,
    /// Rows returned by all statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    /// Columns of the rows; of several result sets those of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<u64>,
    /// Rows inserted, updated or deleted by all statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affected_rows: Option<u64>,
    /// The last value given to an `AUTO_INCREMENT` column, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_insert_id: Option<u64>,
    /// How many warnings there are, of the last statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warnings: Option<u16>,
    /// What the server says of what it did ("Rows matched: 1  Changed: 1  Warnings: 0").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<Text>,
    /// Id given to a prepared statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) statement_id: Option<u32>,
    /// How many parameters a prepared statement takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<u16>,
    /// Each result, where there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) results: Vec<StatementResult>,
    /// Results that are left out of `results`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) results_omitted: Option<u64>,
    /// The server's number of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<u16>,
    /// SQLSTATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sql_state: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(missing_docs, reason = "says what its name says")]
    pub(super) error_message: Option<Text>,
}

/// One of several results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "MysqlStatementResult")]
pub(super) struct StatementResult {
    /// Rows returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    /// Rows inserted, updated or deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affected_rows: Option<u64>,
}

impl Response {
    /// Adds a result that is complete.
    pub(super) fn add(&mut self, result: StatementResult) {
        self.rows = sql::sum(self.rows, result.rows);
        self.affected_rows = sql::sum(self.affected_rows, result.affected_rows);
        sql::list(&mut self.results, &mut self.results_omitted, result);
    }
}

/// Errors outside of SQLSTATE classes 22 (data exception) and 23 (integrity constraint) whose messages quote values:
/// ER_PARSE_ERROR, ER_SYNTAX_ERROR, ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, ER_WRONG_VALUE_FOR_TYPE, ER_WRONG_VALUE.
const QUOTING: [u16; 5] = [1064, 1149, 1366, 1411, 1525];

impl Payload for Response {
    fn redact(&mut self) {
        let state = self.sql_state.as_ref().map_or(&b""[..], Text::as_bytes);
        let quotes = state.starts_with(b"22") || state.starts_with(b"23");
        if quotes || self.error_code.is_some_and(|code| QUOTING.contains(&code)) {
            self.error_message = self.error_message.as_ref().map(redact_quoted);
        }
    }

    fn summary(&self) -> Summary<'_> {
        let status = match self.error_code {
            Some(code) => code.to_string().into(),
            None if matches!(self.status, "ok" | "resultset") => "OK".into(),
            None => self.status.into(),
        };
        Summary { status: Some(status), failed: self.status == "error", ..Summary::default() }
    }
}

/// Replaces what is between the first quote and the last that may end the value: it may itself hold quotes.
fn redact_quoted(message: &Text) -> Text {
    let bytes = message.as_bytes();
    let Some(first) = bytes.iter().position(|&byte| byte == b'\'') else { return message.clone() };
    let behind = bytes.get(first + 1..).unwrap_or_default();
    // What names the key or column goes with the value where its place is not certain.
    let ends = [&b"' for key '"[..], b"' for column '", b"' at line "];
    let end = ends.iter().filter_map(|end| memchr::memmem::rfind(behind, end)).max();
    let end = end.or_else(|| behind.iter().rposition(|&byte| byte == b'\'')).unwrap_or(behind.len());
    let (start, rest) = (bytes.get(..=first).unwrap_or_default(), behind.get(end..).unwrap_or_default());
    Text::new([start, Text::REDACTED.as_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_do_not_show_the_value_they_complain_of() {
        let cases = [
            (
                1062,
                "23000",
                "Duplicate entry 'it's' for key 'PRIMARY'",
                "Duplicate entry '[redacted]' for key 'PRIMARY'",
            ),
            (1064, "42000", "syntax to use near 'SELEC 'x'' at line 1", "syntax to use near '[redacted]' at line 1"),
            (
                1366,
                "HY000",
                "Incorrect value: 'x' for column 'c' at row 1",
                "Incorrect value: '[redacted]' for column 'c' at row 1",
            ),
            (1292, "22007", "Incorrect date value: 'x", "Incorrect date value: '[redacted]"),
            (1146, "42S02", "Table 'a.b' doesn't exist", "Table 'a.b' doesn't exist"),
        ];
        for (code, state, message, expected) in cases {
            let mut response = Response {
                error_code: Some(code),
                sql_state: Some(state.into()),
                error_message: Some(message.into()),
                ..Response::default()
            };
            response.redact();
            assert_eq!(response.error_message, Some(expected.into()), "{code}");
        }
    }
}
