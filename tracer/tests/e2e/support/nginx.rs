//! nginx as the traced server, and its access log as the witness.

use std::fmt;
use std::net::TcpStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::certificate;
use super::process::{Server, children_of, unused_port, wait_until};

/// With TLS or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// How nginx is set up.
#[derive(Clone, Copy, Debug)]
pub struct NginxConfig {
    /// With TLS or without.
    pub scheme: Scheme,
    /// Worker processes.
    pub workers: usize,
    /// Whether files are sent by sendfile(2).
    pub sendfile: bool,
    /// Whether it speaks HTTP/2: with TLS to who asks for it, without to all.
    pub http2: bool,
    /// Another server's port that `/proxy/` leads to.
    pub upstream: Option<u16>,
    /// Whether it expects a load balancer that speaks the PROXY protocol.
    pub proxied: bool,
}

impl NginxConfig {
    /// One worker with sendfile, HTTP/1.
    pub fn new(scheme: Scheme) -> Self {
        Self { scheme, workers: 1, sendfile: true, http2: false, upstream: None, proxied: false }
    }
}

/// A running nginx with files to serve:
/// `/empty`, `/small.txt` (14 bytes), `/big.bin` (1 MiB), `/text.txt` and `/long.txt` (19 and 190 kB; chunked when
/// compressed),
/// `/slow/big.bin` (512 kB/s), `/upload/…` (PUT), `/status/204`, `/moved`, `/proxy/…`.
pub struct Nginx {
    /// How it is set up.
    pub config: NginxConfig,
    /// Where it listens, on 127.0.0.1 and ::1.
    pub port: u16,
    server: Server,
    directory: TempDir,
}

/// One line per request; the numbers are those that a record is compared with.
const LOG_FORMAT: &str = r#"'{"target":"$request_uri","method":"$request_method","protocol":"$server_protocol",'
    '"remote_addr":"$remote_addr","remote_port":$remote_port,"server_addr":"$server_addr","server_port":$server_port,'
    '"status":$status,"bytes_sent":$bytes_sent,"body_bytes_sent":$body_bytes_sent,"request_length":$request_length,'
    '"request_time":$request_time,"msec":$msec,"connection":$connection,"connection_requests":$connection_requests,'
    '"scheme":"$scheme","proxied_address":"$proxy_protocol_addr","proxied_port":"$proxy_protocol_port",'
    '"pid":$pid,"completion":"$request_completion","upstream_addr":"$upstream_addr",'
    '"upstream_status":"$upstream_status","upstream_bytes_sent":"$upstream_bytes_sent",'
    '"upstream_bytes_received":"$upstream_bytes_received"}'"#;

impl Nginx {
    /// Starts nginx and waits until it serves.
    pub fn start(config: NginxConfig) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let port = unused_port();
        write_files(&directory);
        if config.scheme == Scheme::Https {
            certificate::make(directory.path());
        }
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration(&config, port, &directory)).expect("cannot write nginx.conf");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory.path()).args(["-e", "error.log"]).arg("-c").arg(&file);
        let mut server = Server::start(&command, Signal::TERM);
        wait_until("nginx serves", || {
            if let Some(status) = server.ended() {
                let log = std::fs::read_to_string(directory.path().join("error.log")).unwrap_or_default();
                panic!("nginx did not start, {status}: {log}");
            }
            let serves = TcpStream::connect(("127.0.0.1", port)).is_ok();
            serves && children_of(server.pid()).len() == config.workers
        });
        Self { config, port, server, directory }
    }

    /// The master's process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The process ids of the workers.
    pub fn workers(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.config.scheme, self.port)
    }

    /// Ends it and waits: after that, the log is complete.
    pub fn stop(&mut self) {
        self.server.stop("nginx");
    }

    /// The lines of the access log.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("access.log")).expect("nginx has no access log");
        let complete = text.lines().filter(|line| line.ends_with('}'));
        complete.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits until the log has that many lines.
    pub fn wait_for_log(&self, count: usize) -> Vec<Value> {
        let mut log = Vec::new();
        wait_until(&format!("nginx has logged {count} requests"), || {
            log = self.log();
            log.len() >= count
        });
        log
    }
}

fn write_files(directory: &TempDir) {
    let root = directory.path().join("files");
    for name in ["slow", "upload"] {
        std::fs::create_dir_all(root.join(name)).expect("cannot make a directory");
    }
    let big: Vec<u8> = (0u32..1 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let text = |lines: u32| (0..lines).map(|number| format!("this is line {number:5}\n")).collect::<String>();
    let (short, long) = (text(1000), text(10_000));
    let files: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("small.txt", b"Hello, tracer\n"),
        ("big.bin", &big),
        ("slow/big.bin", &big),
        ("text.txt", short.as_bytes()),
        ("long.txt", long.as_bytes()),
    ];
    for (name, content) in files {
        std::fs::write(root.join(name), content).expect("cannot write a file to serve");
    }
}

fn configuration(config: &NginxConfig, port: u16, directory: &TempDir) -> String {
    let dir = directory.path().display();
    let workers = config.workers;
    let sendfile = if config.sendfile { "on" } else { "off" };
    let (ssl, certificate) = match config.scheme {
        Scheme::Http => ("", String::new()),
        Scheme::Https => (" ssl", format!("ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;")),
    };
    let http2 = if config.http2 { " http2" } else { "" };
    let proxied = if config.proxied { " proxy_protocol" } else { "" };
    let proxy = config.upstream.map_or_else(String::new, |upstream| {
        format!("location /proxy/ {{ proxy_pass http://backend/; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} upstream backend {{ server 127.0.0.1:{upstream}; keepalive 4;")
    });
    format!(
        r#"
daemon off; master_process on; worker_processes {workers}; user root; pid {dir}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  log_format audit {LOG_FORMAT};
  access_log {dir}/access.log audit;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  types {{ text/plain txt; }} default_type application/octet-stream;
  sendfile {sendfile}; keepalive_requests 1000000; keepalive_timeout 120s; client_max_body_size 8m;
  gzip on; gzip_types text/plain; gzip_min_length 1000;
  {certificate}
  server {{
    listen 127.0.0.1:{port}{ssl}{http2}{proxied}; listen [::1]:{port}{ssl}{http2}{proxied};
    root {dir}/files;
    location /upload/ {{ dav_methods PUT; }}
    location /slow/ {{ limit_rate 512k; }}
    location /status/204 {{ return 204; }}
    location /moved {{ return 301 /small.txt; }}
    {proxy}
  }}
}}
"#
    )
}
