#![no_main]
//! Conversations of any protocol: which one is to be recognised.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("inference"), |input: &[u8]| tracer_fuzz::conversation::check(None, input));
