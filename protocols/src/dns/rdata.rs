//! Record data in presentation form: what a zone file, or dig, would show.
//!
//! Types without a known form, and data that does not fit its type, print in the generic form of RFC 3597 §5. Names
//! print as everywhere here: without the trailing dot.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::codes::{SvcKey, Type};
use super::name::{Name, quote};
use crate::Cursor;

/// Record data as text, and whether it fits its type. `data` lies in `message` from `start` on.
pub(super) fn present(kind: Type, data: &[u8], message: &[u8], start: usize) -> (String, bool) {
    let fields = form(kind);
    // Deletions in an update carry no data, whatever their type (RFC 2136 §2.4, §2.5).
    if fields.is_empty() || data.is_empty() {
        return (generic(data), true);
    }
    match specific(fields, message, start, start.saturating_add(data.len())) {
        Some(text) => (text, true),
        None => (generic(data), false),
    }
}

fn specific(fields: &[Field], message: &[u8], start: usize, end: usize) -> Option<String> {
    let mut cursor = Cursor::new(message.get(..end)?);
    cursor.take(start)?;
    let mut writer = Writer { text: String::new(), message };
    writer.fields(fields, &mut cursor)?;
    cursor.rest().is_empty().then_some(writer.text)
}

/// RFC 3597 §5.
fn generic(data: &[u8]) -> String {
    let mut text = format!("\\# {}", data.len());
    if !data.is_empty() {
        text.push(' ');
        hex(&mut text, data);
    }
    text
}

/// Writes bytes in lower-case hexadecimal digits.
pub(super) fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

/// One field of a record's data.
#[derive(Clone, Copy)]
enum Field {
    U8,
    U16,
    U32,
    /// Six or eight bytes in hexadecimal, by hyphens.
    Eui,
    Ipv4,
    Ipv6,
    Name,
    TypeCode,
    /// Seconds since 1970 in serial arithmetic, as YYYYMMDDHHmmSS (RFC 4034 §3.2).
    Date,
    /// A character-string: a length byte and that many bytes.
    String,
    /// Character-strings to the end.
    Strings,
    /// A length byte and a tag of letters and digits.
    Tag,
    /// Text to the end, in quotes.
    Text,
    /// Base64 to the end.
    Base64,
    /// Hexadecimal digits to the end.
    Hex,
    /// A length byte and salt, in hexadecimal digits or "-" (RFC 5155 §3.3).
    Salt,
    /// A length byte and a hash in base32 with extended hex alphabet (RFC 5155 §3.3).
    Hash,
    /// Type bit maps to the end (RFC 4034 §4.1.2).
    Types,
    /// Service parameters to the end (RFC 9460 §2.2).
    Params,
    /// TSIG: time signed, 48 bits of seconds since 1970.
    Time48,
    /// Two length bytes and that many bytes in base64.
    LongBase64,
}

/// The fields of a type's data; none for types that print in the generic form.
fn form(kind: Type) -> &'static [Field] {
    use Field::{
        Base64, Date, Eui, Hash, Hex, Ipv4, Ipv6, LongBase64, Name, Params, Salt, String, Strings, Tag, Text, Time48,
        TypeCode, Types, U8, U16, U32,
    };
    match kind.name().unwrap_or_default() {
        "A" => &[Ipv4],
        "AAAA" => &[Ipv6],
        "NS" | "CNAME" | "PTR" | "DNAME" | "MD" | "MF" | "MB" | "MG" | "MR" => &[Name],
        "SOA" => &[Name, Name, U32, U32, U32, U32, U32],
        "MX" | "AFSDB" | "RT" | "KX" => &[U16, Name],
        "PX" => &[U16, Name, Name],
        "MINFO" | "RP" => &[Name, Name],
        "HINFO" => &[String, String],
        "TXT" | "SPF" | "AVC" | "NINFO" | "RESINFO" => &[Strings],
        "SRV" => &[U16, U16, U16, Name],
        "NAPTR" => &[U16, U16, String, String, String, Name],
        "CAA" => &[U8, Tag, Text],
        "URI" => &[U16, U16, Text],
        "SVCB" | "HTTPS" => &[U16, Name, Params],
        "DS" | "CDS" | "DLV" | "TA" => &[U16, U8, U8, Hex],
        "DNSKEY" | "CDNSKEY" | "KEY" | "RKEY" => &[U16, U8, U8, Base64],
        "RRSIG" | "SIG" => &[TypeCode, U8, U8, U32, Date, Date, U16, Name, Base64],
        "NSEC" => &[Name, Types],
        "NSEC3" => &[U8, U8, U16, Salt, Hash, Types],
        "NSEC3PARAM" => &[U8, U8, U16, Salt],
        "TLSA" | "SMIMEA" => &[U8, U8, U8, Hex],
        "SSHFP" => &[U8, U8, Hex],
        "CERT" => &[U16, U16, U8, Base64],
        "DHCID" | "OPENPGPKEY" => &[Base64],
        "CSYNC" => &[U32, U16, Types],
        "ZONEMD" => &[U32, U8, U8, Hex],
        "EUI48" | "EUI64" => &[Eui],
        "TSIG" => &[Name, Time48, U16, LongBase64, U16, U16, LongBase64],
        _ => &[],
    }
}

