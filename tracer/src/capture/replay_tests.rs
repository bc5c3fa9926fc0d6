//! TCP, UDP and the bounds of a replay, each case by its name.

use proptest::prelude::*;

use super::super::testing::{
    C, CLIENT, Captured, Flags, Format, Outcome, S, SERVER, Talk, captured, options, run, run_with, tcp, udp,
};
use super::*;

const ISN: [u32; 2] = [1000, 5000];
const PAIR: &str = "cap-1: ?a -> !a";

fn bytes(outcome: &Outcome) -> super::super::Bytes {
    outcome.replayed.ledger.bytes.clone()
}

#[test]
fn a_conversation_from_handshake_to_fin() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.fin(C);
    talk.fin(S);
    talk.ack(C);
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    let record = &outcome.records[0];
    assert_eq!(record["role"], "server");
    assert_eq!(record["tuple_source"], "packet");
    assert!(record["local"].as_str().unwrap().contains(SERVER), "{record}");
    assert!(record["remote"].as_str().unwrap().contains(CLIENT), "{record}");
    assert_eq!(record["process"], serde_json::Value::Null);
    assert_eq!(record["timestamp"], 1_004_000_000_u64);
    assert_eq!(record["latency_ns"], 1_000_000);
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn a_load_balancer_in_front_names_the_client() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
    for _ in 0..2 {
        talk.say(C, b"?a\n");
        talk.say(S, b"!a\n");
    }
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR; 2]);
    for record in &outcome.records {
        assert_eq!(record["proxied"], "Inet { source: 192.0.2.1:56324, destination: 192.0.2.2:443 }");
        assert!(record["remote"].as_str().unwrap().contains(CLIENT), "{record}");
    }
}

/// Sends bytes of which one is urgent.
fn say_urgently(talk: &mut Talk, payload: &[u8], pointer: u16) {
    let sequence = talk.sequence(C, talk.received[S]);
    let acknowledgment = talk.sequence(S, talk.received[C]);
    let flags = Flags { ack: Some(acknowledgment), urgent: Some(pointer), ..Flags::default() };
    talk.packet(C, sequence, flags, payload);
    talk.received[S] += payload.len() as u64;
}

#[test]
fn an_urgent_byte_is_no_part_of_the_stream() {
    for (first, pointer, second) in
        [("?", 2, "Xa\n"), ("?X", 2, "a\n"), ("X?", 1, "a\n"), ("?aX\n", 3, ""), ("?a\nX", 4, "")]
    {
        let mut talk = Talk::open(ISN);
        say_urgently(&mut talk, first.as_bytes(), pointer);
        if !second.is_empty() {
            talk.say(C, second.as_bytes());
        }
        talk.say(S, b"!a\n");
        talk.say(C, b"?b\n");
        talk.say(S, b"!b\n");
        talk.fin(C);
        talk.fin(S);
        talk.ack(C);
        let outcome = talk.run();
        assert_eq!(outcome.lines(), [PAIR, "cap-1: ?b -> !b"], "{first}|{second}");
        assert_eq!((bytes(&outcome).rejected, bytes(&outcome).lost), (1, 0), "{first}|{second}");
    }
}

#[test]
fn what_is_lost_around_an_urgent_byte_is_lost_once() {
    let mut talk = Talk::open(ISN);
    say_urgently(&mut talk, b"?X", 2);
    talk.lose(C, 2);
    talk.say(C, b"?b\n");
    talk.say(S, b"!b\n");
    let outcome = talk.run();
    assert_eq!(bytes(&outcome).lost, 2);
}

#[test]
fn what_stands_behind_an_urgent_byte_that_ends_parsing_is_passed_over() {
    let mut talk = Talk::open(ISN);
    // So much is looked at that nobody answers: 4096 bytes.
    talk.say(C, &[b'^'; 4090]);
    say_urgently(&mut talk, &[b'^'; 60], 16);
    let outcome = talk.run();
    assert!(outcome.lines().is_empty());
    assert_eq!((bytes(&outcome).delivered, bytes(&outcome).rejected, bytes(&outcome).passed_over), (4105, 1, 44));
}

