//! OpenSSL as a shared library, or as an executable that exports it.
//!
//! Since OpenSSL 1.1.1 `SSL_read` and `SSL_read_ex` are thin: both call `ssl_read_internal(ssl, buf, num, &count)`, as
//! does the BIO that wraps a session (`BIO_f_ssl`); writing is alike (ssl/ssl_lib.c, ssl/bio_ssl.c). `SSL_peek` has an
//! internal function of its own, and what it shows is read again later, so it is not data.

use super::{
    Function, Inner, LibraryKind, Role, TlsLibrary,
    pair::{self, Surroundings, Wanted},
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
];

const AROUND: Surroundings = Surroundings { listed: FUNCTIONS, harmless: |name| name.starts_with("ERR_") };

/// Reads of these are not data.
const PEEKS: &[&str] = &["SSL_peek", "SSL_peek_ex"];

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    image.export("SSL_read").and(image.export("SSL_write"))?;
    let exported = |wanted: &Wanted| Some((*wanted, image.export(wanted.name)?));
    let present: Vec<(Wanted, &Symbol)> = FUNCTIONS.iter().filter_map(exported).collect();
    let mut blind = Vec::new();
    let mut functions = Vec::new();
    for (wanted, symbol) in &present {
        match pair::choose(image, *wanted, symbol, &AROUND) {
            Some(function) => functions.push(function),
            None => blind.push(format!("{}: its symbol points outside of the code", wanted.name)),
        }
    }
    let mut inner = Vec::new();
    for role in [Role::Read, Role::Write] {
        let group: Vec<_> = present.iter().copied().filter(|(wanted, _)| wanted.role == role).collect();
        if let Some(found) = shared(image, &group, &functions) {
            blind.extend(found.1);
            inner.push(found.0);
        }
    }
    Some(TlsLibrary { kind: LibraryKind::OpenSsl, version: version(image), functions, inner, blind })
}

/// The internal function that all of one role call, and what else reaches it.
fn shared(image: &Image<'_>, group: &[(Wanted, &Symbol)], functions: &[Function]) -> Option<(Inner, Option<String>)> {
    let passes_on = |name: &str| {
        functions.iter().any(|function| function.name == name && matches!(function.exit, Exit::Through(_)))
    };
    let working = group.iter().filter(|(wanted, _)| !passes_on(wanted.name));
    let calls: Vec<Call> =
        working.map(|(wanted, symbol)| pair::inner_call(image, *wanted, symbol)).collect::<Option<_>>()?;
    let first = *calls.first()?;
    if calls.iter().any(|call| call.target != first.target || call.length != first.length) {
        return None;
    }
    let callers = calls_to(image, first.target);
    let own = |name: &str| group.iter().any(|(wanted, _)| wanted.name == name);
    let exported = |caller: &u64| image.export_around(*caller);
    if callers.iter().filter_map(exported).any(|symbol| !own(&symbol.name)) || peeked(image, first.target) {
        return None;
    }
    let function = inner_function(image, group.first()?.0, first)?;
    let unnamed = callers.iter().filter(|caller| exported(caller).is_none()).count();
    let blind = (unnamed > 0).then(|| {
        let covered = group.iter().map(|(wanted, _)| wanted.name).collect::<Vec<_>>().join(", ");
        format!("BIO_f_ssl: code that is not exported calls the function under {covered}; `inner` sees it")
    });
    let covers = group.iter().map(|(wanted, _)| wanted.name.to_owned()).collect();
    Some((Inner { function, covers }, blind))
}

/// Whether a function that peeks reaches `target`, itself or by one function in between.
fn peeked(image: &Image<'_>, target: u64) -> bool {
    let peeks = PEEKS.iter().filter_map(|name| image.export(name));
    peeks.into_iter().any(|symbol| {
        let Some(flow) = Flow::decode(image, symbol.address, image.end_of(symbol)) else { return true };
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

/// A function without a symbol ends at the next exported one at the latest.
fn end_of_unnamed(image: &Image<'_>, address: u64) -> u64 {
    image.end_of(&Symbol { name: String::new(), address, size: 0 })
}

/// From the "OpenSSL 1.1.1w  11 Sep 2023" that libssl 1.1 carries; libssl 3 states it nowhere, only libcrypto does.
fn version(image: &Image<'_>) -> Option<String> {
    const MARK: &[u8] = b"OpenSSL ";
    let constants = image.constants()?;
    let starts = constants.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let versions = starts.filter_map(|(at, _)| {
        let text = constants.get(at + MARK.len()..)?;
        let end = text.iter().take(24).position(|byte| !byte.is_ascii_alphanumeric() && !b".-".contains(byte))?;
        let version = std::str::from_utf8(text.get(..end)?).ok()?;
        let looks_so = version.starts_with(|first: char| first.is_ascii_digit()) && version.matches('.').count() >= 2;
        looks_so.then(|| version.to_owned())
    });
    versions.into_iter().next()
}
