//! Real directories in, and out again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};
use tempfile::TempDir;

use crate::trees::testing::store;
use crate::trees::*;

fn quiet(_: ImportEvent) {}

fn import(trees: &Trees, directory: &Path) -> (Root, ImportReport) {
    trees.import(directory, &ImportOptions::default(), &quiet).unwrap()
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 987_654_321 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// One line a node, with all that is kept of it.
fn listing(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if metadata.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_file() {
            blake3::hash(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let mut xattrs = Vec::new();
        if metadata.is_file() || metadata.is_dir() {
            xattrs = native::xattrs(File::open(&path).unwrap()).unwrap().into_iter().collect();
        }
        lines.push(format!(
            "{:?} {:o} {links} {}:{} {}.{} {content} {xattrs:?}",
            path.strip_prefix(top).unwrap(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ));
    }
    lines.sort();
    lines
}

/// A directory with everything that is kept.
fn everything() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    fs::create_dir_all(top.join("sites/default/files/empty")).unwrap();
    fs::write(top.join("sites/default/settings.php"), "<?php\n").unwrap();
    fs::set_permissions(top.join("sites/default/settings.php"), fs::Permissions::from_mode(0o440)).unwrap();
    fs::write(top.join("empty"), "").unwrap();
    fs::write(top.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), "x").unwrap();
    for number in 0..300 {
        fs::write(top.join(format!("sites/file-{number}")), format!("content {number}")).unwrap();
    }
    // Compressible and longer than a chunk; incompressible; mostly a hole.
    fs::write(top.join("long"), "0123456789abcdef\n".repeat(40_000)).unwrap();
    let mut noise = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(top.join("noise"), noise).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 8 << 20).unwrap();
    symlink("sites/default", top.join("link")).unwrap();
    symlink("/nowhere", top.join("dangling")).unwrap();
    rustix::fs::mknodat(CWD, top.join("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o620), 0)
        .unwrap();
    fs::write(top.join("two-names"), "shared").unwrap();
    fs::hard_link(top.join("two-names"), top.join("sites/other-name")).unwrap();
    fs::hard_link(top.join("dangling"), top.join("sites/dangling-too")).unwrap();
    let settings = OpenOptions::new().write(true).open(top.join("empty")).unwrap();
    rustix::fs::fsetxattr(&settings, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let files = File::open(top.join("sites/default/files")).unwrap();
    rustix::fs::fsetxattr(&files, "user.note", b"of a directory", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(top.join("sites/default/files"), fs::Permissions::from_mode(0o2775)).unwrap();
    set_time(&top.join("link"), 1_000_000_001);
    set_time(&top.join("long"), -5);
    set_time(&top.join("sites/default/files"), 1_000_000_002);
    set_time(&top.join("sites"), 1_000_000_003);
    set_time(top, 1_000_000_004);
    directory
}

#[test]
fn what_goes_in_comes_out() {
    let store = store();
    let directory = everything();
    let (root, report) = import(&store.trees, directory.path());
    assert_eq!(report.skipped, []);
    assert_eq!(report.nodes, root.totals.nodes);
    assert_eq!(report.nodes as usize + 1, listing(directory.path()).len());
    assert_eq!(root.totals.hard_links, 4);
    assert_eq!(root.next_link, 3);

    let target = tempfile::tempdir().unwrap();
    store.trees.export(&root, target.path()).unwrap();
    assert_eq!(listing(target.path()), listing(directory.path()));
    assert!(fs::metadata(target.path().join("sparse")).unwrap().blocks() < 200);

    // Again, from the copy and from the original: the same tree, whatever the order of the threads.
    for path in [target.path(), directory.path()] {
        assert_eq!(import(&store.trees, path).0, root);
    }
    let error = store.trees.export(&root, target.path()).unwrap_err();
    assert!(matches!(error, TreesError::NotEmpty { .. }));
}

#[test]
fn files_with_one_name_within_are_ordinary() {
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("in")).unwrap();
    fs::write(directory.path().join("in/file"), "x").unwrap();
    fs::hard_link(directory.path().join("in/file"), directory.path().join("outside")).unwrap();
    let (root, _) = import(&store.trees, &directory.path().join("in"));
    assert_eq!((root.links, root.totals.hard_links, root.totals.bytes), (None, 0, 1));
}

#[test]
fn exclusions_and_sockets_are_left_out() {
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    fs::create_dir_all(top.join("a/cache/deep")).unwrap();
    fs::write(top.join("a/kept"), "x").unwrap();
    fs::write(top.join("a/wiki.sqlite"), "x").unwrap();
    fs::write(top.join("wiki.sqlite"), "kept: the path is another").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let exclude = ["a/cache", "a/wiki.sqlite", "missing/x"].map(|path| path.parse().unwrap()).into();
    let (root, report) = store.trees.import(top, &ImportOptions { exclude }, &quiet).unwrap();
    assert_eq!(report.skipped, [Skipped { path: top.join("socket"), reason: "is a socket".into() }]);
    assert_eq!(report.nodes, 3);
    let present = |path: &str| store.trees.entry_at(&root, &path.parse().unwrap()).unwrap().is_some();
    assert_eq!(
        ["a/kept", "wiki.sqlite", "a/cache", "a/wiki.sqlite", "socket"].map(present),
        [true, true, false, false, false]
    );
}

#[test]
fn a_device_node_is_refused_by_name() {
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("null");
    let device = rustix::fs::FileType::CharacterDevice;
    let made = rustix::fs::mknodat(CWD, &path, device, Mode::from_raw_mode(0o600), rustix::fs::makedev(1, 3));
    if made == Err(rustix::io::Errno::PERM) {
        eprintln!("not run: making a device node needs privileges");
        return;
    }
    made.unwrap();
    let error = store.trees.import(directory.path(), &ImportOptions::default(), &quiet).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is a device node, and sitefs keeps none: remove it, or leave it out", path.display())
    );
    assert!(digest_directory(directory.path(), &["null".parse().unwrap()]).is_ok());
}

#[test]
fn a_file_that_never_rests_is_taken_in_and_reported() {
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, vec![b'x'; 4 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    let skipped = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"one more line\n").unwrap();
            }
        });
        let (_, report) = import(&store.trees, directory.path());
        stop.store(true, Ordering::Relaxed);
        report.skipped
    });
    assert_eq!(skipped, [Skipped { path: path.clone(), reason: "changed while it was read".into() }]);
    assert_eq!(import(&store.trees, directory.path()).1.skipped, []);
}

