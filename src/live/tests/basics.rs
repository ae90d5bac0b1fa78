//! Names, contents and attributes, and what is left of them after the end of a process.

use std::io::Write;

use super::*;
use crate::base::Timestamp;
use crate::base::limits::FILE_BYTES_MAX;
use crate::live::node::Body;

#[test]
fn what_is_made_is_found_listed_and_there_after_a_restart() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let directory = volume.make_directory(root, b"modules", 0o755, USER).unwrap().id;
    let file = put(&volume, directory, "a.php", b"<?php");
    let link = volume.make_symlink(root, b"link", b"modules/a.php", USER).unwrap().id;
    volume.make_node(root, b"pipe", FileKind::Fifo, 0o600, USER).unwrap();
    volume.set_xattr(file, b"user.origin", b"import", XattrMode::Create).unwrap();
    let before = volume.attributes(file).unwrap();
    drop(volume);
    for round in 0..2 {
        let volume = store.volume();
        assert_eq!(volume.lookup(directory, b"a.php").unwrap(), before, "round {round}");
        assert_eq!(content(&volume, file), b"<?php");
        assert_eq!(&*volume.read_link(link).unwrap(), b"modules/a.php");
        assert_eq!(sorted(names(&volume, root, 1)), ["link", "modules", "pipe"]);
        assert_eq!(&*volume.xattr(file, b"user.origin").unwrap(), b"import");
        assert_eq!(volume.parent(directory).unwrap(), root);
        drop(volume);
        store.reopen();
    }
    let again = store.volume().make_node(root, b"new", FileKind::File, 0o600, USER).unwrap().id;
    assert!(again.0 > link.0, "numbers are never given away twice");
}

#[test]
fn a_crash_loses_what_was_not_synced_and_nothing_else() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let kept = put(&volume, root, "kept", b"one");
    volume.sync_volume().unwrap();
    let handle = volume.open(kept, WRITE, false).unwrap().handle;
    volume.sync_volume().unwrap();
    volume.write(handle, 3, b" two").unwrap();
    let modified = volume.attributes(kept).unwrap().modified;
    put(&volume, root, "lost", b"x");
    drop(volume);
    store.crash();
    let volume = store.volume();
    assert_eq!(names(&volume, root, 10), ["kept"]);
    assert_eq!(content(&volume, kept), b"one two");
    assert_eq!(volume.attributes(kept).unwrap().modified, modified, "as the upper file has it");
    assert_eq!(store.upper_files(), 1, "the file without a row is gone");
}

#[test]
fn an_upper_file_lost_with_the_power_is_an_empty_file() {
    let mut store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"never synced");
    volume.sync_volume().unwrap();
    drop(volume);
    let path = store.volumes().upper_path(NUMBER, id.local() + 1);
    std::fs::remove_file(path).unwrap();
    store.crash();
    let volume = store.volume();
    assert_eq!(volume.attributes(id).unwrap().size, 0);
    assert_eq!(content(&volume, id), b"");
}

#[test]
fn an_upper_file_that_is_gone_is_never_taken_for_an_empty_one() {
    for settled_at_a_start in [true, false] {
        let mut store = Store::new();
        let volume = store.volume();
        let id = put(&volume, volume.root(), "a", b"on the disk since a while");
        if settled_at_a_start {
            volume.sync_volume().unwrap();
            drop(volume);
            store.crash();
        } else {
            // As five seconds later.
            store.volumes().settle_names_now();
            drop(volume);
        }
        let volume = store.volume();
        let newer = put(&volume, volume.root(), "b", b"never synced");
        volume.sync_volume().unwrap();
        drop(volume);
        for id in [id, newer] {
            std::fs::remove_file(store.volumes().upper_path(NUMBER, id.local() + 1)).unwrap();
        }
        store.crash();
        let volume = store.volume();
        let read = |id| {
            let handle = volume.open(id, READ, false)?.handle;
            let read = volume.read(handle, 0, &mut [0]);
            volume.release(handle).and(read)
        };
        assert!(read(id).is_err(), "settled at a start: {settled_at_a_start}");
        assert_eq!(content(&volume, newer), b"");
        let bad = std::collections::BTreeSet::new();
        let mut found = Vec::new();
        volume.audit(&mut crate::trees::Audit::new(&store.trees, &bad), &mut |one| found.push(one)).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].path.ends_with("a") && found[0].reason.contains("is missing"), "{found:?}");
        // It can be written anew, and removed.
        volume.unlink(volume.root(), b"a").unwrap();
        assert_eq!(content(&volume, put(&volume, volume.root(), "a", b"anew")), b"anew");
    }
}

