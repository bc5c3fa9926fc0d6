//! TLS library calls: what they carried, and on which socket.
//!
//! While a thread is inside such a call, a socket call on it moves ciphertext of that call's session: that is how a
//! session is bound to its socket ("nested"). Nothing is concluded from time or from what a thread did before.
//!
//! A call may be left without passing its exit (longjmp, an exception), and a thread may go on with another stack while
//! it is in one (a coroutine). So the socket call must be made from below the TLS call on the stack, and near it.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_ebpf::{Bind, Data, Header, Session, SessionKey, flag, kind, program, source, switch};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::entries::Entries;
use crate::maps::{DESCRIPTORS, LAYERS, SESSIONS, SWITCHES, THREADS};
use crate::memory::user;
use crate::ship::{self, LookForTls};
use crate::{config, registers, shed, socket, stack, transfer};

/// `PR_MSG_PEEK` of NSPR (prio.h).
const PR_MSG_PEEK: u64 = 2;

/// The TLS call that a thread or a goroutine is in; value of the thread map.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Thread {
    /// Whether it is in one: 0, or one of [`DATA`], [`HANDSHAKE`] and [`FLUSHING`].
    pub active: u32,
    pub write: u32,
    /// Where the thread's stack ended when the call was entered.
    pub stack: u64,
    pub session: u64,
    pub buffer: u64,
    /// Where the call stores its length; 0: the length is its result.
    pub length: u64,
    /// Id of the connection that a nested socket call used; 0: none yet.
    pub connection: u64,
    /// When the call began, if it writes; otherwise 0.
    pub entered: u64,
    /// Calls inside this one that are none of a TLS session.
    pub inside: u32,
    /// The call's third argument, as far as it counts pieces.
    pub pieces: u32,
    /// [`switch::REMOVALS`] when the call was entered: if it is the same at the end, the process is still traced.
    pub removals: u32,
    pub padding: u32,
}

/// The flag of an insertion that must not replace.
const BPF_NOEXIST: u64 = 1;

/// The thread is in a call that moves plaintext.
pub const DATA: u32 = 1;
/// The thread is in a call that does nothing but the handshake, which may call back into the application: what sockets
/// are used there says nothing.
const HANDSHAKE: u32 = 2;
/// The thread is in a call that sends what was put aside before: the calls inside it move nothing new.
const FLUSHING: u32 = 3;

/// How deep the stack inside of a TLS call is at most where it makes socket calls: libraries themselves need a few
/// kilobytes, an application's own BIO some more.
const DEEP: u64 = 64 * 1024;

impl Thread {
    /// Whether this place of the stack is inside of the call.
    #[inline(always)]
    fn is_around(&self, stack: u64) -> bool {
        stack == 0 || (stack < self.stack && self.stack - stack < DEEP)
    }

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

/// The session whose call this thread is in, of whatever kind, where its stack ends at `stack`.
#[inline(always)]
pub fn session_of_call(pid_tgid: u64, stack: u64) -> Option<SessionKey> {
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { THREADS.get(&pid_tgid) }.filter(|thread| thread.active != 0 && thread.is_around(stack))?;
    Some(SessionKey { tgid: pid_tgid >> 32, session: thread.session })
}

/// A session's entry; a new one if there is none.
#[inline(always)]
pub fn session(key: &SessionKey) -> Option<&'static mut Session> {
    let session = SESSIONS.get_ptr_mut(key).or_else(|| {
        let session = Session { id: socket::new_id(), ..Session::default() };
        // The other direction may do the same at this moment.
        SESSIONS.put(key, &session, BPF_NOEXIST);
        SESSIONS.get_ptr_mut(key)
    })?;
    // SAFETY: an element of our map; a session is used by one call at a time in each direction.
    Some(unsafe { &mut *session })
}

/// Takes note of the connection that a session is on. Where it was known to be on another one, the stronger source
/// wins, and the later of two that are alike: then the session has begun anew.
#[inline(never)]
pub fn learn(session: &mut Session, connection: u64, source: u64, pid_tgid: u64) {
    if session.id == connection {
        session.source = session.source.max(source);
        return;
    }
    if session.source == source::NONE {
        if session.read + session.written > 0 {
            let left_out = if shed::takes(connection) { flag::SHED } else { 0 };
            let (program, flags) = (program::TLS_EXIT as u8, source_flag(source) | left_out);
            let time = ship::now();
            let header = Header { kind: kind::BIND, program, flags, captured: 0, time, pid_tgid, connection };
            let _ = ship::plain(&Bind { header, session: session.id });
        }
        session.id = connection;
        session.source = source;
        return;
    }
    if session.source != source {
        count(|counters| counters.tuple_disagreements += 1);
    }
    if source >= session.source {
        *session = Session { id: connection, source, ..Session::default() };
    }
}

