//! BoringSSL linked into a file whose symbols are gone (gRPC's packages for Python, say).
//!
//! Its functions report their errors by `ERR_put_error(library, 0, reason, file, line)` (include/openssl/err.h,
//! `OPENSSL_PUT_ERROR`): no function is named, and lines differ from version to version. Reasons are never renumbered.
//! What tells the functions apart is what their code must do (ssl/ssl_lib.cc). Each is found only when
//! all of its signs hold, and for one function alone; else none is:
//! - `SSL_peek` refuses QUIC and then calls an internal function that refuses sessions without a role. `SSL_read` is
//!   `SSL_peek`, inlined, and then takes what was shown: two functions make the same one report, on the same line, and
//!   call the same function, and one of them stores something outside of its stack and the other does not.
//! - `SSL_write` refuses QUIC and, on a later line, sessions without a role, and nothing but four things in all; it hands
//!   session, data and length on to a method of the session's protocol.
//! - The methods of TLS are a table that begins with "no DTLS" and has at that method's place a function of ssl/s3_pkt.cc.
//!   `SSL_new` calls its first method to make the session, and the second one ends it.
//!
//! `BIO_write` and `BIO_read` are what ssl/ssl_buffer.cc calls of those functions of crypto/bio/bio.cc that refuse two
//! things, and `BIO_write` is the later one. That is not certain, and need not be: what it is given counts only when
//! a socket sends the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Role, pair::Wanted, stripped::functions_loading};
use crate::{
    arch::{ConstantCall, Flow, Prototype},
    elf::{Image, Symbol},
    unwind::Extents,
};

/// Of errors in general (include/openssl/err.h).
const SHOULD_NOT_HAVE_BEEN_CALLED: u64 = 66;

/// ERR_LIB_SSL, and its reasons (include/openssl/ssl.h).
const SSL: u64 = 16;
const BAD_LENGTH: u64 = 111;
const NULL_SSL_CTX: u64 = 185;
const SSL_HANDSHAKE_FAILURE: u64 = 215;
const UNINITIALIZED: u64 = 226;

/// ERR_LIB_BIO, and its reasons (include/openssl/bio.h).
const BIO: u64 = 17;
const BIO_UNINITIALIZED: u64 = 114;
const UNSUPPORTED_METHOD: u64 = 115;

/// What calls the BIOs.
pub(super) const BUFFER: &str = "ssl/ssl_buffer.cc";

/// Places in `SSL_PROTOCOL_METHOD` (ssl/internal.h): `is_dtls`, `ssl_new`, `ssl_free`, …
const METHOD_NEW: u64 = 8;
const METHOD_FREE: u64 = 16;

/// A function that makes error reports.
struct Reporter {
    extent: (u64, u64),
    flow: Flow,
    /// Reasons and lines.
    reports: Vec<(u64, u64)>,
}

impl Reporter {
    fn reasons(&self) -> BTreeSet<u64> {
        self.reports.iter().map(|(reason, _)| *reason).collect()
    }

    /// The one line on which it gives this reason.
    fn line_of(&self, reason: u64) -> Option<u64> {
        let lines: BTreeSet<u64> =
            self.reports.iter().filter(|report| report.0 == reason).map(|(_, line)| *line).collect();
        only(lines.into_iter())
    }

    /// Its first argument is the session of this call of a method, and these are those that follow.
    fn method(&self, passed: &[usize]) -> Option<u64> {
        let fits = |arguments: &[Option<usize>; 6]| {
            arguments.first() == Some(&Some(0)) && passed.iter().all(|one| arguments.contains(&Some(*one)))
        };
        let slots: BTreeSet<u64> =
            self.flow.method_calls().into_iter().filter(|call| fits(&call.arguments)).map(|call| call.slot).collect();
        only(slots.into_iter())
    }
}

/// The one there is.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// The functions to probe; none if one of them is not surely found.
pub(super) fn find(image: &Image<'_>) -> Option<Vec<(Wanted, Symbol<'static>)>> {
    let extents = Extents::of(image);
    let all = reporters(image, &extents, "ssl/ssl_lib.cc", SSL);
    let (read, refused) = read(&all)?;
    let (write, slot) = write(&all, refused)?;
    let [new, free] = methods(image, &extents, &all, slot)?;
    let mover = |name, role, extent| function(name, role, 3, extent);
    Some(vec![
        mover("SSL_read", Role::Read, read),
        mover("SSL_write", Role::Write, write),
        function("ssl_new", Role::Clear, 1, new),
        function("ssl_free", Role::Free, 1, free),
    ])
}

