//! Freezing and what stands on a frozen tree.

use super::*;
use crate::trees::NameKey;

#[test]
fn a_frozen_tree_is_what_was_there_and_a_clone_of_it_is_its_own() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let directory = volume.make_directory(root, b"d", 0o755, USER).unwrap().id;
    let file = put(&volume, directory, "a", b"one");
    volume.link(file, root, b"hard").unwrap();
    let big: Vec<u8> =
        (0..2_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    put(&volume, root, "big", &big);
    let first = volume.freeze().unwrap();
    assert_eq!((first.root.totals.nodes, first.unstable.len()), (4, 0));
    assert_eq!(volume.freeze().unwrap(), first, "nothing changed");
    assert_eq!(content(&volume, file), b"one");

    let clone = store.attach(8, &first.root);
    let below = clone.lookup(clone.root(), b"d").unwrap().id;
    let linked = clone.lookup(below, b"a").unwrap();
    assert_eq!((linked.link_count, linked.size), (2, 3));
    assert_eq!(linked.id, clone.lookup(clone.root(), b"hard").unwrap().id);
    put(&clone, below, "a", b"two");
    put(&clone, below, "b", b"new");
    assert_eq!(content(&volume, file), b"one");
    assert_eq!(content(&clone, linked.id), b"two");
    let second = clone.freeze().unwrap();
    drop((volume, clone));
    store.crash();
    let third = store.attach(9, &second.root);
    let below = third.lookup(third.root(), b"d").unwrap().id;
    assert_eq!(content(&third, third.lookup(third.root(), b"hard").unwrap().id), b"two");
    assert_eq!(content(&third, third.lookup(below, b"b").unwrap().id), b"new");
    assert_eq!(content(&third, third.lookup(third.root(), b"big").unwrap().id), big);
    assert_eq!(third.freeze().unwrap().root, second.root);
}

#[test]
fn freezes_beside_writers_are_states_that_existed() {
    let store = Store::new();
    let (one, two) = (store.attach(1, &empty_root()), store.attach(2, &empty_root()));
    let first = put(&one, one.root(), "first", b"");
    let second = put(&two, two.root(), "second", b"");
    let rounds = 200;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let a = one.open(first, WRITE, false).unwrap().handle;
            let b = two.open(second, WRITE, false).unwrap().handle;
            for round in 0..rounds {
                one.write(a, round, b"x").unwrap();
                two.write(b, round, b"x").unwrap();
                put(&one, one.root(), &format!("file {round}"), b"content");
            }
            one.release(a).unwrap();
            two.release(b).unwrap();
        });
        let mut before = 0;
        while !writer.is_finished() {
            let frozen = Volume::freeze_together(&[&two, &one]).unwrap();
            let size = |frozen: &FrozenTree, name: &str| {
                let key = NameKey::new(name.as_bytes());
                let located = store.trees.lookup(frozen.root.tree, &key).unwrap().unwrap();
                located.entry.totals().bytes
            };
            let (first, second) = (size(&frozen[1], "first"), size(&frozen[0], "second"));
            assert!(first == second || first == second + 1, "{first} {second}");
            let files = frozen[1].root.totals.nodes - 1;
            assert!(files == second || files + 1 == second, "{files} {second}");
            assert!(first >= before, "time goes on");
            before = first;
        }
    });
    let frozen = Volume::freeze_together(&[&one, &two]).unwrap();
    assert_eq!(frozen[0].root.totals.bytes, rounds * 8);
    assert_eq!(frozen[1].root.totals.bytes, rounds);
    assert!(matches!(Volume::freeze_together(&[&one, &one]), Err(LiveError::Invalid)));
}

