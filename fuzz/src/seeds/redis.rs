//! Redis.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

pub fn all() -> Vec<(&'static str, Conversation)> {
    let text = |talk: &[(protocols::Side, &str)]| -> Conversation {
        talk.iter().map(|(side, text)| (*side, text.as_bytes().to_vec())).collect()
    };
    vec![
        (
            "pipelined",
            text(&[
                (C, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$5\r\nBOGUS\r\n"),
                (S, "+OK\r\n$1\r\nv\r\n-ERR unknown command\r\n"),
            ]),
        ),
        (
            "hello",
            text(&[
                (C, "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n"),
                (S, "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
                (C, "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n"),
                (S, ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"),
                (C, "*1\r\n$4\r\nPING\r\n"),
                (S, "+PONG\r\n"),
            ]),
        ),
        (
            "multi",
            text(&[
                (C, "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"),
                (S, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"),
                (
                    C,
                    "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n*1\r\n$4\r\nPING\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
                ),
                (S, "+OK\r\n"),
            ]),
        ),
        (
            "resp3",
            text(&[
                (C, "*2\r\n$4\r\nINFO\r\n$1\r\nx\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n"),
                (
                    S,
                    "*?\r\n:1\r\n$?\r\n;3\r\nabc\r\n;0\r\n,1.5\r\n#t\r\n_\r\n(123\r\n=7\r\ntxt:abc\r\n~1\r\n!3\r\nERR\r\n.\r\n",
                ),
                (S, "|1\r\n+a\r\n+b\r\n$-1\r\n*-1\r\n"),
            ]),
        ),
        (
            "inline",
            text(&[(C, "PING\r\nSET k \"a b\"\r\nMONITOR\r\n"), (S, "+PONG\r\n+OK\r\n+OK\r\n+1.1 [0 x] \"PING\"\r\n")]),
        ),
    ]
}
