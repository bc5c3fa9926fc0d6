//! Associations, each case by its name.

use proptest::prelude::*;

use super::super::testing::{
    C, CLIENT, Captured, Format, Outcome, S, SERVER, captured, chunk, options, run, run_with, sctp,
};
use super::super::{Options, ledger};
use super::*;

const TSN: [u32; 2] = [1000, 5000];
/// What each side's packets have as their tag.
const TAGS: [u32; 2] = [77, 88];
const PAIR: &str = "cap-1: ?a -> !a";

/// Flags of a DATA chunk.
const WHOLE: u8 = 3;
const FIRST: u8 = 2;
const MIDDLE: u8 = 0;
const LAST: u8 = 1;
const UNORDERED: u8 = 4;

/// An association between [`CLIENT`] and [`SERVER`]: packets 1 ms apart.
struct Talk {
    packets: Vec<Captured>,
    now: u64,
    /// The next TSN of each side.
    next: [u32; 2],
    /// The next sequence number of each side's streams 0 and 1.
    sequences: [[u16; 2]; 2],
}

impl Talk {
    fn silent(next: [u32; 2]) -> Self {
        Self { packets: Vec::new(), now: 1_000_000_000, next, sequences: [[0; 2]; 2] }
    }

    fn open() -> Self {
        let mut talk = Self::silent(TSN);
        talk.handshake();
        talk
    }

    fn handshake(&mut self) {
        self.packet(C, 0, &[init(1, TAGS[S], self.next[C])]);
        self.packet(S, TAGS[S], &[init(2, TAGS[C], self.next[S])]);
        self.packet(C, TAGS[C], &[chunk(10, 0, b"cookie")]);
        self.packet(S, TAGS[S], &[chunk(11, 0, b"")]);
    }

    fn packet(&mut self, side: usize, tag: u32, chunks: &[Vec<u8>]) {
        self.now += 1_000_000;
        let ends = if side == C { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        self.packets.push(captured(self.now, sctp(ends.0, ends.1, tag, chunks)));
    }

    fn send(&mut self, side: usize, chunks: &[Vec<u8>]) {
        self.packet(side, TAGS[side], chunks);
    }

    /// The next chunk of a stream.
    fn data(&mut self, side: usize, stream: u16, flags: u8, user: &[u8]) -> Vec<u8> {
        let sequence = &mut self.sequences[side][usize::from(stream)];
        let chunk = data(self.next[side], stream, *sequence, flags, user);
        self.next[side] = self.next[side].wrapping_add(1);
        if flags & (UNORDERED | LAST) == LAST {
            *sequence = sequence.wrapping_add(1);
        }
        chunk
    }

    /// Sends a whole message.
    fn say(&mut self, side: usize, stream: u16, user: &[u8]) {
        let chunk = self.data(side, stream, WHOLE, user);
        self.send(side, &[chunk]);
    }

    /// A message passes without being captured.
    fn lose(&mut self, side: usize, stream: u16) {
        self.data(side, stream, WHOLE, b"");
    }

    /// Acknowledges all that the other side has sent.
    fn sack(&mut self, side: usize) {
        let chunk = self.acknowledging(side, 3, &[0; 8]);
        self.send(side, &[chunk]);
    }

    fn acknowledging(&self, side: usize, kind: u8, rest: &[u8]) -> Vec<u8> {
        let tsn = self.next[1 - side].wrapping_sub(1);
        chunk(kind, 0, &[&tsn.to_be_bytes()[..], rest].concat())
    }

    fn shutdown(&mut self, side: usize) {
        let chunks = [self.acknowledging(side, 7, b""), chunk(8, 0, b""), chunk(14, 0, b"")];
        let [first, answer, last] = chunks;
        self.send(side, &[first]);
        self.send(1 - side, &[answer]);
        self.send(side, &[last]);
    }

    fn run(&self) -> Outcome {
        run(Format::PLAIN.file(&self.packets))
    }
}

fn init(kind: u8, tag: u32, tsn: u32) -> Vec<u8> {
    chunk(kind, 0, &[&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 10, 0, 10], &tsn.to_be_bytes()].concat())
}

fn data(tsn: u32, stream: u16, sequence: u16, flags: u8, user: &[u8]) -> Vec<u8> {
    let place = [stream, sequence].map(u16::to_be_bytes).concat();
    chunk(0, flags, &[&tsn.to_be_bytes()[..], &place, &[0; 4], user].concat())
}

fn bytes(outcome: &Outcome) -> Bytes {
    outcome.replayed.ledger.bytes.clone()
}

