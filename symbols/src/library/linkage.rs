//! How TLS libraries and what they carry come together in a process.
//!
//! OpenSSL gives all that it makes for the wire to `BIO_write` (crypto/bio/bio_lib.c), whatever the BIO is: a socket, or
//! memory from which the application takes it. `SSL_accept` and `SSL_connect` both end up in `SSL_do_handshake`.

use memchr::memmem;

use super::{Function, Role, boringssl};
use crate::{
    FileOffset,
    arch::{Flow, Prototype, site},
    elf::{Image, Symbol},
    probe::{Arguments, Exit},
};

/// What a file has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linkage {
    /// Where OpenSSL hands out ciphertext, and where it makes handshakes.
    pub ciphertext: Vec<Function>,
    /// Whether it gives TLS sessions memory instead of sockets: it is an importer of what is needed for that, and not of
    /// what is needed for a BIO of its own, from which it may make socket calls as the library would.
    pub uses_memory: bool,
    /// Where the dynamic linker tells debuggers that libraries have been loaded.
    pub loader: Option<FileOffset>,
}

/// Functions that give a session its BIO.
const SET_BIO: &[&str] = &["SSL_set_bio", "SSL_set0_rbio", "SSL_set0_wbio"];

/// Functions that make a BIO of memory.
const MEMORY: &[&str] = &["BIO_s_mem", "BIO_new_bio_pair", "BIO_s_bio"];

const LOADED: &str = "_dl_debug_state";

/// Whether a file may have anything to do with it.
pub(crate) fn is_likely(elf: &[u8]) -> bool {
    ["BIO_write\0", "SSL_do_handshake\0", "SSL_set_bio\0", "SSL_set0_wbio\0", "_dl_debug_state\0", boringssl::BUFFER]
        .iter()
        .any(|name| memmem::find(elf, name.as_bytes()).is_some())
}

pub(crate) fn of(image: &Image<'_>) -> Linkage {
    let function = |name| image.function(name);
    let write = function("BIO_write").or_else(|| boringssl::bio_write(image));
    let written = write.and_then(|symbol| written(image, symbol));
    let handshake = function("SSL_do_handshake").and_then(|symbol| handshake(image, symbol));
    Linkage {
        ciphertext: written.into_iter().chain(handshake).collect(),
        uses_memory: image.imports(SET_BIO) && image.imports(MEMORY) && !image.imports(&["BIO_meth_new"]),
        loader: function(LOADED).and_then(|symbol| image.file_offset(symbol.address)),
    }
}

/// `BIO_write(bio, data, length)`: its result does not matter.
fn written(image: &Image<'_>, symbol: Symbol<'_>) -> Option<Function> {
    let prototype = Prototype { arguments: 3, length: None };
    let flow = Flow::decode(image, symbol.address, image.end_of(&symbol));
    let enter = flow.as_ref().and_then(|flow| flow.site(image, flow.enter(prototype).0));
    Some(Function {
        name: symbol.name.to_owned(),
        role: Role::Ciphertext,
        arguments: Arguments::Plain,
        enter: vec![enter.or_else(|| site(image, symbol.address))?],
        exit: Exit::Unneeded,
        symbol_offset: image.file_offset(symbol.address)?,
    })
}

/// `SSL_do_handshake(ssl)`: both probes at the symbol, so that no call is left unseen, whatever its result; it is
/// called a few times a connection.
fn handshake(image: &Image<'_>, symbol: Symbol<'_>) -> Option<Function> {
    let at_symbol = site(image, symbol.address)?;
    Some(Function {
        name: symbol.name.to_owned(),
        role: Role::Handshake,
        arguments: Arguments::Plain,
        enter: vec![at_symbol.clone()],
        exit: Exit::Return(at_symbol),
        symbol_offset: image.file_offset(symbol.address)?,
    })
}
