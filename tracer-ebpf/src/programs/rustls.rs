//! rustls: records that it encrypts and decrypts.
//!
//! A session of rustls is a value that programs move, and its plaintext and its socket are handled by separate calls.
//! But each direction has a boxed cipher (`Box<dyn MessageEncrypter>`, `Box<dyn MessageDecrypter>`, rustls's
//! src/crypto/cipher.rs), which stays where it is, and whose methods are given the record's number: with number 0 a key
//! is new, and so is whatever has been at this address.
//!
//! Both directions are bound on their own, by ciphertext: the head of a record that was made is the head of a piece that
//! a socket sends; the end of a record that is opened is what a socket has received last, or a socket has received the
//! record's beginning as the beginning of something. What has moved before is held by user space until then, and never
//! shown if it is never bound, or so late that the other direction has gone on: a response must not come before its
//! request.
//!
//! Where Rust puts the fields of these structures is its compiler's choice. What is found there must be a record by all
//! that is known of one; what is not is counted and left out, and so is all of a session whose ciphertext no socket
//! carries.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_ebpf::tls::{HEAD, is_record};
use tracer_ebpf::{Data, Header, Released, SessionKey, Socket, flag, kind, program, socket_flag, switch};

use crate::buffers::Buffers;
use crate::counters::{count, hit};
use crate::entries::Entries;
use crate::maps::{
    RUSTLS_CALLS, RUSTLS_HALVES, RUSTLS_MADE, RUSTLS_POSITIONS, RUSTLS_PROCESSES, RUSTLS_RECEIVED, SOCKETS, SWITCHES,
};
use crate::memory::user;
use crate::ship::{self, LookForTls};
use crate::source::Source;
use crate::transfer::{MSG_PEEK, Transfer};
use crate::{registers, shed, socket, tls, transfer};

/// Bytes of a record's head (RFC 8446, section 5.1).
const RECORD_HEAD: u64 = 5;
/// Bytes of an authentication tag, which ends every record of the ciphers that rustls has.
const TAG: u64 = 16;
/// What TLS 1.3 adds to a plaintext: its type and the tag (RFC 8446, section 5.2).
const ADDED_1_3: u64 = 1 + TAG;
/// What AES-GCM adds in TLS 1.2: a nonce in front and the tag (RFC 5288, section 3).
const ADDED_GCM: u64 = NONCE + TAG;
const NONCE: u64 = 8;
/// The longest plaintext and what a record may be longer (RFC 8446, section 5.2).
const LONGEST: u64 = 1 << 14;
const LONGEST_ADDED: u64 = 256;
/// Records that a gap is made for at most.
const MOST_MISSED: u64 = 1 << 16;

/// rustls's `ContentType` as a variant: its number in the order of declaration (src/enums.rs).
const ALERT: u8 = 1;
const APPLICATION_DATA: u8 = 3;
/// Where these numbers begin on the wire.
const WIRE_BASE: u8 = 20;
/// The same of `ProtocolVersion`: TLS 1.2 and 1.3.
const TLS_1_2: u16 = 4;
const TLS_1_3: u16 = 5;

/// What a message is: the end of `OutboundPlainMessage` and `InboundPlainMessage`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Type {
    content: u8,
    unknown_content: u8,
    version: u16,
    unknown_version: u16,
}

impl Type {
    #[inline(always)]
    fn is_known(&self) -> bool {
        matches!(self.content, ALERT..=APPLICATION_DATA) && matches!(self.version, TLS_1_2 | TLS_1_3)
    }
}

/// `OutboundPlainMessage`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Outbound {
    /// `OutboundChunks`: the first word is 0 for a single slice, whose address and length are next; else it is the address
    /// of a slice of slices, then their number, and from where to where.
    chunks: [u64; 4],
    kind: Type,
}

/// `InboundOpaqueMessage`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Inbound {
    payload: u64,
    length: u64,
}

/// `Result<InboundPlainMessage, Error>` that is no error. An error begins with its number (src/error.rs), what is none
/// with the number behind that of the last one, which depends on the version.
#[repr(C)]
#[derive(Clone, Copy)]
struct Opened {
    tag: u64,
    payload: u64,
    length: u64,
    kind: Type,
}

