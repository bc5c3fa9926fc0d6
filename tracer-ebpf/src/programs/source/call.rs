//! What the fentry and the kprobe source share: a call of a protocol's send or receive function is remembered at its
//! entry, where its arguments are, and reported at its end, where its result is.
//!
//! read, write, send*, recv*, readv, writev, sendfile, splice and io_uring all pass these functions.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use super::{Peer, Source};
use crate::buffers::Buffers;
use crate::datagram::SocketAddress;
use crate::entries::Entries;
use crate::maps::CALLS;
use crate::memory::kernel;
use crate::transfer::{self, Transfer};
use crate::{config, memory, ship, socket};

/// Value of the call map: a call under way.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    /// Address of the `struct sock`; 0: no call is under way.
    pub sk: u64,
    /// Address of the `struct msghdr`; 0: the call has none (sendpage, splice).
    pub message: u64,
    pub buffers: Buffers,
    pub entered: u64,
    pub flags: i32,
    pub write: u32,
    /// Whether `buffers` shows the bytes.
    pub shown: u32,
    padding: u32,
}

#[inline(always)]
pub fn enter(sk: u64, message: u64, write: bool, flags: i32) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !socket::is_traced((pid_tgid >> 32) as u32) {
        return;
    }
    let buffers = if message == 0 { None } else { of_message(message) };
    let call = Call {
        sk,
        message,
        buffers: buffers.unwrap_or_default(),
        entered: ship::now(),
        flags,
        write: u32::from(write),
        shown: u32::from(buffers.is_some()),
        padding: 0,
    };
    CALLS.put(&pid_tgid, &call, 0);
}

/// Of functions that take a `struct socket`.
#[inline(always)]
pub fn enter_socket(socket: u64, message: u64, write: bool, flags: i32) {
    enter(kernel(socket, &config::SOCKET_SK), message, write, flags);
}

#[inline(always)]
pub fn exit(result: i32) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(call) = CALLS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element that only this thread uses.
    let call = unsafe { &mut *call };
    if call.sk == 0 {
        // A function that another one of these has called, and that has been reported.
        return;
    }
    let transfer = Transfer { sk: call.sk, write: call.write != 0, result, flags: call.flags, entered: call.entered };
    call.sk = 0;
    transfer::ended(&transfer, Recorded { call });
}

/// The memory of a transfer, as recorded at its entry.
#[derive(Clone, Copy)]
struct Recorded {
    call: *const Call,
}

impl Source for Recorded {
    #[inline(always)]
    fn buffers(self) -> Option<Buffers> {
        // SAFETY: points to this thread's element of the call map.
        let call = unsafe { &*self.call };
        (call.shown != 0).then_some(call.buffers)
    }

    #[inline(always)]
    fn peer(self, _buffers: &Buffers) -> Peer {
        // SAFETY: as above.
        let message = unsafe { (*self.call).message };
        let name: u64 = if message == 0 { 0 } else { kernel(message, &config::MSG_NAME) };
        if name == 0 {
            return Peer::Unknown;
        }
        memory::kernel_at::<SocketAddress>(name).map_or(Peer::Unknown, Peer::Known)
    }
}

/// Where the bytes of a `struct msghdr` are: in the process's memory, by a `struct iov_iter` (include/linux/uio.h).
#[inline(always)]
fn of_message(message: u64) -> Option<Buffers> {
    let iterator = message + u64::from(config::MSG_ITER.load());
    let kind = if config::ITER_TYPE_IS_WORD.load() != 0 {
        // The low bits are the direction and a flag.
        kernel::<u32>(iterator, &config::ITER_TYPE) & !3
    } else {
        u32::from(kernel::<u8>(iterator, &config::ITER_TYPE))
    };
    let address: u64 = kernel(iterator, &config::ITER_SEGMENTS);
    let offset: u64 = kernel(iterator, &config::ITER_OFFSET);
    if kind == config::ITER_UBUF.load() {
        let count: u64 = kernel(iterator, &config::ITER_COUNT);
        return Some(Buffers::single(address + offset, count));
    }
    if kind != config::ITER_IOVEC.load() {
        return None;
    }
    let count: u64 = kernel(iterator, &config::ITER_SEGMENT_COUNT);
    Some(Buffers::kernel_vector(address, count, offset))
}
