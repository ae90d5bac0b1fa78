//! Open files.
//!
//! A node is served either by this program or by the kernel at one time. While it is open, all its handles share one
//! open upper file. What a handle reads is looked up at every read, so that a handle opened before a copy-up sees
//! what is written after it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::commit::Ticket;
use super::filesystem::{OpenedFile, Served};
use super::node::{Body, Node};
use super::state::{OpenHandle, State};
use super::upper::{self, facts, failed};
use super::{Handle, LiveError, NodeId, OpenMode, Volume, clock};
use crate::base::files;
use crate::base::limits::FILE_BYTES_MAX;
use crate::objects::{FileContent, Objects};

/// Where the bytes of an open file are.
pub(super) enum Bytes {
    Stored(FileContent),
    Upper(Arc<File>),
}

impl Bytes {
    /// Reads at `offset`; fewer bytes only at the end.
    pub(super) fn read_at(
        &self,
        objects: &Objects,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, LiveError> {
        match self {
            Bytes::Stored(content) => Ok(objects.read_at(content, offset, buffer)?),
            Bytes::Upper(file) => files::read_full_at(file, offset, buffer).map_err(failed("read")),
        }
    }
}

/// How many of `length` bytes there is room for at `offset` of a file.
pub(super) fn room(offset: u64, length: u64) -> Result<u64, LiveError> {
    match FILE_BYTES_MAX.saturating_sub(offset) {
        0 if length > 0 => Err(LiveError::TooLarge),
        room => Ok(length.min(room)),
    }
}

impl Volume {
    /// The handles that are open for writing now.
    pub fn writers(&self) -> BTreeSet<Handle> {
        let state = self.state.lock();
        state.handles.iter().filter(|(_, open)| open.write).map(|(handle, _)| Handle(*handle)).collect()
    }

    /// How many handles are open now, for whatever.
    pub fn open_files(&self) -> usize {
        self.state.lock().handles.len()
    }

    /// Whether opening a file for reading is going to take long, since its content is compared with its name first.
    pub fn opens_slowly(&self, node: NodeId) -> bool {
        match self.node(&mut self.lock(), node.local()) {
            Ok(Node { body: Body::Stored(content), .. }) => self.shared.trees.objects.opens_slowly(content),
            _ => false,
        }
    }

    /// Opens a file. With `past_program`, a file whose bytes are in one plain file may be answered by
    /// [`super::Served::Backing`]: all opens of a node at one time are of one manner, as the kernel requires.
    /// [`LiveError::Stale`]: the name stands for another node now; look it up again.
    pub fn open(&self, node: NodeId, mode: OpenMode, past_program: bool) -> Result<OpenedFile, LiveError> {
        let local = node.local();
        if !mode.write && !mode.truncate {
            let mut state = self.lock();
            // The first time that may take reading it, for which nobody else is to wait.
            if let Body::Stored(content @ FileContent::Plain { .. }) = &self.node(&mut state, local)?.body {
                let content = *content;
                drop(state);
                self.shared.trees.objects.compare_plain(&content)?;
                state = self.lock();
            }
            return self.register(&mut state, local, mode, past_program, None);
        }
        let _changing = self.begin_growing()?;
        // Of who opens it for writing, the kernel asks this by itself; of who only empties it, after it was emptied.
        if mode.truncate && self.node(&mut self.lock(), local)?.open.running > 0 {
            return Err(LiveError::Busy);
        }
        let (mut state, file) = self.writable_file(local, mode.truncate)?;
        if mode.truncate {
            file.set_len(0).map_err(failed("empty"))?;
            let node = self.node(&mut state, local)?;
            let now = clock::now();
            (node.modified, node.changed) = (now, now);
            if let Body::Upper(upper) = &mut node.body {
                upper.emptied = true;
                (upper.size, upper.blocks) = (0, Some(0));
                // Also when it is opened for reading only: what a freeze stored is not its content any more.
                upper.stored = None;
                upper.copied = None;
            }
        }
        let node = self.node(&mut state, local)?;
        if mode.write {
            node.forget_copy(&file)?;
        }
        if mode.write && node.open.writers == 0 && facts(&file)?.modified != node.modified {
            // From now on the file's own time counts, and the node's may have been set while it was closed.
            upper::set_modified(&file, node.modified)?;
        }
        let opened = self.register(&mut state, local, mode, past_program, Some(file))?;
        if mode.write {
            let node = self.node(&mut state, local)?;
            node.open.writers += 1;
            if let Body::Upper(upper) = &mut node.body {
                upper.written = true;
                upper.stored = None;
            }
        }
        state.touch(local);
        Ok(opened)
    }

