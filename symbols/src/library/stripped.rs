//! OpenSSL linked into an executable whose symbols are gone.
//!
//! OpenSSL's functions report their errors with the place in the source, in code that stripping leaves:
//! - since 3.0: `ERR_set_debug(file, line, function)`, the function by its name (include/openssl/err.h, `ERR_raise`);
//! - 1.1.1: `ERR_put_error(library, function, reason, file, line)`, the function by a number that never changes
//!   (crypto/err/openssl.txt of that version).
//!
//! A function counts as found only when all of these hold, else none does:
//! - its reports name ssl/ssl_lib.c and go to the one function that all others report to;
//! - no other function makes reports in its name, and it makes none in another's: neither is inlined into the other;
//! - the unwind table has its extent, and something calls its start or points there: it is no part of a function;
//! - what it calls fits: `SSL_read` calls `ssl_read_internal`, and so on.
//!
//! `SSL_free` makes no reports. That a session is another one than before at the same address is learnt where it
//! begins: `SSL_new` resets it, by `SSL_clear`, since 3.2 by `ossl_ssl_connection_reset`.
//!
//! BoringSSL's reports name no functions: see [`super::boringssl`].

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{Role, pair::Wanted};
use crate::{
    arch::{ConstantCall, Flow, Prototype, loads_of, referenced},
    elf::{Image, Symbol},
    unwind::Extents,
};

/// Resets a new session, since OpenSSL 3.2.
const RESET: &str = "ossl_ssl_connection_reset";

const FILE: &str = "ssl/ssl_lib.c";

/// The functions that are looked for, and their numbers in OpenSSL 1.1.1.
const FUNCTIONS: [(&str, u64); 7] = [
    ("SSL_read", 223),
    ("ssl_read_internal", 523),
    ("SSL_write", 208),
    ("ssl_write_internal", 524),
    ("SSL_clear", 164),
    ("SSL_new", 186),
    (RESET, u64::MAX),
];

/// ERR_LIB_SSL
const LIBRARY: u64 = 20;

/// A line of a source file is below this.
const MAX_LINE: u64 = 20_000;

/// Functions of ssl_lib.c that make reports are some hundred.
const MAX_CANDIDATES: usize = 4096;

/// The functions to probe of an OpenSSL without symbols; none if one of them is not surely found.
pub(super) fn find(image: &Image<'_>) -> Option<Vec<(Wanted, Symbol<'static>)>> {
    let found = Reports::collect(image)?.functions(image)?;
    let flow = |name: &str| {
        let extent = found.get(name)?;
        Flow::decode(image, extent.start, extent.end)
    };
    let mut functions = vec![];
    for (outer, inner, role) in
        [("SSL_read", "ssl_read_internal", Role::Read), ("SSL_write", "ssl_write_internal", Role::Write)]
    {
        let extent = found.get(inner)?;
        let calls = flow(outer)?.inner_calls(Prototype { arguments: 3, length: None });
        let [call] = calls[..] else { return None };
        (call.target == extent.start).then_some(())?;
        functions.push((inner, role, Prototype { arguments: 3, length: Some(call.length.argument()) }));
    }
    let begins = if found.contains_key(RESET) { RESET } else { "SSL_clear" };
    let calls_it = || flow("SSL_new").is_some_and(|flow| flow.callees().contains(&found["SSL_clear"].start));
    (begins == RESET || (found.contains_key(begins) && calls_it())).then_some(())?;
    functions.push((begins, Role::Clear, Prototype { arguments: 1, length: None }));
    let symbol = |name: &'static str| {
        let extent = found.get(name)?;
        Some(Symbol { name, address: extent.start, size: extent.end.checked_sub(extent.start)? })
    };
    functions
        .into_iter()
        .map(|(name, role, prototype)| Some((Wanted { name, role, prototype }, symbol(name)?)))
        .collect()
}

/// An error report in a function's code.
struct Report {
    /// The function, by its extent.
    extent: (u64, u64),
    /// What takes the report.
    target: u64,
    /// In whose name it is made; none: another's than those that are looked for.
    name: Option<&'static str>,
}

struct Reports(Vec<Report>);

