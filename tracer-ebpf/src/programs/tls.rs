//! TLS library calls: what they carried, and on which socket.
//!
//! While a thread is inside such a call, a socket call on it moves ciphertext of that call's session: that is how a
//! session is bound to its socket ("nested"). Nothing is concluded from time or from what a thread did before.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_ebpf::{Data, Header, Session, SessionKey, flag, kind, program};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::maps::{LAYERS, SESSIONS, THREADS};
use crate::memory::user;
use crate::ship::{self, LookForTls};
use crate::{config, registers, socket, transfer};

/// `PR_MSG_PEEK` of NSPR (prio.h).
const PR_MSG_PEEK: u64 = 2;

/// Value of the thread map: the TLS call that a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Thread {
    /// Whether it is in one.
    active: u32,
    write: u32,
    session: u64,
    buffer: u64,
    /// Where the call stores its length; 0: the length is its result.
    length: u64,
    /// Id of the connection that a nested socket call used; 0: none yet.
    connection: u64,
    entered: u64,
    /// Calls inside this one that are none of a TLS session.
    inside: u64,
    /// The call's third argument: a size, or how many pieces there are.
    size: u64,
}

/// Values of [`Thread::active`].
mod active {
    /// In no TLS call.
    pub const NONE: u32 = 0;
    /// In one that moves data.
    pub const MOVING: u32 = 1;
    /// In one that sends what was put aside before: the calls inside it move nothing new.
    pub const FLUSHING: u32 = 2;
}

/// Binds the TLS call that this thread is in, if any, to the connection. Whether there is one.
#[inline(always)]
pub fn bind(pid_tgid: u64, connection: u64) -> bool {
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return false };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active == 0 {
        return false;
    }
    if thread.connection != 0 && thread.connection != connection {
        count(|counters| counters.ambiguous_calls += 1);
    }
    thread.connection = connection;
    true
}

#[inline(always)]
fn enter(ctx: &ProbeContext, kind: u32, write: bool, length: Option<usize>) {
    hit(program::TLS_ENTER);
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread = THREADS.get_ptr_mut(&pid_tgid).or_else(|| {
        THREADS.insert(&pid_tgid, &Thread::default(), 0).ok()?;
        THREADS.get_ptr_mut(&pid_tgid)
    });
    let Some(thread) = thread else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    let session = ctx.arg(0).unwrap_or(0);
    if thread.active == active::FLUSHING && thread.session == session {
        return;
    }
    if thread.active != active::NONE {
        count(|counters| counters.abandoned_calls += 1);
    }
    *thread = Thread {
        active: kind,
        write: u32::from(write),
        session,
        buffer: ctx.arg(1).unwrap_or(0),
        length: length.and_then(|index| ctx.arg(index)).unwrap_or(0),
        connection: 0,
        entered: ship::now(),
        inside: 0,
        size: ctx.arg(2).unwrap_or(0),
    };
}

/// The same for a function that serves other files too: a session is one whose first word points into the TLS library.
#[inline(always)]
fn enter_layer(ctx: &ProbeContext, write: bool, peeks: bool) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    let methods = ctx.arg(0).and_then(user::<u64>).unwrap_or(0);
    // SAFETY: user space changes an element only to the same range.
    let layer = unsafe { LAYERS.get(&tgid) };
    if !peeks && layer.is_some_and(|[start, end]| (*start..*end).contains(&methods)) {
        return enter(ctx, active::MOVING, write, None);
    }
    if let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) {
        // SAFETY: an element of our map that only this thread uses.
        let thread = unsafe { &mut *thread };
        if thread.active != active::NONE {
            thread.inside += 1;
        }
    }
}

#[inline(always)]
fn exit(result: i32, cookie: u64, pieces: bool) {
    hit(program::TLS_EXIT);
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active != active::MOVING {
        return;
    }
    if thread.inside != 0 {
        thread.inside -= 1;
        return;
    }
    thread.active = active::NONE;
    if result <= 0 {
        return;
    }
    let length = if thread.length == 0 { Some(result as u64) } else { user::<u64>(thread.length) };
    let Some(length) = length else {
        count(|counters| counters.faults += 1);
        return;
    };
    if length > 0 {
        let buffers = if pieces {
            Buffers::narrow_vector(thread.buffer, thread.size & 0xffff_ffff)
        } else {
            Buffers::single(thread.buffer, length)
        };
        moved(thread, pid_tgid, length, cookie, &buffers);
    }
}

