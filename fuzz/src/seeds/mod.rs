//! What the fuzzer starts from: one conversation or more of every protocol, with the messages that are hard to guess.
//! Made here and not kept as files, so that each can be read.

mod captures;
mod dns;
mod http;
mod http2;
mod mysql;
mod pgsql;
mod redis;

use std::path::Path;
use std::{env, fs};

use protocols::Side;

use crate::script::{MARK, Settings};

/// Who said what, one transfer each.
pub type Conversation = Vec<(Side, Vec<u8>)>;

/// A name, and the input of a target.
pub type Seed = (&'static str, Vec<u8>);

/// Writes the seeds of a target to the folder that the environment's SEEDS names, if it names one.
pub fn write(target: &str) {
    let Some(directory) = env::var_os("SEEDS") else { return };
    for (_, seeds) in all().into_iter().filter(|(name, _)| *name == target) {
        for (name, bytes) in seeds {
            let path = Path::new(&directory).join(name);
            fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// Every target with its seeds.
fn all() -> Vec<(&'static str, Vec<Seed>)> {
    let protocols = conversations();
    let scripts = |conversations: &[(&'static str, Conversation)], bits: u8| -> Vec<Seed> {
        conversations.iter().map(|(name, talk)| (*name, script(bits, talk))).collect()
    };
    let mut all: Vec<_> = protocols.iter().map(|(name, talks)| (*name, scripts(talks, Settings::PLAIN))).collect();
    // Recognition: the same on connections of which nothing is known, and one joined in its middle.
    const UNKNOWN: u8 = 2;
    const MIDSTREAM: u8 = 1 | 2 | 4;
    let mut inference: Vec<Seed> = protocols.iter().flat_map(|(_, talks)| scripts(talks, UNKNOWN)).collect();
    inference.extend(protocols.iter().filter_map(|(name, talks)| {
        let (_, talk) = talks.first()?;
        Some((*name, script(MIDSTREAM, talk.get(1..)?)))
    }));
    all.push(("inference", inference));
    all.push((
        "reassembly",
        vec![("holes", b"\x40\x08\x00\x08\x00\x00\x02\x00\x00\x10\x02\x00\x02\x20\x00\x04\x00\x01\x01".to_vec())],
    ));
    all.push(("pcap", captures::all(&protocols)));
    all.push(("events", captures::events()));
    for (name, seeds) in &mut all {
        if *name == "dns" {
            seeds.push(("datagrams", script(8, &dns::datagrams())));
        }
    }
    all
}

fn conversations() -> Vec<(&'static str, Vec<(&'static str, Conversation)>)> {
    vec![
        ("http", http::all()),
        ("http2", http2::all()),
        ("mysql", mysql::all()),
        ("pgsql", pgsql::all()),
        ("redis", redis::all()),
        ("dns", dns::all()),
    ]
}

/// The script of a conversation.
fn script(bits: u8, talk: &[(Side, Vec<u8>)]) -> Vec<u8> {
    let mut script = vec![bits];
    for (side, bytes) in talk {
        script.extend([MARK, if *side == Side::Client { b'c' } else { b's' }]);
        script.extend(bytes);
    }
    script
}