impl Reports {
    fn collect(image: &Image<'_>) -> Option<Self> {
        let files = image.strings(FILE, true);
        let names: BTreeSet<u64> = FUNCTIONS.iter().flat_map(|(name, _)| image.strings(name, false)).collect();
        if files.is_empty() {
            return None;
        }
        let extents = Extents::of(image);
        let by_name = collect(image, &extents, &names, named);
        let found = if by_name.is_empty() { collect(image, &extents, &files, numbered) } else { by_name };
        Some(Self(found))
    }

    /// Each function that makes reports in its own name only, and is the only one to do so.
    fn functions(&self, image: &Image<'_>) -> Option<BTreeMap<&'static str, Range<u64>>> {
        let target = self.0.first()?.target;
        let mut extents: BTreeMap<&'static str, BTreeSet<(u64, u64)>> = BTreeMap::new();
        for report in &self.0 {
            if let Some(name) = report.name {
                // All report to one function, or something is not understood.
                (report.target == target).then_some(())?;
                extents.entry(name).or_default().insert(report.extent);
            }
        }
        let pure = |extent: (u64, u64), name| {
            let own = self.0.iter().filter(|report| report.extent == extent);
            own.into_iter().all(|report| report.name == Some(name))
        };
        let starts = extents.values().flatten().map(|extent| extent.0).collect();
        let entered = referenced(image, &starts);
        let mut functions = BTreeMap::new();
        for (name, extents) in extents {
            let [extent] = extents.into_iter().collect::<Vec<_>>()[..] else { continue };
            if pure(extent, name) && entered.contains(&extent.0) {
                functions.insert(name, extent.0..extent.1);
            }
        }
        Some(functions)
    }
}

/// In whose name a call makes a report: no report, one of another function's, or one of those that are looked for.
type Read = fn(&Image<'_>, &ConstantCall) -> Option<Option<&'static str>>;

/// The reports of all functions that load one of these addresses.
fn collect(image: &Image<'_>, extents: &Extents, loaded: &BTreeSet<u64>, read: Read) -> Vec<Report> {
    let mut reports = vec![];
    for (extent, flow) in functions_loading(image, extents, loaded) {
        let calls = flow.constant_calls();
        let read =
            calls.iter().filter_map(|call| Some(Report { extent, target: call.target, name: read(image, call)? }));
        reports.extend(read);
    }
    reports
}

/// The functions that load one of these addresses, by their extents.
pub(super) fn functions_loading(
    image: &Image<'_>,
    extents: &Extents,
    loaded: &BTreeSet<u64>,
) -> Vec<((u64, u64), Flow)> {
    let loads = loads_of(image, loaded);
    let candidates: BTreeSet<(u64, u64)> =
        loads.into_iter().filter_map(|load| extents.around(load)).map(|extent| (extent.start, extent.end)).collect();
    let decoded = candidates.into_iter().take(MAX_CANDIDATES);
    decoded.filter_map(|extent| Some((extent, Flow::decode(image, extent.0, extent.1)?))).collect()
}

/// `ERR_set_debug(file, line, function)`
fn named(image: &Image<'_>, call: &ConstantCall) -> Option<Option<&'static str>> {
    let [Some(file), Some(line), Some(function), ..] = call.arguments else { return None };
    is_place(image, file, line).then_some(())?;
    let name = image.string_at(function)?;
    Some(FUNCTIONS.iter().map(|(known, _)| *known).find(|known| known.as_bytes() == name))
}

/// `ERR_put_error(library, function, reason, file, line)`
fn numbered(image: &Image<'_>, call: &ConstantCall) -> Option<Option<&'static str>> {
    let [Some(LIBRARY), Some(function), Some(_), Some(file), Some(line), _] = call.arguments else { return None };
    is_place(image, file, line).then_some(())?;
    Some(FUNCTIONS.iter().find(|(_, number)| *number == function).map(|(name, _)| *name))
}

fn is_place(image: &Image<'_>, file: u64, line: u64) -> bool {
    let named = image.string_at(file).is_some_and(|name| name.ends_with(FILE.as_bytes()));
    named && (1..MAX_LINE).contains(&line)
}
