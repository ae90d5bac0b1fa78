//! One volume: a tree, and the overlay of what changed on it.
//!
//! The operations are in the files beside this one, by subject: `directory` (looking up and listing), `change` and
//! `rename` (names), `settings` (attributes), `handles` and `copy_up` (contents), `freeze`, `bulk` (by path).
//!
//! Locks, in the order in which they are taken: `freezing` (one freeze at a time), `gate` (every change holds it for
//! reading, a freeze for writing), `state`. No lock is held while file content is read or written, except that a
//! freeze holds the gate while it copies files that are open for writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::node::MADE;
use super::rows::{self, RowChange};
use super::state::State;
use super::volumes::Shared;
use super::{LiveError, NodeId, SpaceReport, VolumeNumber};
use crate::base::encoding;
use crate::trees::Root;

/// Who asks: new nodes belong to them. Permission checks are the kernel's (`default_permissions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits that new nodes of theirs do not have, unless a default access control list says what they have.
    pub umask: u32,
}

/// Whether a volume may be changed through the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every change is [`LiveError::ReadOnly`].
    ReadOnly,
    /// Changes go to the overlay.
    Writable,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Emptied first.
    pub truncate: bool,
    /// To be run as a program: nobody empties it meanwhile.
    pub execute: bool,
}

/// An open file of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// What rename does with an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with [`LiveError::Exists`].
    NoReplace,
    /// Swaps the two.
    Exchange,
    /// As one of the first two, and leaves a whiteout of `owner` under the old name: a character device 0:0, by which
    /// overlayfs says that there is nothing.
    Whiteout {
        /// Whose it is.
        owner: Caller,
        /// Whether an existing target is replaced.
        replace: bool,
    },
}

/// What setting an extended attribute expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Sets it either way.
    Set,
    /// It must not exist.
    Create,
    /// It must exist.
    Replace,
}

/// How many uncommitted rows a volume may have before changes wait for a commit: some 100 MB of memory.
const UNCOMMITTED_MAX: usize = 200_000;
/// How many numbers are reserved at once: few enough to waste at a crash, enough for a commit now and then.
pub(super) const NUMBERS_RESERVED: u64 = 1 << 16;

/// One volume. Node ids are those of [`NodeId`]; an id of another volume is a programming error.
pub struct Volume {
    pub(super) shared: Arc<Shared>,
    pub(super) number: VolumeNumber,
    pub(super) base: Root,
    pub(super) state: Mutex<State>,
    /// Woken when a node stops being busy or sealed.
    pub(super) settled: Condvar,
    pub(super) gate: RwLock<()>,
    pub(super) freezing: Mutex<()>,
    /// How many names each hard-linked node of the base has; counted when first needed.
    pub(super) base_links: std::sync::OnceLock<std::collections::HashMap<u64, u32>>,
    writable: AtomicBool,
    discarded: AtomicBool,
}

/// Held by a change while it is under way; wakes the committer when it ends.
pub(super) struct Changing<'a> {
    shared: &'a Shared,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.shared.committer.note();
    }
}

impl Volume {
    /// A volume on `base` with the overlay its rows describe.
    pub(super) fn new(
        shared: Arc<Shared>,
        number: VolumeNumber,
        base: Root,
        access: Access,
    ) -> Result<Volume, LiveError> {
        let fingerprint = *blake3::hash(&encoding::encode(1, &base)).as_bytes();
        let row = shared.engine.get(rows::VOLUMES, &rows::volume_key(number))?;
        let stored = row.is_some();
        let row = row.unwrap_or_else(|| State::first_row(fingerprint, base.next_link));
        if row.base != fingerprint {
            return Err(LiveError::OtherBase);
        }
        if base.totals.nodes >= super::node::LINKS - 2 || base.next_link > MADE - super::node::LINKS {
            return Err(LiveError::TooLarge);
        }
        Ok(Volume {
            shared,
            number,
            base,
            state: Mutex::new(State::new(row, stored)),
            settled: Condvar::new(),
            gate: RwLock::new(()),
            freezing: Mutex::new(()),
            base_links: std::sync::OnceLock::new(),
            writable: AtomicBool::new(access == Access::Writable),
            discarded: AtomicBool::new(false),
        })
    }

    /// The number.
    pub fn number(&self) -> VolumeNumber {
        self.number
    }

    /// The id of its root.
    pub fn root(&self) -> NodeId {
        NodeId::volume_root(self.number)
    }

    /// The tree it stands on.
    pub fn base(&self) -> &Root {
        &self.base
    }

    /// Allows or forbids changes from now on. Files that are open for writing stay so.
    pub fn set_access(&self, access: Access) {
        self.writable.store(access == Access::Writable, Ordering::SeqCst);
    }

    /// Whether it may be changed.
    pub fn access(&self) -> Access {
        if self.writable.load(Ordering::SeqCst) { Access::Writable } else { Access::ReadOnly }
    }

    /// Space and nodes of the file system that holds the store.
    pub fn space(&self) -> Result<SpaceReport, LiveError> {
        self.shared.space()
    }

    pub(super) fn id(&self, local: u64) -> NodeId {
        NodeId::new(self.number, local)
    }

    /// The state, with a few cached things dropped when there are too many.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.trim_default();
        state
    }

    /// Begins a change. Waits for a commit when too much is uncommitted.
    pub(super) fn begin(&self) -> Result<Changing<'_>, LiveError> {
        if self.state.lock().pending.len() > UNCOMMITTED_MAX {
            self.shared.commit()?;
        }
        let gate = self.gate.read();
        if self.discarded.load(Ordering::SeqCst) {
            return Err(LiveError::NotFound);
        }
        if self.access() == Access::ReadOnly {
            return Err(LiveError::ReadOnly);
        }
        Ok(Changing { shared: &self.shared, _gate: gate })
    }

    /// Begins a change that takes space: refused while commits fail, so that what is acknowledged stays bounded.
    pub(super) fn begin_growing(&self) -> Result<Changing<'_>, LiveError> {
        let changing = self.begin()?;
        match self.shared.committer.failure() {
            Some(failure) => Err(failure),
            None => Ok(changing),
        }
    }

    /// Begins what is done even in a read-only or discarded volume: writing to a file that is open, closing it.
    pub(super) fn begin_unchecked(&self) -> Changing<'_> {
        Changing { shared: &self.shared, _gate: self.gate.read() }
    }

    /// Sees to it that `count` numbers can be taken: durably reserved, so that none is given away twice.
    pub(super) fn reserve(&self, state: &mut State, count: u64) -> Result<(), LiveError> {
        if state.reservation(count)? <= state.row.reserved {
            return Ok(());
        }
        let reserved = state.reservation(count.saturating_add(NUMBERS_RESERVED))?;
        let row = rows::VolumeRow { reserved, ..state.row.clone() };
        let change = RowChange::Put {
            table: rows::VOLUMES,
            key: rows::volume_key(self.number),
            value: rows::encode(&row),
        };
        self.shared.engine.apply(&[change])?;
        state.row.reserved = reserved;
        state.stored = true;
        Ok(())
    }

    /// Drops everything from memory that may be dropped.
    #[cfg(test)]
    pub(super) fn evict(&self) {
        let mut state = self.state.lock();
        state.consider(usize::MAX);
        for _ in 0..100 {
            state.trim(0);
        }
    }

    /// Ends the volume: every later change fails, nothing of it is committed any more.
    pub(super) fn end(&self) {
        let _gate = self.gate.write();
        self.discarded.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::SeqCst)
    }
}
