//! The store on a real directory.

use std::path::Path;

use proptest::prelude::*;

use super::*;

mod collection;
mod crash;
mod damage;
mod disk;
mod renewal;
mod repair;
mod unread;

/// In memory where there is such a place: hundreds of stores are opened, each with flushes of its index.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A store in a directory of its own.
fn new_store() -> (tempfile::TempDir, Objects) {
    let directory = directory();
    Objects::create(directory.path()).unwrap();
    let objects = Objects::open(directory.path()).unwrap();
    (directory, objects)
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress to a half, with little repetition.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
    let digits =
        noise(seed, length / 2 + 1).into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.take(length).collect()
}

fn read_all(objects: &Objects, content: &FileContent) -> Vec<u8> {
    let mut bytes = vec![0; content.size() as usize + 1];
    let length = objects.read_at(content, 0, &mut bytes).unwrap();
    assert_eq!(length as u64, content.size());
    bytes.truncate(length);
    bytes
}

#[test]
fn objects_are_found_before_and_after_flush_and_reopen() {
    let (directory, objects) = new_store();
    let contents: Vec<Vec<u8>> = (0..200).map(|seed| text(seed, seed as usize * 50)).collect();
    let ids: Vec<ObjectId> =
        contents.iter().map(|content| objects.put(Kind::TreePage, content).unwrap()).collect();
    let check = |objects: &Objects| {
        for (id, content) in ids.iter().zip(&contents) {
            assert_eq!(objects.get(Kind::TreePage, *id).unwrap()[..], content[..]);
            assert!(objects.contains(*id).unwrap());
        }
        let other = ObjectId::of(Kind::Chunk, b"never put");
        assert!(!objects.contains(other).unwrap());
        assert!(matches!(objects.get(Kind::Chunk, other), Err(ObjectsError::Missing { .. })));
        assert!(matches!(objects.get(Kind::Chunk, ids[3]), Err(ObjectsError::Missing { .. })));
    };
    check(&objects);
    objects.flush().unwrap();
    check(&objects);
    let usage = objects.usage();
    assert_eq!(usage.objects, 200);
    assert_eq!(usage.raw_bytes, contents.iter().map(|content| content.len() as u64).sum::<u64>());
    assert!(usage.stored_bytes < usage.raw_bytes);
    drop(objects);
    let objects = Objects::open(directory.path()).unwrap();
    check(&objects);
    assert_eq!(objects.usage(), usage);
    objects.put(Kind::TreePage, &contents[7]).unwrap();
    assert_eq!(objects.usage(), usage);
}

#[test]
fn every_name_is_listed_once() {
    let (_directory, objects) = new_store();
    let mut ids: Vec<ObjectId> =
        (0..10_000_u32).map(|number| objects.put(Kind::Chunk, &number.to_le_bytes()).unwrap()).collect();
    ids.sort_unstable();
    let FileContent::Plain { id, .. } = objects.put_file(&mut &noise(1, 1 << 20)[..], 0).unwrap() else {
        panic!("noise is kept plain")
    };
    ids.push(id);
    let mut listed = Vec::new();
    objects
        .each_id(&mut |id| {
            listed.push(id);
            Ok(())
        })
        .unwrap();
    assert_eq!(listed, ids);
}

#[test]
fn one_process_at_a_time() {
    let (directory, _objects) = new_store();
    let error = Objects::open(directory.path()).err().unwrap();
    assert!(matches!(error, ObjectsError::Locked { .. }), "{error}");
}

#[test]
fn what_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = Objects::open(directory.path()).err().unwrap();
    assert!(matches!(error, ObjectsError::Format { .. }), "{error}");
    assert!(matches!(Objects::open(Path::new("/nonexistent")), Err(ObjectsError::Format { .. })));
}

