//! The sites in Debian 12's GnuTLS, NSPR and BoringSSL, against what `objdump` says of the same files.
//!
//! `scripts/fetch-libssl` downloads them; the test reads TRACER_LIBSSL_DIR, or target/libssl, and fails without them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/objdump.rs"]
mod objdump;

use std::fs;

use objdump::{Disassembly, fetched, only, starts_at};
use symbols::{Arguments, Class, Exit, Function, LibraryKind, Role, Session, TlsLibrary, tls_libraries};

fn library(directory: &str, file: &str) -> (TlsLibrary, Disassembly) {
    let path = fetched(directory, file);
    let mut found = tls_libraries(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(found.len(), 1);
    (found.remove(0), Disassembly::of(&path))
}

/// Enter and exit by the text at their sites, after checking that the function is where its symbol is.
fn sites<'a>(library: &TlsLibrary, code: &'a Disassembly, name: &str) -> (Function, &'a str, Vec<&'a str>) {
    let function = library.functions.iter().find(|function| function.name == name).unwrap().clone();
    assert!(starts_at(code, &function), "{name}");
    let expected = match name {
        "PR_Recv" => Arguments::WithFlags,
        "PR_Writev" => Arguments::WithVector,
        _ => Arguments::Plain,
    };
    assert_eq!(function.arguments, expected);
    let enter = code.at(only(&function.enter)).1;
    let exits = function.exit.sites().iter().map(|site| code.at(site).1).collect();
    (function, enter, exits)
}

fn mnemonic(text: &str) -> &str {
    text.split(' ').next().unwrap()
}

#[test]
fn gnutls() {
    let (library, code) = library("debian12", "libgnutls.so.30");
    assert_eq!((library.kind.name(), library.session), ("gnutls", Session::Every));

    let send = library.functions.iter().find(|function| function.name == "gnutls_record_send").unwrap();
    assert_eq!((send.enter.as_slice(), &send.exit), (&[][..], &Exit::Through("gnutls_record_send2".to_owned())));
    assert!(code.function("gnutls_record_send").last().unwrap().1.starts_with("jmp"));

    let (send2, enter, exits) = sites(&library, &code, "gnutls_record_send2");
    assert_eq!((enter, exits), ("push r15", vec!["push r15"]));
    assert_eq!((send2.role, &send2.exit), (Role::Write, &Exit::Return(send2.enter[0].clone())));
    assert_eq!(send2.enter[0].offset, send2.symbol_offset);

    // The registers that carry arguments are as they were: what is before the site only compares and copies.
    let (receive, enter, exits) = sites(&library, &code, "gnutls_record_recv");
    assert_eq!((mnemonic(enter), exits.len(), mnemonic(exits[0])), ("je", 1, "sub"));
    let (at, _) = code.at(&receive.enter[0]);
    let body = code.function("gnutls_record_recv");
    let before: Vec<_> = body.iter().take_while(|(address, _)| *address < at).map(|(_, text)| *text).collect();
    assert_eq!(before.iter().map(|text| mnemonic(text)).collect::<Vec<_>>(), ["sub", "cmp", "mov"]);
    assert_eq!((before[0], before[2]), ("sub rsp,0x8", "mov rcx,rdx"));
    assert_eq!(receive.exit.sites()[0].offset, receive.symbol_offset);

    let (flush, _, exits) = sites(&library, &code, "gnutls_record_uncork");
    assert_eq!((flush.role, exits.len()), (Role::Flush, 1));
    let (_, enter, exits) = sites(&library, &code, "gnutls_record_send_range");
    assert_eq!((enter, exits.len(), mnemonic(exits[0])), ("push r15", 1, "jne"));
    assert_eq!(library.blind, ["gnutls_record_recv_packet: hands out the library's own buffer"]);
}

#[test]
fn nspr() {
    let (library, code) = library("debian12", "libnspr4.so");
    assert_eq!((library.kind.name(), library.session), ("nss", Session::FirstWordWithin("SSL_ImportFD")));
    for name in ["PR_Read", "PR_Recv", "PR_Write", "PR_Send"] {
        let (function, enter, exits) = sites(&library, &code, name);
        assert_eq!((enter, exits), ("mov rax,QWORD PTR [rdi]", vec!["mov rax,QWORD PTR [rdi]"]), "{name}");
        assert_eq!((function.enter[0].offset, function.enter[0].class), (function.symbol_offset, Class::Other));
    }
    // It refuses too many pieces first.
    let (function, enter, exits) = sites(&library, &code, "PR_Writev");
    assert!(enter.starts_with("jg ") && exits == [enter], "{enter}, {exits:?}");
    assert_eq!((function.enter.len(), function.enter[0].class), (1, Class::ConditionalJump));
}

#[test]
fn boringssl() {
    let (library, code) = library("debian12-boringssl", "libssl.so.0");
    assert_eq!((library.kind, library.version.as_deref()), (LibraryKind::BoringSsl, None));
    assert_ne!(code.bias, 0, "the one library here whose code is not loaded where it is in the file");

    let (read, enter, _) = sites(&library, &code, "SSL_read");
    assert_eq!((mnemonic(enter), &read.exit), ("push", &Exit::Return(read.enter[0].clone())));
    assert_eq!(read.enter[0].offset, read.symbol_offset);

    let (write, enter, exits) = sites(&library, &code, "SSL_write");
    assert_eq!((mnemonic(enter), exits.len(), mnemonic(exits[0])), ("push", 1, "jne"));
    let (at, _) = code.at(&write.exit.sites()[0]);
    let body = code.function("SSL_write");
    let after = body.iter().skip_while(|(address, _)| *address <= at).map(|(_, text)| mnemonic(text));
    let after: Vec<_> = after.take_while(|mnemonic| *mnemonic != "ret").collect();
    assert!(after.iter().all(|mnemonic| ["add", "pop"].contains(mnemonic)), "{after:?}");
    assert_eq!((library.inner.len(), library.functions.len()), (0, 7));
}
