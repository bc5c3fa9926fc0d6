//! One request and its response.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};

use rustls::{ConnectionCommon, SideData, StreamOwned};

use crate::asked::{Asked, body};
use crate::log::{Log, ends};

/// Makes a request.
pub fn ask<C, S>(session: &mut StreamOwned<C, TcpStream>, asked: &Asked, log: &Log)
where
    C: DerefMut + Deref<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let Asked { path, sends, wants } = asked;
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nx-wants: {wants}\r\ncontent-length: {sends}\r\n\r\n");
    // Head and body in one call, and so in pieces of one record, or each in its own.
    if sends % 2 == 0 {
        session.write_all(&[head.as_bytes(), &body(*sends)].concat()).expect("the server reads");
    } else {
        let body = body(*sends);
        let pieces = [std::io::IoSlice::new(head.as_bytes()), std::io::IoSlice::new(&body[..1])];
        let written = session.conn.writer().write_vectored(&pieces).expect("the server reads");
        assert_eq!(written, head.len() + 1);
        session.write_all(&body[1..]).expect("the server reads");
    }
    session.flush().expect("the server reads");
    let (_, length) = receive(session).expect("the server answers");
    assert_eq!(length, *wants);
    log.write("client", &ends(session.sock.local_addr(), session.sock.peer_addr()), ("1.1", path), [*sends, length]);
}

/// Answers a request; `None`: there was none.
pub fn answer<C, S>(session: &mut StreamOwned<C, TcpStream>, log: &Log) -> Option<()>
where
    C: DerefMut + Deref<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let (head, length) = receive(session)?;
    let wants: usize = field(&head, "x-wants: ").parse().expect("a number");
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {wants}\r\n\r\n");
    session.write_all(answer.as_bytes()).ok()?;
    session.write_all(&body(wants)).ok()?;
    session.flush().ok()?;
    log.write("server", &ends(session.sock.local_addr(), session.sock.peer_addr()), ("1.1", &path), [length, wants]);
    Some(())
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)).expect("a field")
}

/// Receives a message: its head, and its body's length. `None`: the connection ended.
fn receive(session: &mut impl Read) -> Option<(String, usize)> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 8192]);
    let head = loop {
        match session.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend(&chunk[..count]),
            _ => return None,
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).expect("ASCII");
    let length: usize = field(&text, "content-length: ").parse().expect("a number");
    let mut received = bytes.len() - head;
    while received < length {
        received += session.read(&mut chunk).ok().filter(|count| *count > 0)?;
    }
    assert_eq!(received, length);
    Some((text, length))
}
