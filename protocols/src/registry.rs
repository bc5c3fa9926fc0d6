//! The protocols that exist. Adding one is one line in [`ALL`].

use schemars::SchemaGenerator;

use crate::{Context, Inference, Parser, Transport};

/// What the driver needs to know of a protocol before it speaks.
#[derive(Clone, Copy)]
pub struct Registration {
    /// The names of the records that it makes, which are also its names on the command line. The first is its own.
    pub names: &'static [&'static str],
    /// Whether the protocol runs over this transport.
    pub carries: fn(Transport) -> bool,
    /// Whether servers answer in it what is no request of it: then their answer alone, behind bytes that nothing
    /// recognises, is enough.
    pub answers_nonsense: bool,
    /// Judges the first bytes of one direction.
    pub infer: fn(head: &[u8], transport: Transport) -> Inference,
    /// A parser for one connection.
    pub parser: fn(Context) -> Box<dyn Parser>,
    /// JSON schemas of the request and of the response.
    pub schema: fn(&mut SchemaGenerator) -> [schemars::Schema; 2],
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Every protocol, in the order in which they are asked whether they recognise a connection.
pub static ALL: &[Registration] = &[
    crate::http2::REGISTRATION,
    crate::http::REGISTRATION,
    crate::mysql::REGISTRATION,
    crate::pgsql::REGISTRATION,
    crate::redis::REGISTRATION,
    crate::dns::REGISTRATION,
];

impl Registration {
    /// The name of the protocol.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}
