//! A disk that writes down all that is done to it: one file of a small FUSE file system, under a loop device.
//!
//! It is served by a process of its own (the test's executable, started again): a process that waits for a disk which it
//! serves itself cannot end. Requests are answered one after the other, so what was written when a flush comes had been
//! answered before, and is what the flush covers.
//!
//! On demand it refuses to read or write: [`Recorder::fail`].
//!
//! The recording is two files: `data` has the bytes of all writes, `index` 24 bytes for each write or flush: kind (0
//! write, 1 flush), offset on the disk, length.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, SessionACL,
    TimeOrNow, WriteFlags,
};
use rustix::mount::{MountFlags, UnmountFlags};

const DIRECTORY: &str = "SITEFS_TEST_RECORDING";
const BYTES: &str = "SITEFS_TEST_RECORDING_BYTES";
/// What is on the disk at the beginning, if it is not empty.
const IMAGE: &str = "SITEFS_TEST_RECORDING_IMAGE";

/// What an entry of the index takes, in bytes.
pub(crate) const ENTRY_BYTES: usize = 24;

const ROOT: INodeNo = INodeNo(1);
const DISK: INodeNo = INodeNo(2);
/// The whole disk.
pub(crate) const EVERYTHING: Range<u64> = 0..u64::MAX;

const TTL: Duration = Duration::from_secs(3600);

/// A recorded disk.
pub(crate) struct Recorder {
    directory: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What the disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Flushes too, where all of the disk refuses to be written.
    Write,
}

impl Recorder {
    /// Begins a recording in the existing, empty `directory`.
    pub(crate) fn start(directory: &Path, bytes: u64) -> Recorder {
        Recorder::start_with(directory, |command| command.env(BYTES, bytes.to_string()))
    }

    /// The same of a disk that is as `image`.
    pub(crate) fn start_on(directory: &Path, image: &Path) -> Recorder {
        Recorder::start_with(directory, |command| command.env(IMAGE, image))
    }

    fn start_with(directory: &Path, disk: impl FnOnce(&mut Command) -> &mut Command) -> Recorder {
        fs::create_dir(directory.join("mount")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = disk(&mut command)
            .args(["recording_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut recorder = Recorder { directory: directory.to_owned(), child, input, output };
        recorder.wait_for("recording");
        recorder
    }

    fn wait_for(&mut self, answer: &str) {
        let mut line = String::new();
        while line.trim_end() != answer {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the recorder ended");
        }
    }

    /// From now on the disk refuses `access` to these bytes, and to none that it refused before.
    pub(crate) fn fail(&mut self, access: Access, ranges: &[Range<u64>]) {
        let ranges: Vec<String> =
            ranges.iter().map(|range| format!(" {} {}", range.start, range.end)).collect();
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{access:?}{}", ranges.concat()).unwrap();
        input.flush().unwrap();
        self.wait_for("done");
    }

    /// The disk is as good as new.
    pub(crate) fn heal(&mut self) {
        self.fail(Access::Read, &[]);
    }

    /// The disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.join("mount/disk")
    }

    /// How many writes and flushes have been recorded.
    pub(crate) fn position(&self) -> u64 {
        fs::metadata(self.directory.join("index")).unwrap().len() / ENTRY_BYTES as u64
    }

    /// Ends the recording; nothing may use the disk any more.
    pub(crate) fn finish(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success(), "the recorder failed");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The body of the test `recording_process`: does nothing unless it was started by [`Recorder::start`]. Ends, and takes
/// the mount away, when its standard input does: with whoever started it.
pub(crate) fn record() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let image = match std::env::var_os(IMAGE) {
        Some(image) => fs::read(image).unwrap(),
        None => vec![0; std::env::var(BYTES).unwrap().parse().unwrap()],
    };
    let create =
        |name: &str| OpenOptions::new().append(true).create_new(true).open(directory.join(name)).unwrap();
    let (data, index) = (create("data"), create("index"));
    let state = State { image, data, index, refused: Access::Read, ranges: Vec::new() };
    let disk = Disk { state: Arc::new(Mutex::new(state)) };
    let state = Arc::clone(&disk.state);
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let mount = directory.join("mount");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("disk", &mount, "fuse.disk", MountFlags::empty(), options.as_c_str()).unwrap();
    let mut config = Config::default();
    config.n_threads = Some(1);
    let session = fuser::Session::from_fd(disk, OwnedFd::from(device), SessionACL::Owner, config).unwrap();
    let session = session.spawn().unwrap();
    println!("\nrecording");
    for line in std::io::stdin().lines() {
        state.lock().unwrap().obey(&line.unwrap());
        println!("\ndone");
    }
    rustix::mount::unmount(&mount, UnmountFlags::DETACH).unwrap();
    drop(session);
}

struct Disk {
    state: Arc<Mutex<State>>,
}

struct State {
    image: Vec<u8>,
    data: File,
    index: File,
    /// What is refused to `ranges`.
    refused: Access,
    ranges: Vec<Range<u64>>,
}

impl State {
    /// Does what [`Recorder::fail`] asks for.
    fn obey(&mut self, line: &str) {
        let mut words = line.split(' ');
        self.refused = if words.next() == Some("Write") { Access::Write } else { Access::Read };
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        self.ranges = numbers.chunks(2).map(|pair| pair[0]..pair[1]).collect();
    }

    fn refuses(&self, access: Access, offset: u64, length: u64) -> bool {
        let overlaps = |range: &Range<u64>| range.start < offset + length && offset < range.end;
        access == self.refused && self.ranges.iter().any(overlaps)
    }

    fn note(&mut self, kind: u64, offset: u64, length: u64) {
        let mut entry = [0; ENTRY_BYTES];
        for (place, number) in entry.chunks_exact_mut(8).zip([kind, offset, length]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.index.write_all(&entry).unwrap();
    }
}

impl Disk {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let size = if node == DISK { self.state.lock().unwrap().image.len() as u64 } else { 0 };
        FileAttr {
            ino: node,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if node == DISK { FileType::RegularFile } else { FileType::Directory },
            perm: if node == DISK { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk") => reply.entry(&TTL, &self.attributes(DISK), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nothing is read ahead or kept in memory: a place that cannot be read fails nobody who did not ask for it.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(if node == DISK { DISK } else { ROOT }));
    }

    fn setattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<std::time::SystemTime>,
        _changed_on_macos: Option<std::time::SystemTime>,
        _backed_up: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Times, after writes. The disk has none.
        reply.attr(&TTL, &self.attributes(node));
    }

    fn read(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state.lock().unwrap();
        if state.refuses(Access::Read, offset, size.into()) {
            return reply.error(Errno::EIO);
        }
        let start = (offset as usize).min(state.image.len());
        let end = (start + size as usize).min(state.image.len());
        reply.data(&state.image[start..end]);
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state.lock().unwrap();
        if state.refuses(Access::Write, offset, bytes.len() as u64) {
            return reply.error(Errno::EIO);
        }
        let start = offset as usize;
        if start + bytes.len() > state.image.len() {
            return reply.error(Errno::ENOSPC);
        }
        state.image[start..start + bytes.len()].copy_from_slice(bytes);
        state.data.write_all(bytes).unwrap();
        state.note(0, offset, bytes.len() as u64);
        reply.written(bytes.len() as u32);
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _node: INodeNo, _handle: FileHandle, _data: bool, reply: ReplyEmpty) {
        let mut state = self.state.lock().unwrap();
        if state.refused == Access::Write && state.ranges.first() == Some(&EVERYTHING) {
            return reply.error(Errno::EIO);
        }
        state.note(1, 0, 0);
        reply.ok();
    }
}
