//! Where transfers on sockets are seen. The sources are interchangeable; user space attaches one of them.

mod call;
mod functions;
mod syscall;

pub use call::Call;
pub use syscall::MessagesSent;

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

    /// The same for who may have to ask again; nothing where asking counts.
    fn glance(self) -> Option<Buffers> {
        self.buffers()
    }

    /// The peer of a datagram.
    fn peer(self, buffers: &Buffers) -> Peer;

    /// The transfer moved nothing.
    fn failed(self) {}
}
