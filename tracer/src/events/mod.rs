//! From the ring's bytes to events. Nothing is believed: kinds and lengths are checked, and what is not understood is
//! counted by the caller.

use tracer_ebpf::{Close, Data, Datagram, Header, Open, Process, Released, kind};

use crate::sys;

/// One event of the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a stream, and as many of them as were captured.
    Data(Data, &'a [u8]),
    /// Bytes that a call is about to write, and as many of them as were captured.
    Held(Data, &'a [u8]),
    /// What became of held bytes.
    Released(Released),
    /// A datagram, and as much of it as was captured.
    Datagram(Datagram, &'a [u8]),
    /// A connection that is seen for the first time.
    Open(Box<Open>),
    /// A connection that is over.
    Close(Close),
    /// A traced process forked.
    Fork(Process),
    /// A traced process executed another program.
    Exec(Process),
    /// A traced process ended.
    Exit(Process),
}

impl Event<'_> {
    /// What begins it.
    pub fn header(&self) -> &Header {
        match self {
            Self::Data(data, _) | Self::Held(data, _) => &data.header,
            Self::Released(released) => &released.data.header,
            Self::Datagram(datagram, _) => &datagram.header,
            Self::Open(open) => &open.header,
            Self::Close(close) => &close.header,
            Self::Fork(process) | Self::Exec(process) | Self::Exit(process) => &process.header,
        }
    }
}

/// Why a record of the ring is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// It is shorter than its kind.
    #[error("an event of {length} bytes is too short for its kind")]
    TooShort {
        /// Its length.
        length: usize,
    },
    /// It says that it captured more than it carries, or more than passed.
    #[error("an event claims {captured} captured bytes and carries {carried}")]
    Overlong {
        /// What it claims.
        captured: u32,
        /// What it carries.
        carried: usize,
    },
    /// Its kind is not known.
    #[error("an event of unknown kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
}

/// Decodes one record of the ring.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, Rejected> {
    let header: Header = fixed(bytes)?;
    Ok(match header.kind {
        kind::DATA => {
            let data: Data = fixed(bytes)?;
            Event::Data(data, payload::<Data>(bytes, header, data.length)?)
        }
        kind::HELD => {
            let data: Data = fixed(bytes)?;
            Event::Held(data, payload::<Data>(bytes, header, data.length)?)
        }
        kind::RELEASED => Event::Released(fixed(bytes)?),
        kind::DATAGRAM => {
            let datagram: Datagram = fixed(bytes)?;
            Event::Datagram(datagram, payload::<Datagram>(bytes, header, datagram.length)?)
        }
        kind::OPEN => Event::Open(Box::new(fixed(bytes)?)),
        kind::CLOSE => Event::Close(fixed(bytes)?),
        kind::FORK => Event::Fork(fixed(bytes)?),
        kind::EXEC => Event::Exec(fixed(bytes)?),
        kind::EXIT => Event::Exit(fixed(bytes)?),
        kind => return Err(Rejected::UnknownKind { kind }),
    })
}

fn fixed<T: sys::Abi>(bytes: &[u8]) -> Result<T, Rejected> {
    sys::read(bytes).ok_or(Rejected::TooShort { length: bytes.len() })
}

fn payload<T>(bytes: &[u8], header: Header, length: u32) -> Result<&[u8], Rejected> {
    let rest = bytes.get(size_of::<T>()..).unwrap_or_default();
    let overlong = Rejected::Overlong { captured: header.captured, carried: rest.len() };
    if header.captured > length {
        return Err(overlong);
    }
    rest.get(..header.captured as usize).ok_or(overlong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data event as the kernel lays it out (tracer-ebpf's offsets), with room behind the captured bytes.
    fn data_event(captured: u32, length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind::DATA, 3, 1, 0];
        bytes.extend(captured.to_ne_bytes());
        for word in [7_u64, 8, 9, 10] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(length.to_ne_bytes());
        bytes.extend(11_u32.to_ne_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_data_event_is_decoded_field_by_field() {
        let bytes = data_event(2, 5, b"abXXXX");
        let Event::Data(data, payload) = decode(&bytes).unwrap() else { panic!("not data") };
        assert_eq!(payload, b"ab");
        assert_eq!((data.header.program, data.header.flags, data.header.time), (3, 1, 7));
        assert_eq!((data.header.pid_tgid, data.header.connection, data.position), (8, 9, 10));
        assert_eq!((data.length, data.elapsed), (5, 11));
    }

    #[test]
    fn events_that_lie_are_rejected() {
        assert_eq!(decode(&data_event(7, 9, b"abXXXX")), Err(Rejected::Overlong { captured: 7, carried: 6 }));
        assert_eq!(decode(&data_event(3, 2, b"abXXXX")), Err(Rejected::Overlong { captured: 3, carried: 6 }));
        assert_eq!(decode(&[255; 64]), Err(Rejected::UnknownKind { kind: 255 }));
        for length in 0..48 {
            assert_eq!(decode(&data_event(0, 0, b"")[..length]), Err(Rejected::TooShort { length }));
        }
    }
}
