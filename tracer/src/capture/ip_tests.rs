//! Tunnels, fragments, extension headers.

use super::super::packet::Packet;
use super::super::testing::udp;
use super::*;

/// Source, destination, captured payload and its full length.
type Found = (String, String, Vec<u8>, usize);

/// What came out of packets, each with its link type.
fn decode_all(packets: &[(u32, &[u8])]) -> (Vec<Found>, Vec<Skip>) {
    let mut network = Network::default();
    let (mut out, mut skips) = (Vec::new(), Vec::new());
    for &(link_type, bytes) in packets {
        let packet = Packet { link_type, time: None, wire: Wire::new(bytes, bytes.len()), comment: None };
        let mut deliver = |datagram: Datagram<'_>| {
            let ends = (datagram.source.to_string(), datagram.destination.to_string());
            out.push((ends.0, ends.1, datagram.payload.bytes.to_vec(), datagram.payload.length));
        };
        let frame = link::decode(packet.link_type, packet.wire);
        if let Err(skip) = frame.and_then(|frame| network.decode(frame, Time(0), &mut deliver)) {
            skips.push(skip);
        }
    }
    (out, skips)
}

fn query() -> Vec<u8> {
    udp("10.0.0.1:5000", "10.0.0.2:53", b"query")
}

fn query6() -> Vec<u8> {
    udp("[2001:db8::1]:5000", "[2001:db8::2]:53", b"query")
}

#[track_caller]
fn finds_query(link_type: u32, bytes: &[u8]) {
    let (found, skips) = decode_all(&[(link_type, bytes)]);
    let expected = ("10.0.0.1:5000".to_owned(), "10.0.0.2:53".to_owned(), b"query".to_vec(), 5);
    assert_eq!((found, skips), (vec![expected], vec![]));
}

#[track_caller]
fn finds_query6(link_type: u32, bytes: &[u8]) {
    let (found, skips) = decode_all(&[(link_type, bytes)]);
    let expected = ("[2001:db8::1]:5000".to_owned(), "[2001:db8::2]:53".to_owned(), b"query".to_vec(), 5);
    assert_eq!((found, skips), (vec![expected], vec![]));
}

/// `inner` as the payload of an IPv4 packet of a protocol.
fn ipv4(protocol: u8, inner: &[u8]) -> Vec<u8> {
    let header =
        etherparse::Ipv4Header::new(inner.len() as u16, 64, IpNumber(protocol), [192, 0, 2, 1], [192, 0, 2, 2])
            .unwrap();
    [&header.to_bytes()[..], inner].concat()
}

fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = query6();
    bytes.truncate(40);
    bytes[4..6].copy_from_slice(&(inner.len() as u16).to_be_bytes());
    bytes[6] = next;
    [&bytes, inner].concat()
}

fn ethernet(ether_type: u16, inner: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ether_type.to_be_bytes(), inner].concat()
}

#[test]
fn both_versions_without_a_tunnel() {
    finds_query(101, &query());
    finds_query6(101, &query6());
}

#[test]
fn ethernet_padding_is_not_payload() {
    finds_query(1, &[ethernet(0x0800, &query()), vec![0; 20]].concat());
    finds_query6(1, &[ethernet(0x86dd, &query6()), vec![0; 20]].concat());
}

#[test]
fn ip_in_ip() {
    finds_query(101, &ipv4(4, &query()));
    finds_query6(101, &ipv4(41, &query6()));
    finds_query(101, &ipv6(4, &query()));
    finds_query6(101, &ipv6(41, &query6()));
}

#[test]
fn gre_with_every_option() {
    finds_query(101, &ipv4(47, &[&[0, 0, 8, 0][..], &query()].concat()));
    finds_query6(101, &ipv4(47, &[&[0xb0, 0, 0x86, 0xdd][..], &[0; 12], &query6()].concat()));
    finds_query(101, &ipv4(47, &[&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1][..], &ethernet(0x0800, &query())].concat()));
    let pptp = [&[0x30, 0x81, 0x88, 0x0b, 0, 30, 0, 1][..], &[0; 8], &[0xff, 3, 0, 0x21], &query()].concat();
    finds_query(101, &ipv4(47, &pptp));
    let source_route = ipv4(47, &[&[0x40, 0, 8, 0][..], &query()].concat());
    assert_eq!(decode_all(&[(101, &source_route)]).1, [Skip::Tunnel]);
}

#[test]
fn vxlan_on_both_ports() {
    for port in [4789, 8472] {
        let inner = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &ethernet(0x0800, &query())].concat();
        finds_query(101, &udp("192.0.2.1:9999", &format!("192.0.2.2:{port}"), &inner));
    }
}

#[test]
fn geneve_with_options_carries_ethernet_or_ip() {
    let bridged = [&[0, 0, 0x65, 0x58, 0, 0, 1, 0][..], &ethernet(0x86dd, &query6())].concat();
    finds_query6(101, &udp("192.0.2.1:9999", "192.0.2.2:6081", &bridged));
    let options = [&[2, 0, 8, 0, 0, 0, 1, 0][..], &[0; 8], &query()].concat();
    finds_query(101, &udp("192.0.2.1:9999", "192.0.2.2:6081", &options));
}

