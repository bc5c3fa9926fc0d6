use proptest::prelude::*;

use super::testing::{Encoder, Form};
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn known(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| Field::Known(name.as_bytes().into(), value.as_bytes().into())).collect()
}

fn assert_block(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)]) {
    let decoded = decoder.decode(&hex(block), false);
    assert_eq!(decoded, Block { fields: known(fields), ..Block::default() }, "{block}");
}

/// RFC 7541, appendix C.2.
#[test]
fn single_representations() {
    for (block, name, value) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key", "custom-header"),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path"),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret"),
        ("82", ":method", "GET"),
    ] {
        assert_block(&mut Decoder::new(true), block, &[(name, value)]);
    }
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

/// RFC 7541, appendices C.3 and C.4.
#[test]
fn requests_with_and_without_huffman() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(true);
        for (block, fields) in blocks.iter().zip(REQUESTS) {
            assert_block(&mut decoder, block, fields);
        }
    }
}

/// RFC 7541, appendices C.5 and C.6: the table holds 256 bytes and entries are evicted.
#[test]
fn responses_with_eviction() {
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let later = "Mon, 21 Oct 2013 20:13:22 GMT";
    let location = ("location", "https://www.example.com");
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let expected: [&[(&str, &str)]; 3] = [
        &[(":status", "302"), ("cache-control", "private"), ("date", date), location],
        &[(":status", "307"), ("cache-control", "private"), ("date", date), location],
        &[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", later),
            location,
            ("content-encoding", "gzip"),
            ("set-cookie", cookie),
        ],
    ];
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
         3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(true);
        decoder.table.resize(256);
        for (block, fields) in blocks.iter().zip(expected) {
            assert_block(&mut decoder, block, fields);
        }
    }
}

#[test]
fn integers_of_appendix_c1() {
    for (bytes, prefix, value) in [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337), (&[0x2a], 8, 42)] {
        assert_eq!(integer(&mut Cursor::new(bytes), prefix).ok(), Some(value));
    }
    assert!(integer(&mut Cursor::new(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), 5).is_err());
}

#[test]
fn a_reference_into_the_unseen_part_is_unknown() {
    let mut encoder = Encoder::new();
    let old = [("x-old", "1")];
    encoder.block(&old, Form::Indexing);
    let mut decoder = Decoder::new(false);
    let block = encoder.encode(&[
        (":method", "GET", Form::Indexing),
        ("x-old", "1", Form::Indexing),
        ("x-old", "2", Form::Indexing),
        ("x-new", "3", Form::Indexing),
    ]);
    let decoded = decoder.decode(&block, false);
    let field = |name: &str, value: &str| known(&[(name, value)]).remove(0);
    assert_eq!(decoded.fields, [field(":method", "GET"), Field::Unknown, Field::Unknown, field("x-new", "3")]);
    let block = encoder.block(&[("x-new", "3"), ("x-old", "2"), ("x-old", "1")], Form::Indexing);
    let decoded = decoder.decode(&block, false);
    assert_eq!(decoded.fields, [field("x-new", "3"), Field::Unknown, Field::Unknown]);
    encoder.resize(0);
    encoder.block(&[], Form::Indexing);
    assert!(!decoder.decode(&hex("20 82"), false).invalid);
    assert!(decoder.decode(&hex("be"), false).invalid, "nothing is left that could be unknown");
}

#[test]
fn a_cut_block_gives_its_beginning_and_an_unknown_table() {
    let mut encoder = Encoder::new();
    let fields = [("x-a", "1"), ("x-b", "2")];
    let block = encoder.block(&fields, Form::Indexing);
    let mut decoder = Decoder::new(true);
    let decoded = decoder.decode(&block[..block.len() - 1], true);
    assert_eq!(decoded, Block { fields: known(&fields[..1]), cut: true, ..Block::default() });
    let decoded = decoder.decode(&encoder.block(&fields, Form::Indexing), false);
    assert_eq!(decoded.fields, [Field::Unknown, Field::Unknown]);
}

#[test]
fn broken_blocks_are_refused() {
    for (name, block) in [
        ("index 0", "80"),
        ("beyond the table", "be"),
        ("name beyond the table", "7f 00 01 61"),
        ("no value", "41"),
        ("string too short", "00 05 61"),
        ("endless integer", "ff ff ff ff ff ff ff"),
        ("wrong padding", "00 81 18 00"),
    ] {
        assert!(Decoder::new(true).decode(&hex(block), false).invalid, "{name}");
    }
}

#[test]
fn a_bomb_costs_little() {
    let mut decoder = Decoder::new(true);
    let mut bomb = vec![0x40, 0x7f, 0xa1, 0x1e];
    bomb.extend([b'n'; 4000]);
    bomb.push(0);
    let mut references = bomb.clone();
    references.extend([0xbe; 60_000]);
    let decoded = decoder.decode(&references, false);
    assert!(decoded.overflow && !decoded.invalid);
    assert!(decoded.fields.len() <= LARGEST_LIST / 4000);
    bomb.extend([0x7e, 0x00].repeat(1000));
    assert!(decoder.decode(&bomb, false).invalid);
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![3 => Just(Form::Indexing), 1 => Just(Form::Literal), 1 => Just(Form::Never)]
}

/// A size update and the fields of a block.
type Written = (Option<usize>, Vec<(String, String, Form)>);

fn blocks() -> impl Strategy<Value = Vec<Written>> {
    let field = ("[a-d]{1,2}", "[ -~]{0,40}", form());
    let resize = proptest::option::weighted(0.2, 0usize..300);
    prop::collection::vec((resize, prop::collection::vec(field, 0..6)), 1..12)
}

fn encode(encoder: &mut Encoder, resize: Option<usize>, fields: &[(String, String, Form)]) -> Vec<u8> {
    if let Some(limit) = resize {
        encoder.resize(limit);
    }
    encoder.encode(&fields.iter().map(|(n, v, f)| (n.as_str(), v.as_str(), *f)).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(blocks in blocks(), huffman: bool) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(true));
        encoder.huffman = huffman;
        for (resize, fields) in &blocks {
            let truth: Vec<_> = fields.iter().map(|(n, v, _)| (n.as_str(), v.as_str())).collect();
            let decoded = decoder.decode(&encode(&mut encoder, *resize, fields), false);
            prop_assert_eq!(decoded, Block { fields: known(&truth), ..Block::default() });
        }
    }

    #[test]
    fn joined_late_nothing_decoded_is_wrong(blocks in blocks(), join in 0usize..12, lost in 0usize..12) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(false));
        for (i, (resize, fields)) in blocks.iter().enumerate() {
            let block = encode(&mut encoder, *resize, fields);
            if i < join {
                continue;
            }
            if i == lost {
                decoder.forget();
                continue;
            }
            let decoded = decoder.decode(&block, false);
            prop_assert!(!decoded.invalid && !decoded.overflow);
            prop_assert_eq!(decoded.fields.len(), fields.len());
            for (field, (name, value, form)) in decoded.fields.iter().zip(fields) {
                match field {
                    Field::Known(n, v) => prop_assert_eq!((&n[..], &v[..]), (name.as_bytes(), value.as_bytes())),
                    Field::Unknown => prop_assert!(i > 0, "{:?}", form),
                }
            }
        }
    }

    #[test]
    fn random_blocks_do_no_harm(block: Vec<u8>, cut: bool, known: bool) {
        Decoder::new(known).decode(&block, cut);
    }
}
