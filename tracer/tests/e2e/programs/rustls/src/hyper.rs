//! HTTP/1.1 and HTTP/2 of hyper over tokio-rustls, at both ends, that logs what it did.
//!
//! ```text
//! program server LOG CERTIFICATE KEY PORT-FILE
//! program client LOG PORT TASKS COUNT http/1.1|h2
//! ```

mod log;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use log::{Ends, Log};

/// Sizes of bodies, one after the other.
const SIZES: [usize; 7] = [0, 1, 10, 1000, 16_384, 40_000, 100_000];

const H2: &str = "h2";

type Body = Full<Bytes>;

#[tokio::main(worker_threads = 3)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", log, certificate, key, port_file] => serve(Log::create(log), certificate, key, port_file).await,
        ["client", log, port, tasks, count, protocol] => {
            let [tasks, count] = [tasks, count].map(|number| number.parse().expect("a number"));
            ask(Log::create(log), port.parse().expect("a port"), tasks, count, protocol).await;
        }
        _ => panic!("server LOG CERTIFICATE KEY PORT-FILE, or client LOG PORT TASKS COUNT http/1.1|h2"),
    }
}

fn ends(stream: &TcpStream) -> Ends {
    [stream.local_addr(), stream.peer_addr()].map(|end| end.expect("connected").to_string())
}

fn body(length: usize) -> Body {
    (0..length).map(|at| b'a' + (at % 26) as u8).collect::<Vec<u8>>().into()
}

fn name(version: Version) -> &'static str {
    if version == Version::HTTP_2 { "2" } else { "1.1" }
}

async fn serve(log: Log, certificate: &str, key: &str, port_file: &str) {
    let mut config = tls::server(certificate, key);
    config.alpn_protocols = vec![H2.into(), "http/1.1".into()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::fs::write(port_file, port.to_string()).expect("a file");
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (acceptor, log) = (acceptor.clone(), log.clone());
        tokio::spawn(async move {
            let ends = Arc::new(ends(&stream));
            let Ok(session) = acceptor.accept(stream).await else { return };
            let h2 = session.get_ref().1.alpn_protocol() == Some(H2.as_bytes());
            let service = service_fn(move |request| answer(request, Arc::clone(&ends), log.clone()));
            if h2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(session), service).await;
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(session), service).await;
            }
        });
    }
}

async fn answer(request: Request<Incoming>, ends: Arc<Ends>, log: Log) -> Result<Response<Body>, Infallible> {
    let (version, path) = (name(request.version()), request.uri().path().to_owned());
    let wants = request.headers()["x-wants"].to_str().expect("ASCII").parse().expect("a number");
    let received = request.into_body().collect().await.expect("a body").to_bytes();
    log.write("server", &ends, (version, &path), [received.len(), wants]);
    Ok(Response::new(body(wants)))
}

/// At each line of the standard input, until that ends, every task makes requests on a connection of its own.
async fn ask(log: Log, port: u16, tasks: usize, count: usize, protocol: &str) {
    let mut config = tls::client("1.3");
    config.alpn_protocols = vec![protocol.into()];
    let connector = TlsConnector::from(Arc::new(config));
    println!("ready");
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("UTF-8") {
        let asking: Vec<_> = (0..tasks)
            .map(|task| {
                let (connector, log, line, h2) = (connector.clone(), log.clone(), line.clone(), protocol == H2);
                tokio::spawn(async move {
                    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
                    let ends = ends(&stream);
                    let host = ServerName::try_from("localhost").expect("a name");
                    let session = TokioIo::new(connector.connect(host, stream).await.expect("a session"));
                    let asked = (0..count).map(|number| {
                        let size = |at: usize| SIZES[(task + number + at) % SIZES.len()];
                        (format!("/{line}/{task}/{number}"), size(0), size(3))
                    });
                    if h2 {
                        let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
                        let (mut sender, connection) = client.handshake(session).await.expect("HTTP/2");
                        tokio::spawn(connection);
                        for (path, sends, wants) in asked {
                            let uri = format!("https://localhost{path}");
                            let response = sender.send_request(request(&uri, sends, wants));
                            finish(response.await.expect("an answer"), &log, &ends, &path, [sends, wants]).await;
                        }
                    } else {
                        let (mut sender, connection) =
                            hyper::client::conn::http1::handshake(session).await.expect("HTTP/1.1");
                        tokio::spawn(connection);
                        for (path, sends, wants) in asked {
                            sender.ready().await.expect("it is kept alive");
                            let response = sender.send_request(request(&path, sends, wants));
                            finish(response.await.expect("an answer"), &log, &ends, &path, [sends, wants]).await;
                        }
                    }
                })
            })
            .collect();
        for task in asking {
            task.await.expect("its requests were answered");
        }
    }
}

fn request(uri: &str, sends: usize, wants: usize) -> Request<Body> {
    let request = Request::post(uri).header("host", "localhost");
    request.header("x-wants", wants).body(body(sends)).expect("a request")
}

async fn finish(response: Response<Incoming>, log: &Log, ends: &Ends, path: &str, [sends, wants]: [usize; 2]) {
    let version = name(response.version());
    let received = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(received.len(), wants);
    log.write("client", ends, (version, path), [sends, wants]);
}
