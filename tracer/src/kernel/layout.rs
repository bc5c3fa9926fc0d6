//! The kernel-side programs' read-only globals that say where kernel structs keep their fields.

use super::btf::{Btf, BtfError};

/// Globals of the kernel programs by name.
pub type Globals = Vec<(&'static str, u32)>;

/// ITER_IOVEC of kernels whose `iov_iter` keeps its kind in a word of flags (before Linux 5.14, include/linux/uio.h).
const ITER_IOVEC_FLAG: u32 = 4;

/// Works out the globals for a kernel.
pub fn globals(btf: &Btf) -> Result<Globals, BtfError> {
    let sock = |path| btf.offset("sock", path);
    let mut globals = vec![
        ("SOCK_FAMILY", sock("__sk_common.skc_family")?),
        ("SOCK_STATE", sock("__sk_common.skc_state")?),
        ("SOCK_REMOTE_PORT", sock("__sk_common.skc_dport")?),
        ("SOCK_LOCAL_PORT", sock("__sk_common.skc_num")?),
        ("SOCK_REMOTE_V4", sock("__sk_common.skc_daddr")?),
        ("SOCK_LOCAL_V4", sock("__sk_common.skc_rcv_saddr")?),
        ("SOCK_REMOTE_V6", sock("__sk_common.skc_v6_daddr")?),
        ("SOCK_LOCAL_V6", sock("__sk_common.skc_v6_rcv_saddr")?),
        ("SOCK_PROTOCOL", sock("sk_protocol")?),
        ("SOCK_TYPE", sock("sk_type")?),
        ("SOCK_SOCKET", sock("sk_socket")?),
        ("TCP_COPIED_SEQ", btf.offset("tcp_sock", "copied_seq")?),
        ("TCP_WRITE_SEQ", btf.offset("tcp_sock", "write_seq")?),
        ("UNIX_ADDR", btf.offset("unix_sock", "addr")?),
        ("UNIX_PEER", btf.offset("unix_sock", "peer")?),
        ("UNIX_ADDRESS_LEN", btf.offset("unix_address", "len")?),
        ("UNIX_ADDRESS_NAME", btf.offset("unix_address", "name")?),
        ("SOCKET_INODE", btf.offset("socket_alloc", "vfs_inode")?),
        ("INODE_NUMBER", btf.offset("inode", "i_ino")?),
        ("SOCKET_SK", btf.offset("socket", "sk")?),
        ("TASK_TGID", btf.offset("task_struct", "tgid")?),
        ("TASK_STACK", btf.offset("task_struct", "stack")?),
        ("TASK_FILES", btf.offset("task_struct", "files")?),
        ("FILES_TABLE", btf.offset("files_struct", "fdt")?),
        ("TABLE_FILES", btf.offset("fdtable", "fd")?),
        ("TABLE_SIZE", btf.offset("fdtable", "max_fds")?),
        ("FILE_PRIVATE", btf.offset("file", "private_data")?),
        ("SOCKET_FILE", btf.offset("socket", "file")?),
        ("MSG_NAME", btf.offset("msghdr", "msg_name")?),
        ("MSG_ITER", btf.offset("msghdr", "msg_iter")?),
        ("ITER_OFFSET", btf.offset("iov_iter", "iov_offset")?),
        ("ITER_SEGMENTS", btf.offset_of_any("iov_iter", &["__iov", "iov"])?),
        ("ITER_COUNT", btf.offset("iov_iter", "count")?),
        ("ITER_SEGMENT_COUNT", btf.offset("iov_iter", "nr_segs")?),
    ];
    globals.extend(iterator(btf)?);
    Ok(globals)
}

/// How an `iov_iter` tells its kind.
fn iterator(btf: &Btf) -> Result<Globals, BtfError> {
    if let Ok(offset) = btf.offset("iov_iter", "iter_type") {
        return Ok(vec![
            ("ITER_TYPE", offset),
            ("ITER_TYPE_IS_WORD", 0),
            ("ITER_IOVEC", btf.enumerator("ITER_IOVEC").unwrap_or(0)),
            ("ITER_UBUF", btf.enumerator("ITER_UBUF").unwrap_or(u32::MAX)),
        ]);
    }
    Ok(vec![
        ("ITER_TYPE", btf.offset("iov_iter", "type")?),
        ("ITER_TYPE_IS_WORD", 1),
        ("ITER_IOVEC", btf.enumerator("ITER_IOVEC").unwrap_or(ITER_IOVEC_FLAG)),
        ("ITER_UBUF", u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_structs_have_every_field() {
        let globals = globals(&Btf::running().unwrap()).unwrap();
        let of = |name| globals.iter().find(|(global, _)| *global == name).unwrap().1;
        assert_eq!(of("SOCK_LOCAL_PORT"), of("SOCK_REMOTE_PORT") + 2, "include/net/sock.h keeps them side by side");
        assert!(of("TCP_WRITE_SEQ") > of("SOCK_SOCKET"), "struct tcp_sock begins with struct sock");
    }
}
