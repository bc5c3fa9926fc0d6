//! The decoder of the ring buffer's records.

use tracer::events::{self, Event, Rejected};
use tracer_ebpf::Header;

/// What is decoded carries no more than the record holds, and no more than passed.
pub fn check(input: &[u8]) {
    match events::decode(input) {
        Ok(Event::Data(data, payload) | Event::Held(data, payload)) => {
            check_payload(input, payload, data.header.captured, data.length);
        }
        Ok(Event::Datagram(datagram, payload)) => {
            check_payload(input, payload, datagram.header.captured, datagram.length);
        }
        Ok(event) => assert!(input.len() >= size_of::<Header>(), "{event:?} of less than its header"),
        Err(Rejected::TooShort { length }) => assert_eq!(length, input.len()),
        Err(Rejected::Overlong { carried, .. }) => assert!(carried < input.len()),
        Err(rejected) => drop(rejected.to_string()),
    }
}

fn check_payload(input: &[u8], payload: &[u8], captured: u32, length: u32) {
    assert_eq!(payload.len(), captured as usize);
    assert!(captured <= length);
    let within = input.as_ptr_range();
    let range = payload.as_ptr_range();
    assert!(within.start <= range.start && range.end <= within.end, "a payload from outside the record");
}