#[test]
fn segments_out_of_order() {
    let mut talk = Talk::open(ISN);
    talk.at(C, 3, b"?b\n");
    talk.at(C, 0, b"?a\n");
    talk.at(S, 4, b"b\n");
    talk.at(S, 0, b"!a\n!");
    assert_eq!(talk.run().lines(), [PAIR, "cap-1: ?b -> !b"]);
}

#[test]
fn a_retransmission_is_a_duplicate() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.at(C, 0, b"?a\n");
    talk.say(S, b"!a\n");
    talk.at(S, 0, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!((bytes(&outcome).delivered, bytes(&outcome).duplicate), (6, 6));
}

#[test]
fn a_retransmission_in_larger_segments_brings_only_what_is_new() {
    let mut talk = Talk::open(ISN);
    talk.at(C, 0, b"?a");
    talk.at(C, 0, b"?a\n?b\n");
    talk.say(S, b"!a\n!b\n");
    assert_eq!(talk.run().lines(), [PAIR, "cap-1: ?b -> !b"]);
}

#[test]
fn an_overlap_with_other_content_loses_and_is_counted() {
    let mut talk = Talk::open(ISN);
    talk.at(C, 1, b"a\n");
    talk.at(C, 0, b"?X\n");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(bytes(&outcome).conflicting, 1);
}

#[test]
fn sequence_numbers_wrap_around() {
    for initial in [u32::MAX - 5, u32::MAX, u32::MAX - 1, 0x7fff_ffff] {
        let mut talk = Talk::open([initial, initial.wrapping_add(3)]);
        for _ in 0..3 {
            talk.say(C, b"?a\n");
            talk.say(S, b"!a\n");
        }
        talk.fin(C);
        talk.fin(S);
        let outcome = talk.run();
        assert_eq!(outcome.lines(), [PAIR; 3], "{initial}");
        assert_eq!(bytes(&outcome).lost, 0);
    }
}

#[test]
fn more_than_four_gigabytes_of_stream() {
    let mut talk = Talk::open(ISN);
    for _ in 0..20 {
        talk.say(C, b"?a\n");
        talk.say(S, b"!a\n");
        talk.lose(C, 900_000_000);
    }
    let outcome = talk.run();
    assert_eq!(bytes(&outcome).rejected, 0);
    assert!(bytes(&outcome).lost > 1 << 33, "{:?}", bytes(&outcome));
}

#[test]
fn joined_in_the_middle_the_client_is_known_by_content() {
    let mut talk = Talk::silent(ISN);
    talk.received = [100, 200];
    talk.say(S, b"!z\n");
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: - -> !z [unsolicited]", PAIR]);
    for record in &outcome.records {
        assert_eq!(record["role"], "server");
        assert!(record["local"].as_str().unwrap().contains(SERVER), "{record}");
    }
}

#[test]
fn a_hole_is_given_up_when_two_packets_acknowledge_beyond_it() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.lose(S, 3);
    talk.ack(C);
    talk.say(C, b"?b\n");
    talk.say(S, b"!b\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: ?a -> - [gap]", "cap-1: ?b -> !b"]);
    assert_eq!(bytes(&outcome).lost, 3);
}

#[test]
fn one_acknowledgment_alone_may_be_early() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.received[C] = 3;
    talk.ack(C);
    talk.at(S, 0, b"!a\n");
    talk.ack(C);
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(bytes(&outcome).lost, 0);
}

#[test]
fn a_hole_that_nobody_acknowledges_is_waited_for_until_the_end() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.at(S, 3, b"!b\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: ?a -> - [gap]", "cap-1: - -> !b [unsolicited]"]);
    assert_eq!(bytes(&outcome).lost, 3);
}

#[test]
fn a_hole_is_given_up_when_too_much_waits_behind_it() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.received[C] = 3;
    let line = [b'x'; 1000];
    for _ in 0..400 {
        let flags = Flags::default();
        talk.packet(S, talk.sequence(S, talk.received[C]), flags, &line);
        talk.received[C] += 1000;
    }
    let ledger = talk.run().replayed.ledger;
    assert_eq!((ledger.bytes.lost, ledger.bytes.delivered), (3, 400_003));
}

