//! rustls in programs, by the names that Rust's compiler gives its functions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use iced_x86::code_asm::{CodeAssembler, registers::gpr64::*};
use support::Library;
use symbols::{Arguments, Exit, LibraryKind, Role, TlsLibrary, tls_libraries};

/// As rustc 1.95 names them by default: rustls 0.23.46 with ring.
const ENCRYPT: &str = "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$7encrypt17heceb061cdb6de877E";
const DECRYPT: &str = "_ZN109_$LT$rustls..crypto..ring..tls12..GcmMessageDecrypter$u20$as$u20$rustls..crypto..cipher..MessageDecrypter$GT$7decrypt17h8a5ff884a54c4efeE";
const LENGTH: &str = "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$21encrypted_payload_len17h4327937eec63d0bfE";
const WITHOUT_KEY: &str = "_ZN108_$LT$rustls..crypto..cipher..InvalidMessageDecrypter$u20$as$u20$rustls..crypto..cipher..MessageDecrypter$GT$7decrypt17hc4b5a2e2870202daE.llvm.15734954051496670631";
/// The same with `-C symbol-mangling-version=v0`, after its specification (RFC 2603).
const V0_ENCRYPT: &str = "_RNvXs5_NtNtNtCs1234_6rustls6crypto4ring5tls13NtB5_21Tls13MessageEncrypterNtNtB9_6cipher16MessageEncrypter7encrypt";
const V0_DECRYPT: &str =
    "_RNvXs_NtNtNtCs1234_6rustls6crypto4ring5tls12NtB4_19GcmMessageDecrypterNtNtB8_6cipher16MessageDecrypter7decrypt";
/// Before 0.22.
const OLD: &str = "_ZN89_$LT$rustls..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..cipher..MessageEncrypter$GT$7encrypt17heceb061cdb6de877E";

const SOURCE: &str = "/home/user/.cargo/registry/src/index/rustls-0.23.46/src/record_layer.rs";

fn body(a: &mut CodeAssembler) {
    a.push(rbp).unwrap();
    a.mov(rax, rdi).unwrap();
    a.pop(rbp).unwrap();
    a.ret().unwrap();
}

fn program(names: &[&'static str], source: &str) -> Library {
    let library = Library::default().section(".rodata", 0x80000, source.as_bytes().to_vec());
    names.iter().fold(library, |library, name| library.export(name, body))
}

fn found(library: Library) -> Option<TlsLibrary> {
    let mut found = tls_libraries(&library.build()).unwrap();
    assert!(found.len() < 2);
    found.pop()
}

#[test]
fn ciphers_are_found_by_either_mangling() {
    for (names, kinds) in [([ENCRYPT, DECRYPT], "legacy"), ([V0_ENCRYPT, V0_DECRYPT], "v0")] {
        let library = found(program(&names, SOURCE)).unwrap();
        assert_eq!(library.kind, LibraryKind::Rustls);
        let roles: Vec<_> = library.functions.iter().map(|function| function.role).collect();
        assert_eq!(roles, [Role::Write, Role::Read], "{kinds}");
        for (function, index) in library.functions.iter().zip(0..) {
            assert!(function.name.starts_with("<rustls::crypto::ring::tls1"), "{}", function.name);
            assert_eq!(function.arguments, Arguments::Rustls(0x16));
            // At the very start, where the return address is on top of the stack.
            assert_eq!(function.enter.len(), 1);
            assert_eq!(function.enter[0].offset.0, Library::offset(index, 0));
            assert_eq!(function.exit, Exit::Return(function.enter[0].clone()));
        }
        assert!(library.blind.is_empty());
    }
}

#[test]
fn other_methods_and_ciphers_without_a_key_do_not_count() {
    assert_eq!(found(program(&[LENGTH, WITHOUT_KEY], SOURCE)), None);
}

#[test]
fn versions_that_are_not_known_are_blind() {
    let library = found(program(&[OLD], "")).unwrap();
    assert!(library.functions.is_empty());
    assert_eq!(library.blind.len(), 1);
    let library = found(program(&[ENCRYPT, DECRYPT], &SOURCE.replace("0.23.46", "0.24.0"))).unwrap();
    assert!(library.functions.is_empty());
    assert_eq!(library.version.as_deref(), Some("0.24.0"));
    assert!(library.blind[0].contains("0.24.0"), "{:?}", library.blind);
}

#[test]
fn what_tells_success_depends_on_the_version() {
    let first_bytes = |version: &str| {
        let library = found(program(&[ENCRYPT, DECRYPT], &SOURCE.replace("0.23.46", version))).unwrap();
        Vec::from_iter(library.functions.iter().map(|function| function.arguments))
    };
    for (version, made, opened) in
        [("0.23.0", 0, 0x14), ("0.23.20", 0, 0x16), ("0.23.27", 0x28, 0x28), ("0.23.33", 0x16, 0x16)]
    {
        assert_eq!(first_bytes(version), [Arguments::Rustls(made), Arguments::Rustls(opened)], "{version}");
    }
    assert_eq!(first_bytes("0.23.47"), []);
}

#[test]
fn a_program_that_names_no_version_or_two_is_blind() {
    let two = format!("{SOURCE}{}", SOURCE.replace("0.23.46", "0.22.4"));
    for (source, version) in [("", "not named"), (&*two, "0.22.4 and 0.23.46")] {
        let library = found(program(&[ENCRYPT, DECRYPT], source)).unwrap();
        assert!(library.functions.is_empty());
        assert!(library.blind[0].contains(version), "{:?}", library.blind);
    }
}
