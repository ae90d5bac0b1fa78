//! A disk that writes down all that is done to it: one file of a small FUSE file system, under a loop device.
//!
//! It is served by a process of its own (the test's executable, started again): a process that waits for a disk which it
//! serves itself cannot end. Requests are answered one after the other, so what was written when a flush comes had been
//! answered before, and is what the flush covers.
//!
//! The recording is two files: `data` has the bytes of all writes, `index` 24 bytes for each write or flush: kind (0
//! write, 1 flush), offset on the disk, length.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::mount::{MountFlags, UnmountFlags};

const DIRECTORY: &str = "SITEFS_TEST_RECORDING";
const BYTES: &str = "SITEFS_TEST_RECORDING_BYTES";

/// What an entry of the index takes, in bytes.
pub(crate) const ENTRY_BYTES: usize = 24;

const ROOT: INodeNo = INodeNo(1);
const DISK: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

/// A recorded disk.
pub(crate) struct Recorder {
    directory: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    /// Read no more, but open: the test harness over there has something to say at its end.
    _output: BufReader<ChildStdout>,
}

impl Recorder {
    /// Begins a recording in the existing, empty `directory`.
    pub(crate) fn start(directory: &Path, bytes: u64) -> Recorder {
        fs::create_dir(directory.join("mount")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["recording_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .env(BYTES, bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim_end() != "recording" {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the recorder ended");
        }
        Recorder { directory: directory.to_owned(), child, input, _output: output }
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
    let bytes: usize = std::env::var(BYTES).unwrap().parse().unwrap();
    let create =
        |name: &str| OpenOptions::new().append(true).create_new(true).open(directory.join(name)).unwrap();
    let (data, index) = (create("data"), create("index"));
    let disk = Disk { state: Mutex::new(State { image: vec![0; bytes], data, index }) };
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
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    rustix::mount::unmount(&mount, UnmountFlags::DETACH).unwrap();
    drop(session);
}

struct Disk {
    state: Mutex<State>,
}

struct State {
    image: Vec<u8>,
    data: File,
    index: File,
}

impl State {
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
        self.state.lock().unwrap().note(1, 0, 0);
        reply.ok();
    }
}
