//! Paths through a tree: finding and replacing what is at one.

use std::path::{Path, PathBuf};

use super::{Attributes, Change, Entry, NameKey, Node, Root, Totals, TreeId, Trees, TreesError};
use crate::base::RelativePath;

/// The names that make up a path.
pub(super) type Components = Vec<Box<[u8]>>;

/// A path, and what to put there (`None`: nothing).
pub(super) type PathEdit = (Components, Option<Entry>);

impl Trees {
    /// The entry at a path, hard links resolved; `None` where there is none. Symbolic links are not followed.
    pub fn entry_at(&self, root: &Root, path: &RelativePath) -> Result<Option<Entry>, TreesError> {
        let found = self.unresolved_at(root, path)?;
        found.map(|entry| self.resolve_link(root.links, entry)).transpose()
    }

    /// `root` with `entry` at `path` (`None` removes it). Missing parent directories are created with the
    /// attributes of their parent. Rewrites only the directories along the path. The totals are kept right, and
    /// nodes with several names leave [`Root::links`] with the last of them.
    ///
    /// Hard links in `entry` or below it mean those of `root`; [`Trees::graft`] takes them from another tree.
    pub fn replace_at(
        &self,
        root: &Root,
        path: &RelativePath,
        entry: Option<Entry>,
    ) -> Result<Root, TreesError> {
        let hard_links = |entry: &Entry| entry.totals().hard_links;
        let removes_links = self.unresolved_at(root, path)?.as_ref().map_or(0, hard_links) > 0;
        let components = path.components().map(|name| name.as_bytes().into()).collect();
        let (tree, totals) = self.edit_paths(root.tree, &root.attributes, &[(components, entry)], 0)?;
        let changed = Root { tree, totals, ..root.clone() };
        if removes_links { self.without_unused_links(changed) } else { Ok(changed) }
    }

    /// The entry at a path as it is in its directory.
    pub(super) fn unresolved_at(
        &self,
        root: &Root,
        path: &RelativePath,
    ) -> Result<Option<Entry>, TreesError> {
        let mut found = None;
        let mut directory = Some(root.tree);
        for name in path.components() {
            let Some(tree) = directory else { return Ok(None) };
            let Some(located) = self.lookup(tree, &NameKey::new(name.as_bytes()))? else { return Ok(None) };
            directory = match located.entry.node {
                Node::Directory { tree, .. } => Some(tree),
                _ => None,
            };
            found = Some(located.entry);
        }
        Ok(found)
    }

    /// Applies `edits`, sorted by path, none below another, to the directory that is `depth` components down and
    /// has these `attributes`. Each directory on the way is rewritten once.
    pub(super) fn edit_paths(
        &self,
        tree: Option<TreeId>,
        attributes: &Attributes,
        edits: &[PathEdit],
        depth: usize,
    ) -> Result<(Option<TreeId>, Totals), TreesError> {
        let mut changes: Vec<Change> = Vec::new();
        for group in edits.chunk_by(|(left, _), (right, _)| left[depth] == right[depth]) {
            let (path, entry) = &group[0];
            let key = NameKey::new(&path[depth]);
            if path.len() == depth + 1 {
                changes.push((key, entry.clone()));
                continue;
            }
            let (attributes, below) = match self.lookup(tree, &key)?.map(|located| located.entry) {
                Some(Entry { attributes, node: Node::Directory { tree, .. } }) => (attributes, tree),
                Some(_) => return Err(TreesError::NotFound { path: display(path) }),
                None if group.iter().all(|(_, entry)| entry.is_none()) => continue,
                None => (attributes.clone(), None),
            };
            let (tree, totals) = self.edit_paths(below, &attributes, group, depth + 1)?;
            changes.push((key, Some(Entry { attributes, node: Node::Directory { tree, totals } })));
        }
        changes.sort_by(|left, right| left.0.cmp(&right.0));
        self.update(tree, &changes)
    }
}

/// The path of these components.
pub(super) fn joined(components: &[Box<[u8]>]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    components.iter().map(|name| Path::new(std::ffi::OsStr::from_bytes(name))).collect()
}

fn display(components: &[Box<[u8]>]) -> String {
    joined(components).display().to_string()
}
