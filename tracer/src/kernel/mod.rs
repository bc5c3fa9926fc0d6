//! The kernel side as user space sees it: types, programs, maps.

pub mod btf;
mod functions;
pub mod layout;
mod multi;
mod probes;
mod programs;
mod tree;

pub use functions::FunctionError;
pub use probes::{Point, Probe};
pub use programs::{Hook, Kernel, KernelError, Options};
pub use tree::Keeper;
