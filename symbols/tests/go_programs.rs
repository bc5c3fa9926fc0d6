//! crypto/tls in programs that Go's toolchain builds, against what `objdump` says of them.
//!
//! Needs Go 1.17 or later (TRACER_GO, or `go`), a C compiler and binutils, and fails without them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use symbols::{Arguments, Class, Exit, LibraryKind, Role, TlsLibrary, tls_libraries};

const PROGRAM: &str = r#"package main

import (
	"crypto/tls"
	"os"
)

func main() {
	conn, err := tls.Dial("tcp", os.Args[1], nil)
	if err != nil {
		return
	}
	conn.Write([]byte("hello"))
	conn.Read(make([]byte, 100))
	conn.Close()
}
"#;

fn go() -> String {
    env::var("TRACER_GO").unwrap_or_else(|_| "go".to_owned())
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is Go installed?"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(name: &str, arguments: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("main.go"), PROGRAM).unwrap();
    let mut command = Command::new(go());
    command.arg("build").args(arguments).args(["-o", "program", "main.go"]).current_dir(&directory);
    for (variable, inside) in [("GOPATH", "path"), ("GOCACHE", "cache")] {
        command.env(variable, Path::new(env!("CARGO_TARGET_TMPDIR")).join("go").join(inside));
    }
    run(command.env("GOFLAGS", "-p=1").env("GOTOOLCHAIN", "local"));
    directory.join("program")
}

fn library(program: &Path) -> TlsLibrary {
    let mut found = tls_libraries(&fs::read(program).unwrap()).unwrap();
    found.retain(|library| library.kind == LibraryKind::Go);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// File offset, mnemonic and operands of each instruction of a function.
fn disassembly(program: &Path, function: &str) -> Vec<(u64, String)> {
    let segments = run(Command::new("readelf").args(["-W", "-l"]).arg(program));
    let code = segments.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
    let numbers = code.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let [offset, loaded, ..] = numbers.collect::<Vec<_>>()[..] else { panic!("{code}") };
    let symbols = run(Command::new("nm").arg("-S").arg(program));
    let line = symbols.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap();
    let hexadecimal = |word: &str| u64::from_str_radix(word, 16).unwrap();
    let [address, size, ..] = line.split(' ').take(2).map(hexadecimal).collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    let range = [format!("--start-address={address}"), format!("--stop-address={}", address + size)];
    let text = run(Command::new("objdump").args(["-d", "-M", "intel", "--no-show-raw-insn"]).args(range).arg(program));
    let instructions = text.lines().filter_map(|line| {
        let (address, text) = line.split_once(":\t")?;
        Some((u64::from_str_radix(address.trim(), 16).ok()? - loaded + offset, text.trim().to_owned()))
    });
    instructions.collect()
}

fn check(program: &Path) {
    let library = library(program);
    let stated = run(Command::new(go()).arg("version"));
    assert!(stated.contains(&format!(" {} ", library.version.as_deref().unwrap())), "{stated}");
    let names: Vec<&str> = library.functions.iter().map(|function| function.name.as_str()).collect();
    // A program that only ever is the client has no serverHandshake.
    assert_eq!(
        names,
        ["Read", "Write", "Close", "clientHandshake"]
            .map(|name| format!("crypto/tls.(*Conn).{name}"))
            .iter()
            .map(String::as_str)
            .chain(["net.(*TCPConn).Read"])
            .collect::<Vec<_>>()
    );
    assert!(library.blind.is_empty(), "{library:?}");
    for function in &library.functions {
        let code = disassembly(program, &function.name);
        assert_eq!(function.symbol_offset.0, code[0].0, "{}", function.name);
        let spills = matches!(function.role, Role::Read);
        assert_eq!(function.arguments == Arguments::GoSpilled, spills, "{function:?}");
        if function.role == Role::Transport {
            assert_eq!((function.enter.len(), &function.exit), (0, &Exit::Unneeded));
            continue;
        }
        let [enter] = function.enter.as_slice() else { panic!("{function:?}") };
        let at = code.iter().position(|(offset, _)| *offset == enter.offset.0).unwrap();
        assert!(code[at].1.starts_with("jbe") && enter.class == Class::ConditionalJump, "{:?}", code[at]);
        let before: Vec<_> = code[..at].iter().map(|(_, text)| text.split([' ', ',']).next().unwrap()).collect();
        assert!(before == ["cmp"] || before == ["lea", "cmp"], "{before:?}");
        if let Exit::Result(returns) = &function.exit {
            let expected: Vec<u64> =
                code.iter().filter(|(_, text)| text.starts_with("ret")).map(|(offset, _)| *offset).collect();
            assert!(!expected.is_empty());
            assert_eq!(returns.iter().map(|site| site.offset.0).collect::<Vec<_>>(), expected, "{}", function.name);
        } else {
            assert!(matches!(function.role, Role::Free), "{function:?}");
            assert_eq!(function.exit, Exit::Unneeded);
        }
    }
}

#[test]
fn plain_and_stripped() {
    let program = build("plain", &[]);
    check(&program);
    let stripped = program.with_file_name("stripped");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(&program));
    assert_eq!(library(&stripped), library(&program));
}

#[test]
fn position_independent() {
    check(&build("pie", &["-buildmode=pie"]));
}

#[test]
fn linked_by_the_c_toolchain() {
    check(&build("external", &["-ldflags=-linkmode=external"]));
    check(&build("external-pie", &["-buildmode=pie", "-ldflags=-linkmode=external"]));
}
