//! From a running process to one line per request.

pub mod attach;
pub mod capture;
pub mod cli;
pub mod connections;
pub mod doctor;
pub mod events;
pub mod filter;
pub mod kernel;
pub mod ledger;
pub mod output;
pub mod record;
pub mod sys;
pub mod trace;
