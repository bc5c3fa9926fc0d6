//! A conversation as a string of bytes, so made that a fuzzer that knows nothing of it changes it usefully.
//!
//! The first byte holds the [`Settings`]. Then bytes of the wire follow each other, and the byte [`MARK`] with one of
//! the commands below says what happens between them. A mark that no command follows is a byte of the wire. Bytes
//! between two commands are one transfer of the side that speaks.
//!
//! | command | meaning |
//! |---|---|
//! | `c`, `s` | the client or the server speaks from here on |
//! | `n` | the next transfer begins |
//! | `x` N | N bytes of this side are lost |
//! | `y` N | the last N bytes of the next transfer are cut off by the capture limit |
//! | `o` | the next transfer arrives after the one that follows it |
//! | `d` | the next transfer arrives twice |
//! | `e` | this side ends |
//! | `t` N | N seconds go by |
//! | `f` | what is missing is given up |
//! | `z` | what follows is the plaintext of a TLS library |

use protocols::Side;

/// The byte before a command. It stands in no UTF-8 text.
pub const MARK: u8 = 0xc1;

/// What is known of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// It was joined in its middle.
    pub midstream: bool,
    /// The socket says who is the client.
    pub client_known: bool,
    /// Where the streams begin is said before their first bytes.
    pub start_known: bool,
    /// Datagrams.
    pub datagrams: bool,
    /// Bounds so tight that they are met.
    pub tight: bool,
}

impl Settings {
    /// A connection that was seen from its start.
    pub const PLAIN: u8 = 0;

    fn new(bits: u8) -> Self {
        Self {
            midstream: bits & 1 != 0,
            client_known: bits & 2 == 0,
            start_known: bits & 4 == 0,
            datagrams: bits & 8 != 0,
            tight: bits & 16 != 0,
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Bytes pass.
    Transfer {
        /// Who sent them.
        side: Side,
        /// The bytes that passed.
        bytes: &'a [u8],
        /// How many of them, at the end, were not captured.
        cut_off: usize,
        /// They arrive after the next transfer.
        late: bool,
        /// They arrive twice.
        twice: bool,
    },
    /// Bytes of this side pass unseen.
    Lose(Side, u64),
    /// This side ends.
    End(Side),
    /// Seconds go by.
    Pause(u64),
    /// What is missing is given up.
    Flush,
    /// The TLS library's plaintext follows.
    Tls,
}

/// What stands before a transfer.
#[derive(Clone, Copy, Default)]
struct Manner {
    cut_off: usize,
    late: bool,
    twice: bool,
}

/// Reads a script; every string of bytes is one.
pub fn parse(input: &[u8]) -> (Settings, Vec<Step<'_>>) {
    let (&bits, mut rest) = input.split_first().unwrap_or((&0, &[]));
    let mut steps = Vec::new();
    let mut side = Side::Client;
    let mut manner = Manner::default();
    while !rest.is_empty() {
        let length = (0..rest.len()).find(|&at| command(&rest[at..]).is_some()).unwrap_or(rest.len());
        let (bytes, behind) = rest.split_at(length);
        if !bytes.is_empty() {
            let Manner { cut_off, late, twice } = std::mem::take(&mut manner);
            steps.push(Step::Transfer { side, bytes, cut_off: cut_off.min(bytes.len()), late, twice });
        }
        let Some((command, argument, consumed)) = command(behind) else { break };
        rest = &behind[consumed..];
        match command {
            b'c' => side = Side::Client,
            b's' => side = Side::Server,
            b'x' => steps.push(Step::Lose(side, argument.into())),
            b'y' => manner.cut_off = argument.into(),
            b'o' => manner.late = true,
            b'd' => manner.twice = true,
            b'e' => steps.push(Step::End(side)),
            b't' => steps.push(Step::Pause(argument.into())),
            b'f' => steps.push(Step::Flush),
            b'z' => steps.push(Step::Tls),
            _ => {}
        }
    }
    (Settings::new(bits), steps)
}

/// The command at the start of these bytes, its argument, and the length of both.
fn command(bytes: &[u8]) -> Option<(u8, u8, usize)> {
    match *bytes {
        [MARK, command @ (b'x' | b'y' | b't'), argument, ..] => Some((command, argument, 3)),
        [MARK, command @ (b'c' | b's' | b'n' | b'o' | b'd' | b'e' | b'f' | b'z'), ..] => Some((command, 0, 2)),
        _ => None,
    }
}

/// Whether every byte passes once, in order, seen, on a connection that was seen from its start.
pub fn is_unharmed(settings: Settings, steps: &[Step<'_>]) -> bool {
    let whole = |step: &Step<'_>| matches!(step, Step::Transfer { cut_off: 0, late: false, .. } | Step::End(_));
    !settings.midstream && settings.start_known && !settings.datagrams && steps.iter().all(whole)
}
