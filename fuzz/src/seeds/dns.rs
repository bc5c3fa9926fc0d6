//! DNS.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

const NAME: &[u8] = b"\x07example\x03org\0";

fn message(id: u8, flags: [u8; 2], counts: [u8; 4], body: &[&[u8]]) -> Vec<u8> {
    let counts: Vec<u8> = counts.iter().flat_map(|count| [0, *count]).collect();
    [&[0, id][..], &flags, &counts, &body.concat()].concat()
}

fn query(id: u8, kind: u8) -> Vec<u8> {
    // With EDNS.
    message(id, [1, 0], [1, 0, 0, 1], &[NAME, &[0, kind, 0, 1], &[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]])
}

/// An answer to a query for this type.
fn answer(id: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let record = [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat();
    message(id, [0x81, 0x80], [1, 1, 0, 0], &[NAME, &[0, kind, 0, 1], &record])
}

pub fn datagrams() -> Conversation {
    vec![
        (C, query(1, 1)),
        (C, query(2, 28)),
        (C, query(3, 16)),
        (C, query(4, 15)),
        (S, answer(2, 28, &[1; 16])),
        (S, answer(1, 1, &[127, 0, 0, 1])),
        (S, answer(3, 16, b"\x05hello")),
        (S, answer(4, 15, b"\0\x0a\x04mail\xc0\x0c")),
        (S, message(9, [0x81, 0x83], [1, 0, 0, 0], &[NAME, &[0, 1, 0, 1]])),
    ]
}

pub fn all() -> Vec<(&'static str, Conversation)> {
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    vec![
        ("tcp", datagrams().into_iter().map(|(side, message)| (side, framed(message))).collect()),
        (
            "transfer",
            vec![(C, framed(query(5, 252))), (S, framed(answer(5, 6, &[0; 22]))), (S, framed(answer(5, 6, &[0; 22])))],
        ),
    ]
}