fn skipped(outcome: &Outcome) -> Vec<(&str, u64)> {
    outcome.replayed.ledger.packets.skipped.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
}

#[test]
fn an_association_from_init_to_shutdown() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.sack(S);
    talk.say(S, 0, b"!a\n");
    talk.shutdown(C);
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    let record = &outcome.records[0];
    assert_eq!((&record["role"], &record["tuple_source"]), (&"server".into(), &"packet".into()));
    assert!(record["local"].as_str().unwrap().contains(SERVER), "{record}");
    assert!(record["remote"].as_str().unwrap().contains(CLIENT), "{record}");
    assert_eq!((&record["timestamp"], &record["latency_ns"]), (&1_005_000_000_u64.into(), &2_000_000.into()));
    assert_eq!((bytes(&outcome).seen, bytes(&outcome).delivered), (6, 6));
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn several_chunks_of_a_packet_and_chunks_of_other_kinds() {
    let mut talk = Talk::open();
    let chunks = [chunk(4, 0, b"beat!"), talk.data(C, 0, WHOLE, b"?a\n"), talk.data(C, 0, WHOLE, b"?b\n")];
    talk.send(C, &chunks);
    let chunks = [talk.data(S, 0, WHOLE, b"!a\n"), chunk(200, 0, b"?"), talk.data(S, 0, WHOLE, b"!b\n")];
    talk.send(S, &chunks);
    assert_eq!(talk.run().lines(), [PAIR, "cap-1: ?b -> !b"]);
}

#[test]
fn chunks_out_of_order_wait_for_their_turn() {
    let mut talk = Talk::open();
    let [first, second] = [b"?a\n", b"?b\n"].map(|user| talk.data(C, 0, WHOLE, user));
    talk.send(C, &[second]);
    talk.send(C, &[first]);
    let [first, second, third] =
        [(FIRST, &b"!"[..]), (MIDDLE, b"a"), (LAST, b"\n!b\n")].map(|(flags, user)| talk.data(S, 0, flags, user));
    talk.send(S, &[third, first]);
    talk.send(S, &[second]);
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR, "cap-1: ?b -> !b"]);
    assert_eq!((bytes(&outcome).lost, bytes(&outcome).delivered), (0, 12));
    assert_eq!(outcome.records[0]["timestamp"], 1_006_000_000_u64, "when what it waited for had come");
}

#[test]
fn chunks_sent_or_captured_again_are_duplicates() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.say(S, 0, b"!a\n");
    let twice: Vec<_> = talk.packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    let outcome = run(Format::PLAIN.file(&twice));
    assert_eq!(outcome.lines(), [PAIR]);
    assert_eq!((bytes(&outcome).delivered, bytes(&outcome).duplicate), (6, 6));
    assert_eq!(outcome.replayed.ledger.connections.opened, 1);
}

#[test]
fn each_stream_is_a_connection() {
    let mut talk = Talk::open();
    let chunks = [talk.data(C, 0, WHOLE, b"?a"), talk.data(C, 1, WHOLE, b"?b"), talk.data(C, 0, WHOLE, b"\n")];
    talk.send(C, &chunks);
    talk.say(C, 1, b"\n");
    talk.say(S, 1, b"!b\n");
    talk.say(S, 0, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-2: ?b -> !b", PAIR]);
    assert!(outcome.records.iter().all(|record| record["local"].as_str().unwrap().contains(SERVER)));
    assert_eq!(outcome.replayed.ledger.connections.opened, 2);
}

#[test]
fn tsns_and_sequence_numbers_wrap_around() {
    let mut talk = Talk::silent([u32::MAX - 1, u32::MAX]);
    talk.sequences = [[u16::MAX - 1, 0]; 2];
    for _ in 0..4 {
        talk.say(C, 0, b"?a\n");
        talk.say(S, 0, b"!a\n");
    }
    let outcome = talk.run();
    assert_eq!((outcome.lines(), bytes(&outcome).lost), (vec![PAIR.to_owned(); 4], 0));
}

#[test]
fn a_hole_is_given_up_when_two_packets_acknowledge_beyond_it() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.lose(S, 0);
    talk.sack(C);
    talk.say(C, 0, b"?b\n");
    talk.say(S, 0, b"!b\n");
    talk.sack(C);
    talk.say(C, 0, b"?c\n");
    talk.say(S, 0, b"!c\n");
    let outcome = talk.run();
    assert_eq!(
        outcome.lines(),
        ["cap-1: ?a -> - [gap]", "cap-1: ?b -> - [gap]", "cap-1: - -> !b [unsolicited]", "cap-1: ?c -> !c"]
    );
    assert_eq!(bytes(&outcome).lost, MOST_DATA);
}

