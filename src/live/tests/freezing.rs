//! Freezing and what stands on a frozen tree.

use super::*;

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