/// `Result<OutboundOpaqueMessage, Error>` that is no error.
#[repr(C)]
#[derive(Clone, Copy)]
struct Made {
    tag: u64,
    capacity: u64,
    record: u64,
    length: u64,
    version: u16,
    unknown_version: u16,
    content: u8,
}

/// One direction of a session; value of the map of halves, by its cipher.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Half {
    /// The connection; 0: not known yet.
    connection: u64,
    /// The number that its bytes are held by.
    hold: u64,
    /// Bytes held, and since when.
    held: u64,
    since: u64,
    /// Records that were missed before it.
    missed: u64,
    /// The number of the next record.
    next: u64,
    cookie: u64,
}

/// The call that a thread is in; value of the map of calls.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    half: u64,
    sequence: u64,
    /// Where its result is put.
    result: u64,
    /// Where the return address is.
    stack: u64,
    entered: u64,
    /// Where the plaintext is, of what is encrypted.
    plaintext: Buffers,
    /// How long it is; of what is decrypted, how long the ciphertext is.
    length: u64,
    /// Address of the ciphertext that is decrypted.
    payload: u64,
    /// Of what is encrypted: its type; 0: it is none.
    content: u64,
    /// Of what is decrypted: its end, and what is behind a nonce's length.
    marks: [Mark; 2],
}

/// Bytes of ciphertext that are like no others: they are random to all but who has the key.
pub type Mark = [u64; TAG as usize / 8];

/// Ciphertext that a process's sockets have received.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ReceivedKey {
    tgid: u64,
    mark: Mark,
}

/// By whom.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Received {
    connection: u64,
    socket: u64,
}

/// As much of a record as the shortest that carries anything has: head, a byte, its type and the tag.
const MADE: usize = 22;

/// The beginning of a record that was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MadeKey {
    tgid: u64,
    head: [u8; 24],
}

/// For whom.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MadeFor {
    half: u64,
    hold: u64,
}

/// How far a connection has come in one direction, whatever its keys were; value of the map of positions.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Position {
    bytes: u64,
    /// When it last moved.
    time: u64,
}

/// Of which connection, in which direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PositionKey {
    connection: u64,
    write: u64,
}

/// Whether a process has probes in rustls.
#[inline(always)]
fn is_ready(pid_tgid: u64) -> bool {
    // Every transfer of every traced process asks, and most machines trace no rustls at all.
    let any = SWITCHES.get(switch::RUSTLS).is_some_and(|&any| any != 0);
    // SAFETY: presence only, the value is not read.
    any && unsafe { RUSTLS_PROCESSES.get(&((pid_tgid >> 32) as u32)) }.is_some()
}

#[inline(always)]
fn enter(ctx: &ProbeContext, write: bool) {
    hit(program::TLS_ENTER);
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    let mut call = Call {
        result: ctx.arg(0).unwrap_or(0),
        half: ctx.arg(1).unwrap_or(0),
        sequence: ctx.arg(3).unwrap_or(0),
        stack,
        entered: ship::now(),
        ..Call::default()
    };
    let message: u64 = ctx.arg(2).unwrap_or(0);
    if write {
        outbound(&mut call, message)
    } else {
        inbound(&mut call, message, pid_tgid)
    }
    RUSTLS_CALLS.put(&pid_tgid, &call, 0);
}

#[inline(always)]
fn outbound(call: &mut Call, message: u64) {
    let Some(message) = user::<Outbound>(message) else { return };
    let [first, second, third, fourth] = message.chunks;
    if first == 0 {
        call.length = third;
        call.plaintext = Buffers::single(second, third);
    } else {
        call.length = fourth - third;
        // A slice is an address and a length, as a `struct iovec` is.
        call.plaintext = Buffers { skip: third, ..Buffers::vector(first, second) };
    }
    call.content = if message.kind.is_known() { u64::from(message.kind.content) } else { 0 };
}

