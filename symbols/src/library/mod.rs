//! The TLS libraries that are known: one file each, and one line in [`ALL`].

mod boringssl;
mod gnutls;
mod go;
pub(crate) mod linkage;
mod nss;
mod openssl;
mod pair;
mod rustls;
mod stripped;

use crate::{
    FileOffset,
    elf::Image,
    probe::{Arguments, Exit, Site},
};

/// Looks for one library in a file.
type Find = fn(&Image<'_>) -> Option<TlsLibrary>;

/// Every library that is looked for.
pub(crate) const ALL: &[Find] = &[openssl::find, gnutls::find, nss::find, go::find, rustls::find];

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LibraryKind {
    /// OpenSSL 1.1.0 and later.
    OpenSsl,
    /// BoringSSL, and AWS-LC, which came of it.
    BoringSsl,
    /// OpenBSD's LibreSSL.
    LibreSsl,
    /// GnuTLS 3.
    GnuTls,
    /// Mozilla's NSS, by way of NSPR.
    Nss,
    /// Go's crypto/tls, since Go 1.17.
    Go,
    /// rustls 0.23, with ring or aws-lc-rs.
    Rustls,
}

impl LibraryKind {
    /// The name that records carry as `tls.library`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::LibreSsl => "libressl",
            Self::GnuTls => "gnutls",
            Self::Nss => "nss",
            Self::Go => "go",
            Self::Rustls => "rustls",
        }
    }
}

/// A TLS library and its functions of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsLibrary {
    /// Which it is.
    pub kind: LibraryKind,
    /// Its version, where the file states it.
    pub version: Option<String>,
    /// How a call on a TLS session is told from one on something else.
    pub session: Session,
    /// The functions that applications call, each with its own sites.
    pub functions: Vec<Function>,
    /// Functions that all those of a role end up in, where there is one: attached *instead of* the functions of that
    /// role, it costs less and also sees what reaches it by another way than an exported function.
    pub inner: Vec<Inner>,
    /// What moves data and is not seen by probes on `functions`, for people to read.
    pub blind: Vec<String>,
}

impl TlsLibrary {
    /// What to attach: each inner function in place of those that it covers, and all others.
    ///
    /// The inner functions are probed by return probes. Where those are not safe, attach `functions` instead, and refuse
    /// those of them whose exit is [`Exit::Return`].
    pub fn cheapest(&self) -> impl Iterator<Item = &Function> + Clone {
        let covered = |function: &&Function| self.inner.iter().any(|inner| inner.covers.contains(&function.name));
        let inner = self.inner.iter().map(|inner| &inner.function);
        inner.chain(self.functions.iter().filter(move |function| !covered(function)))
    }

    fn new(kind: LibraryKind, version: Option<String>) -> Self {
        Self { kind, version, session: Session::Every, functions: vec![], inner: vec![], blind: vec![] }
    }
}

/// Which calls of a library's functions are on a TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Session {
    /// Every one.
    Every,
    /// Those whose first argument points to an address within the library that exports this function, as it is loaded
    /// in the process (from its first segment to the end of its last, what is not in the file included).
    FirstWordWithin(&'static str),
}

/// What a function does to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Moves plaintext from the session to the application.
    Read,
    /// Moves plaintext from the application to the session.
    Write,
    /// Sends what an earlier write put aside: writes inside this one, on its thread, have been seen before.
    Flush,
    /// Ends the session: its address may be that of another one later.
    Free,
    /// Resets the session for another connection.
    Clear,
    /// Gives the session its file descriptor, the second argument.
    SetFd,
    /// Gives the session a file descriptor for one direction only, the second argument.
    SetOneFd,
    /// Makes the session, before it moves data; what its socket calls do, they do for it.
    Handshake,
    /// Takes what the library has made for the wire: the second argument, of the size that the third says.
    Ciphertext,
    /// Reads from what carries the session. It gets no probe: where it starts tells of which type the carrier is.
    Transport,
}

/// A function and where to probe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Where its arguments are at the enter sites.
    pub arguments: Arguments,
    /// Each gets a plain probe. Every call that moves data passes one of them.
    pub enter: Vec<Site>,
    /// Where its result is seen.
    pub exit: Exit,
    /// Where the function starts.
    pub symbol_offset: FileOffset,
}

/// One function under several exported ones of the same role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// The probes; `name` says after which exported function it is named.
    pub function: Function,
    /// The exported functions that it stands for.
    pub covers: Vec<String>,
}
