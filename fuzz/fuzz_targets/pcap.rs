#![no_main]
//! Capture files.
libfuzzer_sys::fuzz_target!(init: tracer_fuzz::seeds::write("pcap"), |input: &[u8]| tracer_fuzz::pcap::check(input));
