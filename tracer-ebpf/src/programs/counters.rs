//! Counting, per CPU.

use tracer_ebpf::Counters;

use crate::maps::COUNTERS;

/// This CPU's counters.
///
/// A program that is preempted by another on the same CPU may lose an increment between load and store; programs run
/// with migration disabled, and the window is one instruction pair.
#[inline(always)]
pub fn counters() -> Option<&'static mut Counters> {
    // SAFETY: the map has one element that lives as long as the program; nobody else on this CPU holds it while a
    // plain load-add-store runs.
    COUNTERS.get_ptr_mut(0).map(|counters| unsafe { &mut *counters })
}

/// Adds to one counter.
#[inline(always)]
pub fn count(update: impl FnOnce(&mut Counters)) {
    if let Some(counters) = counters() {
        update(counters);
    }
}

/// Counts a run of a program.
#[inline(always)]
pub fn hit(program: usize) {
    if let Some(counters) = counters() {
        counters.hits[program] += 1;
    }
}
