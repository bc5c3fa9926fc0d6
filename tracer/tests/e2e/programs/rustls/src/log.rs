//! What was asked and answered: as the programs in Go log theirs.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::json;

/// The log, a line an exchange.
#[derive(Clone)]
pub struct Log(Arc<Mutex<File>>);

/// Addresses of a connection: the program's own, and the other.
pub type Ends = [String; 2];

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
