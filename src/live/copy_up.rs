//! Copy-up: the whole content of a stored or sealed file becomes an upper file before anything is written to it.
//!
//! The copy is made outside of the lock, the node being marked busy; others who want to write wait for it. Power
//! failing meanwhile leaves an upper file without a row, which recovery removes. The copy is flushed before its row is
//! committed: what is copied was durable where it came from, and opening a file must not put that at risk.

use std::fs::File;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::node::{Body, Node, Open, Upper};
use super::rows::Slot;
use super::state::State;
use super::upper::{self, facts};
use super::{LiveError, Volume};
use crate::base::Timestamp;
use crate::objects::FileContent;

/// Where the content is that is copied up.
enum Source {
    Nothing,
    Stored(FileContent),
    Sealed(u64),
}

impl Volume {
    /// The upper file of a file, copied up where needed; with `empty` its content is about to go and is not copied
    /// (the file itself is not emptied here). Returns with the state locked and the node prepared.
    pub(super) fn writable_file(
        &self,
        local: u64,
        empty: bool,
    ) -> Result<(MutexGuard<'_, State>, Arc<File>), LiveError> {
        let mut state = self.lock();
        let source = loop {
            self.prepare(&mut state, local)?;
            let node = self.node(&mut state, local)?;
            let wait = match &node.body {
                Body::Directory { .. } => return Err(LiveError::IsADirectory),
                Body::Upper(upper) if !upper.sealed => {
                    let number = upper.number;
                    let file = self.shared_file(node)?;
                    state.unsynced.note(number, false);
                    return Ok((state, file));
                }
                // The kernel reads from it, and takes no other file: it is writable as soon as the freeze has read it.
                Body::Upper(_) if node.open.backing > 0 => true,
                Body::Stored(_) if node.open.backing > 0 => {
                    return Err(self.replace_node(&mut state, local).err().unwrap_or(LiveError::Stale));
                }
                Body::Upper(_) | Body::Stored(_) => node.open.busy,
                _ => return Err(LiveError::Invalid),
            };
            if wait {
                self.settled.wait(&mut state);
                continue;
            }
            break match &node.body {
                _ if empty => Source::Nothing,
                Body::Stored(content) => Source::Stored(*content),
                Body::Upper(upper) => Source::Sealed(upper.number),
                _ => Source::Nothing,
            };
        };
        self.reserve(&mut state, 1)?;
        let node = self.node(&mut state, local)?;
        node.open.busy = true;
        let modified = node.modified;
        let number = state.take_number();
        state.making.insert(number);
        drop(state);

        let copied = self.copy_up(&source, number, modified);

        let mut state = self.lock();
        self.settled.notify_all();
        state.making.remove(&number);
        let node = state.nodes.get_mut(&local).expect("a busy node stays in memory");
        node.open.busy = false;
        let (file, size) = match copied {
            Ok(copied) => copied,
            Err(error) => {
                self.shared.uppers.remove(self.number, number);
                return Err(error);
            }
        };
        if let Body::Upper(before) = std::mem::replace(&mut node.body, Body::Upper(Upper::new(number, size)))
        {
            state.pending.unused.push(before.number);
        }
        let node = state.nodes.get_mut(&local).expect("it was there a moment ago");
        if node.open.is_open() {
            // Whoever reads through this program reads the new content from now on.
            node.open.file = Some(Arc::clone(&file));
        }
        state.unsynced.note(number, true);
        if size > 0 {
            state.pending.flush.insert(number);
        }
        self.prepare(&mut state, local)?;
        state.touch(local);
        Ok((state, file))
    }

    /// The open upper file of a node, shared while the node is open.
    pub(super) fn shared_file(&self, node: &mut Node) -> Result<Arc<File>, LiveError> {
        if let Some(file) = &node.open.file {
            return Ok(Arc::clone(file));
        }
        let Body::Upper(upper) = &node.body else { return Err(LiveError::Invalid) };
        let file = Arc::new(self.shared.uppers.open_file(self.number, upper.number)?);
        if node.open.is_open() {
            node.open.file = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    /// Makes the upper file `number`; returns it with its size in bytes.
    fn copy_up(
        &self,
        source: &Source,
        number: u64,
        modified: Timestamp,
    ) -> Result<(Arc<File>, u64), LiveError> {
        let file = self.shared.uppers.create(self.number, number)?;
        match source {
            Source::Nothing => {}
            Source::Stored(content) => self.shared.trees.objects.copy_to(content, &file)?,
            Source::Sealed(sealed) => {
                upper::copy(&self.shared.uppers.open_file(self.number, *sealed)?, &file)?;
            }
        }
        upper::set_modified(&file, modified)?;
        let size = facts(&file)?.size;
        Ok((Arc::new(file), size))
    }

    /// Puts a new node with the same content under the name of a node that the kernel is reading from an immutable
    /// file: handles that are open keep what they read, and whoever looks the name up again can write. Where the
    /// names are not known, because there are several, the file is busy.
    fn replace_node(&self, state: &mut State, local: u64) -> Result<(), LiveError> {
        self.reserve(state, 1)?;
        self.prepare(state, local)?;
        let node = self.node(state, local)?;
        let Some(home) = node.home.take() else {
            // Without a name it was replaced a moment ago, for another writer.
            return Err(if node.names == 0 { LiveError::Stale } else { LiveError::Busy });
        };
        // The kernel looks the name up once more, not twice: no reader may come first and make this one busy, too.
        let open = Open { wanted: true, ..Open::default() };
        let mut replacement = Node { open, home: Some(home.clone()), ..node.clone() };
        replacement.recent = true;
        node.names = 0;
        let number = state.take_number();
        state.insert_node(number, replacement);
        state.note_node(local);
        state.set_slot(home.directory, &home.key, Some(Slot::Node(number)));
        state.touch(number);
        Ok(())
    }
}
