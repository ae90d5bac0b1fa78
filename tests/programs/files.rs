//! Names and contents of files: what ext4 does, done here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, inotify};
use rustix::io::Errno;

use crate::common::{Served, errno, fill};
use crate::{both_ways, python};

both_ways!(
    times_have_the_order_of_what_was_done,
    what_is_not_supported_is_refused_as_usual,
    a_running_program_is_not_emptied,
    a_file_handle_means_the_same_file_after_a_restart,
    an_open_file_may_be_renamed_and_replaced,
    changes_are_told_to_who_watches,
    numbers_are_the_same_after_a_remount,
);

const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Changes two files in turn. No time may be before that of what was done before; returns how often a change of a file
/// that was looked at before showed no later time.
fn change_in_turn(directory: &Path) -> usize {
    let (written, touched) = (directory.join("written"), directory.join("touched"));
    for path in [&written, &touched] {
        fs::write(path, "content").unwrap();
    }
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let changed = |path: &Path| fs::metadata(path).map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
    let mut file = OpenOptions::new().append(true).open(&written).unwrap();
    let mut unseen = 0;
    for number in 0..300 {
        let made = directory.join(format!("{number}"));
        File::create(&made).unwrap();
        file.write_all(b"x").unwrap();
        assert!(
            modified(&made) <= modified(&written),
            "{number}: a write is older than a file made before it"
        );
        rustix::fs::utimensat(rustix::fs::CWD, &touched, &NOW, AtFlags::empty()).unwrap();
        assert!(modified(&written) <= modified(&touched), "{number}: touched in the past");
        fs::set_permissions(&written, Permissions::from_mode(0o600 + number % 2)).unwrap();
        let (before, older) = (changed(&written), modified(&written));
        file.write_all(b"x").unwrap();
        let (after, newer) = (changed(&written), modified(&written));
        assert!(before <= after && older <= newer, "{number}: a write took the file back in time");
        unseen += usize::from(before == after) + usize::from(older == newer);
    }
    unseen
}

fn times_have_the_order_of_what_was_done(passthrough: bool) {
    let served = Served::start(passthrough);
    let there = served.directory().join("there");
    fs::create_dir(&there).unwrap();
    let unseen = change_in_turn(&served.work());
    // Linux shows each change to who looks since 6.13.
    assert!(unseen == 0 || change_in_turn(&there) > 0, "{unseen} changes showed no later time");
}

fn an_open_file_may_be_renamed_and_replaced(passthrough: bool) {
    let served = Served::start(passthrough);
    let work = served.work();
    fs::create_dir(work.join("directory")).unwrap();
    let mut one = OpenOptions::new().read(true).write(true).create_new(true).open(work.join("one")).unwrap();
    one.write_all(b"one").unwrap();
    fs::rename(work.join("one"), work.join("directory/moved")).unwrap();
    one.write_all(b" moved").unwrap();
    assert_eq!(fs::read(work.join("directory/moved")).unwrap(), b"one moved");
    fs::write(work.join("new"), "new").unwrap();
    let mut replaced = File::open(work.join("directory/moved")).unwrap();
    fs::rename(work.join("new"), work.join("directory/moved")).unwrap();
    one.write_all(b" and replaced").unwrap();
    let mut text = String::new();
    replaced.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one moved and replaced");
    assert_eq!(
        (one.metadata().unwrap().nlink(), fs::read(work.join("directory/moved")).unwrap()),
        (0, b"new".into())
    );
    // A directory that somebody is in goes, too.
    let inside = File::open(work.join("directory")).unwrap();
    fs::remove_file(work.join("directory/moved")).unwrap();
    fs::remove_dir(work.join("directory")).unwrap();
    let made =
        rustix::fs::openat(&inside, "late", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
    assert_eq!(made.err(), Some(Errno::NOENT));
}

#[test]
fn names_that_are_too_long_are_refused() {
    let served = Served::start(true);
    let longest = served.work().join("x".repeat(255));
    fs::write(&longest, "kept").unwrap();
    assert_eq!(fs::read(&longest).unwrap(), b"kept");
    let too_long = served.work().join("x".repeat(256));
    let refused = Some(Errno::NAMETOOLONG.raw_os_error());
    assert_eq!(errno(fs::write(&too_long, "")), refused);
    assert_eq!(errno(fs::metadata(&too_long)), refused);
    assert_eq!(errno(fs::create_dir(&too_long)), refused);
    assert_eq!(errno(fs::rename(&longest, &too_long)), refused);
    assert_eq!(errno(fs::hard_link(&longest, &too_long)), refused);
    let link = |length: usize| {
        std::os::unix::fs::symlink("t".repeat(length), served.work().join(format!("{length}")))
    };
    link(4095).unwrap();
    assert_eq!(errno(link(4096)), refused);
    assert_eq!(fs::read_link(served.work().join("4095")).unwrap().as_os_str().len(), 4095);
}

fn changes_are_told_to_who_watches(passthrough: bool) {
    let served = Served::start(passthrough);
    let work = served.work();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &work, inotify::WatchFlags::ALL_EVENTS).unwrap();
    fs::write(work.join("file"), "content").unwrap();
    fs::rename(work.join("file"), work.join("moved")).unwrap();
    fs::set_permissions(work.join("moved"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(work.join("moved")).unwrap();
    fs::create_dir(work.join("directory")).unwrap();
    let mut seen: HashMap<String, inotify::ReadFlags> = HashMap::new();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    while let Ok(event) = reader.next() {
        let name = event.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = seen.entry(name).or_insert(inotify::ReadFlags::empty());
        *known |= event.events();
    }
    use inotify::ReadFlags as F;
    assert!(seen["file"].contains(F::CREATE | F::MODIFY | F::CLOSE_WRITE | F::MOVED_FROM), "{seen:?}");
    assert!(seen["moved"].contains(F::MOVED_TO | F::ATTRIB | F::DELETE), "{seen:?}");
    assert!(seen["directory"].contains(F::CREATE | F::ISDIR), "{seen:?}");
}

fn numbers(directory: &Path, found: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            numbers(&path, found);
        }
        found.insert(path, metadata.ino());
    }
}