#[test]
fn keep_alive_probes_are_duplicates() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.at(C, 2, b"\0");
    talk.ack(S);
    talk.say(C, b"?b\n");
    talk.say(S, b"!b\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR, "cap-1: ?b -> !b"]);
    assert_eq!(bytes(&outcome).duplicate, 1);
}

#[test]
fn a_keep_alive_probe_is_not_the_start_of_a_connection_joined_in_its_middle() {
    let mut talk = Talk::silent(ISN);
    talk.received = [100, 200];
    talk.ack(S);
    talk.at(C, 199, b"\0");
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    assert_eq!(talk.run().lines(), [PAIR]);
}

#[test]
fn a_zero_window_probe_counts_once() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?");
    talk.at(C, 1, b"a");
    talk.at(C, 1, b"a");
    talk.at(C, 1, b"a\n");
    talk.say(S, b"!a\n");
    assert_eq!(talk.run().lines(), [PAIR]);
}

#[test]
fn a_fin_ahead_of_what_is_missing_does_not_end_the_stream_early() {
    let mut talk = Talk::open(ISN);
    talk.at(C, 3, b"?b\n");
    talk.fin(C);
    talk.at(C, 0, b"?a\n");
    talk.say(S, b"!a\n!b\n");
    talk.fin(S);
    assert_eq!(talk.run().lines(), [PAIR, "cap-1: ?b -> !b"]);
}

#[test]
fn data_behind_the_fin_is_rejected() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.fin(C);
    talk.say(C, b"?b\n");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(bytes(&outcome).rejected, 3);
}

#[test]
fn a_reset_in_sequence_closes() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.rst(S);
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: ?a -> - [no_response]"]);
    assert_eq!(bytes(&outcome).rejected, 3);
}

#[test]
fn a_forged_reset_out_of_sequence_does_nothing() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.packet(S, ISN[S].wrapping_add(77), Flags { rst: true, ..Flags::default() }, b"");
    talk.say(S, b"!a\n");
    assert_eq!(talk.run().lines(), [PAIR]);
}

#[test]
fn a_refused_connection_is_no_record() {
    let mut talk = Talk::silent(ISN);
    talk.packet(C, ISN[C], Flags { syn: true, ..Flags::default() }, b"");
    talk.packet(S, 0, Flags { rst: true, ack: Some(ISN[C] + 1), ..Flags::default() }, b"");
    talk.initial = [9000, 9500];
    talk.handshake();
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    assert_eq!(talk.run().lines(), ["cap-2: ?a -> !a"]);
}

#[test]
fn a_new_syn_on_the_same_ports_is_a_new_connection() {
    for closed in [true, false] {
        let mut talk = Talk::open(ISN);
        talk.say(C, b"?a\n");
        talk.say(S, b"!a\n");
        if closed {
            talk.fin(C);
            talk.fin(S);
        }
        let mut again = Talk { packets: talk.packets, now: talk.now, ..Talk::silent([70_000, 90_000]) };
        again.handshake();
        again.say(C, b"?b\n");
        again.say(S, b"!b\n");
        assert_eq!(again.run().lines(), [PAIR, "cap-2: ?b -> !b"], "closed: {closed}");
    }
}

#[test]
fn a_repeated_syn_is_the_same_connection() {
    let mut talk = Talk::silent(ISN);
    talk.packet(C, ISN[C], Flags { syn: true, ..Flags::default() }, b"");
    talk.handshake();
    talk.say(C, b"?a\n");
    talk.packet(C, ISN[C], Flags { syn: true, ..Flags::default() }, b"");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn only_one_direction_was_captured() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.say(C, b"?b\n");
    talk.packets.retain(|packet| packet.bytes.get(12..16) == Some(&[10, 0, 0, 1]));
    let lines = talk.run().lines();
    assert_eq!(lines, ["cap-1: ?a -> - [gap]", "cap-1: ?b -> - [gap]"]);
}