#[test]
fn an_upper_file_that_cannot_be_opened_is_found_and_named() {
    let store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"text");
    volume.sync_volume().unwrap();
    let path = store.volumes().upper_path(NUMBER, id.local() + 1);
    let bad = std::collections::BTreeSet::new();
    let find = || {
        let mut found = Vec::new();
        volume.audit(&mut crate::trees::Audit::new(&store.trees, &bad), &mut |one| found.push(one)).unwrap();
        found.into_iter().map(|one| (one.path, one.reason)).collect::<Vec<_>>()
    };
    assert_eq!(find(), []);
    std::fs::remove_file(&path).unwrap();
    let make: [fn(&Path); 3] = [
        |path| std::fs::create_dir(path).unwrap(),
        |path| std::os::unix::fs::symlink("/nonexistent", path).unwrap(),
        |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()
        },
    ];
    for make in make {
        make(&path);
        let found = find();
        assert!(found.len() == 1 && found[0].0.ends_with("a"), "{found:?}");
        assert!(
            volume.open(id, READ, false).and_then(|open| volume.read(open.handle, 0, &mut [0; 4])).is_err()
        );
        std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
    }
    // Where its directory is a file, it cannot even be looked at.
    let directory = path.parent().unwrap();
    std::fs::remove_dir(directory).unwrap();
    std::os::unix::fs::symlink(directory, directory).unwrap();
    let found = find();
    assert!(found.len() == 1 && found[0].1.contains("cannot be read"), "{found:?}");
}

#[test]
fn opening_a_stored_file_for_writing_does_not_put_its_content_at_risk() {
    let mut store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"durable since long ago");
    volume.freeze().unwrap();
    volume.sync_volume().unwrap();
    volume.open(id, WRITE, false).unwrap();
    let copied = match volume.state.lock().nodes[&id.local()].body {
        Body::Upper(ref upper) => store.volumes().upper_path(NUMBER, upper.number),
        ref other => panic!("{other:?} is not copied up"),
    };
    // The copy cannot be flushed: its row must not be committed.
    std::fs::remove_file(&copied).unwrap();
    std::os::unix::fs::symlink(&copied, &copied).unwrap();
    assert!(volume.sync_volume().is_err());
    drop(volume);
    store.crash();
    assert_eq!(content(&store.volume(), id), b"durable since long ago");
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "a", b"text");
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    volume.unlink(root, b"a").unwrap();
    assert!(matches!(volume.lookup(root, b"a"), Err(LiveError::NotFound)));
    volume.sync_volume().unwrap();
    assert_eq!(volume.attributes(id).unwrap().link_count, 0);
    volume.write(handle, 4, b"!").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(volume.read(handle, 0, &mut bytes).unwrap(), 5);
    volume.forget(id);
    assert_eq!(volume.read(handle, 0, &mut bytes).unwrap(), 5);
    volume.release(handle).unwrap();
    volume.forget(id);
    volume.sync_volume().unwrap();
    assert!(matches!(volume.attributes(id), Err(LiveError::NotFound)));
    assert_eq!(store.upper_files(), 0);
}

#[test]
fn a_program_that_runs_is_not_emptied() {
    let store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "tool", b"#!program");
    volume.freeze().unwrap();
    let empty = || volume.open(id, OpenMode { truncate: true, ..READ }, false);
    let running = volume.open(id, OpenMode { execute: true, ..READ }, false).unwrap().handle;
    let read = volume.open(id, READ, false).unwrap().handle;
    assert!(matches!(empty(), Err(LiveError::Busy)));
    volume.release(read).unwrap();
    assert!(matches!(empty(), Err(LiveError::Busy)));
    assert_eq!(content(&volume, id), b"#!program");
    volume.release(running).unwrap();
    volume.release(empty().unwrap().handle).unwrap();
    assert_eq!(content(&volume, id), b"");
}

