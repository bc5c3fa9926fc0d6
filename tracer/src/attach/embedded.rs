//! What encrypts and has no functions that can be probed: TLS libraries that are linked in without their symbols, Java,
//! QUIC.
//!
//! Told only by what the library's own code carries and its users' does not: the names of its source files, which its
//! error reports mention. A version text is no sign, as every program that was compiled with the headers may have it.

use std::path::Path;

use memchr::memmem;

/// What only code of the library itself holds. OpenSSL and BoringSSL are `symbols`' to find.
const SIGNS: [(&str, &[u8]); 1] = [("mbedtls", b"library/ssl_tls.c\0")];

/// Java's TLS (JSSE) is Java code, which the virtual machine compiles as it runs.
pub const JAVA: &str = "java";

/// Rust puts the path of a crate's source into its panics: "…/rustls-0.23.5/src/conn.rs".
const RUSTLS: &[u8] = b"/rustls-";

/// Functions of QUIC libraries, by which their users call them.
const QUIC: [&[u8]; 4] =
    [b"\0quiche_conn_recv\0", b"\0ngtcp2_conn_read_pkt", b"\0MsQuicOpenVersion\0", b"\0lsquic_engine_packet_in\0"];

/// What encrypts in a file, when that is sure.
pub fn library(path: &Path, file: &[u8]) -> Option<&'static str> {
    if path.file_name().is_some_and(|name| name == "libjvm.so") {
        return Some(JAVA);
    }
    if QUIC.iter().any(|sign| memmem::find(file, sign).is_some()) {
        return Some("quic");
    }
    let signed = SIGNS.iter().find(|(_, sign)| memmem::find(file, sign).is_some()).map(|(name, _)| *name);
    signed.or_else(|| has_rustls(file).then_some("rustls"))
}

fn has_rustls(file: &[u8]) -> bool {
    memmem::find_iter(file, RUSTLS).any(|at| {
        let rest = file.get(at + RUSTLS.len()..).unwrap_or_default();
        let version = rest.iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        version >= 3 && rest.get(version..).is_some_and(|rest| rest.starts_with(b"/src/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sure_signs_count() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"..\0../library/ssl_tls.c\0..", Some("mbedtls")),
            (b"/root/registry/src/rustls-0.23.5/src/conn.rs", Some("rustls")),
            (b"/rustls-native-certs-0.7/src/lib.rs", None),
            (b"/rustls-", None),
            (b"..\0ngtcp2_conn_read_pkt_versioned\0..", Some("quic")),
            (b"see quiche_conn_recv", None),
            (b"", None),
        ];
        for (file, expected) in cases {
            assert_eq!(library(Path::new("/app"), file), expected, "{}", String::from_utf8_lossy(file));
        }
        assert_eq!(library(Path::new("/usr/lib/jvm/lib/server/libjvm.so"), b""), Some(JAVA));
    }
}
