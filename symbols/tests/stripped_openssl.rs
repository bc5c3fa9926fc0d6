//! OpenSSL linked into executables whose symbols are gone: what is found is where the symbols were, or nothing is.
//!
//! Needs a C compiler, binutils and the static libraries that `scripts/fetch-libssl` downloads, and fails without them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fetched.rs"]
mod fetched;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fetched::fetched;
use object::{Object as _, ObjectSection as _};
use symbols::{Arguments, LibraryKind, Register, Role, TlsLibrary, tls_libraries};

/// The `__isoc23_` functions are those of a C library that is newer than the machine's may be.
const PROGRAM: &str = r#"
#include <stdlib.h>
#include <stdio.h>
#include <stdarg.h>
void *TLS_method(void), *SSL_CTX_new(void *), *SSL_new(void *);
int SSL_read(void *, void *, int), SSL_write(void *, const void *, int), SSL_peek(void *, void *, int);
int SSL_read_ex(void *, void *, size_t, size_t *), SSL_write_ex(void *, const void *, size_t, size_t *);
void SSL_free(void *);
long __isoc23_strtol(const char *a, char **b, int c) { return strtol(a, b, c); }
unsigned long __isoc23_strtoul(const char *a, char **b, int c) { return strtoul(a, b, c); }
long long __isoc23_strtoll(const char *a, char **b, int c) { return strtoll(a, b, c); }
unsigned long long __isoc23_strtoull(const char *a, char **b, int c) { return strtoull(a, b, c); }
int __isoc23_sscanf(const char *s, const char *f, ...) {
    va_list l; va_start(l, f); int r = vsscanf(s, f, l); va_end(l); return r;
}
int main(void) {
    char buffer[16]; size_t count;
    void *ssl = SSL_new(SSL_CTX_new(TLS_method()));
    SSL_read(ssl, buffer, 16); SSL_write(ssl, buffer, 16); SSL_peek(ssl, buffer, 16);
    SSL_read_ex(ssl, buffer, 16, &count); SSL_write_ex(ssl, buffer, 16, &count);
    SSL_free(ssl);
    return 0;
}
"#;

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Builds a program with a release's static libraries, and strips a copy of it.
fn build(release: &str, name: &str, options: &[&str], more: &[&str]) -> PathBuf {
    let directory = directory(&format!("stripped-{release}-{name}"));
    fs::write(directory.join("program.c"), PROGRAM).unwrap();
    let [ssl, crypto] = ["libssl.a", "libcrypto.a"].map(|file| fetched(release, file));
    let libraries = [ssl.to_str().unwrap(), crypto.to_str().unwrap(), "-ldl", "-lpthread"];
    let arguments = [options, &["-O2", "-o", "whole", "program.c"], &libraries, more].concat();
    run(&directory, "gcc", &arguments);
    run(&directory, "strip", &["-o", "bare", "whole"]);
    directory
}

fn only(file: &Path) -> TlsLibrary {
    let mut found = tls_libraries(&fs::read(file).unwrap()).unwrap();
    assert_eq!(found.len(), 1, "{}: {found:?}", file.display());
    found.remove(0)
}

/// Where most of the code is in a file, and the address that it is loaded to, as `readelf` says.
fn code(directory: &Path, file: &str) -> [u64; 2] {
    let segments = run(directory, "readelf", &["-W", "-l", file]);
    let code = segments.lines().filter(|line| line.contains("LOAD") && line.contains("R E")).map(|line| {
        let numbers = line.split_whitespace().filter_map(|word| hexadecimal(word.strip_prefix("0x")?));
        let [offset, address, _, size, ..] = numbers.collect::<Vec<_>>()[..] else { panic!("{line}") };
        (size, [offset, address])
    });
    code.max().unwrap().1
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The offset in the file of each symbol, as `nm` and `readelf` say.
fn offsets(directory: &Path, file: &str) -> BTreeMap<String, u64> {
    let [offset, loaded] = code(directory, file);
    let symbols = run(directory, "nm", &[file]);
    let lines = symbols.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        let address = hexadecimal(address).filter(|_| "tT".contains(kind))?;
        Some((name.to_owned(), address.checked_sub(loaded)? + offset))
    });
    lines.collect()
}

