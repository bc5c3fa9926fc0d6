//! What the tests share: servers, clients, the tracer under test, and comparison.

mod audit;
pub mod certificate;
mod client;
mod differences;
mod ledger;
pub mod logged;
pub mod mariadb;
mod nginx;
mod peer;
pub mod postgres;
mod process;
mod program;
mod python;
pub mod redis;
mod rows;
mod tracer;
mod wire;

pub use audit::{Audit, Role};
pub use certificate::make as make_certificate;
pub use client::{Call, Client, Request};
pub use differences::Differences;
pub use nginx::{Nginx, NginxConfig, Scheme};
pub use peer::Peer;
pub use process::{
    Server, bound, children_of, comes_true, run, signal, unused_port, unused_ports, virtual_machine, wait_until,
};
pub use program::{Held, Program};
pub use python::interpreter as python;
pub use rows::Row;
pub use tracer::{Outcome, Tracer, binary, command};
pub use wire::{Place, Wire};

/// Nanoseconds since 1970-01-01 UTC.
pub fn now_ns() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("clock before 1970");
    u64::try_from(elapsed.as_nanos()).expect("clock after 2554")
}
