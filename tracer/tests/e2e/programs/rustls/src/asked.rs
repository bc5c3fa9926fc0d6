//! What both programs ask for.

/// Sizes of bodies, one after the other.
const SIZES: [usize; 7] = [0, 1, 10, 1000, 16_384, 40_000, 100_000];

/// A request to make.
pub struct Asked {
    pub path: String,
    pub sends: usize,
    pub wants: usize,
}

impl Asked {
    /// One of those that one of many makes in a round.
    pub fn new(round: &str, who: usize, number: usize) -> Self {
        let size = |at: usize| SIZES[(who + number + at) % SIZES.len()];
        Self { path: format!("/{round}/{who}/{number}"), sends: size(0), wants: size(3) }
    }
}

/// A body.
pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 26) as u8).collect()
}
