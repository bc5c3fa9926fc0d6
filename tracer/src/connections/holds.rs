//! Bytes that a call is about to write, until its end tells how many it has written.

use std::collections::BTreeMap;

use tracer_ebpf::{Data, Released, flag};

/// Bytes held at most. A call in which the process waits for its peer holds what it was given.
const MOST: usize = 64 << 20;

/// What one call is about to write.
type Pieces = Vec<(Data, Vec<u8>)>;

/// The calls under way, the oldest first: their numbers begin with the time.
#[derive(Debug, Default)]
pub struct Holds {
    calls: BTreeMap<u64, Pieces>,
    /// Captured bytes in them.
    held: usize,
    /// Length of them, captured or not.
    length: u64,
    /// Length of what is not held any more and has not been written either.
    dropped: u64,
}

impl Holds {
    /// Takes a piece of what a call is about to write.
    pub fn hold(&mut self, data: &Data, payload: &[u8]) {
        self.calls.entry(data.header.connection).or_default().push((*data, payload.to_vec()));
        self.held += payload.len();
        self.length += length(data);
        while self.held > MOST {
            let Some((_, pieces)) = self.calls.pop_first() else { break };
            self.dropped += self.forget(&pieces);
        }
    }

    /// A call has ended. The pieces of what it has written, as if they had been written in one go now.
    pub fn release(&mut self, released: &Released) -> Pieces {
        let Some(pieces) = self.calls.remove(&released.call) else { return Vec::new() };
        let mut rest = self.forget(&pieces);
        let written = pieces.into_iter().filter_map(|piece| cut(piece, &released.data)).collect::<Pieces>();
        for (data, _) in &written {
            rest -= length(data);
        }
        self.dropped += rest;
        written
    }

    /// Length of all that came in and was not written, or not yet.
    pub fn not_written(&self) -> u64 {
        self.length + self.dropped
    }

    fn forget(&mut self, pieces: &Pieces) -> u64 {
        let length = pieces.iter().map(|(data, _)| length(data)).sum();
        self.held -= pieces.iter().map(|(_, payload)| payload.len()).sum::<usize>();
        self.length -= length;
        length
    }
}

/// What counts of a piece: one that could not be read is counted as such by the kernel side.
fn length(data: &Data) -> u64 {
    if data.header.flags & flag::FAULT == 0 { u64::from(data.length) } else { 0 }
}

/// A piece as far as it was written.
fn cut((piece, mut payload): (Data, Vec<u8>), written: &Data) -> Option<(Data, Vec<u8>)> {
    let left = u64::from(written.length).checked_sub(piece.position).filter(|left| *left > 0)?;
    let length = u64::from(piece.length).min(left);
    payload.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let mut header = written.header;
    header.flags |= piece.header.flags & (flag::FAULT | flag::CONTINUED);
    header.captured = payload.len() as u32;
    let position = written.position.wrapping_add(piece.position);
    Some((Data { header, position, length: length as u32, elapsed: written.elapsed }, payload))
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::Header;

    use super::*;

    fn piece(call: u64, position: u64, length: u32, payload: &[u8]) -> (Data, Vec<u8>) {
        let header = Header { connection: call, captured: payload.len() as u32, ..Header::default() };
        (Data { header, position, length, elapsed: 0 }, payload.to_vec())
    }

    fn released(call: u64, length: u32) -> Released {
        let header = Header { connection: 77, time: 5, ..Header::default() };
        Released { data: Data { header, position: 100, length, elapsed: 3 }, call }
    }

    fn holding(pieces: &[(Data, Vec<u8>)]) -> Holds {
        let mut holds = Holds::default();
        pieces.iter().for_each(|(data, payload)| holds.hold(data, payload));
        holds
    }

    #[test]
    fn what_was_written_is_given_out_where_and_when_it_was_written() {
        let mut holds = holding(&[piece(1, 0, 4, b"abcd"), piece(2, 0, 2, b"no"), piece(1, 4, 6, b"ef")]);
        assert_eq!(holds.not_written(), 12);
        let written = holds.release(&released(1, 10));
        let seen: Vec<_> = written.iter().map(|(data, payload)| (data.position, data.length, &payload[..])).collect();
        assert_eq!(seen, [(100, 4, &b"abcd"[..]), (104, 6, b"ef")]);
        assert!(written.iter().all(|(data, _)| (data.header.connection, data.header.time, data.elapsed) == (77, 5, 3)));
        assert_eq!(holds.not_written(), 2);
        assert!(holds.release(&released(1, 10)).is_empty(), "it is given out once");
    }

    #[test]
    fn what_was_not_written_is_not_given_out() {
        let pieces = [piece(1, 0, 4, b"abcd"), piece(1, 4, 6, b"efghij")];
        for (count, expected) in [(0, &[][..]), (3, &[b"abc".to_vec()][..]), (5, &[b"abcd".to_vec(), b"e".to_vec()])] {
            let mut holds = holding(&pieces);
            let written: Vec<_> = holds.release(&released(1, count)).into_iter().map(|(_, payload)| payload).collect();
            assert_eq!(written, expected);
            assert_eq!(holds.not_written(), 10 - u64::from(count));
        }
    }

    #[test]
    fn a_piece_that_is_missing_leaves_its_place_empty() {
        let mut holds = holding(&[piece(1, 4, 6, b"efghij")]);
        let written = holds.release(&released(1, 10));
        assert_eq!(written.iter().map(|(data, _)| data.position).collect::<Vec<_>>(), [104]);
        assert_eq!(holds.not_written(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let payload = vec![0; 1 << 20];
        let mut holds = Holds::default();
        for call in 0..65 {
            holds.hold(&piece(call, 0, 1 << 20, &payload).0, &payload);
        }
        assert!(holds.release(&released(0, 1 << 20)).is_empty());
        assert_eq!(holds.release(&released(1, 1 << 20)).len(), 1);
        assert_eq!(holds.not_written(), 64 << 20);
    }
}
