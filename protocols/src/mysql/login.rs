//! How a connection begins: the server's greeting and the client's answer to it.

use super::packet::Packet;
use super::wire::{self, capability};
use crate::{Cursor, Text};

/// The greeting of a server (`Protocol::HandshakeV10`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) version: Text,
    pub(super) connection: u32,
    /// What the server can do; everything, where that was not seen.
    pub(super) capabilities: u64,
}

/// The longest version that is believed.
const VERSION: usize = 256;

impl Greeting {
    /// Reads a greeting; `None` if it is none, or not enough of it is there.
    pub(super) fn of(packet: &Packet<'_>) -> Option<Self> {
        let greeting = Self::read(&packet.body)?;
        let capabilities = if packet.hole.is_none() { greeting.capabilities } else { u64::MAX };
        Some(Self { capabilities, ..greeting })
    }

    /// Reads the payload of a greeting; `None` if it is none.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        if cursor.u8()? != 10 {
            return None;
        }
        let version = cursor.until(0)?;
        let printable = version.iter().all(|byte| (0x20..0x7f).contains(byte));
        if !printable || version.is_empty() || version.len() > VERSION {
            return None;
        }
        let connection = cursor.u32_le()?;
        let _salt = cursor.take(8)?;
        if cursor.u8()? != 0 {
            return None;
        }
        let mut capabilities = u64::from(cursor.u16_le()?);
        // Servers before 4.1 end here.
        if let Some([_charset, _, _, upper_low, upper_high, _salt_length]) = cursor.array() {
            capabilities |= u64::from(u16::from_le_bytes([upper_low, upper_high])) << 16;
            let reserved: [u8; 10] = cursor.array()?;
            if capabilities & capability::CLIENT_MYSQL == 0
                && let [_, _, _, _, _, _, extended @ ..] = reserved
            {
                capabilities |= u64::from(u32::from_le_bytes(extended)) << 32;
            }
        }
        Some(Self { version: version.into(), connection, capabilities })
    }
}

/// What a client answers to the greeting (`Protocol::HandshakeResponse41`), without its proof of identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) capabilities: u64,
    /// Nothing but a wish to go on in TLS.
    pub(super) tls: bool,
    pub(super) user: Option<Text>,
    pub(super) database: Option<Text>,
}

/// Length of the fixed part, which is all of an SSLRequest.
const FIXED: usize = 32;

impl Login {
    /// Reads the payload of a login; `None` if it is none, or not enough of it is there.
    pub(super) fn read(packet: &Packet<'_>) -> Option<Self> {
        let login = Self::read_41(&packet.body).or_else(|| Self::read_320(&packet.body))?;
        if packet.hole.is_none() {
            return Some(login);
        }
        // The last name may be cut, and what looks like a wish for TLS be the start of more.
        Some(Self { database: None, ..login }).filter(|login| !login.tls)
    }

    /// `Protocol::HandshakeResponse41`, which is not easily mistaken. What follows the user may be missing.
    pub(super) fn read_41(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let mut capabilities = u64::from(cursor.u32_le()?);
        if capabilities & capability::PROTOCOL_41 == 0 {
            return None;
        }
        let _max_packet = cursor.u32_le()?;
        let _charset = cursor.u8()?;
        let filler: [u8; 23] = cursor.array()?;
        let (zeros, extended) = filler.split_last_chunk::<4>()?;
        if zeros.iter().any(|&byte| byte != 0) {
            return None;
        }
        if capabilities & capability::CLIENT_MYSQL == 0 {
            capabilities |= u64::from(u32::from_le_bytes(*extended)) << 32;
        } else if *extended != [0; 4] {
            return None;
        }
        if body.len() == FIXED {
            let tls = capabilities & capability::SSL != 0;
            return tls.then(|| Self { capabilities, tls, ..Self::default() });
        }
        let user = Some(cursor.until(0)?.into());
        let database = database(&mut cursor, capabilities);
        Some(Self { capabilities, tls: false, user, database })
    }

    /// `Protocol::HandshakeResponse320`, of clients before 4.1.
    fn read_320(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let capabilities = u64::from(cursor.u16_le()?);
        if capabilities & capability::PROTOCOL_41 != 0 {
            return None;
        }
        let _max_packet = wire::u24(&mut cursor)?;
        if body.len() == cursor.position() {
            let tls = capabilities & capability::SSL != 0;
            return tls.then(|| Self { capabilities, tls, ..Self::default() });
        }
        let user = cursor.until(0)?;
        if user.iter().any(|&byte| byte < 0x20) {
            return None;
        }
        let with_database = capabilities & capability::CONNECT_WITH_DB != 0;
        let database = cursor.until(0).and_then(|_| cursor.until(0)).filter(|_| with_database).map(Text::from);
        Some(Self { capabilities, tls: false, user: Some(user.into()), database })
    }
}

/// Passes over the proof of identity and reads the database behind it.
fn database(cursor: &mut Cursor<'_>, capabilities: u64) -> Option<Text> {
    if capabilities & capability::PLUGIN_AUTH_LENENC_CLIENT_DATA != 0 {
        wire::lenenc_bytes(cursor)?;
    } else if capabilities & capability::SECURE_CONNECTION != 0 {
        let length = cursor.u8()?;
        cursor.take(usize::from(length))?;
    } else {
        cursor.until(0)?;
    }
    if capabilities & capability::CONNECT_WITH_DB == 0 {
        return None;
    }
    Some(cursor.until(0).unwrap_or(cursor.rest()).into()).filter(|name: &Text| !name.as_bytes().is_empty())
}

/// User and database of COM_CHANGE_USER, behind the command byte.
pub(super) fn change_user(cursor: &mut Cursor<'_>, capabilities: Option<u64>) -> Option<(Text, Option<Text>)> {
    let user = cursor.until(0)?.into();
    if capabilities.is_some_and(|it| it & capability::SECURE_CONNECTION == 0) {
        cursor.until(0)?;
    } else {
        let length = cursor.u8()?;
        cursor.take(usize::from(length))?;
    }
    let database: Text = cursor.until(0)?.into();
    Some((user, Some(database).filter(|name| !name.as_bytes().is_empty())))
}
