//! From the network layer to TCP segments, UDP datagrams and SCTP packets, through tunnels and fragments.
//!
//! Checksums are not verified: captures on the sending host hold them before the network card has filled them in.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice, ip_number};
use protocols::{Cursor, Time};

use super::fragments::{Fragment, Fragments, Key, Outcome};
use super::ledger::Skip;
use super::link::{self, ETHER_TYPE_BRIDGED, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Frame};
use super::packet::Wire;

/// Tunnels inside each other that are looked into.
const MAX_NESTING: u8 = 8;

/// VXLAN's port (RFC 7348), and the one that Linux used before there was one and still defaults to.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// Geneve's port (RFC 8926).
const GENEVE_PORT: u16 = 6081;

/// One TCP segment, UDP datagram or SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub transport: Header,
    pub payload: Wire<'a>,
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Tcp(Tcp),
    /// With the identification of the IPv4 datagram (0 for IPv6): copies of a datagram share it.
    Udp {
        identification: u16,
    },
    /// With the verification tag. The chunks are the payload.
    Sctp {
        tag: u32,
    },
}

/// What reassembly needs of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    pub sequence: u32,
    /// The acknowledgment number, if the header carries one.
    pub acknowledgment: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// The urgent pointer, if it counts.
    pub urgent: Option<u16>,
}

/// The network layer of one capture.
#[derive(Debug, Default)]
pub struct Network {
    fragments: Fragments,
    /// Since the last call of [`Self::take_counts`].
    counts: Counts,
}

/// What became of fragments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub fragments: u64,
    pub reassembled: u64,
    pub incomplete: u64,
    pub overlapping: u64,
}

/// Takes what was decoded.
type Deliver<'f> = &'f mut dyn FnMut(Datagram<'_>);

/// A packet inside its tunnels.
#[derive(Clone, Copy)]
struct Scope {
    now: Time,
    depth: u8,
}

impl Scope {
    fn inner(self) -> Result<Self, Skip> {
        if self.depth >= MAX_NESTING { Err(Skip::Nesting) } else { Ok(Self { depth: self.depth + 1, ..self }) }
    }
}

/// The addresses of an IP packet and what it carries.
#[derive(Clone, Copy)]
struct Carried<'a> {
    source: IpAddr,
    destination: IpAddr,
    identification: u16,
    protocol: IpNumber,
    payload: Wire<'a>,
}

impl Network {
    /// Decodes a frame. `Ok` also means that a fragment was taken and nothing was delivered yet.
    pub fn decode(&mut self, frame: Frame<'_>, now: Time, deliver: Deliver<'_>) -> Result<(), Skip> {
        self.frame(frame, Scope { now, depth: 0 }, deliver)
    }

    /// What became of fragments since the last call.
    pub fn take_counts(&mut self) -> Counts {
        self.counts.incomplete += self.fragments.take_incomplete();
        std::mem::take(&mut self.counts)
    }

    /// Nothing more comes: gives up on incomplete datagrams.
    pub fn finish(&mut self) {
        self.fragments.finish();
    }

    fn frame(&mut self, frame: Frame<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        match frame.ether_type {
            ETHER_TYPE_IPV4 => self.ipv4(frame.payload, scope, deliver),
            ETHER_TYPE_IPV6 => self.ipv6(frame.payload, scope, deliver),
            ETHER_TYPE_BRIDGED if scope.depth > 0 => {
                self.frame(link::ethernet(frame.payload)?, scope.inner()?, deliver)
            }
            _ => Err(Skip::NotIp),
        }
    }

    fn ipv4(&mut self, wire: Wire<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        let header = Ipv4HeaderSlice::from_slice(wire.bytes).map_err(|error| match error {
            etherparse::err::ipv4::HeaderSliceError::Len(_) => Skip::CutOff,
            etherparse::err::ipv4::HeaderSliceError::Content(_) => Skip::Malformed,
        })?;
        let head = header.slice().len();
        let wire = match usize::from(header.total_len()) {
            // Segmentation offload: the sending host's capture sees the packet before its length is known.
            0 => wire,
            length if length < head => return Err(Skip::Malformed),
            length => wire.with_length(length),
        };
        let payload = wire.behind(head).ok_or(Skip::CutOff)?;
        let carried = Carried {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            identification: header.identification(),
            protocol: header.protocol(),
            payload,
        };
        if !header.is_fragmenting_payload() {
            return self.carried(carried, scope, deliver);
        }
        let offset = usize::from(header.fragments_offset().value()) * 8;
        self.fragment(carried, header.identification().into(), offset, header.more_fragments(), scope, deliver)
    }

