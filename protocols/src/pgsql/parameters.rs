//! Values of a Bind message.

use serde::{Serialize, Serializer};

use crate::{Cursor, Text};

/// The most values of one Bind message that are kept.
const COUNT: usize = 256;

/// One parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parameter {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Text),
    /// In binary format, of a type that is not known or not decoded.
    Binary(Vec<u8>),
}

impl Parameter {
    /// What remembering it costs in bytes, about.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.as_bytes().len(),
                Self::Binary(bytes) => bytes.len(),
                Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 0,
            }
    }

    /// NULL is not a value and stays.
    pub(super) fn redact(&mut self) {
        if *self != Self::Null {
            *self = Self::Text(Text::redacted());
        }
    }
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            // JSON has no NaN and no infinity.
            Self::Float(value) if !value.is_finite() => serializer.collect_str(value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => text.serialize(serializer),
            Self::Binary(bytes) => {
                use base64::Engine as _;
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &base64::engine::general_purpose::STANDARD.encode(bytes))?;
                map.end()
            }
        }
    }
}

impl schemars::JsonSchema for Parameter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PgsqlParameter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A value in the format that it had on the wire: text as a string; binary as a number, a \
                            boolean or a string where its type is known, and in base64 where it is not",
            "type": ["null", "boolean", "number", "string", "object"]
        })
    }
}

/// What was read of the values of a Bind message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) values: Vec<Parameter>,
    /// Whether there are more, or longer ones, than were kept.
    pub(super) truncated: bool,
}

/// Reads formats and values, which follow the names in a Bind message. `budget`: bytes to keep of all values.
pub(super) fn read(cursor: &mut Cursor<'_>, types: &[u32], mut budget: usize) -> Parameters {
    let mut parameters = Parameters::default();
    let Some(formats) = formats(cursor) else { return Parameters { truncated: true, ..parameters } };
    let Some(count) = cursor.u16_be() else { return Parameters { truncated: true, ..parameters } };
    for index in 0..usize::from(count) {
        let Some(length) = cursor.u32_be().filter(|_| index < COUNT) else {
            parameters.truncated = true;
            break;
        };
        if length == u32::MAX {
            parameters.values.push(Parameter::Null);
            continue;
        }
        let wire = cursor.take(length as usize);
        let bytes = wire.unwrap_or(cursor.rest());
        let kept = bytes.get(..budget).unwrap_or(bytes);
        budget -= kept.len();
        let whole = wire.is_some() && kept.len() == bytes.len();
        parameters.truncated |= !whole;
        let of_type = types.get(index).copied().filter(|_| whole).unwrap_or(0);
        parameters.values.push(value(kept, formats.is_binary(index), of_type));
        if wire.is_none() {
            break;
        }
    }
    parameters
}

struct Formats<'a>(&'a [u8]);

impl Formats<'_> {
    /// None at all: text; one: for every parameter; else one each.
    fn is_binary(&self, index: usize) -> bool {
        let index = if self.0.len() == 2 { 0 } else { index };
        self.0.chunks(2).nth(index) == Some(&[0, 1])
    }
}

fn formats<'a>(cursor: &mut Cursor<'a>) -> Option<Formats<'a>> {
    let count = cursor.u16_be()?;
    cursor.take(usize::from(count) * 2).map(Formats)
}

fn value(bytes: &[u8], binary: bool, of_type: u32) -> Parameter {
    if !binary {
        return Parameter::Text(Text::from(bytes));
    }
    binary_value(bytes, of_type).unwrap_or_else(|| Parameter::Binary(bytes.to_vec()))
}

