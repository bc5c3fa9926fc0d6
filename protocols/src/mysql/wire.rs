//! What the packets are made of: length-encoded integers, capabilities, status flags, commands.
//!
//! MySQL Internals, "Client/Server Protocol"; MariaDB Knowledge Base, "Client/Server Protocol".

use crate::Cursor;

/// Length of the payload (3 bytes) and sequence id.
pub(super) const HEADER: usize = 4;

/// A payload of this length goes on in the next packet.
pub(super) const CONTINUES: u32 = 0xff_ffff;

/// Capabilities. The upper half are MariaDB's.
pub(super) mod capability {
    pub(in super::super) const CLIENT_MYSQL: u64 = 1;
    pub(in super::super) const CONNECT_WITH_DB: u64 = 1 << 3;
    pub(in super::super) const PROTOCOL_41: u64 = 1 << 9;
    pub(in super::super) const SSL: u64 = 1 << 11;
    pub(in super::super) const SECURE_CONNECTION: u64 = 1 << 15;
    pub(in super::super) const PLUGIN_AUTH_LENENC_CLIENT_DATA: u64 = 1 << 21;
    pub(in super::super) const SESSION_TRACK: u64 = 1 << 23;
    pub(in super::super) const DEPRECATE_EOF: u64 = 1 << 24;
    /// COMPRESS, ZSTD_COMPRESSION_ALGORITHM.
    pub(in super::super) const COMPRESSED: u64 = 1 << 5 | 1 << 26;
    pub(in super::super) const QUERY_ATTRIBUTES: u64 = 1 << 27;
}

/// Status flags of OK and EOF packets.
pub(super) mod status {
    pub(in super::super) const MORE_RESULTS_EXISTS: u16 = 0x0008;
    pub(in super::super) const CURSOR_EXISTS: u16 = 0x0040;
    pub(in super::super) const SESSION_STATE_CHANGED: u16 = 0x4000;
}

pub(super) const COM_QUIT: u8 = 0x01;
pub(super) const COM_INIT_DB: u8 = 0x02;
pub(super) const COM_QUERY: u8 = 0x03;
pub(super) const COM_FIELD_LIST: u8 = 0x04;
pub(super) const COM_CREATE_DB: u8 = 0x05;
pub(super) const COM_DROP_DB: u8 = 0x06;
pub(super) const COM_REFRESH: u8 = 0x07;
pub(super) const COM_SHUTDOWN: u8 = 0x08;
pub(super) const COM_STATISTICS: u8 = 0x09;
pub(super) const COM_PROCESS_INFO: u8 = 0x0a;
pub(super) const COM_PROCESS_KILL: u8 = 0x0c;
pub(super) const COM_DEBUG: u8 = 0x0d;
pub(super) const COM_PING: u8 = 0x0e;
pub(super) const COM_CHANGE_USER: u8 = 0x11;
pub(super) const COM_BINLOG_DUMP: u8 = 0x12;
pub(super) const COM_REGISTER_SLAVE: u8 = 0x15;
pub(super) const COM_STMT_PREPARE: u8 = 0x16;
pub(super) const COM_STMT_EXECUTE: u8 = 0x17;
pub(super) const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
pub(super) const COM_STMT_CLOSE: u8 = 0x19;
pub(super) const COM_STMT_RESET: u8 = 0x1a;
pub(super) const COM_SET_OPTION: u8 = 0x1b;
pub(super) const COM_STMT_FETCH: u8 = 0x1c;
pub(super) const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
pub(super) const COM_RESET_CONNECTION: u8 = 0x1f;
pub(super) const COM_STMT_BULK_EXECUTE: u8 = 0xfa;

/// What answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing at all.
    Nothing,
    /// OK, ERR, or EOF.
    Simple,
    /// Results: each is OK, ERR, a wish for a file, or a result set.
    Results,
    /// The id of a statement, and what it takes and gives.
    Prepare,
    /// Column definitions, without a count.
    Columns,
    /// Rows, without column definitions.
    Rows,
    /// One packet of text.
    Text,
    /// An exchange of authentication data that ends with OK or ERR.
    Auth,
    /// A stream that does not end.
    Stream,
}

