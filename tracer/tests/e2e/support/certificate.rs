//! A self-signed certificate for localhost.

use std::path::Path;
use std::process::Command;

use super::process::run;

/// Writes `key.pem` and `cert.pem` into `directory`.
pub fn make(directory: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]);
    command.arg("-keyout").arg(directory.join("key.pem")).arg("-out").arg(directory.join("cert.pem"));
    run(&mut command);
}
