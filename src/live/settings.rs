//! Attributes of nodes, extended ones too.

use std::sync::Arc;

use super::node::Body;
use super::state::State;
use super::upper::{self, facts, failed};
use super::{
    LiveError, NodeAttributes, NodeId, SetAttributes, TimeChange, Volume, XattrMode, access_list, clock,
};
use crate::base::Timestamp;
use crate::base::limits::{ENTRY_NAME_BYTES_MAX, FILE_BYTES_MAX, XATTR_VALUE_BYTES_MAX};

/// Bits that give a program its owner's or group's rights.
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The names of all extended attributes of a node with their closing zeros, in bytes: what Linux can list
/// (`XATTR_LIST_MAX`).
const XATTR_NAMES_BYTES_MAX: usize = 65_536;
/// The values of all extended attributes of a node, in bytes: they are in memory, in the row and in the page of
/// its directory.
const XATTR_VALUES_BYTES_MAX: usize = 262_144;

/// The mode after somebody without privilege changed the content, or anybody the owner. Where the group may not execute,
/// set-group-id stays for those who are `in_group`.
fn without_privileges(mode: u32, in_group: bool) -> u32 {
    let group = if mode & GROUP_EXECUTE != 0 || !in_group { SET_GROUP_ID } else { 0 };
    mode & !(SET_USER_ID | group)
}

/// Refuses names of extended attributes that no disk has: [`LiveError::NotSupported`], or [`LiveError::Invalid`] where
/// nothing follows the prefix.
fn check_xattr_name(name: &[u8]) -> Result<(), LiveError> {
    if [access_list::ACCESS, access_list::DEFAULT].contains(&name) {
        return Ok(());
    }
    let known = [&b"user."[..], b"trusted.", b"security."];
    match known.into_iter().find(|prefix| name.starts_with(prefix)) {
        None => Err(LiveError::NotSupported),
        Some(prefix) if prefix.len() == name.len() => Err(LiveError::Invalid),
        Some(_) => Ok(()),
    }
}

fn time(change: TimeChange, now: Timestamp) -> Timestamp {
    match change {
        TimeChange::Now => now,
        TimeChange::To(time) => time,
    }
}

impl Volume {
    /// The attributes of a node; of a file open for writing, as its upper file has them.
    pub fn attributes(&self, node: NodeId) -> Result<NodeAttributes, LiveError> {
        self.attributes_of(&mut self.lock(), node.local())
    }

    /// Sets attributes. Changing the owner clears set-user-id and set-group-id as on ext4; so does setting nothing, as
    /// which `chown` to nobody arrives. For changing the size there is [`Volume::clear_privileges`].
    pub fn set_attributes(&self, node: NodeId, changes: &SetAttributes) -> Result<NodeAttributes, LiveError> {
        let _changing = if changes.size.is_some() { self.begin_growing()? } else { self.begin()? };
        let local = node.local();
        let mut state = match changes.size {
            Some(size) => self.resize(local, size)?,
            None => self.lock(),
        };
        self.prepare(&mut state, local)?;
        let now = clock::now();
        let node = self.node(&mut state, local)?;
        if let (Some(change), Some(file)) = (changes.modified, node.open.file.as_ref())
            && matches!(&node.body, Body::Upper(upper) if upper.written)
        {
            let file = Arc::clone(file);
            if !node.is_untouched_copy(&file)? {
                node.forget_copy(&file)?;
                upper::set_modified(&file, time(change, now))?;
            }
        }
        if changes.uid.is_some() || changes.gid.is_some() || *changes == SetAttributes::default() {
            node.uid = changes.uid.unwrap_or(node.uid);
            node.gid = changes.gid.unwrap_or(node.gid);
            if !node.is_directory() {
                node.mode = without_privileges(node.mode, true);
            }
        }
        if let Some(mode) = changes.mode {
            node.mode = mode & 0o7777;
            access_list::follow_mode(&mut node.xattrs, node.mode);
        }
        if let Some(change) = changes.accessed {
            node.accessed = Some(time(change, now));
        }
        if let Some(change) = changes.modified {
            node.modified = time(change, now);
        }
        node.changed = now;
        state.touch(local);
        self.attributes_of(&mut state, local)
    }