struct Writer<'a> {
    text: String,
    message: &'a [u8],
}

impl<'a> Writer<'a> {
    fn fields(&mut self, fields: &[Field], cursor: &mut Cursor<'a>) -> Option<()> {
        for (index, field) in fields.iter().enumerate() {
            let before = self.text.len();
            if index > 0 {
                self.text.push(' ');
            }
            self.field(*field, cursor)?;
            if self.text.len() == before + 1 && index > 0 {
                self.text.pop();
            }
        }
        Some(())
    }

    fn field(&mut self, field: Field, cursor: &mut Cursor<'a>) -> Option<()> {
        match field {
            Field::U8 => self.show(cursor.u8()?),
            Field::U16 => self.show(cursor.u16_be()?),
            Field::U32 => self.show(cursor.u32_be()?),
            Field::Ipv4 => self.show(Ipv4Addr::from(cursor.array::<4>()?)),
            Field::Ipv6 => self.show(Ipv6Addr::from(cursor.array::<16>()?)),
            Field::Name => self.show(Name::read(cursor, self.message)?),
            Field::TypeCode => self.show(Type(cursor.u16_be()?)),
            Field::Date => self.show(date(u64::from(cursor.u32_be()?))),
            Field::Time48 => {
                let high = u64::from(cursor.u16_be()?);
                self.show(date(high << 32 | u64::from(cursor.u32_be()?)))
            }
            Field::String => quote(&mut self.text, prefixed(cursor)?).ok(),
            Field::Strings => self.strings(cursor),
            Field::Tag => self.tag(prefixed(cursor)?),
            Field::Text => quote(&mut self.text, rest(cursor)).ok(),
            Field::Base64 => self.show(STANDARD.encode(rest(cursor))),
            Field::LongBase64 => {
                let length = usize::from(cursor.u16_be()?);
                self.show(STANDARD.encode(cursor.take(length)?))
            }
            Field::Hex => self.hex(rest(cursor)),
            Field::Eui => self.eui(rest(cursor)),
            Field::Salt => match prefixed(cursor)? {
                [] => self.show('-'),
                salt => self.hex(salt),
            },
            Field::Hash => self.base32(prefixed(cursor)?),
            Field::Types => self.types(cursor),
            Field::Params => self.params(cursor),
        }
    }

    fn show(&mut self, value: impl std::fmt::Display) -> Option<()> {
        write!(self.text, "{value}").ok()
    }

    fn hex(&mut self, bytes: &[u8]) -> Option<()> {
        hex(&mut self.text, bytes);
        Some(())
    }

    fn strings(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        quote(&mut self.text, prefixed(cursor)?).ok()?;
        while !cursor.rest().is_empty() {
            self.text.push(' ');
            quote(&mut self.text, prefixed(cursor)?).ok()?;
        }
        Some(())
    }

