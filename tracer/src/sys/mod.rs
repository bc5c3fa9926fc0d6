//! The one place in this crate with unsafe code: bytes to and from the event ABI, and system calls that no library
//! here offers.
#![allow(unsafe_code, reason = "each use says why it is sound")]

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{Bind, Close, Counters, Data, Datagram, Header, Open, Process, Socket};

/// A struct of the event ABI: fixed-width integers only, no padding that is not a field, so that every bit pattern is
/// a value and every byte is initialised.
pub trait Abi: Copy + private::Sealed {}

mod private {
    pub trait Sealed {}
}

macro_rules! abi {
    ($($name:ty),*) => { $(impl private::Sealed for $name {} impl Abi for $name {})* };
}

abi!(Header, Data, Datagram, Open, Close, Bind, Process);

/// Copies a struct out of the beginning of `bytes`, which need not be aligned; `None` if there are too few.
pub fn read<T: Abi>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are enough bytes, the read is unaligned, and every bit pattern is a value of an `Abi` type.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The value of the socket map.
pub fn socket_from_bytes(bytes: [u8; size_of::<Socket>()]) -> Socket {
    // SAFETY: the sizes agree and every bit pattern is a value.
    unsafe { std::mem::transmute(bytes) }
}

/// The value of the socket map.
pub fn socket_to_bytes(socket: Socket) -> [u8; size_of::<Socket>()] {
    // SAFETY: the sizes agree and the struct has no implicit padding.
    unsafe { std::mem::transmute(socket) }
}

/// The value of the counter map.
pub fn counters_from_words(words: [u64; size_of::<Counters>() / 8]) -> Counters {
    // SAFETY: the struct is made of as many u64.
    unsafe { std::mem::transmute(words) }
}

/// Maps a file into memory for reading.
pub fn map(file: &std::fs::File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the files are libraries and executables that processes run: writing to those is refused by the kernel
    // (ETXTBSY) or done by replacing the file; a change underneath would give wrong bytes, which are checked as any
    // hostile file is, and a truncation a SIGBUS, which the same rule excludes.
    unsafe { memmap2::Mmap::map(file) }
}

/// Makes a command stop before it executes its program: it tells its process id to `tell` and goes on when a byte can
/// be read from `ready`, whose other end is `go`.
pub fn hold_before_exec(command: &mut std::process::Command, ready: OwnedFd, tell: OwnedFd, go: BorrowedFd<'_>) {
    use std::os::unix::process::CommandExt as _;
    let go = go.as_raw_fd();
    let hold = move || {
        // SAFETY: the child's own copy, which nobody uses: with it open, the end of the tracer would not show.
        unsafe { rustix::io::close(go) };
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        rustix::io::write(&tell, &pid.to_ne_bytes())?;
        // A tracer that died closes the pipe: then the command must not run unseen.
        match rustix::io::read(&ready, &mut [0_u8; 1]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error.into()),
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(hold) };
}

/// The process id that a held command has told.
pub fn read_pid(mut told: impl std::io::Read) -> std::io::Result<u32> {
    let mut pid = [0; 4];
    told.read_exact(&mut pid)?;
    Ok(u32::from_ne_bytes(pid))
}

/// Lets the event loop wait for a ring buffer.
pub fn watch(ring: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, which stays open and the same for as long as the ring lives.
    Ok(unsafe { AsyncFd::register(ring) }?)
}
