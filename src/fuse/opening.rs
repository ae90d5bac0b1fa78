//! Opening and closing files: served by this program, or by the kernel past it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use fuser::{BackingId, FileHandle, FopenFlags, INodeNo, OpenFlags, ReplyOpen, Request};
use rustix::fs::OFlags;

use super::adapter::Adapter;
use super::convert;
use super::reply::answer_found;
use crate::base::{FileError, files};
use crate::live::{Caller, FileKind, Handle, LiveError, NodeAttributes, NodeId, OpenMode, Served};

/// Smaller files that are opened for reading only are served by this program: the kernel then keeps their pages from
/// one open to the next. What it reads past this program it keeps, too, but it forgets the file's attributes with
/// each read (the time of access might have changed) and asks for them at the next `fstat`, which every web server
/// calls. For larger files copying bytes costs more than that.
const PAST_PROGRAM_READ_BYTES_MIN: u64 = 1 << 20;

/// An opened file as the kernel is told of it.
pub(super) struct Opened {
    pub(super) handle: Handle,
    /// Served by the kernel, past this program.
    pub(super) backing: Option<Arc<BackingId>>,
}

/// How the kernel is to serve a file past this program. Without KEEP_CACHE, which it does not take here: it drops the pages
/// of earlier opens.
///
/// What is opened with `O_DIRECT` is read and written by this program all the same, but for mappings: the kernel goes on
/// asking the other file for direct transfers after the flag was taken away, and `dd oflag=direct` takes it away for a
/// last block that is not whole.
pub(super) fn past_program_flags(flags: OpenFlags) -> FopenFlags {
    if convert::has(flags, OFlags::DIRECT) { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() }
}

impl Adapter {
    /// Opens a file, does `then`, and answers.
    pub(super) fn answer_open(
        &self,
        node: INodeNo,
        flags: OpenFlags,
        reply: ReplyOpen,
        then: impl FnOnce(NodeId),
    ) {
        let result = answer_found("open", node, |node| {
            let opened = self.open_node(node, convert::open_mode(flags), |file| reply.open_backing(file))?;
            then(node);
            Ok(opened)
        });
        match result {
            Ok(Opened { handle, backing: Some(id) }) => {
                reply.opened_passthrough(FileHandle(handle.0), past_program_flags(flags), &id);
            }
            Ok(Opened { handle, backing: None }) => {
                reply.opened(FileHandle(handle.0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// The same in a thread of its own, for what takes long: the threads that serve the kernel go on with what others ask.
    pub(super) fn open_beside(&self, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let adapter = self.clone();
        let open = move || adapter.answer_open(node, flags, reply, |_| ());
        // Without a thread, the open is answered with an error by the end of its reply.
        if let Err(error) = std::thread::Builder::new().name("open".to_owned()).spawn(open) {
            log::error!("cannot start a thread to open node {:#x}: {error}", node.0);
        }
    }

    /// Opens a file, past this program where that is possible.
    pub(super) fn open_node(
        &self,
        node: NodeId,
        mode: OpenMode,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<Opened, LiveError> {
        let past_program = self.options.passthrough
            && (mode.write || self.filesystem.attributes(node)?.size >= PAST_PROGRAM_READ_BYTES_MIN);
        let opened = self.filesystem.open(node, mode, past_program)?;
        let Served::Backing(file) = &opened.served else {
            return Ok(Opened { handle: opened.handle, backing: None });
        };
        let refused = match self.backings.acquire(node, opened.handle, mode.write, || register(file)) {
            Ok(id) => return Ok(Opened { handle: opened.handle, backing: Some(id) }),
            Err(refused) => refused,
        };
        log::debug!("the kernel does not take the file of node {:#x}: {refused}", node.0);
        self.filesystem.release(node, opened.handle)?;
        // Emptied by the first open already.
        let opened = self.filesystem.open(node, OpenMode { truncate: false, ..mode }, false)?;
        match opened.served {
            Served::Program => Ok(Opened { handle: opened.handle, backing: None }),
            // Others have it open past this program, under an id that was given up between.
            Served::Backing(_) => {
                self.filesystem.release(node, opened.handle)?;
                Err(LiveError::File(FileError {
                    action: "register",
                    path: format!("node {:#x}", node.0).into(),
                    source: refused,
                }))
            }
        }
    }

    /// Makes a file and opens it; without `exclusive` an existing one will do.
    pub(super) fn create_node(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
        flags: OpenFlags,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<(NodeAttributes, Opened), LiveError> {
        let open_mode = convert::open_mode(flags);
        match self.filesystem.make_node(parent, name, FileKind::File, mode, caller) {
            Ok(found) => {
                match self.open_node(found.id, OpenMode { truncate: false, ..open_mode }, register) {
                    Ok(opened) => Ok((found, opened)),
                    Err(error) => {
                        self.filesystem.unlink(parent, name)?;
                        Err(error)
                    }
                }
            }
            Err(LiveError::Exists) if !convert::has(flags, OFlags::EXCL) => {
                let found = self.filesystem.lookup(parent, name)?;
                let opened = self.open_node(found.id, open_mode, register)?;
                Ok((self.filesystem.attributes(found.id)?, opened))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an open file durable.
    pub(super) fn sync_node(&self, node: NodeId, handle: Handle, data_only: bool) -> Result<(), LiveError> {
        let result = self.filesystem.sync(node, handle, data_only);
        if self.backings.is_written(node) {
            // An msync: what was written through a mapping has changed the file's time by now.
            self.invalidator.forget_attributes(node);
        }
        result
    }

    /// Ends an open.
    pub(super) fn release_node(&self, node: NodeId, handle: Handle) -> Result<(), LiveError> {
        let was_written = self.backings.release(node, handle);
        let result = self.filesystem.release(node, handle);
        if was_written {
            // The kernel sees its own writes, but not what was written through a mapping of the backing file.
            self.invalidator.forget_attributes(node);
        }
        result
    }

    /// Takes set-user-id and set-group-id from a file whose content or owner is being changed, unless by root. The kernel
    /// leaves this to the program, and goes on showing what it knew of the mode. A failure costs that alone: the mount
    /// is `nosuid`. `size` is what the file is going to have at least, 0 where that is not known.
    pub(super) fn clear_privileges(&self, request: &Request, node: NodeId, size: u64) {
        if request.uid() == 0 {
            return;
        }
        match self.filesystem.clear_privileges(node, size, |group| is_in_group(request, group)) {
            Ok(true) => self.invalidator.forget_attributes(node),
            Ok(false) => {}
            Err(error) => log::debug!("set-user-id stays on node {:#x}: {error}", node.0),
        }
    }
}

/// Whether who asks is in a group: the kernel tells the first of theirs alone.
pub(super) fn is_in_group(request: &Request, group: u32) -> bool {
    if request.gid() == group {
        return true;
    }
    // Missing for who is gone, or in a namespace of processes that this program does not see.
    let status =
        files::read_to_string(format!("/proc/{}/status", request.pid()).as_ref()).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().any(|word| word.parse() == Ok(group))
}
