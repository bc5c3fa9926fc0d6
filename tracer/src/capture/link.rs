//! From the link layer to the network layer.
//!
//! What each link type begins with: <https://www.tcpdump.org/linktypes.html>.

use protocols::Cursor;

use super::ledger::Skip;
use super::packet::Wire;

/// What a frame carries, by its EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub ether_type: u16,
    pub payload: Wire<'a>,
}

pub const ETHER_TYPE_IPV4: u16 = 0x0800;
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;
pub const ETHER_TYPE_BRIDGED: u16 = 0x6558;
const ETHER_TYPE_PPPOE_SESSION: u16 = 0x8864;
/// 802.1Q, 802.1ad, and two that were used for it before.
const ETHER_TYPES_VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// Smaller values are lengths of IEEE 802.3 frames.
const ETHER_TYPE_FIRST: u16 = 0x0600;
/// LLC header of SNAP with organization code 0 (RFC 1042): an EtherType follows.
const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];

const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// Link types by their number in the registry.
mod link_type {
    pub const NULL: u32 = 0;
    pub const ETHERNET: u32 = 1;
    pub const PPP: u32 = 9;
    /// Raw IP, as OpenBSD and others number it.
    pub const RAW_12: u32 = 12;
    pub const RAW_14: u32 = 14;
    pub const PPP_HDLC: u32 = 50;
    pub const PPP_ETHER: u32 = 51;
    pub const RAW: u32 = 101;
    /// Cisco HDLC (RFC 1547 section 4.3.1).
    pub const C_HDLC: u32 = 104;
    pub const LOOP: u32 = 108;
    pub const LINUX_SLL: u32 = 113;
    pub const IPV4: u32 = 228;
    pub const IPV6: u32 = 229;
    pub const NFLOG: u32 = 239;
    pub const ARCNET_LINUX: u32 = 129;
    pub const LINUX_SLL2: u32 = 276;
}

/// Passes over the link layer.
pub fn decode(link_type: u32, wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    match link_type {
        link_type::ETHERNET => ethernet(wire),
        link_type::RAW_12 | link_type::RAW_14 | link_type::RAW => raw_ip(wire),
        link_type::IPV4 => Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload: wire }),
        link_type::IPV6 => Ok(Frame { ether_type: ETHER_TYPE_IPV6, payload: wire }),
        link_type::NULL | link_type::LOOP => loopback(wire),
        link_type::LINUX_SLL => linux_cooked(wire, 14, 16),
        link_type::LINUX_SLL2 => linux_cooked(wire, 0, 20),
        link_type::PPP_HDLC | link_type::C_HDLC if is_cisco_hdlc(wire) => ether_type(wire, 2),
        link_type::PPP | link_type::PPP_HDLC => ppp(wire),
        link_type::NFLOG => nflog(wire),
        link_type::PPP_ETHER => pppoe(wire),
        link_type::ARCNET_LINUX => arcnet(wire),
        other => Err(Skip::LinkType(other)),
    }
}

/// Ethernet II or IEEE 802.3 with SNAP, with any number of VLAN tags.
pub fn ethernet(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    ether_type(wire, 12)
}

/// The frame whose EtherType stands at `at`.
fn ether_type(wire: Wire<'_>, at: usize) -> Result<Frame<'_>, Skip> {
    let mut rest = wire.behind(at).ok_or(Skip::CutOff)?;
    loop {
        let ether_type = Cursor::new(rest.bytes).u16_be().ok_or(Skip::CutOff)?;
        rest = rest.behind(2).ok_or(Skip::CutOff)?;
        if ETHER_TYPES_VLAN.contains(&ether_type) {
            rest = rest.behind(2).ok_or(Skip::CutOff)?;
        } else if ether_type == ETHER_TYPE_PPPOE_SESSION {
            return pppoe(rest);
        } else if ether_type >= ETHER_TYPE_FIRST {
            return Ok(Frame { ether_type, payload: rest });
        } else if rest.bytes.starts_with(&SNAP) {
            rest = rest.behind(SNAP.len()).ok_or(Skip::CutOff)?;
        } else {
            return Err(Skip::NotIp);
        }
    }
}

/// The address family of the capturing machine, in its byte order (NULL) or in network order (LOOP). The values for
/// IPv6 differ between systems; none of them is another's IPv4.
fn loopback(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    const AF_INET: u32 = 2;
    const AF_INET6: [u32; 4] = [10, 24, 28, 30];
    let family: [u8; 4] = Cursor::new(wire.bytes).array().ok_or(Skip::CutOff)?;
    let payload = wire.behind(4).ok_or(Skip::CutOff)?;
    let values = [u32::from_le_bytes(family), u32::from_be_bytes(family)];
    if values.contains(&AF_INET) {
        Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload })
    } else if values.iter().any(|value| AF_INET6.contains(value)) {
        Ok(Frame { ether_type: ETHER_TYPE_IPV6, payload })
    } else {
        Err(Skip::NotIp)
    }
}

