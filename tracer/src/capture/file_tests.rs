//! Formats, byte orders, resolutions, compression, and files that are cut off.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::testing::{C, Captured, Format, S, Talk, captured, options, run, run_with};
use super::*;

fn conversation() -> Talk {
    let mut talk = Talk::open([1000, 5000]);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.say(C, b"?bb\n");
    talk.say(S, b"!bb\n");
    talk
}

const LINES: [&str; 2] = ["cap-1: ?a -> !a", "cap-1: ?bb -> !bb"];

/// Every packet's link type, time, bytes and length.
fn read(file: &[u8]) -> (Vec<Captured>, Option<FileError>) {
    let mut packets = Vec::new();
    let mut open = match CaptureFile::open("x", Box::new(io::Cursor::new(file.to_vec()))) {
        Ok(open) => open,
        Err(error) => return (packets, Some(error)),
    };
    loop {
        let step = open.step(&mut |packet| {
            packets.push(Captured {
                link_type: packet.link_type as u16,
                time: packet.time.map_or(0, |time| time.0),
                bytes: packet.wire.bytes.to_vec(),
                length: packet.wire.length as u32,
            });
        });
        match step {
            Ok(true) => {}
            Ok(false) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_format_gives_the_same_packets() {
    let mut packet = captured(1_700_000_000_123_456_000, vec![1, 2, 3, 4, 5, 6, 7]);
    packet.length = 99;
    for format in Format::all() {
        for file in
            [format.file(&[packet.clone(), packet.clone()]), gzip(&format.file(&[packet.clone(), packet.clone()]))]
        {
            let (packets, error) = read(&file);
            assert!(error.is_none(), "{format:?}: {error:?}");
            assert_eq!(packets.len(), 2, "{format:?}");
            for read in packets {
                assert_eq!(
                    (read.link_type, read.time, &read.bytes, read.length),
                    (101, packet.time, &packet.bytes, 99),
                    "{format:?}"
                );
            }
        }
    }
}

#[test]
fn every_format_gives_the_same_records() {
    let packets = conversation().packets;
    let expected = run(Format::PLAIN.file(&packets)).records;
    assert_eq!(expected.len(), 2);
    for format in Format::all() {
        let outcome = run(format.file(&packets));
        assert_eq!(outcome.lines(), LINES, "{format:?}");
        assert_eq!(outcome.records, expected, "{format:?}");
    }
}

#[test]
fn nanoseconds_survive_where_the_format_has_them() {
    for format in Format::all() {
        let (packets, _) = read(&format.file(&[captured(1_700_000_000_123_456_789, vec![0x45])]));
        let expected = if format.nanoseconds { 1_700_000_000_123_456_789 } else { 1_700_000_000_123_456_000 };
        assert_eq!(packets[0].time, expected, "{format:?}");
    }
}

#[test]
fn sections_and_interfaces() {
    let little = Format { pcapng: true, ..Format::PLAIN };
    let big = Format { big_endian: true, nanoseconds: false, pcapng: true };
    let packet = captured(5_000_000_000, vec![0x45]);
    let mut file = little.section(&[101, 1]);
    little.packet(&packet, 1, &mut file);
    little.packet(&packet, 0, &mut file);
    file.extend(little.block(4, &[0; 8]));
    file.extend(little.block(0x0bad, &[1; 12]));
    file.extend(big.section(&[113]));
    big.packet(&packet, 0, &mut file);
    let (packets, error) = read(&file);
    assert!(error.is_none(), "{error:?}");
    let link_types: Vec<_> = packets.iter().map(|packet| (packet.link_type, packet.time)).collect();
    assert_eq!(link_types, [(1, 5_000_000_000), (101, 5_000_000_000), (113, 5_000_000_000)]);
    big.packet(&packet, 1, &mut file);
    let (packets, error) = read(&file);
    assert_eq!(packets.len(), 3);
    assert!(matches!(error.unwrap().problem, Problem::UnknownInterface { interface: 1 }), "the first section's");
}

#[test]
fn simple_and_obsolete_packet_blocks() {
    for big_endian in [false, true] {
        let format = Format { big_endian, nanoseconds: true, pcapng: true };
        let mut file = format.section(&[101]);
        file.extend(format.block(3, &[&format_u32(format, 7)[..], &[1, 2, 3, 4, 5, 6, 7, 0]].concat()));
        let fields = [0, 42, 3, 60].map(|value| format_u32(format, value)).concat();
        file.extend(format.block(2, &[&[0, 0, 0xff, 0xff][..], &fields, &[9, 8, 7, 0]].concat()));
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!((packets[0].bytes.as_slice(), packets[0].time), (&[1, 2, 3, 4, 5, 6, 7][..], 0));
        assert_eq!((packets[1].bytes.as_slice(), packets[1].time, packets[1].length), (&[9, 8, 7][..], 42, 60));
    }
}

fn format_u32(format: Format, value: u32) -> [u8; 4] {
    if format.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

#[test]
fn resolutions_and_offsets() {
    let interface = |resolution, offset| Interface { link_type: 1, snapshot_length: 0, resolution, offset };
    let time = |interface: Interface, stamp: u64| interface.time((stamp >> 32) as u32, stamp as u32).map(|t| t.0);
    assert_eq!(time(interface(6, 0), 1_500_000), Some(1_500_000_000));
    assert_eq!(time(interface(0, 0), 3), Some(3_000_000_000));
    assert_eq!(time(interface(3, -1), 2_500), Some(1_500_000_000));
    assert_eq!(time(interface(12, 0), 1_500), Some(1));
    assert_eq!(time(interface(0x80 | 10, 0), 1536), Some(1_500_000_000));
    assert_eq!(time(interface(0x80 | 1, 7), 1), Some(7_500_000_000));
    assert_eq!(time(interface(0, 0), u64::MAX), None, "beyond 64 bits of nanoseconds");
    assert_eq!(time(interface(6, -10), 1), None, "before 1970");
    assert_eq!(time(interface(0x7f, 0), 1), None);
    assert_eq!(time(interface(0xff, 0), 1), Some(0));
}

#[test]
fn a_file_cut_at_any_byte_gives_the_records_up_to_the_cut() {
    let packets = conversation().packets;
    for format in Format::all() {
        let whole = format.file(&packets);
        let head = if format.pcapng { format.section(&[101]).len() } else { format.pcap_head(101).len() };
        let mut boundaries: Vec<usize> = (1..=packets.len()).map(|n| format.file(&packets[..n]).len()).collect();
        let packet_ends = boundaries.clone();
        boundaries.push(head);
        if format.pcapng {
            boundaries.push(format.section(&[]).len());
        }
        for cut in 0..whole.len() {
            let (read, error) = read(&whole[..cut]);
            let complete = packet_ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(read.len(), complete, "{format:?} cut at {cut}");
            assert_eq!(error.is_none(), boundaries.contains(&cut), "{format:?} cut at {cut}: {error:?}");
            if let Some(error) = error {
                assert!(error.offset <= cut as u64, "{format:?} cut at {cut}: {error}");
            }
        }
    }
}

#[test]
fn what_was_read_before_the_cut_is_replayed_and_the_error_names_file_and_offset() {
    let file = Format::PLAIN.file(&conversation().packets);
    let outcome = run(file[..file.len() - 1].to_vec());
    assert_eq!(outcome.lines().first().map(String::as_str), Some(LINES[0]));
    let error = outcome.replayed.errors[0].to_string();
    let offset = file.len() - 16 - 44;
    assert_eq!(error, format!("test: at byte {offset}: the file ends inside a record: 1 bytes are missing, or more"));
}

#[test]
fn a_compressed_file_cut_at_any_byte_ends_with_an_error() {
    let packed = gzip(&Format::PLAIN.file(&conversation().packets));
    for cut in 0..packed.len() - 1 {
        let (_, error) = read(&packed[..cut]);
        assert!(error.is_some(), "cut at {cut}");
    }
}

#[test]
fn a_compressed_file_that_was_cut_off_gives_the_packets_before_the_cut() {
    let packets = conversation().packets;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(&Format::PLAIN.file(&packets)).unwrap();
    let packed = encoder.finish().unwrap();
    let trailer = 8;
    let (read, error) = read(&packed[..packed.len() - trailer - 1]);
    assert_eq!(read.len(), packets.len() - 1);
    assert!(error.unwrap().offset > 0);
}

#[test]
fn broken_files_are_refused_and_the_next_file_is_read() {
    let good = Format::PLAIN.file(&conversation().packets);
    let mut huge = Format::PLAIN.pcap_head(1);
    huge.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    let ng = Format { pcapng: true, ..Format::PLAIN };
    let mut short = ng.section(&[1]);
    short.extend([6, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    let mut lying = ng.section(&[1]);
    lying.extend(ng.block(6, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0xff, 0, 0, 0]));
    let mut version = Format::PLAIN.pcap_head(1);
    version[4] = 9;
    let mut section_version = ng.section(&[1]);
    section_version[12] = 7;
    let cases = [
        (version, "version 9.4 of the format is not known"),
        (section_version, "version 7.0 of the format is not known"),
        (b"not a capture at all".to_vec(), "neither pcap nor pcapng"),
        (Vec::new(), "the file ends"),
        (huge, "a record of 2147483663 bytes is not believed"),
        (short, "malformed record"),
        (lying, "malformed record"),
    ];
    for (bad, message) in cases {
        let outcome = run_with(&options(), vec![bad, good.clone()]);
        assert_eq!(outcome.lines(), LINES, "{message}");
        let [error] = outcome.replayed.errors.as_slice() else { panic!("{:?}", outcome.replayed.errors) };
        assert!(error.to_string().contains(message), "{error}");
    }
}
