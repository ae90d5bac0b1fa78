//! Pages held back while a tree is built, so that they lie next to each other in the store.
//!
//! What a listing needs is the pages; stored as they come, each would lie behind the chunks of its directory's files,
//! and a first walk over a tree would read the disk at as many places as there are directories.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Trees;
use super::cache::PageCache;
use crate::objects::{Kind, ObjectId, Objects, ObjectsError};

/// How much is held back at most, in bytes: the pages of some 300,000 files.
const HELD_BYTES_MAX: usize = 32 << 20;

/// Decoded pages kept while building, in bytes: the pages of directories too large for one, which are read again.
const CACHE_BYTES_MAX: usize = 8 << 20;

/// Pages that are not in the store yet.
#[derive(Default)]
pub(super) struct Held {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: HashMap<ObjectId, Arc<[u8]>>,
    /// In the order they came.
    order: Vec<ObjectId>,
    bytes: usize,
}

impl Held {
    /// Takes a page; puts all of them into the store when they are many.
    pub(super) fn put(&self, objects: &Objects, content: Vec<u8>) -> Result<ObjectId, ObjectsError> {
        let id = ObjectId::of(Kind::TreePage, &content);
        let mut state = self.state.lock();
        if !state.pages.contains_key(&id) {
            state.bytes += content.len();
            state.pages.insert(id, content.into());
            state.order.push(id);
        }
        if state.bytes > HELD_BYTES_MAX { state.put_all(objects) } else { Ok(()) }?;
        Ok(id)
    }

    /// The content of a page that is held back.
    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<[u8]>> {
        self.state.lock().pages.get(&id).cloned()
    }
}

impl State {
    fn put_all(&mut self, objects: &Objects) -> Result<(), ObjectsError> {
        for id in self.order.drain(..) {
            if let Some(content) = self.pages.remove(&id) {
                objects.put(Kind::TreePage, &content)?;
            }
        }
        self.bytes = 0;
        Ok(())
    }
}

impl Trees {
    /// The same trees for building one: its pages come into the store together, by [`Trees::put_held`] at the latest.
    /// Until then only this value knows them.
    pub(super) fn holding_pages(&self) -> Trees {
        Trees {
            objects: Arc::clone(&self.objects),
            cache: PageCache::new(CACHE_BYTES_MAX),
            held: Some(Held::default()),
        }
    }

    /// Puts the pages that are held back into the store.
    pub(super) fn put_held(&self) -> Result<(), ObjectsError> {
        match &self.held {
            Some(held) => held.state.lock().put_all(&self.objects),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::trees::testing::store;
    use crate::trees::{Attributes, Change, Entry, NameKey, Node};

    #[test]
    fn a_tree_is_the_same_held_back_and_in_the_store_afterwards() {
        let store = store();
        let mut changes: Vec<Change> = (0..5_000_u32)
            .map(|number| {
                let entry = Entry { attributes: Attributes::default(), node: Node::Fifo };
                (NameKey::new(&number.to_le_bytes()), Some(entry))
            })
            .collect();
        changes.sort_by(|left, right| left.0.cmp(&right.0));
        let holding = store.trees.holding_pages();
        let (tree, totals) = holding.update(None, &changes).unwrap();
        assert!(store.trees.list(tree, 0, 10).is_err(), "its pages are held back");
        assert_eq!(holding.list(tree, 0, 10).unwrap().len(), 10);
        holding.put_held().unwrap();
        assert_eq!(store.trees.update(None, &changes).unwrap(), (tree, totals));
        assert_eq!(store.trees.list(tree, 0, 5_000).unwrap().len(), 5_000);
    }
}
