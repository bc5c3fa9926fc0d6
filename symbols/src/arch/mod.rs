//! What depends on the machine: one module each, all with the items that are named here.

mod x86_64;

use crate::probe::{Arguments, Register};

pub(crate) use x86_64::{Call, ConstantCall, Flow, calls_to, go_sites, loads_of, referenced, site};

/// What a C prototype says of a function of interest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prototype {
    /// How many of its leading arguments a probe reads: pointers, then perhaps one number.
    pub arguments: usize,
    /// Which argument, counted from zero, points to the `size_t` that receives the count of bytes moved.
    pub length: Option<usize>,
}

impl Prototype {
    /// Where the arguments are when the function is called.
    pub fn arguments_at_start(self) -> Arguments {
        let Some(position) = self.length else { return Arguments::Plain };
        let registers = [Register::Rcx, Register::R8, Register::R9];
        let register = registers.into_iter().find(|register| register.argument() == position);
        register.map_or(Arguments::Plain, Arguments::WithLength)
    }
}
