//! Bytes that change or vanish under the store.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::super::record::{HEADER_LEN, Header, PACK_HEADER_LEN};
use super::*;

/// A closed store of one pack with the objects that are in it, in their order.
struct Closed {
    directory: tempfile::TempDir,
    objects: Vec<(ObjectId, Vec<u8>)>,
}

impl Closed {
    fn new() -> Closed {
        let (directory, store) = new_store();
        let contents = (0..8).map(|seed| if seed % 2 == 0 { noise(seed, 300) } else { text(seed, 5000) });
        let put = |content: Vec<u8>| {
            let id = store.put(Kind::TreePage, &content).unwrap();
            store.flush().unwrap();
            (id, content)
        };
        let objects = contents.map(put).collect();
        Closed { directory, objects }
    }

    fn pack(&self) -> PathBuf {
        self.directory.path().join("packs/00000001.pack")
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index.redb")
    }

    fn open(&self) -> Objects {
        Objects::open(self.directory.path()).unwrap()
    }

    /// The places of all records, in order.
    fn records(&self) -> Vec<(usize, usize)> {
        let bytes = std::fs::read(self.pack()).unwrap();
        let mut records = Vec::new();
        let mut offset = PACK_HEADER_LEN as usize;
        while let Some(header) = Header::decode(&bytes[offset..]) {
            records.push((offset, header.record_len() as usize));
            offset += header.record_len() as usize;
            if offset == bytes.len() {
                break;
            }
        }
        assert_eq!(records.len(), self.objects.len());
        records
    }

    fn flip(&self, offset: usize) {
        let mut bytes = std::fs::read(self.pack()).unwrap();
        bytes[offset] ^= 0x40;
        std::fs::write(self.pack(), bytes).unwrap();
    }