#[inline(always)]
fn inbound(call: &mut Call, message: u64, pid_tgid: u64) {
    let Some(message) = user::<Inbound>(message) else { return };
    call.payload = message.payload;
    call.length = message.length;
    let key = SessionKey { tgid: pid_tgid >> 32, session: call.half };
    // SAFETY: an element of our map.
    let half = unsafe { RUSTLS_HALVES.get(&key) };
    let bound = half.is_some_and(|half| half.connection != 0 && half.next == call.sequence && call.sequence != 0);
    if !bound && message.length > TAG && message.length <= LONGEST + LONGEST_ADDED {
        call.marks[0] = user(message.payload + message.length - TAG).unwrap_or_default();
        if message.length >= NONCE + TAG {
            call.marks[1] = user(message.payload + NONCE).unwrap_or_default();
        }
    }
}

/// What a call has made of a record.
struct Record {
    content: u8,
    /// The type that its head will say.
    wire: u8,
    /// How much plaintext.
    length: u64,
    /// What is encrypted: the address of the ciphertext, behind the room for its head, and its length.
    ciphertext: u64,
    ciphertext_length: u64,
}

#[inline(always)]
fn exit(ctx: &RetProbeContext, write: bool) {
    hit(program::TLS_EXIT);
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(call) = RUSTLS_CALLS.get_ptr_mut(&pid_tgid) else { return };
    // SAFETY: an element of our map that only this thread uses.
    let call = unsafe { &mut *call };
    // SAFETY: a probe's context is its registers.
    let stack = unsafe { registers::stack(ctx.as_ptr() as *const pt_regs) };
    // The call has taken its return address from the stack.
    let tgid = (pid_tgid >> 32) as u32;
    if call.stack + 8 != stack || !socket::is_traced(tgid) {
        return;
    }
    call.stack = 0;
    // SAFETY: copied at once.
    let Some(&[opened_ok, made_ok]) = (unsafe { RUSTLS_PROCESSES.get(&tgid) }) else { return };
    let ok = if write { made_ok } else { opened_ok };
    let Some(tag) = user::<u8>(call.result) else { return };
    if tag < ok {
        // An error: no record was made or opened, and the next has the same number.
        return;
    }
    let record = if write { made(call) } else { opened(call) };
    let Some(record) = record.filter(|_| tag == ok) else {
        count(|counters| counters.records_unverified += 1);
        return;
    };
    let cookie = tls::cookie(ctx.as_ptr());
    let Some(half) = half(call, pid_tgid, cookie) else { return };
    half.next = call.sequence + 1;
    if half.connection == 0 {
        if write {
            remember(&record, call, half, pid_tgid);
        } else {
            recognise(call, pid_tgid);
        }
    }
    if record.content == APPLICATION_DATA && record.length != 0 {
        moved(call, half, record.length, write, pid_tgid);
    }
}

/// The record that a call has encrypted, if it is one.
#[inline(always)]
fn made(call: &Call) -> Option<Record> {
    let made: Made = user(call.result)?;
    let length = call.length;
    let added = made.length.wrapping_sub(RECORD_HEAD + length);
    let content = call.content as u8;
    let wire = if added == ADDED_1_3 { APPLICATION_DATA } else { content };
    let is_one = made.version == TLS_1_2 && made.content == wire;
    let fits = length <= LONGEST && made.capacity >= made.length && matches!(added, TAG | ADDED_1_3 | ADDED_GCM);
    let ciphertext = made.record + RECORD_HEAD;
    (is_one && fits && content != 0).then_some(Record {
        content,
        wire,
        length,
        ciphertext,
        ciphertext_length: length + added,
    })
}

/// The record that a call has decrypted, if it is one; notes where the plaintext is.
#[inline(always)]
fn opened(call: &mut Call) -> Option<Record> {
    let opened: Opened = user(call.result)?;
    let shift = opened.payload.wrapping_sub(call.payload);
    let fits = call.length <= LONGEST + LONGEST_ADDED && opened.length <= LONGEST && opened.length + TAG <= call.length;
    call.plaintext = Buffers::single(opened.payload, opened.length);
    (opened.kind.is_known() && fits && (shift == 0 || shift == NONCE)).then_some(Record {
        content: opened.kind.content,
        wire: 0,
        length: opened.length,
        ciphertext: call.payload,
        ciphertext_length: call.length,
    })
}

