//! Putting fragmented IP datagrams together.
//!
//! Bounded in datagrams and in fragments each. A fragment that overlaps another makes the whole datagram unbelievable
//! (RFC 5722, and the same for IPv4: what a host makes of an overlap differs between systems); an exact copy is
//! ignored.

use std::collections::BTreeMap;
use std::net::IpAddr;

use protocols::Time;

use super::packet::Wire;

/// Datagrams that may be incomplete at a time; the oldest is given up beyond it.
const MAX_DATAGRAMS: usize = 256;

/// Fragments of one datagram: enough for 64 KiB over links of 576 bytes.
const MAX_FRAGMENTS: usize = 256;

/// Longest time between the first fragment and the last (RFC 1122 section 3.3.2 and RFC 8200 section 4.5: 60 s).
const TIMEOUT_NS: u64 = 60_000_000_000;

/// Length of the largest datagram.
const MAX_LENGTH: usize = 65_535;

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub identification: u32,
    pub protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    pub key: Key,
    /// Place of the payload in the datagram, in bytes.
    pub offset: usize,
    pub more: bool,
    pub payload: Wire<'a>,
}

/// What a fragment led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Others are missing.
    Held,
    /// The datagram: its captured beginning and its length.
    Whole(Vec<u8>, usize),
    /// The datagram is not believed, and this many fragments of it were dropped.
    Overlap(u64),
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

#[derive(Debug)]
struct Partial {
    since: Time,
    /// Order of arrival, for eviction.
    number: u64,
    pieces: BTreeMap<usize, Piece>,
    /// Known from the last fragment.
    length: Option<usize>,
    /// Every further fragment is dropped.
    unbelievable: bool,
}

/// The datagrams that wait for fragments.
#[derive(Debug, Default)]
pub struct Fragments {
    partials: BTreeMap<Key, Partial>,
    next_number: u64,
    incomplete: u64,
}

impl Fragments {
    /// Takes a fragment.
    pub fn insert(&mut self, fragment: Fragment<'_>, now: Time) -> Outcome {
        let key = fragment.key;
        let expired = |partial: &Partial| now.0.saturating_sub(partial.since.0) > TIMEOUT_NS;
        if self.partials.get(&key).is_some_and(expired) {
            self.give_up(key);
        }
        if !self.partials.contains_key(&key) && self.partials.len() >= MAX_DATAGRAMS {
            self.give_up_oldest();
        }
        let number = self.next_number;
        self.next_number += 1;
        let partial = self.partials.entry(key).or_insert_with(|| Partial::new(now, number));
        if partial.unbelievable {
            return Outcome::Overlap(1);
        }
        if !partial.insert(&fragment) {
            let dropped = partial.pieces.len() as u64 + 1;
            partial.pieces.clear();
            partial.unbelievable = true;
            return Outcome::Overlap(dropped);
        }
        match partial.whole() {
            Some((bytes, length)) => {
                self.partials.remove(&key);
                Outcome::Whole(bytes, length)
            }
            None => Outcome::Held,
        }
    }

    /// How many fragments were given up since the last call because others of their datagram did not come.
    pub fn take_incomplete(&mut self) -> u64 {
        std::mem::take(&mut self.incomplete)
    }

    /// Nothing more comes.
    pub fn finish(&mut self) {
        while !self.partials.is_empty() {
            self.give_up_oldest();
        }
    }

    fn give_up(&mut self, key: Key) {
        if let Some(partial) = self.partials.remove(&key) {
            self.incomplete += partial.pieces.len() as u64;
        }
    }

    fn give_up_oldest(&mut self) {
        let oldest = self.partials.iter().min_by_key(|(_, partial)| partial.number).map(|(&key, _)| key);
        if let Some(key) = oldest {
            self.give_up(key);
        }
    }
}

impl Partial {
    fn new(since: Time, number: u64) -> Self {
        Self { since, number, pieces: BTreeMap::new(), length: None, unbelievable: false }
    }

    /// `false` if the fragment contradicts the others.
    fn insert(&mut self, fragment: &Fragment<'_>) -> bool {
        let Wire { bytes, length } = fragment.payload;
        let end = fragment.offset + length;
        if let Some(piece) = self.pieces.get(&fragment.offset) {
            return piece.length == length && piece.bytes == bytes;
        }
        let before = self.pieces.range(..fragment.offset).next_back();
        let after = self.pieces.range(fragment.offset..).next();
        let overlaps = before.is_some_and(|(at, piece)| at + piece.length > fragment.offset)
            || after.is_some_and(|(&at, _)| at < end);
        let last = self.pieces.last_key_value().map_or(end, |(at, piece)| (at + piece.length).max(end));
        let length_differs = match self.length {
            Some(known) => last > known || (!fragment.more && known != end),
            None => !fragment.more && last > end,
        };
        if overlaps || length_differs || end > MAX_LENGTH || length == 0 || self.pieces.len() >= MAX_FRAGMENTS {
            return false;
        }
        if !fragment.more {
            self.length = Some(end);
        }
        self.pieces.insert(fragment.offset, Piece { bytes: bytes.to_vec(), length });
        true
    }

