#![no_main]
//! Conversations of one protocol.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("pgsql"), |input: &[u8]| tracer_fuzz::conversation::check(Some("pgsql"), input));
