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
