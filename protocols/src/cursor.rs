//! Reading wire data without indexing it.

/// A checked reader over bytes from the wire: every read returns `None` past the end, so no parser indexes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(n)?;
        let taken = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, network order.
    pub fn u16_be(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, network order.
    pub fn u32_be(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Two bytes, little endian.
    pub fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little endian.
    pub fn u32_le(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The bytes up to and without the next `delimiter`, which is read too.
    pub fn until(&mut self, delimiter: u8) -> Option<&'a [u8]> {
        let length = self.rest().iter().position(|&byte| byte == delimiter)?;
        let taken = self.take(length)?;
        self.position += 1;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut cursor = Cursor::new(b"\x01\x02\x03ab\0c");
        assert_eq!(cursor.u8(), Some(1));
        assert_eq!(cursor.u16_be(), Some(0x0203));
        assert_eq!(cursor.until(0), Some(&b"ab"[..]));
        assert_eq!(cursor.u16_le(), None);
        assert_eq!(cursor.take(usize::MAX), None);
        assert_eq!(cursor.rest(), b"c");
        assert_eq!(cursor.until(0), None);
    }
}
