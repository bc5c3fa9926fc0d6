//! The sockets of some processes, from /proc.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};

use super::report::Sockets;

/// HTTP/3's port (RFC 9114, section 3.1).
const QUIC_PORT: u16 = 443;

/// Looks at the descriptors of each process, and once at the tables of each network namespace.
pub fn examine(pids: &[u32]) -> Sockets {
    let mut sockets = Sockets::default();
    let mut inodes = HashSet::new();
    let mut io_urings = HashSet::new();
    let mut namespaces: HashMap<Option<PathBuf>, Process> = HashMap::new();
    for &pid in pids {
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { continue };
        let Ok(descriptors) = process.fd() else {
            sockets.unreadable += 1;
            continue;
        };
        for descriptor in descriptors.flatten() {
            match descriptor.target {
                FDTarget::Socket(inode) => _ = inodes.insert(inode),
                FDTarget::AnonInode(kind) if kind.contains("io_uring") => _ = io_urings.insert((pid, descriptor.fd)),
                _ => {}
            }
        }
        namespaces.insert(std::fs::read_link(format!("/proc/{pid}/ns/net")).ok(), process);
    }
    sockets.io_urings = io_urings.len();
    let mut listening = BTreeSet::new();
    for process in namespaces.values() {
        tcp(process, &inodes, &mut sockets, &mut listening);
        udp(process, &inodes, &mut sockets);
        let unix = process.unix().unwrap_or_default();
        sockets.unix += unix.iter().filter(|entry| inodes.contains(&entry.inode)).count();
        let statistics = std::fs::read_to_string(format!("/proc/{}/net/tls_stat", process.pid)).ok();
        if let Some(sessions) = statistics.as_deref().map(kernel_tls) {
            *sockets.kernel_tls.get_or_insert(0) += sessions;
        }
    }
    sockets.listening = listening.into_iter().map(|address| address.to_string()).collect();
    sockets
}

fn tcp(
    process: &Process,
    inodes: &HashSet<u64>,
    sockets: &mut Sockets,
    listening: &mut BTreeSet<std::net::SocketAddr>,
) {
    let tables = [process.tcp(), process.tcp6()];
    for entry in tables.into_iter().flatten().flatten().filter(|entry| inodes.contains(&entry.inode)) {
        match entry.state {
            TcpState::Listen => _ = listening.insert(entry.local_address),
            TcpState::Close => {}
            _ => sockets.connections += 1,
        }
    }
}

fn udp(process: &Process, inodes: &HashSet<u64>, sockets: &mut Sockets) {
    let tables = [process.udp(), process.udp6()];
    for entry in tables.into_iter().flatten().flatten().filter(|entry| inodes.contains(&entry.inode)) {
        sockets.udp += 1;
        sockets.quic +=
            usize::from([entry.local_address, entry.remote_address].iter().any(|end| end.port() == QUIC_PORT));
    }
}

/// Sessions that are open now (Documentation/networking/tls.rst, "Statistics").
fn kernel_tls(statistics: &str) -> u64 {
    let current = statistics.lines().filter_map(|line| line.strip_prefix("TlsCurr"));
    current.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn own_sockets_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let _server = listener.accept().unwrap();
        let _udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = examine(&[std::process::id()]);
        assert!(sockets.listening.contains(&address.to_string()), "{sockets:?}");
        assert!(sockets.connections >= 2 && sockets.udp >= 1, "{sockets:?}");
        assert_eq!((sockets.quic, sockets.io_urings), (0, 0));
    }

    #[test]
    fn kernel_tls_sessions_now() {
        let statistics = "TlsCurrTxSw                     \t2\nTlsCurrRxSw                     \t1\nTlsTxSw   \t90\n";
        assert_eq!(kernel_tls(statistics), 3);
        assert_eq!(kernel_tls("nonsense\nTlsCurr\n"), 0);
    }
}
