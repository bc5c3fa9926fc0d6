//! OpenSSL, BoringSSL and LibreSSL, as a shared library or linked into an executable.
//!
//! Since OpenSSL 1.1.1 `SSL_read` and `SSL_read_ex` are thin: both call `ssl_read_internal(ssl, buf, num, &count)`, as
//! does the BIO that wraps a session (`BIO_f_ssl`); writing is alike (ssl/ssl_lib.c, ssl/bio_ssl.c). `SSL_peek` has an
//! internal function of its own, and what it shows is read again later, so it is not data. BoringSSL has neither the `_ex` functions nor such a function under both.

use memchr::memmem;

use super::{
    Function, Inner, LibraryKind, Role, TlsLibrary, boringssl,
    pair::{Surroundings, Wanted, choose, choose_all, inner_call},
    stripped,
};
use crate::{
    arch::{Call, Flow, Prototype, calls_to},
    elf::{Image, Symbol},
    probe::Exit,
};

const fn wanted(name: &'static str, role: Role, arguments: usize, length: Option<usize>) -> Wanted {
    Wanted { name, role, prototype: Prototype { arguments, length } }
}

const FUNCTIONS: &[Wanted] = &[
    wanted("SSL_read", Role::Read, 3, None),
    wanted("SSL_read_ex", Role::Read, 3, Some(3)),
    wanted("SSL_write", Role::Write, 3, None),
    wanted("SSL_write_ex", Role::Write, 3, Some(3)),
    wanted("SSL_write_ex2", Role::Write, 3, Some(4)),
    wanted("SSL_free", Role::Free, 1, None),
    wanted("SSL_clear", Role::Clear, 1, None),
    wanted("SSL_set_fd", Role::SetFd, 2, None),
    wanted("SSL_set_rfd", Role::SetOneFd, 2, None),
    wanted("SSL_set_wfd", Role::SetOneFd, 2, None),
];

const AROUND: Surroundings = Surroundings { listed: FUNCTIONS, harmless: |name| name.starts_with("ERR_") };

/// Functions that only BoringSSL and its forks have.
const BORINGSSL: &[&str] =
    &["BORINGSSL_self_test", "SSL_CTX_set_grease_enabled", "SSL_early_callback_ctx_extension_get"];

/// Functions that only LibreSSL has.
const LIBRESSL: &[&str] = &["SSL_CTX_use_certificate_chain_mem", "SSL_CTX_load_verify_mem"];

/// Reads of these are not data.
const PEEKS: &[&str] = &["SSL_peek", "SSL_peek_ex"];

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    let named = |wanted: &Wanted| Some((*wanted, image.function(wanted.name)?));
    let present: Vec<(Wanted, Symbol<'_>)> = FUNCTIONS.iter().filter_map(named).collect();
    let moves_data = |role| present.iter().any(|(wanted, _)| wanted.role == role);
    if !(moves_data(Role::Read) && moves_data(Role::Write)) {
        return unnamed(image);
    }
    let mut library = TlsLibrary::new(kind(image), version(image));
    choose_all(image, FUNCTIONS, &AROUND, &mut library);
    for role in [Role::Read, Role::Write] {
        let group: Vec<_> = present.iter().copied().filter(|(wanted, _)| wanted.role == role).collect();
        if let Some((inner, blind)) = shared(image, &group, &library.functions) {
            library.blind.extend(blind);
            library.inner.push(inner);
        }
    }
    if image.function("SSL_sendfile").is_some() {
        library.blind.push("SSL_sendfile: the kernel reads the file, so its bytes pass no buffer".to_owned());
    }
    Some(library)
}

/// Linked into the file without symbols: it is there, and what can be probed is only what is surely found.
fn unnamed(image: &Image<'_>) -> Option<TlsLibrary> {
    let constants = image.section(".rodata")?;
    let kind = if memmem::find(constants, b"ssl/ssl_lib.cc\0").is_some() {
        LibraryKind::BoringSsl
    } else {
        memmem::find(constants, b"ssl/ssl_lib.c\0")?;
        LibraryKind::OpenSsl
    };
    let mut library = TlsLibrary::new(kind, version(image));
    let found = if kind == LibraryKind::OpenSsl { stripped::find(image) } else { boringssl::find(image) };
    let chosen = found.and_then(|found| {
        found.into_iter().map(|(wanted, symbol)| choose(image, wanted, symbol, &AROUND)).collect::<Option<_>>()
    });
    match chosen {
        Some(functions) => library.functions = functions,
        None => library.blind.push("linked in without symbols, and its functions are not surely found".to_owned()),
    }
    Some(library)
}

