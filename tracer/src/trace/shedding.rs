//! Which connections are left out: those that `--sample` does not choose, and, while the tracer cannot keep up, more.
//!
//! Losing whole connections leaves the records of the others true and complete; losing whatever finds no room in the
//! ring would spoil some of each. The kernel side does it ([`tracer_ebpf::sample`]); this says how many. The share is
//! halved as long as events are lost or come late, and doubled again when there has been calm for a while. A doubling
//! that brings the trouble back makes the next one wait longer.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Events that are older than this when they are read show that the reader is behind.
const LATE: Duration = Duration::from_secs(1);

/// How long calm must last before more is taken on: at first, and at most.
const PATIENCE: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(30)];

/// The smallest share: one of this many, as a power of two.
const MOST_HALVINGS: u32 = 10;

/// The share of connections to trace: `keep` of 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    keep: u64,
}

impl Sample {
    /// Marks below this are left out, when the share is halved so many times.
    fn level(self, halvings: u32) -> u32 {
        // All but one at least: a level has 32 bits, and no mark is below 0.
        u32::try_from((1_u64 << 32) - (self.keep >> halvings).max(1)).unwrap_or(u32::MAX)
    }
}

impl FromStr for Sample {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a share such as 1/10 or 2.5%, above 0 and at most 1";
        let share = match (text.strip_prefix("1/"), text.strip_suffix('%')) {
            (Some(of), _) => 1.0 / f64::from(of.parse::<u32>().map_err(|_| EXPECTED)?),
            (_, Some(percent)) => percent.parse::<f64>().map_err(|_| EXPECTED)? / 100.0,
            _ => return Err(EXPECTED),
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(EXPECTED);
        }
        Ok(Self { keep: (share * (1_u64 << 32) as f64) as u64 })
    }
}

/// How many connections are left out at present, and when to change that.
#[derive(Debug)]
pub struct Shedding {
    sample: Sample,
    /// Whether it may change at all.
    adapts: bool,
    halvings: u32,
    lost: u64,
    looked: Instant,
    /// Since when nothing was lost or late.
    calm_since: Instant,
    patience: Duration,
    /// When the share was last doubled.
    raised: Option<Instant>,
}

/// What a look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The reader has fallen behind: one of this many connections is left of those that the sample chooses.
    Less(u32),
    /// The reader keeps up: one of this many, which is more than before.
    More(u32),
}

impl Shedding {
    /// Begins with what the sample chooses.
    pub fn new(sample: Sample, adapts: bool, now: Instant) -> Self {
        let [patience, _] = PATIENCE;
        Self { sample, adapts, halvings: 0, lost: 0, looked: now, calm_since: now, patience, raised: None }
    }

    /// For the kernel side: marks below this are left out.
    pub fn level(&self) -> u32 {
        self.sample.level(self.halvings)
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Instant) -> bool {
        self.adapts && now.duration_since(self.looked) >= LOOK
    }

    /// Looks at how many events were `lost` in all, and how old the last one was that was read.
    pub fn look(&mut self, now: Instant, lost: u64, age: Duration) -> Option<Change> {
        let troubled = lost > self.lost || age > LATE;
        (self.lost, self.looked) = (lost, now);
        if troubled { self.lower(now) } else { self.raise(now) }
    }

    fn lower(&mut self, now: Instant) -> Option<Change> {
        self.calm_since = now;
        let [_, longest] = PATIENCE;
        if self.raised.take().is_some_and(|raised| now.duration_since(raised) < 4 * self.patience) {
            self.patience = (2 * self.patience).min(longest);
        }
        if self.halvings == MOST_HALVINGS {
            return None;
        }
        self.halvings += 1;
        Some(Change::Less(1 << self.halvings))
    }

    fn raise(&mut self, now: Instant) -> Option<Change> {
        let calm = now.duration_since(self.calm_since);
        let [shortest, longest] = PATIENCE;
        if self.halvings == 0 {
            if calm > longest {
                self.patience = shortest;
            }
            return None;
        }
        if calm < self.patience {
            return None;
        }
        self.halvings -= 1;
        (self.calm_since, self.raised) = (now, Some(now));
        Some(Change::More(1 << self.halvings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sample = Sample { keep: 1 << 32 };

    /// Looks every 100 ms, with these totals of lost events; the shares that it changes to.
    fn watch(shedding: &mut Shedding, begin: Instant, lost: impl IntoIterator<Item = u64>) -> Vec<Change> {
        let times = (1..).map(|tick| begin + tick * LOOK);
        times.zip(lost).filter_map(|(now, lost)| shedding.look(now, lost, Duration::ZERO)).collect()
    }

    #[test]
    fn shares() {
        for (text, keep) in [("1/1", 1 << 32), ("1/4", 1 << 30), ("100%", 1 << 32), ("12.5%", 1 << 29)] {
            assert_eq!(text.parse(), Ok(Sample { keep }), "{text}");
        }
        for text in ["", "0", "1", "1/0", "2/3", "0%", "101%", "-1%", "NaN%", "1/-2", "1/x"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_whole_sample_leaves_nothing_out_and_the_smallest_not_everything() {
        assert_eq!(ALL.level(0), 0);
        assert_eq!(ALL.level(1), 1 << 31);
        assert_eq!(Sample { keep: 1 << 30 }.level(0), 3 << 30);
        assert_eq!(Sample { keep: 1 }.level(MOST_HALVINGS), u32::MAX);
    }

    #[test]
    fn one_burst_costs_less_than_a_second() {
        let begin = Instant::now();
        let mut shedding = Shedding::new(ALL, true, begin);
        let changes = watch(&mut shedding, begin, [0, 50, 50, 50, 50, 50, 50, 50, 50, 50]);
        assert_eq!(changes, [Change::Less(2), Change::More(1)]);
        assert_eq!(shedding.level(), 0);
    }

    #[test]
    fn it_is_halved_until_the_reader_keeps_up() {
        let begin = Instant::now();
        let mut shedding = Shedding::new(ALL, true, begin);
        assert_eq!(watch(&mut shedding, begin, 1..=3), [Change::Less(2), Change::Less(4), Change::Less(8)]);
        let more = watch(&mut shedding, begin, 4..40);
        assert_eq!(more.last(), Some(&Change::Less(1 << MOST_HALVINGS)));
    }

    #[test]
    fn late_events_count_as_trouble() {
        let begin = Instant::now();
        let mut shedding = Shedding::new(ALL, true, begin);
        assert_eq!(shedding.look(begin + LOOK, 0, 2 * LATE), Some(Change::Less(2)));
    }

    #[test]
    fn a_share_that_is_too_much_is_tried_ever_more_rarely() {
        let begin = Instant::now();
        let mut shedding = Shedding::new(ALL, true, begin);
        let mut lost = 0;
        let mut tries = Vec::new();
        for tick in 1..=1000 {
            // The whole is too much, the half is not.
            lost += u64::from(shedding.level() == 0);
            if let Some(Change::More(1)) = shedding.look(begin + tick * LOOK, lost, Duration::ZERO) {
                tries.push(tick);
            }
        }
        let gaps: Vec<u32> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted() && tries.len() < 12, "{tries:?}");
    }
}