#[test]
fn one_acknowledgment_alone_may_be_early() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    let answer = talk.data(S, 0, WHOLE, b"!a\n");
    talk.sack(C);
    talk.send(S, &[answer]);
    talk.sack(C);
    let outcome = talk.run();
    assert_eq!((outcome.lines(), bytes(&outcome).lost), (vec![PAIR.to_owned()], 0));
}

#[test]
fn what_one_stream_has_lost_the_others_do_not_miss() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.say(C, 1, b"?b\n");
    talk.lose(S, 1);
    talk.say(S, 0, b"!a\n");
    talk.say(S, 1, b"!c\n");
    talk.say(S, 0, b"");
    talk.shutdown(S);
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR, "cap-2: ?b -> - [gap]", "cap-2: - -> !c [unsolicited]"]);
    assert_eq!(bytes(&outcome).lost, MOST_DATA);
}

#[test]
fn what_is_missing_at_the_end_may_be_of_every_stream() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.lose(S, 0);
    talk.sack(C);
    assert_eq!(talk.run().lines(), ["cap-1: ?a -> - [gap]"]);
}

#[test]
fn what_the_sender_has_given_up_is_not_waited_for() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    let forward = chunk(192, 0, &TSN[S].to_be_bytes());
    talk.lose(S, 0);
    talk.say(S, 0, b"!b\n");
    (0..2).for_each(|_| talk.send(S, std::slice::from_ref(&forward)));
    talk.say(C, 0, b"?c\n");
    talk.say(S, 0, b"!c\n");
    let lines = talk.run().lines();
    assert_eq!(lines, ["cap-1: ?a -> - [gap]", "cap-1: - -> !b [unsolicited]", "cap-1: ?c -> !c"]);
}

#[test]
fn a_hole_is_given_up_when_too_much_waits_behind_it() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.lose(S, 0);
    for _ in 0..400 {
        talk.say(S, 0, &[b'x'; 1000]);
    }
    let outcome = talk.run();
    assert_eq!((bytes(&outcome).lost, bytes(&outcome).delivered), (MOST_DATA, 400_003));
}

#[test]
fn joined_in_the_middle_the_client_is_known_by_content() {
    let mut talk = Talk::silent(TSN);
    talk.sequences = [[7; 2]; 2];
    talk.say(S, 0, b"!z\n");
    talk.say(C, 0, b"?a\n");
    talk.say(S, 0, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-1: - -> !z [unsolicited]", PAIR]);
    assert!(outcome.records[1]["local"].as_str().unwrap().contains(SERVER));
    assert_eq!(bytes(&outcome).lost, 0);
}

#[test]
fn only_the_answer_to_init_was_captured() {
    let mut talk = Talk::open();
    talk.packets.remove(0);
    talk.say(C, 0, b"?a\n");
    talk.say(S, 0, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR]);
    assert!(outcome.records[0]["local"].as_str().unwrap().contains(SERVER));
}

#[test]
fn only_one_direction_was_captured() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.lose(S, 0);
    talk.sack(C);
    talk.packets.retain(|packet| packet.bytes.get(12..16) == Some(&[10, 0, 0, 1]));
    assert_eq!(talk.run().lines(), ["cap-1: ?a -> - [gap]"]);
    // Nothing was sent.
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.shutdown(C);
    talk.packets.retain(|packet| packet.bytes.get(12..16) == Some(&[10, 0, 0, 1]));
    assert_eq!(talk.run().lines(), ["cap-1: ?a -> - [no_response]"]);
}

#[test]
fn the_first_messages_were_not_captured() {
    let mut talk = Talk::open();
    talk.lose(C, 0);
    talk.say(C, 0, b"?b\n");
    talk.say(S, 0, b"!a\n!b\n");
    let outcome = talk.run();
    assert_eq!(bytes(&outcome).lost, MOST_DATA);
    assert!(!outcome.lines().contains(&"cap-1: ?b -> !a".to_owned()), "{:?}", outcome.lines());
}

#[test]
fn of_several_answers_to_init_the_client_has_taken_one() {
    let mut talk = Talk::open();
    let answer = init(2, 99, 4_000_000_000);
    talk.packet(S, TAGS[S], &[answer]);
    talk.say(C, 0, b"?a\n");
    talk.say(S, 0, b"!a\n");
    let outcome = talk.run();
    assert_eq!((outcome.lines(), bytes(&outcome).rejected), (vec![PAIR.to_owned()], 0));
}

