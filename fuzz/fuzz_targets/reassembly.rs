#![no_main]
//! Segments in any order, beside a model that knows every byte.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("reassembly"), |input: &[u8]| tracer_fuzz::reassembly::check(input));