    fn tag(&mut self, tag: &[u8]) -> Option<()> {
        let tag = std::str::from_utf8(tag).ok()?;
        let fits = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| self.text.push_str(tag))
    }

    fn eui(&mut self, bytes: &[u8]) -> Option<()> {
        for (index, byte) in bytes.iter().enumerate() {
            write!(self.text, "{}{byte:02x}", if index > 0 { "-" } else { "" }).ok()?;
        }
        matches!(bytes.len(), 6 | 8).then_some(())
    }

    /// RFC 4648 §7 without padding, in lower case as zone files have it.
    fn base32(&mut self, bytes: &[u8]) -> Option<()> {
        for chunk in bytes.chunks(5) {
            let bits = chunk.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)) << (8 * (5 - chunk.len()));
            for digit in 0..(chunk.len() * 8).div_ceil(5) {
                let value = u32::try_from(bits >> (35 - 5 * digit) & 31).ok()?;
                self.text.push(char::from_digit(value, 32)?);
            }
        }
        Some(())
    }

    fn types(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let mut separator = "";
        while !cursor.rest().is_empty() {
            let window = u16::from(cursor.u8()?);
            for (index, byte) in (0u16..32).zip(prefixed(cursor)?) {
                for bit in (0..8).filter(|bit| byte & 0x80 >> bit != 0) {
                    write!(self.text, "{separator}{}", Type(window << 8 | index << 3 | bit)).ok()?;
                    separator = " ";
                }
            }
        }
        Some(())
    }

    fn params(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let mut separator = "";
        while !cursor.rest().is_empty() {
            let key = SvcKey(cursor.u16_be()?);
            let length = usize::from(cursor.u16_be()?);
            write!(self.text, "{separator}{key}").ok()?;
            self.param(key, cursor.take(length)?)?;
            separator = " ";
        }
        Some(())
    }

    fn param(&mut self, key: SvcKey, value: &[u8]) -> Option<()> {
        if value.is_empty() {
            return Some(());
        }
        self.text.push('=');
        let mut cursor = Cursor::new(value);
        match key.name() {
            Some("mandatory") => self.list(&mut cursor, |cursor| Some(SvcKey(cursor.u16_be()?).to_string())),
            Some("port") => self.list(&mut cursor, |cursor| Some(cursor.u16_be()?.to_string())),
            Some("ipv4hint") => self.list(&mut cursor, |cursor| Some(Ipv4Addr::from(cursor.array::<4>()?).to_string())),
            Some("ipv6hint") => {
                self.list(&mut cursor, |cursor| Some(Ipv6Addr::from(cursor.array::<16>()?).to_string()))
            }
            Some("ech") => self.show(STANDARD.encode(value)),
            Some("alpn") => {
                let mut ids = Vec::new();
                while !cursor.rest().is_empty() {
                    ids.push(prefixed(&mut cursor)?);
                }
                quote(&mut self.text, &ids.join(&b',')).ok()
            }
            _ => quote(&mut self.text, value).ok(),
        }
    }

    fn list(&mut self, cursor: &mut Cursor<'_>, next: impl Fn(&mut Cursor<'_>) -> Option<String>) -> Option<()> {
        let mut separator = "";
        while !cursor.rest().is_empty() {
            write!(self.text, "{separator}{}", next(cursor)?).ok()?;
            separator = ",";
        }
        Some(())
    }
}

/// A length byte and that many bytes.
fn prefixed<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.u8()?;
    cursor.take(usize::from(length))
}

/// Everything that is left.
fn rest<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    let rest = cursor.rest();
    cursor.take(rest.len()).unwrap_or_default()
}

