//! What files have to do with how TLS libraries and what they carry come together.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use iced_x86::code_asm::*;
use support::Library;
use symbols::{Class, Exit, FileOffset, Linkage, Role, linkage};

fn of(library: &Library) -> Linkage {
    linkage(&library.build()).unwrap()
}

fn plain(a: &mut CodeAssembler) {
    a.sub(rsp, 8).unwrap();
    a.push(rbx).unwrap();
    a.pop(rbx).unwrap();
    a.add(rsp, 8).unwrap();
    a.ret().unwrap();
}

#[test]
fn ciphertext_is_seen_where_it_is_written_and_handshakes_at_both_ends() {
    let found = of(&Library::default().export("BIO_write", plain).export("SSL_do_handshake", plain));
    let [written, handshake] = found.ciphertext.as_slice() else { panic!("{found:?}") };
    assert_eq!((written.role, handshake.role), (Role::Ciphertext, Role::Handshake));
    // The first instruction is single-stepped, the second is not, and the arguments are still there.
    assert_eq!((written.enter[0].offset.0, written.enter[0].class), (Library::offset(0, 4), Class::Push));
    assert_eq!(written.exit, Exit::Unneeded);
    let start = FileOffset(Library::offset(1, 0));
    assert_eq!(handshake.enter[0].offset, start);
    assert!(matches!(&handshake.exit, Exit::Return(site) if site.offset == start));
}

#[test]
fn who_gives_sessions_memory_is_told_from_who_has_a_bio_of_his_own() {
    let importer = |names: &[&'static str]| {
        let library = Library::default().export("application", plain);
        of(&names.iter().fold(library, |library, name| library.stub(name))).uses_memory
    };
    assert!(importer(&["SSL_set_bio", "BIO_s_mem"]));
    assert!(importer(&["SSL_set0_wbio", "BIO_new_bio_pair"]));
    assert!(!importer(&["SSL_set_fd", "BIO_s_mem"]));
    assert!(!importer(&["SSL_set_bio", "BIO_s_mem", "BIO_meth_new"]));
    assert!(!importer(&["SSL_set_bio"]));
}

#[test]
fn the_dynamic_linker_is_known_by_what_it_calls_for_debuggers() {
    let offset = of(&Library::default().export("other", plain).export("_dl_debug_state", plain)).loader;
    assert_eq!(offset, Some(FileOffset(Library::offset(1, 0))));
    assert_eq!(of(&Library::default().export("other", plain)), Linkage::default());
}