    /// Enters a handle. `file` is the node's upper file when it is already open.
    fn register(
        &self,
        state: &mut State,
        local: u64,
        mode: OpenMode,
        past_program: bool,
        file: Option<Arc<File>>,
    ) -> Result<OpenedFile, LiveError> {
        let node = self.node(state, local)?;
        let may_pass = past_program && node.open.program == 0 && !node.open.busy;
        let backing = match &node.body {
            Body::Directory { .. } => return Err(LiveError::IsADirectory),
            Body::Stored(_) | Body::Upper(_) if node.open.backing > 0 => node.open.file.clone(),
            Body::Stored(_) | Body::Upper(_) if !may_pass => None,
            Body::Upper(_) => Some(match &file {
                Some(file) => Arc::clone(file),
                None => self.shared_file(node)?,
            }),
            // A hard-linked node could not be replaced under all its names when somebody wants to write.
            Body::Stored(_) if node.link.is_some() || node.open.wanted => None,
            Body::Stored(content) => self.shared.trees.objects.open_plain(content)?.map(Arc::new),
            _ => return Err(LiveError::Invalid),
        };
        let served = match backing {
            Some(file) => {
                node.open.backing += 1;
                node.open.file = Some(Arc::clone(&file));
                Served::Backing(file)
            }
            None => {
                node.open.program += 1;
                node.open.file = node.open.file.take().or(file);
                Served::Program
            }
        };
        let handle = self.shared.next_handle.fetch_add(1, Ordering::Relaxed);
        let backing = matches!(served, Served::Backing(_));
        let OpenMode { read, write, execute, .. } = mode;
        node.open.running += u32::from(execute);
        let open = OpenHandle { node: local, read, write, backing, execute };
        state.handles.insert(handle, open);
        Ok(OpenedFile { handle: Handle(handle), served })
    }

    pub(super) fn opened(&self, state: &State, handle: Handle) -> Result<OpenHandle, LiveError> {
        state.handles.get(&handle.0).copied().ok_or(LiveError::BadHandle)
    }

    fn bytes(&self, state: &mut State, local: u64) -> Result<Bytes, LiveError> {
        let node = self.node(state, local)?;
        match node.body {
            Body::Stored(content) => Ok(Bytes::Stored(content)),
            _ => Ok(Bytes::Upper(self.shared_file(node)?)),
        }
    }

    /// The upper file behind a handle that may write, and its node.
    pub(super) fn written(&self, state: &mut State, handle: Handle) -> Result<(u64, Arc<File>), LiveError> {
        let open = self.opened(state, handle)?;
        match self.bytes(state, open.node)? {
            Bytes::Upper(file) if open.write => Ok((open.node, file)),
            _ => Err(LiveError::BadHandle),
        }
    }

    /// Reads at `offset`; fewer bytes only at the end of the file.
    pub fn read(&self, handle: Handle, offset: u64, buffer: &mut [u8]) -> Result<usize, LiveError> {
        self.readable(handle)?.read_at(&self.shared.trees.objects, offset, buffer)
    }

    /// Where the bytes are behind a handle that may read.
    pub(super) fn readable(&self, handle: Handle) -> Result<Bytes, LiveError> {
        let mut state = self.lock();
        let open = self.opened(&state, handle)?;
        if open.read { self.bytes(&mut state, open.node) } else { Err(LiveError::BadHandle) }
    }

    /// Writes at `offset`; returns how many bytes: all of them, unless the disk is full after some, or the file as large
    /// as files get. Where the end is, for who appends, is known to whoever lets one write at a time.
    pub fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize, LiveError> {
        let data = &data[..room(offset, data.len() as u64)? as usize];
        let _changing = self.begin_unchecked();
        let file = {
            let mut state = self.lock();
            let (local, file) = self.written(&mut state, handle)?;
            self.node(&mut state, local)?.forget_copy(&file)?;
            file
        };
        let mut done = 0;
        while done < data.len() {
            match file.write_at(&data[done..], offset + done as u64) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(failed("write")(error)),
            }
        }
        Ok(done)
    }

