//! Copies of files that are in the store take no space once they are closed as they were made.

use std::os::unix::fs::FileExt;

use super::*;
use crate::base::Timestamp;

const WRITE_ONLY: OpenMode = OpenMode { read: false, ..WRITE };

/// A stored file, its content, and a new file that is open for writing.
struct Case {
    store: Store,
    volume: Arc<Volume>,
    stored: NodeId,
    bytes: Vec<u8>,
    copy: NodeId,
    opened: OpenedFile,
}

fn case(bytes: &[u8], mode: OpenMode, past_program: bool) -> Case {
    let store = Store::new();
    let volume = store.volume();
    let stored = put(&volume, volume.root(), "stored", bytes);
    volume.freeze().unwrap();
    volume.sync_volume().unwrap();
    assert_eq!(store.upper_files(), 0);
    let copy = volume.make_node(volume.root(), b"copy", FileKind::File, 0o644, USER).unwrap().id;
    let opened = volume.open(copy, mode, past_program).unwrap();
    Case { store, volume, stored, bytes: bytes.to_vec(), copy, opened }
}

impl Case {
    /// Copies up to `length` bytes, in as many calls as it takes.
    fn copy(&self, length: usize) {
        let source = self.volume.open(self.stored, READ, false).unwrap().handle;
        let mut done = 0;
        while done < length {
            let (at, left) = (done as u64, (length - done) as u64);
            let count =
                self.volume.copy_range(self.opened.handle, at, &self.volume, source, at, left).unwrap();
            assert!(count > 0, "{done} bytes were copied");
            done += count;
        }
        self.volume.release(source).unwrap();
    }

    /// Closes it and says how many files there are beside the store.
    fn close(&self, expected: &[u8]) -> usize {
        self.volume.release(self.opened.handle).unwrap();
        self.volume.sync_volume().unwrap();
        assert!(content(&self.volume, self.copy) == expected);
        self.store.upper_files()
    }
}

#[test]
fn a_whole_copy_is_shared_when_it_is_closed() {
    let chunked: Vec<u8> = b"compressible ".iter().copied().cycle().take(3 << 20).collect();
    for bytes in [b"short".to_vec(), chunked, noise(9 << 20)] {
        for past_program in [false, true] {
            let case = case(&bytes, WRITE_ONLY, past_program);
            let before = Timestamp::now();
            case.copy(bytes.len());
            let open = case.volume.attributes(case.copy).unwrap();
            assert!(open.modified >= before && open.size == bytes.len() as u64, "{open:?}");
            // As `cp -p` does before it closes.
            let time = Timestamp::from_parts(1_000_000_000, 5);
            let changes = SetAttributes { modified: Some(TimeChange::To(time)), ..SetAttributes::default() };
            assert_eq!(case.volume.set_attributes(case.copy, &changes).unwrap().modified, time);
            assert_eq!(case.close(&bytes), 0, "{} bytes, {past_program}", bytes.len());
            assert_eq!(case.volume.attributes(case.copy).unwrap().modified, time);
            put(&case.volume, case.volume.root(), "copy", b"another");
            assert!(content(&case.volume, case.stored) == bytes);
        }
    }
}

#[test]
fn a_copy_that_was_written_to_is_a_file_of_its_own() {
    type Touch = fn(&Case);
    let touches: [(Touch, &str); 5] = [
        (
            |case| {
                case.volume.write(case.opened.handle, 0, b"S").unwrap();
            },
            "Some bytes",
        ),
        (|case| case.volume.allocate(case.opened.handle, 0, 12, 0).unwrap(), "some bytes\0\0"),
        (
            |case| {
                let changes = SetAttributes { size: Some(4), ..SetAttributes::default() };
                case.volume.set_attributes(case.copy, &changes).unwrap();
            },
            "some",
        ),
        (
            |case| {
                let other = case.volume.open(case.copy, WRITE, true).unwrap().handle;
                case.volume.release(other).unwrap();
            },
            "some bytes",
        ),
        (
            |case| match &case.opened.served {
                Served::Backing(file) => file.write_all_at(b"S", 0).unwrap(),
                Served::Program => {
                    case.volume.write(case.opened.handle, 0, b"S").unwrap();
                }
            },
            "Some bytes",
        ),
    ];
    for (at, (touch, expected)) in touches.into_iter().enumerate() {
        for past_program in [false, true] {
            let case = case(b"some bytes", WRITE_ONLY, past_program);
            case.copy(case.bytes.len());
            touch(&case);
            let modified = case.volume.attributes(case.copy).unwrap().modified;
            assert!(modified > Timestamp::from_parts(1_000_000_000, 0), "{at}: {modified:?}");
            assert_eq!(case.close(expected.as_bytes()), 1, "{at}, {past_program}");
            assert_eq!(case.volume.attributes(case.copy).unwrap().modified, modified, "{at}");
        }
    }
}

#[test]
fn what_is_not_a_whole_copy_or_can_be_mapped_is_a_file_of_its_own() {
    let part = case(b"some bytes", WRITE_ONLY, true);
    part.copy(4);
    assert_eq!(part.close(b"some"), 1);
    let readable = case(b"some bytes", WRITE, true);
    readable.copy(10);
    assert_eq!(readable.close(b"some bytes"), 1);
    let shared = case(b"some bytes", WRITE_ONLY, true);
    let other = shared.volume.open(shared.copy, READ, true).unwrap().handle;
    shared.copy(10);
    shared.volume.release(other).unwrap();
    assert_eq!(shared.close(b"some bytes"), 1);
    let longer = case(b"some bytes", WRITE_ONLY, false);
    longer.volume.write(longer.opened.handle, 0, b"before and after").unwrap();
    longer.copy(10);
    assert_eq!(longer.close(b"some bytes after"), 1);
}

#[test]
fn a_copy_under_way_is_frozen_and_survives_a_crash_with_its_time() {
    let case = case(b"some bytes", WRITE_ONLY, true);
    case.copy(10);
    let modified = case.volume.attributes(case.copy).unwrap().modified;
    let frozen = case.volume.freeze().unwrap();
    let clone = case.store.attach(NUMBER.0 + 1, &frozen.root);
    let copied = clone.lookup(clone.root(), b"copy").unwrap();
    assert_eq!((copied.modified, copied.size), (modified, 10));
    case.volume.sync_volume().unwrap();
    drop(clone);
    let Case { mut store, volume, copy, .. } = case;
    drop(volume);
    store.crash();
    let volume = store.volume();
    assert_eq!(volume.attributes(copy).unwrap().modified, modified);
    assert_eq!(content(&volume, copy), b"some bytes");
}
