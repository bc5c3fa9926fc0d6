//! Telling a datagram that was captured twice from one that was sent twice.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use protocols::{Direction, Time};

use super::packet::Wire;

/// A host does not send the same again this soon, while bridges and the loopback interface show one datagram twice.
const SAME_NS: u64 = 1_000_000;

/// Datagrams that are remembered.
const REMEMBERED: usize = 16;

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    direction: Direction,
    identification: u16,
    length: usize,
    digest: u64,
}

/// The last datagrams of a flow.
#[derive(Debug, Default)]
pub struct Copies {
    seen: VecDeque<(Time, Seen)>,
}

impl Copies {
    /// Whether the datagram is a copy of one that was captured a moment ago: the same bytes in the same direction,
    /// with the same identification in the IP header.
    pub fn is_copy(&mut self, direction: Direction, identification: u16, payload: Wire<'_>, time: Time) -> bool {
        let mut hasher = DefaultHasher::new();
        payload.bytes.hash(&mut hasher);
        let seen = Seen { direction, identification, length: payload.length, digest: hasher.finish() };
        let copy = self.seen.iter().any(|(at, other)| *other == seen && time.0.abs_diff(at.0) < SAME_NS);
        if !copy {
            self.seen.push_back((time, seen));
            if self.seen.len() > REMEMBERED {
                self.seen.pop_front();
            }
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_in_all_and_close_in_time_is_a_copy() {
        let mut copies = Copies::default();
        let wire = Wire::new(b"query", 5);
        assert!(!copies.is_copy(Direction::Read, 7, wire, Time(0)));
        assert!(copies.is_copy(Direction::Read, 7, wire, Time(SAME_NS - 1)));
        assert!(!copies.is_copy(Direction::Read, 7, wire, Time(SAME_NS)), "sent again");
        assert!(!copies.is_copy(Direction::Read, 8, wire, Time(SAME_NS)), "sent again at once");
        assert!(!copies.is_copy(Direction::Write, 7, wire, Time(SAME_NS)), "the other direction");
        assert!(!copies.is_copy(Direction::Read, 7, Wire::new(b"other", 5), Time(SAME_NS)));
    }
}
