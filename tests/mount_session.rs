//! What the kernel keeps of a mount, who may use it, and how it ends.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends with what is wrong")]

mod common;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use common::{Served, as_nobody, errno, fill, noise};
use rustix::io::Errno;

#[test]
fn serving_process() {
    common::serve();
}

#[test]
fn a_listing_has_everything_that_stays_exactly_once() {
    let served = Served::start(true);
    let work = served.work();
    let count = 10_000;
    for number in 0..count {
        File::create(work.join(format!("stays-{number}"))).unwrap();
    }
    // Twice: the second listing may come from what the kernel kept of the first.
    for round in 0..2 {
        let mut seen = HashSet::new();
        for (index, entry) in fs::read_dir(&work).unwrap().enumerate() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("stays-") {
                assert!(seen.insert(name.clone()), "{name} came twice");
            }
            if index % 50 == 0 {
                File::create(work.join(format!("comes-{round}-{index}"))).unwrap();
            }
            if index % 50 == 25 {
                let _ = fs::remove_file(work.join(format!("comes-{round}-{}", index - 25)));
            }
        }
        assert_eq!(seen.len(), count);
    }
}

#[test]
fn other_users_have_what_permissions_give_them() {
    let served = Served::start(true);
    let work = served.work();
    fs::write(work.join("open"), "text").unwrap();
    fs::write(work.join("closed"), "secret").unwrap();
    fs::set_permissions(work.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(work.join("shared")).unwrap();
    fs::set_permissions(work.join("shared"), fs::Permissions::from_mode(0o2777)).unwrap();
    std::os::unix::fs::chown(work.join("shared"), None, Some(33)).unwrap();
    let work = work.display();
    as_nobody(&format!("test text = \"$(cat {work}/open)\""), true);
    as_nobody(&format!("cat {work}/closed"), false);
    as_nobody(&format!("touch {work}/new"), false);
    as_nobody(&format!("umask 027; mkdir {work}/shared/dir && echo x > {work}/shared/dir/file"), true);
    let metadata = fs::metadata(served.work().join("shared/dir/file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (65534, 33, 0o640));
    let metadata = fs::metadata(served.work().join("shared/dir")).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (33, 0o2750));
}

#[test]
fn special_files_are_made_and_devices_are_of_no_use() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let mut served = Served::start(true);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, served.work().join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let device = served.work().join("device");
    let number = rustix::fs::makedev(7, 300);
    mknodat(CWD, &device, FileType::CharacterDevice, mode, number).unwrap();
    mknodat(CWD, served.work().join("disk"), FileType::BlockDevice, mode, number).unwrap();
    let found = rustix::fs::stat(&device).unwrap();
    assert_eq!((FileType::from_raw_mode(found.st_mode), found.st_rdev), (FileType::CharacterDevice, number));
    assert_eq!(errno(File::open(&device)), Some(Errno::ACCESS.raw_os_error()));
    let socket = std::os::unix::net::UnixListener::bind(served.work().join("socket")).unwrap();
    std::os::unix::net::UnixStream::connect(served.work().join("socket")).unwrap();
    drop(socket);
    // A snapshot keeps what means something without the machine.
    served.freeze("snapshot", || ());
    let kept: Vec<_> = fs::read_dir(served.root().join("snapshot"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["pipe"]);
}

#[test]
fn what_was_missing_is_seen_as_soon_as_the_namespace_has_it() {
    let mut served = Served::start(true);
    let root = served.root();
    let names =
        || -> HashSet<_> { fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    for _ in 0..20 {
        // The kernel keeps that it is missing, and the listing.
        assert!(root.join("new").symlink_metadata().is_err());
        assert!(!names().contains("new".as_ref() as &std::ffi::OsStr));
        served.tell("add new");
        assert!(root.join("new").symlink_metadata().is_ok());
        assert!(names().contains("new".as_ref() as &std::ffi::OsStr));
        served.tell("remove new");
    }
}

#[test]
fn a_switched_link_is_seen_by_whoever_looks_after_the_flush() {
    let mut served = Served::start(true);
    let link = served.root().join("live/site");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("one"));
    for number in 0..200 {
        let target = format!("target-{number}");
        served.tell(&format!("switch {target}"));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(&target));
        assert_eq!(fs::symlink_metadata(&link).unwrap().len(), target.len() as u64);
    }
}

/// Everything that can be asked about names.
/// Not by `find`, which asks for the kind of the file system before it trusts link counts: that always comes to us.
fn walk(root: &Path) {
    let program = r"
import os, sys
os.chdir(sys.argv[1])
for directory, directories, files in os.walk('.'):
    for name in directories + files:
        path = os.path.join(directory, name)
        os.lstat(path)
        if os.path.islink(path):
            os.readlink(path)
for missing in ['missing', 'deep/missing']:
    assert not os.path.lexists(missing)
";
    let status = Command::new("python3").args(["-c", program]).arg(root).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_was_looked_at_once_is_answered_by_the_kernel() {
    let served = Served::start_with(true, fill);
    let base = served.root().join("base");
    walk(&base);
    walk(&base);
    served.while_stopped(|| walk(&base));
}

/// Else the program would ask over and over, with all of a processor, whether there is something to do.
#[test]
fn the_program_sleeps_until_the_kernel_asks() {
    let served = Served::start(true);
    let process = format!("/proc/{}", served.process());
    let mut devices = 0;
    for entry in fs::read_dir(format!("{process}/fd")).unwrap() {
        let entry = entry.unwrap();
        if fs::read_link(entry.path()).is_ok_and(|file| file == Path::new("/dev/fuse")) {
            let number = entry.file_name().into_string().unwrap();
            let facts = fs::read_to_string(format!("{process}/fdinfo/{number}")).unwrap();
            let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            let flags = u32::from_str_radix(flags, 8).unwrap();
            assert_eq!(flags & rustix::fs::OFlags::NONBLOCK.bits(), 0, "{facts}");
            devices += 1;
        }
    }
    assert!(devices > 0);
}

#[test]
fn open_files_are_read_and_written_past_the_program() {
    let served = Served::start_with(true, fill);
    if !kernel_has_passthrough() {
        eprintln!("skipped: this kernel has no passthrough for FUSE");
        return;
    }
    let path = served.work().join("file");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    let large = File::open(served.root().join("base/deep/er/large")).unwrap();
    // The first write asks whether the file has capabilities to lose.
    file.write_all_at(b"x", 0).unwrap();
    served.while_stopped(|| {
        file.write_all_at(&noise(1 << 20), 0).unwrap();
        let mut end = [0; 100];
        file.read_exact_at(&mut end, (1 << 20) - 100).unwrap();
        assert!(end == noise(1 << 20)[(1 << 20) - 100..]);
        large.read_exact_at(&mut end, 8 << 20).unwrap();
    });
    // The size is the backing file's from the first moment on.
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    let other = File::open(&path).unwrap();
    drop(file);
    served.while_stopped(|| other.read_exact_at(&mut [0; 100], 0).unwrap());
}

/// Linux 6.9 has it.
fn kernel_has_passthrough() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

#[test]
fn a_killed_server_leaves_what_was_written_to_the_next() {
    let mut served = Served::start(true);
    fs::write(served.work().join("file"), "text").unwrap();
    File::open(served.work()).unwrap().sync_all().unwrap();
    let number = fs::metadata(served.work().join("file")).unwrap().ino();
    served.kill();
    common::unmount_below(&served.root());
    served.start_again();
    assert_eq!(fs::read(served.work().join("file")).unwrap(), b"text");
    assert_eq!(fs::metadata(served.work().join("file")).unwrap().ino(), number);
}

#[test]
fn unmounting_what_is_in_use_ends_the_use() {
    let mut served = Served::start(true);
    fs::write(served.work().join("file"), "text").unwrap();
    let file = File::open(served.work().join("file")).unwrap();
    served.tell("unmount");
    assert!(fs::read_dir(served.root()).unwrap().next().is_none(), "the directory below is back");
    assert!(file.metadata().is_err());
}

#[test]
fn unmounting_ends_with_every_copy_of_the_mount() {
    let mut served = Served::start(true);
    fs::write(served.work().join("file"), "text").unwrap();
    let copy = served.directory().join("bound");
    fs::create_dir(&copy).unwrap();
    rustix::mount::mount_bind(served.work(), &copy).unwrap();
    // A namespace that takes part in no propagation has a copy that cannot be unmounted from here.
    let mut service = common::in_mount_namespace("private");
    served.tell("unmount");
    assert!(fs::read_dir(&copy).unwrap().next().is_none());
    assert!(fs::read_dir(served.root()).unwrap().next().is_none());
    service.kill().unwrap();
    service.wait().unwrap();
}

#[test]
fn a_killed_server_leaves_a_dead_mount() {
    let mut served = Served::start(true);
    fs::write(served.work().join("file"), "text").unwrap();
    served.kill();
    let dead = Some(Errno::NOTCONN.raw_os_error());
    assert_eq!(errno(fs::read(served.work().join("file"))), dead);
    assert_eq!(errno(fs::read_dir(served.root())), dead);
    assert_eq!(errno(fs::create_dir(served.root().join("x"))), dead);
}
