//! File descriptors that TLS libraries are told: `SSL_set_fd`, `SSL_set_rfd`, `SSL_set_wfd`.
//!
//! The descriptor means a socket now; what the library does with it later, and whether it is still that socket then,
//! is not known. So this is the weakest source ("fd"): a socket call inside of a TLS call overrules it.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::{Session, SessionKey, origin, program, source};

use crate::config;
use crate::counters::hit;
use crate::maps::{DESCRIPTORS, SESSIONS, SOCKETS};
use crate::memory::{kernel, kernel_at};
use crate::socket::{self, Class};

const ESTABLISHED: u8 = 1;

/// `SSL_set_fd(session, descriptor)`
#[uprobe]
pub fn tls_set_fd(ctx: ProbeContext) -> u32 {
    set(&ctx, false);
    0
}

/// `SSL_set_rfd(session, descriptor)` and `SSL_set_wfd`: each for one direction.
#[uprobe]
pub fn tls_set_one_fd(ctx: ProbeContext) -> u32 {
    set(&ctx, true);
    0
}

/// `SSL_clear(session)`: it is for another connection from now on, but keeps its descriptor, which may mean another
/// socket by now. OpenSSL itself calls it when a handshake begins.
#[uprobe]
pub fn tls_clear(ctx: ProbeContext) -> u32 {
    hit(program::TLS_FREE);
    let pid_tgid = bpf_get_current_pid_tgid();
    let key = SessionKey { tgid: pid_tgid >> 32, session: ctx.arg(0).unwrap_or(0) };
    let _ = SESSIONS.remove(&key);
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
        let _ = DESCRIPTORS.remove(&key);
        let _ = SESSIONS.remove(&key);
        return;
    }
    let _ = DESCRIPTORS.insert(&key, &descriptor, 0);
    let connection = connection(descriptor, pid_tgid);
    // SAFETY: copied at once.
    let known = unsafe { SESSIONS.get(&key) }.map_or(0, |session| session.id);
    if known == 0 || known != connection {
        // Whatever it was on before, that is over.
        let _ = SESSIONS.remove(&key);
        begin(&key, connection);
    }
}

/// A session begins on a connection, if there is one.
#[inline(always)]
fn begin(key: &SessionKey, connection: u64) {
    if connection != 0 {
        let session = Session { id: connection, source: source::FD, ..Session::default() };
        let _ = SESSIONS.insert(key, &session, 0);
    }
}

/// The connection that a descriptor of the current process means now; 0: none that is established.
#[inline(always)]
fn connection(descriptor: i32, pid_tgid: u64) -> u64 {
    let Some(sk) = socket_of(descriptor) else { return 0 };
    let class = socket::classify(sk);
    let established = class == Class::Tcp && kernel::<u8>(sk, &config::SOCK_STATE) == ESTABLISHED;
    if !established && class != Class::UnixStream {
        return 0;
    }
    let known = SOCKETS.get_ptr_mut(&sk);
    let adopted = known.or_else(|| socket::adopt(sk, (pid_tgid >> 32) as u32, class, origin::UNKNOWN));
    let Some(socket) = adopted else { return 0 };
    // SAFETY: an element of our map.
    let socket = unsafe { &mut *socket };
    socket::announce(sk, socket, program::TLS_SET_FD, pid_tgid);
    socket.id
}

/// The `struct sock` behind a descriptor, as `sockfd_lookup` finds it (net/socket.c).
#[inline(always)]
fn socket_of(descriptor: i32) -> Option<u64> {
    // SAFETY: takes nothing, always succeeds.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = kernel(task, &config::TASK_FILES);
    let table: u64 = kernel(files, &config::FILES_TABLE);
    let size: u32 = kernel(table, &config::TABLE_SIZE);
    if descriptor < 0 || descriptor as u32 >= size {
        return None;
    }
    let array: u64 = kernel(table, &config::TABLE_FILES);
    let file: u64 = kernel_at(array + 8 * u64::from(descriptor as u32))?;
    let socket: u64 = kernel(file, &config::FILE_PRIVATE);
    // The private data of a file that is no socket is something else, which does not lead back to the file.
    if file == 0 || socket == 0 || kernel::<u64>(socket, &config::SOCKET_FILE) != file {
        return None;
    }
    let sk: u64 = kernel(socket, &config::SOCKET_SK);
    (sk != 0).then_some(sk)
}