    fn ipv6(&mut self, wire: Wire<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        let header = Ipv6HeaderSlice::from_slice(wire.bytes).map_err(|error| match error {
            etherparse::err::ipv6::HeaderSliceError::Len(_) => Skip::CutOff,
            etherparse::err::ipv6::HeaderSliceError::Content(_) => Skip::Malformed,
        })?;
        let behind = wire.behind(header.slice().len()).ok_or(Skip::CutOff)?;
        let payload = match usize::from(header.payload_length()) {
            // Segmentation offload as in IPv4, or a jumbogram (RFC 2675).
            0 => behind,
            length => behind.with_length(length),
        };
        let carried = Carried {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            identification: 0,
            protocol: header.next_header(),
            payload,
        };
        self.extensions(carried, scope, deliver)
    }

    /// Passes over IPv6 extension headers (RFC 8200 section 4); every one is at least 8 bytes long.
    fn extensions(&mut self, mut carried: Carried<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        loop {
            let mut cursor = Cursor::new(carried.payload.bytes);
            let unit = match carried.protocol {
                ip_number::IPV6_HEADER_HOP_BY_HOP
                | ip_number::IPV6_ROUTE_HEADER
                | ip_number::IPV6_DESTINATION_OPTIONS
                | ip_number::MOBILITY_HEADER
                | ip_number::HIP
                | ip_number::SHIM6 => 8,
                ip_number::AUTHENTICATION_HEADER => 4,
                ip_number::IPV6_FRAGMENTATION_HEADER => return self.ipv6_fragment(carried, scope, deliver),
                _ => return self.carried(carried, scope, deliver),
            };
            let (next, length) = (cursor.u8().ok_or(Skip::CutOff)?, cursor.u8().ok_or(Skip::CutOff)?);
            let first = 8;
            carried.payload = carried.payload.behind(first + usize::from(length) * unit).ok_or(Skip::CutOff)?;
            carried.protocol = IpNumber(next);
        }
    }

    fn ipv6_fragment(&mut self, carried: Carried<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        let header = Ipv6FragmentHeaderSlice::from_slice(carried.payload.bytes).map_err(|_| Skip::CutOff)?;
        let payload = carried.payload.behind(header.slice().len()).ok_or(Skip::CutOff)?;
        let carried = Carried { protocol: header.next_header(), payload, ..carried };
        if !header.is_fragmenting_payload() {
            // An "atomic" fragment (RFC 6946) is whole. Each nesting of them costs depth: they are never chained.
            return self.extensions(carried, scope.inner()?, deliver);
        }
        let offset = usize::from(header.fragment_offset().value()) * 8;
        self.fragment(carried, header.identification(), offset, header.more_fragments(), scope, deliver)
    }

    fn fragment(
        &mut self,
        carried: Carried<'_>,
        identification: u32,
        offset: usize,
        more: bool,
        scope: Scope,
        deliver: Deliver<'_>,
    ) -> Result<(), Skip> {
        let Carried { source, destination, payload, .. } = carried;
        let key = Key { source, destination, identification, protocol: carried.protocol.0 };
        self.counts.fragments += 1;
        match self.fragments.insert(Fragment { key, offset, more, payload }, scope.now) {
            Outcome::Held => Ok(()),
            Outcome::Overlap(dropped) => {
                self.counts.overlapping += dropped;
                Ok(())
            }
            Outcome::Whole(bytes, length) => {
                self.counts.reassembled += 1;
                let carried = Carried { payload: Wire::new(&bytes, length), ..carried };
                self.extensions(carried, scope.inner()?, deliver)
            }
        }
    }

    fn carried(&mut self, carried: Carried<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        let ip = |ether_type| Frame { ether_type, payload: carried.payload };
        match carried.protocol {
            ip_number::TCP => tcp(carried, deliver),
            ip_number::SCTP => sctp(carried, deliver),
            ip_number::UDP => self.udp(carried, scope, deliver),
            ip_number::IPV4 => self.frame(ip(ETHER_TYPE_IPV4), scope.inner()?, deliver),
            ip_number::IPV6 => self.frame(ip(ETHER_TYPE_IPV6), scope.inner()?, deliver),
            ip_number::GRE => self.frame(gre(carried.payload)?, scope.inner()?, deliver),
            other => Err(Skip::IpProtocol(other.0)),
        }
    }

    fn udp(&mut self, carried: Carried<'_>, scope: Scope, deliver: Deliver<'_>) -> Result<(), Skip> {
        let header = UdpHeaderSlice::from_slice(carried.payload.bytes).map_err(|_| Skip::CutOff)?;
        let wire = match usize::from(header.length()) {
            0 => carried.payload,
            length if length < header.slice().len() => return Err(Skip::Malformed),
            length => carried.payload.with_length(length),
        };
        let payload = wire.behind(header.slice().len()).ok_or(Skip::CutOff)?;
        if let Some(inner) = overlay(header.destination_port(), payload) {
            return self.frame(inner, scope.inner()?, deliver);
        }
        deliver(Datagram {
            source: SocketAddr::new(carried.source, header.source_port()),
            destination: SocketAddr::new(carried.destination, header.destination_port()),
            transport: Header::Udp { identification: carried.identification },
            payload,
        });
        Ok(())
    }
}

