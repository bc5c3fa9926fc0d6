//! GnuTLS as a shared library.
//!
//! Two habits of it that a tracer must know (lib/record.c):
//! - A send that fails with `GNUTLS_E_AGAIN` (-28) or `GNUTLS_E_INTERRUPTED` (-52) has taken its data. It is completed by
//!   a send of a null buffer of size zero, whose result counts the bytes of the first.
//! - While a session is corked, sends only put data aside; `gnutls_record_uncork` then sends it by `gnutls_record_send`.
//!   It has [`Role::Flush`], as what is written inside it has been seen before.

use super::{
    LibraryKind, Role, TlsLibrary,
    pair::{Surroundings, Wanted, choose_all},
};
use crate::{arch::Prototype, elf::Image};

const fn wanted(name: &'static str, role: Role, arguments: usize) -> Wanted {
    Wanted { name, role, prototype: Prototype { arguments, length: None } }
}

const FUNCTIONS: &[Wanted] = &[
    wanted("gnutls_record_recv", Role::Read, 3),
    wanted("gnutls_record_recv_seq", Role::Read, 3),
    wanted("gnutls_record_recv_early_data", Role::Read, 3),
    wanted("gnutls_record_send", Role::Write, 3),
    wanted("gnutls_record_send2", Role::Write, 3),
    wanted("gnutls_record_send_range", Role::Write, 3),
    wanted("gnutls_record_uncork", Role::Flush, 1),
    wanted("gnutls_deinit", Role::Free, 1),
    wanted("gnutls_transport_set_int2", Role::SetFd, 2),
];

/// An exported function that moves data in a way of its own. What `gnutls_record_send_early_data` is given the library
/// sends by `gnutls_record_send`, once the handshake is so far (lib/tls13/early_data.c).
const BLIND: &[(&str, &str)] = &[("gnutls_record_recv_packet", "hands out the library's own buffer")];

const AROUND: Surroundings = Surroundings { listed: FUNCTIONS, harmless: |name| name == "_gnutls_log" };

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    image.function("gnutls_record_recv").and(image.function("gnutls_record_send"))?;
    let mut library = TlsLibrary::new(LibraryKind::GnuTls, None);
    choose_all(image, FUNCTIONS, &AROUND, &mut library);
    let blind = BLIND.iter().filter(|(name, _)| image.function(name).is_some());
    library.blind.extend(blind.map(|(name, reason)| format!("{name}: {reason}")));
    Some(library)
}
