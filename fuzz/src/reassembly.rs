//! Reassembly beside a model that keeps every byte.

use protocols::reassembly::{Cause, Chunk, Reassembler, Tally};
use protocols::{Segment, Span};

/// Positions that segments may lie at.
const SPACE: usize = 1 << 10;

/// What the model knows of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unseen,
    Byte(u8),
    CutOff,
}

struct Model {
    places: Vec<Place>,
    next: usize,
    tally: Tally,
}

/// Each segment is six bytes: position and length, how many of its bytes were cut off, content, and what follows.
pub fn check(input: &[u8]) {
    let Some((&limit, rest)) = input.split_first() else { return };
    let limit = usize::from(limit) * 16;
    let mut reassembler = Reassembler::new(Some(0), limit);
    let mut model = Model { places: vec![Place::Unseen; SPACE + 512], next: 0, tally: Tally::default() };
    for step in rest.chunks_exact(6) {
        let &[low, high, length, cut_off, content, then] = step else { continue };
        let position = usize::from(u16::from_le_bytes([low, high])) % SPACE;
        let bytes: Vec<u8> = (0..length).map(|at| contents(position + usize::from(at), content)).collect();
        let captured = &bytes[..bytes.len().saturating_sub(cut_off.into())];
        model.arrive(position, captured, bytes.len());
        let segment =
            Segment { position: position as u64, bytes: captured, length: bytes.len() as u64, span: Span::default() };
        reassembler.insert(segment, &mut |chunk| model.delivered(chunk));
        model.arrived(&mut reassembler, limit);
        match then {
            0 => reassembler.flush(&mut |chunk| model.delivered(chunk)),
            1 => {
                let known = (position + bytes.len()) as u64;
                reassembler.flush_before(known, &mut |chunk| model.delivered(chunk));
                assert!(reassembler.next() >= Some(known), "given up on, and still awaited");
            }
            _ => {}
        }
    }
    reassembler.flush(&mut |chunk| model.delivered(chunk));
    assert!(
        !reassembler.is_waiting() && reassembler.held() == 0,
        "holds bytes after it gave up on all that is missing"
    );
    assert_eq!(reassembler.tally(), model.tally);
    assert!(model.places[model.next..].iter().all(|place| *place == Place::Unseen), "seen and not handed out");
}

/// Mostly the same content at one position; sometimes another, as a sender that contradicts itself.
fn contents(position: usize, content: u8) -> u8 {
    (position as u8).wrapping_mul(31) ^ (content & 1)
}

impl Model {
    /// The first copy of each byte wins; what the limit cut off counts as seen.
    fn arrive(&mut self, position: usize, captured: &[u8], length: usize) {
        for offset in 0..length {
            let at = position + offset;
            let place = captured.get(offset).map_or(Place::CutOff, |byte| Place::Byte(*byte));
            match self.places[at] {
                _ if at < self.next => self.tally.duplicate += 1,
                Place::Unseen => self.places[at] = place,
                seen => {
                    self.tally.duplicate += 1;
                    let both = matches!((seen, place), (Place::Byte(_), Place::Byte(_)));
                    self.tally.conflicting += u64::from(both && seen != place);
                }
            }
        }
    }

    fn delivered(&mut self, chunk: Chunk<'_>) {
        match chunk {
            Chunk::Bytes { bytes, .. } => {
                assert!(!bytes.is_empty(), "nothing is no chunk");
                for byte in bytes {
                    assert_eq!(self.places[self.next], Place::Byte(*byte), "at {}", self.next);
                    self.next += 1;
                }
                self.tally.delivered += bytes.len() as u64;
            }
            Chunk::Missing { length, cause, .. } => {
                assert!(length > 0, "nothing is no chunk");
                let (expected, count) = match cause {
                    Cause::Lost => (Place::Unseen, &mut self.tally.lost),
                    Cause::Truncated => (Place::CutOff, &mut self.tally.truncated),
                };
                *count += length;
                for _ in 0..length {
                    assert_eq!(self.places[self.next], expected, "at {}", self.next);
                    self.next += 1;
                }
            }
        }
    }

    fn arrived(&self, reassembler: &mut Reassembler, limit: usize) {
        assert_eq!(reassembler.next(), Some(self.next as u64));
        assert!(reassembler.held() <= limit, "{} bytes held, limit {limit}", reassembler.held());
        let waits = self.places[self.next..].iter().any(|place| *place != Place::Unseen);
        assert_eq!(reassembler.is_waiting(), waits);
        assert!(!waits || self.places[self.next] == Place::Unseen, "in order, and not handed out");
    }
}