fn compare(directory: &Path, expected: &[(&str, Role)], write_length: Register) {
    let (bare, whole) = (only(&directory.join("bare")), only(&directory.join("whole")));
    assert_eq!((bare.kind, &bare.version), (LibraryKind::OpenSsl, &whole.version));
    assert_eq!(bare.blind, Vec::<String>::new());
    let offsets = offsets(directory, "whole");
    let found: Vec<_> = bare.functions.iter().map(|function| (function.name.as_str(), function.role)).collect();
    assert_eq!(found, expected);
    for function in &bare.functions {
        assert_eq!(function.symbol_offset.0, offsets[&function.name], "{}", function.name);
        assert!(!function.enter.is_empty(), "{}", function.name);
    }
    // The same functions are under the exported ones when the symbols are there.
    for inner in &whole.inner {
        let same = bare.functions.iter().find(|function| function.symbol_offset == inner.function.symbol_offset);
        let same = same.unwrap_or_else(|| panic!("{} is missing", inner.function.name));
        assert_eq!((same.role, same.arguments), (inner.function.role, inner.function.arguments));
        assert_eq!(same.enter, inner.function.enter);
    }
    assert_eq!(whole.inner.len(), 2);
    let arguments: Vec<_> = bare.functions.iter().map(|function| function.arguments).collect();
    let lengths = [Arguments::WithLength(Register::Rcx), Arguments::WithLength(write_length), Arguments::Plain];
    assert_eq!(arguments, lengths);
}

const SINCE_1_1_1: [(&str, Role); 3] =
    [("ssl_read_internal", Role::Read), ("ssl_write_internal", Role::Write), ("SSL_clear", Role::Clear)];
const SINCE_3_2: [(&str, Role); 3] = [
    ("ssl_read_internal", Role::Read),
    ("ssl_write_internal", Role::Write),
    ("ossl_ssl_connection_reset", Role::Clear),
];

#[test]
fn debian_11() {
    for (name, option) in [("pie", "-pie"), ("fixed", "-no-pie"), ("static", "-static"), ("small", "-Wl,--gc-sections")]
    {
        compare(&build("debian11", name, &[option], &[]), &SINCE_1_1_1, Register::Rcx);
    }
}

#[test]
fn debian_12() {
    for (name, option) in [("pie", "-pie"), ("fixed", "-no-pie"), ("static", "-static"), ("small", "-Wl,--gc-sections")]
    {
        compare(&build("debian12", name, &[option], &[]), &SINCE_1_1_1, Register::Rcx);
    }
}

#[test]
fn debian_13() {
    for (name, option) in [("pie", "-pie"), ("fixed", "-no-pie"), ("small", "-Wl,--gc-sections")] {
        let directory = build("debian13", name, &[option], &["-l:libz.so.1", "-l:libzstd.so.1"]);
        compare(&directory, &SINCE_3_2, Register::R8);
    }
}

/// A file in which the dynamic linker finds no name either.
fn without_exports(mut file: Vec<u8>) -> Vec<u8> {
    let names = {
        let elf = object::File::parse(&*file).unwrap();
        elf.section_by_name(".dynstr").unwrap().file_range().unwrap()
    };
    let [start, size] = [names.0, names.1].map(|number| usize::try_from(number).unwrap());
    file[start..start + size].iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = b'x');
    file
}

/// Node.js brings OpenSSL in its executable, which exports it, or uses Debian's. Without its symbols the same functions
/// are found. Without what it exports as well, functions are found where they were, or none is: in its own build
/// `SSL_read` has the inner function inlined, and makes reports in two names.
#[test]
fn node_js() {
    let directory = directory("stripped-node");
    let node = run(&directory, "sh", &["-c", "readlink -f $(command -v node)"]);
    let libraries = run(&directory, "ldd", &[node.trim()]);
    let shared = libraries.lines().find_map(|line| line.trim().strip_prefix("libssl.so.3 => ")?.split(' ').next());
    fs::copy(shared.unwrap_or_else(|| node.trim()), directory.join("whole")).unwrap();
    run(&directory, "strip", &["-o", "bare", "whole"]);
    fs::write(directory.join("hidden"), without_exports(fs::read(directory.join("bare")).unwrap())).unwrap();
    // `strip` moves the code inside of the file.
    let found = |file: &str| {
        let [moved, still] = [file, "whole"].map(|file| code(&directory, file)[0]);
        let functions = only(&directory.join(file)).functions.into_iter();
        let at = |function: &symbols::Function| function.symbol_offset.0 + still - moved;
        functions.map(|function| (at(&function), function.role, function.name)).collect::<Vec<_>>()
    };
    assert_eq!(found("bare"), found("whole"));
    let mut truth = offsets(&directory, "whole");
    let inner = only(&directory.join("whole")).inner.into_iter().map(|inner| inner.function);
    truth.extend(inner.map(|function| (function.name, function.symbol_offset.0)));
    let hidden = found("hidden");
    let names: Vec<_> = hidden.iter().map(|(_, role, name)| (name.as_str(), *role)).collect();
    let refused = names.is_empty() && !only(&directory.join("hidden")).blind.is_empty();
    assert!(refused || names == SINCE_1_1_1 || names == SINCE_3_2, "{hidden:?}");
    for (offset, _, name) in &hidden {
        assert_eq!(truth.get(name), Some(offset), "{name}");
    }
}

