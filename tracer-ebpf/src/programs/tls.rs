//! TLS library calls: what they carried, and on which socket.
//!
//! While a thread is inside such a call, a socket call on it moves ciphertext of that call's session: that is how a
//! session is bound to its socket ("nested"). Nothing is concluded from time or from what a thread did before.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_ebpf::{Data, Header, Session, SessionKey, flag, kind, program};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::maps::{SESSIONS, THREADS};
use crate::memory::user;
use crate::ship::{self, LookForTls};
use crate::{config, registers, shed, socket, transfer};

/// The flag of an insertion that must not replace.
const BPF_NOEXIST: u64 = 1;

/// The TLS call that a thread or a goroutine is in; value of the thread map.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Thread {
    /// Whether it is in one.
    pub active: u32,
    pub write: u32,
    pub session: u64,
    pub buffer: u64,
    /// Where the call stores its length; 0: the length is its result.
    pub length: u64,
    /// Id of the connection that a nested socket call used; 0: none yet.
    pub connection: u64,
    pub entered: u64,
    /// Whether the connection was found by the session's file descriptor instead.
    pub by_fd: u64,
}

/// Binds the TLS call that this thread is in, if any, to the connection. Whether there is one.
#[inline(always)]
pub fn bind(pid_tgid: u64, connection: u64) -> bool {
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return false };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    thread.bind(connection)
}

impl Thread {
    /// Binds the call, if it is in one, to the connection. Whether it is.
    #[inline(always)]
    pub fn bind(&mut self, connection: u64) -> bool {
        if self.active == 0 {
            return false;
        }
        if self.connection != 0 && self.connection != connection {
            count(|counters| counters.ambiguous_calls += 1);
        }
        self.connection = connection;
        true
    }
}

#[inline(always)]
fn enter(ctx: &ProbeContext, write: bool, length: Option<usize>) {
    hit(program::TLS_ENTER);
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread = THREADS.get_ptr_mut(&pid_tgid).or_else(|| {
        THREADS.insert(&pid_tgid, &Thread::default(), 0).ok()?;
        THREADS.get_ptr_mut(&pid_tgid)
    });
    let Some(thread) = thread else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active != 0 {
        count(|counters| counters.abandoned_calls += 1);
    }
    *thread = Thread {
        active: 1,
        write: u32::from(write),
        session: ctx.arg(0).unwrap_or(0),
        buffer: ctx.arg(1).unwrap_or(0),
        length: length.and_then(|index| ctx.arg(index)).unwrap_or(0),
        connection: 0,
        entered: ship::now(),
        by_fd: 0,
    };
}

#[inline(always)]
fn exit(result: i32, ctx: *mut c_void) {
    hit(program::TLS_EXIT);
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active == 0 {
        return;
    }
    thread.active = 0;
    if result <= 0 {
        return;
    }
    let length = if thread.length == 0 { Some(result as u64) } else { user::<u64>(thread.length) };
    let Some(length) = length else {
        count(|counters| counters.faults += 1);
        return;
    };
    if length > 0 {
        moved(thread, pid_tgid, length, cookie(ctx));
    }
}

/// Plaintext has moved.
#[inline(always)]
pub fn moved(thread: &Thread, pid_tgid: u64, length: u64, cookie: u64) {
    count(|counters| counters.bytes_seen += length);
    let Some(mut data) = advance(thread, pid_tgid, length, cookie) else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    if shed::takes(data.header.connection) {
        return shed::bytes(length);
    }
    let _ = transfer::parts(&mut data, &Buffers::single(thread.buffer, length), LookForTls::No);
}

/// The event of plaintext that a call has moved, with its place in the session.
#[inline(always)]
pub fn advance(thread: &Thread, pid_tgid: u64, length: u64, cookie: u64) -> Option<Data> {
    let key = SessionKey { tgid: pid_tgid >> 32, session: thread.session };
    let session = SESSIONS.get_ptr_mut(&key).or_else(|| {
        let session = Session {
            id: if thread.connection != 0 { thread.connection } else { socket::new_id() },
            by_fd: thread.by_fd,
            ..Session::default()
        };
        // The other direction may do the same at this moment.
        let _ = SESSIONS.insert(&key, &session, BPF_NOEXIST);
        SESSIONS.get_ptr_mut(&key)
    })?;
    // SAFETY: an element of our map; a session is used by one call at a time in each direction.
    let session = unsafe { &mut *session };
    if thread.connection != 0 && session.id != thread.connection {
        *session = Session { id: thread.connection, by_fd: thread.by_fd, ..Session::default() };
    } else if thread.connection != 0 && thread.by_fd == 0 {
        session.by_fd = 0;
    }
    let write = thread.write != 0;
    let counter = if write { &mut session.written } else { &mut session.read };
    let position = *counter;
    *counter += length;
    let now = ship::now();
    let header = Header {
        kind: kind::DATA,
        program: cookie as u8,
        flags: flag::TLS | if write { flag::WRITE } else { 0 } | if session.by_fd != 0 { flag::BY_FD } else { 0 },
        captured: 0,
        time: now,
        pid_tgid,
        connection: session.id,
    };
    Some(Data { header, position, length: length as u32, elapsed: (now - thread.entered) as u32 })
}

/// The number that user space attached the probe with: which library it is.
#[inline(always)]
pub fn cookie(ctx: *mut c_void) -> u64 {
    if config::HAS_COOKIE.load() == 0 {
        return 0;
    }
    // SAFETY: the context is this program's own.
    unsafe { bpf_get_attach_cookie(ctx) }
}

/// Forgets a session: its address may be used by another from now on.
#[inline(always)]
pub fn forget(session: u64) {
    hit(program::TLS_FREE);
    let key = SessionKey { tgid: bpf_get_current_pid_tgid() >> 32, session };
    let _ = SESSIONS.remove(&key);
}

macro_rules! enter_programs {
    ($($(#[$doc:meta])* $name:ident: $write:literal, $length:expr;)*) => {
        $($(#[$doc])* #[uprobe]
        pub fn $name(ctx: ProbeContext) -> u32 {
            enter(&ctx, $write, $length);
            0
        })*
    };
}

// By direction, and by the argument that points to where the length is stored.
enter_programs! {
    tls_read: false, None;
    tls_read_rcx: false, Some(3);
    tls_read_r8: false, Some(4);
    tls_read_r9: false, Some(5);
    tls_write: true, None;
    tls_write_rcx: true, Some(3);
    tls_write_r8: true, Some(4);
    tls_write_r9: true, Some(5);
}

/// On an instruction behind the inner call, with its result still in the result register.
#[uprobe]
pub fn tls_result(ctx: ProbeContext) -> u32 {
    // SAFETY: a probe's context is its registers.
    let result = unsafe { registers::result(ctx.as_ptr() as *const pt_regs) };
    exit(result as i32, ctx.as_ptr());
    0
}

/// On the return of a function.
#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    exit(ctx.ret(), ctx.as_ptr());
    0
}

#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    forget(ctx.arg(0).unwrap_or(0));
    0
}