#[test]
fn a_large_stored_file_is_passed_to_the_kernel_and_replaced_when_somebody_writes() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let video = noise(3 << 20);
    let id = put(&volume, root, "video", &video);
    let linked = put(&volume, root, "linked", &video);
    volume.link(linked, root, b"second name").unwrap();
    volume.freeze().unwrap();
    let reader = volume.open(id, READ, true).unwrap();
    let Served::Backing(file) = &reader.served else { panic!("it is one plain file in the store") };
    assert_eq!(file.metadata().unwrap().len(), video.len() as u64);
    assert!(matches!(volume.open(linked, READ, true).unwrap().served, Served::Program));

    assert!(matches!(volume.open(id, WRITE, true), Err(LiveError::Stale)));
    let replacement = volume.lookup(root, b"video").unwrap();
    assert_ne!(replacement.id, id);
    let writer = volume.open(replacement.id, WRITE, true).unwrap();
    let Served::Backing(copy) = &writer.served else { panic!("an upper file can be passed") };
    std::os::unix::fs::FileExt::write_all_at(&**copy, b"new", 0).unwrap();
    volume.release(writer.handle).unwrap();
    volume.release(reader.handle).unwrap();
    volume.forget(id);
    assert_eq!(content(&volume, replacement.id)[..3], *b"new");
    assert_eq!(content(&volume, replacement.id)[3..], video[3..]);
    assert_eq!(volume.freeze().unwrap().root.totals.nodes, 3);
}

#[test]
fn numbers_mean_the_same_node_or_none_whatever_is_in_memory() {
    let mut store = Store::new();
    let volume = store.volume();
    for name in ["gone", "moved", "kept"] {
        let directory = volume.make_directory(volume.root(), name.as_bytes(), 0o755, USER).unwrap().id;
        put(&volume, directory, "file", name.as_bytes());
    }
    let base = volume.freeze().unwrap().root;
    let clone = store.attach(8, &base);
    let root = clone.root();
    let find = |volume: &Volume, name: &str| {
        let directory = volume.lookup(volume.root(), name.as_bytes()).unwrap().id;
        (directory, volume.lookup(directory, b"file").unwrap().id)
    };
    let (gone, moved, kept) = (find(&clone, "gone"), find(&clone, "moved"), find(&clone, "kept"));
    assert!(clone.remove_all(&"gone".parse().unwrap()).unwrap().len() >= 2);
    clone.rename(root, b"moved", kept.0, b"within", RenameMode::Replace).unwrap();
    clone.sync_volume().unwrap();
    drop((volume, clone));
    for round in 0..3 {
        let clone = store.attach(8, &base);
        assert!(matches!(clone.attributes(gone.1), Err(LiveError::NotFound)));
        assert!(matches!(clone.attributes(gone.0), Err(LiveError::NotFound)));
        assert_eq!(content(&clone, moved.1), b"moved");
        assert_eq!(content(&clone, kept.1), b"kept");
        assert_eq!(clone.resolve(&"kept/within/file".parse().unwrap()).unwrap().id, moved.1);
        clone.evict();
        drop(clone);
        match round {
            0 => store.reopen(),
            _ => store.crash(),
        }
    }
    let other = Root { totals: Totals { nodes: 1, ..base.totals }, ..base.clone() };
    let again = store.volumes().attach(VolumeNumber(8), other, Access::Writable);
    assert!(matches!(again, Err(LiveError::OtherBase)));
}

#[test]
fn the_overlays_of_unknown_volumes_are_discarded() {
    let mut store = Store::new();
    for number in 1..=3 {
        let volume = store.attach(number, &empty_root());
        put(&volume, volume.root(), "a", b"x");
    }
    store.reopen();
    store.volumes().discard_unknown(&[VolumeNumber(2)].into()).unwrap();
    for (number, expected) in [(1, 0), (2, 1), (3, 0)] {
        let volume = store.attach(number, &empty_root());
        assert_eq!(volume.list(volume.root(), 0, 10).unwrap().len(), expected, "{number}");
    }
    assert_eq!(store.upper_files(), 1);
}

#[test]
fn a_file_emptied_by_a_reader_does_not_get_its_frozen_content_back() {
    let mut store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"frozen");
    // The kernel reads from it, so that the freeze cannot let go of its upper file.
    let reader = volume.open(id, READ, true).unwrap().handle;
    volume.freeze().unwrap();
    let emptying = OpenMode { write: false, ..TRUNCATE };
    let emptied = volume.open(id, emptying, true).unwrap().handle;
    volume.release(emptied).unwrap();
    volume.release(reader).unwrap();
    assert_eq!(content(&volume, id), b"");
    volume.sync_contents().unwrap();
    drop(volume);
    store.crash();
    assert_eq!(content(&store.volume(), id), b"");
}
