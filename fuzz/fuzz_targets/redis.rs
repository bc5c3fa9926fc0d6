#![no_main]
//! Conversations of one protocol.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("redis"), |input: &[u8]| tracer_fuzz::conversation::check(Some("redis"), input));
