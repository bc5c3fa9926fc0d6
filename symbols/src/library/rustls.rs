//! rustls, which programs in Rust link in.
//!
//! Its sessions are values that programs move, and the functions that carry plaintext are generic and inlined. What stays
//! is below: each direction of a session has a boxed cipher, whose methods are called through a table and so are functions
//! of their own, with a symbol unless the program was stripped. Providers of ciphers (ring, aws-lc-rs, others) each have
//! theirs; all implement the same two traits (src/crypto/cipher.rs).
//!
//! What the arguments are is known of rustls 0.23. Where the compiler put their fields is checked at each call by the
//! kernel programs, not here. Only what tells success from failure has to be known: it depends on how many errors there
//! are, and so on the version, which the program must name.

use std::{collections::BTreeSet, ops::RangeInclusive};

use memchr::memmem;

use super::{Function, LibraryKind, Role, TlsLibrary};
use crate::{
    arch::site,
    elf::{Image, Symbol},
    probe::{Arguments, Exit},
};

/// Ends of the methods' names, behind the type that has them.
const METHODS: [(&str, Role); 2] = [
    (" as rustls::crypto::cipher::MessageEncrypter>::encrypt", Role::Write),
    (" as rustls::crypto::cipher::MessageDecrypter>::decrypt", Role::Read),
];

/// The same before 0.22.
const OLD_METHODS: [&str; 2] =
    [" as rustls::cipher::MessageEncrypter>::encrypt", " as rustls::cipher::MessageDecrypter>::decrypt"];

/// What stands in a session that has no key yet.
const WITHOUT_KEY: &str = "<rustls::crypto::cipher::Invalid";

/// Versions 0.23.x, and what begins a `Result<InboundPlainMessage, Error>` and a `Result<OutboundOpaqueMessage, Error>`
/// that are no errors: seen in programs built with the first and the last of each range, by Rust 1.95.
const OK: [(RangeInclusive<u32>, (u8, u8)); 7] = [
    (0..=9, (0x14, 0)),
    (10..=10, (0x15, 0)),
    (11..=23, (0x16, 0)),
    (24..=26, (0x27, 0x27)),
    (27..=27, (0x28, 0x28)),
    (28..=28, (0x29, 0x29)),
    (29..=46, (0x16, 0x16)),
];

/// Rust puts the path of a crate's source into its panics: "…/rustls-0.23.5/src/conn.rs".
const SOURCE: &[u8] = b"/rustls-";

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    // Demangling all symbols of a large program would take long.
    let likely =
        |symbol: &&Symbol<'_>| symbol.name.contains("MessageEncrypter") || symbol.name.contains("MessageDecrypter");
    let demangled = |symbol: &Symbol<'_>| format!("{:#}", rustc_demangle::demangle(symbol.name));
    let names = image.functions().iter().filter(likely).map(|symbol| (demangled(symbol), symbol));
    let names: Vec<_> = names.filter(|(name, _)| !name.starts_with(WITHOUT_KEY)).collect();
    if names.is_empty() {
        return None;
    }
    let versions = versions(image);
    let mut library = TlsLibrary::new(LibraryKind::Rustls, versions.last().cloned());
    let old = names.iter().any(|(name, _)| OLD_METHODS.iter().any(|method| name.ends_with(method)));
    // With two versions it is not known whose these functions are: 0.22 has the same names.
    let ok = if versions.len() == 1 { versions.first().and_then(|version| first_bytes_of_ok(version)) } else { None };
    let mut seen = BTreeSet::new();
    for (name, symbol) in &names {
        let Some((_, role)) = METHODS.iter().find(|(method, _)| name.ends_with(method)) else { continue };
        // Alike functions may be one.
        if seen.insert(symbol.address)
            && let Some(ok) = ok
        {
            library.functions.extend(function(image, name, *role, ok, symbol));
        }
    }
    if old || (ok.is_none() && !seen.is_empty()) {
        let versions = Vec::from_iter(versions).join(" and ");
        let version = match (&*versions, old) {
            ("", true) => "before 0.22",
            ("", false) => "not named",
            (named, _) => named,
        };
        library.blind.push(format!("its version is {version}; 0.23.0 to 0.23.46 are known"));
    }
    (!seen.is_empty() || old).then_some(library)
}

/// Both probes are at the start: only there nothing has been moved yet.
fn function(
    image: &Image<'_>,
    name: &str,
    role: Role,
    (opened, made): (u8, u8),
    symbol: &Symbol<'_>,
) -> Option<Function> {
    let site = site(image, symbol.address)?;
    let ok = if role == Role::Read { opened } else { made };
    Some(Function {
        name: name.to_owned(),
        role,
        arguments: Arguments::Rustls(ok),
        enter: vec![site.clone()],
        exit: Exit::Return(site),
        symbol_offset: image.file_offset(symbol.address)?,
    })
}

/// What begins the results of decrypting and encrypting if they are no errors.
fn first_bytes_of_ok(version: &str) -> Option<(u8, u8)> {
    let patch: u32 = version.strip_prefix("0.23.")?.parse().ok()?;
    OK.iter().find(|(versions, _)| versions.contains(&patch)).map(|(_, ok)| *ok)
}

/// The versions of rustls whose sources are named.
fn versions(image: &Image<'_>) -> BTreeSet<String> {
    let strings = image.section(".rodata").unwrap_or_default();
    let named = memmem::find_iter(strings, SOURCE).filter_map(|at| {
        let rest = strings.get(at + SOURCE.len()..)?;
        let length = rest.iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let (version, rest) = rest.split_at_checked(length)?;
        (length >= 5 && rest.starts_with(b"/src/")).then(|| String::from_utf8_lossy(version).into_owned())
    });
    named.collect()
}