#[test]
fn a_hard_link_is_one_node_under_two_names() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let directory = volume.make_directory(root, b"d", 0o755, USER).unwrap().id;
    let id = put(&volume, root, "a", b"text");
    assert_eq!(volume.link(id, directory, b"b").unwrap().link_count, 2);
    assert!(matches!(volume.link(directory, root, b"x"), Err(LiveError::NotPermitted)));
    drop(volume);
    store.reopen();
    let volume = store.volume();
    let same = volume.lookup(directory, b"b").unwrap();
    assert_eq!((same.id, same.link_count), (id, 2));
    volume.rename(root, b"a", directory, b"b", RenameMode::Replace).unwrap();
    assert_eq!(volume.lookup(root, b"a").unwrap().id, id, "two names of one node: nothing happens");
    volume.unlink(root, b"a").unwrap();
    assert_eq!(volume.lookup(directory, b"b").unwrap().link_count, 1);
    assert_eq!(content(&volume, id), b"text");
}

#[test]
fn renames_replace_exchange_and_refuse_as_posix_says() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let make = |parent, name: &str| volume.make_directory(parent, name.as_bytes(), 0o755, USER).unwrap().id;
    let (full, empty) = (make(root, "full"), make(root, "empty"));
    let inner = make(full, "inner");
    let file = put(&volume, root, "file", b"1");
    let rename = |parent, name: &[u8], new_parent, new_name: &[u8]| {
        volume.rename(parent, name, new_parent, new_name, RenameMode::Replace)
    };
    assert!(matches!(rename(root, b"full", inner, b"x"), Err(LiveError::Invalid)));
    assert!(matches!(rename(root, b"empty", root, b"full"), Err(LiveError::NotEmpty)));
    assert!(matches!(rename(root, b"empty", root, b"file"), Err(LiveError::NotADirectory)));
    assert!(matches!(rename(root, b"file", root, b"empty"), Err(LiveError::IsADirectory)));
    assert!(matches!(rename(root, b"none", root, b"x"), Err(LiveError::NotFound)));
    assert!(matches!(volume.remove_directory(root, b"full"), Err(LiveError::NotEmpty)));
    assert!(matches!(volume.unlink(root, b"full"), Err(LiveError::IsADirectory)));
    assert!(matches!(
        volume.rename(root, b"file", root, b"empty", RenameMode::NoReplace),
        Err(LiveError::Exists)
    ));
    assert!(matches!(
        volume.rename(root, b"full", inner, b"x", RenameMode::Exchange),
        Err(LiveError::Invalid | LiveError::NotFound)
    ));
    rename(root, b"full", root, b"empty").unwrap();
    assert_eq!(volume.lookup(root, b"empty").unwrap().id, full);
    assert_eq!(volume.attributes(empty).unwrap().link_count, 0);
    assert!(volume.list(empty, 0, 10).unwrap().is_empty());
    assert!(matches!(volume.make_node(empty, b"x", FileKind::File, 0o600, USER), Err(LiveError::NotFound)));
    volume.rename(root, b"empty", root, b"file", RenameMode::Exchange).unwrap();
    assert_eq!(volume.lookup(root, b"file").unwrap().id, full);
    assert_eq!(volume.lookup(root, b"empty").unwrap().id, file);
    rename(root, b"empty", full, b"moved").unwrap();
    assert_eq!(volume.lookup(full, b"moved").unwrap().id, file);
    assert_eq!(volume.resolve(&"file/inner".parse().unwrap()).unwrap().id, inner);
}

#[test]
fn a_rename_may_leave_a_whiteout() {
    let mut store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let (one, other) = (put(&volume, root, "one", b"1"), put(&volume, root, "other", b"2"));
    volume.freeze().unwrap();
    let rename =
        |replace| volume.rename(root, b"one", root, b"other", RenameMode::Whiteout { owner: USER, replace });
    assert!(matches!(rename(false), Err(LiveError::Exists)));
    rename(true).unwrap();
    drop(volume);
    store.reopen();
    let volume = store.volume();
    assert_eq!(volume.lookup(root, b"other").unwrap().id, one);
    let whiteout = volume.lookup(root, b"one").unwrap();
    assert_eq!((whiteout.kind, whiteout.mode, whiteout.uid), (FileKind::CharacterDevice(0), 0, USER.uid));
    assert!(whiteout.id != other && sorted(names(&volume, root, 10)) == ["one", "other"]);
    // No device is in a snapshot, so a name that ended so is not in it either.
    let clone = store.attach(NUMBER.0 + 1, &volume.freeze().unwrap().root);
    assert_eq!(names(&clone, clone.root(), 10), ["other"]);
}

