//! Offsets of kernel struct fields, from the kernel's own type information (BTF).
//!
//! A reader of just what is needed here: one pass over the types remembers where each begins, and structs are then
//! looked up by name (Documentation/bpf/btf.rst). The readers that exist are under another licence than this
//! project's, or build the whole graph of types, which takes 20 times as long.

use std::path::Path;

/// Where the kernel shows its type information.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Why type information is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel shows none.
    #[error("the kernel has no BTF ({path}): {source}; needs Linux 5.10 or later with CONFIG_DEBUG_INFO_BTF")]
    Absent {
        /// Where it was looked for.
        path: String,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// It is not in the known format.
    #[error("the kernel's BTF is malformed at byte {offset}")]
    Malformed {
        /// Where.
        offset: usize,
    },
    /// A struct or one of its members does not exist in this kernel.
    #[error("the kernel's BTF has no `{path}` in `{container}`: this kernel is not supported yet, please report it")]
    Missing {
        /// The struct.
        container: String,
        /// The member, through anonymous and named structs.
        path: String,
    },
}

/// The kernel's types.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Where each type begins; the type of id 1 is the first.
    types: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    bitfields: bool,
    /// Size of a struct, or the type that a modifier, pointer or function refers to.
    target: u32,
}

impl Btf {
    /// Reads the running kernel's.
    pub fn running() -> Result<Self, BtfError> {
        Self::read(Path::new(PATH))
    }

    fn read(path: &Path) -> Result<Self, BtfError> {
        let data =
            std::fs::read(path).map_err(|source| BtfError::Absent { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let malformed = |offset| BtfError::Malformed { offset };
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(malformed(0));
        }
        let mut btf = Self { data, strings: 0, types: Vec::new() };
        let word = |btf: &Self, at| btf.word(at).ok_or(malformed(at));
        let header = word(&btf, 4)? as usize;
        let first = header + word(&btf, 8)? as usize;
        let end = first + word(&btf, 12)? as usize;
        btf.strings = header + word(&btf, 16)? as usize;
        let mut at = first;
        while at < end {
            btf.types.push(at as u32);
            let ty = btf.type_at(at).ok_or(malformed(at))?;
            at += 12 + btf.extra(&ty).ok_or(malformed(at))?;
        }
        Ok(btf)
    }

    /// Byte offset of a member of a struct, named through nested ones by dots; anonymous ones are looked through.
    pub fn offset(&self, container: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing { container: container.into(), path: path.into() };
        let mut current = self.find(container, kind::STRUCT).ok_or_else(missing)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, ty) = self.member(&current, name, 0).ok_or_else(missing)?;
            bits += offset;
            current = self.resolve(ty).ok_or_else(missing)?;
        }
        Ok(bits / 8)
    }

    /// The first of several members that exists: kernels rename them.
    pub fn offset_of_any(&self, container: &str, paths: &[&str]) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing { container: container.into(), path: paths.join("` or `") };
        paths.iter().find_map(|path| self.offset(container, path).ok()).ok_or_else(missing)
    }

    /// Size in bytes of a struct.
    pub fn size(&self, container: &str) -> Result<u32, BtfError> {
        let found = self.find(container, kind::STRUCT);
        found.map(|ty| ty.target).ok_or_else(|| BtfError::Missing { container: container.into(), path: String::new() })
    }

    /// Whether there is a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(name, kind::FUNC).is_some()
    }

    /// How many parameters a function takes.
    pub fn parameters(&self, function: &str) -> Option<usize> {
        let function = self.find(function, kind::FUNC)?;
        self.type_by_id(function.target).filter(|ty| ty.kind == kind::FUNC_PROTO).map(|prototype| prototype.members)
    }

    /// Value of an enumerator, wherever it is declared.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.all().filter(|ty| ty.kind == kind::ENUM).find_map(|ty| {
            (0..ty.members)
                .map(|index| ty.at + 12 + 8 * index)
                .find_map(|at| (self.name(self.word(at)?) == name.as_bytes()).then(|| self.word(at + 4)).flatten())
        })
    }

    /// Whether a tracepoint with BTF exists.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.find(&format!("btf_trace_{name}"), kind::TYPEDEF).is_some()
    }

    fn all(&self) -> impl Iterator<Item = Type> + '_ {
        self.types.iter().filter_map(|&at| self.type_at(at as usize))
    }

    fn find(&self, name: &str, kind: u32) -> Option<Type> {
        self.all().find(|ty| ty.kind == kind && self.name(ty.name) == name.as_bytes())
    }

    fn member(&self, container: &Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > 8 || !matches!(container.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..container.members).find_map(|index| {
            let at = container.at + 12 + 12 * index;
            let (member, ty, offset) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if container.bitfields { offset & 0x00ff_ffff } else { offset };
            let member = self.name(member);
            if member == name.as_bytes() {
                return Some((offset, ty));
            }
            let inner = member.is_empty().then(|| self.resolve(ty)).flatten()?;
            self.member(&inner, name, depth + 1).map(|(further, ty)| (offset + further, ty))
        })
    }

    /// Looks through typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut ty = self.type_by_id(id)?;
        for _ in 0..16 {
            match ty.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    ty = self.type_by_id(ty.target)?;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn type_by_id(&self, id: u32) -> Option<Type> {
        self.type_at(*self.types.get((id as usize).checked_sub(1)?)? as usize)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            at,
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            members: (info & 0xffff) as usize,
            bitfields: info >> 31 == 1,
            target: self.word(at + 8)?,
        })
    }

    /// Bytes behind a type's fixed part.
    fn extra(&self, ty: &Type) -> Option<usize> {
        Some(match ty.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * ty.members,
            kind::ENUM | kind::FUNC_PROTO => 8 * ty.members,
            kind::PTR..=kind::ENUM64 => 0,
            _ => return None,
        })
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_btf_is_refused() {
        assert!(matches!(Btf::parse(b"hello, world".to_vec()), Err(BtfError::Malformed { offset: 0 })));
        assert!(matches!(Btf::read(Path::new("/nonexistent/btf")), Err(BtfError::Absent { .. })));
        let mut cut = MAGIC.to_ne_bytes().to_vec();
        cut.extend([1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0]);
        assert!(Btf::parse(cut).is_err());
    }

    #[test]
    fn members_are_found_through_anonymous_and_named_structs() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "inner.second").unwrap(), 12);
        assert_eq!(btf.offset("outer", "hidden").unwrap(), 4);
        assert_eq!(btf.size("outer").unwrap(), 16);
        let error = btf.offset("outer", "nothing").unwrap_err().to_string();
        assert!(error.contains("`nothing` in `outer`"), "{error}");
    }

    /// struct inner { int first, second; }; typedef struct inner inner_t;
    /// struct outer { int a; union { int hidden; }; inner_t inner; };
    fn sample() -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([string("int"), kind::INT << 24, 4, 32]);
        types.extend([string("inner"), kind::STRUCT << 24 | 2, 8, string("first"), 1, 0, string("second"), 1, 32]);
        types.extend([string("inner_t"), kind::TYPEDEF << 24, 2]);
        types.extend([0, kind::UNION << 24 | 1, 4, string("hidden"), 1, 0]);
        types.extend([string("outer"), kind::STRUCT << 24 | 3, 16]);
        types.extend([string("a"), 1, 0, 0, 4, 32, string("inner"), 3, 64]);
        let length = (types.len() * 4) as u32;
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        for word in [24, 0, length, length, strings.len() as u32].into_iter().chain(types) {
            data.extend(word.to_ne_bytes());
        }
        data.extend(strings);
        data
    }
}