#[test]
fn both_sides_send_init() {
    let mut talk = Talk::silent(TSN);
    talk.packet(S, 0, &[init(1, TAGS[C], TSN[S])]);
    talk.packet(C, 0, &[init(1, TAGS[S], TSN[C])]);
    talk.say(C, 0, b"?a\n");
    talk.say(C, 1, b"?b\n");
    talk.say(S, 0, b"!a\n");
    talk.say(S, 1, b"!b\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR, "cap-2: ?b -> !b"]);
    assert!(outcome.records.iter().all(|record| record["local"].as_str().unwrap().contains(SERVER)));
}

#[test]
fn a_new_init_on_the_same_ports_is_a_new_association() {
    for closed in [true, false] {
        let mut talk = Talk::open();
        talk.say(C, 0, b"?a\n");
        talk.say(S, 0, b"!a\n");
        if closed {
            talk.shutdown(S);
        }
        talk.sequences = [[0; 2]; 2];
        talk.next = [70_000, 90_000];
        talk.packet(C, 0, &[init(1, 5, 70_000)]);
        talk.packet(S, 5, &[init(2, 6, 90_000)]);
        talk.say(C, 0, b"?b\n");
        talk.say(S, 0, b"!b\n");
        assert_eq!(talk.run().lines(), [PAIR, "cap-2: ?b -> !b"], "closed: {closed}");
    }
}

#[test]
fn abort_ends_all_streams() {
    for (side, tag, flags) in [(S, TAGS[S], 0), (C, TAGS[C], 0), (S, TAGS[C], 1)] {
        let mut talk = Talk::open();
        talk.say(C, 0, b"?a\n");
        talk.say(C, 1, b"?b\n");
        talk.packet(side, tag, &[chunk(6, flags, b"")]);
        talk.say(S, 0, b"!a\n");
        let outcome = talk.run();
        assert_eq!(outcome.lines(), ["cap-1: ?a -> - [no_response]", "cap-2: ?b -> - [no_response]"]);
        assert_eq!(bytes(&outcome).rejected, 3);
    }
}

#[test]
fn a_forged_abort_does_nothing() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    for kind in [6, 7, 8, 14] {
        talk.packet(S, 123, &[chunk(kind, 0, &[0; 4])]);
    }
    talk.say(S, 0, b"!a\n");
    assert_eq!(talk.run().lines(), [PAIR]);
}

#[test]
fn data_behind_shutdown_and_far_ahead_is_rejected() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.send(C, &[data(TSN[C] + 1 + (1 << 21), 0, 0, WHOLE, b"?x\n")]);
    talk.shutdown(C);
    talk.say(C, 0, b"?b\n");
    let outcome = talk.run();
    assert_eq!((bytes(&outcome).delivered, bytes(&outcome).rejected), (3, 6));
}

#[test]
fn unordered_messages_stand_where_they_were_sent() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    for (flags, user) in [(UNORDERED | FIRST, &b"?"[..]), (UNORDERED | LAST, b"b\n")] {
        let chunk = talk.data(C, 0, flags, user);
        talk.send(C, &[chunk]);
    }
    talk.say(C, 0, b"?c\n");
    talk.say(S, 0, b"!a\n!b\n!c\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), [PAIR, "cap-1: ?b -> !b", "cap-1: ?c -> !c"]);
    assert_eq!(bytes(&outcome).lost, 0);
}

#[test]
fn a_snapshot_length_truncates_and_does_not_lose() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a long line\n");
    talk.say(C, 0, b"?b\n");
    talk.say(S, 0, b"!a\n!b\n");
    // IPv4, the common header, the chunk's header, and 5 bytes.
    talk.packets[4].bytes.truncate(20 + 12 + 16 + 5);
    let outcome = talk.run();
    assert_eq!((bytes(&outcome).truncated, bytes(&outcome).lost), (8, 0));
    assert!(!outcome.lines().contains(&"cap-1: ?a long line -> !a".to_owned()));
    talk.packets[4].bytes.truncate(20 + 12 + 15);
    assert_eq!(skipped(&talk.run()), [("header_cut_off", 1)]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let whole = data(TSN[C], 0, 0, WHOLE, b"?a\n");
    for length in [0_u16, 3, 15, 21] {
        let mut talk = Talk::open();
        let mut lying = whole.clone();
        lying[2..4].copy_from_slice(&length.to_be_bytes());
        talk.send(C, &[lying]);
        assert_eq!(skipped(&talk.run()), [("malformed_header", 1)], "{length}");
    }
}