#[test]
fn set_user_id_goes_with_a_change_and_set_group_id_directories_pass_their_group_on() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "tool", b"x");
    let mode = |mode| SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    let set = |changes: &SetAttributes| volume.set_attributes(id, changes).unwrap().mode;
    assert_eq!(set(&mode(0o6755)), 0o6755);
    assert_eq!(set(&SetAttributes { uid: Some(0), ..SetAttributes::default() }), 0o755);
    set(&mode(0o6755));
    assert_eq!(set(&SetAttributes::default()), 0o755, "a change of owner to nobody");
    set(&mode(0o6755));
    assert_eq!(set(&SetAttributes { size: Some(0), ..SetAttributes::default() }), 0o6755, "root may cut");
    set(&mode(0o6745));
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    volume.write(handle, 0, b"y").unwrap();
    volume.release(handle).unwrap();
    assert_eq!(volume.attributes(id).unwrap().mode, 0o6745, "root may write and leave them");
    let clear = |in_group| volume.clear_privileges(id, 0, |_| in_group).unwrap();
    assert!(clear(true) && !clear(true));
    assert_eq!(volume.attributes(id).unwrap().mode, 0o2745, "without group execute the bit means locking");
    assert!(clear(false) && !clear(false));
    assert_eq!(volume.attributes(id).unwrap().mode, 0o745, "which strangers to the group may not leave");
    set(&mode(0o6755));
    assert!(!volume.clear_privileges(id, FILE_BYTES_MAX + 1, |_| true).unwrap(), "no file is so large");
    assert!(volume.clear_privileges(id, FILE_BYTES_MAX, |_| panic!("nobody asks")).unwrap());

    let shared =
        volume.make_directory(root, b"shared", 0o755, Caller { uid: 0, gid: 100, umask: 0 }).unwrap().id;
    volume.set_attributes(shared, &mode(0o2775)).unwrap();
    let below = volume.make_directory(shared, b"d", 0o755, USER).unwrap();
    assert_eq!((below.mode, below.gid, below.uid), (0o2755, 100, 33));
    assert_eq!(volume.make_node(shared, b"f", FileKind::File, 0o644, USER).unwrap().gid, 100);
}

#[test]
fn times_set_by_hand_stay_while_the_file_is_open_and_after() {
    let mut store = Store::new();
    let volume = store.volume();
    let id = put(&volume, volume.root(), "a", b"x");
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    volume.write(handle, 0, b"y").unwrap();
    let time = Timestamp::from_parts(1_000_000_000, 123_456_789);
    let changes = SetAttributes {
        modified: Some(TimeChange::To(time)),
        accessed: Some(TimeChange::To(Timestamp::from_parts(5, 0))),
        ..SetAttributes::default()
    };
    assert_eq!(volume.set_attributes(id, &changes).unwrap().modified, time);
    volume.release(handle).unwrap();
    assert_eq!(volume.attributes(id).unwrap().modified, time);
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    volume.release(handle).unwrap();
    let future = TimeChange::To(Timestamp::from_parts(8_000_000_000, 0));
    let changes = SetAttributes { modified: Some(future), ..SetAttributes::default() };
    let other = put(&volume, volume.root(), "future", b"x");
    let changed = volume.set_attributes(other, &changes).unwrap().changed;
    let handle = volume.open(other, WRITE, false).unwrap().handle;
    assert_eq!(volume.attributes(other).unwrap().changed, changed, "the time of a change is of now");
    volume.release(handle).unwrap();
    assert_eq!(volume.attributes(other).unwrap().changed, changed);
    drop(volume);
    store.reopen();
    let attributes = store.volume().attributes(id).unwrap();
    assert_eq!((attributes.modified, attributes.accessed), (time, Timestamp::from_parts(5, 0)));
}

