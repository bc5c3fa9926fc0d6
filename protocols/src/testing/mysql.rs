//! What MySQL's client and server say, for those who need a session and not its details.

use crate::Side;

/// An OK packet without its head: nothing affected, autocommit.
pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

/// A packet.
pub fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..3], &[sequence], body].concat()
}

/// A login that succeeds: of "ann", to the database "shop".
pub fn login() -> [(Side, Vec<u8>); 3] {
    let greeting = [
        &b"\x0a8.0.36\0\x4d\0\0\0saltsalt\0"[..],
        &[0xff, 0xf7, 45, 2, 0, 0xff, 0xff, 21],
        &[0; 10],
        b"saltsaltsalt\0caching_sha2_password\0",
    ];
    // LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_RESULTS, PLUGIN_AUTH.
    let capabilities: u32 = 1 | 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 19;
    let answer =
        [&capabilities.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23], b"ann\0\x04hashshop\0caching_sha2_password\0"];
    [
        (Side::Server, packet(0, &greeting.concat())),
        (Side::Client, packet(1, &answer.concat())),
        (Side::Server, packet(2, OK)),
    ]
}
