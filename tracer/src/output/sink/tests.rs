use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::output::Json;
use crate::output::testing::{connection, get, origin, process};
use crate::record::{Record, Redaction};

/// Prints `count` records into `sink`, whose sequence numbers begin at `first`; gives back the errors.
fn print(sink: &mut Sink, first: u64, count: u64) -> Vec<SinkError> {
    let (process, connection) = (process(), connection());
    let print = |sequence| {
        let mut exchange = get();
        exchange.sequence = Some(sequence);
        sink.record(&Record::new(&mut exchange, origin(&process, &connection), Redaction::On)).err()
    };
    (first..first + count).filter_map(print).collect()
}

/// The sequence numbers of the lines of a file or buffer, each of which has to be whole.
fn sequences(text: &[u8]) -> Vec<u64> {
    assert!(text.is_empty() || text.ends_with(b"\n"));
    let text = std::str::from_utf8(text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect()
}

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracer-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes as many bytes as it was given room for, at most 100 at once, then fails as told.
#[derive(Clone, Debug)]
struct Narrow {
    taken: Arc<Mutex<Vec<u8>>>,
    room: Arc<Mutex<usize>>,
    then: ErrorKind,
}

impl Narrow {
    fn new(room: usize, then: ErrorKind) -> Self {
        Self { taken: Arc::default(), room: Arc::new(Mutex::new(room)), then }
    }

    fn give(&self, room: usize) {
        *self.room.lock().unwrap() += room;
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock().unwrap();
        let count = bytes.len().min(*room).min(100);
        if count == 0 {
            return Err(self.then.into());
        }
        *room -= count;
        self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_wait_for_a_flush_and_are_written_at_the_latest_at_64_kib() {
    let narrow = Narrow::new(usize::MAX, ErrorKind::Other);
    let mut sink = Sink::new(Json::default(), Destination::new("test", narrow.clone()));
    assert!(print(&mut sink, 0, 3).is_empty());
    assert_eq!(narrow.taken.lock().unwrap().len(), 0);
    assert_eq!(sink.counters(), SinkCounters { written: 0, dropped: 0, buffered: 3 });
    sink.flush().unwrap();
    assert_eq!(sequences(&narrow.taken.lock().unwrap()), [0, 1, 2]);
    assert!(print(&mut sink, 3, 1000).is_empty());
    let written = narrow.taken.lock().unwrap().len();
    assert!(written > 0 && sink.destination.buffered() < WRITE_AT, "{written}");
    sink.finish().unwrap();
    assert_eq!(sequences(&narrow.taken.lock().unwrap()), (0..1003).collect::<Vec<_>>());
    assert_eq!(sink.counters(), SinkCounters { written: 1003, dropped: 0, buffered: 0 });
}

#[test]
fn a_line_that_was_cut_by_a_full_disk_goes_on_where_it_ended() {
    let narrow = Narrow::new(700, ErrorKind::StorageFull);
    let mut sink = Sink::new(Json::default(), Destination::new("out.json", narrow.clone()));
    assert!(print(&mut sink, 0, 3).is_empty());
    let error = sink.flush().unwrap_err();
    assert!(matches!(error, SinkError::Full { .. }));
    assert_eq!(error.to_string(), "out.json is full: records are being dropped");
    assert_eq!(sink.counters(), SinkCounters { written: 1, dropped: 0, buffered: 2 });
    sink.flush().expect("the failure is already known");
    narrow.give(usize::MAX / 2);
    sink.flush().unwrap();
    assert_eq!(sequences(&narrow.taken.lock().unwrap()), [0, 1, 2]);
}

#[test]
fn a_failure_is_told_again_when_it_begins_again() {
    let narrow = Narrow::new(0, ErrorKind::StorageFull);
    let mut sink = Sink::new(Json::default(), Destination::new("out.json", narrow.clone()));
    print(&mut sink, 0, 1);
    assert!(sink.flush().is_err());
    assert!(sink.flush().is_ok());
    narrow.give(10_000);
    assert!(sink.flush().is_ok());
    *narrow.room.lock().unwrap() = 0;
    print(&mut sink, 1, 1);
    assert!(sink.flush().is_err());
}

#[test]
fn what_does_not_fit_while_a_destination_fails_is_dropped_whole_and_counted() {
    let narrow = Narrow::new(1, ErrorKind::StorageFull);
    let mut sink = Sink::new(Json::default(), Destination::new("out.json", narrow.clone()));
    let errors = print(&mut sink, 0, 12_000);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let counters = sink.counters();
    assert!(counters.dropped > 0 && counters.buffered > 0 && counters.written == 0, "{counters:?}");
    assert_eq!(counters.dropped + counters.buffered, 12_000);
    assert!(sink.destination.buffered() < DROP_AT + 1000);
    narrow.give(usize::MAX / 2);
    sink.flush().unwrap();
    assert!(print(&mut sink, 12_000, 1).is_empty());
    sink.finish().unwrap();
    let printed = sequences(&narrow.taken.lock().unwrap());
    assert_eq!(printed.len() as u64, counters.buffered + 1);
    assert_eq!(printed.last(), Some(&12_000));
}

#[test]
fn a_destination_that_is_busy_is_tried_again() {
    let narrow = Narrow::new(100, ErrorKind::WouldBlock);
    let mut sink = Sink::new(Json::default(), Destination::new("test", narrow.clone()));
    print(&mut sink, 0, 2);
    sink.flush().unwrap();
    assert_eq!(sink.counters().buffered, 2);
    let giver = narrow.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        giver.give(usize::MAX / 2);
    });
    sink.finish().unwrap();
    later.join().unwrap();
    assert_eq!(sequences(&narrow.taken.lock().unwrap()), [0, 1]);
    assert_eq!(sink.counters(), SinkCounters { written: 2, dropped: 0, buffered: 0 });
}

#[test]
fn a_reader_that_went_away_is_an_error_of_its_own() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut sink = Sink::new(Json::default(), Destination::new("standard output", writer));
    print(&mut sink, 0, 5);
    assert!(matches!(sink.flush(), Err(SinkError::Closed { .. })));
    assert!(matches!(sink.finish(), Err(SinkError::Closed { .. })), "it stays closed");
    assert_eq!(sink.counters(), SinkCounters { written: 0, dropped: 5, buffered: 0 });
}

