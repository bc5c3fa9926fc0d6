//! HTTP/1.1 over rustls, at both ends, that logs what it did.
//!
//! ```text
//! program server LOG CERTIFICATE KEY PORT-FILE
//! program client LOG PORT THREADS COUNT VERSION
//! ```
//!
//! Sessions are plain values here and change their place in memory and their thread with each request, as they do in
//! asynchronous programs.

mod asked;
mod exchange;
mod log;
mod tls;

use std::io::{BufRead as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned};

use asked::Asked;
use log::Log;

/// Threads that a server's sessions go round.
const WORKERS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", log, certificate, key, port_file] => serve(Log::create(log), certificate, key, port_file),
        ["client", log, port, threads, count, version] => {
            let [threads, count] = [threads, count].map(|number| number.parse().expect("a number"));
            ask(Log::create(log), port.parse().expect("a port"), threads, count, version);
        }
        _ => panic!("server LOG CERTIFICATE KEY PORT-FILE, or client LOG PORT THREADS COUNT VERSION"),
    }
}

type Served = StreamOwned<ServerConnection, TcpStream>;

/// Each session is passed on to the next worker when it has answered a request.
fn serve(log: Log, certificate: &str, key: &str, port_file: &str) {
    let config = Arc::new(tls::server(certificate, key));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (senders, receivers): (Vec<Sender<Box<Served>>>, Vec<Receiver<_>>) = (0..WORKERS).map(|_| channel()).unzip();
    for (number, receiver) in receivers.into_iter().enumerate() {
        let (next, log) = (senders[(number + 1) % WORKERS].clone(), log.clone());
        thread::spawn(move || {
            for session in receiver {
                // A thread waits for its session's next request while others are served.
                let (next, log) = (next.clone(), log.clone());
                thread::spawn(move || {
                    let mut session = *session;
                    if exchange::answer(&mut session, &log).is_some() {
                        let _ = next.send(Box::new(session));
                    }
                });
            }
        });
    }
    let port = listener.local_addr().expect("an address").port();
    std::fs::write(port_file, port.to_string()).expect("a file");
    say("ready");
    for (number, stream) in listener.incoming().enumerate() {
        let stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("a TCP socket");
        let session = ServerConnection::new(config.clone()).expect("a session");
        let _ = senders[number % WORKERS].send(Box::new(StreamOwned::new(session, stream)));
    }
}

type Asking = StreamOwned<ClientConnection, TcpStream>;

/// At each line of the standard input, until that ends, every thread makes requests on a session that another one may
/// have used before.
fn ask(log: Log, port: u16, threads: usize, count: usize, version: &str) {
    let config = Arc::new(tls::client(version));
    let sessions: Arc<Mutex<Vec<Asking>>> = Arc::default();
    say("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("UTF-8");
        // Without a session of its own from before, a thread makes one.
        let asking: Vec<_> = (0..threads)
            .map(|thread| {
                let (config, sessions, log, line) = (config.clone(), sessions.clone(), log.clone(), line.clone());
                thread::spawn(move || {
                    let kept = sessions.lock().expect("no panic").pop();
                    let mut session = kept.unwrap_or_else(|| connect(config, port));
                    for number in 0..count {
                        exchange::ask(&mut session, &Asked::new(&line, thread, number), &log);
                        if number % 3 == 2 {
                            session.conn.refresh_traffic_keys().ok();
                        }
                        session = *Box::new(session);
                    }
                    sessions.lock().expect("no panic").push(session);
                })
            })
            .collect();
        asking.into_iter().for_each(|thread| thread.join().expect("its requests were answered"));
    }
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("somebody listens");
}

fn connect(config: Arc<ClientConfig>, port: u16) -> Asking {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("a session"), stream)
}
