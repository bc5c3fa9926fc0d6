//! The one place in this crate with unsafe code: bytes to and from the event ABI, and system calls that no library
//! here offers.
#![allow(unsafe_code, reason = "each use says why it is sound")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::maps::{MapData, RingBuf};
use aya_obj::generated::{
    BPF_F_UPROBE_MULTI_RETURN, PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type,
    perf_event_attr, perf_sw_ids, perf_type_id,
};
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{
    Bind, Close, Counters, Data, Datagram, GoroutineKey, Header, Open, Process, Released, SessionKey, Socket,
};

/// A struct of the event ABI: fixed-width integers only, no padding that is not a field, so that every bit pattern is
/// a value and every byte is initialised.
pub trait Abi: Copy + private::Sealed {}

mod private {
    pub trait Sealed {}
}

macro_rules! abi {
    ($($name:ty),*) => { $(impl private::Sealed for $name {} impl Abi for $name {})* };
}

abi!(Header, Data, Datagram, GoroutineKey, Open, Close, Bind, Process, Released, SessionKey);

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
pub fn map(file: &std::fs::File) -> io::Result<memmap2::Mmap> {
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
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error.into()),
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(hold) };
}

/// The process id that a held command has told.
pub fn read_pid(mut told: impl io::Read) -> io::Result<u32> {
    let mut pid = [0; 4];
    told.read_exact(&mut pid)?;
    Ok(u32::from_ne_bytes(pid))
}

/// Lets the event loop wait for a ring buffer.
pub fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, which stays open and the same for as long as the ring lives.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

/// Loads a program for links of the kind "uprobe multi".
pub fn load_uprobe_multi(instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: all zero is how bpf(2) wants what is not set.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: writing to a field of a union of plain integers.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes)
}

/// Puts a program on places of a file for one process: a link of the kind "uprobe multi".
pub fn link_uprobes(
    program: BorrowedFd<'_>,
    file: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    pid: i32,
    on_return: bool,
) -> io::Result<OwnedFd> {
    assert_eq!(offsets.len(), cookies.len(), "the kernel reads as many of both");
    // SAFETY: all zero is how bpf(2) wants what is not set.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: writing to a field of a union of plain integers.
    let link = unsafe { &mut attributes.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    link.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: as above.
    let uprobes = unsafe { &mut link.__bindgen_anon_3.uprobe_multi };
    uprobes.path = file.as_ptr() as u64;
    uprobes.offsets = offsets.as_ptr() as u64;
    uprobes.cookies = cookies.as_ptr() as u64;
    uprobes.cnt = offsets.len() as u32;
    uprobes.flags = if on_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
    uprobes.pid = pid as u32;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes)
}

/// A perf event that never counts anything itself.
#[derive(Clone, Copy, Debug)]
pub enum PerfEvent {
    /// Of a tracepoint, by its number.
    Tracepoint(u64),
    /// Of nothing.
    Dummy,
}

/// Opens a perf event for a thread (0: this one), and if it is inherited for all that it begets.
pub fn open_event(event: PerfEvent, pid: i32, inherit: bool) -> io::Result<OwnedFd> {
    // SAFETY: all zero is how perf_event_open(2) wants what is not set.
    let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
    let (kind, config) = match event {
        PerfEvent::Tracepoint(id) => (perf_type_id::PERF_TYPE_TRACEPOINT, id),
        PerfEvent::Dummy => (perf_type_id::PERF_TYPE_SOFTWARE, perf_sw_ids::PERF_COUNT_SW_DUMMY as u64),
    };
    attributes.type_ = kind as u32;
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.config = config;
    attributes.set_inherit(u64::from(inherit));
    attributes.set_disabled(1);
    let (any_cpu, no_group) = (-1, -1);
    // SAFETY: the attributes are a live value of the size that they state.
    let result = unsafe {
        let attributes: *const perf_event_attr = &attributes;
        libc::syscall(libc::SYS_perf_event_open, attributes, pid, any_cpu, no_group, PERF_FLAG_FD_CLOEXEC)
    };
    made(result)
}

/// Has a program run at a perf event.
pub fn link_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>, cookie: u64) -> io::Result<OwnedFd> {
    // SAFETY: all zero is how bpf(2) wants what is not set.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: writing to a field of a union of plain integers.
    let link = unsafe { &mut attributes.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    link.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
    link.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    link.__bindgen_anon_3.perf_event.bpf_cookie = cookie;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes)
}

/// A command of bpf(2) that makes a descriptor.
fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are a live value of the size given, and what they point to outlives the call: the callers
    // hold it as arguments.
    made(unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<bpf_attr>()) })
}

/// The descriptor that a system call has made.
fn made(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Gives freed memory back to the system, of which loading takes much that tracing does not need.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and has no conditions (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