/// A command that clients send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The least and the greatest length of its packet with the command byte.
    lengths: (u64, u64),
}

impl Command {
    pub(super) fn of(code: u8) -> Option<Self> {
        use Kind::*;
        const ANY: u64 = u64::MAX;
        let (name, kind, least, most) = match code {
            COM_QUIT => ("quit", Nothing, 1, 1),
            COM_INIT_DB => ("init_db", Simple, 1, 1024),
            COM_QUERY => ("query", Results, 1, ANY),
            COM_FIELD_LIST => ("field_list", Columns, 2, 2048),
            COM_CREATE_DB => ("create_db", Simple, 2, 1024),
            COM_DROP_DB => ("drop_db", Simple, 2, 1024),
            COM_REFRESH => ("refresh", Simple, 2, 2),
            COM_SHUTDOWN => ("shutdown", Simple, 1, 2),
            COM_STATISTICS => ("statistics", Text, 1, 1),
            COM_PROCESS_INFO => ("process_info", Results, 1, 1),
            COM_PROCESS_KILL => ("process_kill", Simple, 5, 5),
            COM_DEBUG => ("debug", Simple, 1, 1),
            COM_PING => ("ping", Simple, 1, 1),
            COM_CHANGE_USER => ("change_user", Auth, 4, 1 << 20),
            COM_BINLOG_DUMP => ("binlog_dump", Stream, 11, 2048),
            COM_REGISTER_SLAVE => ("register_slave", Simple, 18, 2048),
            COM_STMT_PREPARE => ("stmt_prepare", Prepare, 1, ANY),
            COM_STMT_EXECUTE => ("stmt_execute", Results, 10, ANY),
            COM_STMT_SEND_LONG_DATA => ("stmt_send_long_data", Nothing, 7, ANY),
            COM_STMT_CLOSE => ("stmt_close", Nothing, 5, 5),
            COM_STMT_RESET => ("stmt_reset", Simple, 5, 5),
            COM_SET_OPTION => ("set_option", Simple, 3, 3),
            COM_STMT_FETCH => ("stmt_fetch", Rows, 9, 9),
            COM_BINLOG_DUMP_GTID => ("binlog_dump_gtid", Stream, 11, 1 << 20),
            COM_RESET_CONNECTION => ("reset_connection", Simple, 1, 1),
            COM_STMT_BULK_EXECUTE => ("stmt_bulk_execute", Results, 7, ANY),
            _ => return None,
        };
        Some(Self { name, kind, lengths: (least, most) })
    }

    /// Whether a packet of this command may be this long.
    pub(super) fn may_have(&self, length: u64) -> bool {
        (self.lengths.0..=self.lengths.1).contains(&length)
    }
}

/// Three bytes, little endian.
pub(super) fn u24(cursor: &mut Cursor<'_>) -> Option<u32> {
    let [a, b, c] = cursor.array()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

/// A length-encoded integer; `None` also for NULL and for what is none.
pub(super) fn lenenc(cursor: &mut Cursor<'_>) -> Option<u64> {
    match cursor.u8()? {
        0xfb | 0xff => None,
        0xfc => cursor.u16_le().map(u64::from),
        0xfd => u24(cursor).map(u64::from),
        0xfe => cursor.array().map(u64::from_le_bytes),
        small => Some(u64::from(small)),
    }
}

/// Bytes behind their length.
pub(super) fn lenenc_bytes<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = lenenc(cursor)?;
    cursor.take(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_integers() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (&[0xfa], Some(250)),
            (&[0xfb], None),
            (&[0xfc, 0xfb, 0], Some(251)),
            (&[0xfd, 1, 2, 3], Some(0x03_0201)),
            (&[0xfe, 1, 0, 0, 0, 0, 0, 0, 0x80], Some(0x8000_0000_0000_0001)),
            (&[0xfe, 1, 0], None),
            (&[0xff], None),
            (&[], None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(lenenc(&mut Cursor::new(bytes)), expected, "{bytes:?}");
        }
        assert_eq!(lenenc_bytes(&mut Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])), None);
    }
}
