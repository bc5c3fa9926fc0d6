//! HTTP/1.

use protocols::Side::{Client as C, Server as S};

use super::Conversation;

pub fn all() -> Vec<(&'static str, Conversation)> {
    let text = |talk: &[(protocols::Side, &str)]| -> Conversation {
        talk.iter().map(|(side, text)| (*side, text.as_bytes().to_vec())).collect()
    };
    vec![
        (
            "keep-alive",
            text(&[
                (C, "GET /a?b=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Basic eDp5\r\n\r\n"),
                (S, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\n\r\nhello"),
                (C, "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
                (S, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            ]),
        ),
        (
            "pipelined",
            text(&[
                (C, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                (S, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.0 304 Not Modified\r\n\r\n"),
            ]),
        ),
        (
            "chunked",
            text(&[
                (
                    C,
                    "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
                ),
                (
                    S,
                    "HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                ),
            ]),
        ),
        ("to-the-end", text(&[(C, "GET / HTTP/1.0\r\n\r\n"), (S, "HTTP/1.0 200 OK\r\n\r\nall the rest")])),
        (
            "connect",
            text(&[
                (C, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
                (S, "HTTP/1.1 200 Connection established\r\n\r\n"),
                (C, "\x16\x03\x01"),
            ]),
        ),
        (
            "websocket",
            text(&[
                (C, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
                (
                    S,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\u{1}\u{2}ab",
                ),
            ]),
        ),
    ]
}
