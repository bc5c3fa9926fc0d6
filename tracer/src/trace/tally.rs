//! The loss ledger, from the counters of the kernel side and of the connection table.

use tracer_ebpf::{Counters, program};

use crate::connections::Tallies;
use crate::ledger::{ByName, Bytes, Connections, Events, Ledger, Records};

/// What the event loop counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// Events that were read and understood.
    pub decoded: u64,
    /// Events that were read and not understood.
    pub rejected: u64,
}

/// Puts the ledger together.
pub fn ledger(kernel: &Counters, skipped_runs: u64, read: Read, table: &Tallies, records: Records) -> Ledger {
    let emitted = kernel.emitted;
    let lost = kernel.ring_full;
    Ledger {
        hook_hits: named(program::NAMES.into_iter().zip(kernel.hits)),
        events: Events {
            emitted,
            decoded: read.decoded,
            rejected: read.rejected,
            lost: named([("ring_full", lost)]),
            unread: emitted.saturating_sub(lost + read.decoded + read.rejected),
        },
        read_faults: kernel.faults,
        bytes: bytes(kernel, table),
        records,
        resyncs: table.resyncs,
        violations: table.violations,
        connections: Connections { shed: kernel.sockets_shed, ..table.connections },
        tuple_disagreements: kernel.tuple_disagreements + kernel.ambiguous_calls,
        abandoned_calls: kernel.abandoned_calls,
        skipped_runs,
        unverified_records: kernel.records_unverified,
        failed_updates: kernel.updates_failed,
    }
}

fn bytes(kernel: &Counters, table: &Tallies) -> Bytes {
    Bytes {
        seen: kernel.bytes_seen,
        captured: kernel.bytes_captured,
        delivered: table.delivered.saturating_sub(table.unrecognised),
        truncated: table.truncated,
        lost: named([
            ("ring_full", kernel.bytes_lost_ring_full),
            ("map_full", kernel.bytes_lost_map_full),
            ("read_fault", kernel.bytes_lost_fault),
            ("shed", kernel.bytes_shed),
            ("not_entered", kernel.bytes_lost_not_entered),
        ]),
        ignored: named([
            ("ciphertext", kernel.bytes_ciphertext),
            ("attaching", table.attaching),
            ("not_of_interest", kernel.bytes_skipped),
            ("not_recognised", table.unrecognised),
            ("no_content_visible", kernel.bytes_unseen),
            ("not_written", table.not_written),
        ]),
    }
}

fn named(counters: impl IntoIterator<Item = (&'static str, u64)>) -> ByName {
    counters.into_iter().filter(|(_, count)| *count > 0).collect()
}