fn kind(image: &Image<'_>) -> LibraryKind {
    let own = |name: &str| BORINGSSL.contains(&name) || name.starts_with("_ZN4bssl");
    if image.functions().iter().any(|symbol| own(symbol.name)) {
        LibraryKind::BoringSsl
    } else if LIBRESSL.iter().any(|name| image.function(name).is_some()) {
        LibraryKind::LibreSsl
    } else {
        LibraryKind::OpenSsl
    }
}

/// The internal function that all of one role call, and what else reaches it.
fn shared(
    image: &Image<'_>,
    group: &[(Wanted, Symbol<'_>)],
    functions: &[Function],
) -> Option<(Inner, Option<String>)> {
    let passes_on = |name: &str| {
        functions.iter().any(|function| function.name == name && matches!(function.exit, Exit::Through(_)))
    };
    let working = group.iter().filter(|(wanted, _)| !passes_on(wanted.name));
    let calls: Vec<Call> =
        working.map(|(wanted, symbol)| inner_call(image, *wanted, *symbol)).collect::<Option<_>>()?;
    let first = *calls.first()?;
    if calls.iter().any(|call| call.target != first.target || call.length != first.length) {
        return None;
    }
    let own = |name: &str| group.iter().any(|(wanted, _)| wanted.name == name);
    let callers: Vec<_> =
        calls_to(image, first.target).into_iter().map(|caller| image.function_around(caller)).collect();
    let other = |symbol: &Symbol<'_>| is_interface(symbol.name) && !own(symbol.name);
    if callers.iter().flatten().any(other) || peeked(image, first.target) {
        return None;
    }
    let function = inner_function(image, group.first()?.0, first)?;
    let covered: Vec<_> = group.iter().map(|(wanted, _)| wanted.name.to_owned()).collect();
    let elsewhere = callers.iter().any(|symbol| symbol.is_none_or(|symbol| !own(symbol.name)));
    let blind = elsewhere.then(|| {
        let covered = covered.join(", ");
        format!("BIO_f_ssl: code that is not exported calls the function under {covered}; `inner` sees it")
    });
    Some((Inner { function, covers: covered }, blind))
}

/// Whether a function is one that applications call: those begin with the name of their type (`SSL_`, `BIO_`, …).
fn is_interface(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

/// Whether a function that peeks reaches `target`, itself or by one function in between.
fn peeked(image: &Image<'_>, target: u64) -> bool {
    let peeks = PEEKS.iter().filter_map(|name| image.function(name));
    peeks.into_iter().any(|symbol| {
        let Some(flow) = Flow::decode(image, symbol.address, image.end_of(&symbol)) else { return true };
        let callees = flow.callees();
        let further = callees.iter().filter_map(|callee| Flow::decode(image, *callee, end_of_unnamed(image, *callee)));
        callees.contains(&target) || further.into_iter().any(|flow| flow.callees().contains(&target))
    })
}

fn inner_function(image: &Image<'_>, named_after: Wanted, call: Call) -> Option<Function> {
    let flow = Flow::decode(image, call.target, end_of_unnamed(image, call.target))?;
    let position = call.length.argument();
    let (site, arguments) = flow.enter_and_return(Prototype { arguments: 3, length: Some(position) })?;
    let site = flow.site(image, site)?;
    Some(Function {
        name: format!("{} (inner)", named_after.name),
        role: named_after.role,
        arguments,
        enter: vec![site.clone()],
        exit: Exit::Return(site),
        symbol_offset: image.file_offset(call.target)?,
    })
}

/// A function without a symbol ends at the next one that has one at the latest.
fn end_of_unnamed(image: &Image<'_>, address: u64) -> u64 {
    image.end_of(&Symbol { name: "", address, size: 0 })
}

/// From the "OpenSSL 1.1.1w  11 Sep 2023" that libssl 1.1 and everything that libcrypto is linked into carry; the
/// libssl of OpenSSL 3 states it nowhere. BoringSSL has no versions; what it says is "OpenSSL 1.1.1 (compatible; …".
fn version(image: &Image<'_>) -> Option<String> {
    const MARK: &[u8] = b"OpenSSL ";
    let constants = image.section(".rodata")?;
    let mut versions = memmem::find_iter(constants, MARK).filter_map(|at| {
        let text = constants.get(at + MARK.len()..)?;
        let end = text.iter().take(24).position(|byte| !byte.is_ascii_alphanumeric() && !b".-".contains(byte))?;
        let version = std::str::from_utf8(text.get(..end)?).ok()?;
        let numbered = version.starts_with(|first: char| first.is_ascii_digit()) && version.matches('.').count() >= 2;
        let compatible = text.get(end..)?.starts_with(b" (compatible");
        (numbered && !compatible).then(|| version.to_owned())
    });
    versions.next()
}