#[test]
fn other_traffic_on_a_tunnels_port_is_a_plain_datagram() {
    for port in [4789, 8472, 6081] {
        let plain = udp("192.0.2.1:9999", &format!("192.0.2.2:{port}"), b"something else");
        let (found, skips) = decode_all(&[(101, &plain)]);
        assert_eq!((found[0].2.as_slice(), skips.len()), (&b"something else"[..], 0), "port {port}");
    }
}

#[test]
fn tunnels_inside_tunnels_have_a_bound() {
    let mut bytes = query();
    for _ in 0..MAX_NESTING {
        bytes = ipv4(4, &bytes);
    }
    finds_query(101, &bytes);
    assert_eq!(decode_all(&[(101, &ipv4(4, &bytes))]).1, [Skip::Nesting]);
}

#[test]
fn extension_headers() {
    let transport = &query6()[40..];
    let hop_by_hop = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[43, 1, 0, 0, 0, 0, 0, 0], &[0; 8], &[17, 0, 0, 0, 0, 0, 0, 0]];
    finds_query6(101, &ipv6(0, &[&hop_by_hop.concat(), transport].concat()));
    let authentication = [&[17, 4, 0, 0][..], &[0; 20], transport].concat();
    finds_query6(101, &ipv6(51, &authentication));
    let atomic = [&[17, 0, 0, 0, 0, 0, 0, 9][..], transport].concat();
    finds_query6(101, &ipv6(44, &atomic));
    assert_eq!(decode_all(&[(101, &ipv6(50, &[0; 40]))]).1, [Skip::IpProtocol(50)]);
    assert_eq!(decode_all(&[(101, &ipv6(0, &[17, 200, 0, 0]))]).1, [Skip::CutOff]);
}

/// The packet in fragments of `size` bytes of payload.
fn fragments4(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let pieces: Vec<_> = payload.chunks(size).collect();
    let last = pieces.len() - 1;
    let make = |(index, piece): (usize, &&[u8])| {
        let mut bytes = [header, piece].concat();
        bytes[2..4].copy_from_slice(&(piece.len() as u16 + 20).to_be_bytes());
        let offset = (index * size / 8) as u16 | if index == last { 0 } else { 0x2000 };
        bytes[6..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    };
    pieces.iter().enumerate().map(make).collect()
}

#[test]
fn ipv4_fragments_in_any_order() {
    let packet = udp("10.0.0.1:5000", "10.0.0.2:53", &[7; 100]);
    let mut pieces = fragments4(&packet, 24);
    pieces.reverse();
    let packets: Vec<_> = pieces.iter().map(|bytes| (101, bytes.as_slice())).collect();
    let (found, skips) = decode_all(&packets);
    assert_eq!((found.len(), found[0].2.len(), skips.len()), (1, 100, 0));
}

#[test]
fn ipv6_fragments() {
    let transport = query6()[40..].to_vec();
    let fragment = |offset: u16, more: u16, part: &[u8]| {
        let field = (offset | more).to_be_bytes();
        ipv6(44, &[&[17, 0, field[0], field[1], 0, 0, 0, 9][..], part].concat())
    };
    let pieces = [fragment(0, 1, &transport[..8]), fragment(8, 0, &transport[8..])];
    let (found, skips) = decode_all(&[(101, &pieces[0]), (101, &pieces[1])]);
    assert_eq!((found[0].2.as_slice(), skips.len()), (&b"query"[..], 0));
}

#[test]
fn segmentation_offload_leaves_lengths_empty() {
    let mut bytes = query();
    bytes[2..4].copy_from_slice(&[0, 0]);
    finds_query(101, &bytes);
    let mut bytes = query6();
    bytes[4..6].copy_from_slice(&[0, 0]);
    finds_query6(101, &bytes);
}

#[test]
fn lengths_that_lie_are_refused_or_read_as_cut_off() {
    let mut short = query();
    short[2..4].copy_from_slice(&10_u16.to_be_bytes());
    let mut header = query();
    header[0] = 0x41;
    let mut udp_short = query();
    udp_short[24..26].copy_from_slice(&3_u16.to_be_bytes());
    for bytes in [short, header, udp_short] {
        assert_eq!(decode_all(&[(101, &bytes)]).1, [Skip::Malformed]);
    }
    let mut long = query();
    long[2..4].copy_from_slice(&1000_u16.to_be_bytes());
    long[24..26].copy_from_slice(&980_u16.to_be_bytes());
    let (found, _) = decode_all(&[(101, &long)]);
    assert_eq!((found[0].2.as_slice(), found[0].3), (&b"query"[..], 972));
}

#[test]
fn no_prefix_of_a_packet_does_harm() {
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &ethernet(0x0800, &ipv4(4, &query()))].concat();
    let whole = ethernet(0x8100, &[&[0, 5, 0x08, 0][..], &udp("192.0.2.1:9999", "192.0.2.2:4789", &vxlan)].concat());
    for cut in 0..whole.len() {
        let (found, skips) = decode_all(&[(1, &whole[..cut])]);
        assert_eq!(found.len() + skips.len(), 1, "cut at {cut}");
    }
}
