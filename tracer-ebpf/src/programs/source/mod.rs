//! Where transfers on sockets are seen. The sources are interchangeable; user space attaches one of them.

mod syscall;

use crate::buffers::Buffers;
use crate::datagram::SocketAddress;

/// Who sent or is to receive a datagram on a socket without a fixed peer.
pub enum Peer {
    Known(SocketAddress),
    /// Known when the system call ends.
    Later {
        many: u64,
    },
    Unknown,
}

/// What a source knows of a transfer's memory.
pub trait Source: Copy {
    /// Where its bytes are; `None` when nothing shows them.
    fn buffers(self) -> Option<Buffers>;

    /// The peer of a datagram.
    fn peer(self, buffers: &Buffers) -> Peer;

    /// The transfer moved nothing.
    fn failed(self) {}
}

/// Value of the call map: a socket call under way.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    pub sk: u64,
    pub buffers: Buffers,
    pub entered: u64,
    pub flags: i32,
    pub shown: u32,
}