    /// Clears set-user-id and set-group-id as ext4 does when somebody without privilege changes the content or owner;
    /// whether there was anything to clear. To be called before each such change. `in_group` says whether they are in a
    /// group, and is asked where that matters alone. `size` is what the file is going to have at least: a change that is
    /// refused because no file is so large clears nothing.
    pub fn clear_privileges(
        &self,
        node: NodeId,
        size: u64,
        in_group: impl FnOnce(u32) -> bool,
    ) -> Result<bool, LiveError> {
        if size > FILE_BYTES_MAX {
            return Ok(false);
        }
        let local = node.local();
        let (is_directory, mode, gid) = {
            let mut state = self.lock();
            let node = self.node(&mut state, local)?;
            (node.is_directory(), node.mode, node.gid)
        };
        if is_directory || mode == without_privileges(mode, false) {
            return Ok(false);
        }
        let in_group = mode & SET_GROUP_ID == 0 || mode & GROUP_EXECUTE != 0 || in_group(gid);
        if mode == without_privileges(mode, in_group) {
            return Ok(false);
        }
        let _changing = self.begin_unchecked();
        let mut state = self.lock();
        self.prepare(&mut state, local)?;
        let node = self.node(&mut state, local)?;
        node.mode = without_privileges(node.mode, in_group);
        node.changed = clock::now();
        state.touch(local);
        Ok(true)
    }

    /// Gives a file another size; returns with the state locked.
    fn resize(&self, local: u64, size: u64) -> Result<parking_lot::MutexGuard<'_, State>, LiveError> {
        if size > FILE_BYTES_MAX {
            return Err(LiveError::TooLarge);
        }
        let (mut state, file) = self.writable_file(local, size == 0)?;
        self.node(&mut state, local)?.forget_copy(&file)?;
        file.set_len(size).map_err(failed("resize"))?;
        let blocks = facts(&file)?.blocks;
        self.prepare(&mut state, local)?;
        let node = self.node(&mut state, local)?;
        node.modified = clock::now();
        if let Body::Upper(upper) = &mut node.body {
            (upper.size, upper.blocks) = (size, Some(blocks));
            upper.stored = None;
            upper.emptied |= size == 0;
        }
        Ok(state)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, node: NodeId) -> Result<Box<[u8]>, LiveError> {
        match &self.node(&mut self.lock(), node.local())?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(LiveError::Invalid),
        }
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Box<[u8]>, LiveError> {
        check_xattr_name(name)?;
        let mut state = self.lock();
        let node = self.node(&mut state, node.local())?;
        node.xattrs.get(name).cloned().ok_or(LiveError::NoAttribute)
    }

    /// The names of the extended attributes.
    pub fn xattr_names(&self, node: NodeId) -> Result<Vec<Box<[u8]>>, LiveError> {
        Ok(self.node(&mut self.lock(), node.local())?.xattrs.keys().cloned().collect())
    }

    /// Sets an extended attribute. Names are `user.`, `trusted.` or `security.` something, and those of access control
    /// lists: one that governs access sets the mode, too. On a symbolic link none is supported.
    pub fn set_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), LiveError> {
        check_xattr_name(name)?;
        let _changing = self.begin_growing()?;
        if name.len() > ENTRY_NAME_BYTES_MAX || value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(LiveError::TooLarge);
        }
        let mut state = self.lock();
        let local = node.local();
        self.prepare(&mut state, local)?;
        let node = self.node(&mut state, local)?;
        if matches!(node.body, Body::Symlink(_)) {
            return Err(LiveError::NotSupported);
        }
        let (value, permissions) = match name {
            access_list::ACCESS => match access_list::set(node.mode, value).ok_or(LiveError::Invalid)? {
                (permissions, Some(list)) => (list, permissions),
                (permissions, None) => {
                    node.mode = permissions;
                    node.xattrs.remove(name);
                    node.changed = clock::now();
                    state.touch(local);
                    return Ok(());
                }
            },
            access_list::DEFAULT if !access_list::is_list(value) => return Err(LiveError::Invalid),
            _ => (value.into(), node.mode),
        };
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(LiveError::Exists),
            (XattrMode::Replace, false) => return Err(LiveError::NoAttribute),
            // As on ext4, nothing has changed then.
            _ if node.xattrs.get(name) == Some(&value) && node.mode == permissions => return Ok(()),
            _ => {}
        }
        let others = || node.xattrs.iter().filter(|(other, _)| ***other != *name);
        let names: usize = others().map(|(other, _)| other.len() + 1).sum();
        let values: usize = others().map(|(_, value)| value.len()).sum();
        if names + name.len() + 1 > XATTR_NAMES_BYTES_MAX || values + value.len() > XATTR_VALUES_BYTES_MAX {
            return Err(LiveError::NoSpace);
        }
        node.xattrs.insert(name.into(), value);
        node.mode = permissions;
        node.changed = clock::now();
        state.touch(local);
        Ok(())
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<(), LiveError> {
        check_xattr_name(name)?;
        let _changing = self.begin()?;
        let mut state = self.lock();
        let local = node.local();
        self.prepare(&mut state, local)?;
        let node = self.node(&mut state, local)?;
        node.xattrs.remove(name).ok_or(LiveError::NoAttribute)?;
        node.changed = clock::now();
        state.touch(local);
        Ok(())
    }
}
