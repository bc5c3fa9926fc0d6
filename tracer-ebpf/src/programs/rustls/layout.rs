//! Where the values of rustls that its ciphers are given and make have their fields.
//!
//! That is the choice of Rust's compiler. What is found there must be a record by all that is known of one.

use super::Call;
use crate::buffers::Buffers;
use crate::memory::user;

/// Bytes of a record's head (RFC 8446, section 5.1).
pub(super) const RECORD_HEAD: u64 = 5;
/// Bytes of an authentication tag, which ends every record of the ciphers that rustls has.
pub(super) const TAG: u64 = 16;
/// What TLS 1.3 adds to a plaintext: its type and the tag (RFC 8446, section 5.2).
const ADDED_1_3: u64 = 1 + TAG;
/// What AES-GCM adds in TLS 1.2: a nonce in front and the tag (RFC 5288, section 3).
const ADDED_GCM: u64 = NONCE + TAG;
pub(super) const NONCE: u64 = 8;
/// The longest plaintext and what a record may be longer (RFC 8446, section 5.2).
pub(super) const LONGEST: u64 = 1 << 14;
pub(super) const LONGEST_ADDED: u64 = 256;

/// rustls's `ContentType` as a variant: its number in the order of declaration (src/enums.rs).
const ALERT: u8 = 1;
pub(super) const APPLICATION_DATA: u8 = 3;
/// Where these numbers begin on the wire.
pub(super) const WIRE_BASE: u8 = 20;
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
pub(super) struct Inbound {
    pub(super) payload: u64,
    pub(super) length: u64,
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

#[inline(always)]
pub(super) fn outbound(call: &mut Call, message: u64) {
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

/// What a call has made of a record.
pub(super) struct Record {
    pub(super) content: u8,
    /// The type that its head will say.
    pub(super) wire: u8,
    /// How much plaintext.
    pub(super) length: u64,
    /// What is encrypted: the address of the ciphertext, behind the room for its head, and its length.
    pub(super) ciphertext: u64,
    pub(super) ciphertext_length: u64,
}

/// The record that a call has encrypted, if it is one.
#[inline(always)]
pub(super) fn made(call: &Call) -> Option<Record> {
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
pub(super) fn opened(call: &mut Call) -> Option<Record> {
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
