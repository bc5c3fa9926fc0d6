//! Values in the binary protocol.

use serde::{Serialize, Serializer};

use super::wire;
use crate::{Cursor, Text};

/// The most values of one execution that are kept.
const COUNT: usize = 256;

/// One parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parameter {
    Null,
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(Text),
    /// Sent before with COM_STMT_SEND_LONG_DATA: how many bytes.
    LongData(u64),
}

impl Parameter {
    /// NULL and sizes are no values and stay.
    pub(super) fn redact(&mut self) {
        if !matches!(self, Self::Null | Self::LongData(_)) {
            *self = Self::Text(Text::redacted());
        }
    }
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            // JSON has no NaN and no infinity.
            Self::Float(value) if !value.is_finite() => serializer.collect_str(value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => text.serialize(serializer),
            Self::LongData(length) => {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("long_data_bytes", length)?;
                map.end()
            }
        }
    }
}

impl schemars::JsonSchema for Parameter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MysqlParameter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A value as its type says: a number or a string; bytes that are not UTF-8 in base64; \
                            {\"long_data_bytes\": n} for one that was sent before in pieces",
            "type": ["null", "number", "string", "object"]
        })
    }
}

/// A type as the client gave it (`enum_field_types`), and whether it is unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) code: u8,
    pub(super) unsigned: bool,
}

/// What was read of the values of one execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) values: Vec<Parameter>,
    /// Whether there are more, or longer ones, than were kept.
    pub(super) truncated: bool,
}

/// Types of `count` values; of named ones (query attributes) the names are passed over.
pub(super) fn types(cursor: &mut Cursor<'_>, count: usize, named: bool) -> Option<Vec<Type>> {
    let mut types = Vec::new();
    for _ in 0..count {
        let [code, flags] = cursor.array()?;
        if named {
            wire::lenenc_bytes(cursor)?;
        }
        types.push(Type { code, unsigned: flags & 0x80 != 0 });
    }
    Some(types)
}

/// Reads values behind their types. `nulls`: the bitmap. `long`: bytes of values that were sent before. `budget`:
/// bytes to keep of all values.
pub(super) fn values(
    cursor: &mut Cursor<'_>,
    types: &[Type],
    nulls: &[u8],
    long: impl Fn(usize) -> Option<u64>,
    mut budget: usize,
) -> Parameters {
    let mut parameters = Parameters::default();
    for (index, of_type) in types.iter().enumerate() {
        let is_null = nulls.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        let value = match long(index) {
            _ if index >= COUNT => None,
            Some(length) => Some(Parameter::LongData(length)),
            None if is_null => Some(Parameter::Null),
            None => value(cursor, *of_type),
        };
        let Some(mut value) = value else {
            parameters.truncated = true;
            break;
        };
        if let Parameter::Text(text) = &mut value {
            let kept = text.as_bytes().get(..budget);
            parameters.truncated |= kept.is_some_and(|kept| kept.len() < text.as_bytes().len());
            if let Some(kept) = kept {
                *text = Text::from(kept);
            }
            budget -= text.as_bytes().len();
        }
        parameters.values.push(value);
    }
    parameters
}

/// Passes over a value; `None` if it is not all there.
pub(super) fn value(cursor: &mut Cursor<'_>, of_type: Type) -> Option<Parameter> {
    let integer = |signed: i64, unsigned: u64| {
        if of_type.unsigned { Parameter::Unsigned(unsigned) } else { Parameter::Integer(signed) }
    };
    Some(match of_type.code {
        // MYSQL_TYPE_TINY, SHORT, YEAR, LONG, INT24, LONGLONG.
        1 => cursor.u8().map(|v| integer(i64::from(v.cast_signed()), v.into()))?,
        2 | 13 => cursor.u16_le().map(|v| integer(i64::from(v.cast_signed()), v.into()))?,
        3 | 9 => cursor.u32_le().map(|v| integer(i64::from(v.cast_signed()), v.into()))?,
        8 => cursor.array().map(u64::from_le_bytes).map(|v| integer(v.cast_signed(), v))?,
        // FLOAT: the shortest number that means it, as a server prints it.
        4 => cursor.array().map(|v| f32::from_le_bytes(v).to_string().parse().ok().map(Parameter::Float))??,
        5 => cursor.array().map(f64::from_le_bytes).map(Parameter::Float)?,
        6 => Parameter::Null,
        // TIMESTAMP, DATE, DATETIME; TIME.
        7 | 10 | 12 => Parameter::Text(moment(cursor, of_type.code == 10)?.into()),
        11 => Parameter::Text(duration(cursor)?.into()),
        // DECIMAL, VARCHAR, BIT, JSON, NEWDECIMAL, ENUM, SET, BLOBs, strings, GEOMETRY.
        0 | 15 | 16 | 245..=255 => Parameter::Text(wire::lenenc_bytes(cursor)?.into()),
        _ => return None,
    })
}

