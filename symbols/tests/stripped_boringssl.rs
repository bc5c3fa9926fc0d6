//! BoringSSL whose symbols are hidden: what is found is where the symbols were.
//!
//! Needs what `scripts/fetch-libssl` and `scripts/setup --test` download, and fails without it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fetched.rs"]
mod fetched;

use std::{
    fs,
    path::{Path, PathBuf},
};

use fetched::fetched;
use symbols::{Function, LibraryKind, Role, TlsLibrary, linkage, tls_libraries};

const NAMES: [&str; 7] = ["SSL_read", "SSL_write", "SSL_peek", "SSL_free", "SSL_clear", "SSL_new", "SSL_connect"];

/// The file with other names in its symbol table.
fn hidden(file: &[u8]) -> Vec<u8> {
    let mut hidden = file.to_vec();
    for name in NAMES {
        let ended = [b"\0", name.as_bytes(), b"\0"].concat();
        let places: Vec<usize> =
            file.windows(ended.len()).enumerate().filter(|(_, part)| *part == ended).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{name}");
        for at in places {
            hidden[at + 1..=at + name.len()].fill(b'x');
        }
    }
    hidden
}

fn only(file: &[u8]) -> TlsLibrary {
    let mut found = tls_libraries(file).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn roles(library: &TlsLibrary) -> Vec<(&str, Role)> {
    library.functions.iter().map(|function| (function.name.as_str(), function.role)).collect()
}

const FOUND: [(&str, Role); 4] =
    [("SSL_read", Role::Read), ("SSL_write", Role::Write), ("ssl_new", Role::Clear), ("ssl_free", Role::Free)];

/// Compiled by Clang.
#[test]
fn debian_12() {
    let whole = fs::read(fetched("debian12-boringssl", "libssl.so.0")).unwrap();
    let (named, bare) = (only(&whole), only(&hidden(&whole)));
    assert_eq!((bare.kind, bare.blind.as_slice()), (LibraryKind::BoringSsl, &[][..]));
    assert_eq!(roles(&bare), FOUND);
    let of = |library: &TlsLibrary, name| -> Function {
        library.functions.iter().find(|function| function.name == name).unwrap().clone()
    };
    for name in ["SSL_read", "SSL_write"] {
        assert_eq!(of(&bare, name), of(&named, name));
    }
}

/// What one of the signs does not hold for is not found, and neither is anything else.
#[test]
fn a_sign_that_is_missing() {
    let whole = hidden(&fs::read(fetched("debian12-boringssl", "libssl.so.0")).unwrap());
    // Without the names of its source files a report is none.
    for file in ["ssl/s3_pkt.cc", "ssl/ssl_lib.cc"] {
        let at = whole.windows(file.len()).position(|part| part == file.as_bytes()).unwrap();
        let mut other = whole.clone();
        other[at] = b'x';
        for library in tls_libraries(&other).unwrap() {
            assert_eq!(roles(&library), [], "{file}");
            assert_eq!(library.blind.len(), 1, "{file}");
        }
    }
}

/// Compiled by GCC, and its BIOs are in the same file.
#[test]
fn grpc() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/lib");
    let python = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let packages = python.map(|entry| entry.unwrap().path().join("site-packages/grpc/_cython"));
    let files = packages.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "so");
    let bytes = fs::read(files.into_iter().find(is_library).unwrap()).unwrap();
    assert_eq!(roles(&only(&bytes)), FOUND);
    let ciphertext = linkage(&bytes).unwrap().ciphertext;
    let found: Vec<_> = ciphertext.iter().map(|function| (function.name.as_str(), function.role)).collect();
    assert_eq!(found, [("BIO_write", Role::Ciphertext)]);
}
