//! The event ABI: what the kernel programs write and user space reads.
//!
//! One definition for both sides. Only `repr(C)` structs of fixed-width integers with explicit padding; sizes and
//! offsets are asserted here. User space copies them out of the ring (a record may be unaligned) and checks every
//! discriminant and length.
//!
//! Byte order is the machine's, except addresses and ports inside [`Tuple`], which say so.
#![no_std]

pub mod sample;
pub mod tls;

/// Bytes that one data event carries at most: the largest size class. A longer transfer is several events.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// Payload bytes of each size class. A record is reserved with a constant size, so that the payload is copied once,
/// from the process straight into the ring.
pub const PAYLOAD_CLASSES: [usize; 6] = [208, 464, 976, 2000, 4048, MAX_PAYLOAD];

/// Kinds of events ([`Header::kind`]).
pub mod kind {
    /// [`crate::Data`]: bytes of a stream.
    pub const DATA: u8 = 1;
    /// [`crate::Datagram`]: one datagram with its addresses.
    pub const DATAGRAM: u8 = 2;
    /// [`crate::Open`]: a connection that is seen for the first time.
    pub const OPEN: u8 = 3;
    /// [`crate::Close`]: a connection that is over.
    pub const CLOSE: u8 = 4;
    /// [`crate::Process`]: a traced process forked: `subject` is the child.
    pub const FORK: u8 = 5;
    /// [`crate::Process`]: a traced process executed another program.
    pub const EXEC: u8 = 6;
    /// [`crate::Process`]: a traced process ended.
    pub const EXIT: u8 = 7;
    /// [`crate::Data`]: bytes that a call is about to write. `connection` is the call's number, `position` is counted
    /// from the call's first byte.
    pub const HELD: u8 = 8;
    /// [`crate::Released`]: what became of them.
    pub const RELEASED: u8 = 9;
    /// [`crate::Bind`]: a TLS session has turned out to be on a connection.
    pub const BIND: u8 = 10;
    /// [`crate::Process`]: a traced process has loaded a library, or is about to.
    pub const LOADED: u8 = 11;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The process sent the bytes; otherwise it received them.
    pub const WRITE: u16 = 1;
    /// Plaintext of a TLS library; otherwise what the socket carried.
    pub const TLS: u16 = 2;
    /// No byte, but the end of the stream in this direction.
    pub const END: u16 = 4;
    /// The bytes cannot be seen (sendfile, splice, io_uring): only the length is known.
    pub const UNSEEN: u16 = 8;
    /// The process's memory could not be read.
    pub const FAULT: u16 = 16;
    /// Not the first event of its transfer.
    pub const CONTINUED: u16 = 32;
    /// The peer's address of this datagram is not known.
    pub const NO_PEER: u16 = 64;
    /// Bytes of this connection were left out ([`socket_flag::SHED`]): said at its end, or when a TLS session is bound to
    /// one that is left out.
    pub const SHED: u16 = 128;
    /// The socket of this TLS session was found by its file descriptor; no socket call has confirmed it yet.
    pub const BY_FD: u16 = 256;
    /// The socket of this TLS session was found by ciphertext of the session that it carried.
    pub const BY_CIPHERTEXT: u16 = 512;
}

/// How a TLS session's socket was found ([`Session::source`]): the greater, the stronger.
pub mod source {
    /// It was not: the session's id is made up.
    pub const NONE: u64 = 0;
    /// The file descriptor that the library was told, or that its structures hold.
    pub const FD: u64 = 1;
    /// Ciphertext that the library made was sent on it.
    pub const CIPHERTEXT: u64 = 2;
    /// A socket call inside the TLS call.
    pub const NESTED: u64 = 3;
}

/// Bits of the values of the process map.
pub mod process_flag {
    /// What the process sends is compared with what its TLS libraries make.
    pub const CIPHERTEXT: u32 = 1;
}

/// How a socket came to be ([`Open::origin`]).
pub mod origin {
    /// Made before it could be seen.
    pub const UNKNOWN: u8 = 0;
    /// By connect: this process is the client.
    pub const CONNECT: u8 = 1;
    /// By accept: this process is the server.
    pub const ACCEPT: u8 = 2;
}

/// Places in the map of switches, which user space sets.
pub mod switch {
    /// Whether the program at the end of system calls is attached.
    pub const SYS_EXIT: u32 = 0;
    /// Connections whose mark ([`crate::sample::mark`]) is below this are shed.
    pub const SHED_LEVEL: u32 = 1;
    /// How many processes have [`crate::process_flag::CIPHERTEXT`].
    pub const COMPARED: u32 = 2;
    /// Whether a process has probes in Go's crypto/tls, or has had.
    pub const GO: u32 = 3;
    /// How many times a process has ceased to be traced.
    pub const REMOVALS: u32 = 4;
    /// Whether a process has probes in rustls, or has had.
    pub const RUSTLS: u32 = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
}

/// Elements of the map that tells which processes may be traced.
pub const MAY_BE_TRACED: u32 = 65536;