/// The direction that a call is on.
#[inline(always)]
fn half(call: &Call, pid_tgid: u64, cookie: u64) -> Option<&'static mut Half> {
    let key = SessionKey { tgid: pid_tgid >> 32, session: call.half };
    let known = RUSTLS_HALVES.get_ptr_mut(&key);
    // SAFETY: an element of our map; a cipher is used by one call at a time.
    let goes_on = known.is_some_and(|half| unsafe { call.sequence != 0 && (*half).next == call.sequence });
    if !goes_on {
        renew(&key, call.sequence, cookie);
    }
    // SAFETY: as above.
    RUSTLS_HALVES.get_ptr_mut(&key).map(|half| unsafe { &mut *half })
}

/// A direction with a new key, or one of which records have been missed: what is at its cipher's address may be another.
#[inline(never)]
fn renew(key: &SessionKey, sequence: u64, cookie: u64) -> u32 {
    let mut missed = sequence;
    if let Some(half) = RUSTLS_HALVES.get_ptr_mut(key) {
        // SAFETY: an element of our map; a cipher is used by one call at a time.
        let half = unsafe { &mut *half };
        if sequence > half.next {
            missed -= half.next;
        }
        if half.held != 0 {
            missed += 1;
            let mut released = Released { call: half.hold, ..Released::default() };
            released.data.header.kind = kind::RELEASED;
            let _ = ship::plain(&released);
        }
    }
    let new = Half { hold: socket::new_id(), missed, next: sequence, cookie, ..Half::default() };
    RUSTLS_HALVES.put(key, &new, 0);
    0
}

/// Remembers how a record begins that has been made. Not inlined, as the others below: the stack is small.
#[inline(never)]
fn remember(record: &Record, call: &Call, half: &Half, pid_tgid: u64) -> u32 {
    let Some(start) = user::<[u8; MADE - RECORD_HEAD as usize]>(record.ciphertext) else { return 0 };
    let mut key = MadeKey { tgid: pid_tgid >> 32, head: [0; 24] };
    key.head[0] = WIRE_BASE + record.wire;
    key.head[1] = 3;
    key.head[2] = 3;
    key.head[3] = (record.ciphertext_length >> 8) as u8;
    key.head[4] = record.ciphertext_length as u8;
    key.head[RECORD_HEAD as usize..MADE].copy_from_slice(&start);
    RUSTLS_MADE.put(&key, &MadeFor { half: call.half, hold: half.hold }, 0);
    0
}

/// Looks for the socket that has received a record.
#[inline(always)]
fn recognise(call: &Call, pid_tgid: u64) {
    let tgid = pid_tgid >> 32;
    let found = received(tgid, &call.marks[0]).or_else(|| received(tgid, &call.marks[1]));
    let Some(Received { connection, socket: sk }) = found else { return };
    let Some(socket) = SOCKETS.get_ptr_mut(&sk) else { return };
    // SAFETY: an element of our map, whose flags only ever get set.
    let socket = unsafe { &mut *socket };
    if socket.id == connection {
        carry(sk, socket, program::TLS_EXIT, pid_tgid);
        bind(call.half, connection, false, pid_tgid);
    }
}

#[inline(always)]
fn received(tgid: u64, mark: &Mark) -> Option<Received> {
    if mark[0] | mark[1] == 0 {
        // There is none; and what is not ciphertext may be nothing but zeros.
        return None;
    }
    let key = ReceivedKey { tgid, mark: *mark };
    // SAFETY: copied at once.
    unsafe { RUSTLS_RECEIVED.get(&key) }.copied()
}

/// A socket carries a session.
#[inline(always)]
fn carry(sk: u64, socket: &mut Socket, program: usize, pid_tgid: u64) {
    socket.flags |= socket_flag::TLS;
    if !shed::takes_socket(socket) {
        socket::announce(sk, socket, program, pid_tgid);
    }
}

