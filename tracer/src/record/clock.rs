//! From the kernel's monotonic clock to wall time.

use std::io::Write as _;

use protocols::Time;
use rustix::time::{ClockId, clock_gettime};

const SECOND: u64 = 1_000_000_000;

/// Readings of which the closest pair counts: one may be interrupted in its middle.
const READINGS: usize = 8;

/// UTC wall time in nanoseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

/// The kernel's clocks could not be read or make no sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's wall clock reads before 1970 or behind its monotonic clock: set the machine's time")]
pub struct ClockError;

/// Maps [`Time`]s to wall time by a fixed offset. Make a new one now and then to follow steps of the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    offset: u64,
}

impl Clock {
    /// For times that already are nanoseconds since 1970-01-01 UTC, as in captured files.
    pub const WALL: Self = Self { offset: 0 };

    /// `offset`: what to add to a time to get nanoseconds since 1970-01-01 UTC.
    pub const fn with_offset(offset: u64) -> Self {
        Self { offset }
    }

    /// For times of `CLOCK_MONOTONIC`, which `bpf_ktime_get_ns` reads (bpf-helpers(7)).
    pub fn kernel() -> Result<Self, ClockError> {
        (0..READINGS).filter_map(|_| reading()).min().map(|(_, offset)| Self { offset }).ok_or(ClockError)
    }

    /// The wall time of a moment.
    pub fn wall(&self, time: Time) -> WallTime {
        WallTime(self.offset.saturating_add(time.0))
    }
}

/// The present moment of the clock that the kernel side reads.
pub fn now() -> Time {
    Time(read(ClockId::Monotonic).unwrap_or_default())
}

/// How long one reading took, and the offset by it.
fn reading() -> Option<(u64, u64)> {
    let before = read(ClockId::Monotonic)?;
    let wall = read(ClockId::Realtime)?;
    let after = read(ClockId::Monotonic)?;
    let took = after.checked_sub(before)?;
    Some((took, wall.checked_sub(before + took / 2)?))
}

fn read(clock: ClockId) -> Option<u64> {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    seconds.checked_mul(SECOND)?.checked_add(u64::try_from(time.tv_nsec).ok()?)
}

/// Formats wall times as RFC 3339 with nanoseconds. Keeps the last second: most records share it with the one before.
#[derive(Clone, Debug, Default)]
pub struct Rfc3339 {
    second: Option<u64>,
    /// "2026-11-20T10:12:01.123456789Z"
    text: Vec<u8>,
}

impl Rfc3339 {
    /// The text of a time: date, `T`, time of day with nine digits of fraction, `Z`.
    pub fn format(&mut self, time: WallTime) -> &str {
        let second = time.0 / SECOND;
        if self.second != Some(second) {
            self.second = Some(second);
            let civil = Civil::new(second);
            self.text.clear();
            let (year, month, day) = (civil.year, civil.month, civil.day);
            let (hour, minute, second) = (civil.hour, civil.minute, civil.second);
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000000000Z");
        }
        let end = self.text.len().saturating_sub(1);
        let mut fraction = time.0 % SECOND;
        for digit in self.text.get_mut(end.saturating_sub(9)..end).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// A second of the proleptic Gregorian calendar, UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Days to date after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn new(second: u64) -> Self {
        let (days, of_day) = (second / 86_400 + 719_468, second % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_agrees_with_known_dates() {
        let mut format = Rfc3339::default();
        // Seconds as `date -u -d @N` prints them.
        for (second, text) in [
            (0, "1970-01-01T00:00:00.000000042Z"),
            (951_782_400, "2000-02-29T00:00:00.000000042Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000042Z"),
            (1_795_169_521, "2026-11-20T10:12:01.000000042Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000042Z"),
        ] {
            assert_eq!(format.format(WallTime(second * SECOND + 42)), text);
        }
    }

    #[test]
    fn the_kept_second_does_not_leak_into_other_times() {
        let mut format = Rfc3339::default();
        assert_eq!(format.format(WallTime(1_999_999_999)), "1970-01-01T00:00:01.999999999Z");
        assert_eq!(format.format(WallTime(1_000_000_007)), "1970-01-01T00:00:01.000000007Z");
        assert_eq!(format.format(WallTime(60_120_000_000)), "1970-01-01T00:01:00.120000000Z");
        assert_eq!(format.format(WallTime(1_999_999_999)), "1970-01-01T00:00:01.999999999Z");
    }

    #[test]
    fn the_kernels_monotonic_clock_maps_to_now() {
        let clock = Clock::kernel().unwrap();
        let wall = clock.wall(now()).0;
        let expected = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(wall.abs_diff(expected) < SECOND / 10, "{wall} against {expected}");
    }
}
