//! The synthetic part of the file system: directories and symbolic links that the daemon makes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{DirectoryEntry, FileKind, Invalidation, LiveError, NodeAttributes, NodeId, VolumeNumber};
use crate::base::Timestamp;
use crate::trees::NameKey;

/// What a name of the namespace stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceEntry {
    /// A directory with these entries.
    Directory(BTreeMap<String, NamespaceEntry>),
    /// A symbolic link.
    Symlink(String),
    /// A file with this content.
    Text(String),
    /// The root of a volume.
    Volume(VolumeNumber),
    /// An empty directory onto which something else is bind-mounted.
    DirectoryMountPoint,
    /// An empty file: a flag, or one onto which something else is bind-mounted.
    FileMountPoint,
    /// An empty file whose name the kernel is not to remember, so that it is there as long as the daemon is: all else
    /// that was ever looked at can still be looked at for a day when the daemon is dead, though not be read.
    SignOfLife,
}

/// The whole namespace: a description that replaces the one before in one step.
///
/// A node's number is derived from its path and what it is (a symbolic link's target and a file's text included), so it
/// is the same after a restart, and another number whenever it is something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The entries of the root.
    pub entries: BTreeMap<String, NamespaceEntry>,
}

/// A change of the namespace: what a path stands for from now on, with all below it; `None` for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceEdit {
    /// The names from the root.
    pub path: Vec<String>,
    /// What it stands for.
    pub entry: Option<NamespaceEntry>,
}

/// The volume number of the namespace itself.
pub(super) const NAMESPACE: VolumeNumber = VolumeNumber(0);

/// The permissions of the root: those of a directory that everybody may list, but none for its group. The kernel looks for
/// an access control list where a group has permissions and the caller is not the owner, and of the root alone it never
/// remembers that there is none: it makes that inode before it knows that the session keeps such lists (`ACL_DONT_CACHE`, which
/// Linux 6.18 does not forget any more). Each path of another user's would cost a request.
const ROOT_MODE: u32 = 0o705;

/// The group of the root, so that no process is in it and has less than all others: the last number but one, as the last
/// stands for none.
const NOBODYS_GROUP: u32 = u32::MAX - 1;

const ROOT_LOCAL: u64 = 1;
const SIGN_LOCAL: u64 = 2;
const LOCAL_MASK: u64 = (1 << 40) - 1;

/// A namespace with its nodes numbered. Never changed once made.
pub(super) struct NumberedNamespace {
    /// By number within the volume. What stays the same is shared with the namespace before.
    nodes: HashMap<u64, Arc<Node>>,
}

struct Node {
    content: Content,
    /// When it became what it is.
    changed: Timestamp,
}

#[derive(PartialEq, Eq)]
enum Content {
    /// In the order of the keys.
    Directory(Vec<Child>),
    Symlink(String),
    /// A file with this content.
    File(String),
}

#[derive(Clone, PartialEq, Eq)]
struct Child {
    key: NameKey,
    node: NodeId,
}

/// What [`NumberedNamespace::list`] finds: a volume's root has its attributes from the volume.
pub(super) enum Listed {
    Own(DirectoryEntry),
    Volume { cookie: u64, name: Box<[u8]>, root: NodeId },
}

impl NumberedNamespace {
    /// Numbers the nodes of `namespace`. What is the same as in `before` keeps its times; the rest has `now`.
    pub(super) fn new(
        namespace: &Namespace,
        before: Option<&NumberedNamespace>,
        now: Timestamp,
    ) -> NumberedNamespace {
        let mut numbered = NumberedNamespace { nodes: HashMap::new() };
        // The root's number is taken before its children are given theirs.
        numbered.put(ROOT_LOCAL, Content::File(String::new()), now);
        numbered.put(SIGN_LOCAL, Content::File(String::new()), now);
        let children = numbered.add_children("", &namespace.entries, now);
        numbered.put(ROOT_LOCAL, Content::Directory(children), now);
        if let Some(before) = before {
            for (local, node) in &mut numbered.nodes {
                if let Some(old) = before.nodes.get(local).filter(|old| old.content == node.content) {
                    *node = Arc::clone(old);
                }
            }
        }
        numbered
    }

