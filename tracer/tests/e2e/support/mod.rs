//! What the tests share: servers, clients, the tracer under test, and comparison.

mod audit;
pub mod certificate;
mod client;
mod differences;
mod ledger;
mod nginx;
mod process;
mod program;
mod rows;
mod tracer;

pub use audit::{Audit, Role};
pub use client::{Call, Client, Request};
pub use differences::Differences;
pub use nginx::{Nginx, NginxConfig, Scheme};
pub use process::{Server, children_of, run, signal, unused_port, unused_ports, virtual_machine, wait_until};
pub use program::{Held, Program};
pub use rows::Row;
pub use tracer::{Outcome, Tracer, binary, command};

/// Nanoseconds since 1970-01-01 UTC.
pub fn now_ns() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("clock before 1970");
    u64::try_from(elapsed.as_nanos()).expect("clock after 2554")
}
