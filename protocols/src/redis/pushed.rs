//! What a server sends besides replies: messages, confirmations, monitored commands.
//!
//! RESP3 has a type of its own for the first two (push). In RESP2 only their form tells.

use super::value::{List, Value};

/// First words of what confirms.
const CONFIRMS: [&[u8]; 6] =
    [b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"];

/// Whether a message or a confirmation begins with this word.
pub(super) fn is_push_word(word: &[u8]) -> bool {
    matches!(word, b"message" | b"smessage" | b"pmessage") || CONFIRMS.contains(&word)
}

/// Whether this is a message of publish/subscribe.
pub(super) fn is_message(list: &List) -> bool {
    match list.items.first().and_then(Value::text).unwrap_or_default() {
        b"message" | b"smessage" => list.length == 3,
        b"pmessage" => list.length == 4,
        _ => false,
    }
}

/// `subscribe`, a channel, how many there are now: what confirms each channel of a command.
pub(super) struct Confirmation {
    pub(super) name: Vec<u8>,
    pub(super) has_channel: bool,
    pub(super) total: u64,
}

impl Confirmation {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let (Value::Array(List { items, .. }) | Value::Push(List { items, .. })) = value else { return None };
        let [name, channel, Value::Integer(total)] = items.as_slice() else { return None };
        let name = name.text()?;
        let has_channel = channel.text().is_some();
        CONFIRMS.contains(&name).then_some(Self {
            name: name.to_vec(),
            has_channel,
            total: u64::try_from(*total).ok()?,
        })
    }
}

/// Whether what answers this command is one confirmation for each channel.
pub(super) fn is_subscription(command: &[u8]) -> bool {
    CONFIRMS.iter().any(|word| command.eq_ignore_ascii_case(word))
}

/// `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
pub(super) fn is_monitor_line(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let time = parts.next().unwrap_or_default();
    let digits = time.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') && time.contains(&b'.');
    digits && parts.next().is_some_and(|rest| rest.starts_with(b"["))
}
