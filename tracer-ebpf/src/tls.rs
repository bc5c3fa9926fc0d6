//! Recognising TLS records by their first bytes (RFC 8446, section 5.1): plain functions, so that they are tested
//! on the host and run in the kernel.

/// How many bytes [`is_hello`] and [`is_record`] look at.
pub const HEAD: usize = 6;

/// Whether the bytes begin a ClientHello or ServerHello: a handshake record with a message of type 1 or 2.
#[inline(always)]
pub fn is_hello(head: &[u8; HEAD]) -> bool {
    head[0] == 22 && head[1] == 3 && head[2] <= 4 && (head[5] == 1 || head[5] == 2)
}

/// Whether the bytes may begin any TLS record. Six bytes of another protocol may look so by chance: use it only where
/// a record is likely (the first bytes of a connection).
#[inline(always)]
pub fn is_record(head: &[u8; HEAD]) -> bool {
    // A record's length is at most 2^14 + 256, so its high byte is at most 65.
    head[0] >= 20 && head[0] <= 24 && head[1] == 3 && head[2] <= 4 && head[3] <= 65
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_messages_are_told_from_other_bytes() {
        assert!(is_hello(&[22, 3, 1, 2, 0, 1]));
        assert!(is_hello(&[22, 3, 3, 0, 90, 2]));
        assert!(!is_hello(&[22, 3, 3, 0, 90, 11]));
        assert!(!is_hello(b"GET / "));
        assert!(is_record(&[23, 3, 3, 0, 90, 11]));
        assert!(!is_record(&[23, 3, 3, 90, 90, 11]));
        assert!(!is_record(b"HTTP/1"));
    }
}