/// IP by the version in its first byte.
fn raw_ip(payload: Wire<'_>) -> Result<Frame<'_>, Skip> {
    match payload.bytes.first().map(|byte| byte >> 4) {
        Some(4) => Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload }),
        Some(6) => Ok(Frame { ether_type: ETHER_TYPE_IPV6, payload }),
        Some(_) => Err(Skip::NotIp),
        None => Err(Skip::CutOff),
    }
}

/// Linux "cooked" headers: the protocol is an EtherType, or a small number for what has none.
fn linux_cooked(wire: Wire<'_>, protocol: usize, header: usize) -> Result<Frame<'_>, Skip> {
    let head = wire.bytes.get(protocol..).ok_or(Skip::CutOff)?;
    let value = Cursor::new(head).u16_be().ok_or(Skip::CutOff)?;
    let payload = wire.behind(header).ok_or(Skip::CutOff)?;
    if !ETHER_TYPES_VLAN.contains(&value) && value != ETHER_TYPE_PPPOE_SESSION {
        return Ok(Frame { ether_type: value, payload });
    }
    if value == ETHER_TYPE_PPPOE_SESSION {
        return pppoe(payload);
    }
    ether_type(payload, 2)
}

/// RFC 1661 and RFC 1662: address and control may be left out, and so may the first byte of the protocol.
pub fn ppp(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    let rest = if wire.bytes.starts_with(&[0xff, 3]) { wire.behind(2).ok_or(Skip::CutOff)? } else { wire };
    let mut cursor = Cursor::new(rest.bytes);
    let first = cursor.u8().ok_or(Skip::CutOff)?;
    let protocol = match first & 1 {
        1 => u16::from(first),
        _ => u16::from(first) << 8 | u16::from(cursor.u8().ok_or(Skip::CutOff)?),
    };
    let payload = rest.behind(cursor.position()).ok_or(Skip::CutOff)?;
    match protocol {
        PPP_IPV4 => Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload }),
        PPP_IPV6 => Ok(Frame { ether_type: ETHER_TYPE_IPV6, payload }),
        _ => Err(Skip::NotIp),
    }
}

/// ARCnet as Linux hands it over: source, destination, two bytes of offset, protocol. IP follows at once as in
/// RFC 1051, or behind a split flag and a sequence number as in RFC 1201; there it may come in fragments.
fn arcnet(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    const IP_RFC_1051: u8 = 240;
    const IP_RFC_1201: u8 = 212;
    let [.., protocol] = Cursor::new(wire.bytes).array::<5>().ok_or(Skip::CutOff)?;
    let rest = wire.behind(5).ok_or(Skip::CutOff)?;
    let payload = match protocol {
        IP_RFC_1051 => rest,
        IP_RFC_1201 => match Cursor::new(rest.bytes).u8() {
            Some(0) => rest.behind(3).ok_or(Skip::CutOff)?,
            Some(_) => return Err(Skip::NotIp),
            None => return Err(Skip::CutOff),
        },
        _ => return Err(Skip::NotIp),
    };
    Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload })
}

/// Its addresses are those of unicast and multicast; PPP's is ff.
fn is_cisco_hdlc(wire: Wire<'_>) -> bool {
    matches!(wire.bytes.first(), Some(0x0f | 0x8f))
}