#[test]
fn files_of_every_shape_round_trip() {
    let (_directory, objects) = new_store();
    let cases: [(Vec<u8>, &str); 9] = [
        (Vec::new(), "empty"),
        (b"<?php".to_vec(), "chunk"),
        (text(1, 65_536), "chunk"),
        (text(2, 300_000), "chunks"),
        (text(3, 1 << 20), "chunks"),
        (text(4, 5_000_000), "chunks"),
        (noise(5, (1 << 20) - 1), "chunks"),
        (noise(6, 1 << 20), "plain"),
        (noise(7, 3_333_333), "plain"),
    ];
    for (bytes, shape) in &cases {
        let content = objects.put_file(&mut &bytes[..], bytes.len() as u64).unwrap();
        let found = match content {
            FileContent::Empty => "empty",
            FileContent::Chunk { .. } => "chunk",
            FileContent::Chunks { .. } => "chunks",
            FileContent::Plain { .. } => "plain",
        };
        assert_eq!(found, *shape, "{} bytes", bytes.len());
        assert_eq!(content.size(), bytes.len() as u64);
        for wrong_hint in [0, 5000, 70_000, u64::MAX] {
            assert_eq!(objects.put_file(&mut &bytes[..], wrong_hint).unwrap(), content);
        }
        for _ in 0..2 {
            assert_eq!(read_all(&objects, &content), *bytes);
            let mut target = tempfile::tempfile().unwrap();
            objects.copy_to(&content, &target).unwrap();
            let mut copied = Vec::new();
            std::io::Read::read_to_end(&mut target, &mut copied).unwrap();
            assert_eq!(copied, *bytes);
            assert_eq!(objects.open_plain(&content).unwrap().is_some(), *shape == "plain");
            objects.flush().unwrap();
        }
    }
}

#[test]
fn versions_of_a_large_file_share_their_chunks() {
    let (_directory, objects) = new_store();
    let mut dump = text(1, 6_000_000);
    objects.put_file(&mut &dump[..], 0).unwrap();
    let before = objects.usage();
    dump.splice(3_000_000..3_000_000, *b"INSERT INTO node VALUES (1);");
    objects.put_file(&mut &dump[..], 0).unwrap();
    let grown = objects.usage().raw_bytes - before.raw_bytes;
    assert!(grown < 600_000, "{grown} bytes for a line");
}

#[test]
fn an_adopted_file_is_the_same_object_as_a_stored_one() {
    let (directory, objects) = new_store();
    let bytes = noise(1, 2_000_000);
    let path = directory.path().join("upload");
    std::fs::write(&path, &bytes).unwrap();
    let content = objects.adopt_plain(&path).unwrap();
    assert_eq!(read_all(&objects, &content), bytes);
    objects.flush().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(objects.put_file(&mut &bytes[..], 0).unwrap(), content);
    let usage = objects.usage();
    assert_eq!((usage.objects, usage.stored_bytes), (1, 2_000_000));
    drop(objects);
    let objects = Objects::open(directory.path()).unwrap();
    assert_eq!(objects.usage(), usage);
    assert_eq!(read_all(&objects, &content), bytes);
}

#[test]
fn threads_put_the_same_and_different_objects() {
    let (directory, objects) = new_store();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let objects = &objects;
            scope.spawn(move || {
                for number in 0..500 {
                    // Half of them are put by every thread.
                    let seed = if number % 2 == 0 { number } else { number + 10_000 * (thread + 1) };
                    let id = objects.put(Kind::Chunk, &text(seed, 3000)).unwrap();
                    assert_eq!(objects.get(Kind::Chunk, id).unwrap()[..], text(seed, 3000)[..]);
                    if number % 100 == 0 {
                        objects.flush().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(objects.usage().objects, 250 + 4 * 250);
    drop(objects);
    assert_eq!(Objects::open(directory.path()).unwrap().usage().objects, 1250);
}

#[test]
fn too_large_an_object_is_refused() {
    let (_directory, objects) = new_store();
    let error = objects.put(Kind::Chunk, &vec![0; (16 << 20) + 1]).unwrap_err();
    assert!(matches!(error, ObjectsError::TooLarge { length } if length == (16 << 20) + 1));
    objects.put(Kind::Chunk, &vec![0; 16 << 20]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_part_of_any_file_reads_back(
        seed in any::<u64>(),
        length in 0_usize..1_500_000,
        compressible in any::<bool>(),
        reads in prop::collection::vec((0.0_f64..1.1, 0_usize..400_000), 1..8),
    ) {
        let (_directory, objects) = new_store();
        let bytes = if compressible { text(seed, length) } else { noise(seed, length) };
        let content = objects.put_file(&mut &bytes[..], length as u64).unwrap();
        for (place, count) in reads {
            let offset = (place * length as f64) as usize;
            let mut buffer = vec![0; count];
            let found = objects.read_at(&content, offset as u64, &mut buffer).unwrap();
            let expected = &bytes[offset.min(length)..(offset + count).min(length)];
            prop_assert_eq!(&buffer[..found], expected);
        }
    }
}
