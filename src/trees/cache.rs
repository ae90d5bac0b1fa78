//! The cache of decoded pages, bounded in bytes.
//!
//! Shards keep threads out of each other's way. Within one, pages leave in the order they came, except that one
//! used since its last turn gets another ("second chance"): a walk over a large tree cannot drive out the pages
//! that are in daily use.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use super::page::Page;
use crate::objects::ObjectId;

const SHARDS: usize = 16;

/// Takes the first eight bytes of an object's name as they are: they are a hash already.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of the array, which comes before its bytes, says nothing.
    fn write_usize(&mut self, _length: usize) {}
}

struct Slot {
    page: Arc<Page>,
    bytes: usize,
    used: bool,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<ObjectId, Slot, BuildHasherDefault<NameHasher>>,
    /// The keys of `slots`, the next to leave first.
    queue: VecDeque<ObjectId>,
    bytes: usize,
}

/// Decoded pages by their id.
pub(super) struct PageCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
}

impl PageCache {
    /// An empty cache of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> PageCache {
        PageCache { shards: Default::default(), shard_bytes_max: bytes_max / SHARDS }
    }

    /// The page, when it is here.
    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<Page>> {
        let mut shard = self.shard(id).lock();
        let slot = shard.slots.get_mut(&id)?;
        slot.used = true;
        Some(Arc::clone(&slot.page))
    }

    /// Keeps the page, unless it takes more than a shard may.
    pub(super) fn insert(&self, id: ObjectId, page: Arc<Page>) {
        let bytes = page.memory_bytes();
        if bytes > self.shard_bytes_max {
            return;
        }
        let mut shard = self.shard(id).lock();
        let shard = &mut *shard;
        if shard.slots.insert(id, Slot { page, bytes, used: false }).is_some() {
            return;
        }
        shard.queue.push_back(id);
        shard.bytes += bytes;
        while shard.bytes > self.shard_bytes_max {
            let next = shard.queue.pop_front().expect("what is counted is queued");
            let slot = shard.slots.get_mut(&next).expect("what is queued is kept");
            if std::mem::take(&mut slot.used) {
                shard.queue.push_back(next);
            } else {
                shard.bytes -= slot.bytes;
                shard.slots.remove(&next);
            }
        }
    }

    /// How many pages are here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().slots.len()).sum()
    }

    fn shard(&self, id: ObjectId) -> &Mutex<Shard> {
        // Another byte than those that choose the place within the shard.
        &self.shards[usize::from(id.as_bytes()[31]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Kind;
    use crate::trees::page::Chunker;
    use crate::trees::{Attributes, Entry, NameKey, Node};

    fn page(number: u32) -> (ObjectId, Arc<Page>) {
        let mut chunker = Chunker::new(0);
        let entry = Entry { attributes: Attributes::default(), node: Node::Fifo };
        let page = chunker.push(NameKey::new(&number.to_le_bytes()), entry).or_else(|| chunker.finish());
        (ObjectId::of(Kind::TreePage, &number.to_le_bytes()), Arc::new(page.unwrap()))
    }

    #[test]
    fn a_page_in_use_outlives_a_walk_and_the_budget_holds() {
        let one = page(0).1.memory_bytes();
        let cache = PageCache::new(SHARDS * one * 4);
        let (used, content) = page(0);
        cache.insert(used, content);
        for number in 1..5_000 {
            assert!(cache.get(used).is_some(), "lost at {number}");
            let (id, content) = page(number);
            cache.insert(id, content);
        }
        let kept = (0..5_000).filter(|number| cache.get(page(*number).0).is_some()).count();
        assert!((2..=SHARDS * 4).contains(&kept), "{kept}");
    }

    #[test]
    fn a_page_over_budget_is_not_kept() {
        let cache = PageCache::new(0);
        let (id, content) = page(1);
        cache.insert(id, content);
        assert!(cache.get(id).is_none());
    }
}
