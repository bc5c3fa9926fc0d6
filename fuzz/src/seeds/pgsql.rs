//! PostgreSQL.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0ann\0database\0shop\0\0";
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn opening() -> Conversation {
    let welcome =
        [message(b'R', &[0; 4]), message(b'S', b"server_version\x0015\0"), message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4])];
    vec![(C, startup()), (S, [welcome.concat(), ready()].concat())]
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub fn all() -> Vec<(&'static str, Conversation)> {
    let and = |talk: Conversation| opening().into_iter().chain(talk).collect::<Conversation>();
    let row = message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    let data = message(b'D', b"\0\x01\0\0\0\x015");
    let error = message(b'E', b"SERROR\0C42601\0Mnear bad\0\0");
    let extended = [
        message(b'P', b"s1\0select a from t where b = $1\0\0\x01\0\0\0\x19"),
        message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x02hi\0\0"),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    vec![
        (
            "simple",
            and(vec![
                (C, message(b'Q', b"select 'x'; select 2\0")),
                (S, [row.clone(), data.clone(), message(b'C', b"SELECT 1\0"), message(b'I', b""), ready()].concat()),
                (C, message(b'Q', b"bad\0")),
                (S, [message(b'N', b"SWARNING\0C01000\0Mhm\0\0"), error.clone(), ready()].concat()),
                (C, message(b'X', b"")),
            ]),
        ),
        (
            "extended",
            and(vec![
                (C, extended.concat()),
                (
                    S,
                    [message(b'1', b""), message(b'2', b""), row, data, message(b'C', b"SELECT 1\0"), ready()].concat(),
                ),
                (C, [message(b'C', b"Ss1\0"), message(b'H', b""), message(b'S', b"")].concat()),
                (S, [message(b'3', b""), ready()].concat()),
            ]),
        ),
        (
            "copy",
            and(vec![
                (C, message(b'Q', b"copy t from stdin\0")),
                (S, message(b'G', b"\0\0\x01\0\0")),
                (C, [message(b'd', b"1\n"), message(b'c', b"")].concat()),
                (S, [message(b'C', b"COPY 1\0"), ready()].concat()),
                (C, message(b'Q', b"copy t to stdout\0")),
                (
                    S,
                    [
                        message(b'H', b"\0\0\x01\0\0"),
                        message(b'd', b"1\n"),
                        message(b'c', b""),
                        message(b'C', b"COPY 1\0"),
                        ready(),
                    ]
                    .concat(),
                ),
            ]),
        ),
        (
            "ssl-refused",
            [(C, vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]), (S, b"N".to_vec())].into_iter().chain(opening()).collect(),
        ),
        (
            "function",
            and(vec![
                (C, message(b'F', b"\0\0\0\x07\0\0\0\x01\0\0\0\x01x\0\0")),
                (S, [message(b'V', b"\0\0\0\x01y"), message(b'A', b"\0\0\0\x07chan\0hi\0"), ready()].concat()),
            ]),
        ),
    ]
}