#[test]
fn data_by_other_numbers_is_not_understood() {
    let mut talk = Talk::open();
    talk.send(C, &[chunk(64, WHOLE, &[0; 20])]);
    assert_eq!(skipped(&talk.run()), [("sctp_chunk_64", 1)]);
}

#[test]
fn a_stream_that_speaks_nothing_known_is_passed_over() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"SSH-2.0-x\r\n");
    talk.say(S, 0, b"SSH-2.0-y\r\n");
    talk.say(C, 0, &[7; 1000]);
    talk.say(C, 1, b"?a\n");
    talk.say(S, 1, b"!a\n");
    let outcome = talk.run();
    assert_eq!(outcome.lines(), ["cap-2: ?a -> !a"]);
    assert_eq!((bytes(&outcome).delivered, bytes(&outcome).passed_over), (28, 1000));
}

#[test]
fn too_many_streams_and_too_many_held_bytes_cost_associations() {
    let mut talk = Talk::open();
    talk.say(C, 0, b"?a\n");
    talk.say(C, 1, b"?b\n");
    talk.lose(C, 0);
    (0..20).for_each(|_| talk.say(C, 0, &[b'x'; 1400]));
    for narrow in [Options { max_connections: 1, ..options() }, Options { max_held: 10_000, ..options() }] {
        let outcome = run_with(&narrow, vec![Format::PLAIN.file(&talk.packets)]);
        assert!(outcome.replayed.ledger.connections.evicted > 0);
        assert_eq!(outcome.records.len(), 2, "what was given up is still reported");
    }
}

/// A packet of everything, behind a handshake.
fn rich() -> Talk {
    let mut talk = Talk::open();
    let chunks = [
        talk.acknowledging(C, 3, &[0; 8]),
        talk.data(C, 0, FIRST, b"?a"),
        talk.data(C, 1, WHOLE, b"?b\n"),
        talk.data(C, 0, LAST, b"\n"),
        chunk(192, 0, &TSN[C].to_be_bytes()),
        chunk(4, 0, b"beat!"),
        talk.acknowledging(C, 7, b""),
    ];
    talk.send(C, &chunks);
    talk.say(S, 0, b"!a\n");
    talk.say(S, 1, b"!b\n");
    talk
}

#[test]
fn no_prefix_of_a_packet_does_harm() {
    let talk = rich();
    let whole = talk.packets[4].bytes.clone();
    for cut in 0..=whole.len() {
        let mut packets = talk.packets.clone();
        packets[4].bytes.truncate(cut);
        let outcome = run(Format::PLAIN.file(&packets));
        let ledger::Packets { read, delivered, .. } = outcome.replayed.ledger.packets;
        assert_eq!(delivered + u64::from(cut < 20 + 12 + 8), read, "cut at {cut}");
    }
}

proptest! {
    /// Whatever packets hold: no panic, no hang, and everything is accounted for (`run` asserts the balance).
    #[test]
    fn mutated_packets_are_all_accounted_for(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 20..200_usize, any::<u8>()), 1..20),
        max_connections in 1..4_usize,
    ) {
        let mut packets = rich().packets;
        for (packet, at, value) in edits {
            let count = packets.len();
            if let Some(byte) = packets[packet.index(count)].bytes.get_mut(at) {
                *byte = value;
            }
        }
        let file = Format::PLAIN.file(&packets);
        run_with(&Options { max_connections, ..options() }, vec![file]);
    }

    /// Any order of the chunks of both directions: every message comes out once and whole.
    #[test]
    fn shuffled_chunks_come_together(order in Just((0..24_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let mut talk = Talk::open();
        let mut chunks = Vec::new();
        for round in 0..4_u16 {
            for (side, pieces) in [(C, [&b"?req"[..], b"ue", b"st\n"]), (S, [b"!res", b"pon", b"se\n"])] {
                for (flags, user) in [FIRST, MIDDLE, LAST].into_iter().zip(pieces) {
                    chunks.push((side, talk.data(side, round % 2, flags, user)));
                }
            }
        }
        for index in order {
            let (side, chunk) = chunks[index].clone();
            talk.send(side, &[chunk]);
        }
        let outcome = talk.run();
        let lines = outcome.lines().join("\n");
        for (text, times) in [("?request", 4), ("!response", 4), ("gap", 0), ("midstream", 0)] {
            prop_assert_eq!(lines.matches(text).count(), times, "{}", lines);
        }
        prop_assert_eq!((bytes(&outcome).lost, bytes(&outcome).delivered), (0, 76));
    }
}
