//! An HTTP client that knows exactly what it sent and received, byte by byte: the second witness beside the access log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::nginx::{Nginx, Scheme};
use super::now_ns;
use super::process::{Server, patience};

/// A request to be sent, with an id in its URL.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    target: String,
    version: &'static str,
    head: String,
    body: Vec<u8>,
    body_bytes: u64,
}

/// What the client did and saw.
#[derive(Clone, Debug)]
pub struct Call {
    /// As sent.
    pub method: &'static str,
    /// As sent: unique.
    pub target: String,
    /// "1.0" or "1.1".
    pub version: &'static str,
    /// Bytes of the request, framing included.
    pub request_bytes: u64,
    /// Bytes of its content, without framing.
    pub request_body_bytes: u64,
    /// Status of the final response.
    pub status: u64,
    /// Bytes of the final response, framing included.
    pub response_bytes: u64,
    /// Bytes of its content: without framing, compressed if it is.
    pub body_bytes: u64,
    /// Bytes of interim responses (1xx).
    pub interim_bytes: u64,
    /// Just before the first byte of the request was sent.
    pub started_ns: u64,
    /// Just after the last byte of the response was received.
    pub finished_ns: u64,
    /// The client's port, if it can be known.
    pub port: Option<u16>,
}

impl Request {
    /// A request for a path, to which an id is added.
    pub fn new(method: &'static str, path: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let target = format!("{path}?id={id}");
        Self { method, target, version: "1.1", head: "Host: localhost\r\n".into(), body: Vec::new(), body_bytes: 0 }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A PUT request of a file of that many bytes.
    pub fn put(bytes: usize) -> Self {
        let mut request = Self::new("PUT", "/upload/file").header(&format!("Content-Length: {bytes}"));
        request.body = content(bytes);
        request.body_bytes = bytes as u64;
        request
    }

    /// A PUT request of a file in chunks of different sizes, with an extension and a trailer.
    pub fn put_chunked(bytes: usize) -> Self {
        let mut request =
            Self::new("PUT", "/upload/file").header("Transfer-Encoding: chunked").header("Trailer: X-Sum");
        request.body_bytes = bytes as u64;
        let content = content(bytes);
        let mut rest = content.as_slice();
        for size in [1, 2, 15, 16, 17, 255, 4096, 100_000].into_iter().cycle() {
            let (chunk, tail) = rest.split_at(rest.len().min(size));
            if chunk.is_empty() {
                break;
            }
            write!(request.body, "{:X};part=\"{size}\"\r\n", chunk.len()).expect("memory");
            request.body.extend_from_slice(chunk);
            request.body.extend_from_slice(b"\r\n");
            rest = tail;
        }
        request.body.extend_from_slice(b"0\r\nX-Sum: none\r\n\r\n");
        request
    }

    /// With a header line.
    pub fn header(mut self, line: &str) -> Self {
        self.head.push_str(line);
        self.head.push_str("\r\n");
        self
    }

    /// As HTTP/1.0.
    pub fn version_1_0(mut self) -> Self {
        self.version = "1.0";
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, target, version, head, body, .. } = self;
        let mut bytes = format!("{method} {target} HTTP/{version}\r\n{head}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

fn content(bytes: usize) -> Vec<u8> {
    // With line ends and what looks like the beginning of a message, which must not mislead anyone.
    b"GET /not-a-request HTTP/1.1\r\n\r\n0\r\n\r\nHTTP/1.1 999 no\r\n".iter().copied().cycle().take(bytes).collect()
}

/// A connection to nginx.
pub struct Client {
    writer: Box<dyn Write>,
    reader: BufReader<Box<dyn Read>>,
    port: Option<u16>,
    _process: Option<Server>,
}

impl Client {
    /// Connects over IPv4, with TLS if nginx is set up so.
    pub fn connect(nginx: &Nginx) -> Self {
        Self::connect_to(nginx, "127.0.0.1")
    }

    /// Connects to one of nginx's addresses.
    pub fn connect_to(nginx: &Nginx, address: &str) -> Self {
        match nginx.config.scheme {
            Scheme::Http => Self::plain(address, nginx.port),
            Scheme::Https => Self::tls(address, nginx.port),
        }
    }

    /// Connects to a port from which something passes everything on to nginx.
    pub fn connect_through(port: u16, nginx: &Nginx) -> Self {
        match nginx.config.scheme {
            Scheme::Http => Self::plain("127.0.0.1", port),
            Scheme::Https => Self::tls("127.0.0.1", port),
        }
    }

    /// Connects to another server, with TLS.
    pub fn to_tls(port: u16) -> Self {
        Self::tls("127.0.0.1", port)
    }

    fn plain(address: &str, port: u16) -> Self {
        let stream = TcpStream::connect((address, port)).expect("cannot connect");
        stream.set_read_timeout(Some(patience())).expect("a time-out");
        let port = stream.local_addr().expect("connected").port();
        let writer = stream.try_clone().expect("a second handle");
        let reader: Box<dyn Read> = Box::new(stream);
        Self { writer: Box::new(writer), reader: BufReader::new(reader), port: Some(port), _process: None }
    }

    /// OpenSSL's s_client carries the bytes.
    fn tls(address: &str, port: u16) -> Self {
        let address = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-servername", "localhost", "-connect", &address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Server::spawn(&mut command, Signal::TERM);
        let writer = Box::new(process.streams().stdin.take().expect("piped"));
        let reader: Box<dyn Read> = Box::new(process.streams().stdout.take().expect("piped"));
        Self { writer, reader: BufReader::new(reader), port: None, _process: Some(process) }
    }

    /// Sends a request and reads its response.
    pub fn call(&mut self, request: Request) -> Call {
        self.pipeline(vec![request]).remove(0)
    }

    /// Sends all requests at once, then reads all responses.
    pub fn pipeline(&mut self, requests: Vec<Request>) -> Vec<Call> {
        let started_ns = now_ns();
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        self.send(&bytes);
        requests.iter().map(|request| self.receive(request, started_ns)).collect()
    }

    /// Sends a request in pieces with a pause after each but the last, and reads its response.
    pub fn call_slowly(&mut self, request: &Request, pieces: usize, pause: Duration) -> Call {
        let started_ns = now_ns();
        let bytes = request.bytes();
        for (index, piece) in bytes.chunks(bytes.len().div_ceil(pieces)).enumerate() {
            if index > 0 {
                std::thread::sleep(pause);
            }
            self.send(piece);
        }
        self.receive(request, started_ns)
    }

    /// Sends a request and does not wait: [`Client::receive`] reads the response.
    pub fn begin(&mut self, request: &Request) -> u64 {
        let started_ns = now_ns();
        self.send(&request.bytes());
        started_ns
    }

    /// Sends only the first half of a request, and never the rest.
    pub fn send_half(&mut self, request: &Request) {
        let bytes = request.bytes();
        self.send(&bytes[..bytes.len() / 2]);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).and_then(|()| self.writer.flush()).expect("cannot send");
    }

    /// Reads the response to a request that was begun at `started_ns`.
    pub fn receive(&mut self, request: &Request, started_ns: u64) -> Call {
        let mut interim_bytes = 0;
        let head = loop {
            let head = self.head(request);
            if head.status >= 200 {
                break head;
            }
            interim_bytes += head.bytes;
        };
        let (framed, body_bytes) = self.body(request, &head);
        Call {
            method: request.method,
            target: request.target.clone(),
            version: request.version,
            request_bytes: request.bytes().len() as u64,
            request_body_bytes: request.body_bytes,
            status: head.status,
            response_bytes: head.bytes + framed,
            body_bytes,
            interim_bytes,
            started_ns,
            finished_ns: now_ns(),
            port: self.port,
        }
    }

    fn head(&mut self, request: &Request) -> Head {
        let mut head = Head::default();
        loop {
            let line = self.line(request);
            head.bytes += line.len() as u64;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(status) = line.strip_prefix("http/1.1 ") {
                head.status = status.get(..3).and_then(|code| code.parse().ok()).expect("a status");
            } else if let Some(length) = line.strip_prefix("content-length:") {
                head.length = Some(length.trim().parse().expect("a length"));
            } else if line == "transfer-encoding: chunked" {
                head.chunked = true;
            } else if line.is_empty() {
                assert!(head.status != 0, "no status line");
                return head;
            }
        }
    }

    /// Bytes of the body with and without framing.
    fn body(&mut self, request: &Request, head: &Head) -> (u64, u64) {
        if request.method == "HEAD" || matches!(head.status, 204 | 304) {
            return (0, 0);
        }
        if head.chunked {
            return self.chunks(request);
        }
        let read = match head.length {
            Some(length) => self.skip(length),
            None => std::io::copy(&mut self.reader, &mut std::io::sink()).expect("cannot receive"),
        };
        (read, read)
    }

    fn chunks(&mut self, request: &Request) -> (u64, u64) {
        let (mut framed, mut content) = (0, 0);
        loop {
            let line = self.line(request);
            let size = u64::from_str_radix(line.trim_end(), 16).expect("the size of a chunk");
            framed += line.len() as u64 + self.skip(size) + self.line(request).len() as u64;
            content += size;
            if size == 0 {
                return (framed, content);
            }
        }
    }

    fn line(&mut self, request: &Request) -> String {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        read.unwrap_or_else(|error| panic!("{error}, answering {}", request.target));
        assert!(line.ends_with("\r\n"), "the connection ended in {line:?}, answering {}", request.target);
        line
    }

    fn skip(&mut self, length: u64) -> u64 {
        let read = std::io::copy(&mut self.reader.by_ref().take(length), &mut std::io::sink()).expect("cannot receive");
        assert_eq!(read, length, "the connection ended in a body");
        read
    }
}

#[derive(Default)]
struct Head {
    status: u64,
    bytes: u64,
    length: Option<u64>,
    chunked: bool,
}
