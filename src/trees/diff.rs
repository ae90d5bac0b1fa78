//! What differs between two trees.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Place};
use super::{Entry, Node, Root, Totals, TreeId, Trees, TreesError};

/// One difference between two trees. Two entries are the same when they are so with hard links resolved: which
/// names share a node is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path from the root; bytes, as names need not be UTF-8.
    pub path: PathBuf,
    /// The entry in the first tree, hard links resolved.
    pub old: Option<Entry>,
    /// The entry in the second tree, hard links resolved.
    pub new: Option<Entry>,
}

/// A name with what it stands for in either tree, hard links not resolved.
struct Pair {
    name: Box<[u8]>,
    old: Option<Entry>,
    new: Option<Entry>,
}

impl Trees {
    /// Calls `each` for every entry that differs, in path order: a directory before what is in it, siblings by
    /// their names' bytes. Descends only where trees differ, and reads only pages that differ. Entries that appear
    /// or vanish as a whole directory are reported with everything below them. A directory is not reported for
    /// what changed below it, only for its own attributes (its modification time among them); the topmost
    /// directory never.
    pub fn diff(
        &self,
        old: &Root,
        new: &Root,
        each: &mut dyn FnMut(Difference) -> Result<(), TreesError>,
    ) -> Result<(), TreesError> {
        // Equal names may stand for different nodes only where they are hard links and the tables differ.
        let links_differ = old.links != new.links && !self.pairs(old.links, new.links, false)?.is_empty();
        let below = |entry: &Option<Entry>| match entry {
            Some(Entry { node: Node::Directory { tree, totals }, .. }) => (*tree, totals.hard_links > 0),
            _ => (None, false),
        };
        let mut path = PathBuf::new();
        // The directories under way, the innermost last: a tree may be deeper than a thread's stack.
        let top_has_links = old.totals.hard_links > 0 || new.totals.hard_links > 0;
        let mut levels = Vec::new();
        if old.tree != new.tree || links_differ && top_has_links {
            levels.push(self.pairs(old.tree, new.tree, links_differ)?.into_iter());
        }
        while let Some(level) = levels.last_mut() {
            let Some(pair) = level.next() else {
                levels.pop();
                path.pop();
                continue;
            };
            path.push(Path::new(OsStr::from_bytes(&pair.name)));
            let (old_tree, old_has_links) = below(&pair.old);
            let (new_tree, new_has_links) = below(&pair.new);
            let resolve =
                |links, entry: Option<Entry>| entry.map(|entry| self.resolve_link(links, entry)).transpose();
            let (old_entry, new_entry) = (resolve(old.links, pair.old)?, resolve(new.links, pair.new)?);
            if differ(&old_entry, &new_entry) {
                each(Difference { path: path.clone(), old: old_entry, new: new_entry })?;
            }
            if old_tree != new_tree || links_differ && (old_has_links || new_has_links) {
                levels.push(self.pairs(old_tree, new_tree, links_differ)?.into_iter());
            } else {
                path.pop();
            }
        }
        Ok(())
    }

    /// The names of two directories whose entries are not the same, in the order of the names' bytes. With
    /// `links_differ`, entries with hard links in or below them count as not the same.
    fn pairs(
        &self,
        old: Option<TreeId>,
        new: Option<TreeId>,
        links_differ: bool,
    ) -> Result<Vec<Pair>, TreesError> {
        let is_same = |equal: bool, totals: Totals| equal && !(links_differ && totals.hard_links > 0);
        let mut pairs = Vec::new();
        let (mut olds, mut news) = (Cursor::new(self, old)?, Cursor::new(self, new)?);
        loop {
            // Which of the two to move past what it is at, or into the page it is at.
            let (old_moves, new_moves) = match (olds.place(), news.place()) {
                (Place::End, Place::End) => break,
                (Place::Page { child: left, .. }, Place::Page { child: right, .. })
                    if is_same(left.page == right.page, left.totals) =>
                {
                    olds.advance();
                    news.advance();
                    continue;
                }
                // Pages of the same height may turn out to share pages below.
                (Place::Page { height: left, .. }, Place::Page { height: right, .. }) => {
                    (left >= right, right >= left)
                }
                (Place::Page { .. }, _) => (true, false),
                (_, Place::Page { .. }) => (false, true),
                (left, right) => {
                    let order = match (&left, &right) {
                        (Place::Entry(left, _), Place::Entry(right, _)) => left.cmp(right),
                        (Place::Entry(..), _) => Ordering::Less,
                        _ => Ordering::Greater,
                    };
                    let entry = |place, turn| match place {
                        Place::Entry(key, entry) if turn => Some((key.name.clone(), entry.clone())),
                        _ => None,
                    };
                    let (old_moves, new_moves) = (order.is_le(), order.is_ge());
                    match (entry(left, old_moves), entry(right, new_moves)) {
                        (Some((_, old)), Some((_, new))) if is_same(old == new, old.totals()) => {}
                        (Some((name, old)), new) => {
                            pairs.push(Pair { name, old: Some(old), new: new.map(|(_, entry)| entry) });
                        }
                        (None, Some((name, new))) => pairs.push(Pair { name, old: None, new: Some(new) }),
                        (None, None) => {}
                    }
                    (old_moves, new_moves)
                }
            };
            for (cursor, moves) in [(&mut olds, old_moves), (&mut news, new_moves)] {
                match (moves, cursor.place()) {
                    (true, Place::Page { .. }) => cursor.enter()?,
                    (true, _) => cursor.advance(),
                    (false, _) => {}
                }
            }
        }
        pairs.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(pairs)
    }
}

/// Whether two entries, hard links resolved, differ in themselves rather than only below.
fn differ(old: &Option<Entry>, new: &Option<Entry>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let directories = [old, new].map(|entry| matches!(entry.node, Node::Directory { .. }));
            old.attributes != new.attributes || directories != [true; 2] && old.node != new.node
        }
        (old, new) => old.is_some() || new.is_some(),
    }
}

#[cfg(test)]
mod tests;
