//! From a file descriptor of the current process to its socket (include/linux/fdtable.h, net/socket.c).

use aya_ebpf::helpers::bpf_get_current_task;

use crate::config;
use crate::memory::{kernel, kernel_at};

/// Address of the `struct sock` behind a file descriptor; 0: it is none of a socket.
#[inline(always)]
pub fn socket(descriptor: u64) -> u64 {
    // SAFETY: takes nothing, always succeeds.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = kernel(task, &config::TASK_FILES);
    let table: u64 = kernel(files, &config::FILES_TABLE);
    let size: u32 = kernel(table, &config::TABLE_SIZE);
    if descriptor >= u64::from(size) {
        return 0;
    }
    let array: u64 = kernel(table, &config::TABLE_FILES);
    let file: u64 = kernel_at(array + descriptor * size_of::<u64>() as u64).unwrap_or(0);
    let socket: u64 = kernel(file, &config::FILE_PRIVATE);
    // Other files keep other things there; only a socket points back to its file.
    if file == 0 || kernel::<u64>(socket, &config::SOCKET_FILE) != file {
        return 0;
    }
    kernel(socket, &config::SOCKET_SK)
}
