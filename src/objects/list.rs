//! Chunk lists: which chunks make up a file (`docs/format.md`, "Chunk lists").
//!
//! A list holds entries of one width, so a position is found by bisection without decoding. Long files have lists of
//! lists. A list is cut where the name of its last entry says, as chunks are cut where their bytes say: two versions
//! of a large file share most of their lists too.

use std::sync::Arc;

use super::{Kind, ObjectId, ObjectsError};

const VERSION: u8 = 1;
const HEADER_LEN: usize = 2;
const ENTRY_LEN: usize = 40;

/// Lists end after an entry whose name has this many zero bits at its end: after 1024 entries on average.
const CUT_BITS: u32 = 10;

/// Longest list: 8192 entries are 320 KiB, and stand for 512 MiB of an average file.
const ENTRIES_MAX: usize = 8192;

/// Lists of lists of lists: far beyond any file's size. Bounds the descent into a damaged store.
const LEVEL_MAX: u8 = 7;

/// A list, checked.
pub(super) struct ChunkList {
    bytes: Arc<[u8]>,
}

/// What a list says about one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The chunk, or the list below.
    pub(super) id: ObjectId,
    /// Whether it is a chunk or a list.
    pub(super) kind: Kind,
    /// Where it begins, counted from the beginning of the list, in bytes.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
}

impl Part {
    /// How long it is in bytes.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }
}

impl ChunkList {
    /// Takes the content of a list object; `None` when it is not one.
    pub(super) fn new(bytes: Arc<[u8]>) -> Option<ChunkList> {
        let [VERSION, level, entries @ ..] = &bytes[..] else { return None };
        if *level > LEVEL_MAX || entries.is_empty() || entries.len() % ENTRY_LEN != 0 {
            return None;
        }
        Some(ChunkList { bytes })
    }

    fn kind(&self) -> Kind {
        if self.bytes[1] == 0 { Kind::Chunk } else { Kind::ChunkList }
    }

    /// How high the list is above the chunks: 0 for a list of chunks.
    pub(super) fn level(&self) -> u8 {
        self.bytes[1]
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        (self.bytes.len() - HEADER_LEN) / ENTRY_LEN
    }

    fn entry(&self, place: usize) -> (ObjectId, u64) {
        let start = HEADER_LEN + place * ENTRY_LEN;
        let entry = &self.bytes[start..start + ENTRY_LEN];
        let id = entry[..32].try_into().expect("32 bytes");
        (ObjectId::from_bytes(id), u64::from_le_bytes(entry[32..].try_into().expect("8 bytes")))
    }

    /// The name in the entry at a place below [`ChunkList::len`].
    pub(super) fn id_at(&self, place: usize) -> ObjectId {
        self.entry(place).0
    }

    /// How many bytes the list stands for.
    pub(super) fn total(&self) -> u64 {
        self.entry(self.len() - 1).1
    }

    /// The part at a place; `None` beyond the last, or when the list is not in order.
    pub(super) fn part(&self, place: usize) -> Option<Part> {
        if place >= self.len() {
            return None;
        }
        let (id, end) = self.entry(place);
        let start = if place == 0 { 0 } else { self.entry(place - 1).1 };
        (start < end).then_some(Part { id, kind: self.kind(), start, end })
    }

    /// The part that holds the byte at `offset`; `None` beyond the end, or when the list is not in order.
    pub(super) fn part_at(&self, offset: u64) -> Option<Part> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).1 <= offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.part(low)
    }
}

/// Builds the lists of one file.
pub(super) struct Builder<'a> {
    put: &'a mut dyn FnMut(&[u8]) -> Result<ObjectId, ObjectsError>,
    /// The list under way on each level.
    levels: Vec<Vec<u8>>,
}

