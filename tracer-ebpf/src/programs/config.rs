//! What user space knows when it loads the programs.

use aya_ebpf::Global;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: Global<u32> = Global::new(0);)*
    };
}

globals! {
    /// Payload bytes taken of one transfer.
    MAX_CAPTURE;
    /// Events that one transfer makes at most, 12 or fewer: older verifiers take too long over more.
    PIECES;
    /// Fill of the ring, in bytes, at which the reader is woken; below it, it comes by itself.
    WAKE_AT;
    /// Whether `bpf_get_attach_cookie` exists (Linux 5.15).
    HAS_COOKIE;
    /// Whether `bpf_task_pt_regs` exists (Linux 5.15).
    HAS_TASK_REGISTERS;
    /// Whether an `iov_iter` keeps its kind in a word with a direction bit (before Linux 5.14).
    ITER_TYPE_IS_WORD;
    /// Value of ITER_IOVEC in an `iov_iter`.
    ITER_IOVEC;
    /// Value of ITER_UBUF in an `iov_iter`; u32::MAX where there is none (before Linux 6.0).
    ITER_UBUF;

    SOCK_FAMILY;
    SOCK_STATE;
    SOCK_REMOTE_PORT;
    SOCK_LOCAL_PORT;
    SOCK_REMOTE_V4;
    SOCK_LOCAL_V4;
    SOCK_REMOTE_V6;
    SOCK_LOCAL_V6;
    SOCK_PROTOCOL;
    SOCK_TYPE;
    SOCK_SOCKET;
    TCP_COPIED_SEQ;
    TCP_WRITE_SEQ;
    UNIX_ADDR;
    UNIX_PEER;
    UNIX_ADDRESS_LEN;
    UNIX_ADDRESS_NAME;
    /// `struct socket` to the inode that is allocated with it.
    SOCKET_INODE;
    INODE_NUMBER;
    SOCKET_SK;
    TASK_TGID;
    TASK_STACK;
    TASK_FILES;
    FILES_TABLE;
    TABLE_FILES;
    TABLE_SIZE;
    FILE_PRIVATE;
    SOCKET_FILE;
    MSG_NAME;
    MSG_ITER;
    ITER_TYPE;
    ITER_OFFSET;
    ITER_SEGMENTS;
    ITER_COUNT;
    ITER_SEGMENT_COUNT;
}
