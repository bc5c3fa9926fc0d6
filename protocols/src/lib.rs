//! Bytes in, exchanges out.
//!
//! A [`Connection`] takes what passed one socket (or one TLS session) as [`Segment`]s: bytes, their position in
//! the stream, how long the transfer really was, and when it happened. It puts them in order ([`reassembly`]),
//! recognises the protocol from its content ([`registry`]), drives that protocol's [`Parser`] and hands out
//! [`Exchange`]s: one request with its response.
//!
//! This crate does no I/O, reads no clock and knows nothing of kernels or processes: a captured file and a live
//! process take the same path through it, and the same bytes always give the same exchanges.
//!
//! A new protocol is one folder here and one line in [`registry`]; see `docs/adding-a-protocol.md`.
#![forbid(unsafe_code)]

mod connection;
mod cursor;
pub mod dns;
mod exchange;
mod fifo;
pub mod http;
pub mod http2;
mod inference;
mod limits;
mod mysql;
mod parser;
mod pgsql;
mod proxy;
pub mod reassembly;
pub mod redis;
pub mod registry;
pub mod sql;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod time;

pub use connection::{Connection, Counters, Direction, Layer};
pub use cursor::Cursor;
pub use exchange::{Exchange, Part, Payload, Print, Reason, Reasons, Summary};
pub use fifo::Fifo;
pub use inference::{Inference, Sender};
pub use limits::Limits;
pub use parser::{Boundary, Context, Handoff, Input, Output, Parser, Side, Skipped, Step, Transport, Violation};
pub use proxy::Proxied;
pub use reassembly::Segment;
pub use registry::Registration;
pub use text::Text;
pub use time::{Span, Time};

/// The example in the guide stays true.
#[cfg(doctest)]
#[doc = include_str!("../../docs/adding-a-protocol.md")]
struct AddingAProtocol;
