//! The sites in the libssl of Debian 11, 12 and 13, against what `objdump` says of the same files.
//!
//! `scripts/fetch-libssl` downloads them; the test reads TRACER_LIBSSL_DIR, or target/libssl, and fails without them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/objdump.rs"]
mod objdump;

use std::fs;

use objdump::{Disassembly, fetched, only, starts_at};
use symbols::{Arguments, Class, Exit, Function, Register, TlsLibrary, tls_libraries};

fn library(release: &str, file: &str) -> (TlsLibrary, Disassembly) {
    let path = fetched(release, file);
    let mut found = tls_libraries(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(found.len(), 1);
    let library = found.remove(0);
    assert_eq!(library.kind.name(), "openssl");
    (library, Disassembly::of(&path))
}

fn function<'a>(library: &'a TlsLibrary, name: &str) -> &'a Function {
    library.functions.iter().find(|function| function.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

/// `SSL_read` and `SSL_write`: in by the check of a negative size, out by the stack protector's check.
fn check_plain(library: &TlsLibrary, code: &Disassembly, name: &str) {
    let function = function(library, name);
    assert_eq!(function.arguments, Arguments::Plain, "{name}");
    assert!(starts_at(code, function), "{name}");
    let body = code.function(name);

    let enter = only(&function.enter);
    let (address, text) = code.at(enter);
    assert_eq!((enter.class, text.split(' ').next()), (Class::ConditionalJump, Some("js")), "{name}");
    let before: Vec<_> = body.iter().filter(|(at, _)| *at < address).map(|(_, text)| *text).collect();
    for text in before {
        let target = text.split([' ', ',']).nth(1).unwrap_or_default();
        assert!(["", "rsp", "rax", "eax", "edx", "QWORD"].contains(&target), "{name}: {text}");
        assert!(target != "edx" || text == "test edx,edx", "{name}: {text}");
    }

    let Exit::Result(exits) = &function.exit else { panic!("{name}: {:?}", function.exit) };
    let exit = only(exits);
    let (address, text) = code.at(exit);
    assert_eq!((exit.class, text.split(' ').next()), (Class::ConditionalJump, Some("jne")), "{name}");
    let at = body.iter().position(|(at, _)| *at == address).unwrap();
    assert!(body[at - 1].1.contains("fs:0x28"), "{name}: {}", body[at - 1].1);
    let rest: Vec<_> = body[at + 1..].iter().map(|(_, text)| *text).take_while(|text| *text != "ret").collect();
    assert!(rest.len() < 8 && rest.iter().all(|text| !text.contains("ax") && !text.starts_with('j')), "{rest:?}");
    assert_eq!(body.iter().filter(|(_, text)| *text == "ret").count(), 1, "{name}");
}

/// The `_ex` forms: in by the call of the internal function, out only by a return probe at the symbol.
fn check_ex(library: &TlsLibrary, code: &Disassembly, name: &str, length: Register) {
    let function = function(library, name);
    assert_eq!(function.arguments, Arguments::WithLength(length), "{name}");
    let enter = only(&function.enter);
    let (address, text) = code.at(enter);
    assert_eq!(enter.class, Class::Call, "{name}");
    let first_call = code.function(name).into_iter().find(|(_, text)| text.starts_with("call"));
    assert_eq!(first_call, Some((address, text)), "{name}");
    let Exit::Return(exit) = &function.exit else { panic!("{name}: {:?}", function.exit) };
    assert_eq!((exit.offset, exit.class), (function.symbol_offset, Class::Other), "{name}");
    assert!(starts_at(code, function), "{name}");
}

/// The internal function: what both forms call, with the probe on a push that nothing but `endbr64` comes before.
fn check_inner(library: &TlsLibrary, code: &Disassembly, names: [&str; 2], length: Register) {
    let covering = |name: &str| library.inner.iter().find(|inner| inner.covers.iter().any(|covered| covered == name));
    let inner = covering(names[0]).unwrap();
    assert_eq!(inner, covering(names[1]).unwrap());
    assert_eq!(inner.function.arguments, Arguments::WithLength(length));
    let target = inner.function.symbol_offset.0 + code.bias;
    for name in names {
        let call = format!("call {target:x}");
        assert!(code.function(name).iter().any(|(_, text)| *text == call), "{name}: {call}");
    }
    let site = only(&inner.function.enter);
    assert_eq!(inner.function.exit, Exit::Return(site.clone()));
    let (address, text) = code.at(site);
    assert!(site.class == Class::Push && text.starts_with("push r"), "{text}");
    let before: Vec<_> = code.text.range(target..address).map(|(_, text)| text.as_str()).collect();
    assert!(before.is_empty() || before == ["endbr64"], "{before:?}");

    // The calls of it in all of the library: by these functions, and by one place that has no symbol (the BIO).
    let callers: Vec<_> = code.text.iter().filter(|(_, text)| text.ends_with(&format!(" {target:x}"))).collect();
    assert_eq!(callers.len(), names.len() + 1, "{callers:?}");
}

/// What is attached: the two internal functions, and what is cold.
fn check_cheapest(library: &TlsLibrary) {
    let names: Vec<_> = library.cheapest().map(|function| function.name.as_str()).collect();
    assert_eq!(
        names,
        ["SSL_read (inner)", "SSL_write (inner)", "SSL_free", "SSL_clear", "SSL_set_fd", "SSL_set_rfd", "SSL_set_wfd",]
    );
    let sites = library.cheapest().flat_map(|function| function.enter.iter().chain(function.exit.sites()));
    assert!(sites.into_iter().all(|site| site.class.is_emulated()));
}

fn check_cold(library: &TlsLibrary, code: &Disassembly) {
    for name in ["SSL_free", "SSL_clear", "SSL_set_fd", "SSL_set_rfd", "SSL_set_wfd"] {
        let function = function(library, name);
        let enter = only(&function.enter);
        let (address, _) = code.at(enter);
        let (start, end) = code.functions[name];
        assert!((start..end).contains(&address) && enter.class.is_emulated(), "{name}");
        assert_eq!(function.exit, Exit::Unneeded);
    }
}

#[test]
fn debian_11_openssl_1_1_1() {
    let (library, code) = library("debian11", "libssl.so.1.1");
    assert!(library.version.as_deref().is_some_and(|version| version.starts_with("1.1.1")), "{:?}", library.version);
    for [plain, ex] in [["SSL_read", "SSL_read_ex"], ["SSL_write", "SSL_write_ex"]] {
        check_plain(&library, &code, plain);
        check_ex(&library, &code, ex, Register::Rcx);
        check_inner(&library, &code, [plain, ex], Register::Rcx);
    }
    check_cold(&library, &code);
    check_cheapest(&library);
}

#[test]
fn debian_12_openssl_3_0() {
    let (library, code) = library("debian12", "libssl.so.3");
    assert_eq!(library.version, None);
    assert!(library.blind.iter().any(|reason| reason.starts_with("SSL_sendfile")), "{:?}", library.blind);
    for [plain, ex] in [["SSL_read", "SSL_read_ex"], ["SSL_write", "SSL_write_ex"]] {
        check_plain(&library, &code, plain);
        check_ex(&library, &code, ex, Register::Rcx);
        check_inner(&library, &code, [plain, ex], Register::Rcx);
    }
    check_cold(&library, &code);
    check_cheapest(&library);
}

#[test]
fn debian_13_openssl_3_5() {
    let (library, code) = library("debian13", "libssl.so.3");
    check_plain(&library, &code, "SSL_read");
    check_ex(&library, &code, "SSL_read_ex", Register::Rcx);
    check_inner(&library, &code, ["SSL_read", "SSL_read_ex"], Register::Rcx);
    check_plain(&library, &code, "SSL_write");
    check_ex(&library, &code, "SSL_write_ex2", Register::R8);
    check_inner(&library, &code, ["SSL_write", "SSL_write_ex2"], Register::R8);
    check_cold(&library, &code);
    check_cheapest(&library);

    let passing_on = function(&library, "SSL_write_ex");
    assert_eq!((&passing_on.exit, passing_on.enter.len()), (&Exit::Through("SSL_write_ex2".to_owned()), 0));
    assert!(code.function("SSL_write_ex").last().unwrap().1.starts_with("jmp"));
    for name in ["SSL_read", "SSL_write"] {
        assert_eq!(code.function(name)[0].1, "endbr64");
    }
}
