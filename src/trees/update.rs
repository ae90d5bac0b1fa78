//! Changing a directory: the pages around the changes are cut anew, level by level.
//!
//! Each level of pages is a sorted map: the leaves from names to entries, every index level from last keys to
//! children. Applying changes to one level replaces some of its pages, and that is a set of changes to the level
//! above. A level's pages are cut anew from the start of a page that holds a change up to the first place where old
//! and new pages end at the same item; everything else stays as it is.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Place};
use super::page::{Child, Chunker, Page, Value};
use super::{Change, NameKey, Totals, TreeId, Trees, TreesError};
use crate::objects::{Kind, ObjectId};

/// A new value under a key, or its removal.
type Edit<V> = (NameKey, Option<V>);

/// What cutting a level anew does to its pages, each under its last key.
#[derive(Default)]
struct Cut {
    removed: BTreeMap<NameKey, Child>,
    added: BTreeMap<NameKey, Child>,
}

impl Cut {
    /// The edits to the level above; pages cut as they were before are left out.
    fn edits(self) -> Vec<Edit<Child>> {
        let mut edits: BTreeMap<NameKey, Option<Child>> = BTreeMap::new();
        edits.extend(self.removed.keys().map(|key| (key.clone(), None)));
        for (key, child) in self.added {
            if self.removed.get(&key) == Some(&child) {
                edits.remove(&key);
            } else {
                edits.insert(key, Some(child));
            }
        }
        edits.into_iter().collect()
    }
}

impl Trees {
    /// The directory with `changes` (sorted by key, one per key) applied, and its sums. Touches only the pages
    /// around the changes. Like every object, the new pages are durable after [`crate::objects::Objects::flush`].
    pub fn update(
        &self,
        tree: Option<TreeId>,
        changes: &[Change],
    ) -> Result<(Option<TreeId>, Totals), TreesError> {
        assert!(changes.is_sorted_by(|left, right| left.0 < right.0), "changes are sorted, one per key");
        let top = tree.map(|TreeId(id)| self.page(id)).transpose()?;
        let unchanged = (tree, top.as_ref().map_or(Totals::default(), |page| page.totals()));
        if changes.is_empty() {
            return Ok(unchanged);
        }
        let mut cut = self.cut_level(tree, 0, changes)?;
        if let Some(top) = top {
            for height in 1..=top.height() {
                let edits = cut.edits();
                if edits.is_empty() {
                    return Ok(unchanged);
                }
                cut = self.cut_level(tree, height, &edits)?;
            }
        }
        // From the old top on, what was added is all the pages of the level.
        loop {
            match cut.added.first_key_value() {
                None => return Ok((None, Totals::default())),
                Some((_, child)) if cut.added.len() == 1 => return self.without_needless_levels(*child),
                Some((_, child)) => {
                    let height = self.page(child.page)?.height() + 1;
                    let pages: Vec<_> =
                        cut.added.into_iter().map(|(key, child)| (key, Some(child))).collect();
                    cut = self.cut_level(None, height, &pages)?;
                }
            }
        }
    }

    /// Applies `edits` to the pages of `tree` at `height`; returns the edits to the level above.
    fn cut_level<V: Value>(
        &self,
        tree: Option<TreeId>,
        height: u8,
        edits: &[Edit<V>],
    ) -> Result<Cut, TreesError> {
        let mut cursor = Cursor::new(self, tree)?;
        let mut chunker = Chunker::new(height);
        let mut cut = Cut::default();
        let mut rest = edits;
        while let Some((first, _)) = rest.first() {
            let mut at_page = cursor.seek_page(height, first)?;
            while at_page {
                let page = cursor.page()?;
                let run =
                    page.as_deref().and_then(V::run_of).expect("the cursor is at a page of this height");
                if let Place::Page { last, child, .. } = cursor.place() {
                    cut.removed.insert(last.clone(), *child);
                }
                for (key, value) in run.keys.iter().zip(&run.values) {
                    while let Some(((new_key, new_value), after)) = rest.split_first()
                        && new_key < key
                    {
                        self.add(&mut chunker, new_key, new_value.as_ref(), &mut cut)?;
                        rest = after;
                    }
                    match rest.split_first() {
                        Some(((new_key, new_value), after)) if new_key == key => {
                            self.add(&mut chunker, key, new_value.as_ref(), &mut cut)?;
                            rest = after;
                        }
                        _ => self.add(&mut chunker, key, Some(value), &mut cut)?,
                    }
                }
                // Where the new pages end with an old one, those after it are as they were.
                at_page = cursor.next_page(height)?;
                if at_page && chunker.is_empty() {
                    break;
                }
            }
            if !at_page {
                for (key, value) in rest {
                    self.add(&mut chunker, key, value.as_ref(), &mut cut)?;
                }
                rest = &[];
            }
        }
        if let Some(page) = chunker.finish() {
            self.store(page, &mut cut)?;
        }
        Ok(cut)
    }

    fn add<V: Value>(
        &self,
        chunker: &mut Chunker<V>,
        key: &NameKey,
        value: Option<&V>,
        cut: &mut Cut,
    ) -> Result<(), TreesError> {
        let Some(value) = value else { return Ok(()) };
        match chunker.push(key.clone(), value.clone()) {
            Some(page) => self.store(page, cut),
            None => Ok(()),
        }
    }

    fn store(&self, page: Page, cut: &mut Cut) -> Result<(), TreesError> {
        let last = page.keys().last().expect("a page has at least one item").clone();
        let totals = page.totals();
        let content = page.encode();
        let id: ObjectId = match &self.held {
            Some(held) => held.put(&self.objects, content)?,
            None => self.objects.put(Kind::TreePage, &content)?,
        };
        self.cache.insert(id, page.into());
        cut.added.insert(last, Child { page: id, totals });
        Ok(())
    }

    /// The lowest level that has a single page is the top: a directory built anew would end there.
    fn without_needless_levels(&self, mut top: Child) -> Result<(Option<TreeId>, Totals), TreesError> {
        loop {
            match &*self.page(top.page)? {
                Page::Index { run, .. } if run.values.len() == 1 => top = run.values[0],
                _ => return Ok((Some(TreeId(top.page)), top.totals)),
            }
        }
    }
}
