//! Uprobes of the "multi" kind (Linux 6.6, corrected in 6.10): many probes of one process are one link.
//!
//! Taking a uprobe away waits until nobody can be running it any more, some 100 ms in Linux 6.18, and for probes that
//! are perf events one after the other. A multi link waits once for all its probes, and links wait side by side. Its
//! probes also cost the traced process less. aya 0.14 cannot load programs for it, so the object is linked a second
//! time here, with aya's own linker, against the maps that aya has made.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};

use super::probes::Point;
use crate::sys;

/// The programs of uprobes, linked and ready to be loaded.
pub struct Multi {
    programs: HashMap<String, Program>,
}

struct Program {
    instructions: Vec<bpf_insn>,
    license: CString,
    on_return: bool,
    loaded: Option<OwnedFd>,
}

/// Why programs cannot be linked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The object is broken.
    #[error(transparent)]
    Parse(#[from] aya_obj::ParseError),
    /// A map or a function is missing.
    #[error(transparent)]
    Relocation(#[from] aya_obj::relocation::EbpfRelocationError),
}

impl Multi {
    /// Links the uprobe programs of the object against the maps of `ebpf`.
    pub fn link(object: &[u8], ebpf: &Ebpf) -> Result<Self, LinkError> {
        let mut object = Object::parse(object)?;
        let maps: Vec<_> = object.maps.drain().collect();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let fds = maps.iter().filter_map(|(name, map)| Some((name.as_str(), fd(ebpf.map(name)?)?, map)));
        object.relocate_maps(fds, &text)?;
        object.relocate_calls(&text)?;
        let programs = object.programs.iter().filter_map(|(name, program)| {
            let on_return = match program.section {
                ProgramSection::UProbe { .. } => false,
                ProgramSection::URetProbe { .. } => true,
                _ => return None,
            };
            let instructions = object.functions.get(&program.function_key())?.instructions.clone();
            Some((name.clone(), Program { instructions, license: program.license.clone(), on_return, loaded: None }))
        });
        Ok(Self { programs: programs.collect() })
    }

    /// Whether this kernel has links of this kind that take the process, and not only one thread of it, for its word.
    ///
    /// Shows by what it refuses first, without placing anything: such a kernel refuses -1 as no process (EINVAL) before
    /// it looks at the path, and with 0 (any process) it comes to the path, where the root folder is no file to probe
    /// (EBADF).
    pub fn is_supported(&mut self, program: &str) -> bool {
        let Ok(fd) = self.load(program) else { return false };
        let errno = |pid| sys::link_uprobes(fd.as_fd(), c"/", &[0], &[0], pid, false).err()?.raw_os_error();
        errno(0) == Some(libc::EBADF) && errno(-1) == Some(libc::EINVAL)
    }

    /// Puts one program on several places of a file, for one process only.
    pub fn attach(&mut self, program: &str, file: &Path, points: &[&Point], pid: NonZeroU32) -> io::Result<OwnedFd> {
        let on_return = self.programs.get(program).is_some_and(|program| program.on_return);
        let path = CString::new(file.as_os_str().as_bytes())?;
        let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
        let cookies: Vec<u64> = points.iter().map(|point| point.cookie).collect();
        let fd = self.load(program)?;
        sys::link_uprobes(fd.as_fd(), &path, &offsets, &cookies, pid.get() as i32, on_return)
    }

    fn load(&mut self, name: &str) -> io::Result<&OwnedFd> {
        let program = self.programs.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        if program.loaded.is_none() {
            program.loaded = Some(sys::load_uprobe_multi(&program.instructions, &program.license)?);
        }
        program.loaded.as_ref().ok_or(io::ErrorKind::NotFound.into())
    }
}

/// The descriptor of a map of one of the types that the programs use.
fn fd(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(map) | Map::HashMap(map) | Map::LruHashMap(map) | Map::PerCpuArray(map) | Map::RingBuf(map) => {
            Some(map.fd().as_fd().as_raw_fd())
        }
        _ => None,
    }
}
