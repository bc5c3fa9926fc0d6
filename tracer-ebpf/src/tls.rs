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

/// How many bytes [`is_unpredictable`] looks at, and how many of ciphertext make a fingerprint.
pub const FINGERPRINT: usize = 32;

/// Where the random numbers of a hello message begin: behind the heads of record and message and the version
/// (RFC 8446, section 4.1.2).
const RANDOM: usize = 11;

/// Whether the head of a TLS record holds enough that nobody can foresee (some 20 bytes) for it to be like no other:
/// a record that is encrypted, alone or behind a change of the cipher, or a hello message with its random numbers.
/// A certificate is the same on every connection. So is the "random" of a HelloRetryRequest (section 4.1.3).
#[inline(always)]
pub fn is_unpredictable(head: &[u8; FINGERPRINT]) -> bool {
    if head[1] != 3 || head[2] > 4 {
        return false;
    }
    let retry =
        head[RANDOM] == 0xcf && head[RANDOM + 1] == 0x21 && head[RANDOM + 2] == 0xad && head[RANDOM + 3] == 0x74;
    match head[0] {
        22 => (head[5] == 1 || head[5] == 2) && !retry,
        // Behind a change of cipher spec, whose record has one byte, comes the first one that is encrypted.
        20 => head[4] == 1 && head[5] == 1 && (head[6] == 22 || head[6] == 23),
        23 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(start: &[u8]) -> [u8; FINGERPRINT] {
        let mut head = [0x55; FINGERPRINT];
        head[..start.len()].copy_from_slice(start);
        head
    }

    #[test]
    fn fingerprints_are_of_what_no_other_connection_has() {
        let hello = |kind| head(&[22, 3, 3, 0, 90, kind, 0, 0, 86, 3, 3]);
        assert!(is_unpredictable(&hello(1)) && is_unpredictable(&hello(2)));
        assert!(is_unpredictable(&head(&[23, 3, 3, 0, 90])));
        assert!(is_unpredictable(&head(&[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 69])));
        // A certificate, a HelloRetryRequest, an alert in the clear, another protocol.
        assert!(!is_unpredictable(&head(&[22, 3, 3, 3, 90, 11, 0, 3, 86])));
        assert!(!is_unpredictable(&head(&[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3, 0xcf, 0x21, 0xad, 0x74])));
        assert!(!is_unpredictable(&head(&[21, 3, 3, 0, 2, 1, 0])));
        assert!(!is_unpredictable(&head(b"HTTP/1.1 200 OK")));
    }

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
