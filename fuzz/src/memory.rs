//! How much memory is in use, to see that a bound holds.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Measures what is allocated from here on and not yet freed.
pub struct Meter(Region<'static, System>);

impl Meter {
    /// Begins at nothing.
    #[expect(clippy::new_without_default, reason = "it begins to measure now, which a default should not")]
    pub fn new() -> Self {
        Self(Region::new(ALLOCATOR))
    }

    /// Bytes in use that were not when the meter was made.
    pub fn in_use(&self) -> usize {
        let change = self.0.change();
        // What a reallocation adds counts apart from what allocations add.
        let added = change.bytes_allocated as isize + change.bytes_reallocated;
        usize::try_from(added - change.bytes_deallocated as isize).unwrap_or_default()
    }
}
