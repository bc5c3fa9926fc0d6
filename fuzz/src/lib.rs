//! What the fuzz targets check. Each target is one line in `fuzz_targets/`; the work is here, so that a crash can be
//! looked at with a debugger and the seeds can be made by the same code.
//!
//! Not only that nothing panics: what the crates promise is asserted, so that a wrong answer is found too.

pub mod conversation;
pub mod events;
pub mod memory;
pub mod pcap;
pub mod reassembly;
pub mod script;
pub mod seeds;
