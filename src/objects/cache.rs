//! A small cache of chunks and chunk lists, so that reading a large file in small pieces expands each chunk once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::ObjectId;

/// Objects in memory, at most a number of bytes of them. What was used since it was last considered for removal
/// gets a second chance.
pub(super) struct Cache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: HashMap<ObjectId, Slot>,
    /// The order in which objects are considered for removal.
    queue: VecDeque<ObjectId>,
    bytes: usize,
}

struct Slot {
    content: Arc<[u8]>,
    used: bool,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, state: Mutex::default() }
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<[u8]>> {
        let mut state = self.state.lock();
        let slot = state.objects.get_mut(&id)?;
        slot.used = true;
        Some(slot.content.clone())
    }

    pub(super) fn put(&self, id: ObjectId, content: Arc<[u8]>) {
        if content.len() > self.bytes_max / 4 {
            return;
        }
        let mut state = self.state.lock();
        let length = content.len();
        if state.objects.insert(id, Slot { content, used: false }).is_some() {
            return;
        }
        state.queue.push_back(id);
        state.bytes += length;
        while state.bytes > self.bytes_max {
            let Some(oldest) = state.queue.pop_front() else { break };
            match state.objects.get_mut(&oldest) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    state.queue.push_back(oldest);
                }
                _ => {
                    let removed = state.objects.remove(&oldest).map_or(0, |slot| slot.content.len());
                    state.bytes -= removed;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn the_budget_holds_and_what_is_used_stays() {
        let cache = Cache::new(1000);
        let id = |number: u32| ObjectId::of(Kind::Chunk, &number.to_le_bytes());
        cache.put(id(0), vec![0; 100].into());
        for number in 1..100 {
            cache.put(id(number), vec![0; 100].into());
            assert!(cache.get(id(0)).is_some(), "after {number}");
            assert!(cache.state.lock().bytes <= 1000);
        }
        assert!(cache.get(id(1)).is_none());
        let state = cache.state.lock();
        assert_eq!(state.queue.len(), state.objects.len());
        assert_eq!(state.bytes, state.objects.values().map(|slot| slot.content.len()).sum::<usize>());
    }

    #[test]
    fn what_would_empty_the_cache_is_not_kept() {
        let cache = Cache::new(1000);
        cache.put(ObjectId::of(Kind::Chunk, b"big"), vec![0; 251].into());
        assert_eq!(cache.state.lock().bytes, 0);
    }
}
