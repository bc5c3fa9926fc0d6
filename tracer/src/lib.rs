//! From a running process to one line per request.

pub mod capture;
pub mod filter;
pub mod ledger;
pub mod output;
pub mod record;
