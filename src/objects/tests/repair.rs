//! Damaged objects are restored from what is left of them, and forgotten when nothing is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::index::Batch;
use super::super::packs::Found;
use super::super::record::{HEADER_LEN, Header, Location, PACK_HEADER_LEN, PackHeader};
use super::*;

/// Two packs: the second was copied from the first with another number, so each object of the first is in both.
struct Closed {
    directory: tempfile::TempDir,
    objects: Vec<(ObjectId, Vec<u8>)>,
}

impl Closed {
    fn new() -> Closed {
        let (directory, store) = new_store();
        let contents = (0..6).map(|seed| if seed % 2 == 0 { noise(seed, 300) } else { text(seed, 5000) });
        let put = |content: Vec<u8>| (store.put(Kind::Chunk, &content).unwrap(), content);
        let objects = contents.map(put).collect();
        drop(store);
        Closed { directory, objects }
    }

    fn pack(&self) -> PathBuf {
        self.directory.path().join("packs/00000001.pack")
    }

    fn open(&self) -> Objects {
        Objects::open(self.directory.path()).unwrap()
    }

    /// The places of all records, in order.
    fn records(&self) -> Vec<(usize, usize)> {
        let bytes = std::fs::read(self.pack()).unwrap();
        let mut offset = PACK_HEADER_LEN as usize;
        let record = std::iter::from_fn(|| {
            let length = Header::decode(&bytes[offset..])?.record_len() as usize;
            offset += length;
            Some((offset - length, length))
        });
        record.collect()
    }

    fn flip(&self, path: &Path, offset: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[offset] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    }

    fn readable(&self, store: &Objects) -> usize {
        self.objects
            .iter()
            .filter(|(id, content)| match store.get(Kind::Chunk, *id) {
                Ok(found) => {
                    assert_eq!(found[..], content[..], "damaged bytes are never served");
                    true
                }
                Err(_) => false,
            })
            .count()
    }
}

fn repair(store: &Objects) -> Repaired {
    let bad = store.verify(&mut |_| ()).unwrap().bad;
    let repaired = store.repair(&bad).unwrap();
    assert_eq!(store.verify(&mut |_| ()).unwrap().damages, [], "nothing is left to complain of");
    repaired
}

#[test]
fn an_object_whose_header_alone_is_damaged_is_restored() {
    let closed = Closed::new();
    let usage = closed.open().usage();
    for (at, (offset, _)) in closed.records().into_iter().enumerate() {
        closed.flip(&closed.pack(), offset + 30);
        let store = closed.open();
        assert_eq!(closed.readable(&store), 5);
        let repaired = repair(&store);
        assert_eq!(repaired.restored, BTreeSet::from([closed.objects[at].0]));
        assert_eq!((repaired.lost.len(), closed.readable(&store)), (0, 6));
        assert_eq!((store.usage().objects, store.usage().raw_bytes), (usage.objects, usage.raw_bytes));
        drop(store);
        assert_eq!(closed.readable(&closed.open()), 6, "after the next open");
        // Also by who has no index.
        std::fs::remove_file(closed.directory.path().join("index.redb")).unwrap();
        assert_eq!(closed.readable(&closed.open()), 6, "without an index");
    }
}

#[test]
fn an_object_is_restored_from_another_pack() {
    let closed = Closed::new();
    let copy = closed.directory.path().join("packs/00000002.pack");
    let mut bytes = std::fs::read(closed.pack()).unwrap();
    let header = PackHeader { number: 2, previous_len: bytes.len() as u64 };
    bytes[..PACK_HEADER_LEN as usize].copy_from_slice(&header.encode());
    std::fs::write(&copy, bytes).unwrap();
    drop(closed.open());
    // The index has the newest place of each object.
    let (offset, length) = closed.records()[2];
    closed.flip(&copy, offset + length - 1);
    let store = closed.open();
    assert_eq!(closed.readable(&store), 5);
    let repaired = repair(&store);
    assert_eq!((repaired.restored.len(), repaired.lost.len()), (1, 0));
    assert_eq!(closed.readable(&store), 6);
}

