//! NSS, by the functions of NSPR through which applications use it.
//!
//! NSPR's files are stacks of layers, and `PR_Read` and its like serve them all: TLS, plain sockets, files. A call is
//! TLS when the methods of its file descriptor are those of NSS: see [`Session::FirstWordWithin`]. The functions are
//! two instructions each, an indirect jump among them, so no site is cheap.

use super::{
    LibraryKind, Role, Session, TlsLibrary,
    pair::{Surroundings, Wanted, choose_all},
};
use crate::{arch::Prototype, elf::Image};

const fn wanted(name: &'static str, role: Role, arguments: usize) -> Wanted {
    Wanted { name, role, prototype: Prototype { arguments, length: None } }
}

const FUNCTIONS: &[Wanted] = &[
    wanted("PR_Read", Role::Read, 3),
    wanted("PR_Recv", Role::Read, 3),
    wanted("PR_Write", Role::Write, 3),
    wanted("PR_Send", Role::Write, 3),
    wanted("PR_Close", Role::Free, 1),
];

/// What moves data too.
const BLIND: &[&str] = &[
    "PR_Recv with PR_MSG_PEEK (2) in its fourth argument reads what is read again later",
    "PR_Writev, PR_TransmitFile and PR_SendFile write from more than one buffer",
];

const AROUND: Surroundings = Surroundings { listed: FUNCTIONS, harmless: |_| false };

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    image.function("PR_Read").and(image.function("PR_Write")).and(image.function("PR_GetUniqueIdentity"))?;
    let mut library = TlsLibrary::new(LibraryKind::Nss, None);
    library.session = Session::FirstWordWithin("SSL_ImportFD");
    choose_all(image, FUNCTIONS, &AROUND, &mut library);
    library.blind.extend(BLIND.iter().map(|&reason| reason.to_owned()));
    Some(library)
}