/// Object ids of types: `pg_type.dat`.
fn binary_value(bytes: &[u8], of_type: u32) -> Option<Parameter> {
    let mut cursor = Cursor::new(bytes);
    let value = match of_type {
        16 => Parameter::Boolean(cursor.u8()? != 0),
        20 => Parameter::Integer(i64::from_be_bytes(cursor.array()?)),
        21 => Parameter::Integer(i16::from_be_bytes(cursor.array()?).into()),
        23 => Parameter::Integer(i32::from_be_bytes(cursor.array()?).into()),
        26 => Parameter::Integer(cursor.u32_be()?.into()),
        700 => Parameter::Float(f32::from_be_bytes(cursor.array()?).into()),
        701 => Parameter::Float(f64::from_be_bytes(cursor.array()?)),
        // char, name, text, json, xml, unknown, bpchar, varchar
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 => Parameter::Text(Text::from(cursor.take(bytes.len())?)),
        // jsonb: a version and text
        3802 if cursor.u8()? == 1 => Parameter::Text(Text::from(cursor.take(bytes.len() - 1)?)),
        2950 => Parameter::Text(uuid(cursor.array()?).into()),
        1082 => Parameter::Text(date(i32::from_be_bytes(cursor.array()?).into())?.into()),
        1114 => Parameter::Text(timestamp(i64::from_be_bytes(cursor.array()?))?.into()),
        1184 => Parameter::Text(format!("{}Z", timestamp(i64::from_be_bytes(cursor.array()?))?).into()),
        _ => return None,
    };
    cursor.rest().is_empty().then_some(value)
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    groups.map(|(start, end)| hex.get(start..end).unwrap_or_default()).join("-")
}

/// Days since 2000-01-01. Infinity and years of more than four digits are left as they are.
fn date(days: i64) -> Option<String> {
    // Days of the proleptic Gregorian calendar from 0000-03-01: 2000-03-01 is day 730485 of it, 60 days into 2000.
    let day = days.checked_add(730_425)?;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let in_range = (1..=9999).contains(&year);
    in_range.then(|| format!("{year:04}-{month:02}-{:02}", of_year - (153 * shifted + 2) / 5 + 1))
}

/// Microseconds since 2000-01-01 00:00.
fn timestamp(microseconds: i64) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let date = date(microseconds.div_euclid(DAY))?;
    let of_day = microseconds.rem_euclid(DAY);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}.{fraction:06}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_are_decoded_by_their_type() {
        let text = |text: &str| Some(Parameter::Text(text.into()));
        let cases = [
            ("int2", 21, &[0xff, 0xfe][..], Some(Parameter::Integer(-2))),
            ("int4", 23, &[0, 0, 1, 0], Some(Parameter::Integer(256))),
            ("int8", 20, &[0x80, 0, 0, 0, 0, 0, 0, 0], Some(Parameter::Integer(i64::MIN))),
            ("int4 of a wrong length", 23, &[0, 0, 1, 0, 0], None),
            ("float8", 701, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Some(Parameter::Float(1.5))),
            ("bool", 16, &[1], Some(Parameter::Boolean(true))),
            ("text", 25, b"a", text("a")),
            ("jsonb", 3802, b"\x01{}", text("{}")),
            ("uuid", 2950, &[0x12; 16], text("12121212-1212-1212-1212-121212121212")),
            ("date", 1082, &[0, 0, 0, 0], text("2000-01-01")),
            ("leap day", 1082, &59_i32.to_be_bytes(), text("2000-02-29")),
            ("date before", 1082, &(-1_i32).to_be_bytes(), text("1999-12-31")),
            ("epoch", 1082, &(-10_957_i32).to_be_bytes(), text("1970-01-01")),
            ("timestamp", 1114, &1_500_000_i64.to_be_bytes(), text("2000-01-01T00:00:01.500000")),
            ("infinity", 1114, &i64::MAX.to_be_bytes(), None),
            ("numeric", 1700, &[0, 0], None),
        ];
        for (name, of_type, bytes, expected) in cases {
            assert_eq!(binary_value(bytes, of_type), expected, "{name}");
        }
    }

    #[test]
    fn floats_that_json_cannot_say_are_strings() {
        let print = |value| serde_json::to_string(&Parameter::Float(value)).unwrap();
        assert_eq!([print(f64::NAN), print(f64::NEG_INFINITY), print(0.5)], ["\"NaN\"", "\"-inf\"", "0.5"]);
    }
}