#[test]
fn the_index_of_another_store_hides_nothing_for_long() {
    // One that ends within a record of this store, and one that ends between two.
    for (foreign, readable) in [(text(77, 100), 6), (noise(77, 300), 5)] {
        let (closed, (directory, other)) = (Closed::new(), new_store());
        other.put(Kind::Chunk, &foreign).unwrap();
        drop(other);
        std::fs::copy(directory.path().join("index.redb"), closed.directory.path().join("index.redb"))
            .unwrap();
        let pack = std::fs::read(closed.pack()).unwrap();
        let store = closed.open();
        assert!(std::fs::read(closed.pack()).unwrap() == pack, "records are taken for torn ones");
        assert_eq!(closed.readable(&store), readable);
        assert_eq!(store.verify(&mut |_| ()).unwrap().needs_repair(), readable < 6);
        repair(&store);
        assert_eq!(closed.readable(&store), 6);
        assert_eq!(store.verify(&mut |_| ()).unwrap().damages_count, 0);
    }
}

#[test]
fn what_has_the_name_of_the_index_and_is_no_file_is_set_aside() {
    let closed = Closed::new();
    let index = closed.directory.path().join("index.redb");
    std::fs::remove_file(&index).unwrap();
    std::fs::create_dir(&index).unwrap();
    assert_eq!(closed.readable(&closed.open()), 6);
    std::fs::remove_file(&index).unwrap();
    std::os::unix::fs::symlink("/nonexistent/index", &index).unwrap();
    assert_eq!(closed.readable(&closed.open()), 6);
}

#[test]
fn a_lost_object_is_forgotten_and_can_be_stored_again() {
    let closed = Closed::new();
    let (offset, length) = closed.records()[3];
    closed.flip(&closed.pack(), offset + length - 1);
    let store = closed.open();
    let (id, content) = &closed.objects[3];
    // Until it is repaired it counts as present.
    store.put(Kind::Chunk, content).unwrap();
    assert_eq!(closed.readable(&store), 5);
    let repaired = repair(&store);
    assert_eq!(repaired.lost, BTreeSet::from([*id]));
    assert!(!store.contains(*id).unwrap());
    assert!(matches!(store.get(Kind::Chunk, *id), Err(ObjectsError::Missing { .. })));
    store.put(Kind::Chunk, content).unwrap();
    store.flush().unwrap();
    assert_eq!(closed.readable(&store), 6);
    drop(store);
    assert_eq!(closed.readable(&closed.open()), 6);
}

#[test]
fn a_damaged_plain_file_is_set_aside_and_can_be_stored_again() {
    let (directory, store) = new_store();
    let bytes = noise(7, 1 << 20);
    let content = store.put_file(&mut &bytes[..], 0).unwrap();
    let FileContent::Plain { id, .. } = content else { panic!("noise is kept plain") };
    store.flush().unwrap();
    let name = id.to_string();
    let path = directory.path().join("plain").join(&name[..2]).join(&name);
    let mut damaged = bytes.clone();
    damaged[700_000] ^= 4;
    std::fs::write(&path, &damaged).unwrap();
    let repaired = repair(&store);
    assert_eq!(repaired.lost, BTreeSet::from([id]));
    assert!(std::fs::read(directory.path().join("plain/damaged").join(&name)).unwrap() == damaged);
    assert_eq!(store.usage().objects, 0);
    assert_eq!(store.put_file(&mut &bytes[..], 0).unwrap(), content);
    store.flush().unwrap();
    assert!(read_all(&store, &content) == bytes);
    drop(store);
    assert_eq!(Objects::open(directory.path()).unwrap().usage().objects, 1);
}

#[test]
fn a_damaged_pack_header_is_written_again_and_a_wrong_index_is_put_right() {
    let closed = Closed::new();
    closed.flip(&closed.pack(), 9);
    let store = closed.open();
    assert_eq!(store.verify(&mut |_| ()).unwrap().damages_count, 1);
    assert_eq!(repair(&store), Repaired::default());
    assert_eq!(closed.readable(&store), 6);
    // An entry that leads into the middle of a record.
    let (id, _) = closed.objects[0];
    let Found::Indexed(place) = store.packs.find(id).unwrap() else { panic!("it is in the index") };
    let wrong = Location { offset: place.offset + HEADER_LEN as u32, ..place };
    store.packs.index.add(Batch { entries: vec![(id, wrong)], packs: Vec::new() }).unwrap();
    assert_eq!(closed.readable(&store), 5);
    assert_eq!(repair(&store).restored, BTreeSet::from([id]));
    assert_eq!(closed.readable(&store), 6);
}
