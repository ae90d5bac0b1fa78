//! What programs see through a mount, with and without passthrough.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends with what is wrong")]

mod common;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Served, as_nobody, both_ways, errno, fill, noise};
use rustix::io::Errno;

#[test]
fn serving_process() {
    common::serve();
}

both_ways!(
    files_are_written_and_read_back,
    names_change,
    a_directory_has_a_link_for_each_directory_in_it,
    a_removed_file_lives_while_it_is_open,
    readers_see_what_others_write,
    many_open_and_close_the_same_files_at_once,
    attributes_change,
    extended_attributes_are_kept,
    space_is_allocated_and_holes_are_found,
    a_mapping_is_written_through,
    a_database_in_wal_mode_works,
    a_tree_is_shown_as_it_was_taken_in,
    a_changed_copy_leaves_the_tree_alone,
);

fn files_are_written_and_read_back(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    fs::write(&path, "hello").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    let mut appending = OpenOptions::new().append(true).open(&path).unwrap();
    let mut other = OpenOptions::new().append(true).open(&path).unwrap();
    appending.write_all(b" my").unwrap();
    other.write_all(b" dear").unwrap();
    appending.write_all(b" world").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 19);
    drop((appending, other));
    assert_eq!(fs::read(&path).unwrap(), b"hello my dear world");

    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    file.write_all(b"MY").unwrap();
    file.set_len(8).unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello MY");
    file.sync_all().unwrap();
    drop(file);
    // Opening for writing empties it; a longer file is full of zeros where nothing was written.
    let file = File::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    file.write_at(b"x", 4999).unwrap();
    drop(file);
    let content = fs::read(&path).unwrap();
    assert_eq!((content.len(), content[0], content[4999]), (5000, 0, b'x'));

    let large = noise(20 << 20);
    let path = served.work().join("large");
    fs::write(&path, &large).unwrap();
    assert!(fs::read(&path).unwrap() == large);
    let copied = served.work().join("copied");
    fs::copy(&path, &copied).unwrap();
    assert!(fs::read(&copied).unwrap() == large);

    assert_eq!(
        errno(OpenOptions::new().write(true).create_new(true).open(&path)),
        Some(Errno::EXIST.raw_os_error())
    );
    assert_eq!(errno(File::open(served.work().join("missing"))), Some(Errno::NOENT.raw_os_error()));
}

fn names_change(passthrough: bool) {
    let served = Served::start(passthrough);
    let work = served.work();
    fs::create_dir(work.join("a")).unwrap();
    fs::write(work.join("a/one"), "1").unwrap();
    fs::rename(work.join("a/one"), work.join("two")).unwrap();
    assert!(!work.join("a/one").exists());
    fs::write(work.join("three"), "3").unwrap();
    fs::rename(work.join("two"), work.join("three")).unwrap();
    assert_eq!(fs::read(work.join("three")).unwrap(), b"1");
    fs::rename(work.join("a"), work.join("b")).unwrap();

    let cwd = rustix::fs::CWD;
    fs::write(work.join("four"), "4").unwrap();
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    let refused = rustix::fs::renameat_with(cwd, work.join("three"), cwd, work.join("four"), flags);
    assert_eq!(refused, Err(Errno::EXIST));
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(cwd, work.join("three"), cwd, work.join("four"), flags).unwrap();
    assert_eq!(fs::read(work.join("four")).unwrap(), b"1");

    symlink("four", work.join("link")).unwrap();
    assert_eq!(fs::read_link(work.join("link")).unwrap(), Path::new("four"));
    assert_eq!(fs::read(work.join("link")).unwrap(), b"1");
    fs::hard_link(work.join("four"), work.join("b/again")).unwrap();
    fs::write(work.join("four"), "44").unwrap();
    assert_eq!(fs::read(work.join("b/again")).unwrap(), b"44");
    let (one, other) =
        (fs::metadata(work.join("four")).unwrap(), fs::metadata(work.join("b/again")).unwrap());
    assert_eq!((one.ino(), one.nlink()), (other.ino(), 2));
    fs::remove_file(work.join("four")).unwrap();
    assert_eq!(fs::metadata(work.join("b/again")).unwrap().nlink(), 1);

    assert_eq!(errno(fs::remove_dir(work.join("b"))), Some(Errno::NOTEMPTY.raw_os_error()));
    fs::remove_file(work.join("b/again")).unwrap();
    fs::remove_dir(work.join("b")).unwrap();
    assert_eq!(
        errno(fs::rename(work.join("three"), served.root().join("copy/x"))),
        Some(Errno::XDEV.raw_os_error())
    );
    let names: HashSet<_> = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["three", "link"].map(Into::into).into());
}