    /// Allocates, extends or punches: `mode` as in fallocate(2), 0 or KEEP_SIZE or PUNCH_HOLE|KEEP_SIZE or
    /// ZERO_RANGE.
    pub fn allocate(&self, handle: Handle, offset: u64, length: u64, mode: u32) -> Result<(), LiveError> {
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let flags = FallocateFlags::from_bits(mode).filter(|flags| known.contains(*flags));
        let flags = flags.ok_or(LiveError::NotSupported)?;
        if offset.saturating_add(length) > FILE_BYTES_MAX {
            return Err(LiveError::TooLarge);
        }
        let _changing = self.begin_unchecked();
        let file = {
            let mut state = self.lock();
            let (local, file) = self.written(&mut state, handle)?;
            self.node(&mut state, local)?.forget_copy(&file)?;
            file
        };
        rustix::fs::fallocate(&*file, flags, offset, length).map_err(|error| match error {
            Errno::OPNOTSUPP | Errno::NOSYS => LiveError::NotSupported,
            Errno::INVAL => LiveError::Invalid,
            other => failed("allocate")(other),
        })
    }

    /// The next data or hole at or after `offset`; `hole` chooses. [`LiveError::NotFound`] past the end. What is in the
    /// store has no holes, and what is written through this program shows none: the kernel asks without having written
    /// first what is in mappings alone.
    pub fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Result<u64, LiveError> {
        let (bytes, may_be_mapped) = {
            let mut state = self.lock();
            let open = self.opened(&state, handle)?;
            let bytes = self.bytes(&mut state, open.node)?;
            let node = self.node(&mut state, open.node)?;
            (bytes, node.open.program > 0 && node.open.writers > 0)
        };
        let size = match bytes {
            Bytes::Upper(file) if !may_be_mapped => {
                let target = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
                return rustix::fs::seek(&*file, target).map_err(|error| match error {
                    Errno::NXIO => LiveError::NotFound,
                    other => failed("seek in")(other),
                });
            }
            Bytes::Upper(file) => facts(&file)?.size,
            Bytes::Stored(content) => content.size(),
        };
        match (offset < size, hole) {
            (false, _) => Err(LiveError::NotFound),
            (true, true) => Ok(size),
            (true, false) => Ok(offset),
        }
    }

    /// Closes. The last release of an unlinked file frees it; the last of those that may write takes over the
    /// upper file's size and times.
    pub fn release(&self, handle: Handle) -> Result<(), LiveError> {
        let _changing = self.begin_unchecked();
        let mut state = self.lock();
        let open = self.opened(&state, handle)?;
        self.prepare(&mut state, open.node)?;
        state.handles.remove(&handle.0);
        let node = self.node(&mut state, open.node)?;
        if open.backing {
            node.open.backing -= 1;
        } else {
            node.open.program -= 1;
        }
        node.open.running -= u32::from(open.execute);
        let mut outcome = Ok(());
        if open.write {
            node.open.writers -= 1;
            if node.open.writers == 0 {
                outcome = self.end_writing(&mut state, open.node);
            }
        }
        self.end_open(&mut state, open.node);
        outcome
    }

    /// Takes over size and time of an upper file that nobody writes any more.
    fn end_writing(&self, state: &mut State, local: u64) -> Result<(), LiveError> {
        let node = self.node(state, local)?;
        let facts = node.written_facts();
        let copied = node.whole_copy().unwrap_or_default();
        let mut flush = None;
        if let Body::Upper(upper) = &mut node.body {
            upper.written = false;
            upper.copied = None;
            upper.stored = copied;
            if let Ok(Some(facts)) = &facts {
                (upper.size, upper.blocks) = (facts.size, Some(facts.blocks));
            }
            // What was copied from the store is durable there.
            if std::mem::take(&mut upper.emptied) && copied.is_none() {
                flush = Some(upper.number);
            }
        }
        if let Ok(Some(facts)) = &facts {
            node.changed = node.changed_by(facts);
            node.modified = facts.modified;
        }
        if node.names > 0 {
            state.pending.flush.extend(flush);
        }
        state.touch(local);
        facts.map(|_| ())
    }