fn moment(cursor: &mut Cursor<'_>, date_only: bool) -> Option<String> {
    let length = usize::from(cursor.u8()?);
    let mut fields = Cursor::new(cursor.take(length)?);
    let (year, month, day) = match length {
        0 => (0, 0, 0),
        _ => (fields.u16_le()?, fields.u8()?, fields.u8()?),
    };
    let date = format!("{year:04}-{month:02}-{day:02}");
    if date_only {
        return Some(date);
    }
    let [hour, minute, second] = fields.array().unwrap_or_default();
    let fraction = fields.u32_le().map(|micros| format!(".{micros:06}")).unwrap_or_default();
    Some(format!("{date} {hour:02}:{minute:02}:{second:02}{fraction}"))
}

fn duration(cursor: &mut Cursor<'_>) -> Option<String> {
    let length = usize::from(cursor.u8()?);
    let mut fields = Cursor::new(cursor.take(length)?);
    if length == 0 {
        return Some("00:00:00".to_owned());
    }
    let sign = if fields.u8()? == 0 { "" } else { "-" };
    let days = u64::from(fields.u32_le()?);
    let [hour, minute, second] = fields.array()?;
    let fraction = fields.u32_le().map(|micros| format!(".{micros:06}")).unwrap_or_default();
    Some(format!("{sign}{:02}:{minute:02}:{second:02}{fraction}", days * 24 + u64::from(hour)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_by_their_type() {
        let text = |text: &str| Some(Parameter::Text(text.into()));
        type Case = (&'static str, u8, bool, &'static [u8], Option<Parameter>);
        let float = 0.1_f32.to_le_bytes();
        let double = 1.5_f64.to_le_bytes();
        let cases: [Case; 15] = [
            ("tiny", 1, false, &[0xff], Some(Parameter::Integer(-1))),
            ("unsigned tiny", 1, true, &[0xff], Some(Parameter::Unsigned(255))),
            ("short", 2, false, &[0xfe, 0xff], Some(Parameter::Integer(-2))),
            ("long", 3, false, &[0, 1, 0, 0], Some(Parameter::Integer(256))),
            ("long cut short", 3, false, &[0, 1, 0], None),
            ("longlong", 8, true, &[0xff; 8], Some(Parameter::Unsigned(u64::MAX))),
            ("string", 253, false, b"\x03abc", text("abc")),
            ("string that claims too much", 253, false, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7fabc", None),
            ("date", 10, false, &[4, 0xea, 7, 11, 20], text("2026-11-20")),
            ("datetime", 12, false, &[7, 0xea, 7, 11, 20, 1, 2, 3], text("2026-11-20 01:02:03")),
            (
                "microseconds",
                12,
                false,
                &[11, 0xea, 7, 11, 20, 1, 2, 3, 5, 0, 0, 0],
                text("2026-11-20 01:02:03.000005"),
            ),
            ("zero date", 12, false, &[0], text("0000-00-00 00:00:00")),
            ("time", 11, false, &[8, 1, 1, 0, 0, 0, 2, 3, 4], text("-26:03:04")),
            ("null", 6, false, &[], Some(Parameter::Null)),
            ("unknown type", 100, false, &[1, 2], None),
        ];
        for (name, code, unsigned, bytes, expected) in cases {
            assert_eq!(value(&mut Cursor::new(bytes), Type { code, unsigned }), expected, "{name}");
        }
        for (code, bytes, expected) in [(4, &float[..], 0.1), (5, &double, 1.5)] {
            let read = value(&mut Cursor::new(bytes), Type { code, unsigned: false });
            assert_eq!(read, Some(Parameter::Float(expected)), "{code}");
        }
    }
}
