//! PostgreSQL as the traced server, and its log as the witness.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::certificate;
use super::process::{Server, run, unused_port, wait_until};

/// The password of the user "postgres".
pub const PASSWORD: &str = "geheim";

/// A cluster of its own, run by the user "postgres", with an empty database "postgres".
pub struct Postgres {
    /// Where it listens, on 127.0.0.1, with TLS for who asks.
    pub port: u16,
    server: Server,
    directory: TempDir,
}

/// What the log says of a statement.
#[derive(Clone, Debug)]
pub struct Logged {
    /// "query" or "execute".
    pub command: &'static str,
    /// The statement.
    pub text: String,
    /// How long the server took; `None` if it failed.
    pub nanoseconds: Option<u64>,
    /// SQLSTATE.
    pub error: Option<String>,
    /// "parameters: $1 = '…', …"
    pub detail: Option<String>,
}

/// Debian keeps the programs of each version apart.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed (scripts/setup --test)");
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(number);
    newest.expect("a version of PostgreSQL").join("bin")
}

/// One of PostgreSQL's programs.
pub fn program(name: &str) -> String {
    programs().join(name).to_str().expect("UTF-8").to_owned()
}

/// The command of one of the server's programs: they refuse to run as root.
fn as_owner(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", "--"]);
    command.arg(program(name));
    command
}

impl Postgres {
    /// Makes a cluster, starts it and waits until it serves.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let path = |name: &str| directory.path().join(name);
        certificate::make(directory.path());
        std::fs::write(path("password"), PASSWORD).expect("cannot write a temporary file");
        run(Command::new("chown").args(["-R", "postgres:"]).arg(directory.path()));
        let mut initdb = as_owner("initdb");
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "-U", "postgres"]);
        initdb.arg("--pwfile").arg(path("password")).arg("-D").arg(path("data"));
        run(&mut initdb);
        let port = unused_port();
        let mut postgres = as_owner("postgres");
        postgres.arg("-D").arg(path("data")).arg("-k").arg(directory.path()).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "ssl=on",
            &format!("ssl_cert_file={}", path("cert.pem").display()),
            &format!("ssl_key_file={}", path("key.pem").display()),
            "logging_collector=on",
            "log_destination=jsonlog",
            &format!("log_directory={}", directory.path().display()),
            "log_filename=log",
            "log_min_duration_statement=0",
            "log_parameter_max_length=-1",
            "autovacuum=off",
        ] {
            postgres.args(["-c", setting]);
        }
        let server = Server::start(&postgres, Signal::INT);
        wait_until("PostgreSQL serves", || {
            std::fs::read_to_string(path("log.json")).is_ok_and(|log| log.contains("ready to accept connections"))
        });
        Self { port, server, directory }
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The directory of its unix socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its unix socket.
    pub fn socket(&self) -> String {
        self.directory.path().join(format!(".s.PGSQL.{}", self.port)).to_str().expect("UTF-8").to_owned()
    }

    /// Arguments for clients in the form of `PGHOST=…` and the like, for env(1).
    pub fn environment(&self, host: &str, tls: bool) -> Vec<String> {
        let variables = [
            ("PGHOST", host),
            ("PGPORT", &self.port.to_string()),
            ("PGUSER", "postgres"),
            ("PGDATABASE", "postgres"),
            ("PGPASSWORD", PASSWORD),
            ("PGSSLMODE", if tls { "require" } else { "disable" }),
            ("PGGSSENCMODE", "disable"),
        ];
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// A client's command in that environment.
    pub fn client(&self, host: &str, tls: bool, name: &str) -> Command {
        let mut command = Command::new("env");
        command.args(self.environment(host, tls)).arg(program(name));
        command
    }

    /// The statements of each client, by its port (`None`: by unix socket), in order.
    pub fn log(&self) -> BTreeMap<Option<u64>, Vec<Logged>> {
        let text = std::fs::read_to_string(self.directory.path().join("log.json")).expect("PostgreSQL has no log");
        let mut by_port: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if let Some(logged) = statement(&entry) {
                by_port.entry(entry["remote_port"].as_u64()).or_default().push(logged);
            }
        }
        by_port
    }
}

/// `duration: 0.123 ms  execute <unnamed>: SELECT 1`, or an error and its statement.
fn statement(entry: &Value) -> Option<Logged> {
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    let message = entry["message"].as_str()?;
    if entry["error_severity"] == "ERROR" {
        let command = "query";
        return Some(Logged {
            command,
            text: text("statement")?,
            nanoseconds: None,
            error: text("state_code"),
            detail: None,
        });
    }
    let (duration, rest) = message.strip_prefix("duration: ")?.split_once(" ms  ")?;
    let nanoseconds = (duration.parse::<f64>().ok()? * 1e6) as u64;
    let (kind, statement) = rest.split_once(": ")?;
    let command = match kind.split(' ').next()? {
        "statement" => "query",
        "execute" => "execute",
        _ => return None, // parse and bind
    };
    Some(Logged {
        command,
        text: statement.into(),
        nanoseconds: Some(nanoseconds),
        error: None,
        detail: text("detail"),
    })
}