#[test]
fn a_file_served_past_this_program_shows_what_the_kernel_wrote() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "a", b"x");
    let first = volume.open(id, WRITE, true).unwrap();
    let Served::Backing(file) = &first.served else { panic!("an upper file can be passed") };
    (&**file).write_all(b"written past").unwrap();
    assert_eq!(volume.attributes(id).unwrap().size, 12);
    let second = volume.open(id, READ, true).unwrap();
    assert!(matches!(&second.served, Served::Backing(other) if Arc::ptr_eq(file, other)));
    volume.release(first.handle).unwrap();
    volume.release(second.handle).unwrap();
    assert_eq!(volume.attributes(id).unwrap().size, 12);

    let program = volume.open(id, READ, false).unwrap();
    let later = volume.open(id, WRITE, true).unwrap();
    assert!(matches!(later.served, Served::Program), "one manner at a time");
    volume.release(program.handle).unwrap();
    volume.release(later.handle).unwrap();
}

#[test]
fn a_read_only_volume_refuses_changes() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "a", b"x");
    volume.set_access(Access::ReadOnly);
    assert!(matches!(volume.unlink(root, b"a"), Err(LiveError::ReadOnly)));
    assert!(matches!(volume.open(id, WRITE, false), Err(LiveError::ReadOnly)));
    assert_eq!(content(&volume, id), b"x");
}

#[test]
fn a_discarded_volume_leaves_nothing_and_its_open_files_go_on() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let id = put(&volume, root, "a", b"x");
    volume.sync_volume().unwrap();
    let handle = volume.open(id, WRITE, false).unwrap().handle;
    put(&volume, root, "b", b"y");
    store.volumes().discard(NUMBER).unwrap();
    volume.write(handle, 0, b"z").unwrap();
    let mut byte = [0];
    volume.read(handle, 0, &mut byte).unwrap();
    assert_eq!(byte, *b"z");
    volume.sync(handle, false).unwrap();
    volume.release(handle).unwrap();
    assert!(matches!(volume.unlink(root, b"a"), Err(LiveError::NotFound)));
    assert_eq!(store.upper_files(), 0);
    drop(volume);
    assert_eq!(names(&store.volume(), root, 10), Vec::<String>::new());
}

#[test]
fn names_and_values_have_limits() {
    let store = Store::new();
    let volume = store.volume();
    let root = volume.root();
    let make = |name: &[u8]| volume.make_node(root, name, FileKind::File, 0o600, USER);
    assert!(matches!(make(&[b'a'; 256]), Err(LiveError::NameTooLong)));
    make(&[b'a'; 255]).unwrap();
    assert!(matches!(make(b"a/b"), Err(LiveError::Invalid)));
    assert!(matches!(volume.make_symlink(root, b"l", &[b'a'; 4096], USER), Err(LiveError::NameTooLong)));
    volume.make_symlink(root, b"l", &[b'a'; 4095], USER).unwrap();
    let id = make(b"x").unwrap().id;
    let set = |name: &[u8], value: &[u8], mode| volume.set_xattr(id, name, value, mode);
    assert!(matches!(set(b"user.big", &[0; 65_537], XattrMode::Set), Err(LiveError::TooLarge)));
    assert!(matches!(set(b"user.a", b"", XattrMode::Replace), Err(LiveError::NoAttribute)));
    set(b"user.a", b"", XattrMode::Create).unwrap();
    let changed = volume.attributes(id).unwrap().changed;
    set(b"user.a", b"", XattrMode::Replace).unwrap();
    assert_eq!(volume.attributes(id).unwrap().changed, changed, "the same value is no change");
    assert!(matches!(set(b"user.a", b"", XattrMode::Create), Err(LiveError::Exists)));
    assert!(matches!(set(b"system.posix_acl_access", b"no list", XattrMode::Set), Err(LiveError::Invalid)));
    assert!(matches!(volume.xattr(id, b"bogus.name"), Err(LiveError::NotSupported)));
    assert!(matches!(volume.remove_xattr(id, b"bogus.name"), Err(LiveError::NotSupported)));
    assert!(matches!(volume.xattr(id, b"user."), Err(LiveError::Invalid)));
    for number in 0..4 {
        set(format!("user.{number}").as_bytes(), &[0; 65_536], XattrMode::Set).unwrap();
    }
    assert!(matches!(set(b"user.4", &[0; 1], XattrMode::Set), Err(LiveError::NoSpace)));
    volume.remove_xattr(id, b"user.0").unwrap();
    assert!(matches!(volume.remove_xattr(id, b"user.0"), Err(LiveError::NoAttribute)));
    assert_eq!(volume.xattr_names(id).unwrap().len(), 4);
}