/// Whatever of the library is damaged, what is still found is where it was.
#[test]
fn damaged() {
    let directory = build("debian12", "damaged", &["-pie"], &[]);
    let whole = fs::read(directory.join("bare")).unwrap();
    let expected = only(&directory.join("bare")).functions;
    let finder = memchr::memmem::find_iter(&whole, b"SSL_");
    let texts: Vec<usize> = finder.collect();
    let code: Vec<usize> = expected
        .iter()
        .flat_map(|function| (0..400).step_by(40).map(|step| usize::try_from(function.symbol_offset.0).unwrap() + step))
        .collect();
    for at in texts.into_iter().step_by(7).chain(code) {
        let mut damaged = whole.clone();
        damaged[at..at + 5].fill(0x90);
        for library in tls_libraries(&damaged).unwrap() {
            for function in &library.functions {
                let same = expected
                    .iter()
                    .any(|known| (&known.name, known.symbol_offset) == (&function.name, function.symbol_offset));
                assert!(same, "damaged at {at:#x}: {function:?}");
            }
        }
    }
}

/// Code that speaks as OpenSSL does without being it.
#[test]
fn impostors() {
    const IMPOSTOR: &str = r#"
__attribute__((noinline)) void report(const char *file, int line, const char *function) { __asm__ volatile("" ::"r"(file), "r"(line), "r"(function)); }
__attribute__((noinline)) int other(void *a, void *b, long c, long *d) { report("ssl/ssl_lib.c", 7, "other"); return *d = (long) a + (long) b + c; }
__attribute__((noinline)) int a(void *s, void *b, int n) { long c = 0; if (n < 0) { report("ssl/ssl_lib.c", 1, "SSL_read"); return 0; } return other(s, b, n, &c) > 0 ? c : -1; }
__attribute__((noinline)) int b(void *s, void *b, int n) { long c = 0; if (n < 0) { report("ssl/ssl_lib.c", 2, "SSL_write"); return 0; } return other(s, b, n, &c) > 0 ? c : -1; }
__attribute__((noinline)) int c(int n) { report("ssl/ssl_lib.c", 3, "ssl_read_internal"); return n + 1; }
__attribute__((noinline)) int d(int n) { report("ssl/ssl_lib.c", 4, "ssl_write_internal"); return n + 2; }
__attribute__((noinline)) int e(int n) { report("ssl/ssl_lib.c", 5, "ossl_ssl_connection_reset"); return n + 3; }
int main(int n, char **v) { return a(v, v, n) + b(v, v, n) + c(n) + d(n) + e(n); }
"#;
    let directory = directory("impostors");
    fs::write(directory.join("program.c"), IMPOSTOR).unwrap();
    run(&directory, "gcc", &["-O1", "-s", "-o", "bare", "program.c"]);
    let library = only(&directory.join("bare"));
    assert_eq!((library.functions.len(), library.blind.len()), (0, 1), "{library:?}");
}

/// Programs of the machine: whoever does not name OpenSSL's source has none of it, and who has it without symbols has
/// the three functions or says that they are not found.
#[test]
fn nothing_is_invented() {
    let mut looked = 0;
    for entry in ["/usr/bin", "/usr/sbin"].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let Ok(bytes) = fs::read(&path) else { continue };
        let Ok(found) = tls_libraries(&bytes) else { continue };
        looked += 1;
        for library in found.iter().filter(|library| library.kind == LibraryKind::OpenSsl) {
            let mentions = memchr::memmem::find(&bytes, b"ssl/ssl_lib.c").is_some();
            let exported = memchr::memmem::find(&bytes, b"\0SSL_read\0").is_some();
            assert!(mentions || exported, "{}: {library:?}", path.display());
            let usable = library.functions.iter().filter(|function| function.role != Role::SetFd).count();
            assert!(usable >= 3 || !library.blind.is_empty(), "{}: {library:?}", path.display());
        }
    }
    assert!(looked > 100, "only {looked} programs to look at");
}
