//! Connections that are not reported, because user space asked for a sample or cannot keep up: whole ones, chosen by
//! their id, so that what is left is true. Their bytes are counted.

use tracer_ebpf::{Socket, Tuple, sample, socket_flag, switch};

use crate::counters::count;
use crate::maps::SWITCHES;

/// Whether a connection, or a TLS session without one, is left out at present.
#[inline(always)]
pub fn takes(id: u64) -> bool {
    // Without a sample and without overload this is all that it costs.
    SWITCHES.get(switch::SHED_LEVEL).is_some_and(|&level| level != 0 && sample::mark(id) < level)
}

/// The same for a socket, which is counted once.
#[inline(always)]
pub fn takes_socket(socket: &mut Socket) -> bool {
    if !takes(socket.id) {
        return false;
    }
    if socket.flags & socket_flag::SHED == 0 {
        socket.flags |= socket_flag::SHED;
        count(|counters| counters.sockets_shed += 1);
    }
    true
}

/// The same for datagrams between two addresses.
#[inline(always)]
pub fn takes_flow(tuple: &Tuple) -> bool {
    let [a, b, c, d, ..] = tuple.remote;
    let ports = u64::from(tuple.local_port) << 16 | u64::from(tuple.remote_port);
    takes(ports << 32 | u64::from(u32::from_ne_bytes([a, b, c, d])))
}

/// Counts bytes of a connection that is left out.
#[inline(always)]
pub fn bytes(length: u64) {
    count(|counters| counters.bytes_shed += length);
}
