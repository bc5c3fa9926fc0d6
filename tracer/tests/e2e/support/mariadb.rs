//! MariaDB as the traced server, and its general log as the witness.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::certificate;
use super::process::{Server, run, unused_port, wait_until};

/// The password of the user "tester".
pub const PASSWORD: &str = "geheim";

/// A server of its own with two empty databases, "shop" and "other".
pub struct MariaDb {
    /// Where it listens, on 127.0.0.1, with TLS for who asks.
    pub port: u16,
    server: Server,
    directory: TempDir,
}

/// A line of the general log: "Query", "Prepare", "Init DB" …, and what it was about.
pub type Logged = (String, String);

impl MariaDb {
    /// Makes a data directory, starts the server and waits until it serves.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let path = |name: &str| directory.path().join(name);
        certificate::make(directory.path());
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]);
        install.arg(format!("--datadir={}", path("data").display()));
        run(&mut install);
        let users = format!(
            "CREATE USER tester@'%' IDENTIFIED BY '{PASSWORD}';\nCREATE USER other@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO tester@'%';\nGRANT ALL ON *.* TO other@'%';\nCREATE DATABASE shop;\n\
             CREATE DATABASE other;\n"
        );
        std::fs::write(path("init.sql"), users).expect("cannot write a temporary file");
        let port = unused_port();
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", &format!("--port={port}")]);
        for (name, file) in [
            ("datadir", "data"),
            ("socket", "socket"),
            ("pid-file", "pid"),
            ("init-file", "init.sql"),
            ("general-log-file", "general.log"),
            ("log-error", "error.log"),
            ("ssl-cert", "cert.pem"),
            ("ssl-key", "key.pem"),
        ] {
            command.arg(format!("--{name}={}", path(file).display()));
        }
        command.args(["--general-log=1", "--log-output=FILE", "--local-infile=1", "--max-allowed-packet=64M"]);
        command.args(["--skip-name-resolve", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"]);
        let mut server = Server::start(&command, Signal::TERM);
        wait_until("MariaDB serves", || {
            let log = std::fs::read_to_string(path("error.log")).unwrap_or_default();
            assert!(server.ended().is_none(), "MariaDB did not start: {log}");
            log.contains("ready for connections")
        });
        Self { port, server, directory }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its unix socket.
    pub fn socket(&self) -> String {
        self.directory.path().join("socket").to_str().expect("UTF-8").to_owned()
    }

    /// The lines of each connection, by its id, from its login to its end.
    pub fn log(&self) -> BTreeMap<u64, Vec<Logged>> {
        let text = std::fs::read(self.directory.path().join("general.log")).expect("MariaDB has no log");
        let text = String::from_utf8_lossy(&text);
        let mut by_connection: BTreeMap<_, Vec<Logged>> = BTreeMap::new();
        for line in text.lines() {
            // [261120 16:05:55]     4 Query	SELECT 1
            let Some((head, argument)) = line.split_once('\t').and_then(|(time, rest)| {
                let rest = if time.is_empty() { rest.strip_prefix('\t')? } else { rest };
                Some(rest.trim_start().split_once('\t').unwrap_or((rest.trim(), "")))
            }) else {
                continue;
            };
            let Some((id, command)) = head.trim().split_once(' ') else { continue };
            let Ok(id) = id.parse() else { continue };
            by_connection.entry(id).or_default().push((command.trim().to_owned(), argument.to_owned()));
        }
        by_connection.retain(|_, lines| lines.first().is_some_and(|(command, _)| command == "Connect"));
        by_connection
    }
}