#[test]
fn only_the_answer_to_the_syn_was_captured() {
    let mut talk = Talk::open(ISN);
    talk.packets.remove(0);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert!(outcome.records[0]["local"].as_str().unwrap().contains(SERVER));
}

#[test]
fn the_answer_to_the_syn_was_not_captured_and_the_first_answer_neither() {
    let mut talk = Talk::open(ISN);
    talk.packets.remove(1);
    talk.say(C, b"?a\n");
    talk.lose(S, 3);
    talk.ack(C);
    talk.say(C, b"?b\n");
    talk.say(S, b"!b\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: ?a -> - [gap]", "cap-1: ?b -> !b"]);
    assert_eq!(bytes(&outcome).lost, 3);
}

#[test]
fn simultaneous_open() {
    let mut talk = Talk::silent(ISN);
    let syn = Flags { syn: true, ..Flags::default() };
    talk.packet(S, ISN[S], syn, b"");
    talk.packet(C, ISN[C], syn, b"");
    talk.packet(S, ISN[S], Flags { ack: Some(ISN[C] + 1), ..syn }, b"");
    talk.packet(C, ISN[C], Flags { ack: Some(ISN[S] + 1), ..syn }, b"");
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert!(outcome.records[0]["local"].as_str().unwrap().contains(SERVER), "content decides who is the client");
}

#[test]
fn fast_open_carries_data_in_the_syn() {
    let mut talk = Talk::silent(ISN);
    talk.packet(C, ISN[C], Flags { syn: true, ..Flags::default() }, b"?a\n");
    talk.packet(S, ISN[S], Flags { syn: true, ack: Some(ISN[C] + 4), ..Flags::default() }, b"");
    talk.received = [0, 3];
    talk.say(S, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn packets_captured_twice_change_nothing() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.fin(C);
    talk.fin(S);
    let twice: Vec<Captured> = talk.packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    let outcome = run(Format::PLAIN.file(&twice));
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(bytes(&outcome).duplicate, 6);
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn a_snapshot_length_truncates_and_does_not_lose() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a long line\n");
    talk.say(C, b"?b\n");
    talk.say(S, b"!a\n!b\n");
    talk.packets[3].bytes.truncate(45);
    let outcome = talk.run();
    assert_eq!((bytes(&outcome).truncated, bytes(&outcome).lost), (8, 0));
    assert!(!outcome.lines().contains(&"cap-1: ?a long line -> !a".to_owned()));
}

#[test]
fn options_that_were_cut_off_leave_the_length_known() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    talk.packets[3].bytes.truncate(40);
    assert_eq!(bytes(&talk.run()).truncated, 3);
    talk.packets[3].bytes.truncate(33);
    let outcome = talk.run();
    assert_eq!(outcome.replayed.ledger.packets.skipped["header_cut_off"], 1);
}

#[test]
fn a_connection_that_speaks_nothing_known_is_passed_over() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"SSH-2.0-x\r\n");
    talk.say(S, b"SSH-2.0-y\r\n");
    talk.say(C, &[7; 1000]);
    talk.fin(C);
    talk.fin(S);
    let outcome = talk.run();
    assert!(outcome.lines().is_empty());
    assert_eq!(bytes(&outcome).lost, 0);
    assert_eq!(bytes(&outcome).delivered + bytes(&outcome).passed_over, 1022);
}

#[test]
fn a_capture_continues_in_the_next_file() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let (first, second) = talk.packets.split_at(4);
    let files = vec![Format::PLAIN.file(first), Format { pcapng: true, ..Format::PLAIN }.file(second)];
    assert_eq!(run_with(&options(), files).lines(), [PAIR]);
}

