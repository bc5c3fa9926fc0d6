//! Sites in code of every shape that a compiler may make of OpenSSL's functions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use iced_x86::code_asm::*;
use support::Library;
use symbols::{Arguments, Class, Exit, Function, LibraryKind, Register, TlsLibrary, tls_libraries};

/// Numbers of the functions as [`library`] adds them.
const READ: u64 = 0;
const INNER: u64 = 2;
const STACK_CHECK: u64 = 3;
const RAISE: u64 = 4;

/// A library whose `SSL_read` is the code in question.
fn library(read: impl FnOnce(&mut CodeAssembler)) -> Library {
    around(Library::default().export("SSL_read", read))
}

fn around(library: Library) -> Library {
    let minimal = |a: &mut CodeAssembler| {
        a.push(rbp).unwrap();
        a.pop(rbp).unwrap();
        a.ret().unwrap();
    };
    library.export("SSL_write", minimal).local(minimal).stub("__stack_chk_fail").stub("ERR_new")
}

fn found(library: &Library) -> TlsLibrary {
    let mut libraries = tls_libraries(&library.build()).unwrap();
    assert_eq!(libraries.len(), 1);
    libraries.remove(0)
}

fn read(library: &Library) -> Function {
    let found = found(library);
    found.functions.into_iter().find(|function| function.name == "SSL_read").unwrap()
}

fn site(site: &symbols::Site) -> (u64, Class) {
    (site.offset.0, site.class)
}

fn assert_symbol_for_both(function: &Function) {
    let symbol = Library::offset(READ, 0);
    assert_eq!(function.enter.iter().map(|site| site.offset.0).collect::<Vec<_>>(), [symbol]);
    let Exit::Return(exit) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(exit.offset.0, symbol);
    assert_eq!(function.arguments, Arguments::Plain);
}

/// `sub rsp` first, and the count from a slot of the frame, as GCC does without the stack protector.
fn thin(a: &mut CodeAssembler, between: impl FnOnce(&mut CodeAssembler), after: impl FnOnce(&mut CodeAssembler)) {
    let mut done = a.create_label();
    a.sub(rsp, 0x18).unwrap(); // 0, 4 bytes
    a.lea(rcx, rsp + 8).unwrap(); // 4, 5 bytes
    a.movsxd(rdx, edx).unwrap(); // 9, 3 bytes
    between(a);
    a.call(Library::address(INNER)).unwrap(); // 12, 5 bytes
    after(a);
    a.test(eax, eax).unwrap(); // 17, 2 bytes
    a.jle(done).unwrap(); // 19, 2 bytes
    a.mov(eax, dword_ptr(rsp + 8)).unwrap();
    a.set_label(&mut done).unwrap();
    a.add(rsp, 0x18).unwrap();
    a.ret().unwrap();
}

#[test]
fn call_and_the_jump_on_its_result() {
    let function = read(&library(|a| thin(a, |_| (), |_| ())));
    assert_eq!(function.arguments, Arguments::WithLength(Register::Rcx));
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 12), Class::Call)]);
    let Exit::Result(exits) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(exits.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 19), Class::ConditionalJump)]);
    assert_eq!(function.symbol_offset.0, Library::offset(READ, 0));
}

#[test]
fn argument_clobbered_before_the_call() {
    for (name, clobber) in [("buffer", rsi), ("session", rdi), ("number", rdx)] {
        let function = read(&library(|a| thin(a, |a| a.lea(clobber, clobber + 8).unwrap(), |_| ())));
        assert_symbol_for_both(&function);
        assert!(function.enter.iter().all(|site| site.class == Class::Other), "{name}");
    }
    // Half of a pointer is none.
    assert_symbol_for_both(&read(&library(|a| thin(a, |a| a.mov(esi, esi).unwrap(), |_| ()))));
}

#[test]
fn result_clobbered_before_the_jump() {
    let function = read(&library(|a| thin(a, |_| (), |a| a.movzx(eax, al).unwrap())));
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 12), Class::Call)]);
    let Exit::Return(exit) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(site(exit), (Library::offset(READ, 0), Class::Other));
    assert_eq!(function.arguments, Arguments::Plain);
}