fn a_directory_has_a_link_for_each_directory_in_it(passthrough: bool) {
    let served = Served::start(passthrough);
    let work = served.work();
    let links = |path: &str| fs::metadata(work.join(path)).unwrap().nlink();
    fs::create_dir_all(work.join("a/one")).unwrap();
    fs::create_dir_all(work.join("a/two")).unwrap();
    fs::create_dir(work.join("b")).unwrap();
    fs::write(work.join("b/file"), "").unwrap();
    assert_eq!((links("."), links("a"), links("a/one"), links("b")), (4, 4, 2, 2));
    fs::rename(work.join("a/one"), work.join("b/one")).unwrap();
    assert_eq!((links("a"), links("b")), (3, 3));
    fs::rename(work.join("b/one"), work.join("a/two")).unwrap();
    assert_eq!((links("a"), links("b")), (3, 2));
    let cwd = rustix::fs::CWD;
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(cwd, work.join("a/two"), cwd, work.join("b/file"), flags).unwrap();
    assert_eq!((links("a"), links("b")), (2, 3));
    let removed = File::open(work.join("b/file")).unwrap();
    fs::remove_dir(work.join("b/file")).unwrap();
    assert_eq!((links("b"), removed.metadata().unwrap().nlink()), (2, 0));
    // What is stored, and what the daemon itself shows.
    let stored = |path: &str| fs::metadata(served.root().join(path)).unwrap().nlink();
    assert_eq!(stored("base"), 2 + directories(&served.root().join("base")));
    assert_eq!(stored("."), 2 + directories(&served.root()));
}

fn directories(of: &Path) -> u64 {
    fs::read_dir(of).unwrap().filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir()).count()
        as u64
}

fn a_removed_file_lives_while_it_is_open(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another").unwrap();
    file.write_all(b" after").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after");
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.nlink(), metadata.len()), (0, 12));
}

fn readers_see_what_others_write(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    fs::write(&path, "before").unwrap();
    let reader = File::open(&path).unwrap();
    let mut content = [0; 6];
    reader.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"before");
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(b"after, and longer", 0).unwrap();
    let later = File::open(&path).unwrap();
    for reader in [&reader, &later] {
        reader.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"after,");
        assert_eq!(reader.metadata().unwrap().len(), 17);
    }
    writer.set_len(3).unwrap();
    assert_eq!(reader.read_at(&mut content, 0).unwrap(), 3);
    drop((reader, writer, later));
    assert_eq!(fs::read(&path).unwrap(), b"aft");
}

/// Files are handed from the program to the kernel and back with each pair of opens, and must never be in both.
fn many_open_and_close_the_same_files_at_once(passthrough: bool) {
    // What is read past the program from a file that never changes is replaced as soon as somebody wants to write.
    let served = Served::start_with(passthrough, |content| {
        for number in 0..8 {
            fs::write(content.join(format!("{number}")), noise(5 << 20)).unwrap();
        }
    });
    let mut paths: Vec<_> = ["work/one", "work/two"].map(|path| served.root().join(path)).into();
    paths.extend((0..8).map(|number| served.root().join(format!("copy/{number}"))));
    for path in &paths[..2] {
        fs::write(path, noise(5000)).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let paths = &paths;
            scope.spawn(move || {
                for round in 0..500_usize {
                    let path = &paths[round / 16 % paths.len()];
                    let writes = (thread * 7 + round) % 3 == 0;
                    let file = OpenOptions::new().read(true).write(writes).open(path).unwrap();
                    let mut content = [0; 16];
                    file.read_at(&mut content, (round * 13 % 80) as u64).unwrap();
                    if writes {
                        file.write_all_at(&content, (round * 17 % 80) as u64).unwrap();
                    }
                    assert!(file.metadata().unwrap().len() >= 100);
                }
            });
        }
    });
}