/// Netfilter's log: address family, version, resource, then attributes of which one is the packet. Lengths and types
/// are in the byte order of the capturing machine; 1 as a length is too short to be one.
fn nflog(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    const PAYLOAD: u16 = 9;
    let family = Cursor::new(wire.bytes).u8().ok_or(Skip::CutOff)?;
    let mut rest = wire.behind(4).ok_or(Skip::CutOff)?;
    loop {
        let [a, b, c, d] = Cursor::new(rest.bytes).array().ok_or(Skip::CutOff)?;
        let (little, big) = (u16::from_le_bytes([a, b]), u16::from_be_bytes([a, b]));
        let (length, kind) =
            if little <= big { (little, u16::from_le_bytes([c, d])) } else { (big, u16::from_be_bytes([c, d])) };
        let length = usize::from(length);
        if length < 4 {
            return Err(Skip::Malformed);
        }
        if kind == PAYLOAD {
            let payload = rest.with_length(length).behind(4).ok_or(Skip::CutOff)?;
            return match family {
                2 => Ok(Frame { ether_type: ETHER_TYPE_IPV4, payload }),
                10 => Ok(Frame { ether_type: ETHER_TYPE_IPV6, payload }),
                _ => Err(Skip::NotIp),
            };
        }
        rest = rest.behind(length.next_multiple_of(4)).ok_or(Skip::CutOff)?;
    }
}

