//! What a tree consists of: every object, each looked into once.

use super::page::Page;
use super::{Node, Root, TreeId, Trees, TreesError};
use crate::objects::{FileContent, Kind, ObjectId};

/// A reference from outside a tree into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A directory.
    Tree(TreeId),
    /// The content of a file.
    Content(FileContent),
}

impl Trees {
    /// Calls `first` with the name of every object that belongs to `reference`; looks into those for which it says
    /// that it meets them for the first time. Reads directory pages and chunk lists, never a chunk, and keeps none of
    /// them in the cache.
    pub fn reach(
        &self,
        reference: Reference,
        first: &mut dyn FnMut(ObjectId) -> bool,
    ) -> Result<(), TreesError> {
        let mut pages = Vec::new();
        match reference {
            Reference::Tree(TreeId(page)) => pages.push(page),
            Reference::Content(content) => self.reach_content(&content, first)?,
        }
        while let Some(id) = pages.pop() {
            if !first(id) {
                continue;
            }
            match Page::decode(id, &self.objects.get(Kind::TreePage, id)?)? {
                Page::Index { run, .. } => pages.extend(run.values.iter().map(|child| child.page)),
                Page::Leaf(run) => {
                    for entry in &run.values {
                        match &entry.node {
                            Node::Directory { tree, .. } => pages.extend(tree.map(|TreeId(page)| page)),
                            Node::File(content) => self.reach_content(content, first)?,
                            Node::Symlink { .. } | Node::Fifo | Node::HardLink(_) => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Trees::reach`], for everything that a root refers to.
    pub fn reach_root(&self, root: &Root, first: &mut dyn FnMut(ObjectId) -> bool) -> Result<(), TreesError> {
        for tree in root.tree.iter().chain(&root.links) {
            self.reach(Reference::Tree(*tree), first)?;
        }
        Ok(())
    }

    fn reach_content(
        &self,
        content: &FileContent,
        first: &mut dyn FnMut(ObjectId) -> bool,
    ) -> Result<(), TreesError> {
        Ok(self.objects.reach_content(content, first)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::trees::testing::{file, store};
    use crate::trees::{Attributes, Entry, NameKey};

    #[test]
    fn every_object_of_a_tree_is_met_and_none_twice() {
        let store = store();
        let trees = &store.trees;
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let content = trees.objects.put_file(&mut &bytes[..], bytes.len() as u64).unwrap();
        assert!(matches!(content, FileContent::Chunks { .. }));
        let big = Entry { attributes: Attributes::default(), node: Node::File(content) };
        let mut changes: Vec<_> =
            (0..300_u32).map(|n| (NameKey::new(&n.to_be_bytes()), Some(file(u64::from(n))))).collect();
        changes.push((NameKey::new(b"big"), Some(big)));
        changes.sort_by(|one, other| one.0.cmp(&other.0));
        let (below, totals) = trees.update(None, &changes).unwrap();
        let directory =
            Entry { attributes: Attributes::default(), node: Node::Directory { tree: below, totals } };
        // The same directory twice: looked into once.
        let mut twice: Vec<_> =
            [&b"a"[..], b"b"].map(|name| (NameKey::new(name), Some(directory.clone()))).to_vec();
        twice.sort_by(|one, other| one.0.cmp(&other.0));
        let (tree, _) = trees.update(None, &twice).unwrap();
        let mut met = BTreeSet::new();
        let mut count = 0;
        trees
            .reach(Reference::Tree(tree.unwrap()), &mut |id| {
                count += 1;
                met.insert(id)
            })
            .unwrap();
        // The files of the helper have contents that were never stored: met by name all the same.
        let mut stored = BTreeSet::new();
        trees
            .objects
            .each_id(&mut |id| {
                stored.insert(id);
                Ok(())
            })
            .unwrap();
        assert!(stored.is_subset(&met) && stored.len() > 10, "{} of {}", met.len(), stored.len());
        assert_eq!(met.len(), stored.len() + 300);
        assert_eq!(count, met.len() + 1, "only the directory that is there twice is met again");
    }
}
