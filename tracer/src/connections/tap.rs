//! Whoever wants to see what connections are given: a recording.

use protocols::{Direction, Layer, Segment, Span, Time};

use crate::record::ConnectionInfo;

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its id, ends, role and so on.
    pub info: &'a ConnectionInfo,
    /// As in [`protocols::Context`].
    pub midstream: bool,
    /// As in [`protocols::Connection::new`].
    pub client: Option<Direction>,
}

/// Sees everything that connections are given, in that order, with the process that it belongs to.
pub trait Tap {
    /// A connection is followed from now on.
    fn open(&mut self, _pid: u32, _facts: &Facts<'_>, _at: Time) {}

    /// Bytes of a stream.
    fn data(&mut self, _pid: u32, _facts: &Facts<'_>, _layer: Layer, _direction: Direction, _segment: Segment<'_>) {}

    /// A datagram of `length` bytes, of which `bytes` were captured.
    fn datagram(
        &mut self,
        _pid: u32,
        _facts: &Facts<'_>,
        _direction: Direction,
        _bytes: &[u8],
        _length: u64,
        _span: Span,
    ) {
    }

    /// Nothing more comes in a direction.
    fn end(&mut self, _pid: u32, _facts: &Facts<'_>, _direction: Direction, _at: Time) {}

    /// The connection is over.
    fn close(&mut self, _pid: u32, _facts: &Facts<'_>, _at: Time) {}

    /// Nothing more comes. Whether everything could be kept.
    fn finish(&mut self) -> bool {
        true
    }
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {}
