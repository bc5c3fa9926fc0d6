//! Counts of the results of one command, which may be several statements.

/// How many results of one command are listed.
const LISTED: usize = 32;

/// Lists a result, or counts it where too many are listed.
pub(crate) fn list<T>(results: &mut Vec<T>, omitted: &mut Option<u64>, result: T) {
    if results.len() < LISTED {
        results.push(result);
    } else {
        *omitted.get_or_insert(0) += 1;
    }
}

/// The sum of what is known; `None` only where nothing is.
pub(crate) fn sum(total: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (total, more) {
        (Some(total), Some(more)) => Some(total.saturating_add(more)),
        (total, more) => total.or(more),
    }
}
