//! Capture files and records of the ring.

use etherparse::{PacketBuilder, ip_number};
use protocols::{Direction, Layer, Segment, Side, Span, Time, Transport};
use tracer::capture::{Description, PcapngWriter};
use tracer::record::{Clock, ConnectionInfo, Endpoint, Role, Tls, TupleSource};
use tracer_ebpf::kind;

use super::{Conversation, Seed};

/// Each protocol's first conversation, by turns as packets of Ethernet and as a recording.
pub fn all(protocols: &[(&'static str, Vec<(&'static str, Conversation)>)]) -> Vec<Seed> {
    let first = protocols.iter().filter_map(|(name, talks)| Some((*name, &talks.first()?.1)));
    let mut seeds: Vec<Seed> = first
        .enumerate()
        .map(|(index, (name, talk))| (name, if index % 2 == 0 { packets(talk) } else { recording(talk) }))
        .collect();
    seeds.push(("datagrams", datagrams(&super::dns::datagrams())));
    seeds.extend(protocols.first().and_then(|(_, talks)| Some(("association", association(&talks.first()?.1)))));
    seeds
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for (second, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        file.extend([second as u32, 0, length, length].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    file
}

fn ethernet(side: Side) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let [from, to] = if side == Side::Client { ends } else { [ends[1], ends[0]] };
    PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from, to, 64)
}

fn ports(side: Side, server: u16) -> (u16, u16) {
    if side == Side::Client { (40_000, server) } else { (server, 40_000) }
}

fn packets(talk: &Conversation) -> Vec<u8> {
    let mut sequences = [100_u32, 900];
    let mut packets = Vec::new();
    let mut packet = |side: Side, length: u32, syn: bool, payload: &[u8]| {
        let (from, to) = ports(side, 80);
        let (own, other) = (sequences[side as usize], sequences[1 - side as usize]);
        let mut builder = ethernet(side).tcp(from, to, own, 1000);
        builder = if syn { builder.syn() } else { builder };
        builder = if syn && side == Side::Client { builder } else { builder.ack(other) };
        sequences[side as usize] += length;
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).expect("a Vec takes everything");
        packets.push(bytes);
    };
    packet(Side::Client, 1, true, b"");
    packet(Side::Server, 1, true, b"");
    talk.iter().for_each(|(side, bytes)| packet(*side, bytes.len() as u32, false, bytes));
    pcap(&packets)
}

fn datagrams(talk: &Conversation) -> Vec<u8> {
    let packet = |(side, payload): &(Side, Vec<u8>)| {
        let (from, to) = ports(*side, 53);
        let mut bytes = Vec::new();
        ethernet(*side).udp(from, to).write(&mut bytes, payload).expect("a Vec takes everything");
        bytes
    };
    pcap(&talk.iter().map(packet).collect::<Vec<_>>())
}

/// SCTP: from INIT to SHUTDOWN, by turns on two streams.
fn association(talk: &Conversation) -> Vec<u8> {
    let mut numbers = [100_u32, 900];
    let mut packets = Vec::new();
    let mut packet = |side: Side, kind: u8, flags: u8, body: &[u8]| {
        let (from, to) = ports(side, 80);
        let ports = [from, to].map(u16::to_be_bytes).concat();
        let length = (body.len() as u16 + 4).to_be_bytes();
        let mut chunks = [&ports[..], &[0, 0, 0, side as u8 + 1], &[0; 4], &[kind, flags], &length, body].concat();
        chunks.resize(chunks.len().next_multiple_of(4), 0);
        let mut bytes = Vec::new();
        ethernet(side).write(&mut bytes, ip_number::SCTP, &chunks).expect("a Vec takes everything");
        packets.push(bytes);
    };
    let init =
        |tag: u8, number: u32| [&[0, 0, 0, tag][..], &[0, 1, 0, 0, 0, 10, 0, 10], &number.to_be_bytes()].concat();
    packet(Side::Client, 1, 0, &init(2, numbers[0]));
    packet(Side::Server, 2, 0, &init(1, numbers[1]));
    for (turn, (side, bytes)) in talk.iter().enumerate() {
        let number = &mut numbers[*side as usize];
        let stream = [0, turn as u8 / 2 % 2, 0, turn as u8 / 4];
        packet(*side, 0, 3, &[&number.to_be_bytes()[..], &stream, &[0; 4], bytes].concat());
        let other = if *side == Side::Client { Side::Server } else { Side::Client };
        packet(other, 3, 0, &[&number.to_be_bytes()[..], &[0; 8]].concat());
        *number += 1;
    }
    packet(Side::Client, 7, 0, &(numbers[1] - 1).to_be_bytes());
    packet(Side::Server, 8, 0, b"");
    pcap(&packets)
}

fn recording(talk: &Conversation) -> Vec<u8> {
    let end = |port: u16| Some(Endpoint::Inet(([10, 0, 0, 1], port).into()));
    let info = ConnectionInfo {
        id: "1-2-3".into(),
        transport: Transport::Tcp,
        role: Role::Server,
        local: end(80),
        remote: end(40_000),
        proxied: None,
        tls: Some(Tls { library: "openssl" }),
        tuple_source: TupleSource::Nested,
    };
    let description = Description { connection: &info, client: Some(Direction::Read), midstream: false, process: None };
    let mut file = Vec::new();
    let mut writer = PcapngWriter::new(&mut file, Clock::WALL).expect("a Vec takes everything");
    let mut positions = [0_u64; 2];
    writer.open(&description, Time(1)).expect("a Vec takes everything");
    for (moment, (side, bytes)) in talk.iter().enumerate() {
        let direction = if *side == Side::Client { Direction::Read } else { Direction::Write };
        let position = &mut positions[*side as usize];
        let span = Span { start: Time(moment as u64 * 1000 + 2), end: Time(moment as u64 * 1000 + 3) };
        let segment = Segment { position: *position, bytes, length: bytes.len() as u64, span };
        *position += segment.length;
        writer.data(&description, Layer::Tls, direction, segment).expect("a Vec takes everything");
    }
    writer.close(&description, Time(1_000_000)).expect("a Vec takes everything");
    drop(writer);
    file
}

/// One record of each kind, with zeros for fields.
pub fn events() -> Vec<Seed> {
    let kinds = [
        ("data", kind::DATA),
        ("datagram", kind::DATAGRAM),
        ("open", kind::OPEN),
        ("close", kind::CLOSE),
        ("fork", kind::FORK),
    ];
    kinds.map(|(name, kind)| (name, [&[kind, 0, 0, 0][..], &[0; 252]].concat())).to_vec()
}