/// RFC 2516: version and type, code (0 for data), session, length.
fn pppoe(wire: Wire<'_>) -> Result<Frame<'_>, Skip> {
    let mut cursor = Cursor::new(wire.bytes);
    let (_version, code) = (cursor.u8(), cursor.u8().ok_or(Skip::CutOff)?);
    if code != 0 {
        return Err(Skip::NotIp);
    }
    ppp(wire.behind(6).ok_or(Skip::CutOff)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(link_type: u32, header: &[u8], ether_type: u16) {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(b"\x45payload");
        let expected = Frame { ether_type, payload: Wire { bytes: b"\x45payload", length: 58 } };
        let wire = Wire::new(&bytes, header.len() + 58);
        assert_eq!(decode(link_type, wire), Ok(expected), "link type {link_type}");
        for cut in 0..header.len() {
            let cut_off = decode(link_type, Wire::new(&bytes[..cut], header.len() + 58));
            assert!(cut_off.is_err(), "link type {link_type} cut at {cut}: {cut_off:?}");
        }
    }

    const ADDRESSES: [u8; 12] = [2; 12];

    fn ethernet(rest: &[u8]) -> Vec<u8> {
        [&ADDRESSES, rest].concat()
    }

    #[test]
    fn ethernet_carries_its_ether_type() {
        case(1, &ethernet(&[0x08, 0x00]), 0x0800);
        case(1, &ethernet(&[0x86, 0xdd]), 0x86dd);
    }

    #[test]
    fn vlan_tags_are_passed_over_however_many() {
        case(1, &ethernet(&[0x81, 0x00, 0, 5, 0x08, 0x00]), 0x0800);
        case(1, &ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x86, 0xdd]), 0x86dd);
        case(1, &ethernet(&[0x91, 0x00, 0, 5, 0x81, 0x00, 0, 6, 0x81, 0x00, 0, 7, 0x08, 0x00]), 0x0800);
    }

    #[test]
    fn ieee_802_3_with_snap() {
        case(1, &ethernet(&[0, 50, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00]), 0x0800);
        let spanning_tree = ethernet(&[0, 38, 0x42, 0x42, 3, 0, 0, 0]);
        assert_eq!(decode(1, Wire::new(&spanning_tree, 60)), Err(Skip::NotIp));
    }

    #[test]
    fn pppoe_on_ethernet_and_on_its_own() {
        case(1, &ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 60, 0x00, 0x21]), 0x0800);
        case(51, &[0x11, 0, 0, 1, 0, 60, 0x00, 0x57], 0x86dd);
        assert_eq!(decode(51, Wire::new(&[0x11, 9, 0, 0, 0, 0, 0, 0x21], 60)), Err(Skip::NotIp), "discovery");
    }

    #[test]
    fn ppp_with_and_without_compressed_fields() {
        case(9, &[0xff, 3, 0, 0x21], 0x0800);
        case(9, &[0, 0x57], 0x86dd);
        case(9, &[0x21], 0x0800);
        case(50, &[0xff, 3, 0x57], 0x86dd);
        assert_eq!(decode(9, Wire::new(&[0xff, 3, 0xc0, 0x21, 1], 60)), Err(Skip::NotIp), "link control");
    }

    #[test]
    fn loopback_in_both_byte_orders_and_of_all_systems() {
        case(0, &[2, 0, 0, 0], 0x0800);
        case(0, &[0, 0, 0, 2], 0x0800);
        case(108, &[0, 0, 0, 2], 0x0800);
        for family in [10, 24, 28, 30] {
            case(0, &[family, 0, 0, 0], 0x86dd);
            case(108, &[0, 0, 0, family], 0x86dd);
        }
        assert_eq!(decode(0, Wire::new(&[7, 0, 0, 0, 1], 60)), Err(Skip::NotIp));
    }

    #[test]
    fn linux_cooked_of_both_versions() {
        let address = [0, 4, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        case(113, &[&address[..], &[0x08, 0x00]].concat(), 0x0800);
        case(113, &[&address[..], &[0x81, 0x00, 0, 5, 0x86, 0xdd]].concat(), 0x86dd);
        let rest = [0, 0, 0, 0, 0, 7, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        case(276, &[&[0x86, 0xdd], &rest[..]].concat(), 0x86dd);
        case(276, &[&[0x81, 0x00], &rest[..], &[0, 5, 0x08, 0x00]].concat(), 0x0800);
    }

    #[test]
    fn cisco_hdlc_under_both_numbers() {
        for link_type in [50, 104] {
            case(link_type, &[0x0f, 0, 0x08, 0x00], 0x0800);
            case(link_type, &[0x8f, 0, 0x86, 0xdd], 0x86dd);
        }
        assert_eq!(decode(104, Wire::new(&[0xff, 3, 0, 0x21, 0x45], 40)), Err(Skip::LinkType(104)));
    }

    #[test]
    fn arcnet_of_both_standards() {
        case(129, &[0xbe, 0x50, 0xab, 8, 240], 0x0800);
        case(129, &[0xbe, 0x50, 0xab, 8, 212, 0, 0, 1], 0x0800);
        assert_eq!(decode(129, Wire::new(&[1, 2, 0, 0, 212, 3, 0, 1, 0x45], 60)), Err(Skip::NotIp), "a fragment");
        assert_eq!(decode(129, Wire::new(&[1, 2, 0, 0, 241, 0, 7], 60)), Err(Skip::NotIp), "ARP");
    }

    #[test]
    fn nflog_finds_the_packet_among_attributes() {
        let little = [2, 0, 0, 0, 5, 0, 10, 0, b'x', 0, 0, 0, 8 + 4 - 4 + 54, 0, 9, 0];
        let big = [2, 0, 0, 0, 0, 5, 0, 10, b'x', 0, 0, 0, 0, 62, 0, 9];
        for header in [little, big] {
            let bytes = [&header[..], b"\x45payload"].concat();
            let expected = Wire { bytes: b"\x45payload", length: 58 };
            let frame = decode(239, Wire::new(&bytes, header.len() + 58));
            assert_eq!(frame, Ok(Frame { ether_type: 0x0800, payload: expected }));
        }
        assert_eq!(decode(239, Wire::new(&[2, 0, 0, 0, 0, 0, 9, 0], 60)), Err(Skip::Malformed));
        assert_eq!(decode(239, Wire::new(&[7, 0, 0, 0, 8, 0, 9, 0, 1, 1, 1, 1], 60)), Err(Skip::NotIp));
    }

    #[test]
    fn raw_ip_tells_its_version_itself() {
        for link_type in [12, 14, 101] {
            case(link_type, &[], 0x0800);
            let six = Wire::new(&[0x60, 1], 40);
            assert_eq!(decode(link_type, six), Ok(Frame { ether_type: 0x86dd, payload: six }));
            assert_eq!(decode(link_type, Wire::new(&[0x10], 40)), Err(Skip::NotIp));
        }
        case(228, &[], 0x0800);
        case(229, &[], 0x86dd);
    }

    #[test]
    fn an_unknown_link_type_is_named() {
        assert_eq!(decode(105, Wire::new(&[0; 40], 40)), Err(Skip::LinkType(105)));
    }
}
