//! A packet of a capture file, and the part of it that one layer is made of.

use protocols::Time;

/// A packet as the file holds it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What the bytes begin with: a LINKTYPE_ value of the tcpdump.org registry.
    pub link_type: u32,
    /// Nanoseconds since 1970-01-01 UTC; `None` where the file does not say (a simple packet block).
    pub time: Option<Time>,
    /// The captured bytes and the length that the packet had on the wire.
    pub wire: Wire<'a>,
    /// The comment that the file attached to it.
    pub comment: Option<&'a str>,
}

/// The captured first bytes of something that was `length` bytes long on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire<'a> {
    /// What was captured.
    pub bytes: &'a [u8],
    /// The full length; more than `bytes` where the capture cut the packet off.
    pub length: usize,
}

impl<'a> Wire<'a> {
    /// `length` below the number of bytes is a mistake of the file and not believed.
    pub fn new(bytes: &'a [u8], length: usize) -> Self {
        Self { bytes, length: length.max(bytes.len()) }
    }

    /// What is behind the first `n` bytes, if those were captured.
    pub fn behind(self, n: usize) -> Option<Self> {
        let bytes = self.bytes.get(n..)?;
        Some(Self { bytes, length: self.length - n })
    }

    /// What is behind the first `n` bytes, whether they were captured or not; `None` past the end.
    pub fn behind_uncaptured(self, n: usize) -> Option<Self> {
        let length = self.length.checked_sub(n)?;
        Some(Self { bytes: self.bytes.get(n..).unwrap_or_default(), length })
    }

    /// The same with the length that a header inside states: shorter where the frame was padded, longer where the
    /// file does not tell that it was cut off.
    pub fn with_length(self, length: usize) -> Self {
        Self { bytes: self.bytes.get(..length).unwrap_or(self.bytes), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_keeps_both_lengths() {
        let wire = Wire::new(b"abcdef", 10);
        assert_eq!(wire.behind(2), Some(Wire { bytes: b"cdef", length: 8 }));
        assert_eq!(wire.behind(7), None, "not captured");
        assert_eq!(wire.behind_uncaptured(7), Some(Wire { bytes: b"", length: 3 }));
        assert_eq!(wire.behind_uncaptured(11), None);
        assert_eq!(wire.with_length(3), Wire { bytes: b"abc", length: 3 });
        assert_eq!(wire.with_length(20), Wire { bytes: b"abcdef", length: 20 });
        assert_eq!(Wire::new(b"abc", 1).length, 3);
    }
}