/// Where a process stands in that map. Several may stand in one place: then those that are not traced pay a little more.
#[inline(always)]
pub const fn may_be_traced(tgid: u32) -> u32 {
    tgid % MAY_BE_TRACED
}

/// Bits of [`Socket::flags`].
pub mod socket_flag {
    /// The [`Open`] event has been sent.
    pub const ANNOUNCED: u32 = 1;
    /// Carries TLS: its bytes are ciphertext and are only counted.
    pub const TLS: u32 = 2;
    /// Of no interest (set by user space): its bytes are only counted.
    pub const SKIP: u32 = 4;
    /// Something has been read from it.
    pub const READ_SEEN: u32 = 8;
    /// Something has been written to it.
    pub const WRITE_SEEN: u32 = 16;
    /// It is [`TLS`] for no other reason than that one side has sent a hello message.
    pub const HELLO: u32 = 32;
    /// Left out, for a time at least: it has been counted as shed.
    pub const SHED: u32 = 64;
}

/// What begins every event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u8,
    /// Who saw it: an index into [`Counters::hits`].
    pub program: u8,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Payload bytes behind the fixed part.
    pub captured: u32,
    /// When the transfer ended, in nanoseconds of the kernel's monotonic clock.
    pub time: u64,
    /// Thread group id (process) in the upper half, thread id in the lower, as the host sees them.
    pub pid_tgid: u64,
    /// The connection's [`Socket::id`], or a TLS session's [`Session::id`] that no socket is known for. 0: none.
    pub connection: u64,
}

/// Bytes of a stream; `captured` payload bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// What begins every event.
    pub header: Header,
    /// Place of the first byte in its direction's stream, since the socket (or TLS session) was first seen.
    /// Of a TCP socket modulo 2^32.
    pub position: u64,
    /// Bytes of this part, captured or not.
    pub length: u32,
    /// Nanoseconds that the transfer took; 0 where its beginning is not seen.
    pub elapsed: u32,
}

/// The end of a call whose bytes [`kind::HELD`] events carry: so many of them as `data.length` says have been written.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// As of bytes that were written now.
    pub data: Data,
    /// The call's number.
    pub call: u64,
}

/// Addresses and ports of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Local address in network order; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Remote address in network order; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Local port in host order.
    pub local_port: u16,
    /// Remote port in host order.
    pub remote_port: u16,
    /// AF_INET (2), AF_INET6 (10) or AF_UNIX (1).
    pub family: u16,
    /// IPPROTO_TCP (6), IPPROTO_UDP (17), or 0 for unix.
    pub protocol: u16,
}

/// One datagram; `captured` payload bytes follow. `header.connection` is 0: the addresses are its identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    /// What begins every event.
    pub header: Header,
    /// Its addresses.
    pub tuple: Tuple,
    /// Its full length.
    pub length: u32,
    /// Zero.
    pub padding: u32,
}

/// Room for a unix socket's path (`sun_path`).
pub const PATH: usize = 108;

/// A connection that is seen for the first time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// What begins every event.
    pub header: Header,
    /// Address of the kernel's `struct sock`: the key of the socket map.
    pub socket: u64,
    /// Its addresses.
    pub tuple: Tuple,
    /// One of [`origin`].
    pub origin: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// Length of a unix socket's own path; an abstract one begins with a zero byte.
    pub local_path_length: u16,
    /// Length of a unix socket's peer's path.
    pub remote_path_length: u16,
    /// A unix socket's own path.
    pub local_path: [u8; PATH],
    /// A unix socket's peer's path.
    pub remote_path: [u8; PATH],
}

/// A connection that is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Close {
    /// What begins every event.
    pub header: Header,
    /// Bytes read from it in all since it was first seen, modulo 2^32.
    pub read: u32,
    /// Bytes written to it in all since it was first seen, modulo 2^32.
    pub written: u32,
}

/// A TLS session has turned out to be on a connection: `header.connection`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// What begins every event.
    pub header: Header,
    /// The made-up id that the session's events have carried before.
    pub session: u64,
}

/// Room for a process's name (TASK_COMM_LEN).
pub const COMM: usize = 16;

/// A change of a traced process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// What begins every event.
    pub header: Header,
    /// The process that it is about.
    pub subject: u32,
    /// Zero.
    pub padding: u32,
    /// Its name: of a child, its parent's.
    pub comm: [u8; COMM],
}

/// Value of the socket map: what the kernel side remembers of a socket of a traced process. Key: its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Unique while the tracer runs.
    pub id: u64,
    /// The process that used it first.
    pub tgid: u32,
    /// Bits of [`socket_flag`].
    pub flags: u32,
    /// TCP: `copied_seq` where the first byte seen in this direction began.
    pub read_base: u32,
    /// TCP: `write_seq`, likewise.
    pub write_base: u32,
    /// Bytes read so far; of TCP modulo 2^32.
    pub read_count: u64,
    /// Unix: bytes written so far.
    pub write_count: u64,
    /// Unix: inode number, which tells a reused address.
    pub inode: u64,
    /// One of [`origin`].
    pub origin: u8,
    /// AF_INET, AF_INET6 or AF_UNIX.
    pub family: u8,
    /// Zero.
    pub padding: [u8; 6],
}