#[test]
fn count_overwritten_before_the_jump() {
    let function = read(&library(|a| thin(a, |_| (), |a| a.mov(qword_ptr(rsp + 8), 0).unwrap())));
    assert!(matches!(function.exit, Exit::Return(_)), "{:?}", function.exit);
    assert_eq!(function.arguments, Arguments::Plain);
}

#[test]
fn stack_protector_jump_with_the_final_result() {
    let function = read(&library(|a| {
        let mut raise = a.create_label();
        let mut done = a.create_label();
        let mut smashed = a.create_label();
        a.endbr64().unwrap(); // 0, 4 bytes
        a.sub(rsp, 0x18).unwrap(); // 4
        a.test(edx, edx).unwrap(); // 8
        a.js(raise).unwrap(); // 10, 2 bytes
        a.mov(rcx, rsp).unwrap(); // 12
        a.movsxd(rdx, edx).unwrap(); // 15
        a.call(Library::address(INNER)).unwrap(); // 18
        a.test(eax, eax).unwrap(); // 23
        a.cmovg(eax, dword_ptr(rsp)).unwrap(); // 25, 4 bytes
        a.set_label(&mut done).unwrap();
        a.mov(rdx, qword_ptr(rsp + 8)).unwrap(); // 29, 5 bytes
        a.sub(rdx, qword_ptr(0x28).fs()).unwrap(); // 34, 9 bytes
        a.jne(smashed).unwrap(); // 43
        a.add(rsp, 0x18).unwrap();
        a.xor(edx, edx).unwrap();
        a.ret().unwrap();
        a.set_label(&mut raise).unwrap();
        a.call(Library::address(RAISE)).unwrap();
        a.mov(eax, -1).unwrap();
        a.jmp(done).unwrap();
        a.set_label(&mut smashed).unwrap();
        a.call(Library::address(STACK_CHECK)).unwrap();
    }));
    assert_eq!(function.arguments, Arguments::Plain);
    let jump = |into| (Library::offset(READ, into), Class::ConditionalJump);
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [jump(10)]);
    let Exit::Result(exits) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(exits.iter().map(site).collect::<Vec<_>>(), [jump(43)]);
}

#[test]
fn inner_call_on_two_paths() {
    let two_paths = |second: fn(&mut CodeAssembler)| {
        library(|a| {
            let mut other = a.create_label();
            let mut checked = a.create_label();
            let mut done = a.create_label();
            a.sub(rsp, 0x18).unwrap(); // 0
            a.mov(rcx, rsp).unwrap(); // 4, 3 bytes
            a.movsxd(rdx, edx).unwrap(); // 7, 3 bytes
            a.cmp(dword_ptr(rdi), 0).unwrap(); // 10, 3 bytes
            a.jne(other).unwrap(); // 13, 2 bytes
            a.call(Library::address(INNER)).unwrap(); // 15, 5 bytes
            a.jmp(checked).unwrap(); // 20, 2 bytes
            a.set_label(&mut other).unwrap();
            second(a);
            a.set_label(&mut checked).unwrap();
            a.test(eax, eax).unwrap();
            a.jle(done).unwrap();
            a.mov(eax, dword_ptr(rsp)).unwrap();
            a.set_label(&mut done).unwrap();
            a.add(rsp, 0x18).unwrap();
            a.ret().unwrap();
        })
    };
    let function = read(&two_paths(|a| a.call(Library::address(INNER)).unwrap()));
    assert_eq!(function.arguments, Arguments::WithLength(Register::Rcx));
    let call = |into| (Library::offset(READ, into), Class::Call);
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [call(15), call(22)]);
    let Exit::Result(exits) = &function.exit else { panic!("{:?}", function.exit) };
    let exits: Vec<_> = exits.iter().map(site).collect();
    assert_eq!(exits, [(Library::offset(READ, 20), Class::Jump), (Library::offset(READ, 29), Class::ConditionalJump)]);

    // Data that moves on a path of another kind must not be missed: one probe before both, and the return.
    let function = read(&two_paths(|a| a.call(qword_ptr(rdi + 8)).unwrap()));
    assert_eq!(function.arguments, Arguments::Plain);
    assert_eq!(
        function.enter.iter().map(site).collect::<Vec<_>>(),
        [(Library::offset(READ, 13), Class::ConditionalJump)]
    );
    let Exit::Return(exit) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(exit.offset.0, Library::offset(READ, 0));
}

