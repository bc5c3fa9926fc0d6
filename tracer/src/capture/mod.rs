//! Captured files in and out: what `tracer replay` reads and what a live tracer records.
//!
//! A packet of a file passes [`link`], [`ip`] (tunnels and fragments included) and [`tcp`] or [`sctp`], and ends as bytes with a
//! stream position in the same [`protocols::Connection`] that live capture feeds: what holds of a file holds of a
//! process. [`PcapngWriter`] writes what a live tracer captured as packets with comments, from which a replay takes
//! the same positions, times, process and connection.
//!
//! Everything is bounded: connections, bytes held, fragments, the size of a record. The same files give the same
//! records: ids come from a counter, time from the packets.

mod annotation;
mod chunk;
mod file;
mod fragments;
mod ip;
mod ledger;
mod link;
mod packet;
mod pcapng;
mod replay;
mod sctp;
mod table;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod writer;

pub use file::{FileError, Problem};
pub use ledger::{Bytes, Connections, Packets, ReplayLedger};
pub use replay::{Input, Options, ReplayArgs, Replayed, replay};
pub use writer::{Description, PcapngWriter};