/// Key of the TLS session map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionKey {
    /// The process.
    pub tgid: u64,
    /// Address of the library's session object in it.
    pub session: u64,
}

/// Value of the TLS session map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Id of the connection, or a made-up one as long as no socket is known.
    pub id: u64,
    /// One of [`source`].
    pub source: u64,
    /// Plaintext bytes read so far.
    pub read: u64,
    /// Plaintext bytes written so far.
    pub written: u64,
}

/// Key of the map of goroutines that are in a TLS call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineKey {
    /// The process.
    pub tgid: u64,
    /// Address of the runtime's `g` in it.
    pub goroutine: u64,
}

/// Size of that map's value, which only the kernel side reads.
pub const GOROUTINE_CALL: usize = 104;

/// Counters of the kernel side, per CPU; user space adds them up. `T` is how one is added to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters<T = u64> {
    /// Runs of each program on behalf of a traced process ([`program`]).
    pub hits: [T; program::COUNT],
    /// Events that were to be written to the ring.
    pub emitted: T,
    /// Events lost because the ring was full.
    pub ring_full: T,
    /// Bytes that hooks saw pass.
    pub bytes_seen: T,
    /// Bytes put into the ring.
    pub bytes_captured: T,
    /// Bytes cut off by the capture limit.
    pub bytes_truncated: T,
    /// Bytes of events lost because the ring was full.
    pub bytes_lost_ring_full: T,
    /// Bytes whose content no hook can see (sendfile, splice, io_uring).
    pub bytes_unseen: T,
    /// Bytes of ciphertext, which is not shipped.
    pub bytes_ciphertext: T,
    /// Bytes of sockets that are of no interest.
    pub bytes_skipped: T,
    /// Bytes of connections that are left out: by a sample, or because user space cannot keep up.
    pub bytes_shed: T,
    /// Sockets that were left out for a time at least.
    pub sockets_shed: T,
    /// Bytes that could not be attributed because a map was full.
    pub bytes_lost_map_full: T,
    /// Bytes that could not be read from the process's memory.
    pub bytes_lost_fault: T,
    /// Bytes of TLS calls whose beginning was not seen.
    pub bytes_lost_not_entered: T,
    /// Reads of the process's memory that failed.
    pub faults: T,
    /// TLS calls whose end was not seen.
    pub abandoned_calls: T,
    /// TLS calls in which more than one socket was used.
    pub ambiguous_calls: T,
    /// TLS sessions that two sources found different sockets for.
    pub tuple_disagreements: T,
    /// Calls of a TLS library that did not look like what they must be, and were left out.
    pub records_unverified: T,
    /// Entries of maps that could not be put in or taken out.
    pub updates_failed: T,
}

/// Indices into [`Counters::hits`], which are also [`Header::program`].
pub mod program {
    /// TLS read or write, entry.
    pub const TLS_ENTER: usize = 0;
    /// TLS read or write, exit.
    pub const TLS_EXIT: usize = 1;
    /// TLS session freed.
    pub const TLS_FREE: usize = 2;
    /// Socket send.
    pub const SOCKET_SEND: usize = 3;
    /// Socket receive.
    pub const SOCKET_RECEIVE: usize = 4;
    /// TCP state change.
    pub const TCP_STATE: usize = 5;
    /// Process fork, exec and exit.
    pub const PROCESS: usize = 6;
    /// System call exit.
    pub const SYSTEM_CALL_EXIT: usize = 7;
    /// TLS library handing out ciphertext.
    pub const TLS_CIPHERTEXT: usize = 8;
    /// TLS session given its file descriptor.
    pub const TLS_SET_FD: usize = 9;
    /// Library loaded.
    pub const LOADED: usize = 10;
    /// Number of programs that count.
    pub const COUNT: usize = 11;
    /// Their names, for the ledger.
    pub const NAMES: [&str; COUNT] = [
        "tls_enter",
        "tls_exit",
        "tls_free",
        "socket_send",
        "socket_receive",
        "tcp_state",
        "process",
        "sys_exit",
        "tls_ciphertext",
        "tls_set_fd",
        "loaded",
    ];
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Data>() == 48);
    assert!(size_of::<Released>() == 56);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<Datagram>() == 80);
    assert!(size_of::<Open>() == 304);
    assert!(size_of::<Close>() == 40);
    assert!(size_of::<Bind>() == 40);
    assert!(size_of::<Process>() == 56);
    assert!(size_of::<Socket>() == 56);
    assert!(size_of::<Session>() == 32);
    assert!(size_of::<GoroutineKey>() == 16);
    assert!(core::mem::offset_of!(Header, time) == 8);
    assert!(core::mem::offset_of!(Data, position) == 32);
    assert!(core::mem::offset_of!(Datagram, length) == 72);
    assert!(core::mem::offset_of!(Open, local_path) == 88);
};
