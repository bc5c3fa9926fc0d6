//! redis-server as the traced server.

use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::certificate;
use super::peer::Peer;
use super::process::{Server, run, unused_ports, wait_until};
use super::wire::Place;

/// A running redis-server without data, on a TCP port, with TLS on another, and on a unix socket.
pub struct Redis {
    /// Where it listens without TLS.
    pub port: u16,
    /// Where it listens with TLS.
    pub tls_port: u16,
    server: Server,
    directory: TempDir,
}

impl Redis {
    /// Starts it and waits until it serves; `options` are directives of its configuration.
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        certificate::make(directory.path());
        let [port, tls_port] = unused_ports();
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes"]);
        command.args(["--port", &port.to_string(), "--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(path("cert.pem")).arg("--tls-key-file").arg(path("key.pem"));
        command.arg("--unixsocket").arg(path("socket")).arg("--dir").arg(directory.path());
        command.arg("--logfile").arg(path("log")).args(options);
        let server = Server::start(&command, Signal::TERM);
        wait_until("redis-server serves", || {
            std::fs::read_to_string(path("log")).is_ok_and(|log| log.contains("Ready to accept connections"))
        });
        Self { port, tls_port, server, directory }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its TCP port as a place.
    pub fn tcp(&self) -> Place {
        Place::Port(self.port)
    }

    /// Its unix socket.
    pub fn socket(&self) -> String {
        self.directory.path().join("socket").to_str().expect("UTF-8").to_owned()
    }

    /// How often it executed each command, by its own count (`INFO commandstats`), names in capitals.
    pub fn calls(&self) -> Vec<(String, u64)> {
        let output = run(Command::new("redis-cli").args(["-p", &self.port.to_string(), "INFO", "commandstats"]));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let line = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_uppercase(), rest.split(',').next()?.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }
}

/// A command as clients send it.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

/// Receives one reply of RESP2 or RESP3, with the attributes before it.
pub fn receive_reply(peer: &mut Peer) -> Vec<u8> {
    let mut bytes = peer.receive_line();
    let header = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let (kind, rest) = header.split_at(1);
    let length = || rest.parse::<i64>().expect("a length");
    let elements = match kind {
        "$" | "=" if length() >= 0 => {
            bytes.extend(peer.receive(usize::try_from(length()).expect("checked") + 2));
            0
        }
        "*" | "~" | ">" => length().max(0),
        "%" => 2 * length(),
        "|" => 2 * length() + 1,
        _ => 0,
    };
    for _ in 0..elements {
        bytes.extend(receive_reply(peer));
    }
    bytes
}
