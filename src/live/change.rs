//! Names: making, linking, removing, renaming.
//!
//! Every operation first loads all it needs and checks all it must; from the first change on it cannot fail, so an
//! error leaves everything as it was.

use std::collections::BTreeMap;

use super::access_list;
use super::directory::name_key;
use super::node::{Body, Home, Node};
use super::rows::Slot;
use super::state::State;
use super::{Caller, FileKind, LiveError, NodeAttributes, NodeId, RenameMode, Volume, clock};
use crate::base::Timestamp;
use crate::base::limits::SYMLINK_TARGET_BYTES_MAX;
use crate::objects::FileContent;
use crate::trees::{NameKey, Totals};

/// How many names a node may have: what ext4 allows, which nobody was seen to miss.
const NAMES_MAX: u32 = 65_000;
const SET_GROUP_ID: u32 = 0o2000;

/// One side of a rename: a name, and the node under it.
struct Side {
    directory: u64,
    key: NameKey,
    node: u64,
    is_directory: bool,
}

impl Volume {
    /// Reads the pages of the base tree that an operation on a name will need, outside of the lock.
    fn warm(&self, parent: NodeId, key: &NameKey) -> Result<(), LiveError> {
        let tree = self.tree_of(&mut self.lock(), parent.local())?;
        self.shared.trees.lookup(tree, key)?;
        Ok(())
    }

    /// Makes a file, named pipe, socket or device node. In a set-group-id directory the new node takes the directory's group.
    pub fn make_node(
        &self,
        parent: NodeId,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        let body = match kind {
            FileKind::File => Body::Stored(FileContent::Empty),
            FileKind::Fifo => Body::Fifo,
            FileKind::Socket => Body::Socket,
            FileKind::CharacterDevice(number) => Body::CharacterDevice(number),
            FileKind::BlockDevice(number) => Body::BlockDevice(number),
            FileKind::Directory | FileKind::Symlink => return Err(LiveError::Invalid),
        };
        self.make(parent, name, body, mode, caller)
    }

    /// Makes a directory; in a set-group-id directory it takes the group and the bit.
    pub fn make_directory(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        let body = Body::Directory { base: None, totals: Totals::default() };
        self.make(parent, name, body, mode, caller)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        if target.is_empty() {
            return Err(LiveError::NotFound);
        }
        if target.len() > SYMLINK_TARGET_BYTES_MAX {
            return Err(LiveError::NameTooLong);
        }
        self.make(parent, name, Body::Symlink(target.into()), 0o777, caller)
    }

    fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        body: Body,
        mode: u32,
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        let _changing = self.begin_growing()?;
        let key = name_key(name)?;
        self.warm(parent, &key)?;
        let mut state = self.lock();
        let state = &mut *state;
        let directory = parent.local();
        if self.find(state, directory, &key)?.is_some() {
            return Err(LiveError::Exists);
        }
        self.prepare(state, directory)?;
        self.reserve(state, 1)?;
        let above = self.node(state, directory)?;
        let inherits = above.mode & SET_GROUP_ID != 0;
        let is_directory = matches!(body, Body::Directory { .. });
        let set_group_id = if inherits && is_directory { SET_GROUP_ID } else { 0 };
        let owner = Caller { gid: if inherits { above.gid } else { caller.gid }, ..caller };
        let inherited = match body {
            Body::Symlink(_) => None,
            _ => access_list::inherit(&above.xattrs, mode, is_directory),
        };
        let (mode, xattrs) = inherited.unwrap_or_else(|| (mode & !caller.umask, BTreeMap::new()));
        let mut node = Node::made(body, mode | set_group_id, owner);
        node.xattrs = xattrs;
        node.home = Some(Home { directory, key: key.clone() });
        let now = node.changed;
        let local = state.take_number();
        let attributes = node.attributes(self.id(local))?;
        state.insert_node(local, node);
        state.touch(local);
        count_directories(state, directory, i32::from(is_directory));
        stamp(state, directory, now);
        Ok(attributes)
    }

    /// Gives a file another name.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<NodeAttributes, LiveError> {
        let _changing = self.begin_growing()?;
        let key = name_key(name)?;
        self.warm(parent, &key)?;
        let mut state = self.lock();
        let state = &mut *state;
        let (local, directory) = (node.local(), parent.local());
        if self.find(state, directory, &key)?.is_some() {
            return Err(LiveError::Exists);
        }
        self.prepare(state, directory)?;
        self.prepare(state, local)?;
        let node = self.node(state, local)?;
        match node {
            Node { names: 0, .. } => return Err(LiveError::NotFound),
            Node { body: Body::Directory { .. }, .. } => return Err(LiveError::NotPermitted),
            Node { names: NAMES_MAX.., .. } => return Err(LiveError::TooManyLinks),
            _ => {}
        }
        let now = clock::now();
        if node.link.is_none() {
            // The first name becomes one of several: its entry changes with the next freeze.
            state.touch(local);
            let link = state.row.next_link;
            state.row.next_link += 1;
            state.pending.volume = true;
            if let Some(node) = state.nodes.get_mut(&local) {
                node.link = Some(link);
                node.home = None;
            }
        }
        if let Some(node) = state.nodes.get_mut(&local) {
            node.names += 1;
            node.changed = now;
        }
        state.set_slot(directory, &key, Some(Slot::Node(local)));
        state.touch(local);
        stamp(state, directory, now);
        self.attributes_of(state, local)
    }

    /// Removes a name of something that is not a directory. An open file lives on until its last release.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), LiveError> {
        self.remove(parent, name, false)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<(), LiveError> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: NodeId, name: &[u8], is_directory: bool) -> Result<(), LiveError> {
        let _changing = self.begin()?;
        let key = name_key(name)?;
        self.warm(parent, &key)?;
        let mut locked = self.lock();
        let state = &mut *locked;
        let directory = parent.local();
        let local = self.find(state, directory, &key)?.ok_or(LiveError::NotFound)?;
        let node = self.node(state, local)?;
        match (node.is_directory(), is_directory) {
            (true, false) => return Err(LiveError::IsADirectory),
            (false, true) => return Err(LiveError::NotADirectory),
            _ => {}
        }
        if is_directory && !self.is_empty_directory(state, local)? {
            return Err(LiveError::NotEmpty);
        }
        self.prepare(state, directory)?;
        self.prepare(state, local)?;
        let vacancy = self.vacancy(state, directory, &key)?;
        let now = clock::now();
        state.set_slot(directory, &key, vacancy);
        drop_name(state, local, now);
        count_directories(state, directory, -i32::from(is_directory));
        stamp(state, directory, now);
        let spent = state.spend(local, name);
        drop(locked);
        if let Some(number) = spent {
            self.void_spent(number);
        }
        Ok(())
    }

    /// Renames within the volume.
    pub fn rename(
        &self,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), LiveError> {
        let _changing = self.begin()?;
        let (key, new_key) = (name_key(name)?, name_key(new_name)?);
        self.warm(parent, &key)?;
        self.warm(new_parent, &new_key)?;
        let mut state = self.lock();
        let state = &mut *state;
        let from = self.side(state, parent.local(), key)?.ok_or(LiveError::NotFound)?;
        let to = self.side(state, new_parent.local(), new_key.clone())?;
        self.prepare(state, from.directory)?;
        self.prepare(state, new_parent.local())?;
        self.check_cycle(state, &from, new_parent.local())?;
        match (mode, to) {
            (RenameMode::Exchange, None) => Err(LiveError::NotFound),
            (RenameMode::NoReplace | RenameMode::Whiteout { replace: false, .. }, Some(_)) => {
                Err(LiveError::Exists)
            }
            // Two names of one node, or twice the same name: nothing happens.
            (_, Some(to)) if to.node == from.node => Ok(()),
            (RenameMode::Exchange, Some(to)) => self.exchange(state, &from, &to),
            (RenameMode::Whiteout { owner, .. }, to) => {
                self.reserve(state, 1)?;
                self.replace(state, &from, new_parent.local(), new_key, to)?;
                let mut whiteout = Node::made(Body::CharacterDevice(0), 0, owner);
                whiteout.home = Some(Home { directory: from.directory, key: from.key });
                let local = state.take_number();
                state.insert_node(local, whiteout);
                state.touch(local);
                Ok(())
            }
            (_, to) => self.replace(state, &from, new_parent.local(), new_key, to),
        }
    }

    fn side(&self, state: &mut State, directory: u64, key: NameKey) -> Result<Option<Side>, LiveError> {
        let Some(node) = self.find(state, directory, &key)? else { return Ok(None) };
        self.prepare(state, node)?;
        let is_directory = self.node(state, node)?.is_directory();
        Ok(Some(Side { directory, key, node, is_directory }))
    }

    /// A directory must not move into itself or below itself.
    fn check_cycle(&self, state: &mut State, from: &Side, into: u64) -> Result<(), LiveError> {
        if !from.is_directory || from.directory == into {
            return Ok(());
        }
        let mut above = Some(into);
        while let Some(directory) = above {
            if directory == from.node {
                return Err(LiveError::Invalid);
            }
            above = self.node(state, directory)?.home.as_ref().map(|home| home.directory);
        }
        Ok(())
    }

    fn replace(
        &self,
        state: &mut State,
        from: &Side,
        new_directory: u64,
        new_key: NameKey,
        to: Option<Side>,
    ) -> Result<(), LiveError> {
        if let Some(to) = &to {
            match (from.is_directory, to.is_directory) {
                (true, false) => return Err(LiveError::NotADirectory),
                (false, true) => return Err(LiveError::IsADirectory),
                (true, true) if !self.is_empty_directory(state, to.node)? => return Err(LiveError::NotEmpty),
                _ => {}
            }
        }
        let vacancy = self.vacancy(state, from.directory, &from.key)?;
        let now = clock::now();
        if let Some(to) = &to {
            drop_name(state, to.node, now);
            // What replaces a file by renaming wants the old content or the new after a crash, not an empty file.
            if let Some(Node { body: Body::Upper(upper), .. }) = state.nodes.get(&from.node) {
                state.pending.flush.insert(upper.number);
            }
        }
        state.set_slot(from.directory, &from.key, vacancy);
        state.set_slot(new_directory, &new_key, Some(Slot::Node(from.node)));
        settle(state, from.node, new_directory, new_key, now);
        let replaced = to.is_some_and(|to| to.is_directory);
        count_directories(state, from.directory, -i32::from(from.is_directory));
        count_directories(state, new_directory, i32::from(from.is_directory) - i32::from(replaced));
        stamp(state, from.directory, now);
        stamp(state, new_directory, now);
        Ok(())
    }

    fn exchange(&self, state: &mut State, from: &Side, to: &Side) -> Result<(), LiveError> {
        self.check_cycle(state, to, from.directory)?;
        let now = clock::now();
        state.set_slot(from.directory, &from.key, Some(Slot::Node(to.node)));
        state.set_slot(to.directory, &to.key, Some(Slot::Node(from.node)));
        settle(state, from.node, to.directory, to.key.clone(), now);
        settle(state, to.node, from.directory, from.key.clone(), now);
        let more = i32::from(from.is_directory) - i32::from(to.is_directory);
        count_directories(state, from.directory, -more);
        count_directories(state, to.directory, more);
        stamp(state, from.directory, now);
        stamp(state, to.directory, now);
        Ok(())
    }
}