/// `BIO_write(bio, data, length)`, perhaps.
pub(super) fn bio_write(image: &Image<'_>) -> Option<Symbol<'static>> {
    let extents = Extents::of(image);
    let called: BTreeSet<u64> =
        reporters(image, &extents, BUFFER, SSL).iter().flat_map(|function| function.flow.callees()).collect();
    let refuses = BTreeSet::from([BIO_UNINITIALIZED, UNSUPPORTED_METHOD]);
    let bios = reporters(image, &extents, "crypto/bio/bio.cc", BIO).into_iter();
    let found = bios.filter(|function| function.reasons() == refuses && called.contains(&function.extent.0));
    let mut found: Vec<_> = found.map(|function| (function.line_of(UNSUPPORTED_METHOD), function.extent)).collect();
    found.sort_unstable();
    let [(Some(read), _), (Some(write), extent)] = found[..] else { return None };
    (read < write).then(|| function("BIO_write", Role::Ciphertext, 3, extent).1)
}

fn function(name: &'static str, role: Role, arguments: usize, extent: (u64, u64)) -> (Wanted, Symbol<'static>) {
    let prototype = Prototype { arguments, length: None };
    (Wanted { name, role, prototype }, Symbol { name, address: extent.0, size: extent.1.saturating_sub(extent.0) })
}

/// `SSL_read`, and the line on which QUIC is refused.
fn read(all: &[Reporter]) -> Option<((u64, u64), u64)> {
    let refused = |function: &Reporter| {
        let alone = function.reasons() == BTreeSet::from([SHOULD_NOT_HAVE_BEEN_CALLED]);
        alone.then(|| function.line_of(SHOULD_NOT_HAVE_BEEN_CALLED))?
    };
    let internal = |function: &Reporter| {
        let callees = function.flow.callees();
        let refuses = |other: &&Reporter| {
            callees.contains(&other.extent.0)
                && other.reasons().is_superset(&BTreeSet::from([UNINITIALIZED, SSL_HANDSHAKE_FAILURE]))
        };
        Some(only(all.iter().filter(refuses))?.extent)
    };
    let alike: Vec<_> =
        all.iter().filter_map(|function| Some((function, refused(function)?, internal(function)?))).collect();
    let [(one, line, inside), (other, same_line, same_inside)] = alike[..] else { return None };
    (line == same_line && inside == same_inside).then_some(())?;
    let takes = only([one, other].into_iter().filter(|function| function.flow.stores()))?;
    Some((takes.extent, line))
}

/// `SSL_write`, and the place of the method that it calls.
fn write(all: &[Reporter], behind: u64) -> Option<((u64, u64), u64)> {
    let possible = BTreeSet::from([SHOULD_NOT_HAVE_BEEN_CALLED, UNINITIALIZED, SSL_HANDSHAKE_FAILURE, BAD_LENGTH]);
    let found = all.iter().filter_map(|function| {
        let quic = function.line_of(SHOULD_NOT_HAVE_BEEN_CALLED)?;
        let ordered = behind < quic && quic < function.line_of(UNINITIALIZED)?;
        let slot = function.method(&[1, 2])?;
        (ordered && function.reasons().is_subset(&possible)).then_some((function.extent, slot))
    });
    only(found)
}

/// The methods of TLS that make and end a session.
fn methods(image: &Image<'_>, extents: &Extents, all: &[Reporter], write: u64) -> Option<[(u64, u64); 2]> {
    let makes = |function: &&Reporter| {
        function.reasons() == BTreeSet::from([NULL_SSL_CTX])
            && function.flow.method_calls().iter().any(|call| call.slot == METHOD_NEW)
    };
    only(all.iter().filter(makes))?;
    let writers: BTreeSet<u64> =
        reporters(image, extents, "ssl/s3_pkt.cc", SSL).iter().map(|function| function.extent.0).collect();
    let pointers: BTreeMap<u64, u64> = image.pointers().collect();
    let at = |table: u64, place: u64| {
        let start = *pointers.get(&table.checked_add(place)?)?;
        extents.around(start).filter(|extent| extent.start == start).map(|extent| (extent.start, extent.end))
    };
    let tables = pointers.iter().filter(|(_, to)| writers.contains(to)).filter_map(|(place, _)| {
        let table = place.checked_sub(write)?;
        let is_dtls = u64::from_le_bytes(*image.bytes_at(table)?.first_chunk()?);
        let whole = (METHOD_NEW..=write).step_by(8).all(|place| at(table, place).is_some());
        (is_dtls == 0 && whole && !pointers.contains_key(&table)).then_some(())?;
        Some([at(table, METHOD_NEW)?, at(table, METHOD_FREE)?])
    });
    only(tables.collect::<BTreeSet<_>>().into_iter())
}

/// The functions that report errors of a source file.
fn reporters(image: &Image<'_>, extents: &Extents, file: &str, library: u64) -> Vec<Reporter> {
    let files = image.strings(file, true);
    let read = |call: &ConstantCall| {
        let [Some(of), Some(0), Some(reason), Some(named), Some(line), _] = call.arguments else { return None };
        (of == library && files.contains(&named)).then_some((reason, line))
    };
    let functions = functions_loading(image, extents, &files).into_iter().filter_map(|(extent, flow)| {
        let reports: Vec<_> = flow.constant_calls().iter().filter_map(read).collect();
        (!reports.is_empty()).then_some(Reporter { extent, flow, reports })
    });
    functions.collect()
}
