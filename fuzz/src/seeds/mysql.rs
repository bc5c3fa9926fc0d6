//! MySQL and MariaDB.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

fn packet(sequence: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32).to_le_bytes()[..3], &[sequence], &body].concat()
}

const OK: &[u8] = &[0, 1, 7, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

fn greeting() -> Vec<u8> {
    let head = [&b"\x0a8.0.36\0"[..], &[77, 0, 0, 0], b"saltsalt\0", &[0xff, 0xff, 45, 2, 0, 0xff, 0xff, 21], &[0; 10]]
        .concat();
    packet(0, &[&head, b"saltsaltsalt\0caching_sha2_password\0"])
}

/// The client's answer to the greeting.
fn login(capabilities: u32) -> Vec<u8> {
    let head = [&capabilities.to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23]].concat();
    packet(1, &[&head, b"ann\0\x04hash", b"shop\0caching_sha2_password\0"])
}

const USUAL: u32 = 1 | 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 19;
const COMPRESS: u32 = 1 << 5;

fn column(name: &str, kind: u8) -> Vec<u8> {
    [
        b"\x03def\0\0\0".to_vec(),
        vec![name.len() as u8],
        name.as_bytes().to_vec(),
        vec![0, 12, 45, 0, 255, 0, 0, 0, kind, 0, 0, 0, 0, 0],
    ]
    .concat()
}

fn opening(capabilities: u32) -> Conversation {
    vec![(S, greeting()), (C, login(capabilities)), (S, packet(2, &[OK]))]
}

pub fn all() -> Vec<(&'static str, Conversation)> {
    let and = |talk: Conversation| opening(USUAL).into_iter().chain(talk).collect::<Conversation>();
    let rows = [
        packet(1, &[&[1]]),
        packet(2, &[&column("a", 253)]),
        packet(3, &[EOF]),
        packet(4, &[b"\x01x"]),
        packet(5, &[b"\xfb"]),
        packet(6, &[EOF]),
    ];
    let prepared = [
        packet(1, &[&[0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]]),
        packet(2, &[&column("?", 253)]),
        packet(3, &[EOF]),
        packet(4, &[&column("a", 3)]),
        packet(5, &[EOF]),
    ];
    let executed = [
        packet(1, &[&[1]]),
        packet(2, &[&column("a", 3)]),
        packet(3, &[EOF]),
        packet(4, &[&[0, 0, 5, 0, 0, 0]]),
        packet(5, &[EOF]),
    ];
    // The compressed protocol with a packet that was left as it is: length, sequence, length before compression.
    let plain = |sequence: u8, packet: Vec<u8>| {
        [&(packet.len() as u32).to_le_bytes()[..3], &[sequence, 0, 0, 0], &packet].concat()
    };
    vec![
        (
            "query",
            and(vec![
                (C, packet(0, &[b"\x03select 'x' from t"])),
                (S, rows.concat()),
                (C, packet(0, &[b"\x03bad"])),
                (S, packet(1, &[b"\xff\x28\x04#42000near bad"])),
                (C, packet(0, &[b"\x01"])),
            ]),
        ),
        (
            "prepared",
            and(vec![
                (C, packet(0, &[b"\x16select a from t where b = ?"])),
                (S, prepared.concat()),
                (C, packet(0, &[b"\x17\x09\0\0\0\0\x01\0\0\0\0\x01\xfd\0\x02hi"])),
                (S, executed.concat()),
                (C, packet(0, &[b"\x19\x09\0\0\0"])),
                (C, packet(0, &[b"\x0e"])),
                (S, packet(1, &[OK])),
            ]),
        ),
        (
            "infile",
            and(vec![
                (C, packet(0, &[b"\x03load data local infile 'f' into table t"])),
                (S, packet(1, &[b"\xfbf"])),
                (C, [packet(2, &[b"1,2\n"]), packet(3, &[])].concat()),
                (S, packet(4, &[OK])),
            ]),
        ),
        (
            "compressed",
            opening(USUAL | COMPRESS)
                .into_iter()
                .chain(vec![(C, plain(0, packet(0, &[b"\x03select 1"]))), (S, plain(1, packet(1, &[OK])))])
                .collect(),
        ),
        (
            "change-user",
            and(vec![
                (C, packet(0, &[b"\x11bob\0\x04hashother\0\x2d\0mysql_native_password\0"])),
                (S, packet(1, &[OK])),
                (C, packet(0, &[b"\x02third"])),
                (S, packet(1, &[OK])),
            ]),
        ),
    ]
}
