//! NSS, by the functions of NSPR through which applications use it.
//!
//! NSPR's files are stacks of layers, and `PR_Read` and its like serve them all: TLS, plain sockets, files. A call is
//! TLS when the methods of its file descriptor are those of NSS: see [`Session::FirstWordWithin`]. The functions are
//! two instructions each, an indirect jump among them, so no site is cheap.

use super::{
    Function, LibraryKind, Role, Session, TlsLibrary,
    pair::{Surroundings, Wanted, choose_all},
};
use crate::{
    arch::Prototype,
    elf::Image,
    probe::{Arguments, Exit},
};

const fn wanted(name: &'static str, role: Role, arguments: usize) -> Wanted {
    Wanted { name, role, prototype: Prototype { arguments, length: None } }
}

const FUNCTIONS: &[Wanted] = &[
    wanted("PR_Read", Role::Read, 3),
    wanted("PR_Recv", Role::Read, 3),
    wanted("PR_Write", Role::Write, 3),
    wanted("PR_Send", Role::Write, 3),
    wanted("PR_Writev", Role::Write, 3),
    wanted("PR_Close", Role::Free, 1),
];

/// What moves data too.
const BLIND: &[&str] = &["PR_TransmitFile and PR_SendFile write from a file"];

const AROUND: Surroundings = Surroundings { listed: FUNCTIONS, harmless: |_| false };

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    image.function("PR_Read").and(image.function("PR_Write")).and(image.function("PR_GetUniqueIdentity"))?;
    let mut library = TlsLibrary::new(LibraryKind::Nss, None);
    library.session = Session::FirstWordWithin("SSL_ImportFD");
    choose_all(image, FUNCTIONS, &AROUND, &mut library);
    library.functions.iter_mut().for_each(tell_arguments);
    library.functions.retain(|function| function.name != "PR_Writev" || function.arguments == Arguments::WithVector);
    library.blind.extend(BLIND.iter().map(|&reason| reason.to_owned()));
    Some(library)
}

/// `PR_Recv` has flags, and peeks by one of them; they are where the caller put them at its start only. `PR_Writev` has
/// pieces (prio.h, `PRIOVec`), and another end for that.
fn tell_arguments(function: &mut Function) {
    let at_start = function.enter.iter().all(|site| site.offset == function.symbol_offset);
    match (function.name.as_str(), &function.exit) {
        ("PR_Recv", _) if at_start => function.arguments = Arguments::WithFlags,
        ("PR_Writev", Exit::Return(_)) => function.arguments = Arguments::WithVector,
        _ => {}
    }
}