/// The connection of a direction has been found: what is held of it can be shown.
#[inline(never)]
fn bind(cipher: u64, connection: u64, write: bool, pid_tgid: u64) -> u32 {
    let key = SessionKey { tgid: pid_tgid >> 32, session: cipher };
    let Some(half) = RUSTLS_HALVES.get_ptr_mut(&key) else { return 0 };
    // SAFETY: an element of our map; what is sent is sent by who encrypts, or has been told to.
    let half = unsafe { &mut *half };
    half.connection = connection;
    miss(half, write);
    let held = half.held;
    if held == 0 {
        return 0;
    }
    half.held = 0;
    let other = PositionKey { connection, write: u64::from(!write) };
    // SAFETY: copied at once.
    let is_late = unsafe { RUSTLS_POSITIONS.get(&other) }.is_some_and(|other| other.time > half.since);
    let data = advance(half, held, write, pid_tgid).filter(|data| !is_late && !shed::takes(data.header.connection));
    let mut released = Released { data: data.unwrap_or_default(), call: half.hold };
    released.data.header.kind = kind::RELEASED;
    let _ = ship::plain(&released);
    1
}

/// How far a connection has come in one direction.
#[inline(always)]
fn position(connection: u64, write: bool) -> Option<&'static mut Position> {
    let key = PositionKey { connection, write: u64::from(write) };
    let position = RUSTLS_POSITIONS.get_ptr_mut(&key).or_else(|| {
        if RUSTLS_POSITIONS.put(&key, &Position::default(), 0) { RUSTLS_POSITIONS.get_ptr_mut(&key) } else { None }
    })?;
    // SAFETY: an element of our map; a direction is used by one call at a time.
    Some(unsafe { &mut *position })
}

/// Leaves a gap where records of a connection that was seen before have been missed. How long they were is not known;
/// this is the most.
#[inline(always)]
fn miss(half: &Half, write: bool) {
    if half.missed != 0
        && let Some(position) = position(half.connection, write)
        && position.bytes != 0
    {
        position.bytes += half.missed.min(MOST_MISSED) * LONGEST;
    }
}

/// The event of plaintext that is on a connection, with its place there.
#[inline(always)]
fn advance(half: &Half, length: u64, write: bool, pid_tgid: u64) -> Option<Data> {
    let counter = position(half.connection, write)?;
    let now = ship::now();
    let place = counter.bytes;
    *counter = Position { bytes: place + length, time: now };
    let header = Header {
        kind: kind::DATA,
        program: half.cookie as u8,
        flags: flag::TLS | flag::BY_CIPHERTEXT | if write { flag::WRITE } else { 0 },
        captured: 0,
        time: now,
        pid_tgid,
        connection: half.connection,
    };
    Some(Data { header, position: place, length: length as u32, elapsed: 0 })
}

/// Plaintext has moved.
#[inline(always)]
fn moved(call: &Call, half: &mut Half, length: u64, write: bool, pid_tgid: u64) {
    count(|counters| counters.bytes_seen += length);
    let data =
        if half.connection == 0 { hold(half, length, write, pid_tgid) } else { advance(half, length, write, pid_tgid) };
    let Some(mut data) = data else {
        count(|counters| counters.bytes_lost_map_full += length);
        return;
    };
    if half.connection != 0 && shed::takes(half.connection) {
        return shed::bytes(length);
    }
    if write {
        data.elapsed = (data.header.time - call.entered) as u32;
    }
    let _ = transfer::parts(&mut data, &call.plaintext, LookForTls::No);
}

/// The event of plaintext whose connection is not known yet.
#[inline(always)]
fn hold(half: &mut Half, length: u64, write: bool, pid_tgid: u64) -> Option<Data> {
    let header = Header {
        kind: kind::HELD,
        program: program::TLS_EXIT as u8,
        flags: flag::TLS | if write { flag::WRITE } else { 0 },
        captured: 0,
        time: ship::now(),
        pid_tgid,
        connection: half.hold,
    };
    let position = half.held;
    if position == 0 {
        half.since = header.time;
    }
    half.held += length;
    Some(Data { header, position, length: length as u32, elapsed: 0 })
}

