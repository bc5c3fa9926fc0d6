//! Whatever the bytes are, an answer or an error: never a panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use iced_x86::code_asm::*;
use proptest::prelude::*;
use support::Library;
use symbols::tls_libraries;

fn library() -> Vec<u8> {
    let read = |a: &mut CodeAssembler| {
        let mut done = a.create_label();
        a.sub(rsp, 0x18).unwrap();
        a.lea(rcx, rsp + 8).unwrap();
        a.call(Library::address(2)).unwrap();
        a.test(eax, eax).unwrap();
        a.jle(done).unwrap();
        a.mov(eax, dword_ptr(rsp + 8)).unwrap();
        a.set_label(&mut done).unwrap();
        a.add(rsp, 0x18).unwrap();
        a.ret().unwrap();
    };
    let library = Library::default().export("SSL_read", read).export("SSL_write", read);
    library.local(read).stub("ERR_new").export("SSL_peek", read).export_unsized("SSL_free", read).build()
}

#[test]
fn truncated_anywhere() {
    let whole = library();
    assert_eq!(tls_libraries(&whole).unwrap().len(), 1);
    for length in 0..whole.len() {
        drop(tls_libraries(&whole[..length]));
    }
}

#[test]
fn not_elf() {
    assert!(tls_libraries(b"").is_err());
    assert!(tls_libraries(&[0x7f; 4096]).is_err());
}

#[test]
fn another_machine() {
    let mut elf = library();
    elf[18] = 183; // EM_AARCH64
    let error = tls_libraries(&elf).unwrap_err();
    assert!(error.to_string().contains("183"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut elf = library();
        for (at, byte) in changes {
            let at = at.index(elf.len());
            elf[at] = byte;
        }
        drop(tls_libraries(&elf));
    }

    #[test]
    fn headers_changed(at in 16_usize..176, value in any::<[u8; 4]>()) {
        let mut elf = library();
        elf[at..at + 4].copy_from_slice(&value);
        drop(tls_libraries(&elf));
    }

    #[test]
    fn code_changed(at in 0_usize..64, code in prop::collection::vec(any::<u8>(), 1..64)) {
        let mut elf = library();
        let start = support::CODE_OFFSET as usize + at;
        elf[start..start + code.len()].copy_from_slice(&code);
        drop(tls_libraries(&elf));
    }

    #[test]
    fn only_the_magic(rest in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.extend(rest);
        drop(tls_libraries(&elf));
    }
}
