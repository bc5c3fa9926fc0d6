//! Which columns there are at a width, and how wide each is.

/// `HH:MM:SS.mmm`
pub(super) const TIME: usize = 12;
/// Role and protocol name: `>redis`
pub(super) const PROTOCOL: usize = 6;
/// `1.23ms`, `59m59s`, and one more to keep the columns apart.
pub(super) const LATENCY: usize = 7;
/// `999kB`, `1.23MB`
pub(super) const SIZE: usize = 6;
/// What is left of a target at least when a reason stands behind it.
pub(super) const SHORTEST_TARGET: usize = 8;

/// Below this width lines wrap: the target needs some room.
const NARROWEST: usize = 72;

/// Widths of the columns that differ between terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) process: usize,
    pub(super) operation: usize,
    pub(super) target: usize,
    pub(super) status: usize,
    /// Whether there is room for the sizes of request and response.
    pub(super) sizes: bool,
    /// Width of the peer, if there is room for it.
    pub(super) peer: Option<usize>,
}

impl Layout {
    /// The columns for a terminal of this many columns. The target takes what the others leave.
    pub(super) fn for_width(width: usize) -> Self {
        let (process, operation, status, sizes, peer) = match width {
            ..100 => (11, 7, 8, false, None),
            100..130 => (13, 7, 8, true, None),
            130..160 => (15, 8, 10, true, Some(21)),
            160..200 => (23, 10, 12, true, Some(28)),
            _ => (23, 14, 16, true, Some(47)),
        };
        let columns = [TIME, process, PROTOCOL, operation, status, LATENCY];
        let mut fixed = MARKS + columns.iter().map(|column| column + 1).sum::<usize>();
        fixed += if sizes { 2 * (SIZE + 1) } else { 0 };
        fixed += peer.map_or(0, |peer| peer + 1);
        let target = width.max(NARROWEST).saturating_sub(fixed);
        Self { process, operation, target, status, sizes, peer }
    }
}

/// `!~` in front of the line.
const MARKS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_has_room_at_every_width() {
        for width in 0..400 {
            assert!(Layout::for_width(width).target >= SHORTEST_TARGET + 4, "{width}");
        }
    }
}
