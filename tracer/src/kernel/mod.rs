//! The kernel side as user space sees it: types, programs, maps.

pub mod btf;
pub mod layout;
mod programs;

pub use programs::{Hook, Kernel, KernelError, Options, Probe};
