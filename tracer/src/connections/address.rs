//! From the event ABI's addresses to endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use protocols::Text;
use tracer_ebpf::{Open, Tuple};

use crate::record::Endpoint;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Local and remote end of an internet socket; `None` for other families.
pub fn endpoints(tuple: &Tuple) -> Option<(Endpoint, Endpoint)> {
    let local = SocketAddr::new(address(tuple.family, tuple.local)?, tuple.local_port);
    let remote = SocketAddr::new(address(tuple.family, tuple.remote)?, tuple.remote_port);
    Some((Endpoint::Inet(local), Endpoint::Inet(remote)))
}

/// Local and remote end of a unix socket.
pub fn unix_endpoints(open: &Open) -> (Endpoint, Endpoint) {
    let path = |path: &[u8], length: u16| {
        let path = path.get(..usize::from(length)).unwrap_or_default();
        // A path ends at its first zero byte; an abstract name begins with one and ends with its length.
        let end = if path.first() == Some(&0) { None } else { path.iter().position(|&byte| byte == 0) };
        Endpoint::Unix(Text::from(path.get(..end.unwrap_or(path.len())).unwrap_or_default()))
    };
    (path(&open.local_path, open.local_path_length), path(&open.remote_path, open.remote_path_length))
}

/// An IPv4 peer of an IPv6 socket is the IPv4 address that is on the wire (RFC 4291, section 2.5.5.2).
fn address(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let [a, b, c, d, ..] = bytes;
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        AF_INET6 => Some(Ipv6Addr::from(bytes).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_print_as_what_is_on_the_wire() {
        let mut local = [0; 16];
        local[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let tuple = Tuple { local, local_port: 80, remote_port: 5000, family: AF_INET6, ..Tuple::default() };
        let (local, remote) = endpoints(&tuple).unwrap();
        assert_eq!(local, Endpoint::Inet("127.0.0.1:80".parse().unwrap()));
        assert_eq!(remote, Endpoint::Inet("[::]:5000".parse().unwrap()));
        assert_eq!(endpoints(&Tuple { family: 1, ..Tuple::default() }), None);
    }
}