fn attributes_change(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o6755).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o6755);
    std::os::unix::fs::chown(&path, Some(33), Some(34)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (33, 34));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4711);
    drop(file);
    // As on any disk, writing by someone who is not root takes set-user-id away.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4777)).unwrap();
    as_nobody(&format!("echo changed > {}", path.display()), true);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);

    let file = File::open(&path).unwrap();
    let time = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    file.set_modified(time).unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), time);
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    file.set_modified(time).unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
    // A name made in a directory changes the directory's time.
    let before = fs::metadata(served.work()).unwrap().modified().unwrap();
    fs::write(served.work().join("other"), "").unwrap();
    assert!(fs::metadata(served.work()).unwrap().modified().unwrap() > before);

    let space = rustix::fs::statvfs(served.work()).unwrap();
    let store = rustix::fs::statvfs(served.directory().join("store")).unwrap();
    assert_eq!((space.f_blocks, space.f_frsize, space.f_namemax), (store.f_blocks, store.f_frsize, 255));
}

fn extended_attributes_are_kept(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    fs::write(&path, "").unwrap();
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "user.one", b"1", none).unwrap();
    rustix::fs::setxattr(&path, "user.two", &[7; 3000], none).unwrap();
    let mut value = [0; 4096];
    assert_eq!(rustix::fs::getxattr(&path, "user.two", &mut value).unwrap(), 3000);
    assert_eq!(rustix::fs::getxattr(&path, "user.two", &mut [0; 10][..]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(&path, "user.no", &mut value), Err(Errno::NODATA));
    let length = rustix::fs::listxattr(&path, &mut value).unwrap();
    assert_eq!(&value[..length], b"user.one\0user.two\0");
    let create = rustix::fs::XattrFlags::CREATE;
    assert_eq!(rustix::fs::setxattr(&path, "user.one", b"2", create), Err(Errno::EXIST));
    let replace = rustix::fs::XattrFlags::REPLACE;
    assert_eq!(rustix::fs::setxattr(&path, "user.no", b"2", replace), Err(Errno::NODATA));
    rustix::fs::removexattr(&path, "user.one").unwrap();
    assert_eq!(rustix::fs::getxattr(&path, "user.one", &mut value), Err(Errno::NODATA));
    // What others than root may not read they are not shown, or copying would fail.
    rustix::fs::setxattr(&path, "trusted.one", b"1", none).unwrap();
    fs::set_permissions(served.work(), fs::Permissions::from_mode(0o777)).unwrap();
    let (from, to) = (path.display(), served.work().join("copy"));
    as_nobody(&format!("cp --preserve=xattr {from} {}", to.display()), true);
    let length = rustix::fs::listxattr(&to, &mut value).unwrap();
    assert_eq!(&value[..length], b"user.two\0");
}

fn space_is_allocated_and_holes_are_found(passthrough: bool) {
    use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 10_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    file.write_at(&[1; 1 << 20], 0).unwrap();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 1 << 19).unwrap();
    let mut byte = [9];
    file.read_at(&mut byte, 1000).unwrap();
    assert_eq!(byte, [0]);
    let data = seek(&file, SeekFrom::Data(0)).unwrap();
    assert!(data <= 1 << 19, "{data}");
    assert_eq!(seek(&file, SeekFrom::Hole(1 << 19)).unwrap(), 1 << 20);
    assert_eq!(seek(&file, SeekFrom::Data(1 << 21)), Err(Errno::NXIO));
}