    /// Which objects can be read; the others must be refused as damaged or missing.
    fn readable(&self, store: &Objects) -> Vec<bool> {
        let read = |(id, content): &(ObjectId, Vec<u8>)| match store.get(Kind::TreePage, *id) {
            Ok(found) => {
                assert_eq!(found[..], content[..]);
                true
            }
            Err(ObjectsError::Damaged { .. } | ObjectsError::Missing { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        self.objects.iter().map(read).collect()
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_record_is_found_by_get_and_verify() {
    let closed = Closed::new();
    let (offset, length) = closed.records()[3];
    let places = (0..HEADER_LEN).chain([HEADER_LEN, HEADER_LEN + 700, length - 1]);
    for place in places {
        closed.flip(offset + place);
        let store = closed.open();
        let readable = closed.readable(&store);
        assert_eq!(readable.iter().filter(|readable| !**readable).count(), 1, "byte {place}");
        assert!(!readable[3], "byte {place}");
        let report = store.verify(&mut |_| ()).unwrap();
        assert_eq!(report.sound, 7, "byte {place}");
        let id = closed.objects[3].0;
        let named = report.damages.iter().any(|damage| match damage {
            Damage::Object { id: found, .. } | Damage::Lost { id: found, .. } => *found == id,
            Damage::Unreadable { .. } | Damage::Index { .. } => false,
        });
        assert!(named, "byte {place}: {report:?}");
        drop(store);
        closed.flip(offset + place);
    }
    let report = closed.open().verify(&mut |_| ()).unwrap();
    assert_eq!((report.sound, report.damages_count), (8, 0));
}

#[test]
fn verify_finds_a_damaged_pack_header_and_plain_file() {
    let closed = Closed::new();
    let store = closed.open();
    let FileContent::Plain { id, .. } = store.put_file(&mut &noise(9, 1 << 20)[..], 0).unwrap() else {
        panic!("noise is kept plain")
    };
    drop(store);
    closed.flip(9);
    let name = id.to_string();
    let path = closed.directory.path().join("plain").join(&name[..2]).join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = closed.open().verify(&mut |_| ()).unwrap();
    assert_eq!(report.sound, 8);
    assert!(matches!(&report.damages[0], Damage::Unreadable { bytes: 32, .. }), "{report:?}");
    assert!(matches!(&report.damages[1], Damage::Object { id: found, .. } if *found == id), "{report:?}");
    assert_eq!(report.damages_count, 2);
    // A link that leads nowhere is damage as well.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nonexistent/file", &path).unwrap();
    let report = closed.open().verify(&mut |_| ()).unwrap();
    assert!(report.bad.contains(&id), "{report:?}");
}

#[test]
fn a_plain_file_is_compared_when_it_is_opened_first() {
    let closed = Closed::new();
    let store = closed.open();
    let content = store.put_file(&mut &noise(9, 1 << 20)[..], 0).unwrap();
    let FileContent::Plain { id, .. } = content else { panic!("noise is kept plain") };
    store.flush().unwrap();
    let mut byte = [0];
    let mut read = |store: &Objects| store.read_at(&content, 0, &mut byte);
    assert_eq!(read(&store).unwrap(), 1);
    drop(store);
    let path = closed.directory.path().join("plain").join(&id.to_string()[..2]).join(id.to_string());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let store = closed.open();
    let is_damaged = |error| matches!(error, ObjectsError::Damaged { id: found, .. } if found == id);
    assert!(is_damaged(read(&store).unwrap_err()) && is_damaged(store.open_plain(&content).unwrap_err()));
    bytes[70_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&store).unwrap(), 1);
    assert!(store.open_plain(&content).unwrap().is_some());
    // Also when somebody has written to it since, or has put another file in its place.
    bytes[70_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(is_damaged(read(&store).unwrap_err()) && is_damaged(store.open_plain(&content).unwrap_err()));
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(is_damaged(read(&store).unwrap_err()));
    assert!(store.verify(&mut |_| ()).unwrap().bad.contains(&id));
}

#[test]
fn a_plain_file_is_compared_whatever_its_length() {
    let closed = Closed::new();
    let store = closed.open();
    let content = store.put_file(&mut noise(9, 1 << 20).repeat(70).as_slice(), 0).unwrap();
    let FileContent::Plain { id, .. } = content else { panic!("noise is kept plain") };
    store.flush().unwrap();
    assert!(!store.opens_slowly(&content), "it was stored a moment ago");
    drop(store);
    let path = closed.directory.path().join("plain").join(&id.to_string()[..2]).join(id.to_string());
    let flip = || {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, (70 << 20) - 1).unwrap();
        file.write_all_at(&[byte[0] ^ 1], (70 << 20) - 1).unwrap();
    };
    flip();
    let store = closed.open();
    assert!(store.opens_slowly(&content));
    assert!(
        matches!(store.open_plain(&content), Err(ObjectsError::Damaged { id: found, .. }) if found == id)
    );
    flip();
    // Those who come together wait for one comparison.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(store.open_plain(&content).unwrap().is_some()));
        }
    });
    assert!(!store.opens_slowly(&content));
}

#[test]
fn verify_tells_how_far_it_is() {
    let closed = Closed::new();
    let store = closed.open();
    store.put_file(&mut &noise(9, 1 << 20)[..], 0).unwrap();
    let mut last = VerifyProgress::default();
    store
        .verify(&mut |progress| {
            assert!(progress.objects == last.objects + 1 && progress.bytes > last.bytes);
            last = progress;
        })
        .unwrap();
    assert_eq!((last.objects, last.bytes), (9, last.bytes_total));
}

#[test]
fn an_index_that_is_gone_or_garbage_is_rebuilt() {
    let closed = Closed::new();
    let usage = closed.open().usage();
    let whole = std::fs::read(closed.index()).unwrap();
    let mut overwritten = whole.clone();
    overwritten[..4096].fill(0x55);
    let cases: [(&str, Option<Vec<u8>>); 5] = [
        ("gone", None),
        ("empty", Some(Vec::new())),
        ("cut", Some(whole[..whole.len() / 3].to_vec())),
        ("garbage", Some(noise(1, 50_000))),
        ("beginning overwritten", Some(overwritten)),
    ];
    for (case, bytes) in cases {
        match bytes {
            Some(bytes) => std::fs::write(closed.index(), bytes).unwrap(),
            None => std::fs::remove_file(closed.index()).unwrap(),
        }
        let store = closed.open();
        assert_eq!(closed.readable(&store), [true; 8], "{case}");
        assert_eq!(store.usage(), usage, "{case}");
        assert_eq!(store.verify(&mut |_| ()).unwrap().sound, 8, "{case}");
    }
}

#[test]
fn damage_in_the_middle_is_never_cut_off() {
    let closed = Closed::new();
    let records = closed.records();
    closed.flip(records[2].0 + 1);
    let bytes = std::fs::read(closed.pack()).unwrap();
    std::fs::remove_file(closed.index()).unwrap();
    let store = closed.open();
    let mut expected = [true; 8];
    expected[2] = false;
    assert_eq!(closed.readable(&store), expected);
    assert!(std::fs::read(closed.pack()).unwrap() == bytes, "the pack is as it was");
    let place = format!("pack 00000001 at byte {}", records[2].0);
    let expected = [Damage::Unreadable { place, bytes: records[2].1 as u64 }];
    assert_eq!(store.verify(&mut |_| ()).unwrap().damages, expected);
    // It is not known any more, so it can be stored again.
    store.put(Kind::TreePage, &closed.objects[2].1).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(closed.readable(&closed.open()), [true; 8]);
}

#[test]
fn a_torn_tail_is_cut_and_the_pack_goes_on() {
    let closed = Closed::new();
    let records = closed.records();
    let whole = std::fs::read(closed.pack()).unwrap();
    let (last, last_len) = records[7];
    for cut in [last + 1, last + HEADER_LEN, last + last_len - 1] {
        std::fs::write(closed.pack(), &whole[..cut]).unwrap();
        std::fs::remove_file(closed.index()).unwrap();
        let store = closed.open();
        assert_eq!(closed.readable(&store), [true, true, true, true, true, true, true, false]);
        assert_eq!(std::fs::metadata(closed.pack()).unwrap().len(), last as u64);
        let id = store.put(Kind::Chunk, b"goes on").unwrap();
        store.flush().unwrap();
        assert_eq!(store.get(Kind::Chunk, id).unwrap()[..], b"goes on"[..]);
        assert_eq!(store.verify(&mut |_| ()).unwrap().damages, []);
        drop(store);
        assert!(!closed.directory.path().join("packs/00000002.pack").exists());
    }
}

#[test]
fn a_lost_pack_loses_its_objects_and_nothing_else() {
    let closed = Closed::new();
    std::fs::remove_file(closed.pack()).unwrap();
    let store = closed.open();
    assert_eq!(closed.readable(&store), [false; 8]);
    assert_eq!(store.usage(), Usage::default());
    for (_, content) in &closed.objects {
        store.put(Kind::TreePage, content).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(closed.readable(&store), [true; 8]);
}

#[test]
fn a_pack_of_a_newer_sitefs_is_not_touched() {
    let closed = Closed::new();
    let mut bytes = std::fs::read(closed.pack()).unwrap();
    bytes[8] = 9;
    let check = blake3::hash(&bytes[..24]);
    bytes[24..32].copy_from_slice(&check.as_bytes()[..8]);
    std::fs::write(closed.pack(), &bytes).unwrap();
    std::fs::remove_file(closed.index()).unwrap();
    let error = Objects::open(closed.directory.path()).err().unwrap();
    assert!(error.to_string().contains("version 9"), "{error}");
    assert_eq!(std::fs::read(closed.pack()).unwrap(), bytes);
}

#[test]
fn half_written_plain_files_of_a_crash_are_removed_and_the_rest_counted() {
    let (directory, store) = new_store();
    let content = store.put_file(&mut &noise(1, 1 << 20)[..], 0).unwrap();
    store.flush().unwrap();
    // A crash: nothing is written down at the end.
    let copy = tempfile::tempdir().unwrap();
    for part in ["packs", "plain", "plain/new"] {
        std::fs::create_dir(copy.path().join(part)).unwrap();
    }
    let FileContent::Plain { id, size } = content else { panic!("noise is kept plain") };
    let name = id.to_string();
    let place = |root: &Path| root.join("plain").join(&name[..2]).join(&name);
    std::fs::create_dir(place(copy.path()).parent().unwrap()).unwrap();
    std::fs::copy(place(directory.path()), place(copy.path())).unwrap();
    std::fs::copy(directory.path().join("index.redb"), copy.path().join("index.redb")).unwrap();
    std::fs::write(copy.path().join("plain/new/0"), b"half").unwrap();
    let reopened = Objects::open(copy.path()).unwrap();
    assert_eq!(std::fs::read_dir(copy.path().join("plain/new")).unwrap().count(), 0);
    assert_eq!(reopened.usage(), Usage { objects: 1, raw_bytes: size, stored_bytes: size });
    assert_eq!(read_all(&reopened, &content), noise(1, 1 << 20));
}
