//! Where a process has loaded a library: what tells TLS from other files where functions serve both.

use procfs::process::{MMapPath, Process};

use super::{MappedFile, mapped_files};
use crate::sys;

/// From where to where the process has the library that exports this function, what is not in its file included.
pub fn range(pid: u32, function: &str) -> Option<[u64; 2]> {
    let extent_of = |file: &MappedFile| {
        let bytes = sys::map(&file.open(pid).ok()?).ok()?;
        memchr::memmem::find(&bytes, function.as_bytes())?;
        symbols::extent_if_exporting(&bytes, function).ok()?
    };
    let (file, extent) =
        mapped_files(pid).ok()?.into_iter().find_map(|file| extent_of(&file).map(|extent| (file, extent)))?;
    let maps = Process::new(i32::try_from(pid).ok()?).ok()?.maps().ok()?;
    let own = maps.into_iter().filter(|map| map.inode == file.id.inode && matches!(map.pathname, MMapPath::Path(_)));
    let start = own.map(|map| map.address.0).min()?;
    // Mappings begin at whole pages.
    let size = extent.end.checked_sub(extent.start & !(PAGE - 1))?;
    Some([start, start.checked_add(size)?])
}

/// The smallest page, which is what libraries are linked for.
const PAGE: u64 = 4096;
