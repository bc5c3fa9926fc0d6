//! Prepared statements that a session has, by id.

use std::collections::BTreeMap;

use super::parameters::{self, Parameters, Type};
use super::wire;
use crate::sql::Statement;
use crate::{Cursor, Reasons};

/// Bytes of statements that one connection remembers.
const BUDGET: usize = 1 << 20;

/// What an entry costs beside its text.
const OVERHEAD: usize = 256;

/// Stands for the statement that was prepared last (MariaDB).
pub(super) const LAST: u32 = u32::MAX;

/// Flag of COM_STMT_EXECUTE: the number of parameters is sent.
const PARAMETER_COUNT_AVAILABLE: u8 = 8;

/// A statement that was prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sql: Statement,
    /// How many parameters it takes.
    parameters: u16,
    /// Types of the last execution that gave some.
    types: Option<Vec<Type>>,
    /// Parameters that were sent in pieces since the last execution, and how many bytes.
    long: BTreeMap<u16, u64>,
    /// What may have been changed while it could not be seen.
    doubtful: bool,
    /// Why it is not known in full.
    pub(super) reasons: Reasons,
}

impl Prepared {
    fn cost(&self) -> usize {
        // The text is kept as it was, redacted and normalised.
        3 * self.sql.query().as_bytes().len() + OVERHEAD
    }

    /// Reads the values of COM_STMT_EXECUTE from its payload behind the id. `named`: CLIENT_QUERY_ATTRIBUTES.
    fn execute(&mut self, body: &[u8], named: bool, budget: usize) -> Option<Parameters> {
        let mut cursor = Cursor::new(body);
        let flags = cursor.u8()?;
        let _iterations = cursor.u32_le()?;
        let mut count = usize::from(self.parameters);
        if named && flags & PARAMETER_COUNT_AVAILABLE != 0 {
            count = usize::try_from(wire::lenenc(&mut cursor)?).ok()?;
        }
        if count == 0 {
            return Some(Parameters::default());
        }
        let nulls = cursor.take(count.div_ceil(8))?;
        if cursor.u8()? == 1 {
            self.types = Some(parameters::types(&mut cursor, count, named)?);
            self.doubtful = false;
        }
        let types = self.types.as_ref().filter(|types| types.len() == count && !self.doubtful)?;
        // Query attributes stand behind the statement's own parameters.
        let own = types.get(..usize::from(self.parameters)).unwrap_or(types);
        let long = |index| u16::try_from(index).ok().and_then(|index| self.long.get(&index).copied());
        Some(parameters::values(&mut cursor, own, nulls, long, budget))
    }
}

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Statements {
    by_id: BTreeMap<u32, Prepared>,
    cost: usize,
    last: Option<u32>,
}

impl Statements {
    pub(super) fn get(&self, id: u32) -> Option<&Prepared> {
        self.by_id.get(&self.actual(id)?)
    }

    fn actual(&self, id: u32) -> Option<u32> {
        if id == LAST { self.last } else { Some(id) }
    }

    /// A statement has been prepared; `None` if that failed.
    pub(super) fn prepared(&mut self, prepared: Option<(u32, u16, Statement, Reasons)>) {
        self.last = prepared.as_ref().map(|(id, ..)| *id);
        let Some((id, parameters, sql, reasons)) = prepared else { return };
        self.close(id);
        let long = BTreeMap::new();
        let prepared = Prepared { sql, parameters, types: None, long, doubtful: false, reasons };
        self.cost += prepared.cost();
        self.by_id.insert(id, prepared);
        while self.cost > BUDGET
            && let Some((_, oldest)) = self.by_id.pop_first()
        {
            // Ids grow.
            self.cost -= oldest.cost();
        }
    }

    /// Values of an execution of a statement that is known. `body`: what is behind the id.
    pub(super) fn execute(&mut self, id: u32, body: &[u8], named: bool, budget: usize) -> Option<Parameters> {
        let id = self.actual(id)?;
        let prepared = self.by_id.get_mut(&id)?;
        let parameters = prepared.execute(body, named, budget);
        prepared.long.clear();
        Some(parameters.unwrap_or(Parameters { values: Vec::new(), truncated: true }))
    }

    /// Types may have been given that were not seen.
    pub(super) fn doubt(&mut self) {
        for prepared in self.by_id.values_mut() {
            prepared.doubtful = true;
            prepared.long.clear();
        }
    }

    /// A piece of a parameter was sent.
    pub(super) fn add_long_data(&mut self, id: u32, parameter: u16, length: u64) {
        let Some(prepared) = self.actual(id).and_then(|id| self.by_id.get_mut(&id)) else { return };
        if parameter < prepared.parameters {
            let sum = prepared.long.entry(parameter).or_default();
            *sum = sum.saturating_add(length);
        }
    }

    pub(super) fn reset(&mut self, id: u32) {
        if let Some(prepared) = self.by_id.get_mut(&id) {
            prepared.long.clear();
        }
    }

    pub(super) fn close(&mut self, id: u32) {
        let id = self.actual(id).unwrap_or(id);
        if let Some(closed) = self.by_id.remove(&id) {
            self.cost -= closed.cost();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Query attributes before the text of COM_QUERY (CLIENT_QUERY_ATTRIBUTES); `None` if they are not all there.
pub(super) fn skip_attributes(cursor: &mut Cursor<'_>) -> Option<()> {
    let count = usize::try_from(wire::lenenc(cursor)?).ok()?;
    let _sets = wire::lenenc(cursor)?;
    if count == 0 {
        return Some(());
    }
    let nulls = cursor.take(count.div_ceil(8))?;
    if cursor.u8()? != 1 {
        return None;
    }
    for (index, of_type) in parameters::types(cursor, count, true)?.into_iter().enumerate() {
        if nulls.get(index / 8)? >> (index % 8) & 1 == 0 {
            parameters::value(cursor, of_type)?;
        }
    }
    Some(())
}
