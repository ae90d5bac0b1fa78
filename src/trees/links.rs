//! Nodes with several names: the table of a tree, and moving them between trees.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::{Cursor, Place};
use super::{Change, Entry, NameKey, Node, Root, Totals, TreeId, Trees, TreesError};
use crate::base::RelativePath;

/// The key of a link number in [`Root::links`].
pub(super) fn link_key(number: u64) -> NameKey {
    NameKey::new(&number.to_be_bytes())
}

impl Trees {
    /// What a name stands for: the entry itself, or the node in `links` it is a name of.
    pub fn resolve_link(&self, links: Option<TreeId>, entry: Entry) -> Result<Entry, TreesError> {
        match entry.node {
            Node::HardLink(number) => self.linked_node(links, number),
            _ => Ok(entry),
        }
    }

    /// The node with several names of this number: a file, a symbolic link or a named pipe.
    pub(super) fn linked_node(&self, links: Option<TreeId>, number: u64) -> Result<Entry, TreesError> {
        let found = self.lookup(links, &link_key(number))?.map(|located| located.entry);
        found
            .filter(|entry| !matches!(entry.node, Node::Directory { .. } | Node::HardLink(_)))
            .ok_or(TreesError::LinkMissing { number })
    }

    /// `onto` with what is at `source_path` of `source` put at `path`, as [`Trees::replace_at`] does. Nodes with
    /// several names come along with those names that are moved, under new numbers where `onto` has such nodes.
    pub fn graft(
        &self,
        onto: &Root,
        path: &RelativePath,
        source: &Root,
        source_path: &RelativePath,
    ) -> Result<Root, TreesError> {
        let Some(entry) = self.unresolved_at(source, source_path)? else {
            return Err(TreesError::NotFound { path: source_path.to_string() });
        };
        if entry.totals().hard_links == 0 {
            return self.replace_at(onto, path, Some(entry));
        }
        let mut onto = self.replace_at(onto, path, None)?;
        // A tree without such nodes takes the numbers as they are: its pages stay those of the source.
        let keeps_numbers = onto.links.is_none();
        onto.next_link = if keeps_numbers { onto.next_link.max(source.next_link) } else { onto.next_link };
        let mut moved = BTreeMap::new();
        let entry = self.renumber(entry, &mut |number| {
            *moved.entry(number).or_insert_with(|| {
                if keeps_numbers {
                    return number;
                }
                onto.next_link += 1;
                onto.next_link - 1
            })
        })?;
        let mut added: Vec<Change> = Vec::new();
        for (number, new) in moved {
            added.push((link_key(new), Some(self.linked_node(source.links, number)?)));
        }
        added.sort_by(|left, right| left.0.cmp(&right.0));
        onto.links = self.update(onto.links, &added)?.0;
        self.replace_at(&onto, path, Some(entry))
    }

    /// `root` without the rows of [`Root::links`] that no name refers to.
    pub(super) fn without_unused_links(&self, root: Root) -> Result<Root, TreesError> {
        let mut used = BTreeSet::new();
        let whole = Node::Directory { tree: root.tree, totals: root.totals };
        self.renumber(Entry { attributes: root.attributes.clone(), node: whole }, &mut |number| {
            used.insert(link_key(number));
            number
        })?;
        let mut unused: Vec<Change> = Vec::new();
        let mut cursor = Cursor::new(self, root.links)?;
        while let Some(located) = cursor.entry()? {
            if !used.contains(&located.key) {
                unused.push((located.key, None));
            }
            cursor.advance();
        }
        let (links, _) = self.update(root.links, &unused)?;
        Ok(Root { links, ..root })
    }

    /// `entry` with each link number in it or below it replaced by what `number` says of it. Passes by
    /// directories and pages without any; writes nothing where no number changes.
    fn renumber(&self, entry: Entry, number: &mut dyn FnMut(u64) -> u64) -> Result<Entry, TreesError> {
        // Directories under way, the innermost last: a tree may be deeper than a thread's stack.
        struct Level<'a> {
            cursor: Cursor<'a>,
            tree: Option<TreeId>,
            changes: Vec<Change>,
            /// The name (of the topmost: none) and the entry of the directory itself.
            key: NameKey,
            entry: Entry,
        }
        let level = |key: NameKey, tree, entry| -> Result<Level<'_>, TreesError> {
            Ok(Level { cursor: Cursor::new(self, tree)?, tree, changes: Vec::new(), key, entry })
        };
        let mut levels = match entry.node {
            Node::HardLink(old) => return Ok(Entry { node: Node::HardLink(number(old)), ..entry }),
            Node::Directory { tree, .. } => vec![level(NameKey::new(b""), tree, entry)?],
            _ => return Ok(entry),
        };
        loop {
            let top = levels.last_mut().expect("the loop ends when the first level does");
            match top.cursor.place() {
                Place::Page { child, .. } if child.totals.hard_links == 0 => top.cursor.advance(),
                Place::Page { .. } => top.cursor.enter()?,
                Place::Entry(key, found) => {
                    let (key, found) = (key.clone(), found.clone());
                    top.cursor.advance();
                    match found.node {
                        Node::HardLink(old) => {
                            let node = Node::HardLink(number(old));
                            if node != found.node {
                                top.changes.push((key, Some(Entry { node, ..found })));
                            }
                        }
                        Node::Directory { tree, totals } if totals.hard_links > 0 => {
                            levels.push(level(key, tree, found)?);
                        }
                        _ => {}
                    }
                }
                Place::End => {
                    let done = levels.pop().expect("it is the last level");
                    let (tree, totals): (_, Totals) = self.update(done.tree, &done.changes)?;
                    let entry = Entry { node: Node::Directory { tree, totals }, ..done.entry };
                    match levels.last_mut() {
                        None => return Ok(entry),
                        Some(above) if tree != done.tree => above.changes.push((done.key, Some(entry))),
                        Some(_) => {}
                    }
                }
            }
        }
    }
}
