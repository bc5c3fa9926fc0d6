//! The connection table: one entry a connection, from the first event to the last.
//!
//! Events come in the order in which they were written to the ring. A [`Stream`] is a socket (or a TLS session that no
//! socket is known for), a [`Flow`] all datagrams between two addresses on one process's socket.

mod address;
mod flow;
mod holds;
mod stream;
mod table;
mod tap;

pub use table::{Candidates, Settings, Table, Tallies};
pub use tap::{Facts, NoTap, Tap};
