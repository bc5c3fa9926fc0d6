//! From a running process to one line per request.

pub mod kernel;
pub mod record;
pub mod sys;