fn numbers_are_the_same_after_a_remount(passthrough: bool) {
    let mut served = Served::start_with(passthrough, fill);
    let copy = served.root().join("copy");
    // Changed, made, renamed and linked ones among them.
    fs::write(copy.join("deep/5"), "changed").unwrap();
    fs::write(copy.join("made"), "made").unwrap();
    fs::rename(copy.join("deep/er"), copy.join("moved")).unwrap();
    fs::hard_link(copy.join("text"), copy.join("moved/text")).unwrap();
    let mut before = BTreeMap::new();
    numbers(&served.root(), &mut before);
    assert!(before.len() > 600);
    for clean in [true, false] {
        if clean {
            served.stop();
        } else {
            rustix::fs::syncfs(File::open(&copy).unwrap()).unwrap();
            File::open(copy.join("made")).unwrap().sync_all().unwrap();
            served.kill();
            crate::common::unmount_below(&served.root());
        }
        served.start_again();
        let mut after = BTreeMap::new();
        numbers(&served.root(), &mut after);
        assert!(before == after);
    }
}

/// As `find` and `rm -r` see a cache directory that PHP goes on filling.
#[test]
fn a_hundred_thousand_entries_are_listed_while_others_come_and_go() {
    const COUNT: usize = 100_000;
    let served = Served::start_with(true, |content| {
        fs::create_dir(content.join("many")).unwrap();
        for number in 0..COUNT {
            File::create(content.join(format!("many/stays-{number}"))).unwrap();
        }
    });
    let many = served.root().join("copy/many");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut round = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let (one, other) = (many.join(format!("comes-{round}")), many.join(format!("goes-{round}")));
                fs::write(&one, "x").unwrap();
                fs::rename(&one, &other).unwrap();
                fs::write(many.join(format!("stays-{}", round * 37 % COUNT)), "changed").unwrap();
                if round % 3 > 0 {
                    fs::remove_file(&other).unwrap();
                }
                round += 1;
            }
            round
        });
        for _ in 0..2 {
            let mut seen = HashSet::new();
            for entry in fs::read_dir(&many).unwrap() {
                let name = entry.unwrap().file_name();
                let stays = name.as_encoded_bytes().starts_with(b"stays-");
                assert!(seen.insert(name.clone()) || !stays, "{} twice", name.display());
            }
            for number in 0..COUNT {
                let name = format!("stays-{number}");
                assert!(seen.contains::<OsStr>(name.as_ref()), "{name} is missing");
            }
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(changing.join().unwrap() > 10, "changed meanwhile");
    });
}

