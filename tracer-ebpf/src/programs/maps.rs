//! Maps. Sizes are set by user space when it loads the object.

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::macros::btf_map;
use tracer_ebpf::{Counters, GoroutineKey, Session, SessionKey, Socket};

use crate::ciphertext::{Fingerprint, Made};
use crate::datagram::Pending;
use crate::rustls;
use crate::tls::Thread;

#[btf_map]
pub static EVENTS: RingBuf<u8, { 1 << 24 }> = RingBuf::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
/// Traced processes by thread group id, with bits of [`tracer_ebpf::process_flag`].
#[btf_map]
pub static PROCESSES: HashMap<u32, u32, 16384> = HashMap::new();
/// By the last bits of a process id ([`tracer_ebpf::may_be_traced`]), whether a process of such an id has ever been
/// traced. The hooks of sockets run for every process of the machine, and an array costs those that are not traced a
/// tenth of what a hash map would.
#[btf_map]
pub static MAY_BE_TRACED: Array<u32, { tracer_ebpf::MAY_BE_TRACED as usize }> = Array::new();
/// Sockets of traced processes by the address of their `struct sock`.
#[btf_map]
pub static SOCKETS: HashMap<u64, Socket, 65536> = HashMap::new();
/// Sockets made by accept, of any process, that nothing has been seen on yet.
#[btf_map]
pub static ACCEPTED: LruHashMap<u64, u32, 16384> = LruHashMap::new();
#[btf_map]
pub static SESSIONS: HashMap<SessionKey, Session, 65536> = HashMap::new();
/// File descriptors that sessions have been told.
#[btf_map]
pub static DESCRIPTORS: LruHashMap<SessionKey, i32, 16384> = LruHashMap::new();
/// By process, from where to where it has its TLS library, for libraries whose functions serve other files too.
#[btf_map]
pub static LAYERS: HashMap<u32, [u64; 2], 16384> = HashMap::new();
/// Threads that have made a TLS call.
#[btf_map]
pub static THREADS: HashMap<u64, Thread, 16384> = HashMap::new();
/// Processes that have all their probes in Go's crypto/tls: where the code of `net.(*TCPConn).Read` is; 0: not known.
#[btf_map]
pub static GO_PROCESSES: HashMap<u32, u64, 16384> = HashMap::new();
/// Goroutines that are in a TLS call.
#[btf_map]
pub static GOROUTINES: HashMap<GoroutineKey, crate::go::Call, 65536> = HashMap::new();
/// Heads of ciphertext that a TLS library has made and no socket has carried yet.
#[btf_map]
pub static FINGERPRINTS: LruHashMap<Fingerprint, Made, 8192> = LruHashMap::new();
/// Processes that have all their probes in rustls, and what results of decrypting and encrypting begin with if no errors.
#[btf_map]
pub static RUSTLS_PROCESSES: HashMap<u32, [u8; 2], 16384> = HashMap::new();
/// Calls of rustls's ciphers under way, by thread.
#[btf_map]
pub static RUSTLS_CALLS: LruHashMap<u64, rustls::Call, 16384> = LruHashMap::new();
/// Directions of sessions, by the address of their cipher.
#[btf_map]
pub static RUSTLS_HALVES: LruHashMap<SessionKey, rustls::Half, 65536> = LruHashMap::new();
/// How far connections have come in each direction.
#[btf_map]
pub static RUSTLS_POSITIONS: LruHashMap<rustls::PositionKey, rustls::Position, 65536> = LruHashMap::new();
/// Beginnings of records that were made and that no socket has sent yet.
#[btf_map]
pub static RUSTLS_MADE: LruHashMap<rustls::MadeKey, rustls::MadeFor, 8192> = LruHashMap::new();
/// Ciphertext that sockets have received.
#[btf_map]
pub static RUSTLS_RECEIVED: LruHashMap<rustls::ReceivedKey, rustls::Received, 8192> = LruHashMap::new();
/// Datagram calls whose end has to be awaited, by thread.
#[btf_map]
pub static PENDING: HashMap<u64, Pending, 4096> = HashMap::new();
/// Socket calls under way, by thread (fentry and kprobe sources).
#[btf_map]
pub static CALLS: HashMap<u64, crate::source::Call, 16384> = HashMap::new();
/// `sendmmsg` calls under way, by thread (syscall source).
#[btf_map]
pub static MESSAGES_SENT: HashMap<u64, crate::source::MessagesSent, 4096> = HashMap::new();
/// What user space switches: [`tracer_ebpf::switch`].
#[btf_map]
pub static SWITCHES: Array<u32, { tracer_ebpf::switch::COUNT }> = Array::new();
/// For tail calls that are never made ([`crate::stack`]).
#[btf_map]
pub static NO_PROGRAMS: ProgramArray<1> = ProgramArray::new();
