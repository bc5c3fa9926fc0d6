//! HTTP/1.1 and HTTP/2 of hyper over tokio-rustls, at both ends, that logs what it did.
//!
//! ```text
//! program server LOG CERTIFICATE KEY PORT-FILE
//! program client LOG PORT TASKS COUNT http/1.1|h2
//! ```

mod asked;
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

use asked::{Asked, body};
use log::{Ends, Log, ends};

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
            let ends = Arc::new(ends(stream.local_addr(), stream.peer_addr()));
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
    Ok(Response::new(body(wants).into()))
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
                    let ends = ends(stream.local_addr(), stream.peer_addr());
                    let host = ServerName::try_from("localhost").expect("a name");
                    let session = TokioIo::new(connector.connect(host, stream).await.expect("a session"));
                    let asked = (0..count).map(|number| Asked::new(&line, task, number));
                    if h2 {
                        let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
                        let (mut sender, connection) = client.handshake(session).await.expect("HTTP/2");
                        tokio::spawn(connection);
                        for asked in asked {
                            let response = sender.send_request(request("https://localhost", &asked)).await;
                            finish(response.expect("an answer"), &log, &ends, &asked).await;
                        }
                    } else {
                        let (mut sender, connection) =
                            hyper::client::conn::http1::handshake(session).await.expect("HTTP/1.1");
                        tokio::spawn(connection);
                        for asked in asked {
                            sender.ready().await.expect("it is kept alive");
                            let response = sender.send_request(request("", &asked)).await;
                            finish(response.expect("an answer"), &log, &ends, &asked).await;
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

/// `server`: HTTP/2 names it in the target.
fn request(server: &str, Asked { path, sends, wants }: &Asked) -> Request<Body> {
    let request = Request::post(format!("{server}{path}")).header("host", "localhost");
    request.header("x-wants", *wants).body(body(*sends).into()).expect("a request")
}

async fn finish(response: Response<Incoming>, log: &Log, ends: &Ends, Asked { path, sends, wants }: &Asked) {
    let version = name(response.version());
    let received = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(received.len(), *wants);
    log.write("client", ends, (version, path), [*sends, *wants]);
}
