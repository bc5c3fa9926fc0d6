#![no_main]
//! Records of the ring buffer.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("events"), |input: &[u8]| tracer_fuzz::events::check(input));
