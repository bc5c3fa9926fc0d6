//! Choosing whole connections: each has a mark that stays the same, evenly spread, so that of two levels the higher one
//! always takes the same connections as the lower one, and more.

/// The mark of a connection. It is shed when its mark is below the level.
#[inline(always)]
pub fn mark(id: u64) -> u32 {
    // The finalizer of MurmurHash3: ids of connections that begin together differ in a few low bits.
    let mixed = (id ^ (id >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_neighbours_are_spread_evenly() {
        // Ids are times shifted by a CPU's number (socket::new_id): here, one every microsecond on two CPUs.
        let marks = (0..10_000_u64).map(|index| mark((((1 << 40) + 1000 * index) << 8) | (index & 1)));
        let below = marks.filter(|mark| *mark < u32::MAX / 10).count();
        assert!((900..1100).contains(&below), "{below} of 10000 are in the lowest tenth");
    }
}