fn a_mapping_is_written_through(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("file");
    fs::write(&path, noise(100_000)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::open(&path).unwrap().set_modified(old).unwrap();
    let script = "import mmap, os, sys\n\
        with open(sys.argv[1], 'r+b') as file:\n\
        \x20   mapping = mmap.mmap(file.fileno(), 0)\n\
        \x20   mapping[50000:50005] = b'hello'\n\
        \x20   mapping.flush()\n\
        \x20   assert os.stat(sys.argv[1]).st_mtime > 1000000000\n\
        \x20   assert mapping[49999:50000] != b''\n";
    let Ok(output) = Command::new("python3").args(["-c", script]).arg(&path).output() else {
        eprintln!("skipped: there is no python3 to map a file with");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(&fs::read(&path).unwrap()[50_000..50_005], b"hello");
    assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    // The kernel sends the release after close(2) has returned.
    let started = std::time::Instant::now();
    while fs::metadata(&path).unwrap().modified().unwrap() == old {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "the time did not change");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn a_database_in_wal_mode_works(passthrough: bool) {
    let served = Served::start(passthrough);
    let path = served.work().join("site.sqlite");
    let open = || rusqlite::Connection::open(&path).unwrap();
    let writer = open();
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    writer.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT)", []).unwrap();
    let reader = open();
    for id in 0..200 {
        writer.execute("INSERT INTO page VALUES (?1, ?2)", (id, "x".repeat(500))).unwrap();
        let count: i64 = reader.query_row("SELECT count(*) FROM page", [], |row| row.get(0)).unwrap();
        assert_eq!(count, id + 1);
    }
    drop((reader, writer));
    assert_eq!(fs::read_dir(served.work()).unwrap().count(), 1, "the log was taken into the database");
    let verdict: String = open().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// `path mode size mtime target` of everything below a directory, sorted, sizes of directories left out.
fn listing(directory: &Path) -> String {
    let script = r#"cd "$1" && find . -mindepth 1 \( -type d -printf '%p %M %n %T@\n' \) -o -printf '%p %M %n %s %T@ %l\n' | sort"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(directory).output().unwrap();
    assert!(output.status.success());
    // Directories have one link here, whatever they have there.
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[1].starts_with('d') {
            words.remove(2);
        }
        words.join(" ") + "\n"
    });
    lines.collect()
}

fn assert_same(one: &Path, other: &Path) {
    assert_eq!(listing(one), listing(other));
    let status = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).status().unwrap();
    assert!(status.success());
}

fn a_tree_is_shown_as_it_was_taken_in(passthrough: bool) {
    let served = Served::start_with(passthrough, fill);
    let (content, base) = (served.directory().join("content"), served.root().join("base"));
    assert_same(&content, &base);
    assert_same(&content, &base);
    let same = |path: &str| fs::metadata(base.join(path)).unwrap().ino();
    assert_eq!(same("small"), same("deep/small"));
    let read_only = Some(Errno::ROFS.raw_os_error());
    assert_eq!(errno(fs::write(base.join("small"), "")), read_only);
    assert_eq!(errno(fs::write(base.join("new"), "")), read_only);
    assert_eq!(errno(fs::remove_file(base.join("small"))), read_only);
    assert_eq!(errno(fs::write(served.root().join("new"), "")), read_only);
    assert_eq!(errno(fs::create_dir(served.root().join("live/new"))), read_only);
    assert_eq!(errno(fs::remove_dir(served.root().join("live"))), read_only);
}

fn a_changed_copy_leaves_the_tree_alone(passthrough: bool) {
    let served = Served::start_with(passthrough, fill);
    let (content, base, copy) =
        (served.directory().join("content"), served.root().join("base"), served.root().join("copy"));
    // Being read past this program while it is written to: the reader has the old file, or the new bytes of it.
    let mut before = Vec::new();
    let mut reader = File::open(copy.join("deep/er/large")).unwrap();
    let mut writer = OpenOptions::new().write(true).open(copy.join("deep/er/large")).unwrap();
    writer.write_all(b"changed").unwrap();
    drop(writer);
    reader.read_to_end(&mut before).unwrap();
    let original = fs::read(content.join("deep/er/large")).unwrap();
    assert!(before[7..] == original[7..]);
    let after = fs::read(copy.join("deep/er/large")).unwrap();
    assert!(after.starts_with(b"changed") && after[7..] == original[7..]);

    let mut text = OpenOptions::new().append(true).open(copy.join("text")).unwrap();
    text.write_all(b"the end").unwrap();
    drop(text);
    assert!(fs::read_to_string(copy.join("text")).unwrap().ends_with("a line\nthe end"));
    fs::write(copy.join("deep/small"), "both names").unwrap();
    assert_eq!(fs::read(copy.join("small")).unwrap(), b"both names");
    fs::remove_file(copy.join("deep/7")).unwrap();
    fs::rename(copy.join("deep/er"), copy.join("moved")).unwrap();
    assert!(fs::read(copy.join("moved/large")).unwrap() == after);
    assert_same(&content, &base);
}