#[test]
fn directories_that_come_and_go_do_not_stop_an_import() {
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    for number in 0..2_000 {
        fs::write(top.join(format!("steady-{number}")), "x").unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for round in 0..20 {
                    let path = top.join(format!("passing-{round}"));
                    fs::create_dir(&path).unwrap();
                    fs::write(path.join("file"), "x").unwrap();
                    fs::remove_file(path.join("file")).unwrap();
                    fs::remove_dir(&path).unwrap();
                    symlink("steady-1", &path).unwrap();
                    fs::remove_file(&path).unwrap();
                }
            }
        });
        for _ in 0..5 {
            let (root, _) = import(&store.trees, top);
            for number in [0, 999, 1_999] {
                let path = format!("steady-{number}").parse().unwrap();
                assert!(store.trees.entry_at(&root, &path).unwrap().is_some());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn progress_ends_with_everything() {
    let store = store();
    let directory = everything();
    let events = parking_lot::Mutex::new(Vec::new());
    let progress = |event: ImportEvent| events.lock().push(event);
    let (_, report) = store.trees.import(directory.path(), &ImportOptions::default(), &progress).unwrap();
    let events = events.into_inner();
    assert!(events.len() > 4);
    assert_eq!(events.last(), Some(&ImportEvent { nodes: report.nodes, bytes: report.bytes }));
}

#[test]
fn what_is_mounted_below_is_not_entered() {
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
    let store = store();
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    if rustix::mount::mount("none", &mounted, "tmpfs", rustix::mount::MountFlags::empty(), None).is_err() {
        eprintln!("not run: mounting needs privileges");
        return;
    }
    let _guard = Unmount(&mounted);
    fs::write(mounted.join("file"), "of another file system").unwrap();
    let (root, report) = import(&store.trees, directory.path());
    assert_eq!(report.skipped, [Skipped { path: mounted.clone(), reason: "is a mount point".into() }]);
    assert_eq!(root.tree, None);
}

#[test]
fn a_missing_directory_is_named() {
    let store = store();
    let missing = Path::new("/nonexistent/site");
    let error = store.trees.import(missing, &ImportOptions::default(), &quiet).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open the directory /nonexistent/site: No such file or directory (os error 2)"
    );
}

#[test]
fn a_digest_sees_content_and_not_circumstance() {
    let directory = everything();
    let top = directory.path();
    let digest = || digest_directory(top, &["noise".parse().unwrap()]).unwrap().id;
    let first = digest();
    set_time(&top.join("long"), 77);
    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(top.join("noise")).unwrap();
    assert_eq!(digest(), first);

    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let executable = digest();
    fs::write(top.join("empty"), "x").unwrap();
    let changed = digest();
    fs::rename(top.join("empty"), top.join("renamed")).unwrap();
    let renamed = digest();
    fs::remove_file(top.join("link")).unwrap();
    symlink("sites", top.join("link")).unwrap();
    let all = std::collections::BTreeSet::from([first, executable, changed, renamed, digest()]);
    assert_eq!(all.len(), 5);
}