/// Whether a transfer has sent a record that was made for a session, which is then on this connection; takes note of
/// what it has received.
#[inline(always)]
pub fn carries<S: Source>(transfer: &Transfer, pid_tgid: u64, connection: u64, source: S) -> bool {
    if transfer.result < MADE as i32 || transfer.flags & MSG_PEEK != 0 || !is_ready(pid_tgid) {
        return false;
    }
    if transfer.write {
        return sent(source, pid_tgid, connection) != 0;
    }
    take_note(source, transfer.result as u64, transfer.sk, connection, pid_tgid);
    false
}

/// Pieces of a send that are looked at: rustls sends each record as one.
#[inline(never)]
fn sent<S: Source>(source: S, pid_tgid: u64, connection: u64) -> u32 {
    let Some(mut buffers) = source.glance() else { return 0 };
    let mut found = 0;
    // All of them: the first records of a new key follow the last ones of the old.
    macro_rules! pieces {
        ($($_number:literal)*) => {
            $(
                let _ = $_number;
                found |= piece(&mut buffers, pid_tgid, connection);
            )*
        };
    }
    pieces! { 1 2 3 4 }
    found
}

#[inline(always)]
fn piece(buffers: &mut Buffers, pid_tgid: u64, connection: u64) -> u32 {
    if !buffers.advance() || buffers.current.length < MADE as u64 {
        buffers.current.length = 0;
        return 0;
    }
    let cipher = made_by(buffers.current.base, pid_tgid);
    buffers.current.length = 0;
    if cipher == 0 {
        return 0;
    }
    // Not from within the other: the stack is small.
    bind(cipher, connection, true, pid_tgid);
    1
}

/// The cipher that has made a record that no socket has sent before, if its connection is not known; else 0.
#[inline(never)]
fn made_by(address: u64, pid_tgid: u64) -> u64 {
    let Some(head) = user::<[u8; MADE]>(address) else { return 0 };
    let mut key = MadeKey { tgid: pid_tgid >> 32, head: [0; 24] };
    key.head[..MADE].copy_from_slice(&head);
    // SAFETY: copied at once.
    let Some(&MadeFor { half, hold }) = (unsafe { RUSTLS_MADE.get(&key) }) else { return 0 };
    RUSTLS_MADE.take(&key);
    let key = SessionKey { tgid: pid_tgid >> 32, session: half };
    // SAFETY: copied at once.
    let known = unsafe { RUSTLS_HALVES.get(&key) };
    if known.is_some_and(|known| known.hold == hold && known.connection == 0) { half } else { 0 }
}

/// Remembers what a socket has received: its end, and where a record begins it, that.
#[inline(never)]
fn take_note<S: Source>(source: S, length: u64, sk: u64, connection: u64, pid_tgid: u64) -> u32 {
    let Some(mut buffers) = source.glance() else { return 0 };
    if !buffers.advance() || buffers.current.length < length {
        return 0;
    }
    let (base, tgid) = (buffers.current.base, pid_tgid >> 32);
    let received = Received { connection, socket: sk };
    if let Some(mark) = user::<Mark>(base + length - TAG) {
        RUSTLS_RECEIVED.put(&ReceivedKey { tgid, mark }, &received, 0);
    }
    let begins = user::<[u8; HEAD]>(base).is_some_and(|head| is_record(&head));
    if begins && length >= RECORD_HEAD + NONCE + TAG {
        if let Some(mark) = user::<Mark>(base + RECORD_HEAD + NONCE) {
            RUSTLS_RECEIVED.put(&ReceivedKey { tgid, mark }, &received, 0);
        }
    }
    0
}

#[uprobe]
pub fn rustls_encrypt(ctx: ProbeContext) -> u32 {
    enter(&ctx, true);
    0
}

#[uprobe]
pub fn rustls_decrypt(ctx: ProbeContext) -> u32 {
    enter(&ctx, false);
    0
}

#[uretprobe]
pub fn rustls_encrypted(ctx: RetProbeContext) -> u32 {
    exit(&ctx, true);
    0
}

#[uretprobe]
pub fn rustls_decrypted(ctx: RetProbeContext) -> u32 {
    exit(&ctx, false);
    0
}