impl<'a> Builder<'a> {
    /// A builder that stores finished lists with `put`.
    pub(super) fn new(put: &'a mut dyn FnMut(&[u8]) -> Result<ObjectId, ObjectsError>) -> Builder<'a> {
        Builder { put, levels: Vec::new() }
    }

    /// Appends a chunk of `length` bytes.
    pub(super) fn push(&mut self, chunk: ObjectId, length: u64) -> Result<(), ObjectsError> {
        self.push_at(0, chunk, length)
    }

    fn push_at(&mut self, level: usize, id: ObjectId, length: u64) -> Result<(), ObjectsError> {
        if self.levels.len() == level {
            self.levels.push(vec![VERSION, level as u8]);
        }
        let list = &mut self.levels[level];
        let end = total(list) + length;
        list.extend_from_slice(id.as_bytes());
        list.extend_from_slice(&end.to_le_bytes());
        let [.., last_but_one, last] = *id.as_bytes();
        let cut = u16::from_be_bytes([last_but_one, last]).trailing_zeros() >= CUT_BITS;
        if (cut || (list.len() - HEADER_LEN) / ENTRY_LEN >= ENTRIES_MAX) && level < usize::from(LEVEL_MAX) {
            self.close(level)?;
        }
        Ok(())
    }

    /// Stores the list of `level` and enters it into the level above.
    fn close(&mut self, level: usize) -> Result<(), ObjectsError> {
        let list = std::mem::replace(&mut self.levels[level], vec![VERSION, level as u8]);
        let id = (self.put)(&list)?;
        self.push_at(level + 1, id, total(&list))
    }

    /// Stores what remains and returns the topmost list.
    pub(super) fn finish(mut self) -> Result<ObjectId, ObjectsError> {
        let mut level = 0;
        loop {
            let list = &self.levels[level];
            let is_top = level + 1 == self.levels.len();
            match (list.len() - HEADER_LEN) / ENTRY_LEN {
                // A top that holds one list is that list.
                1 if is_top && level > 0 => {
                    let id = list[HEADER_LEN..HEADER_LEN + 32].try_into().expect("32 bytes");
                    return Ok(ObjectId::from_bytes(id));
                }
                _ if is_top => return (self.put)(&self.levels[level]),
                0 => {}
                _ => self.close(level)?,
            }
            level += 1;
        }
    }
}

fn total(list: &[u8]) -> u64 {
    match list[HEADER_LEN..].last_chunk() {
        Some(end) => u64::from_le_bytes(*end),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Chunks of a made-up file: names and lengths.
    fn chunks(count: u64) -> Vec<(ObjectId, u64)> {
        (0..count).map(|number| (ObjectId::of(Kind::Chunk, &number.to_le_bytes()), number % 7 + 1)).collect()
    }

    /// The lists of a file: the topmost and all by name.
    fn build(chunks: &[(ObjectId, u64)]) -> (ObjectId, HashMap<ObjectId, ChunkList>) {
        let mut lists = HashMap::new();
        let mut put = |bytes: &[u8]| {
            let id = ObjectId::of(Kind::ChunkList, bytes);
            lists.insert(id, ChunkList::new(bytes.into()).expect("a list is well-formed"));
            Ok(id)
        };
        let mut builder = Builder::new(&mut put);
        for (id, length) in chunks {
            builder.push(*id, *length).unwrap();
        }
        let top = builder.finish().unwrap();
        (top, lists)
    }

    fn leaves(lists: &HashMap<ObjectId, ChunkList>, top: ObjectId, found: &mut Vec<(ObjectId, u64)>) {
        let list = &lists[&top];
        for place in 0..list.len() {
            let part = list.part(place).unwrap();
            match part.kind {
                Kind::Chunk => found.push((part.id, part.length())),
                _ => {
                    assert_eq!(lists[&part.id].total(), part.length());
                    assert_eq!(lists[&part.id].level() + 1, list.level());
                    leaves(lists, part.id, found);
                }
            }
        }
    }

    #[test]
    fn lists_of_every_height_hold_all_chunks_in_order() {
        for count in [1, 2, 900, 5_000, 30_000] {
            let chunks = chunks(count);
            let (top, lists) = build(&chunks);
            let mut found = Vec::new();
            leaves(&lists, top, &mut found);
            assert!(found == chunks, "{count} chunks");
            assert!(lists.len() == 1 || lists[&top].level() > 0);
        }
    }

    #[test]
    fn a_change_makes_one_new_list_a_level() {
        let mut chunks = chunks(30_000);
        let (_, before) = build(&chunks);
        chunks.insert(15_000, (ObjectId::of(Kind::Chunk, b"inserted"), 5));
        let (_, after) = build(&chunks);
        let new = after.keys().filter(|id| !before.contains_key(id)).count();
        assert!(before.len() > 10 && new <= 3, "{new} of {} lists are new", after.len());
    }

    #[test]
    fn positions_are_found_at_their_edges() {
        let (top, lists) = build(&chunks(100));
        let list = &lists[&top];
        for place in 0..list.len() {
            let part = list.part(place).unwrap();
            assert_eq!(list.part_at(part.start), Some(part));
            assert_eq!(list.part_at(part.end - 1), Some(part));
        }
        assert_eq!(list.part_at(list.total()), None);
        assert_eq!(list.part(list.len()), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let entry = [0; ENTRY_LEN];
        let bytes = |head: [u8; 2], entries: &[u8]| Arc::from([&head[..], entries].concat());
        assert!(ChunkList::new(bytes([VERSION, 0], &entry)).is_some());
        for wrong in [
            bytes([VERSION + 1, 0], &entry),
            bytes([VERSION, LEVEL_MAX + 1], &entry),
            bytes([VERSION, 0], &[]),
            bytes([VERSION, 0], &entry[1..]),
            Arc::from([]),
        ] {
            assert!(ChunkList::new(wrong).is_none());
        }
        // Ends that do not ascend.
        let list = ChunkList::new(bytes([VERSION, 0], &entry)).unwrap();
        assert_eq!((list.part(0), list.part_at(0)), (None, None));
    }
}