/// What had been put aside has been sent. Its session stays with the socket that the next call finds.
#[inline(always)]
fn flushed() {
    if let Some(thread) = THREADS.get_ptr_mut(&bpf_get_current_pid_tgid()) {
        // SAFETY: an element of our map that only this thread uses.
        unsafe { (*thread).active = active::NONE };
    }
}

/// Plaintext has moved.
#[inline(always)]
fn moved(thread: &Thread, pid_tgid: u64, length: u64, cookie: u64, buffers: &Buffers) {
    count(|counters| counters.bytes_seen += length);
    let key = SessionKey { tgid: pid_tgid >> 32, session: thread.session };
    let session = SESSIONS.get_ptr_mut(&key).or_else(|| {
        let session = Session {
            id: if thread.connection != 0 { thread.connection } else { socket::new_id() },
            ..Session::default()
        };
        SESSIONS.insert(&key, &session, 0).ok()?;
        SESSIONS.get_ptr_mut(&key)
    });
    let Some(session) = session else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    // SAFETY: an element of our map; a session is used by one call at a time in each direction.
    let session = unsafe { &mut *session };
    if thread.connection != 0 && session.id != thread.connection {
        *session = Session { id: thread.connection, ..Session::default() };
    }
    let write = thread.write != 0;
    let counter = if write { &mut session.written } else { &mut session.read };
    let position = *counter;
    *counter += length;
    let now = ship::now();
    let header = Header {
        kind: kind::DATA,
        program: cookie as u8,
        flags: flag::TLS | if write { flag::WRITE } else { 0 },
        captured: 0,
        time: now,
        pid_tgid,
        connection: session.id,
    };
    let mut data = Data { header, position, length: length as u32, elapsed: (now - thread.entered) as u32 };
    let _ = transfer::parts(&mut data, buffers, LookForTls::No);
}

/// The number that user space attached the probe with: which library it is.
#[inline(always)]
fn cookie(ctx: *mut core::ffi::c_void) -> u64 {
    if config::HAS_COOKIE.load() == 0 {
        return 0;
    }
    // SAFETY: the context is this program's own.
    unsafe { bpf_get_attach_cookie(ctx) }
}

/// Forgets a session: its address may be used by another from now on.
#[inline(always)]
fn forget(ctx: &ProbeContext) {
    hit(program::TLS_FREE);
    let key = SessionKey { tgid: bpf_get_current_pid_tgid() >> 32, session: ctx.arg(0).unwrap_or(0) };
    let _ = SESSIONS.remove(&key);
}

macro_rules! enter_programs {
    ($($(#[$doc:meta])* $name:ident: $write:literal, $length:expr;)*) => {
        $($(#[$doc])* #[uprobe]
        pub fn $name(ctx: ProbeContext) -> u32 {
            enter(&ctx, active::MOVING, $write, $length);
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

#[uprobe]
pub fn tls_layer_read(ctx: ProbeContext) -> u32 {
    enter_layer(&ctx, false, false);
    0
}

/// With flags as the fourth argument.
#[uprobe]
pub fn tls_layer_receive(ctx: ProbeContext) -> u32 {
    enter_layer(&ctx, false, ctx.arg::<u64>(3).unwrap_or(0) & PR_MSG_PEEK != 0);
    0
}

#[uprobe]
pub fn tls_layer_write(ctx: ProbeContext) -> u32 {
    enter_layer(&ctx, true, false);
    0
}

#[uprobe]
pub fn tls_flush(ctx: ProbeContext) -> u32 {
    enter(&ctx, active::FLUSHING, true, None);
    0
}

/// On the end of a function that flushes, whichever way it is seen.
#[uprobe]
pub fn tls_flushed(_ctx: ProbeContext) -> u32 {
    flushed();
    0
}

#[uretprobe]
pub fn tls_flushed_return(_ctx: RetProbeContext) -> u32 {
    flushed();
    0
}

/// On an instruction behind the inner call, with its result still in the result register.
#[uprobe]
pub fn tls_result(ctx: ProbeContext) -> u32 {
    // SAFETY: a probe's context is its registers.
    let result = unsafe { registers::result(ctx.as_ptr() as *const pt_regs) };
    exit(result as i32, cookie(ctx.as_ptr()), false);
    0
}

/// On the return of a function.
#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    exit(ctx.ret(), cookie(ctx.as_ptr()), false);
    0
}

/// On the return of a function that was given pieces.
#[uretprobe]
pub fn tls_return_pieces(ctx: RetProbeContext) -> u32 {
    exit(ctx.ret(), cookie(ctx.as_ptr()), true);
    0
}

#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    forget(&ctx);
    0
}