    /// The namespace with `edits`, and what the kernel must forget when it replaces this one. An edit of what is in a
    /// directory that is not there has no effect. Costs what is edited, and the copy of a list of all nodes.
    pub(super) fn with(&self, edits: &[NamespaceEdit], now: Timestamp) -> (Self, Vec<Invalidation>) {
        let mut edited = NumberedNamespace { nodes: self.nodes.clone() };
        let mut invalidations = Vec::new();
        for edit in edits {
            edited.edit(self, edit, now, &mut invalidations);
        }
        (edited, invalidations)
    }

    fn edit(
        &mut self,
        before: &NumberedNamespace,
        edit: &NamespaceEdit,
        now: Timestamp,
        invalidations: &mut Vec<Invalidation>,
    ) {
        let Some((name, above)) = edit.path.split_last() else { return };
        let parent = above.iter().try_fold(NodeId::ROOT, |at, name| self.lookup(at, name.as_bytes()));
        let Ok(parent) = parent else { return };
        let Ok(children) = self.children(parent) else { return };
        let key = NameKey::new(name.as_bytes());
        let place = children.binary_search_by(|child| child.key.cmp(&key));
        let old = place.ok().map(|at| children[at].node);
        let mut children = children.to_vec();
        if let Some(old) = old {
            self.remove(old);
        }
        let new = edit.entry.as_ref().map(|entry| self.add(&format!("/{}", edit.path.join("/")), entry, now));
        if let Some(new) = new {
            self.keep_times(before, new);
        }
        if old == new {
            if let Some(same) = new {
                self.compare(before, same, invalidations);
            }
            return;
        }
        match (place, new) {
            (Ok(at), Some(node)) => children[at].node = node,
            (Ok(at), None) => drop(children.remove(at)),
            (Err(at), Some(node)) => children.insert(at, Child { key, node }),
            (Err(_), None) => return,
        }
        self.put(parent.local(), Content::Directory(children), now);
        invalidations.push(Invalidation::Entry { parent, name: name.as_bytes().into() });
        invalidations.push(Invalidation::Node(parent));
    }

    /// Takes a node away, with all below it that is the namespace's own.
    fn remove(&mut self, node: NodeId) {
        if node.volume() != NAMESPACE || node == NodeId::SIGN_OF_LIFE {
            return;
        }
        let removed = self.nodes.remove(&node.local());
        if let Some(Content::Directory(children)) = removed.as_deref().map(|node| &node.content) {
            children.iter().for_each(|child| self.remove(child.node));
        }
    }

    /// What is the same as in `before`, from this node down, keeps its times.
    fn keep_times(&mut self, before: &NumberedNamespace, node: NodeId) {
        let own = (node.volume() == NAMESPACE).then(|| self.nodes.get_mut(&node.local())).flatten();
        let Some(own) = own else { return };
        if let Some(old) = before.nodes.get(&node.local()).filter(|old| old.content == own.content) {
            *own = Arc::clone(old);
        }
        if let Content::Directory(children) = &Arc::clone(own).content {
            children.iter().for_each(|child| self.keep_times(before, child.node));
        }
    }

    fn put(&mut self, local: u64, content: Content, changed: Timestamp) {
        self.nodes.insert(local, Arc::new(Node { content, changed }));
    }

    fn add_children(
        &mut self,
        directory: &str,
        entries: &BTreeMap<String, NamespaceEntry>,
        now: Timestamp,
    ) -> Vec<Child> {
        let mut children: Vec<Child> = entries
            .iter()
            .map(|(name, entry)| {
                let path = format!("{directory}/{name}");
                Child { key: NameKey::new(name.as_bytes()), node: self.add(&path, entry, now) }
            })
            .collect();
        children.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        children
    }

