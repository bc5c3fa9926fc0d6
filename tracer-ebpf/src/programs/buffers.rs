//! Where in the process's memory the bytes of a transfer are.

use crate::memory::{kernel_at, user};
use crate::registers::{SystemCall, number};

/// `struct iovec` of the process.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct IoVec {
    pub base: u64,
    pub length: u64,
}

/// `struct user_msghdr`, as far as it is needed.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MessageHeader {
    pub name: u64,
    pub name_length: u32,
    padding: u32,
    pub vector: u64,
    pub vector_length: u64,
}

/// Size of `struct mmsghdr`.
pub const MULTI_MESSAGE_SIZE: u64 = 64;

/// Where the bytes of one transfer are.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Buffers {
    /// The piece that is being walked.
    pub current: IoVec,
    /// Address of the next `struct iovec`.
    pub next: u64,
    /// How many `struct iovec` are left there.
    pub left: u64,
    /// Address of the peer's `struct sockaddr`; 0: none was given.
    pub name: u64,
    /// Bytes of the next piece that were used up before.
    pub skip: u64,
    /// How the pieces are described ([`described`]).
    pub described: u64,
}

/// How pieces are described.
pub mod described {
    // 0: in the process's memory.
    /// In the kernel's memory.
    pub const BY_KERNEL: u64 = 1;
    /// In the process's memory, with lengths of 32 bits.
    pub const NARROW: u64 = 2;
}

impl Buffers {
    #[inline(always)]
    pub fn single(base: u64, length: u64) -> Self {
        Self { current: IoVec { base, length }, ..Self::default() }
    }

    #[inline(always)]
    pub fn vector(address: u64, count: u64) -> Self {
        Self { next: address, left: count, ..Self::default() }
    }

    /// Of pieces that the kernel has copied the description of.
    #[inline(always)]
    pub fn kernel_vector(address: u64, count: u64, skip: u64) -> Self {
        Self { skip, described: described::BY_KERNEL, ..Self::vector(address, count) }
    }

    /// Of pieces whose length is an `int`.
    #[inline(always)]
    pub fn narrow_vector(address: u64, count: u64) -> Self {
        Self { described: described::NARROW, ..Self::vector(address, count) }
    }

    /// Of a `struct user_msghdr` in the process's memory.
    #[inline(always)]
    pub fn message(address: u64) -> Option<Self> {
        let header: MessageHeader = user(address)?;
        Some(Self { name: header.name, ..Self::vector(header.vector, header.vector_length) })
    }

    /// Moves on to the next piece when the current one is used up. `false`: there is none.
    #[inline(always)]
    pub fn advance(&mut self) -> bool {
        if self.current.length != 0 {
            return true;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let piece = if self.described == described::BY_KERNEL {
            kernel_at::<IoVec>(self.next)
        } else {
            user::<IoVec>(self.next)
        };
        let Some(piece) = piece else { return false };
        self.next += size_of::<IoVec>() as u64;
        let length = if self.described == described::NARROW { piece.length as u32 as u64 } else { piece.length };
        let skip = self.skip.min(length);
        self.skip = 0;
        self.current = IoVec { base: piece.base + skip, length: length - skip };
        true
    }
}

/// Where the bytes of the system call are that the thread is in. `index`: which message of `sendmmsg`/`recvmmsg`.
/// `None`: a call that does not show them (sendfile, splice, io_uring).
#[inline(always)]
pub fn of_system_call(call: &SystemCall, index: u64) -> Option<Buffers> {
    let [_, a1, a2, _, a4, _] = call.arguments;
    match call.number {
        number::READ | number::WRITE => Some(Buffers::single(a1, a2)),
        number::SENDTO | number::RECVFROM => Some(Buffers { name: a4, ..Buffers::single(a1, a2) }),
        number::READV | number::WRITEV | number::PREADV2 | number::PWRITEV2 => Some(Buffers::vector(a1, a2)),
        number::SENDMSG | number::RECVMSG => Buffers::message(a1),
        number::SENDMMSG | number::RECVMMSG => Buffers::message(a1 + index * MULTI_MESSAGE_SIZE),
        _ => None,
    }
}
