//! Go's crypto/tls, which every Go program that speaks TLS links in.
//!
//! Functions are found by the table that Go's runtime needs itself, so stripped programs do as well. Since Go 1.17
//! arguments are in registers; before, on the stack, which is not supported. A goroutine moves between threads, so the
//! goroutine is the key that joins an exit to its enter. Return probes are never used: Go moves and inspects its
//! stacks, and a changed return address ends the program. Each return instruction is probed instead.

mod pclntab;

use self::pclntab::Table;
use super::{Function, LibraryKind, Role, TlsLibrary};
use crate::{
    arch::go_sites,
    elf::Image,
    probe::{Arguments, Exit},
};

const FUNCTIONS: &[(&str, Role)] = &[
    ("crypto/tls.(*Conn).Read", Role::Read),
    ("crypto/tls.(*Conn).Write", Role::Write),
    ("crypto/tls.(*Conn).Close", Role::Free),
    ("crypto/tls.(*Conn).clientHandshake", Role::Handshake),
    ("crypto/tls.(*Conn).serverHandshake", Role::Handshake),
    ("net.(*TCPConn).Read", Role::Transport),
];

/// What makes a program one that speaks TLS.
const PREFIX: &str = "crypto/tls.";

pub(super) fn find(image: &Image<'_>) -> Option<TlsLibrary> {
    let build = image.section(".go.buildinfo")?;
    let version = version(image, build);
    let Some(table) = Table::find(image) else {
        let mut library = TlsLibrary::new(LibraryKind::Go, version);
        library.blind.push("the table of its functions has a layout that is not known".to_owned());
        return pclntab::mentions(image, "crypto/tls.(*Conn).Read\0").then_some(library);
    };
    let names: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    let found = table.functions(&names);
    if !found.keys().any(|name| name.starts_with(PREFIX)) {
        return None;
    }
    let mut library = TlsLibrary::new(LibraryKind::Go, version.clone());
    if table.may_precede_register_arguments() && !version.is_some_and(|version| has_register_arguments(&version)) {
        library.blind.push("Go before 1.17 passes arguments on the stack".to_owned());
        return Some(library);
    }
    for (name, role) in FUNCTIONS {
        let Some(extent) = found.get(name) else { continue };
        match function(image, name, *role, extent.clone()) {
            Some(function) => library.functions.push(function),
            None => library.blind.push(format!("{name}: its code is not what Go's compiler makes")),
        }
    }
    Some(library)
}

fn function(image: &Image<'_>, name: &str, role: Role, extent: std::ops::Range<u64>) -> Option<Function> {
    let (arguments, enter, exit) = match role {
        Role::Transport => (Arguments::Go, vec![], Exit::Unneeded),
        _ => {
            let sites = go_sites(image, extent.start, extent.end)?;
            let waits = matches!(role, Role::Read | Role::Write | Role::Handshake);
            let arguments = if sites.spills { Arguments::GoSpilled } else { Arguments::Go };
            (arguments, vec![sites.enter], if waits { Exit::Result(sites.returns) } else { Exit::Unneeded })
        }
    };
    let symbol_offset = image.file_offset(extent.start)?;
    Some(Function { name: name.to_owned(), role, arguments, enter, exit, symbol_offset })
}

/// The version of Go, as src/debug/buildinfo/buildinfo.go reads it.
fn version(image: &Image<'_>, build: &[u8]) -> Option<String> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    const POINTER_SIZE: u8 = 8;
    const INLINE: u8 = 2;
    let (&[size, flags], rest) = build.strip_prefix(MAGIC)?.split_first_chunk()?;
    let text = if flags & INLINE != 0 {
        // Since Go 1.18: the string itself at offset 32, after its length as a varint.
        let (length, text) = varint(rest.get(16..)?)?;
        text.get(..length)?
    } else {
        // Before: the address of a string, which is an address and a length.
        (size == POINTER_SIZE).then_some(())?;
        let header = image.bytes_at(word(rest, 0)?)?;
        image.bytes_at(word(header, 0)?)?.get(..usize::try_from(word(header, 8)?).ok()?)?
    };
    let text = std::str::from_utf8(text).ok()?;
    text.starts_with("go").then(|| text.to_owned())
}

/// A length of at most two bytes of seven bits each: versions are short.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low @ 0..=0x7f, rest @ ..] => Some((usize::from(*low), rest)),
        [low, high @ 0..=0x7f, rest @ ..] => Some((usize::from(low & 0x7f) | usize::from(*high) << 7, rest)),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn has_register_arguments(version: &str) -> bool {
    let minor = version.strip_prefix("go1.").map(|rest| rest.split(|other: char| !other.is_ascii_digit()));
    minor.and_then(|mut parts| parts.next()?.parse::<u32>().ok()).is_some_and(|minor| minor >= 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_arguments_since_1_17() {
        for version in ["go1.17", "go1.17.13", "go1.18beta1", "go1.100"] {
            assert!(has_register_arguments(version), "{version}");
        }
        for version in ["go1.16.15", "go1.9", "go1", "devel +abc", ""] {
            assert!(!has_register_arguments(version), "{version}");
        }
    }
}
