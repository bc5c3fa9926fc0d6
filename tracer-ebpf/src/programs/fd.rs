//! File descriptors that TLS libraries are told: `SSL_set_fd`, `SSL_set_rfd`, `SSL_set_wfd`.
//!
//! The descriptor means a socket now; what the library does with it later, and whether it is still that socket then,
//! is not known. So this is the weakest source ("fd"): a socket call inside of a TLS call overrules it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::{Session, SessionKey, program, source};

use crate::counters::hit;
use crate::entries::Entries;
use crate::maps::{DESCRIPTORS, SESSIONS};
use crate::memory::kernel;
use crate::socket::{self, Class};
use crate::{config, descriptor, stack};

/// `SSL_set_fd(session, descriptor)`
#[uprobe]
pub fn tls_set_fd(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    set(&ctx, false);
    0
}

/// `SSL_set_rfd(session, descriptor)` and `SSL_set_wfd`: each for one direction.
#[uprobe]
pub fn tls_set_one_fd(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    set(&ctx, true);
    0
}

/// `SSL_clear(session)`: it is for another connection from now on, but keeps its descriptor, which may mean another
/// socket by now. OpenSSL itself calls it when a handshake begins.
#[uprobe]
pub fn tls_clear(ctx: ProbeContext) -> u32 {
    stack::of_the_thread(&ctx);
    hit(program::TLS_FREE);
    let pid_tgid = bpf_get_current_pid_tgid();
    let key = SessionKey { tgid: pid_tgid >> 32, session: ctx.arg(0).unwrap_or(0) };
    SESSIONS.take(&key);
    // SAFETY: copied at once.
    if let Some(&descriptor) = unsafe { DESCRIPTORS.get(&key) } {
        begin(&key, connection(descriptor, pid_tgid));
    }
    0
}

#[inline(always)]
fn set(ctx: &ProbeContext, one_direction: bool) {
    hit(program::TLS_SET_FD);
    let pid_tgid = bpf_get_current_pid_tgid();
    let key = SessionKey { tgid: pid_tgid >> 32, session: ctx.arg(0).unwrap_or(0) };
    let descriptor: i32 = ctx.arg(1).unwrap_or(-1);
    // SAFETY: copied at once.
    let before = unsafe { DESCRIPTORS.get(&key) }.copied().unwrap_or(descriptor);
    if one_direction && before != descriptor {
        // One for each direction, or a new one: which of the two is not known yet.
        DESCRIPTORS.take(&key);
        SESSIONS.take(&key);
        return;
    }
    DESCRIPTORS.put(&key, &descriptor, 0);
    let connection = connection(descriptor, pid_tgid);
    // SAFETY: copied at once.
    let known = unsafe { SESSIONS.get(&key) }.map_or(0, |session| session.id);
    if known == 0 || known != connection {
        // Whatever it was on before, that is over.
        SESSIONS.take(&key);
        begin(&key, connection);
    }
}

/// A session begins on a connection, if there is one.
#[inline(always)]
fn begin(key: &SessionKey, connection: u64) {
    if connection != 0 {
        let session = Session { id: connection, source: source::FD, ..Session::default() };
        SESSIONS.put(key, &session, 0);
    }
}

/// The connection that a descriptor of the current process means now; 0: none that is established.
#[inline(always)]
fn connection(descriptor: i32, pid_tgid: u64) -> u64 {
    // A negative one is above all others.
    let sk = descriptor::socket_of(descriptor as u64);
    if sk == 0 {
        return 0;
    }
    let class = socket::classify(sk);
    let established = class == Class::Tcp && kernel::<u8>(sk, &config::SOCK_STATE) == socket::ESTABLISHED;
    if !established && class != Class::UnixStream {
        return 0;
    }
    descriptor::connection(sk, class, pid_tgid, program::TLS_SET_FD).map_or(0, |socket| socket.id)
}
