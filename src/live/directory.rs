//! Looking up and listing: the base tree and the slots on it, merged in cookie order.
//!
//! The base tree is read outside of the lock: it never changes, so what was found in it holds, and only the slots
//! must be looked at again.

use std::ops::Bound;

use super::filesystem::DirectoryEntry;
use super::node::{Body, Home, Node};
use super::rows::Slot;
use super::state::State;
use super::{LiveError, NodeAttributes, NodeId, Volume};
use crate::base::RelativePath;
use crate::base::limits::ENTRY_NAME_BYTES_MAX;
use crate::trees::{self, Located, NameKey, TreeId};

/// A page of a directory's base tree.
struct BasePage {
    entries: Vec<Located>,
    /// The last cookie the page covers; `u64::MAX` when nothing comes after it.
    end: u64,
}

/// The key of a valid name.
pub(super) fn name_key(name: &[u8]) -> Result<NameKey, LiveError> {
    if name.len() > ENTRY_NAME_BYTES_MAX {
        return Err(LiveError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(LiveError::Invalid);
    }
    Ok(NameKey::new(name))
}

impl Volume {
    /// The node under a name.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<NodeAttributes, LiveError> {
        let key = name_key(name)?;
        let directory = parent.local();
        let tree = {
            let mut state = self.lock();
            let tree = self.tree_of(&mut state, directory)?;
            match self.slots(&mut state, directory)?.get(&key) {
                Some(Slot::Node(local)) => {
                    let local = *local;
                    return self.attributes_of(&mut state, local);
                }
                Some(Slot::Whiteout) => return Err(LiveError::NotFound),
                None => tree,
            }
        };
        let located = self.shared.trees.lookup(tree, &key)?;
        let mut state = self.lock();
        self.tree_of(&mut state, directory)?;
        let local = match (self.slots(&mut state, directory)?.get(&key), located) {
            (Some(Slot::Node(local)), _) => *local,
            (Some(Slot::Whiteout), _) | (None, None) => return Err(LiveError::NotFound),
            (None, Some(located)) => self.remember(&mut state, directory, located)?,
        };
        self.attributes_of(&mut state, local)
    }

    pub(super) fn attributes_of(&self, state: &mut State, local: u64) -> Result<NodeAttributes, LiveError> {
        let id = self.id(local);
        self.node(state, local)?.attributes(id)
    }

    /// Up to `count_max` entries after `cookie` (0: the start) in cookie order, without `.` and `..`; entries of
    /// one cookie are never separated. An entry that is neither made nor removed during a listing is in it exactly
    /// once, whatever else changes.
    pub fn list(
        &self,
        directory: NodeId,
        cookie: u64,
        count_max: usize,
    ) -> Result<Vec<DirectoryEntry>, LiveError> {
        let local = directory.local();
        let tree = {
            let mut state = self.lock();
            match self.tree_of(&mut state, local) {
                Ok(tree) => tree,
                // A removed directory that somebody is still in.
                Err(LiveError::NotFound) if state.nodes.contains_key(&local) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        };
        let mut found = Vec::new();
        let mut after = cookie;
        while found.len() < count_max && after < u64::MAX {
            let page = self.base_page(tree, after, count_max - found.len())?;
            let end = page.end;
            self.merge(local, after, page, count_max, &mut found)?;
            after = end;
        }
        Ok(found)
    }

    fn base_page(&self, tree: Option<TreeId>, after: u64, count_max: usize) -> Result<BasePage, LiveError> {
        let count_max = count_max.max(1);
        let entries = self.shared.trees.list(tree, after, count_max)?;
        let end = match entries.last() {
            Some(last) if entries.len() >= count_max => last.key.cookie,
            _ => u64::MAX,
        };
        Ok(BasePage { entries, end })
    }

    /// Appends the merged entries between `after` and the end of `page` to `found`, stopping between two cookies
    /// once there are `count_max`.
    fn merge(
        &self,
        directory: u64,
        after: u64,
        page: BasePage,
        count_max: usize,
        found: &mut Vec<DirectoryEntry>,
    ) -> Result<(), LiveError> {
        let mut state = self.lock();
        let state = &mut *state;
        self.slots(state, directory)?;
        let mut base = page.entries.into_iter().peekable();
        let mut slot_after = Bound::Excluded(end_of_cookie(after));
        loop {
            let next_slot = state.directories[&directory]
                .range((slot_after.clone(), Bound::Unbounded))
                .next()
                .filter(|(key, _)| key.cookie <= page.end)
                .map(|(key, slot)| (key.clone(), *slot));
            let base_first = match (&next_slot, base.peek()) {
                (None, None) => return Ok(()),
                (Some((key, _)), Some(located)) => located.key < *key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            let next_cookie = match (base_first, base.peek(), &next_slot) {
                (true, Some(located), _) => located.key.cookie,
                (_, _, Some((key, _))) => key.cookie,
                _ => return Ok(()),
            };
            if found.len() >= count_max && found.last().is_none_or(|last| last.cookie != next_cookie) {
                return Ok(());
            }
            if base_first {
                let Some(located) = base.next() else { return Ok(()) };
                found.push(self.base_entry(state, directory, located)?);
            } else if let Some((key, slot)) = next_slot {
                // The slot is what counts for a name that is in both.
                base.next_if(|located| located.key == key);
                if let Slot::Node(local) = slot {
                    let attributes = self.attributes_without_keeping(state, local)?;
                    found.push(DirectoryEntry { cookie: key.cookie, name: key.name.clone(), attributes });
                }
                slot_after = Bound::Excluded(key);
            }
        }
    }

    /// An entry of the base tree without a slot.
    fn base_entry(
        &self,
        state: &mut State,
        directory: u64,
        located: Located,
    ) -> Result<DirectoryEntry, LiveError> {
        let Located { key, .. } = &located;
        let (cookie, name) = (key.cookie, key.name.clone());
        let local = super::load::number_below(directory, &located);
        let linked = matches!(located.entry.node, trees::Node::HardLink(_));
        let attributes = if linked || state.nodes.contains_key(&local) {
            self.attributes_without_keeping(state, local)?
        } else {
            Node::of_entry(located.entry, None)?.attributes(self.id(local))?
        };
        Ok(DirectoryEntry { cookie, name, attributes })
    }

    /// A listing of many nodes must not drive everything else out of the cache.
    fn attributes_without_keeping(&self, state: &mut State, local: u64) -> Result<NodeAttributes, LiveError> {
        let id = self.id(local);
        match state.nodes.get(&local) {
            Some(node) => node.attributes(id),
            None => self.load(state, local)?.attributes(id),
        }
    }

    /// Whether a loaded directory has no entries.
    pub(super) fn is_empty_directory(&self, state: &mut State, directory: u64) -> Result<bool, LiveError> {
        let tree = self.tree_of(state, directory)?;
        let slots = self.slots(state, directory)?;
        if slots.values().any(|slot| matches!(slot, Slot::Node(_))) {
            return Ok(false);
        }
        // Only whiteouts: each hides one entry of the base tree.
        let hidden = slots.len();
        let mut after = 0;
        let mut seen = 0;
        while seen <= hidden {
            let page = self.base_page(tree, after, 512)?;
            seen += page.entries.len();
            after = page.end;
            if after == u64::MAX {
                break;
            }
        }
        Ok(seen <= hidden)
    }

    /// The directory that holds `directory`; the root's is itself.
    pub fn parent(&self, directory: NodeId) -> Result<NodeId, LiveError> {
        let mut state = self.lock();
        let node = self.node(&mut state, directory.local())?;
        if !matches!(node.body, Body::Directory { .. }) {
            return Err(LiveError::NotADirectory);
        }
        Ok(match &node.home {
            Some(Home { directory, .. }) => self.id(*directory),
            None => directory,
        })
    }

    /// The node at a path from the root, symbolic links not followed. For the daemon's own work.
    pub fn resolve(&self, path: &RelativePath) -> Result<NodeAttributes, LiveError> {
        let mut attributes = self.attributes(self.root())?;
        for name in path.components() {
            attributes = self.lookup(attributes.id, name.as_bytes())?;
        }
        Ok(attributes)
    }
}

/// A key after every real name with this cookie: names have no zero byte, and at most 255 bytes.
fn end_of_cookie(cookie: u64) -> NameKey {
    NameKey { cookie, name: [u8::MAX; ENTRY_NAME_BYTES_MAX + 1].as_slice().into() }
}
