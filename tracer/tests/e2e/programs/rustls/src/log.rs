//! What was asked and answered: as the programs in Go log theirs.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;

/// The log, a line an exchange.
#[derive(Clone)]
pub struct Log(Arc<Mutex<File>>);

/// Addresses of a connection: the program's own, and the other.
pub type Ends = [String; 2];

/// Those of a connection, as its socket says.
pub fn ends(local: io::Result<SocketAddr>, remote: io::Result<SocketAddr>) -> Ends {
    [local, remote].map(|end| end.expect("connected").to_string())
}

impl Log {
    pub fn create(path: &str) -> Self {
        Self(Arc::new(Mutex::new(File::create(path).expect("a file"))))
    }

    pub fn write(&self, role: &str, [local, remote]: &Ends, (version, path): (&str, &str), sizes: [usize; 2]) {
        let line = json!({
            "role": role,
            "local": local,
            "remote": remote,
            "target": path,
            "version": version,
            "status": 200,
            "request_body": sizes[0],
            "response_body": sizes[1],
        });
        // In one call: the log is read meanwhile.
        self.0.lock().expect("no panic").write_all(format!("{line}\n").as_bytes()).expect("room");
    }
}