#[test]
fn one_datagram_flow_is_one_connection() {
    let packets = [
        captured(1_000_000_000, udp("10.0.0.1:5000", "10.0.0.2:53", b"?a\n")),
        captured(1_000_002_000, udp("10.0.0.2:53", "10.0.0.1:5000", b"!a\n")),
        captured(1_100_000_000, udp("10.0.0.1:5001", "10.0.0.2:53", b"?b\n")),
        captured(1_200_000_000, udp("10.0.0.1:5000", "10.0.0.2:53", b"?c\n")),
        captured(1_300_000_000, udp("10.0.0.2:53", "10.0.0.1:5000", b"!c\n")),
    ];
    let outcome = run(Format::PLAIN.file(&packets));
    assert_eq!(outcome.lines(), [PAIR, "cap-1: ?c -> !c", "cap-2: ?b -> - [no_response]"]);
    assert_eq!(outcome.replayed.ledger.connections.opened, 2);
}

#[test]
fn a_datagram_captured_twice_counts_once_and_one_sent_twice_counts_twice() {
    let query = |time| captured(time, udp("10.0.0.1:5000", "10.0.0.2:53", b"?a\n"));
    let answer = |time| captured(time, udp("10.0.0.2:53", "10.0.0.1:5000", b"!a\n"));
    let at = 1_000_000_000;
    let outcome = run(Format::PLAIN.file(&[query(at), query(at + 10), answer(at + 20), answer(at + 30)]));
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(outcome.replayed.ledger.packets.duplicate, 2);
    let outcome = run(Format::PLAIN.file(&[query(at), query(at + 1_000_000_000), answer(at + 1_000_000_020)]));
    assert_eq!(outcome.replayed.ledger.packets.duplicate, 0);
    assert_eq!(outcome.records.len(), 2);
}

#[test]
fn the_time_for_an_answer_goes_by_with_the_packets() {
    let packets = [
        captured(1_000_000_000, udp("10.0.0.1:5000", "10.0.0.2:53", b"?a\n")),
        captured(20_000_000_000, udp("10.0.0.1:6000", "10.0.0.2:53", b"?b\n")),
        captured(20_100_000_000, udp("10.0.0.2:53", "10.0.0.1:6000", b"!b\n")),
    ];
    let lines = run(Format::PLAIN.file(&packets)).lines();
    assert_eq!(lines, ["cap-1: ?a -> - [no_response]", "cap-2: ?b -> !b"]);
}

#[test]
fn too_many_connections_cost_the_quietest_one() {
    let packets: Vec<_> = (0..20_u16)
        .map(|i| {
            captured(
                1_000_000_000 + u64::from(i),
                tcp(&format!("10.0.0.1:{}", 1000 + i), SERVER, 1, Flags::default(), b"?a\n"),
            )
        })
        .collect();
    let options = Options { max_connections: 5, ..options() };
    let outcome = run_with(&options, vec![Format::PLAIN.file(&packets)]);
    assert_eq!(outcome.replayed.ledger.connections.evicted, 15);
    assert_eq!(outcome.lines().first().map(String::as_str), Some("cap-1: ?a -> - [no_response]"));
    assert_eq!(outcome.records.len(), 20, "what was given up is still reported");
}

#[test]
fn too_many_held_bytes_cost_connections() {
    let mut talk = Talk::open(ISN);
    talk.at(C, 100, &[b'x'; 1400]);
    for _ in 0..20 {
        let position = talk.received[S];
        talk.at(C, position, &[b'x'; 1400]);
    }
    let options = Options { max_held: 10_000, ..options() };
    let outcome = run_with(&options, vec![Format::PLAIN.file(&talk.packets)]);
    assert!(outcome.replayed.ledger.connections.evicted > 0);
}