/// Binds the TLS call that this thread is in, if it is in one that moves plaintext, now or from before, at this very
/// moment, to the connection, if that carries ciphertext. Whether it is bound.
#[inline(always)]
pub fn bind(pid_tgid: u64, connection: u64, carries_ciphertext: impl FnOnce() -> bool) -> bool {
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return false };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    let in_call = matches!(thread.active, DATA | FLUSHING) && thread.is_around(registers::user_stack());
    in_call && carries_ciphertext() && thread.bind(connection)
}

#[inline(always)]
fn enter(ctx: &ProbeContext, active: u32, write: bool, length: Option<usize>) {
    hit(program::TLS_ENTER);
    let pid_tgid = bpf_get_current_pid_tgid();
    let thread = THREADS.get_ptr_mut(&pid_tgid).or_else(|| THREADS.place(&pid_tgid, &Thread::default()));
    let Some(thread) = thread else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    let session = ctx.arg(0).unwrap_or(0);
    if thread.session == session {
        if active == HANDSHAKE && thread.active == DATA {
            // BoringSSL makes the handshake inside of the first call that moves data.
            return;
        }
        if thread.active == FLUSHING && thread.is_around(stack) {
            return;
        }
    }
    // A process may have inherited the probe that it has got as well: then this is the same call. And when probes are
    // taken away, entries may be seen for longer than exits.
    let another = thread.active != 0 && (thread.session, thread.stack) != (session, stack);
    if another && socket::is_traced((pid_tgid >> 32) as u32) {
        count(|counters| counters.abandoned_calls += 1);
    }
    *thread = Thread {
        active,
        write: u32::from(write),
        stack,
        session,
        buffer: ctx.arg(1).unwrap_or(0),
        length: length.and_then(|index| ctx.arg(index)).unwrap_or(0),
        connection: 0,
        // How long a read waited for its bytes tells nothing of when they came.
        entered: if write { ship::now() } else { 0 },
        inside: 0,
        pieces: ctx.arg(2).unwrap_or(0),
        removals: removals(),
        padding: 0,
    };
}

/// The same for a function that serves other files too: a session is one whose first word points into the TLS library.
#[inline(always)]
fn enter_layer(ctx: &ProbeContext, write: bool, peeks: bool) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    let methods = ctx.arg(0).and_then(user::<u64>).unwrap_or(0);
    // SAFETY: an element of our map, which user space replaces as a whole.
    let layer = unsafe { LAYERS.get(&tgid) };
    if !peeks && layer.is_some_and(|[start, end]| (*start..*end).contains(&methods)) {
        return enter(ctx, DATA, write, None);
    }
    if let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) {
        // SAFETY: an element of our map that only this thread uses.
        let thread = unsafe { &mut *thread };
        if thread.active != 0 {
            thread.inside += 1;
        }
    }
}

#[inline(always)]
fn exit(result: i32, ctx: *mut c_void, pieces: bool) {
    hit(program::TLS_EXIT);
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(thread) = THREADS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active != DATA {
        return;
    }
    if thread.inside != 0 {
        thread.inside -= 1;
        return;
    }
    thread.active = 0;
    // When probes are taken away, exits of one function may still be seen, and entries of it and exits of another no
    // longer: then the call that is known is not the one that ends here.
    if result <= 0 || !still_traced((pid_tgid >> 32) as u32, thread.removals) {
        return;
    }
    let length = if thread.length == 0 { Some(result as u64) } else { user::<u64>(thread.length) };
    // No call moves more than an event can tell of.
    let Some(length) = length.filter(|length| u32::try_from(*length).is_ok()) else {
        count(|counters| counters.faults += 1);
        return;
    };
    if length > 0 {
        let buffers = if pieces {
            Buffers::narrow_vector(thread.buffer, u64::from(thread.pieces))
        } else {
            Buffers::single(thread.buffer, length)
        };
        moved(thread, pid_tgid, length, cookie(ctx), &buffers);
    }
}

/// Whether a process is traced, as it was when there had been so many removals: the map of processes is asked only if
/// there have been more since.
#[inline(always)]
fn still_traced(tgid: u32, before: u32) -> bool {
    if before == removals() { socket::may_be_traced(tgid) } else { socket::is_traced(tgid) }
}

/// How many times a process has ceased to be traced, whichever it was.
#[inline(always)]
fn removals() -> u32 {
    SWITCHES.get(switch::REMOVALS).copied().unwrap_or(0)
}

