//! When bytes passed the process.

/// Nanoseconds of a monotonic clock whose origin the caller chooses. This crate only compares and subtracts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

/// The interval in which a transfer happened: a system call or library call has an entry and a return.
///
/// The first byte of a message is dated by `start` of its transfer, the last byte by `end` of its transfer. Where
/// only one moment is known the two are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Entry of the call that moved the bytes.
    pub start: Time,
    /// Return of that call.
    pub end: Time,
}

impl Span {
    /// A transfer of which only one moment is known.
    pub fn at(time: Time) -> Self {
        Self { start: time, end: time }
    }
}