#[test]
fn push_first() {
    let pushing = |mark: bool| {
        read(&library(move |a| {
            if mark {
                a.endbr64().unwrap();
            }
            a.push(rbx).unwrap();
            a.mov(rbx, rdi).unwrap();
            a.call(qword_ptr(rdi + 8)).unwrap();
            a.pop(rbx).unwrap();
            a.ret().unwrap();
        }))
    };
    // endbr64 leaves the stack pointer where it was, so the return address is still on top at the push.
    for (mark, into) in [(false, 0), (true, 4)] {
        let function = pushing(mark);
        assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, into), Class::Push)]);
        assert_eq!(function.exit, Exit::Return(function.enter[0].clone()));
    }
}

#[test]
fn return_probe_never_where_the_stack_pointer_has_moved() {
    let function = read(&library(|a| {
        a.sub(rsp, 8).unwrap();
        a.push(rbx).unwrap();
        a.call(qword_ptr(rdi + 8)).unwrap();
        a.pop(rbx).unwrap();
        a.add(rsp, 8).unwrap();
        a.ret().unwrap();
    }));
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 4), Class::Push)]);
    let Exit::Return(exit) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(site(exit), (Library::offset(READ, 0), Class::Other));
}

#[test]
fn tail_jump() {
    let function = read(&library(|a| {
        a.movsxd(rdx, edx).unwrap(); // 3 bytes
        a.jmp(Library::address(INNER)).unwrap();
    }));
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 3), Class::Jump)]);
    assert_eq!(function.exit, Exit::Return(function.enter[0].clone()));
}

#[test]
fn tail_jump_to_a_function_that_is_listed() {
    let library = Library::default()
        .export("SSL_read", |a| thin(a, |_| (), |_| ()))
        .export("SSL_write", |a| a.ret().unwrap())
        .local(|a| a.ret().unwrap())
        .export("SSL_write_ex", |a| {
            a.mov(r8, rcx).unwrap();
            a.xor(ecx, ecx).unwrap();
            a.jmp(Library::address(5)).unwrap();
        })
        .export("SSL_write_ex2", |a| a.ret().unwrap())
        .stub("SSL_write_ex2");
    let found = found(&library);
    let function = found.functions.iter().find(|function| function.name == "SSL_write_ex").unwrap();
    assert_eq!((function.enter.as_slice(), &function.exit), (&[][..], &Exit::Through("SSL_write_ex2".to_owned())));
}

#[test]
fn loop_to_the_start_is_no_place_for_one_probe_a_call() {
    assert_symbol_for_both(&read(&library(|a| {
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.dec(r10d).unwrap();
        a.jne(again).unwrap();
        a.mov(eax, r10d).unwrap();
        a.ret().unwrap();
    })));
}

#[test]
fn call_that_never_returns_by_where_it_is() {
    // Neither a name nor a trap says so, only that the function's code ends with it.
    let function = read(&library(|a| {
        let mut fail = a.create_label();
        a.push(rbx).unwrap();
        a.mov(rbx, rdi).unwrap();
        a.call(qword_ptr(rdi + 8)).unwrap(); // 4, 3 bytes
        a.cmp(qword_ptr(rbx), 0).unwrap(); // 7, 4 bytes
        a.jne(fail).unwrap(); // 11
        a.pop(rbx).unwrap();
        a.ret().unwrap();
        a.set_label(&mut fail).unwrap();
        a.call(Library::address(INNER)).unwrap();
    }));
    let Exit::Result(exits) = &function.exit else { panic!("{:?}", function.exit) };
    assert_eq!(exits.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 11), Class::ConditionalJump)]);
}

