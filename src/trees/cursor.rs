//! A place in a directory's pages.

use std::sync::Arc;

use super::page::{Child, Page, Run};
use super::{Entry, Located, NameKey, TreeId, Trees, TreesError};

/// A place in the pages of one directory: at an entry, at a whole page, or at the end.
///
/// The stack starts with a page of the cursor's own that refers to the topmost page, so that every page of the
/// directory, the topmost too, is referred to by a step of the stack.
pub(super) struct Cursor<'a> {
    trees: &'a Trees,
    stack: Vec<Step>,
}

struct Step {
    page: Arc<Page>,
    at: usize,
}

/// What a cursor is at.
pub(super) enum Place<'a> {
    /// A page not yet entered; `height` levels above the leaves, `last` its last key.
    Page { last: &'a NameKey, child: &'a Child, height: u8 },
    /// An entry of a leaf page.
    Entry(&'a NameKey, &'a Entry),
    /// Past everything.
    End,
}

impl<'a> Cursor<'a> {
    /// At the topmost page of a directory; at the end of an empty one.
    pub(super) fn new(trees: &'a Trees, tree: Option<TreeId>) -> Result<Cursor<'a>, TreesError> {
        let mut stack = Vec::new();
        if let Some(TreeId(id)) = tree {
            let top = trees.page(id)?;
            let last = top.keys().last().expect("a page has at least one item").clone();
            let run = Run::new(vec![last], vec![Child { page: id, totals: top.totals() }]);
            stack.push(Step { page: Arc::new(Page::Index { height: top.height() + 1, run }), at: 0 });
        }
        Ok(Cursor { trees, stack })
    }

    /// What the cursor is at.
    pub(super) fn place(&self) -> Place<'_> {
        match self.stack.last() {
            None => Place::End,
            Some(Step { page, at }) => match &**page {
                Page::Leaf(run) => Place::Entry(&run.keys[*at], &run.values[*at]),
                Page::Index { height, run } => {
                    Place::Page { last: &run.keys[*at], child: &run.values[*at], height: height - 1 }
                }
            },
        }
    }

    /// Into the page the cursor is at, to its first item.
    pub(super) fn enter(&mut self) -> Result<(), TreesError> {
        self.enter_at(|_| 0)
    }

    fn enter_at(&mut self, choose: impl FnOnce(&Page) -> usize) -> Result<(), TreesError> {
        if let Place::Page { child, height, .. } = self.place() {
            let page = self.trees.page_of_height(child.page, height)?;
            let at = choose(&page);
            self.stack.push(Step { page, at });
        }
        Ok(())
    }

    /// Past what the cursor is at.
    pub(super) fn advance(&mut self) {
        while let Some(step) = self.stack.last_mut() {
            step.at += 1;
            if step.at < step.page.keys().len() {
                break;
            }
            self.stack.pop();
        }
    }

    /// To the page of `height` that `key` belongs in: the first whose last key is not before it, or the last of
    /// all. Returns whether there is one.
    pub(super) fn seek_page(&mut self, height: u8, key: &NameKey) -> Result<bool, TreesError> {
        let Some(top) = self.stack.first_mut() else { return Ok(false) };
        top.at = 0;
        self.stack.truncate(1);
        while let Place::Page { height: found, .. } = self.place() {
            if found <= height {
                return Ok(found == height);
            }
            self.enter_at(|page| {
                let keys = page.keys();
                keys.partition_point(|last| last < key).min(keys.len() - 1)
            })?;
        }
        Ok(false)
    }

    /// From a page of `height` to the next one; returns whether there is one, staying put where there is none.
    pub(super) fn next_page(&mut self, height: u8) -> Result<bool, TreesError> {
        if self.stack.iter().all(|step| step.at + 1 == step.page.keys().len()) {
            return Ok(false);
        }
        self.advance();
        while matches!(self.place(), Place::Page { height: found, .. } if found > height) {
            self.enter()?;
        }
        Ok(true)
    }

    /// The page the cursor is at.
    pub(super) fn page(&self) -> Result<Option<Arc<Page>>, TreesError> {
        match self.place() {
            Place::Page { child, height, .. } => Ok(Some(self.trees.page_of_height(child.page, height)?)),
            Place::Entry(..) | Place::End => Ok(None),
        }
    }

    /// To the first entry whose cookie is greater than `after`, or to the end. From the start.
    pub(super) fn seek_cookie(&mut self, after: u64) -> Result<(), TreesError> {
        let past = |page: &Page| page.keys().partition_point(|key| key.cookie <= after);
        if matches!(self.place(), Place::Page { last, .. } if last.cookie <= after) {
            self.stack.clear();
        }
        while matches!(self.place(), Place::Page { .. }) {
            // The last key of the page is greater, so the item found is in it; a damaged page may lack it.
            self.enter_at(|page| past(page).min(page.keys().len() - 1))?;
        }
        Ok(())
    }

    /// The entry the cursor is at, entering pages as needed; `None` at the end.
    pub(super) fn entry(&mut self) -> Result<Option<Located>, TreesError> {
        loop {
            match self.place() {
                Place::End => return Ok(None),
                Place::Page { .. } => self.enter()?,
                Place::Entry(key, entry) => {
                    let before = self.stack.iter().map(|step| step.page.preceding()[step.at]);
                    let preceding = before.fold(0, u64::saturating_add);
                    return Ok(Some(Located { key: key.clone(), entry: entry.clone(), preceding }));
                }
            }
        }
    }
}
