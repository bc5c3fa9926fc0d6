//! Sockets of traced processes.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tracer_ebpf::{Header, Open, PATH, Socket, Tuple, kind, origin, socket_flag};

use crate::entries::Entries;
use crate::maps::{ACCEPTED, MAY_BE_TRACED, PROCESSES, SOCKETS};
use crate::memory::kernel;
use crate::{config, ship};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
const SOCK_STREAM: u16 = 1;

/// `TCP_ESTABLISHED` of `include/net/tcp_states.h`.
pub const ESTABLISHED: u8 = 1;

/// What a `struct sock` is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Tcp,
    Udp,
    UnixStream,
    Other,
}

#[inline(always)]
pub fn is_traced(tgid: u32) -> bool {
    // SAFETY: presence only, the value is not read.
    may_be_traced(tgid) && unsafe { PROCESSES.get(&tgid) }.is_some()
}

/// Whether a process is worth looking up at all.
#[inline(always)]
pub fn may_be_traced(tgid: u32) -> bool {
    MAY_BE_TRACED.get(tracer_ebpf::may_be_traced(tgid)).is_some_and(|&may| may != 0)
}

/// A process is traced from now on.
#[inline(always)]
pub fn trace(tgid: u32, flags: u32) {
    let _ = MAY_BE_TRACED.set(tracer_ebpf::may_be_traced(tgid), &1, 0);
    PROCESSES.put(&tgid, &flags, 0);
}

#[inline(always)]
pub fn classify(sk: u64) -> Class {
    let family: u16 = kernel(sk, &config::SOCK_FAMILY);
    if family == AF_INET || family == AF_INET6 {
        return match kernel::<u16>(sk, &config::SOCK_PROTOCOL) {
            IPPROTO_TCP => Class::Tcp,
            IPPROTO_UDP => Class::Udp,
            _ => Class::Other,
        };
    }
    if family == AF_UNIX && kernel::<u16>(sk, &config::SOCK_TYPE) == SOCK_STREAM {
        return Class::UnixStream;
    }
    Class::Other
}

/// An id that no other connection of this run has: the clock, and the CPU for two at the same moment.
#[inline(always)]
pub fn new_id() -> u64 {
    // SAFETY: takes nothing, always succeeds.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    (ship::now() << 8) | u64::from(cpu & 0xff)
}

/// Inode number of a unix socket: its `struct sock` may be reused without a sign, its inode number is not for long.
#[inline(always)]
pub fn inode(sk: u64) -> u64 {
    let socket: u64 = kernel(sk, &config::SOCK_SOCKET);
    if socket == 0 { 0 } else { kernel(socket + u64::from(config::SOCKET_INODE.load()), &config::INODE_NUMBER) }
}

/// Remembers a socket that is seen for the first time.
#[inline(never)]
pub fn adopt(sk: u64, tgid: u32, class: Class, origin: u8) -> Option<*mut Socket> {
    let accepted = class == Class::Tcp && ACCEPTED.take(&sk);
    let socket = Socket {
        id: new_id(),
        tgid,
        origin: if accepted { origin::ACCEPT } else { origin },
        family: kernel::<u16>(sk, &config::SOCK_FAMILY) as u8,
        inode: if class == Class::UnixStream { inode(sk) } else { 0 },
        ..Socket::default()
    };
    SOCKETS.place(&sk, &socket)
}

/// Writes the addresses and ports of an internet socket.
#[inline(always)]
pub fn read_tuple(sk: u64, protocol: u16, tuple: &mut Tuple) {
    tuple.family = kernel(sk, &config::SOCK_FAMILY);
    tuple.protocol = protocol;
    tuple.local_port = kernel(sk, &config::SOCK_LOCAL_PORT);
    tuple.remote_port = u16::from_be(kernel(sk, &config::SOCK_REMOTE_PORT));
    if tuple.family == AF_INET {
        tuple.local[..4].copy_from_slice(&kernel::<[u8; 4]>(sk, &config::SOCK_LOCAL_V4));
        tuple.remote[..4].copy_from_slice(&kernel::<[u8; 4]>(sk, &config::SOCK_REMOTE_V4));
    } else if tuple.family == AF_INET6 {
        tuple.local = kernel(sk, &config::SOCK_LOCAL_V6);
        tuple.remote = kernel(sk, &config::SOCK_REMOTE_V6);
    }
}

/// Tells user space of a socket, once.
#[inline(always)]
pub fn announce(sk: u64, socket: &mut Socket, program: usize, pid_tgid: u64) {
    if socket.flags & socket_flag::ANNOUNCED != 0 {
        return;
    }
    if announce_now(sk, socket.id, socket.origin, program as u8, pid_tgid) == 0 {
        socket.flags |= socket_flag::ANNOUNCED;
    }
}

/// A function of its own, not inlined: it happens once a connection and its event would fill the stack.
#[inline(never)]
fn announce_now(sk: u64, id: u64, origin: u8, program: u8, pid_tgid: u64) -> i32 {
    crate::counters::count(|counters| counters.emitted += 1);
    let Some(entry) = crate::maps::EVENTS.reserve_untyped::<Open>(0) else {
        crate::counters::count(|counters| counters.ring_full += 1);
        return -1;
    };
    let open = entry.as_ptr() as *mut Open;
    let header =
        Header { kind: kind::OPEN, program, flags: 0, captured: 0, time: ship::now(), pid_tgid, connection: id };
    let family: u16 = kernel(sk, &config::SOCK_FAMILY);
    // SAFETY: the record is ours until submitted.
    unsafe {
        core::ptr::write_bytes(open.cast::<u8>(), 0, size_of::<Open>());
        (*open).header = header;
        (*open).socket = sk;
        (*open).origin = origin;
        if family == AF_UNIX {
            (*open).tuple = Tuple { family, ..Tuple::default() };
            (*open).local_path_length = path(sk, &raw mut (*open).local_path);
            (*open).remote_path_length = path(kernel(sk, &config::UNIX_PEER), &raw mut (*open).remote_path);
        } else {
            read_tuple(sk, IPPROTO_TCP, &mut (*open).tuple);
        }
    }
    entry.submit(0);
    0
}

/// The name of a unix socket; its length.
#[inline(always)]
fn path(sk: u64, to: *mut [u8; PATH]) -> u16 {
    if sk == 0 {
        return 0;
    }
    let address: u64 = kernel(sk, &config::UNIX_ADDR);
    if address == 0 {
        return 0;
    }
    // sun_path stands behind the two bytes of sun_family, and the length counts those.
    let length: i32 = kernel(address, &config::UNIX_ADDRESS_LEN);
    let from = address + u64::from(config::UNIX_ADDRESS_NAME.load()) + 2;
    // SAFETY: the destination is a field of our record; the helper checks the source.
    let failed =
        unsafe { aya_ebpf::helpers::generated::bpf_probe_read_kernel(to.cast(), PATH as u32, from as *const _) };
    if failed != 0 || length <= 2 { 0 } else { (length - 2).min(PATH as i32) as u16 }
}