#[test]
fn symbol_without_a_size() {
    let library = around(Library::default().export_unsized("SSL_read", |a| thin(a, |_| (), |_| ())));
    let function = read(&library);
    assert_eq!(function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(READ, 12), Class::Call)]);
    assert!(matches!(function.exit, Exit::Result(_)));
}

#[test]
fn code_that_is_none() {
    let function = read(&library(|a| a.db(&[0x06, 0x07]).unwrap()));
    assert_symbol_for_both(&function);
    assert_eq!(function.enter[0].class, Class::Other);

    // What is wrong comes later: the symbol is what it is.
    let function = read(&library(|a| a.db(&[0x55, 0x06, 0x07]).unwrap()));
    assert_symbol_for_both(&function);
    assert_eq!(function.enter[0].class, Class::Push);
}

/// `SSL_read` and `SSL_read_ex` over one internal function, which `also` may call as well.
fn shared(name: &'static str, also: impl FnOnce(&mut CodeAssembler)) -> TlsLibrary {
    let library = library(|a| thin(a, |_| (), |_| ()));
    let library = library.export("SSL_read_ex", |a| {
        a.sub(rsp, 8).unwrap();
        a.call(Library::address(INNER)).unwrap();
        a.add(rsp, 8).unwrap();
        a.ret().unwrap();
    });
    found(&library.export(name, also))
}

#[test]
fn inner_function_of_a_role() {
    let found = shared("SSL_pending", |a| a.ret().unwrap());
    let [inner] = found.inner.as_slice() else { panic!("{:?}", found.inner) };
    assert_eq!(inner.covers, ["SSL_read", "SSL_read_ex"]);
    assert_eq!(inner.function.arguments, Arguments::WithLength(Register::Rcx));
    assert_eq!(inner.function.enter.iter().map(site).collect::<Vec<_>>(), [(Library::offset(INNER, 0), Class::Push)]);
    assert_eq!(inner.function.exit, Exit::Return(inner.function.enter[0].clone()));
    assert_eq!(found.blind, Vec::<String>::new());
}

#[test]
fn inner_function_that_peeks_too() {
    for peek in ["SSL_peek", "SSL_pending"] {
        let found = shared(peek, |a| {
            a.sub(rsp, 8).unwrap();
            a.call(Library::address(INNER)).unwrap();
            a.add(rsp, 8).unwrap();
            a.ret().unwrap();
        });
        assert_eq!(found.inner, [], "{peek}");
    }
}

#[test]
fn inner_function_that_code_without_a_symbol_calls() {
    let caller = |library: Library| {
        library.local(|a| {
            a.sub(rsp, 8).unwrap();
            a.call(Library::address(INNER)).unwrap();
            a.add(rsp, 8).unwrap();
            a.ret().unwrap();
        })
    };
    let wrapper = 5;
    let found = found(&caller(library(|a| thin(a, |_| (), |_| ()))));
    assert_eq!((found.inner.len(), found.blind.len()), (1, 1));
    assert!(found.blind[0].starts_with("BIO_f_ssl"), "{:?}", found.blind);

    // The same code, but peeking goes through it.
    let peeking = caller(library(|a| thin(a, |_| (), |_| ()))).export("SSL_peek", |a| {
        a.jmp(Library::address(wrapper)).unwrap();
    });
    assert_eq!(tls_libraries(&peeking.build()).unwrap()[0].inner, []);
}

#[test]
fn not_a_tls_library() {
    let library = Library::default().export("SSL_free", |a| a.ret().unwrap());
    assert_eq!(tls_libraries(&library.build()).unwrap(), []);
}

/// LibreSSL has the same functions, and some of its own.
#[test]
fn kinds_by_what_only_they_export() {
    let cases = [
        ("SSL_CTX_use_certificate_chain_mem", LibraryKind::LibreSsl),
        ("SSL_CTX_set_grease_enabled", LibraryKind::BoringSsl),
        ("SSL_CTX_set_ciphersuites", LibraryKind::OpenSsl),
    ];
    for (name, kind) in cases {
        let found = found(&library(|a| a.ret().unwrap()).export(name, |a| a.ret().unwrap()));
        assert_eq!(found.kind, kind, "{name}");
    }
}
