//! The pair of enter and exit sites of a function: the cheapest that is proved to be right.

use super::{Function, Role, TlsLibrary};
use crate::{
    arch::{Call, Flow, Prototype, site},
    elf::{Image, Symbol},
    probe::{Arguments, Class, Exit, Site},
};

/// What is known of a function of interest before its code is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub name: &'static str,
    pub role: Role,
    pub prototype: Prototype,
}

/// Other functions that matter to the choice.
pub(super) struct Surroundings {
    /// The functions of interest that move data: to go on to one of them is to be covered by it.
    pub listed: &'static [Wanted],
    /// Whether a function of another library, by its name, can move no data.
    pub harmless: fn(&str) -> bool,
}

impl Wanted {
    fn needs_exit(&self) -> bool {
        matches!(self.role, Role::Read | Role::Write | Role::Flush)
    }
}

/// Chooses the sites of all functions of a library that the image holds.
pub(super) fn choose_all(image: &Image<'_>, wanted: &[Wanted], around: &Surroundings, library: &mut TlsLibrary) {
    for wanted in wanted {
        let Some(symbol) = image.function(wanted.name) else { continue };
        match choose(image, *wanted, symbol, around) {
            Some(function) => library.functions.push(function),
            None => library.blind.push(format!("{}: its symbol points outside of the code", wanted.name)),
        }
    }
}

/// Chooses the sites of one function; none when its code is not in the file.
pub(super) fn choose(image: &Image<'_>, wanted: Wanted, symbol: Symbol<'_>, around: &Surroundings) -> Option<Function> {
    let symbol_offset = image.file_offset(symbol.address)?;
    let function = |arguments, enter, exit| {
        Some(Function { name: wanted.name.to_owned(), role: wanted.role, arguments, enter, exit, symbol_offset })
    };
    let Some(flow) = Flow::decode(image, symbol.address, image.end_of(&symbol)) else {
        return undecoded(image, wanted, symbol);
    };
    let (enter, arguments) = flow.enter(wanted.prototype);
    let enter = vec![flow.site(image, enter)?];
    if !wanted.needs_exit() {
        return function(arguments, enter, Exit::Unneeded);
    }
    if let Some(name) = covered_by(image, &flow, wanted, around) {
        return function(arguments, vec![], Exit::Through(name));
    }
    if let Some(sites) = flow.result_sites() {
        return function(arguments, enter, Exit::Result(sites_at(image, &flow, &sites)?));
    }
    if let Some((arguments, calls, results)) = around_inner_calls(&flow, wanted.prototype, around) {
        let enter = sites_at(image, &flow, &calls)?;
        return function(arguments, enter, Exit::Result(sites_at(image, &flow, &results)?));
    }
    if let Some((site, arguments)) = flow.enter_and_return(wanted.prototype) {
        let site = flow.site(image, site)?;
        return function(arguments, vec![site.clone()], Exit::Return(site));
    }
    function(arguments, enter, Exit::Return(flow.site(image, symbol.address)?))
}

/// The one function that both `calls` and all others of its role end up in.
pub(super) fn inner_call(image: &Image<'_>, wanted: Wanted, symbol: Symbol<'_>) -> Option<Call> {
    let flow = Flow::decode(image, symbol.address, image.end_of(&symbol))?;
    match flow.inner_calls(wanted.prototype).as_slice() {
        [call] => Some(*call),
        _ => None,
    }
}

fn sites_at(image: &Image<'_>, flow: &Flow, addresses: &[u64]) -> Option<Vec<Site>> {
    addresses.iter().map(|address| flow.site(image, *address)).collect()
}

/// The symbol for both: right whatever the code is.
fn undecoded(image: &Image<'_>, wanted: Wanted, symbol: Symbol<'_>) -> Option<Function> {
    let offset = image.file_offset(symbol.address)?;
    let unknown = || Site { offset, instruction: "(unknown)".to_owned(), class: Class::Other };
    let site = site(image, symbol.address).unwrap_or_else(unknown);
    let exit = if wanted.needs_exit() { Exit::Return(site.clone()) } else { Exit::Unneeded };
    let arguments = wanted.prototype.arguments_at_start();
    Some(Function {
        name: wanted.name.to_owned(),
        role: wanted.role,
        arguments,
        enter: vec![site],
        exit,
        symbol_offset: offset,
    })
}

/// The listed function that this one does nothing but go on to.
fn covered_by(image: &Image<'_>, flow: &Flow, wanted: Wanted, around: &Surroundings) -> Option<String> {
    let (target, name) = flow.goes_on_to(wanted.prototype)?;
    let direct = target.into_iter().flat_map(|target| image.names_at(target));
    let covers = |name: &&str| {
        let listed = around.listed.iter().any(|other| other.role == wanted.role && other.name == *name);
        listed && *name != wanted.name && image.function(name).is_some()
    };
    direct.chain(name).find(covers).map(str::to_owned)
}

type AroundCalls = (Arguments, Vec<u64>, Vec<u64>);

fn around_inner_calls(flow: &Flow, prototype: Prototype, around: &Surroundings) -> Option<AroundCalls> {
    let calls = flow.inner_calls(prototype);
    let length = calls.first()?.length;
    let alike = calls.iter().all(|call| call.length == length);
    let results = alike.then(|| flow.inner_result_sites(&calls, around.harmless))??;
    Some((Arguments::WithLength(length), calls.iter().map(|call| call.address).collect(), results))
}