fn tcp(carried: Carried<'_>, deliver: Deliver<'_>) -> Result<(), Skip> {
    let mut cursor = Cursor::new(carried.payload.bytes);
    let mut fields =
        || Some((cursor.u16_be()?, cursor.u16_be()?, cursor.u32_be()?, cursor.u32_be()?, cursor.u16_be()?));
    let (source, destination, sequence, acknowledgment, flags) = fields().ok_or(Skip::CutOff)?;
    let head = usize::from(flags >> 12) * 4;
    if head < 20 {
        return Err(Skip::Malformed);
    }
    // Only options may be cut off: how much payload there was is known even so.
    let payload = carried.payload.behind_uncaptured(head).ok_or(Skip::Malformed)?;
    let flag = |bit: u16| flags & bit != 0;
    let pointer = carried.payload.bytes.get(18..).and_then(|behind| Cursor::new(behind).u16_be());
    let header = Tcp {
        sequence,
        acknowledgment: flag(0x10).then_some(acknowledgment),
        syn: flag(0x02),
        fin: flag(0x01),
        rst: flag(0x04),
        urgent: pointer.filter(|_| flag(0x20)),
    };
    deliver(Datagram {
        source: SocketAddr::new(carried.source, source),
        destination: SocketAddr::new(carried.destination, destination),
        transport: Header::Tcp(header),
        payload,
    });
    Ok(())
}

/// The common header (RFC 9260 section 3.1).
fn sctp(carried: Carried<'_>, deliver: Deliver<'_>) -> Result<(), Skip> {
    let mut cursor = Cursor::new(carried.payload.bytes);
    let mut fields = || Some((cursor.u16_be()?, cursor.u16_be()?, cursor.u32_be()?));
    let (source, destination, tag) = fields().ok_or(Skip::CutOff)?;
    deliver(Datagram {
        source: SocketAddr::new(carried.source, source),
        destination: SocketAddr::new(carried.destination, destination),
        transport: Header::Sctp { tag },
        payload: carried.payload.behind(12).ok_or(Skip::CutOff)?,
    });
    Ok(())
}

/// GRE (RFC 2784, RFC 2890), and the version of PPTP (RFC 2637).
fn gre(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    const ETHER_TYPE_PPP: u16 = 0x880b;
    let mut cursor = Cursor::new(wire.bytes);
    let (flags, ether_type) = (cursor.u16_be().ok_or(Skip::CutOff)?, cursor.u16_be().ok_or(Skip::CutOff)?);
    let flag = |bit: u16| usize::from(flags & bit != 0) * 4;
    let [checksum, key, sequence, acknowledgment] = [0x8000, 0x2000, 0x1000, 0x0080].map(flag);
    match (flags & 7, flags & 0x4000 != 0) {
        (0, false) => {
            let payload = wire.behind(4 + checksum + key + sequence).ok_or(Skip::CutOff)?;
            Ok(Frame { ether_type, payload })
        }
        (1, false) if ether_type == ETHER_TYPE_PPP => {
            link::ppp(wire.behind(8 + sequence + acknowledgment).ok_or(Skip::CutOff)?)
        }
        _ => Err(Skip::Tunnel),
    }
}

/// The frame inside VXLAN or Geneve; `None` if the datagram is something else on their port.
fn overlay(port: u16, payload: Wire<'_>) -> Option<Frame<'_>> {
    let mut cursor = Cursor::new(payload.bytes);
    if VXLAN_PORTS.contains(&port) {
        let [flags, reserved @ ..] = cursor.array::<4>()?;
        let [.., last] = cursor.array::<4>()?;
        let genuine = flags == 0x08 && reserved == [0; 3] && last == 0;
        return genuine.then_some(Frame { ether_type: ETHER_TYPE_BRIDGED, payload: payload.behind(8)? });
    }
    if port == GENEVE_PORT {
        let [version_and_length, flags] = cursor.array::<2>()?;
        let ether_type = cursor.u16_be()?;
        let genuine = version_and_length >> 6 == 0
            && flags & 0x3f == 0
            && [ETHER_TYPE_BRIDGED, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6].contains(&ether_type);
        let options = usize::from(version_and_length & 0x3f) * 4;
        return genuine.then_some(Frame { ether_type, payload: payload.behind(8 + options)? });
    }
    None
}

#[cfg(test)]
#[path = "ip_tests.rs"]
mod tests;
