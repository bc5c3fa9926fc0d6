//! OpenSSL linked into an executable, with its symbols in each of the places where distributions leave them.
//!
//! Needs a C compiler, binutils, xz and the static library (Debian packages gcc, binutils, xz-utils, libssl-dev), and
//! fails without them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use symbols::{Exit, LibraryKind, TlsLibrary, build_id, tls_libraries, tls_libraries_with_debug};

const PROGRAM: &str = r#"
#include <openssl/ssl.h>
int main(void) {
    char buffer[16]; size_t count;
    SSL *ssl = SSL_new(SSL_CTX_new(TLS_method()));
    SSL_read(ssl, buffer, 16); SSL_write(ssl, buffer, 16); SSL_peek(ssl, buffer, 16);
    SSL_read_ex(ssl, buffer, 16, &count); SSL_write_ex(ssl, buffer, 16, &count);
    SSL_set_fd(ssl, 0); SSL_clear(ssl); SSL_free(ssl); OpenSSL_version(0);
    return 0;
}
"#;

/// The executable in a directory of its own.
struct Built {
    directory: PathBuf,
}

impl Built {
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("program.c"), PROGRAM).unwrap();
        let built = Self { directory };
        let libraries = ["-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic", "-ldl", "-lpthread"];
        built.run("gcc", &[["-Wl,--build-id", "-o", "program", "program.c"].as_slice(), &libraries].concat());
        built
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(&self.directory).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.directory.join(file)).unwrap()
    }

    /// What `nm` says, as an offset in the file: its code is loaded where `readelf` says.
    fn offset_of(&self, symbol: &str) -> u64 {
        let symbols = self.run("nm", &["program"]);
        let line = symbols.lines().find(|line| line.ends_with(&format!(" {symbol}"))).unwrap();
        let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        let segments = self.run("readelf", &["-W", "-l", "program"]);
        let code = segments.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
        let numbers = code.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let [offset, loaded, ..] = numbers.collect::<Vec<_>>()[..] else { panic!("{code}") };
        address - loaded + offset
    }
}

fn only(mut found: Vec<TlsLibrary>) -> TlsLibrary {
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn symbol_table() {
    let built = Built::new("symbol_table");
    let library = only(tls_libraries(&built.read("program")).unwrap());
    assert_eq!(library.kind, LibraryKind::OpenSsl);
    let stated = built.run("openssl", &["version"]);
    assert!(stated.starts_with(&format!("OpenSSL {} ", library.version.unwrap())), "{stated}");
    for function in &library.functions {
        assert_eq!(function.symbol_offset.0, built.offset_of(&function.name), "{}", function.name);
        assert!(function.enter.iter().all(|site| site.class.is_emulated()), "{function:?}");
    }
    assert_eq!(library.functions.len(), 9);
    for [inner, covers] in [["ssl_read_internal", "SSL_read"], ["ssl_write_internal", "SSL_write"]] {
        let found = library.inner.iter().find(|inner| inner.covers.iter().any(|name| name == covers)).unwrap();
        assert_eq!(found.function.symbol_offset.0, built.offset_of(inner));
        assert!(found.function.exit.sites().iter().all(|site| site.class.is_emulated()));
    }
    assert!(matches!(library.functions[0].exit, Exit::Result(_)), "{:?}", library.functions[0]);
}

#[test]
fn separate_debug_file() {
    let built = Built::new("separate_debug_file");
    built.run("objcopy", &["--only-keep-debug", "program", "debug"]);
    built.run("strip", &["-o", "bare", "program"]);
    let (whole, bare, debug) = (built.read("program"), built.read("bare"), built.read("debug"));
    assert_eq!(build_id(&bare).unwrap(), build_id(&debug).unwrap());
    assert_eq!(build_id(&bare).unwrap().map(<[u8]>::len), Some(20));
    assert_eq!(tls_libraries_with_debug(&bare, &debug).unwrap(), tls_libraries(&whole).unwrap());

    built.run("gcc", &["-Wl,--build-id", "-DOTHER", "-xc", "-o", "other", "/dev/null", "-nostdlib", "-shared"]);
    let error = tls_libraries_with_debug(&bare, &built.read("other")).unwrap_err();
    assert!(error.to_string().contains("build id"), "{error}");
}

#[test]
fn mini_debug_info() {
    let built = Built::new("mini_debug_info");
    built.run("objcopy", &["--only-keep-debug", "--strip-debug", "program", "symbols"]);
    built.run("xz", &["-f", "symbols"]);
    built.run("strip", &["-o", "bare", "program"]);
    built.run("objcopy", &["--add-section", ".gnu_debugdata=symbols.xz", "bare", "packed"]);
    let whole = tls_libraries(&built.read("program")).unwrap();
    assert_eq!(tls_libraries(&built.read("packed")).unwrap(), whole);

    // Damaged, it counts as absent.
    let mut damaged = built.read("packed");
    let at = memchr::memmem::find(&damaged, b"\xfd7zXZ").unwrap();
    damaged[at + 200..at + 300].fill(0xff);
    assert_eq!(tls_libraries(&damaged).unwrap(), tls_libraries(&built.read("bare")).unwrap());
}
