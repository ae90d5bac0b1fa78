//! Large directories, bounded memory, a full disk.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::base::limits::FILE_BYTES_MAX;
use crate::trees::{Entry, NameKey, Node};

/// A tree of one directory with this many empty files.
fn wide(store: &Store, count: usize) -> Root {
    let entry = Entry {
        attributes: Attributes { mode: 0o644, ..Attributes::default() },
        node: Node::File(crate::objects::FileContent::Empty),
    };
    let name = |number| (NameKey::new(format!("entry {number}").as_bytes()), Some(entry.clone()));
    let mut changes: Vec<_> = (0..count).map(name).collect();
    changes.sort_by(|one, other| one.0.cmp(&other.0));
    let (tree, totals) = store.trees.update(None, &changes).unwrap();
    Root { tree, totals, ..empty_root() }
}

#[test]
fn a_listing_has_what_stays_exactly_once_whatever_else_changes() {
    let store = Store::new();
    let count = 100_000;
    let volume = store.attach(1, &wide(&store, count));
    let root = volume.root();
    let mut seen: BTreeMap<Box<[u8]>, usize> = BTreeMap::new();
    let mut cookie = 0;
    let mut page_number = 0;
    loop {
        let page = volume.list(root, cookie, 1000).unwrap();
        let Some(last) = page.last() else { break };
        cookie = last.cookie;
        assert!(page.is_sorted_by_key(|entry| entry.cookie));
        page.into_iter().for_each(|entry| *seen.entry(entry.name).or_default() += 1);
        // Files whose numbers end in 1 are removed, in 2 renamed, in 3 changed; new ones come.
        for number in (page_number * 100..).take(100) {
            let name = |number: usize| format!("entry {number}").into_bytes();
            volume.unlink(root, &name(number * 10 + 1)).unwrap();
            let new = format!("renamed {number}").into_bytes();
            volume.rename(root, &name(number * 10 + 2), root, &new, RenameMode::Replace).unwrap();
            let id = volume.lookup(root, &name(number * 10 + 3)).unwrap().id;
            let changes = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
            volume.set_attributes(id, &changes).unwrap();
            volume.make_node(root, format!("new {number}").as_bytes(), FileKind::File, 0o644, USER).unwrap();
        }
        page_number += 1;
        if page_number % 10 == 0 {
            volume.evict();
        }
    }
    assert_eq!(page_number, count / 1000);
    for number in (0..count).filter(|number| !matches!(number % 10, 1 | 2)) {
        assert_eq!(seen.get(format!("entry {number}").as_bytes()), Some(&1), "{number}");
    }
    let left = names(&volume, root, 5000);
    assert_eq!(left.len(), count, "as many came as went");
}

#[test]
fn memory_is_bounded_while_everything_is_looked_at() {
    let store = Store::new();
    let volume = store.attach(1, &wide(&store, 50_000));
    for number in 0..50_000 {
        let attributes = volume.lookup(volume.root(), format!("entry {number}").as_bytes()).unwrap();
        assert!(attributes.id.local() > 1);
    }
    let cached = volume.state.lock().nodes.len();
    assert!(cached <= 33_000, "{cached}");
}

#[test]
fn what_is_too_large_for_a_file_is_refused_and_changes_nothing() {
    let store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "file", b"content");
    let from = put(&volume, volume.root(), "from", b"content");
    let size =
        |size| volume.set_attributes(id, &SetAttributes { size: Some(size), ..SetAttributes::default() });
    assert!(matches!(size(FILE_BYTES_MAX + 1), Err(LiveError::TooLarge)));
    assert!(matches!(size(u64::MAX), Err(LiveError::TooLarge)));
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    let source = volume.open(from, READ, false).unwrap().handle;
    for offset in [FILE_BYTES_MAX, u64::MAX] {
        assert!(matches!(volume.write(handle, offset, b"x"), Err(LiveError::TooLarge)));
        let copied = volume.copy_range(handle, offset, &volume, source, 0, 1);
        assert!(matches!(copied, Err(LiveError::TooLarge)));
    }
    assert!(matches!(volume.allocate(handle, FILE_BYTES_MAX, 1, 0), Err(LiveError::TooLarge)));
    assert!(matches!(volume.allocate(handle, 0, u64::MAX, 1), Err(LiveError::TooLarge)));
    assert_eq!(volume.write(handle, u64::MAX, b"").unwrap(), 0);
    volume.release(handle).unwrap();
    volume.release(source).unwrap();
    assert_eq!(content(&volume, id), b"content");
}

/// A small file system; unmounted when it goes.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn new(megabytes: usize) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "none"]).arg(directory.path());
        mount.status().is_ok_and(|status| status.success()).then_some(SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::new(24) else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let mut store = Store::new();
    store.live = disk.0.path().join("live");
    store.open();
    let volume = store.volume();
    let root = volume.root();
    let kept = put(&volume, root, "kept", b"before");
    volume.sync_volume().unwrap();
    let big = put(&volume, root, "big", b"");
    let handle = volume.open(big, WRITE, false).unwrap().handle;
    let part = noise(1 << 20);
    let mut size = 0;
    let error = loop {
        match volume.write(handle, size, &part) {
            Ok(count) => size += count as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LiveError::NoSpace), "{error}");
    assert_eq!(volume.attributes(big).unwrap().size, size);
    // Rows go on for a while in what the tables have, and in what is kept back; then they are refused as well.
    let mut made = 0;
    let refused = loop {
        let name = format!("{made:0200}");
        match volume.make_symlink(root, name.as_bytes(), &[b'x'; 4000], USER) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        if made % 50 == 0
            && let Err(error) = volume.sync_volume()
        {
            break error;
        }
        assert!(made < 100_000, "the disk is full");
    };
    assert!(matches!(refused, LiveError::NoSpace), "{refused}");
    assert!(matches!(volume.sync_volume(), Err(LiveError::NoSpace)));
    assert!(matches!(volume.make_node(root, b"new", FileKind::File, 0o600, USER), Err(LiveError::NoSpace)));
    assert!(matches!(volume.lookup(root, b"new"), Err(LiveError::NotFound)));
    assert_eq!(content(&volume, kept), b"before");

    // Space comes back, without a restart.
    volume.set_attributes(big, &SetAttributes { size: Some(0), ..SetAttributes::default() }).unwrap_err();
    volume.allocate(handle, 0, size, 3).unwrap();
    volume.release(handle).unwrap();
    volume.sync_volume().unwrap();
    volume.unlink(root, b"big").unwrap();
    put(&volume, root, "after", b"x");
    volume.sync_volume().unwrap();
    drop(volume);
    store.crash();
    let volume = store.volume();
    assert_eq!(volume.list(root, 0, usize::MAX).unwrap().len(), made + 2);
    drop(volume);
    store.volumes = None;
}
