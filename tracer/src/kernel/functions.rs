//! The functions under the system calls that the fentry and the kprobe source follow.
//!
//! Their parameters are no stable interface. A function that takes them in an order that is not known here must never be
//! left out in silence: all that passes it would be missing from what the tracer sees.

/// A function under the system calls, and the programs that are attached to it.
#[derive(Debug)]
pub struct Function {
    /// Its name in the kernel.
    pub name: &'static str,
    /// With how many parameters the programs know it.
    parameters: &'static [usize],
    presence: Presence,
    /// The programs; see also [`KRETPROBE`].
    pub fentry: &'static str,
    /// See `fentry`.
    pub fexit: &'static str,
    /// See `fentry`.
    pub kprobe: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Always,
    /// Not in every version or configuration.
    Sometimes,
}
use Presence::{Always, Sometimes};

/// The program that is attached to the end of each when kprobes are used.
pub const KRETPROBE: &str = "kretprobe_transfer";

/// Why the functions of a kernel cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// One that every kernel should have is not there.
    #[error("the kernel's BTF has no function `{0}`")]
    Absent(&'static str),
    /// One takes other parameters than any that is known.
    #[error("`{name}` takes {parameters} parameters in this kernel, which is not supported yet: please report it")]
    Unknown {
        /// The function.
        name: &'static str,
        /// How many it takes.
        parameters: usize,
    },
}

macro_rules! functions {
    ($($name:literal $($variant:literal)?: $parameters:expr, $presence:expr;)*) => {
        [$(Function {
            name: $name,
            parameters: &$parameters,
            presence: $presence,
            fentry: concat!("fentry_", $name $(, $variant)?),
            fexit: concat!("fexit_", $name $(, $variant)?),
            kprobe: concat!("kprobe_", $name $(, $variant)?),
        }),*]
    };
}

/// Those of one name stand together. Of recvmsg, `nonblock` has been a parameter before Linux 5.19, and `addr_len` is
/// none any more in 7.2. sendpage is gone since 6.5; IPv6 may be left out; AF_UNIX may be a module.
static FUNCTIONS: [Function; 13] = functions! {
    "tcp_sendmsg": [3], Always;
    "tcp_recvmsg": [4, 5], Always;
    "tcp_recvmsg" "_nonblock": [6], Always;
    "udp_sendmsg": [3], Always;
    "udp_recvmsg": [4, 5], Always;
    "udp_recvmsg" "_nonblock": [6], Always;
    "udpv6_sendmsg": [3], Sometimes;
    "udpv6_recvmsg": [4, 5], Sometimes;
    "udpv6_recvmsg" "_nonblock": [6], Sometimes;
    "unix_stream_sendmsg": [3], Sometimes;
    "unix_stream_recvmsg": [4], Sometimes;
    "tcp_sendpage": [5], Sometimes;
    "tcp_splice_read": [5], Always;
};

/// Those that a kernel has, which tells how many parameters a function takes.
pub fn select(parameters: impl Fn(&str) -> Option<usize>) -> Result<Vec<&'static Function>, FunctionError> {
    let named = FUNCTIONS.chunk_by(|one, next| one.name == next.name);
    named.filter_map(|variants| choose(variants, &parameters).transpose()).collect()
}

fn choose(
    variants: &'static [Function],
    parameters: impl Fn(&str) -> Option<usize>,
) -> Result<Option<&'static Function>, FunctionError> {
    let Some(first) = variants.first() else { return Ok(None) };
    match (parameters(first.name), first.presence) {
        (Some(count), _) => match variants.iter().find(|function| function.parameters.contains(&count)) {
            Some(function) => Ok(Some(function)),
            None => Err(FunctionError::Unknown { name: first.name, parameters: count }),
        },
        (None, Sometimes) => Ok(None),
        (None, Always) => Err(FunctionError::Absent(first.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel whose recvmsg functions take that many parameters, without sendpage and IPv6.
    fn kernel(received: usize) -> impl Fn(&str) -> Option<usize> {
        move |name| match name {
            "tcp_sendmsg" | "udp_sendmsg" | "unix_stream_sendmsg" => Some(3),
            "tcp_recvmsg" | "udp_recvmsg" => Some(received),
            "unix_stream_recvmsg" => Some(4),
            "tcp_splice_read" => Some(5),
            _ => None,
        }
    }

    #[test]
    fn every_known_form_has_its_programs() {
        for (received, program) in
            [(4, "fexit_tcp_recvmsg"), (5, "fexit_tcp_recvmsg"), (6, "fexit_tcp_recvmsg_nonblock")]
        {
            let chosen = select(kernel(received)).expect("known forms");
            assert_eq!(chosen.len(), 7);
            let receive: Vec<_> = chosen.iter().filter(|function| function.name == "tcp_recvmsg").collect();
            assert_eq!(receive.iter().map(|function| function.fexit).collect::<Vec<_>>(), [program]);
        }
    }

    #[test]
    fn what_is_not_known_is_never_left_out_in_silence() {
        let refused = FunctionError::Unknown { name: "tcp_recvmsg", parameters: 7 };
        assert_eq!(select(kernel(7)).unwrap_err(), refused);
        let without = |name: &str| kernel(5)(name).filter(|_| name != "udp_recvmsg");
        assert_eq!(select(without).unwrap_err(), FunctionError::Absent("udp_recvmsg"));
        let changed = |name: &str| if name == "tcp_sendpage" { Some(6) } else { kernel(5)(name) };
        assert_eq!(select(changed).unwrap_err(), FunctionError::Unknown { name: "tcp_sendpage", parameters: 6 });
    }
}
