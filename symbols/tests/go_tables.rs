//! Go's tables of all layouts, built in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/go.rs"]
mod go;
#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use go::{Functions, build_info, build_info_by_address};
use proptest::prelude::*;
use support::{CODE_ADDRESS, Library, fields};
use symbols::{Arguments, Exit, TlsLibrary, tls_libraries};

const TABLE: u64 = 0x80000;
const READ: &str = "crypto/tls.(*Conn).Read";

fn functions() -> Functions {
    let starts = vec![
        ("crypto/tls.(*Conn).Write", Library::address(0)),
        ("crypto/tls.(*Conn).ReadAll", Library::address(1)),
        (READ, Library::address(2)),
    ];
    // The code ends where the bytes that fill up the last function begin.
    Functions { starts, end: Library::address(2) + 24 }
}

fn program(code: impl Fn(&mut iced_x86::code_asm::CodeAssembler)) -> Library {
    Library::default().local(&code).local(&code).local(&code)
}

fn found(library: &Library) -> TlsLibrary {
    let mut found = tls_libraries(&library.build()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind.name(), "go");
    found.remove(0)
}

fn assert_read(found: &TlsLibrary) {
    let read = found.functions.iter().find(|function| function.name == READ).unwrap();
    let offset = |into| Library::offset(2, into);
    assert_eq!(read.arguments, Arguments::Go);
    assert_eq!(read.symbol_offset.0, offset(0));
    assert_eq!(read.enter.iter().map(|site| site.offset.0).collect::<Vec<_>>(), [offset(4)]);
    let Exit::Result(returns) = &read.exit else { panic!("{:?}", read.exit) };
    assert_eq!(returns.iter().map(|site| site.offset.0).collect::<Vec<_>>(), [offset(13), offset(15)]);
    assert_eq!((found.functions.len(), found.blind.len()), (2, 0));
}

#[test]
fn table_that_states_where_the_code_starts() {
    let table = functions().layout_1_20(CODE_ADDRESS - 0x20, CODE_ADDRESS - 0x20);
    let program = program(go::function).section(".go.buildinfo", 0, build_info("go1.21.6"));
    let found = found(&program.section(".gopclntab", TABLE, table));
    assert_eq!(found.version.as_deref(), Some("go1.21.6"));
    assert_read(&found);
}

/// A program whose table does not state where the code starts, with module data that do.
fn without_start(lowest: u64) -> Library {
    let table = functions().layout_1_20(CODE_ADDRESS - 0x20, 0);
    let program = program(go::function).section(".go.buildinfo", 0, build_info("go1.27.4"));
    let module = |a: &mut iced_x86::code_asm::CodeAssembler| {
        // What is equal to the table's address by chance, then the module data.
        let mut words = vec![TABLE, 0, TABLE];
        words.extend([0; 19]);
        words.extend([lowest, 0, CODE_ADDRESS - 0x20]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| fields(&[(*word, 8)])).collect();
        a.db(&bytes).unwrap();
    };
    program.local(module).section(".gopclntab", TABLE, table)
}

#[test]
fn table_that_leaves_it_to_the_module_data() {
    assert_read(&found(&without_start(CODE_ADDRESS)));
    let contradicted = found(&without_start(CODE_ADDRESS + 8));
    assert_eq!((contradicted.functions.len(), contradicted.blind.len()), (0, 1));
}

#[test]
fn table_among_constants() {
    let mut constants = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8, 0xff];
    constants.resize(64, 0xff);
    constants.extend(functions().layout_1_20(CODE_ADDRESS, CODE_ADDRESS));
    let program = program(go::function).section(".go.buildinfo", 0, build_info("go1.22.0"));
    assert_read(&found(&program.section(".data.rel.ro", TABLE, constants)));
}

/// A program with the layout of 1.16, whose version is a string in its own code segment.
fn layout_1_16(version: &'static str) -> Library {
    let string = Library::address(3);
    let program = program(go::function).local(|a| {
        let header = fields(&[(string + 16, 8), (version.len() as u64, 8)]);
        a.db(&[header.as_slice(), version.as_bytes()].concat()).unwrap();
    });
    let program = program.section(".go.buildinfo", 0, build_info_by_address(string));
    program.section(".gopclntab", TABLE, functions().layout_1_16())
}

#[test]
fn register_arguments_from_1_17_on() {
    let library = found(&layout_1_16("go1.17.13"));
    assert_eq!(library.version.as_deref(), Some("go1.17.13"));
    assert_read(&library);

    let library = found(&layout_1_16("go1.16.15"));
    assert_eq!((library.functions.len(), library.blind.len()), (0, 1));
    assert!(library.blind[0].contains("1.17"), "{:?}", library.blind);
}

#[test]
fn code_of_another_make() {
    let program = program(|a| a.ret().unwrap()).section(".go.buildinfo", 0, build_info("go1.22.0"));
    let found = found(&program.section(".gopclntab", TABLE, functions().layout_1_20(CODE_ADDRESS, CODE_ADDRESS)));
    assert_eq!((found.functions.len(), found.blind.len()), (0, 2));
}

#[test]
fn go_without_tls() {
    let table = Functions { starts: vec![("main.main", Library::address(0))], end: Library::address(1) };
    let program = program(go::function).section(".go.buildinfo", 0, build_info("go1.22.0"));
    let program = program.section(".gopclntab", TABLE, table.layout_1_20(CODE_ADDRESS, CODE_ADDRESS));
    assert_eq!(tls_libraries(&program.build()).unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn hostile_tables(
        newer in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        let mut table = if newer {
            functions().layout_1_20(CODE_ADDRESS, CODE_ADDRESS)
        } else {
            functions().layout_1_16()
        };
        for (at, byte) in changes {
            // The magic stays, or nothing else is read.
            let at = 8 + at.index(table.len() - 8);
            table[at] = byte;
        }
        table.truncate(table.len() - length.index(table.len()) / 4);
        let program = program(go::function).section(".go.buildinfo", 0, build_info("go1.22.0"));
        drop(tls_libraries(&program.section(".gopclntab", TABLE, table).build()));
    }

    #[test]
    fn hostile_build_info(rest in prop::collection::vec(any::<u8>(), 0..64)) {
        let info = [b"\xff Go buildinf:".as_slice(), &rest].concat();
        let table = functions().layout_1_20(CODE_ADDRESS, CODE_ADDRESS);
        let program = program(go::function).section(".go.buildinfo", 0, info);
        drop(tls_libraries(&program.section(".gopclntab", TABLE, table).build()));
    }
}