/// Gives a moved node its new home. Its slots are set.
fn settle(state: &mut State, local: u64, directory: u64, key: NameKey, now: Timestamp) {
    if let Some(node) = state.nodes.get_mut(&local) {
        node.changed = now;
        if node.link.is_none() {
            node.home = Some(Home { directory, key });
        }
    }
    state.touch(local);
}

/// A loaded directory has so many directories more (or less).
pub(super) fn count_directories(state: &mut State, directory: u64, change: i32) {
    if let Some(node) = state.nodes.get_mut(&directory) {
        node.count_directories(change);
    }
}

/// The names in a loaded directory changed.
pub(super) fn stamp(state: &mut State, directory: u64, now: Timestamp) {
    if let Some(node) = state.nodes.get_mut(&directory) {
        node.modified = now;
        node.changed = now;
    }
    state.touch(directory);
}

/// Takes a name from a loaded node. Without any left it has no row any more, and stays in memory until it is neither
/// open nor known to the kernel.
pub(super) fn drop_name(state: &mut State, local: u64, now: Timestamp) {
    let Some(node) = state.nodes.get_mut(&local) else { return };
    node.names = if node.is_directory() { 0 } else { node.names - 1 };
    node.changed = now;
    if node.names > 0 {
        return state.touch(local);
    }
    node.home = None;
    let (link, is_directory) = (node.link, node.is_directory());
    state.note_node(local);
    if let Some(link) = link {
        // Its number could mean the base's node again once this one is forgotten, so the mark does not name it.
        state.note_dirty_link(link, 0);
    }
    if is_directory {
        state.clear_slots(local);
    }
}
