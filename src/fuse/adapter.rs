//! Every kernel call, answered by the live layer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::awake::Awake;
use super::backings::Backings;
use super::follow::Follow;
use super::invalidator::Invalidator;
use super::opening::{Opened, past_program_flags};
use super::reply::{self, GENERATION, Reply, answer, answer_found};
use super::session::{SessionOptions, TTL, configure};
use super::{convert, listing};
use crate::live::{FileSystem, Handle, SetAttributes};

/// What the kernel calls.
#[derive(Clone)]
pub(super) struct Adapter {
    pub(super) filesystem: Arc<FileSystem>,
    pub(super) backings: Arc<Backings>,
    pub(super) options: SessionOptions,
    pub(super) invalidator: Arc<Invalidator>,
    follow: Arc<Follow>,
    awake: Arc<Awake>,
}

impl Adapter {
    pub(super) fn new(
        filesystem: Arc<FileSystem>,
        invalidator: Arc<Invalidator>,
        options: SessionOptions,
    ) -> Adapter {
        let (follow, awake) = (Arc::new(Follow::new()), Arc::new(Awake::new(options.wakeful)));
        Adapter { filesystem, backings: Arc::default(), invalidator, options, follow, awake }
    }

    /// Takes note of a call.
    fn note(&self, request: &Request) {
        self.follow.note(request.pid());
        self.awake.note();
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        configure(&mut self.options, config);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.note(request);
        let found = answer("lookup", parent, |parent| match name.as_bytes() {
            // By these two the kernel finds nodes of which it has a file handle alone (open_by_handle_at, NFS).
            b"." => self.filesystem.attributes(parent),
            b".." => self.filesystem.parent(parent),
            name => self.filesystem.lookup(parent, name),
        });
        match found {
            Ok(found) => reply.success(found),
            Err(Errno::ENOENT) => reply.entry(&TTL, &convert::no_node(), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _request: &Request, node: INodeNo, _lookup_count: u64) {
        // The kernel forgets a node as a whole, with all its lookups. Nothing to answer.
        let _ = answer("forget", node, |node| {
            self.filesystem.forget(node);
            Ok(())
        });
    }

    fn getattr(&self, request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.note(request);
        reply.send(answer_found("getattr", node, |node| self.filesystem.attributes(node)));
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_on_macos: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.note(request);
        let changes = SetAttributes {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            accessed: accessed.map(convert::time_change),
            modified: modified.map(convert::time_change),
        };
        reply.send(answer_found("setattr", node, |node| {
            // Setting nothing: `chown` to nobody, or the kernel has written past this program.
            let owner = uid.is_some() || gid.is_some();
            if owner || size.is_some() || changes == SetAttributes::default() {
                self.clear_privileges(request, node, size.unwrap_or(0));
            }
            self.filesystem.set_attributes(node, &changes)
        }));
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        match answer_found("readlink", node, |node| self.filesystem.read_link(node)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = convert::made_kind(mode, device) else { return reply.error(Errno::EPERM) };
        reply.with("mknod", parent, |parent| {
            let caller = convert::caller(request, umask);
            self.filesystem.make_node(parent, name.as_bytes(), kind, mode & 0o7777, caller)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        reply.with("mkdir", parent, |parent| {
            let caller = convert::caller(request, umask);
            self.filesystem.make_directory(parent, name.as_bytes(), mode & 0o7777, caller)
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.note(request);
        reply.with("unlink", parent, |parent| self.filesystem.unlink(parent, name.as_bytes()));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply.with("rmdir", parent, |parent| self.filesystem.remove_directory(parent, name.as_bytes()));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        reply.with("symlink", parent, |parent| {
            let target = target.as_os_str().as_bytes();
            self.filesystem.make_symlink(parent, name.as_bytes(), target, convert::caller(request, 0))
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = convert::rename_mode(flags, convert::caller(request, 0)) else {
            return reply.error(Errno::EINVAL);
        };
        reply.with("rename", parent, |parent| {
            let new_parent = convert::node(new_parent);
            self.filesystem.rename(parent, name.as_bytes(), new_parent, new_name.as_bytes(), mode)
        });
    }

    fn link(
        &self,
        _request: &Request,
        node: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.with("link", node, |node| {
            self.filesystem.link(node, convert::node(new_parent), new_name.as_bytes())
        });
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.note(request);
        let mode = convert::open_mode(flags);
        if !mode.write && !mode.truncate && self.filesystem.opens_slowly(convert::node(node)) {
            return self.open_beside(node, flags, reply);
        }
        self.answer_open(node, flags, reply, |node| {
            if mode.truncate {
                self.clear_privileges(request, node, 0);
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.note(request);
        let result = answer("create", parent, |parent| {
            let caller = convert::caller(request, umask);
            let register = |file: &std::fs::File| reply.open_backing(file);
            self.create_node(parent, name.as_bytes(), mode & 0o7777, caller, OpenFlags(flags), register)
        });
        match result {
            Ok((found, Opened { handle, backing: Some(id) })) => {
                let (found, handle) = (convert::attributes(&found), FileHandle(handle.0));
                let flags = past_program_flags(OpenFlags(flags));
                reply.created_passthrough(&TTL, &found, GENERATION, handle, flags, &id);
            }
            Ok((found, Opened { handle, backing: None })) => {
                let (found, handle) = (convert::attributes(&found), FileHandle(handle.0));
                reply.created(&TTL, &found, GENERATION, handle, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.note(request);
        reply::read(reply, size as usize, |buffer| {
            answer("read", node, |node| self.filesystem.read(node, Handle(handle.0), offset, buffer))
        });
    }

    fn write(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.note(request);
        // Who appends is given the end by the kernel, which lets one write at a time and knows the size; and the handle
        // may say that it appends where this write does not (RWF_NOAPPEND).
        reply.with("write", node, |node| {
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.clear_privileges(request, node, 0);
            }
            self.filesystem.write(node, Handle(handle.0), offset, data)
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // There is nothing to do at close; after this the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.with("release", node, |node| self.release_node(node, Handle(handle.0)));
    }

    fn fsync(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.with("fsync", node, |node| self.sync_node(node, Handle(handle.0), data_only));
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Listings need no handle. After this the kernel opens directories without asking, and keeps listings.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match answer("readdir", node, |node| listing::fill(&self.filesystem, node, offset, &mut reply)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.note(request);
        match answer("readdirplus", node, |node| listing::fill(&self.filesystem, node, offset, &mut reply)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.with("fsyncdir", node, |node| self.filesystem.sync_directory(node));
    }

    fn statfs(&self, _request: &Request, node: INodeNo, reply: ReplyStatfs) {
        reply.with("statfs", node, |_| self.filesystem.space());
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.send(self.set_xattr(request, node, name, value, flags));
    }

    fn getxattr(&self, _request: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        reply::sized(reply, size, self.xattr(node, name));
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        reply::sized(reply, size, self.xattr_names(request, node));
    }

    fn removexattr(&self, _request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply.send(self.remove_xattr(node, name));
    }

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.with("fallocate", node, |node| {
            self.clear_privileges(request, node, 0);
            self.filesystem.allocate(node, Handle(handle.0), offset, length, mode.cast_unsigned())
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel asks for SEEK_DATA (3) and SEEK_HOLE (4) only.
        let hole = match whence {
            3 => false,
            4 => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match answer("lseek", node, |node| self.filesystem.seek(node, Handle(handle.0), offset, hole)) {
            // Past the end.
            Err(Errno::ENOENT) => reply.error(Errno::ENXIO),
            Err(errno) => reply.error(errno),
            Ok(found) => reply.success(found),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.note(request);
        reply.with("copy_file_range", to, |to| {
            self.clear_privileges(request, to, 0);
            let from = (convert::node(from), Handle(from_handle.0), from_offset);
            self.filesystem.copy_range((to, Handle(to_handle.0), to_offset), from, length)
        });
    }

    fn poll(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel then takes files for always ready, as on any disk.
        reply.error(Errno::ENOSYS);
    }
}
