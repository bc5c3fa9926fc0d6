//! What a session has prepared: statements and portals by name, as far as it was seen.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::parameters::{Parameter, Parameters};
use crate::sql::Statement;
use crate::{Reasons, Text};

/// Bytes of statements and parameters that one connection remembers.
const BUDGET: usize = 1 << 20;

/// What an entry costs beside its text.
const OVERHEAD: usize = 128;

/// A statement that was parsed.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: Text,
    pub(super) sql: Statement,
    /// Object ids of the types of its parameters; zero where the client left that to the server.
    pub(super) types: Vec<u32>,
    /// Why it is not known in full.
    pub(super) reasons: Reasons,
}

/// A statement with its parameters.
#[derive(Debug)]
pub(super) struct Portal {
    /// `None`: prepared when it could not be seen.
    pub(super) prepared: Option<Arc<Prepared>>,
    /// Name of the statement.
    pub(super) statement: Text,
    pub(super) parameters: Parameters,
    /// Why it is not known in full.
    pub(super) reasons: Reasons,
}

impl Portal {
    /// The same, as if none of its parameters had been kept.
    pub(super) fn without_parameters(&self) -> Self {
        Self {
            prepared: self.prepared.clone(),
            statement: self.statement.clone(),
            parameters: Parameters { values: Vec::new(), truncated: true },
            reasons: self.reasons,
        }
    }
}

/// Values by name, bounded: the oldest are forgotten.
#[derive(Debug)]
pub(super) struct Names<V> {
    entries: HashMap<Text, Entry<V>>,
    order: VecDeque<(Text, u64)>,
    added: u64,
    cost: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    cost: usize,
    added: u64,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), added: 0, cost: 0 }
    }
}

impl<V: Costs> Names<V> {
    pub(super) fn get(&self, name: &Text) -> Option<&Arc<V>> {
        self.entries.get(name).map(|entry| &entry.value)
    }

    /// Sets or removes a name; gives what it stood for before.
    pub(super) fn set(&mut self, name: &Text, value: Option<Arc<V>>) -> Option<Arc<V>> {
        let previous = self.entries.remove(name);
        self.cost -= previous.as_ref().map_or(0, |entry| entry.cost);
        if let Some(value) = value {
            let cost = value.cost() + 2 * name.as_bytes().len() + OVERHEAD;
            self.added += 1;
            self.cost += cost;
            self.order.push_back((name.clone(), self.added));
            self.entries.insert(name.clone(), Entry { value, cost, added: self.added });
            self.forget();
        }
        previous.map(|entry| entry.value)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self) {
        if self.order.len() > 2 * self.entries.len() + 16 {
            // Names that were set again left their old places behind.
            self.order.retain(|(name, added)| self.entries.get(name).is_some_and(|entry| entry.added == *added));
        }
        while self.cost > BUDGET {
            let Some((name, added)) = self.order.pop_front() else { return };
            if self.entries.get(&name).is_some_and(|entry| entry.added == added) {
                self.set(&name, None);
            }
        }
    }
}

/// What remembering a value costs in bytes, about.
pub(super) trait Costs {
    fn cost(&self) -> usize;
}

impl Costs for Prepared {
    fn cost(&self) -> usize {
        // The text is kept as it was, redacted and normalised.
        3 * self.sql.query().as_bytes().len() + 4 * self.types.len()
    }
}

impl Costs for Portal {
    fn cost(&self) -> usize {
        self.parameters.values.iter().map(Parameter::cost).sum()
    }
}