#[test]
fn the_space_told_is_that_of_the_disk() {
    let served = Served::start(true);
    let (here, there) = (served.work(), served.directory().join("store"));
    let space = |path: &Path| rustix::fs::statvfs(path).unwrap();
    let (told, real) = (space(&here), space(&there));
    assert_eq!((told.f_blocks, told.f_bsize, told.f_files), (real.f_blocks, real.f_bsize, real.f_files));
    assert!(told.f_bavail <= told.f_bfree && told.f_bfree <= told.f_blocks);
    // Others use the disk at the same time; a gigabyte is far more than the tests do.
    let bytes = |told: &rustix::fs::StatVfs| told.f_bavail * told.f_frsize;
    assert!(bytes(&told).abs_diff(bytes(&real)) < 1 << 30);
}

fn a_running_program_is_not_emptied(passthrough: bool) {
    let served = Served::start(passthrough);
    let program = served.work().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    let refused: Vec<_> = [OFlags::RDONLY, OFlags::WRONLY]
        .map(|mode| rustix::fs::open(&program, mode | OFlags::TRUNC, Mode::empty()).err())
        .into();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(refused, [Some(Errno::TXTBSY); 2]);
    assert!(fs::read(&program).unwrap() == fs::read("/bin/sleep").unwrap());
    drop(rustix::fs::open(&program, OFlags::RDONLY | OFlags::TRUNC, Mode::empty()).unwrap());
    assert_eq!(fs::metadata(&program).unwrap().len(), 0);
}

fn a_file_handle_means_the_same_file_after_a_restart(passthrough: bool) {
    let mut served = Served::start(passthrough);
    let script = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
here = os.open('.', os.O_RDONLY)
def take(path):
    handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
    assert libc.name_to_handle_at(here, path.encode(), handle, ctypes.byref(ctypes.c_int()), 0) == 0, path
    return handle.raw
def find(handle):
    found = libc.open_by_handle_at(here, ctypes.create_string_buffer(handle), os.O_RDONLY)
    return found if found >= 0 else ctypes.get_errno()
if sys.argv[2] == 'take':
    os.makedirs('deep/er')
    for path, content in (('deep/er/file', 'inner'), ('gone', 'gone')):
        with open(path, 'w') as file:
            file.write(content)
    with open(sys.argv[1], 'wb') as kept:
        for path in ('deep/er/file', 'deep/er', '../live', 'gone'):
            kept.write(take(path))
    os.unlink('gone')
    os.sync()
else:
    with open(sys.argv[1], 'rb') as kept:
        handles = [kept.read(137) for _ in range(4)]
    assert os.read(find(handles[0]), 100) == b'inner'
    assert os.listdir(find(handles[1])) == ['file']
    assert os.readlink('/proc/self/fd/%d' % find(handles[1])) == os.getcwd() + '/deep/er'
    assert os.listdir(find(handles[2])) == ['site']
    assert find(handles[3]) == 116, 'ESTALE'
";
    let kept = served.directory().join("handles");
    python(script, &served.work(), &[&kept, Path::new("take")]);
    served.stop();
    served.start_again();
    python(script, &served.work(), &[&kept, Path::new("find")]);
}

fn what_is_not_supported_is_refused_as_usual(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r"
import ctypes, errno, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno]
def allocate(mode):
    if libc.fallocate(file, mode, ctypes.c_long(4096), ctypes.c_long(4096)) != 0:
        raise OSError(ctypes.get_errno(), 'fallocate')
file = os.open('file', os.O_RDWR | os.O_CREAT)
os.write(file, bytes(65536))
os.symlink('file', 'link')
COLLAPSE_RANGE, INSERT_RANGE, FIEMAP, GETFLAGS = 8, 32, 0xC020660B, 0x80086601
assert refused(lambda: os.open('.', os.O_RDWR | os.O_TMPFILE)) == 'ENOTSUP'
assert refused(lambda: allocate(COLLAPSE_RANGE)) == 'ENOTSUP'
assert refused(lambda: allocate(INSERT_RANGE)) == 'ENOTSUP'
assert refused(lambda: fcntl.ioctl(file, FIEMAP, bytes(32))) == 'ENOTSUP'
assert refused(lambda: fcntl.ioctl(file, GETFLAGS, bytes(8))) == 'ENOTTY'
assert refused(lambda: os.setxattr('link', 'trusted.x', b'1', follow_symlinks=False)) == 'ENOTSUP'
assert os.fstat(file).st_size == 65536
os.utime('file', (5, 7))
assert (os.stat('file').st_atime, os.stat('file').st_mtime) == (5, 7)
";
    python(script, &served.work(), &[]);
}