/// Seconds since 1970 as YYYYMMDDHHmmSS in UTC.
fn date(seconds: u64) -> String {
    // Days to year, month and day in the Gregorian calendar: years are counted from March, in eras of 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data in hexadecimal digits behind the name `a.b`, so that pointers to 0 have something to point at.
    fn present_hex(kind: u16, digits: &str) -> (String, bool) {
        let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b' ').collect();
        let data: Vec<u8> =
            digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        let message = [b"\x01a\x01b\0", data.as_slice()].concat();
        present(Type(kind), &data, &message, 5)
    }

    #[test]
    fn data_prints_as_in_zone_files() {
        // Expected texts are those of the RFCs' examples or of the formats that they define.
        let cases = [
            (1, "c0000201", "192.0.2.1"),
            (28, "20010db8000000000000000000000001", "2001:db8::1"),
            (5, "03777777c000", "www.a.b"),
            (2, "00", "."),
            (15, "000a c000", "10 a.b"),
            (16, "0161 0462225c20", "\"a\" \"b\\\"\\\\ \""),
            (16, "00", "\"\""),
            (6, "c000 016dc000 00000001 00000e10 00000258 00093a80 0000003c", "a.b m.a.b 1 3600 600 604800 60"),
            (33, "0001 0002 01bb c000", "1 2 443 a.b"),
            (257, "00 05 6973737565 63612e6578616d706c65", "0 issue \"ca.example\""),
            (35, "0064 000a 0175 07 4532552b736970 00 c000", "100 10 \"u\" \"E2U+sip\" \"\" a.b"),
            (64, "0001 00 0003 0002 0035", "1 . port=53"),
            (65, "0001 00 0001 0006 02 6832 02 6833 0004 0004 c0000201", "1 . alpn=\"h2,h3\" ipv4hint=192.0.2.1"),
            (65, "0010 c000 0000 0004 0001 0004 0002 0000", "16 a.b mandatory=alpn,ipv4hint no-default-alpn"),
            (64, "0001 00 029b 0005 68656c6c6f", "1 . key667=\"hello\""),
            // RFC 4034 §5.4.
            (
                43,
                "ec45 05 01 2bb183af5f22588179a53b0a98631fad1a292118",
                "60485 5 1 2bb183af5f22588179a53b0a98631fad1a292118",
            ),
            (48, "0100 03 05 010203", "256 3 5 AQID"),
            // RFC 4034 §3.3.
            (
                46,
                "0001 05 03 00015180 3e7c9dd7 3e5510d7 0a52 c000 010203",
                "A 5 3 86400 20030322173103 20030220173103 2642 a.b AQID",
            ),
            // RFC 4034 §4.3: A, MX, RRSIG, NSEC, TYPE1234.
            (
                47,
                "c000 0006400100000003 041b 000000000000000000000000000000000000000000000000000020",
                "a.b A MX RRSIG NSEC TYPE1234",
            ),
            // RFC 5155 appendix A: the hash of "example".
            (
                50,
                "01 01 000c 04 aabbccdd 14 065368abeed7ec6e9feba96b8c8bc3e8b791f716 0006 400000000002",
                "1 1 12 aabbccdd 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A RRSIG",
            ),
            (51, "01 00 0000 00", "1 0 0 -"),
            (52, "03 01 01 abcd", "3 1 1 abcd"),
            (44, "04 02 abcd", "4 2 abcd"),
            (13, "0161 0162", "\"a\" \"b\""),
            (256, "000a 0001 6674703a", "10 1 \"ftp:\""),
            (108, "00005eef1020", "00-00-5e-ef-10-20"),
            (29, "00", "\\# 1 00"),
            (65280, "abcd", "\\# 2 abcd"),
            (10, "", "\\# 0"),
        ];
        for (kind, digits, expected) in cases {
            assert_eq!(present_hex(kind, digits), (expected.to_owned(), true), "type {kind}");
        }
    }

    #[test]
    fn data_that_does_not_fit_its_type_is_printed_generically_and_told_apart() {
        let cases = [
            ("short address", 1, "c00002"),
            ("long address", 1, "c000020101"),
            ("forward pointer", 5, "c0ff"),
            ("string past the end", 16, "05 61"),
            ("parameter past the end", 65, "0001 00 0001 0006 0268"),
            ("odd address list", 65, "0001 00 0004 0003 c00002"),
        ];
        for (case, kind, digits) in cases {
            let compact: String = digits.split(' ').collect();
            let expected = format!("\\# {} {compact}", compact.len() / 2);
            assert_eq!(present_hex(kind, digits), (expected, false), "{case}");
        }
        assert_eq!(present_hex(1, ""), ("\\# 0".to_owned(), true), "a deletion in an update has no data");
    }
}
