//! The reference: what a volume should be, as simply as it can be said.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::Timestamp;

pub(super) type Id = u32;
pub(super) const ROOT: Id = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory(BTreeMap<String, Id>),
    File(Vec<u8>),
    Symlink(String),
    Fifo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelNode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    /// When it was set by hand and nothing changed since.
    pub(super) modified: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    pub(super) names: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<Id, ModelNode>,
    next: Id,
}

impl ModelNode {
    pub(super) fn new(kind: Kind, mode: u32) -> ModelNode {
        ModelNode { kind, mode, uid: USER.uid, modified: None, xattrs: BTreeMap::new(), names: 1 }
    }

    pub(super) fn file_kind(&self) -> FileKind {
        match self.kind {
            Kind::Directory(_) => FileKind::Directory,
            Kind::File(_) => FileKind::File,
            Kind::Symlink(_) => FileKind::Symlink,
            Kind::Fifo => FileKind::Fifo,
        }
    }

    pub(super) fn entries(&self) -> &BTreeMap<String, Id> {
        match &self.kind {
            Kind::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    pub(super) fn content(&self) -> Option<&Vec<u8>> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }
}

impl Model {
    pub(super) fn new() -> Model {
        let root = ModelNode { uid: 0, ..ModelNode::new(Kind::Directory(BTreeMap::new()), 0o755) };
        Model { nodes: BTreeMap::from([(ROOT, root)]), next: 1 }
    }

    pub(super) fn node(&mut self, id: Id) -> &mut ModelNode {
        self.nodes.get_mut(&id).unwrap()
    }

    /// The directories, the root first, in the order of their paths.
    pub(super) fn directories(&self) -> Vec<Id> {
        self.reachable().into_iter().filter(|id| self.nodes[id].is_directory()).collect()
    }

    /// Everything that has a name, each once.
    pub(super) fn reachable(&self) -> Vec<Id> {
        let mut found = vec![ROOT];
        let mut seen = BTreeSet::from([ROOT]);
        let mut at = 0;
        while let Some(id) = found.get(at) {
            at += 1;
            if let Kind::Directory(entries) = &self.nodes[id].kind {
                found.extend(entries.values().filter(|id| seen.insert(**id)));
            }
        }
        found
    }

    pub(super) fn lookup(&self, directory: Id, name: &str) -> Option<Id> {
        self.nodes[&directory].entries().get(name).copied()
    }

    fn set(&mut self, directory: Id, name: &str, id: Option<Id>) {
        let node = self.node(directory);
        node.modified = None;
        let Kind::Directory(entries) = &mut node.kind else { panic!("not a directory") };
        match id {
            Some(id) => entries.insert(name.to_owned(), id),
            None => entries.remove(name),
        };
    }

    pub(super) fn add(&mut self, directory: Id, name: &str, node: ModelNode) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.set(directory, name, Some(id));
        id
    }

    pub(super) fn make(&mut self, directory: Id, name: &str, node: ModelNode) -> Result<Id, LiveError> {
        match self.lookup(directory, name) {
            Some(_) => Err(LiveError::Exists),
            None => Ok(self.add(directory, name, node)),
        }
    }

    pub(super) fn link(&mut self, id: Id, directory: Id, name: &str) -> Result<(), LiveError> {
        if self.lookup(directory, name).is_some() {
            return Err(LiveError::Exists);
        }
        if self.nodes[&id].is_directory() {
            return Err(LiveError::NotPermitted);
        }
        self.node(id).names += 1;
        self.set(directory, name, Some(id));
        Ok(())
    }

    pub(super) fn remove(&mut self, directory: Id, name: &str, is_directory: bool) -> Result<(), LiveError> {
        let id = self.lookup(directory, name).ok_or(LiveError::NotFound)?;
        match (&self.nodes[&id].kind, is_directory) {
            (Kind::Directory(_), false) => return Err(LiveError::IsADirectory),
            (Kind::Directory(entries), true) if !entries.is_empty() => return Err(LiveError::NotEmpty),
            (Kind::Directory(_), true) => {}
            (_, true) => return Err(LiveError::NotADirectory),
            _ => {}
        }
        self.set(directory, name, None);
        self.node(id).names -= 1;
        Ok(())
    }

    /// Removes what is under a name, with all below it.
    pub(super) fn remove_all(&mut self, directory: Id, name: &str) {
        let Some(id) = self.lookup(directory, name) else { return };
        if let Kind::Directory(entries) = self.nodes[&id].kind.clone() {
            entries.keys().for_each(|name| self.remove_all(id, name));
        }
        self.set(directory, name, None);
        self.node(id).names -= 1;
    }

    fn is_below(&self, id: Id, top: Id) -> bool {
        id == top
            || match &self.nodes[&top].kind {
                Kind::Directory(entries) => entries.values().any(|below| self.is_below(id, *below)),
                _ => false,
            }
    }

    pub(super) fn rename(
        &mut self,
        from: (Id, &str),
        to: (Id, &str),
        mode: RenameMode,
    ) -> Result<(), LiveError> {
        let source = self.lookup(from.0, from.1).ok_or(LiveError::NotFound)?;
        let target = self.lookup(to.0, to.1);
        let source_is_directory = self.nodes[&source].is_directory();
        if source_is_directory && from.0 != to.0 && self.is_below(to.0, source) {
            return Err(LiveError::Invalid);
        }
        match (mode, target) {
            (RenameMode::Exchange, None) => return Err(LiveError::NotFound),
            (RenameMode::NoReplace, Some(_)) => return Err(LiveError::Exists),
            (_, Some(target)) if target == source => return Ok(()),
            (RenameMode::Exchange, Some(target)) => {
                if self.nodes[&target].is_directory() && from.0 != to.0 && self.is_below(from.0, target) {
                    return Err(LiveError::Invalid);
                }
                self.set(from.0, from.1, Some(target));
                self.set(to.0, to.1, Some(source));
                return Ok(());
            }
            (_, Some(target)) => {
                match (source_is_directory, &self.nodes[&target].kind) {
                    (true, Kind::Directory(entries)) if !entries.is_empty() => {
                        return Err(LiveError::NotEmpty);
                    }
                    (true, Kind::Directory(_)) => {}
                    (true, _) => return Err(LiveError::NotADirectory),
                    (false, Kind::Directory(_)) => return Err(LiveError::IsADirectory),
                    (false, _) => {}
                }
                self.node(target).names -= 1;
            }
            (_, None) => {}
        }
        self.set(from.0, from.1, None);
        self.set(to.0, to.1, Some(source));
        Ok(())
    }

    pub(super) fn write(&mut self, id: Id, offset: usize, data: &[u8]) {
        let node = self.node(id);
        node.modified = None;
        let Kind::File(content) = &mut node.kind else { panic!("not a file") };
        // Nothing written past the end leaves the end where it is (POSIX, write).
        if !data.is_empty() {
            content.resize(content.len().max(offset + data.len()), 0);
            content[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    pub(super) fn truncate(&mut self, id: Id, size: usize) {
        let node = self.node(id);
        node.modified = None;
        let Kind::File(content) = &mut node.kind else { panic!("not a file") };
        content.resize(size, 0);
    }

    /// Removes the nodes without a name that are not open.
    pub(super) fn sweep(&mut self, open: &BTreeSet<Id>) {
        self.nodes.retain(|id, node| *id == ROOT || node.names > 0 || open.contains(id));
    }
}