#[test]
fn a_full_device_is_named() {
    let mut sink = Sink::new(Json::default(), Destination::file(Path::new("/dev/full")).unwrap());
    print(&mut sink, 0, 5);
    let error = sink.flush().unwrap_err();
    assert!(matches!(error, SinkError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("/dev/full"), "{error}");
    let _ = sink.finish();
    assert_eq!(sink.counters(), SinkCounters { written: 0, dropped: 5, buffered: 0 });
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let error = Destination::file(Path::new("/nonexistent/out.json")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/out.json"), "{error}");
}

#[test]
fn a_file_is_appended_to_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("append");
    let path = folder.0.join("out.json");
    for first in [0, 2] {
        let mut sink = Sink::new(Json::default(), Destination::file(&path).unwrap());
        print(&mut sink, first, 2);
        sink.finish().unwrap();
    }
    assert_eq!(sequences(&fs::read(&path).unwrap()), [0, 1, 2, 3]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn rotation_loses_no_line() {
    let folder = Folder::new("rotate");
    let (path, old) = (folder.0.join("out.json"), folder.0.join("out.json.1"));
    let mut sink = Sink::new(Json::default(), Destination::file(&path).unwrap());
    print(&mut sink, 0, 3);
    sink.flush().unwrap();
    fs::rename(&path, &old).unwrap();
    print(&mut sink, 3, 2);
    sink.reopen().unwrap();
    print(&mut sink, 5, 2);
    sink.finish().unwrap();
    assert_eq!(sequences(&fs::read(&old).unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(sequences(&fs::read(&path).unwrap()), [5, 6]);
}

#[test]
fn a_rotation_that_fails_keeps_the_old_file() {
    let folder = Folder::new("keep");
    let inner = folder.0.join("logs");
    fs::create_dir(&inner).unwrap();
    let mut sink = Sink::new(Json::default(), Destination::file(&inner.join("out.json")).unwrap());
    print(&mut sink, 0, 1);
    let moved = folder.0.join("moved");
    fs::rename(&inner, &moved).unwrap();
    assert!(matches!(sink.reopen(), Err(SinkError::Open { .. })));
    print(&mut sink, 1, 1);
    sink.finish().unwrap();
    assert_eq!(sequences(&fs::read(moved.join("out.json")).unwrap()), [0, 1]);
}

#[test]
fn a_record_that_cannot_be_printed_leaves_no_trace_but_a_count() {
    struct Fails;
    impl Format for Fails {
        fn name(&self) -> &'static str {
            "fails"
        }
        fn record(&mut self, _: &Record<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
            out.extend_from_slice(b"{\"half");
            Err(serde::ser::Error::custom("no"))
        }
    }
    let narrow = Narrow::new(usize::MAX, ErrorKind::Other);
    let mut sink = Sink::new(Fails, Destination::new("test", narrow.clone()));
    let errors = print(&mut sink, 0, 2);
    assert!(errors.iter().all(|error| matches!(error, SinkError::Format { protocol: "http", .. })), "{errors:?}");
    sink.finish().unwrap();
    assert_eq!(narrow.taken.lock().unwrap().len(), 0);
    assert_eq!(sink.counters(), SinkCounters { written: 0, dropped: 2, buffered: 0 });
}