    fn add(&mut self, path: &str, entry: &NamespaceEntry, now: Timestamp) -> NodeId {
        let (local, content) = match entry {
            NamespaceEntry::Volume(number) => return NodeId::volume_root(*number),
            NamespaceEntry::SignOfLife => return NodeId::SIGN_OF_LIFE,
            NamespaceEntry::Directory(entries) => {
                let local = self.take_number(path, "directory", "", now);
                (local, Content::Directory(self.add_children(path, entries, now)))
            }
            NamespaceEntry::DirectoryMountPoint => {
                (self.take_number(path, "directory mount point", "", now), Content::Directory(Vec::new()))
            }
            NamespaceEntry::FileMountPoint => {
                (self.take_number(path, "file mount point", "", now), Content::File(String::new()))
            }
            NamespaceEntry::Symlink(target) => {
                (self.take_number(path, "symlink", target, now), Content::Symlink(target.clone()))
            }
            NamespaceEntry::Text(text) => {
                (self.take_number(path, "text", text, now), Content::File(text.clone()))
            }
        };
        self.put(local, content, now);
        NodeId::new(NAMESPACE, local)
    }

    /// A number for what is at `path`: from a hash, so that it needs to be kept nowhere. Two of 10,000 nodes meet
    /// once in 20,000 namespaces; the later one (in the order of paths) then takes the next free number.
    fn take_number(&mut self, path: &str, what: &str, target: &str, now: Timestamp) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [path, what, target] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let first: [u8; 8] = hasher.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        let mut local = u64::from_le_bytes(first) & LOCAL_MASK;
        while local <= SIGN_LOCAL || self.nodes.contains_key(&local) {
            local = (local + 1) & LOCAL_MASK;
        }
        self.put(local, Content::File(String::new()), now);
        local
    }

    fn node(&self, node: NodeId) -> Result<&Node, LiveError> {
        let own = (node.volume() == NAMESPACE).then(|| node.local());
        own.and_then(|local| self.nodes.get(&local)).map(Arc::as_ref).ok_or(LiveError::NotFound)
    }

    fn children(&self, directory: NodeId) -> Result<&[Child], LiveError> {
        match &self.node(directory)?.content {
            Content::Directory(children) => Ok(children),
            Content::Symlink(_) | Content::File(_) => Err(LiveError::NotADirectory),
        }
    }

    /// The node under a name: one of the namespace, or the root of a volume.
    pub(super) fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<NodeId, LiveError> {
        let children = self.children(directory)?;
        let key = NameKey::new(name);
        match children.binary_search_by(|child| child.key.cmp(&key)) {
            Ok(index) => Ok(children[index].node),
            Err(_) => Err(LiveError::NotFound),
        }
    }

    /// The attributes of a node of the namespace.
    pub(super) fn attributes(&self, node: NodeId) -> Result<NodeAttributes, LiveError> {
        let Node { content, changed } = self.node(node)?;
        let is_root = node == NodeId::ROOT;
        let (kind, mode, size, link_count) = match content {
            Content::Directory(children) => {
                let mode = if is_root { ROOT_MODE } else { 0o755 };
                (FileKind::Directory, mode, 0, self.directory_links(children))
            }
            Content::Symlink(target) => (FileKind::Symlink, 0o777, target.len() as u64, 1),
            Content::File(text) => (FileKind::File, 0o444, text.len() as u64, 1),
        };
        Ok(NodeAttributes {
            id: node,
            kind,
            mode,
            link_count,
            uid: 0,
            gid: if is_root { NOBODYS_GROUP } else { 0 },
            size,
            blocks: 0,
            accessed: *changed,
            modified: *changed,
            changed: *changed,
        })
    }

    /// A directory has two links, and one more for each directory in it.
    fn directory_links(&self, children: &[Child]) -> u32 {
        let is_directory = |child: &&Child| match self.node(child.node) {
            Ok(node) => matches!(node.content, Content::Directory(_)),
            // The root of a volume.
            Err(_) => true,
        };
        u32::try_from(children.iter().filter(is_directory).count()).unwrap_or(u32::MAX - 2) + 2
    }

    /// The directory that has a node, or the root of a volume, as an entry: in the order of numbers the first. The
    /// root's is itself. Looks through all of them: only who has a file handle and no path asks.
    pub(super) fn parent(&self, child: NodeId) -> Result<NodeId, LiveError> {
        if child == NodeId::ROOT {
            return Ok(child);
        }
        let has_it = |node: &Arc<Node>| match &node.content {
            Content::Directory(children) => children.iter().any(|entry| entry.node == child),
            Content::Symlink(_) | Content::File(_) => false,
        };
        let found = self.nodes.iter().filter(|(_, node)| has_it(node)).map(|(local, _)| *local).min();
        found.map(|local| NodeId::new(NAMESPACE, local)).ok_or(LiveError::NotFound)
    }

    /// The target of a symbolic link.
    pub(super) fn read_link(&self, node: NodeId) -> Result<Box<[u8]>, LiveError> {
        match &self.node(node)?.content {
            Content::Symlink(target) => Ok(target.as_bytes().into()),
            Content::Directory(_) | Content::File(_) => Err(LiveError::Invalid),
        }
    }

    /// Reads a file at `offset`; how many bytes there were, fewer than asked for only at the end.
    pub(super) fn read(&self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, LiveError> {
        let Content::File(text) = &self.node(node)?.content else { return Ok(0) };
        let rest = usize::try_from(offset).ok().and_then(|at| text.as_bytes().get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    /// Whether a node can be opened: only files are.
    pub(super) fn check_open(&self, node: NodeId) -> Result<(), LiveError> {
        match &self.node(node)?.content {
            Content::File(_) => Ok(()),
            Content::Directory(_) => Err(LiveError::IsADirectory),
            Content::Symlink(_) => Err(LiveError::Invalid),
        }
    }

    /// Up to `count_max` entries after `cookie`, more only where entries share the last cookie.
    pub(super) fn list(
        &self,
        directory: NodeId,
        cookie: u64,
        count_max: usize,
    ) -> Result<Vec<Listed>, LiveError> {
        let children = self.children(directory)?;
        let start = children.partition_point(|child| child.key.cookie <= cookie);
        let mut listed = Vec::new();
        let mut last_cookie = cookie;
        for child in &children[start..] {
            if listed.len() >= count_max && child.key.cookie != last_cookie {
                break;
            }
            last_cookie = child.key.cookie;
            let name = child.key.name.clone();
            listed.push(if child.node.volume() == NAMESPACE {
                let attributes = self.attributes(child.node)?;
                Listed::Own(DirectoryEntry { cookie: last_cookie, name, attributes })
            } else {
                Listed::Volume { cookie: last_cookie, name, root: child.node }
            });
        }
        Ok(listed)
    }

    /// What the kernel must forget when `self` replaces `before`: every name that stands for something else now,
    /// stands for something at last, or no longer does, and the listings with such names. What is below a name
    /// that changed goes with the name.
    pub(super) fn invalidations_from(&self, before: &NumberedNamespace) -> Vec<Invalidation> {
        let mut invalidations = Vec::new();
        self.compare(before, NodeId::ROOT, &mut invalidations);
        invalidations
    }

    /// The same for what is below one directory that is in both.
    fn compare(&self, before: &NumberedNamespace, top: NodeId, invalidations: &mut Vec<Invalidation>) {
        let mut directories = vec![top];
        while let Some(directory) = directories.pop() {
            // Only directories that are the same node in both are put on the list.
            let (Ok(old), Ok(new)) = (before.children(directory), self.children(directory)) else { continue };
            let old: BTreeMap<&NameKey, NodeId> = old.iter().map(|child| (&child.key, child.node)).collect();
            let new: BTreeMap<&NameKey, NodeId> = new.iter().map(|child| (&child.key, child.node)).collect();
            let count_before = invalidations.len();
            for (key, node) in &old {
                match new.get(key) {
                    Some(same) if same == node => directories.push(*node),
                    _ => {
                        invalidations.push(Invalidation::Entry { parent: directory, name: key.name.clone() })
                    }
                }
            }
            for key in new.keys().filter(|key| !old.contains_key(*key)) {
                invalidations.push(Invalidation::Entry { parent: directory, name: key.name.clone() });
            }
            if invalidations.len() > count_before {
                invalidations.push(Invalidation::Node(directory));
            }
        }
    }
}

#[cfg(test)]
mod tests;
