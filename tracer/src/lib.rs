//! From a running process to one line per request.

pub mod capture;
pub mod record;
