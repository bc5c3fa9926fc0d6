//! Text from the wire made safe for a terminal, cut to a width, and figures in units for people.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// Where a text that is too long loses its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    End,
    Middle,
}

/// Escapes what a terminal would act upon or what would break the columns: control characters (C0, DEL, C1), and all
/// that takes no column of its own (direction overrides, joiners, combining marks), also U+2028 and U+2029, which
/// some readers take for line ends.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => cleaned.push_str("\\n"),
            '\r' => cleaned.push_str("\\r"),
            '\t' => cleaned.push_str("\\t"),
            c if is_plain(c) => cleaned.push(c),
            c => {
                let _ = write!(cleaned, "{}", c.escape_unicode());
            }
        }
    }
    Cow::Owned(cleaned)
}

fn is_plain(c: char) -> bool {
    let format = matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}');
    !c.is_control() && !format && c.width().is_some_and(|width| width > 0)
}

/// Columns that a cleaned text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or_default()
}

/// Appends a cleaned text in exactly `room` columns: cut with an ellipsis if it is longer, padded if it is shorter.
pub(super) fn put(line: &mut String, text: &str, room: usize, cut: Cut) {
    let full = width(text);
    let used = if full <= room {
        line.push_str(text);
        full
    } else {
        put_cut(line, text, room, cut)
    };
    line.extend(std::iter::repeat_n(' ', room.saturating_sub(used)));
}

/// Appends what fits, and gives back the columns that it took.
fn put_cut(line: &mut String, text: &str, room: usize, cut: Cut) -> usize {
    let Some(kept) = room.checked_sub(1) else { return 0 };
    let tail_room = if cut == Cut::Middle { kept / 2 } else { 0 };
    let (head, head_width) = fitting(text.chars(), kept - tail_room);
    let (tail, tail_width) = fitting(text.chars().rev(), tail_room);
    line.push_str(text.get(..head).unwrap_or_default());
    line.push('…');
    line.push_str(text.get(text.len().saturating_sub(tail)..).unwrap_or_default());
    head_width + 1 + tail_width
}

/// How many bytes of the leading characters fit into `room` columns, and the columns that those take.
fn fitting(chars: impl Iterator<Item = char>, room: usize) -> (usize, usize) {
    let (mut bytes, mut used) = (0, 0);
    for c in chars {
        if used + columns(c) > room {
            break;
        }
        bytes += c.len_utf8();
        used += columns(c);
    }
    (bytes, used)
}

/// A latency in at most six columns, three digits of it; `-` if it is not known.
pub(super) fn human_duration(nanoseconds: Option<u64>) -> String {
    let Some(nanoseconds) = nanoseconds else { return "-".to_owned() };
    let seconds = nanoseconds / 1_000_000_000;
    match seconds {
        0 => scaled(nanoseconds, &["ns", "µs", "ms", "s"]),
        1..60 => scaled(nanoseconds / 1_000_000, &["ms", "s"]),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A size in at most six columns, three digits of it, in powers of 1000; `-` if it is not known.
pub(super) fn human_bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| scaled(bytes, &["B", "kB", "MB", "GB", "TB", "PB", "EB"]))
}

/// Three digits and the unit by thousands. What is cut off is not rounded: 999,999 ns are not 1 ms.
fn scaled(value: u64, units: &[&str]) -> String {
    let (mut whole, mut rest) = (value, 0);
    let mut units = units.iter().peekable();
    let mut unit = units.next();
    while whole >= 1000 && units.peek().is_some() {
        (whole, rest) = (whole / 1000, whole % 1000);
        unit = units.next();
    }
    let unit = unit.copied().unwrap_or_default();
    match whole {
        _ if value < 1000 => format!("{whole}{unit}"),
        0..10 => format!("{whole}.{:02}{unit}", rest / 10),
        10..100 => format!("{whole}.{}{unit}", rest / 100),
        _ => format!("{whole}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str, room: usize, cut: Cut) -> String {
        let mut line = String::new();
        put(&mut line, &clean(text), room, cut);
        line
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (nanoseconds, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (412_345, "412µs"),
            (999_999, "999µs"),
            (1_239_999, "1.23ms"),
            (12_390_000, "12.3ms"),
            (812_000_000, "812ms"),
            (1_200_000_000, "1.20s"),
            (59_999_999_999, "59.9s"),
            (60_000_000_000, "1m00s"),
            (3_599_000_000_000, "59m59s"),
            (3_600_000_000_000, "1h00m"),
            (90_000_000_000_000, "1d01h"),
        ] {
            assert_eq!(human_duration(Some(nanoseconds)), text);
            assert!(width(text) <= 6);
        }
        assert_eq!(human_duration(None), "-");
    }

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (Some(0), "0B"),
            (Some(999), "999B"),
            (Some(1243), "1.24kB"),
            (Some(65_536), "65.5kB"),
            (Some(999_999), "999kB"),
            (Some(u64::MAX), "18.4EB"),
            (None, "-"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn a_long_text_keeps_both_its_ends() {
        assert_eq!(cell("/api/v1/customers/42", 11, Cut::Middle), "/api/…rs/42");
        assert_eq!(cell("/api", 6, Cut::Middle), "/api  ");
        assert_eq!(cell("DESCRIBE_ALL", 7, Cut::End), "DESCRI…");
        assert_eq!(cell("abc", 1, Cut::Middle), "…");
        assert_eq!(cell("abc", 0, Cut::Middle), "");
    }

    #[test]
    fn wide_characters_take_two_columns_and_are_not_cut_in_half() {
        assert_eq!(cell("日本語", 6, Cut::End), "日本語");
        for room in 0..12 {
            for cut in [Cut::End, Cut::Middle] {
                assert_eq!(width(&cell("日本語でどうぞ", room, cut)), room, "{room}");
            }
        }
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped() {
        for (text, shown) in [
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}\0", "\\u{7f}\\u{0}"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("e\u{301}", "e\\u{301}"),
            ("a\u{200b}\u{2066}\u{2028}", "a\\u{200b}\\u{2066}\\u{2028}"),
            ("\u{e000}", "\\u{e000}"),
            ("ü日", "ü日"),
        ] {
            assert_eq!(clean(text), shown);
        }
    }
}