    /// The captured beginning of the datagram and its length, once all of it has passed.
    fn whole(&self) -> Option<(Vec<u8>, usize)> {
        let length = self.length?;
        let passed: usize = self.pieces.values().map(|piece| piece.length).sum();
        if passed != length {
            return None;
        }
        let mut bytes = Vec::new();
        for piece in self.pieces.values() {
            bytes.extend_from_slice(&piece.bytes);
            if piece.bytes.len() < piece.length {
                break;
            }
        }
        Some((bytes, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(offset: usize, bytes: &[u8], more: bool) -> Fragment<'_> {
        let key =
            Key { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), identification: 7, protocol: 17 };
        Fragment { key, offset, more, payload: Wire::new(bytes, bytes.len()) }
    }

    fn whole(bytes: &[u8]) -> Outcome {
        Outcome::Whole(bytes.to_vec(), bytes.len())
    }

    #[test]
    fn fragments_come_together_in_any_order() {
        let parts = [fragment(0, b"aaaaaaaa", true), fragment(8, b"bbbbbbbb", true), fragment(16, b"cc", false)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fragments = Fragments::default();
            assert_eq!(fragments.insert(parts[order[0]], Time(0)), Outcome::Held);
            assert_eq!(fragments.insert(parts[order[1]], Time(1)), Outcome::Held);
            assert_eq!(fragments.insert(parts[order[2]], Time(2)), whole(b"aaaaaaaabbbbbbbbcc"), "{order:?}");
            assert!(fragments.partials.is_empty());
        }
    }

    #[test]
    fn an_exact_copy_is_ignored() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.insert(fragment(0, b"aaaaaaaa", true), Time(0)), Outcome::Held);
        assert_eq!(fragments.insert(fragment(0, b"aaaaaaaa", true), Time(0)), Outcome::Held);
        assert_eq!(fragments.insert(fragment(8, b"bb", false), Time(0)), whole(b"aaaaaaaabb"));
    }

    #[test]
    fn an_overlap_makes_the_whole_datagram_unbelievable() {
        let overlaps = [
            fragment(0, b"AAAAAAAA", true),
            fragment(8, b"BBBBBBBBBBBB", true),
            fragment(0, b"aaaaaaaaaaaaaaaa", true),
            fragment(4, b"x", false),
        ];
        for overlap in overlaps {
            let mut fragments = Fragments::default();
            fragments.insert(fragment(0, b"aaaaaaaa", true), Time(0));
            fragments.insert(fragment(16, b"cccccccc", true), Time(0));
            assert_eq!(fragments.insert(overlap, Time(0)), Outcome::Overlap(3), "{overlap:?}");
            assert_eq!(fragments.insert(fragment(8, b"bbbbbbbb", true), Time(0)), Outcome::Overlap(1));
        }
    }

    #[test]
    fn two_ends_contradict_each_other() {
        let mut fragments = Fragments::default();
        fragments.insert(fragment(8, b"bb", false), Time(0));
        assert_eq!(fragments.insert(fragment(16, b"cc", false), Time(0)), Outcome::Overlap(2));
    }

    #[test]
    fn a_cut_off_fragment_leaves_the_beginning() {
        let mut fragments = Fragments::default();
        let cut = Fragment { payload: Wire::new(b"aaaa", 8), ..fragment(0, b"", true) };
        fragments.insert(cut, Time(0));
        let outcome = fragments.insert(fragment(8, b"bb", false), Time(0));
        assert_eq!(outcome, Outcome::Whole(b"aaaa".to_vec(), 10));
    }

    #[test]
    fn a_reused_identification_does_not_mix_with_what_is_old() {
        let mut fragments = Fragments::default();
        fragments.insert(fragment(0, b"aaaaaaaa", true), Time(0));
        let later = Time(TIMEOUT_NS + 1);
        assert_eq!(fragments.insert(fragment(8, b"bb", false), later), Outcome::Held);
        assert_eq!(fragments.take_incomplete(), 1);
        assert_eq!(fragments.insert(fragment(0, b"cccccccc", true), later), whole(b"ccccccccbb"));
    }

    #[test]
    fn the_oldest_datagram_is_given_up_when_there_are_too_many() {
        let mut fragments = Fragments::default();
        for identification in 0..=MAX_DATAGRAMS as u32 {
            let mut part = fragment(0, b"aaaaaaaa", true);
            part.key.identification = identification;
            fragments.insert(part, Time(0));
        }
        assert_eq!(fragments.partials.len(), MAX_DATAGRAMS);
        assert_eq!(fragments.take_incomplete(), 1);
        fragments.finish();
        assert_eq!(fragments.take_incomplete(), MAX_DATAGRAMS as u64);
    }

    #[test]
    fn fragments_of_one_datagram_are_bounded() {
        let mut fragments = Fragments::default();
        let outcomes = (0..=MAX_FRAGMENTS).map(|i| fragments.insert(fragment(i * 16, b"aaaaaaaa", true), Time(0)));
        assert_eq!(outcomes.last(), Some(Outcome::Overlap(MAX_FRAGMENTS as u64 + 1)));
    }
}
