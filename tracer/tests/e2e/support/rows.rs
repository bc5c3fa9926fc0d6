//! The rows of docs/tls.md: what each test found out about a TLS library, as one file each in target/tls-rows.
//!
//! `scripts/tls-table` makes the table of them. In a guest of `scripts/vm-test`, whose files are gone with it, a row is
//! a line of the output, which that script saves.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::process::virtual_machine;

/// A row that a test is about. Dropped without a result, it is one that failed.
#[derive(Debug)]
pub struct Row {
    library: String,
    found: String,
    peer: String,
    told: bool,
}

impl Row {
    /// `library` as people name it, `found`: how its functions are found, `peer`: the traced program.
    pub fn new(library: &str, found: &str, peer: &str) -> Self {
        Self { library: library.to_owned(), found: found.to_owned(), peer: peer.to_owned(), told: false }
    }

    /// The row of a program that has OpenSSL as a library; of a test without TLS, none.
    pub fn openssl(tls: bool, peer: &str) -> Option<Self> {
        tls.then(|| Self::new("OpenSSL", "dynamic symbols", peer))
    }

    /// The records of this row have been compared with the truth, and are right.
    pub fn passed(mut self, records: impl IntoIterator<Item = Value>) {
        let (mut roles, mut rungs) = (BTreeSet::new(), BTreeSet::new());
        for record in records.into_iter().filter(|record| record["connection"]["tls"].is_object()) {
            for (set, field) in [(&mut roles, "role"), (&mut rungs, "tuple_source")] {
                set.extend(record["connection"][field].as_str().map(str::to_owned));
            }
        }
        assert!(!roles.is_empty(), "{self:?}: no record");
        self.told = true;
        self.save(&join(roles), &join(rungs), "every record right");
    }

    fn save(&self, role: &str, rung: &str, result: &str) {
        let Self { library, found, peer, .. } = self;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("no /proc");
        let release = release.trim_end();
        let hook = std::env::var("TRACER_HOOK").unwrap_or_default();
        let row = json!({
            "library": library, "found": found, "peer": peer, "role": role, "rung": rung, "kernel": release,
            "hook": hook, "result": result,
        });
        let name: String = [library, found, peer, release, &hook].join("-");
        let name = name.replace(|other: char| !other.is_ascii_alphanumeric() && other != '.', "-");
        if virtual_machine() {
            // Not by println, which the test harness keeps to itself.
            writeln!(std::io::stdout(), "tls-row: {name} {row}").expect("its output is read");
            return;
        }
        let directory = directory();
        std::fs::create_dir_all(&directory).expect("cannot make target/tls-rows");
        std::fs::write(directory.join(name + ".json"), format!("{row}\n")).expect("cannot write target/tls-rows");
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if !self.told {
            self.save("", "", "FAILED");
        }
    }
}

fn join(words: BTreeSet<String>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tls-rows")
}