#[test]
fn packets_without_a_time_give_records_without_times() {
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let format = Format { pcapng: true, ..Format::PLAIN };
    let mut file = format.section(&[101]);
    for packet in &talk.packets {
        let mut body = packet.length.to_le_bytes().to_vec();
        body.extend(&packet.bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(format.block(3, &body));
    }
    let outcome = run(file);
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!(outcome.records[0]["timestamp"], serde_json::Value::Null);
    assert_eq!(outcome.records[0]["latency_ns"], serde_json::Value::Null);
}

#[test]
fn a_missing_file_and_a_failing_sink_are_told() {
    let inputs = [Input::File("/nonexistent/x.pcap".into())];
    let replayed = replay(&options(), inputs, |_, _| Ok::<(), ()>(())).unwrap();
    assert!(replayed.errors[0].to_string().starts_with("/nonexistent/x.pcap: at byte 0: "));
    let mut talk = Talk::open(ISN);
    talk.say(C, b"?a\n");
    talk.say(S, b"!a\n");
    let input = Input::Reader("x".into(), Box::new(io::Cursor::new(Format::PLAIN.file(&talk.packets))));
    assert_eq!(replay(&options(), [input], |_, _| Err("full")).unwrap_err(), "full");
}

/// A conversation with everything in it that reassembly has to deal with.
fn busy() -> Vec<Captured> {
    let mut talk = Talk::open([u32::MAX - 10, 5]);
    for round in 0..4 {
        talk.say(C, b"?request\n");
        talk.at(C, round * 9, b"?request\n");
        let position = talk.received[C];
        talk.at(S, position + 4, b"ponse\n");
        talk.at(S, position, b"!res");
        talk.ack(C);
    }
    talk.fin(C);
    talk.fin(S);
    talk.packets.push(captured(talk.now + 1, udp("10.0.0.1:5000", "10.0.0.2:53", b"?a\n")));
    talk.packets.push(captured(talk.now + 2, udp("10.0.0.2:53", "10.0.0.1:5000", b"!a\n")));
    talk.packets
}

#[test]
fn the_same_capture_gives_the_same_records() {
    let file = Format::PLAIN.file(&busy());
    let (first, second) = (run(file.clone()), run(file));
    assert_eq!(first.records, second.records);
    assert_eq!(first.replayed.ledger, second.replayed.ledger);
    assert_eq!(first.lines().len(), 5);
}

proptest! {
    /// Whatever a capture holds: no panic, no hang, and everything is accounted for (`run` asserts the balance).
    #[test]
    fn mutated_captures_do_no_harm(
        format in 0..8_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let format = Format::all().nth(format).unwrap();
        let mut file = format.file(&busy());
        for (index, value) in edits {
            let at = index.index(file.len());
            file[at] = value;
        }
        run(file);
    }

    /// Changed behind the IP header only: the packets are still there.
    #[test]
    fn mutated_packets_are_all_accounted_for(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut packets = busy();
        for (packet, index, value) in edits {
            let bytes = &mut packets.get_mut(packet.index(27)).unwrap().bytes;
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let count = packets.len() as u64;
        let outcome = run(Format::PLAIN.file(&packets));
        prop_assert_eq!(outcome.replayed.ledger.packets.read, count);
    }

    /// Any order of the segments of both directions: every message comes out once and whole.
    #[test]
    fn shuffled_segments_come_together(packets in Just(pieces()).prop_shuffle()) {
        let mut talk = Talk::open(ISN);
        for (side, position, bytes) in packets {
            talk.packet(side, talk.sequence(side, position), Flags::default(), &bytes);
        }
        let outcome = talk.run();
        let lines = outcome.lines().join("\n");
        for (text, times) in [("?request", 4), ("!response", 4), ("gap", 0), ("midstream", 0)] {
            prop_assert_eq!(lines.matches(text).count(), times, "{}", lines);
        }
        prop_assert_eq!(bytes(&outcome).lost, 0);
    }
}

/// Segments of four requests and responses, in overlapping pieces of three bytes.
fn pieces() -> Vec<(usize, u64, Vec<u8>)> {
    let streams = [(C, b"?request\n".repeat(4)), (S, b"!response\n".repeat(4))];
    let cut = |(side, stream): (usize, Vec<u8>)| {
        let windows: Vec<_> = stream.windows(3).map(<[u8]>::to_vec).enumerate().step_by(2).collect();
        windows.into_iter().map(move |(at, bytes)| (side, at as u64, bytes)).chain([(
            side,
            stream.len() as u64 - 3,
            stream[stream.len() - 3..].to_vec(),
        )])
    };
    streams.into_iter().flat_map(cut).collect()
}