/// A call of a kind that moves no data has ended. What it has flushed, if that, leaves its session with the socket that
/// the next call finds.
#[inline(always)]
fn ended(active: u32) {
    hit(program::TLS_EXIT);
    let Some(thread) = THREADS.get_ptr_mut(&bpf_get_current_pid_tgid()) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let thread = unsafe { &mut *thread };
    if thread.active == active {
        thread.active = 0;
    }
}

/// Plaintext has moved.
#[inline(always)]
pub fn moved(thread: &Thread, pid_tgid: u64, length: u64, cookie: u64, buffers: &Buffers) {
    count(|counters| counters.bytes_seen += length);
    let Some(mut data) = advance(thread, pid_tgid, length, cookie) else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    if shed::takes(data.header.connection) {
        return shed::bytes(length);
    }
    let _ = transfer::parts(&mut data, buffers, LookForTls::No);
}

/// The event of plaintext that a call has moved, with its place in the session.
#[inline(always)]
pub fn advance(thread: &Thread, pid_tgid: u64, length: u64, cookie: u64) -> Option<Data> {
    let key = SessionKey { tgid: pid_tgid >> 32, session: thread.session };
    let session = session(&key)?;
    if thread.connection != 0 {
        learn(session, thread.connection, source::NESTED, pid_tgid);
    }
    let write = thread.write != 0;
    let counter = if write { &mut session.written } else { &mut session.read };
    let position = *counter;
    *counter += length;
    let now = ship::now();
    let elapsed = if thread.entered == 0 { 0 } else { (now - thread.entered) as u32 };
    let header = Header {
        kind: kind::DATA,
        program: cookie as u8,
        flags: flag::TLS | if write { flag::WRITE } else { 0 } | source_flag(session.source),
        captured: 0,
        time: now,
        pid_tgid,
        connection: session.id,
    };
    Some(Data { header, position, length: length as u32, elapsed })
}

#[inline(always)]
fn source_flag(source: u64) -> u16 {
    match source {
        source::FD => flag::BY_FD,
        source::CIPHERTEXT => flag::BY_CIPHERTEXT,
        _ => 0,
    }
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
    SESSIONS.take(&key);
    DESCRIPTORS.take(&key);
}

macro_rules! enter_programs {
    ($($(#[$doc:meta])* $name:ident: $active:expr, $write:literal, $length:expr;)*) => {
        $($(#[$doc])* #[uprobe]
        pub fn $name(ctx: ProbeContext) -> u32 {
            stack::of_the_thread(&ctx);
            enter(&ctx, $active, $write, $length);
            0
        })*
    };
}

// By direction, and by the argument that points to where the length is stored.
enter_programs! {
    tls_read: DATA, false, None;
    tls_read_rcx: DATA, false, Some(3);
    tls_read_r8: DATA, false, Some(4);
    tls_read_r9: DATA, false, Some(5);
    tls_write: DATA, true, None;
    tls_write_rcx: DATA, true, Some(3);
    tls_write_r8: DATA, true, Some(4);
    tls_write_r9: DATA, true, Some(5);
    tls_handshake: HANDSHAKE, true, None;
}

#[uprobe]
pub fn tls_layer_read(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter_layer(&ctx, false, false);
    0
}

/// With flags as the fourth argument.
#[uprobe]
pub fn tls_layer_receive(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter_layer(&ctx, false, ctx.arg::<u64>(3).unwrap_or(0) & PR_MSG_PEEK != 0);
    0
}

#[uprobe]
pub fn tls_layer_write(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter_layer(&ctx, true, false);
    0
}

#[uprobe]
pub fn tls_flush(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    enter(&ctx, FLUSHING, true, None);
    0
}

/// On the end of a function that flushes, whichever way it is seen.
#[uprobe]
pub fn tls_flushed(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    ended(FLUSHING);
    0
}

#[uretprobe]
pub fn tls_flushed_return(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    ended(FLUSHING);
    0
}

/// On an instruction behind the inner call, with its result still in the result register.
#[uprobe]
pub fn tls_result(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    // SAFETY: a probe's context is its registers.
    let result = unsafe { registers::result(ctx.as_ptr() as *const pt_regs) };
    exit(result as i32, ctx.as_ptr(), false);
    0
}

/// On the return of a function.
#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(ctx.ret(), ctx.as_ptr(), false);
    0
}

/// On the return of a function that was given pieces.
#[uretprobe]
pub fn tls_return_pieces(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    exit(ctx.ret(), ctx.as_ptr(), true);
    0
}

/// As [`tls_result`], of a call that does nothing but the handshake.
#[uprobe]
pub fn tls_handshake_result(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    ended(HANDSHAKE);
    0
}

/// As [`tls_return`], likewise.
#[uretprobe]
pub fn tls_handshake_return(ctx: RetProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    ended(HANDSHAKE);
    0
}

#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    forget(ctx.arg(0).unwrap_or(0));
    0
}
