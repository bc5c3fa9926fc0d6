//! A client that sends bytes as they are given, and knows exactly what it received.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::process::patience;
use super::wire::Place;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    /// The port at this end, if it has one.
    pub port: Option<u16>,
}

impl Peer {
    /// Connects.
    pub fn connect(place: &Place) -> Self {
        match place {
            Place::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).expect("the server accepts");
                stream.set_nodelay(true).expect("a TCP socket");
                stream.set_read_timeout(Some(patience())).expect("a time");
                let port = stream.local_addr().expect("connected").port();
                Self { stream: Box::new(stream), port: Some(port) }
            }
            Place::Path(path) => {
                let stream = UnixStream::connect(path).expect("the server accepts");
                stream.set_read_timeout(Some(patience())).expect("a time");
                Self { stream: Box::new(stream), port: None }
            }
        }
    }

    /// Sends in one call.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Receives exactly that many bytes.
    pub fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    /// Receives up to the end of a line, which is included.
    pub fn receive_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.receive(1));
        }
        line
    }
}
