//! The synthetic part of the file system: directories and symbolic links that the daemon makes.

use std::collections::{BTreeMap, HashMap};

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
    /// The root of a volume.
    Volume(VolumeNumber),
    /// An empty directory onto which something else is bind-mounted.
    DirectoryMountPoint,
    /// An empty file: a flag, or one onto which something else is bind-mounted.
    FileMountPoint,
}

/// The whole namespace: a description that replaces the one before in one step.
///
/// A node's number is derived from its path and what it is (a symbolic link's target included), so it is the same
/// after a restart, and another number whenever it is something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The entries of the root.
    pub entries: BTreeMap<String, NamespaceEntry>,
}

/// The volume number of the namespace itself.
pub(super) const NAMESPACE: VolumeNumber = VolumeNumber(0);

const ROOT_LOCAL: u64 = 1;
const LOCAL_MASK: u64 = (1 << 40) - 1;

/// A namespace with its nodes numbered. Never changed once made.
pub(super) struct NumberedNamespace {
    /// By number within the volume.
    nodes: HashMap<u64, Node>,
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
    File,
}

#[derive(PartialEq, Eq)]
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
        numbered.nodes.insert(ROOT_LOCAL, Node { content: Content::File, changed: now });
        let children = numbered.add_children("", &namespace.entries, now);
        numbered.nodes.insert(ROOT_LOCAL, Node { content: Content::Directory(children), changed: now });
        if let Some(before) = before {
            for (local, node) in &mut numbered.nodes {
                if let Some(old) = before.nodes.get(local).filter(|old| old.content == node.content) {
                    node.changed = old.changed;
                }
            }
        }
        numbered
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
            NamespaceEntry::Directory(entries) => {
                let local = self.take_number(path, "directory", "", now);
                (local, Content::Directory(self.add_children(path, entries, now)))
            }
            NamespaceEntry::DirectoryMountPoint => {
                (self.take_number(path, "directory mount point", "", now), Content::Directory(Vec::new()))
            }
            NamespaceEntry::FileMountPoint => {
                (self.take_number(path, "file mount point", "", now), Content::File)
            }
            NamespaceEntry::Symlink(target) => {
                (self.take_number(path, "symlink", target, now), Content::Symlink(target.clone()))
            }
        };
        self.nodes.insert(local, Node { content, changed: now });
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
        while local <= ROOT_LOCAL || self.nodes.contains_key(&local) {
            local = (local + 1) & LOCAL_MASK;
        }
        self.nodes.insert(local, Node { content: Content::File, changed: now });
        local
    }

    fn node(&self, node: NodeId) -> Result<&Node, LiveError> {
        let own = (node.volume() == NAMESPACE).then(|| node.local());
        own.and_then(|local| self.nodes.get(&local)).ok_or(LiveError::NotFound)
    }

    fn children(&self, directory: NodeId) -> Result<&[Child], LiveError> {
        match &self.node(directory)?.content {
            Content::Directory(children) => Ok(children),
            Content::Symlink(_) | Content::File => Err(LiveError::NotADirectory),
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
        let (kind, mode, size, link_count) = match content {
            Content::Directory(children) => (FileKind::Directory, 0o755, 0, self.directory_links(children)),
            Content::Symlink(target) => (FileKind::Symlink, 0o777, target.len() as u64, 1),
            Content::File => (FileKind::File, 0o444, 0, 1),
        };
        Ok(NodeAttributes {
            id: node,
            kind,
            mode,
            link_count,
            uid: 0,
            gid: 0,
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
        let has_it = |node: &Node| match &node.content {
            Content::Directory(children) => children.iter().any(|entry| entry.node == child),
            Content::Symlink(_) | Content::File => false,
        };
        let found = self.nodes.iter().filter(|(_, node)| has_it(node)).map(|(local, _)| *local).min();
        found.map(|local| NodeId::new(NAMESPACE, local)).ok_or(LiveError::NotFound)
    }

    /// The target of a symbolic link.
    pub(super) fn read_link(&self, node: NodeId) -> Result<Box<[u8]>, LiveError> {
        match &self.node(node)?.content {
            Content::Symlink(target) => Ok(target.as_bytes().into()),
            Content::Directory(_) | Content::File => Err(LiveError::Invalid),
        }
    }

    /// Whether a node can be opened: only the empty files are.
    pub(super) fn check_open(&self, node: NodeId) -> Result<(), LiveError> {
        match &self.node(node)?.content {
            Content::File => Ok(()),
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
        let mut directories = vec![NodeId::ROOT];
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
        invalidations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory<const N: usize>(entries: [(&str, NamespaceEntry); N]) -> BTreeMap<String, NamespaceEntry> {
        entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect()
    }

    fn namespace(release: &str, extra: &[&str]) -> Namespace {
        let mut entries = directory([
            (
                "live",
                NamespaceEntry::Directory(directory([("x", NamespaceEntry::Symlink(release.to_owned()))])),
            ),
            (
                "generations",
                NamespaceEntry::Directory(directory([("1", NamespaceEntry::Volume(VolumeNumber(7)))])),
            ),
        ]);
        for name in extra {
            entries.insert((*name).to_owned(), NamespaceEntry::FileMountPoint);
        }
        Namespace { entries }
    }

    fn number(description: &Namespace, before: Option<&NumberedNamespace>, now: i64) -> NumberedNamespace {
        NumberedNamespace::new(description, before, Timestamp(now))
    }

    #[test]
    fn numbers_are_the_same_after_a_restart_and_others_for_something_else() {
        let first = number(&namespace("/a", &[]), None, 1);
        let again = number(&namespace("/a", &["new"]), None, 2);
        let switched = number(&namespace("/b", &[]), None, 3);
        let live = first.lookup(NodeId::ROOT, b"live").unwrap();
        assert_eq!(again.lookup(NodeId::ROOT, b"live").unwrap(), live);
        assert_eq!(again.lookup(live, b"x").unwrap(), first.lookup(live, b"x").unwrap());
        assert_ne!(switched.lookup(live, b"x").unwrap(), first.lookup(live, b"x").unwrap());
        let volume = first.lookup(first.lookup(NodeId::ROOT, b"generations").unwrap(), b"1").unwrap();
        assert_eq!(volume, NodeId::volume_root(VolumeNumber(7)));
        assert_eq!(first.parent(volume).unwrap(), first.lookup(NodeId::ROOT, b"generations").unwrap());
        assert_eq!(first.parent(live).unwrap(), NodeId::ROOT);
        assert_eq!(first.parent(NodeId::ROOT).unwrap(), NodeId::ROOT);
        assert!(first.parent(NodeId::volume_root(VolumeNumber(8))).is_err());
        assert!(matches!(first.lookup(NodeId::ROOT, b"liv"), Err(LiveError::NotFound)));
    }

    #[test]
    fn a_switched_link_and_an_added_name_are_forgotten_and_nothing_else() {
        let first = number(&namespace("/a", &["old"]), None, 1);
        let second = number(&namespace("/b", &["new"]), Some(&first), 2);
        let live = first.lookup(NodeId::ROOT, b"live").unwrap();
        let mut invalidations = second.invalidations_from(&first);
        invalidations.sort_by_key(|invalidation| format!("{invalidation:?}"));
        let entry = |parent, name: &[u8]| Invalidation::Entry { parent, name: name.into() };
        let mut expected = vec![
            entry(live, b"x"),
            Invalidation::Node(live),
            entry(NodeId::ROOT, b"old"),
            entry(NodeId::ROOT, b"new"),
            Invalidation::Node(NodeId::ROOT),
        ];
        expected.sort_by_key(|invalidation| format!("{invalidation:?}"));
        assert_eq!(invalidations, expected);
        assert!(second.invalidations_from(&second).is_empty());
    }

    #[test]
    fn times_are_kept_by_what_stays_the_same() {
        let first = number(&namespace("/a", &[]), None, 1);
        let second = number(&namespace("/b", &[]), Some(&first), 2);
        let time =
            |name: &[u8]| second.attributes(second.lookup(NodeId::ROOT, name).unwrap()).unwrap().modified;
        assert_eq!((time(b"generations"), time(b"live")), (Timestamp(1), Timestamp(2)));
    }

    #[test]
    fn a_listing_goes_on_where_it_stopped() {
        let numbered = number(&namespace("/a", &["p", "q", "r"]), None, 1);
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let page = numbered.list(NodeId::ROOT, cookie, 2).unwrap();
            if page.is_empty() {
                break;
            }
            for listed in page {
                let Listed::Own(entry) = listed else { panic!("the root has no volumes") };
                cookie = entry.cookie;
                names.push(entry.name);
            }
        }
        names.sort();
        assert_eq!(names.len(), 5);
        names.dedup();
        assert_eq!(names.len(), 5);
    }
}
