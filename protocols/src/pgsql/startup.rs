//! The packets that begin a connection: they have a length and no type byte (PostgreSQL manual, 55.2.1).

use crate::{Cursor, Text};

/// The longest packet that a server accepts (`MAX_STARTUP_PACKET_LENGTH`).
const LONGEST: u32 = 10_000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    SslRequest,
    GssRequest,
    /// Wants what the server process with this id does cancelled. (Its secret is not kept.)
    Cancel {
        process: u32,
    },
    Startup(Parameters),
}

/// Parameters of a session that records show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) user: Option<Text>,
    pub(super) database: Option<Text>,
    pub(super) application_name: Option<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A whole packet and its length.
    Packet(Packet, usize),
    /// May be one: this many bytes in total would tell more.
    Need(usize),
    No,
}

/// Reads the packet that `bytes` begin with.
pub(super) fn look(bytes: &[u8]) -> Look {
    let mut cursor = Cursor::new(bytes);
    let Some(length) = cursor.u32_be() else {
        // No packet is longer than 10000 bytes: the upper half of its length is zero.
        return if bytes.iter().take(2).all(|&byte| byte == 0) { Look::Need(8) } else { Look::No };
    };
    if !(8..=LONGEST).contains(&length) {
        return Look::No;
    }
    let Some(code) = cursor.u32_be() else { return Look::Need(8) };
    let known = match code {
        SSL | GSS => length == 8,
        // Four bytes of key, since protocol 3.2 up to 256.
        CANCEL => (16..=268).contains(&length),
        _ => code >> 16 == 3 && length > 8,
    };
    if !known {
        return Look::No;
    }
    let length = length as usize;
    let Some(body) = cursor.take(length - 8) else {
        let begins = code >> 16 != 3 || cursor.rest().first().is_none_or(|byte| byte.is_ascii_graphic());
        return if begins { Look::Need(length) } else { Look::No };
    };
    match packet(code, body) {
        Some(packet) => Look::Packet(packet, length),
        None => Look::No,
    }
}

fn packet(code: u32, body: &[u8]) -> Option<Packet> {
    Some(match code {
        SSL => Packet::SslRequest,
        GSS => Packet::GssRequest,
        CANCEL => Packet::Cancel { process: Cursor::new(body).u32_be()? },
        _ => Packet::Startup(parameters(body)?),
    })
}

/// Names and values, each ended by a zero byte, and a zero byte behind them. "user" is the only one required.
fn parameters(body: &[u8]) -> Option<Parameters> {
    let mut parameters = Parameters::default();
    let mut replication = false;
    let mut cursor = Cursor::new(body);
    loop {
        let name = cursor.until(0)?;
        if name.is_empty() {
            break;
        }
        let value = Some(Text::from(cursor.until(0)?));
        match name {
            b"user" => parameters.user = value,
            b"database" => parameters.database = value,
            b"application_name" => parameters.application_name = value,
            b"replication" => replication = true,
            _ => {}
        }
    }
    parameters.user.as_ref()?;
    if parameters.database.is_none() && !replication {
        // The manual: "Defaults to the user name."
        parameters.database.clone_from(&parameters.user);
    }
    cursor.rest().is_empty().then_some(parameters)
}
