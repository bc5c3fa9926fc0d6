//! Counting, per CPU.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ops::{AddAssign, SubAssign};

use tracer_ebpf::Counters;

use crate::maps::COUNTERS;

/// A number that programs add to. A program may be interrupted by another on the same CPU (by a softirq, and on
/// preemptible kernels by any), so an addition has to be one instruction, or the ledger would not balance.
#[repr(transparent)]
pub struct Counter(UnsafeCell<u64>);

impl AddAssign<u64> for Counter {
    #[inline(always)]
    fn add_assign(&mut self, number: u64) {
        // SAFETY: a live number, and the instruction that adds atomically: core offers none for this target.
        unsafe {
            asm!("lock *(u64 *)({counter} + 0) += {number}", counter = in(reg) self.0.get(), number = in(reg) number)
        };
    }
}

impl SubAssign<u64> for Counter {
    #[inline(always)]
    fn sub_assign(&mut self, number: u64) {
        *self += number.wrapping_neg();
    }
}

const _: () = assert!(size_of::<Counters<Counter>>() == size_of::<Counters>());

/// Adds to some of this CPU's counters.
#[inline(always)]
pub fn count(update: impl FnOnce(&mut Counters<Counter>)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map has one element that lives as long as the program, and each counter is only ever added to
        // atomically.
        update(unsafe { &mut *counters.cast() });
    }
}

/// Counts a run of a program.
#[inline(always)]
pub fn hit(program: usize) {
    count(|counters| counters.hits[program] += 1);
}
