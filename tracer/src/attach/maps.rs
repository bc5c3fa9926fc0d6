//! The files whose code a process has mapped.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use procfs::process::{MMPermissions, MMapPath, Process};

/// A file, whatever its name: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Major and minor number of the device.
    pub device: (i32, i32),
    /// Inode number.
    pub inode: u64,
}

/// A file that a process executes code of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// Which file.
    pub id: FileId,
    /// Its path as the process sees it, for people; it may have been replaced or deleted since.
    pub path: PathBuf,
    /// Where it is mapped, as /proc/PID/map_files names it.
    pub address: (u64, u64),
    /// Which byte of the file is the first of the mapping.
    pub offset: u64,
}

impl MappedFile {
    /// Where a byte of the file is in the process's memory, if this mapping has it.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let (start, end) = self.address;
        let address = start.checked_add(offset.checked_sub(self.offset)?)?;
        (address < end).then_some(address)
    }

    /// Opens it, through the process that has it mapped.
    pub fn open(&self, pid: u32) -> std::io::Result<File> {
        // The mapping itself leads to the file, also when its name now means another one or nothing.
        let (start, end) = self.address;
        let by_mapping = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}"));
        by_mapping.or_else(|_| {
            let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
            File::open(PathBuf::from(format!("/proc/{pid}/root")).join(inside))
        })
    }
}

/// The files whose code a process has mapped, each once.
pub fn mapped_files(pid: u32) -> procfs::ProcResult<Vec<MappedFile>> {
    let maps = Process::new(pid as i32)?.maps()?;
    let mut seen = HashSet::new();
    let files = maps.into_iter().filter(|map| map.perms.contains(MMPermissions::EXECUTE)).filter_map(|map| {
        let MMapPath::Path(path) = map.pathname else { return None };
        let id = FileId { device: map.dev, inode: map.inode };
        (map.inode != 0 && seen.insert(id)).then_some(MappedFile { id, path, address: map.address, offset: map.offset })
    });
    Ok(files.collect())
}