    /// After a handle is gone.
    fn end_open(&self, state: &mut State, local: u64) {
        let Some(node) = state.nodes.get_mut(&local) else { return };
        if node.open.is_open() {
            return;
        }
        node.open.file = None;
        if node.names == 0 {
            self.free(state, local);
        } else {
            self.let_go_of_upper(state, local);
        }
    }

    /// Lets go of the upper file of a node whose content is in the store: by a freeze, or because it was copied.
    pub(super) fn let_go_of_upper(&self, state: &mut State, local: u64) {
        let Some(node) = state.nodes.get_mut(&local) else { return };
        if let Body::Upper(upper) = &node.body
            && let Some(content) = upper.stored
            && node.open.backing == 0
            && node.open.writers == 0
            && !node.open.busy
        {
            let number = upper.number;
            node.body = Body::Stored(content);
            node.open.file = None;
            state.pending.unused.push(number);
            state.note_node(local);
        }
    }

    /// Ends a removed node that is not open.
    pub(super) fn free(&self, state: &mut State, local: u64) {
        state.drop_slots(local);
        let Some(Node { body: Body::Upper(upper), open, .. }) = state.nodes.remove(&local) else { return };
        if open.spent {
            self.void_spent(upper.number);
        }
        state.pending.unused.push(upper.number);
    }

    /// The kernel no longer knows the node: an unlinked one that is not open is freed.
    pub fn forget(&self, node: NodeId) {
        let _changing = self.begin_unchecked();
        let mut state = self.lock();
        let local = node.local();
        if state.nodes.get(&local).is_some_and(|node| node.names == 0 && !node.open.is_open()) {
            self.free(&mut state, local);
        }
    }

    /// Makes the file's content and everything done before durable (fsync).
    pub fn sync(&self, handle: Handle, data_only: bool) -> Result<(), LiveError> {
        let (file, unnamed) = {
            let mut state = self.lock();
            let open = self.opened(&state, handle)?;
            let node = self.node(&mut state, open.node)?;
            match &node.body {
                Body::Upper(upper) => {
                    let unnamed = (!upper.named).then_some((open.node, upper.number));
                    (Some(self.shared_file(node)?), unnamed)
                }
                _ => (None, None),
            }
        };
        // While this thread waits for the disk, the committer does, too: neither order would be wrong. A row whose content
        // is not there yet is one of a file that nobody synced, until this returns.
        let rows = self.begin_sync_rows();
        let content = match file {
            Some(file) if data_only => file.sync_data().map_err(failed("sync")),
            Some(file) => file.sync_all().map_err(failed("sync")),
            None => Ok(()),
        };
        let name = match unnamed.filter(|_| !self.is_discarded()) {
            Some((local, number)) => self.sync_name(local, number),
            None => Ok(()),
        };
        rows.map_or(Ok(()), |ticket| self.shared.end_commit(ticket))?;
        content.and(name)
    }

    fn sync_name(&self, local: u64, number: u64) -> Result<(), LiveError> {
        self.shared.uppers.sync_name(self.number, number)?;
        if let Some(Node { body: Body::Upper(upper), .. }) = self.lock().nodes.get_mut(&local)
            && upper.number == number
        {
            upper.named = true;
        }
        Ok(())
    }

    /// Makes everything done in the volume before durable (fsync of a directory).
    pub fn sync_volume(&self) -> Result<(), LiveError> {
        self.sync_rows()
    }

    fn sync_rows(&self) -> Result<(), LiveError> {
        self.begin_sync_rows().map_or(Ok(()), |ticket| self.shared.end_commit(ticket))
    }

    /// Asks for a commit, unless nothing is uncommitted: size and time of a file being written are not in a row.
    fn begin_sync_rows(&self) -> Option<Ticket> {
        let state = self.state.lock();
        let nothing = state.pending.is_empty() && state.committing.is_empty();
        drop(state);
        if nothing { None } else { Some(self.shared.begin_commit()) }
    }
}
