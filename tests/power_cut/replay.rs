//! The disk as it could stand after a power cut at any point of a recording.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::numbers::Numbers;
use crate::recorder::ENTRY_BYTES;

/// What a power cut tears at: sectors are written whole or not at all.
const SECTOR: usize = 512;

/// What the kernel writes, in sectors.
const PAGE_SECTORS: usize = 8;

/// What becomes of the writes that no flush has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unflushed {
    /// None reached the disk.
    Dropped,
    /// Each sector of each did with a chance of a half.
    Half,
    /// Each page of each did, as a whole.
    HalfOfPages,
    /// All did.
    Kept,
}

impl Unflushed {
    pub(crate) const ALL: [Unflushed; 4] =
        [Unflushed::Dropped, Unflushed::Half, Unflushed::Kept, Unflushed::HalfOfPages];
}

struct Entry {
    is_flush: bool,
    offset: usize,
    length: usize,
    /// Where its bytes are in the recording.
    data: u64,
}

/// A finished recording.
pub(crate) struct Recording {
    entries: Vec<Entry>,
    data: File,
    /// The disk as the last flush before `next` left it.
    durable: Vec<u8>,
    next: usize,
}

impl Recording {
    /// Opens the recording of a disk of `bytes` bytes in `directory`.
    pub(crate) fn open(directory: &Path, bytes: u64) -> Recording {
        Recording::open_on(directory, vec![0; bytes as usize])
    }

    /// The same of a disk that was not empty, but this.
    pub(crate) fn open_on(directory: &Path, durable: Vec<u8>) -> Recording {
        let index = fs::read(directory.join("index")).unwrap();
        let mut data = 0;
        let entries = index.chunks_exact(ENTRY_BYTES).map(|entry| {
            let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
            let length = number(16);
            data += length;
            Entry {
                is_flush: number(0) == 1,
                offset: number(8) as usize,
                length: length as usize,
                data: data - length,
            }
        });
        let entries = entries.collect();
        let data = File::open(directory.join("data")).unwrap();
        Recording { entries, data, durable, next: 0 }
    }

    /// How many writes and flushes there are.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn flushes(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_flush).count()
    }

    /// The disk after a cut behind the first `cut` entries. Cuts must come in order.
    pub(crate) fn after_cut(&mut self, cut: u64, unflushed: Unflushed, numbers: &mut Numbers) -> Vec<u8> {
        let cut = cut as usize;
        let flushed = (self.next..cut).rev().find(|at| self.entries[*at].is_flush).unwrap_or(self.next);
        for at in self.next..flushed {
            apply(&self.data, &self.entries[at], &mut self.durable, |_| true);
        }
        self.next = flushed;
        let mut image = self.durable.clone();
        let mut page_is_kept = false;
        for entry in &self.entries[flushed..cut] {
            apply(&self.data, entry, &mut image, |sector| match unflushed {
                Unflushed::Dropped => false,
                Unflushed::Half => numbers.below(2) == 0,
                Unflushed::HalfOfPages => {
                    if sector % PAGE_SECTORS == 0 {
                        page_is_kept = numbers.below(2) == 0;
                    }
                    page_is_kept
                }
                Unflushed::Kept => true,
            });
        }
        image
    }
}

fn apply(data: &File, entry: &Entry, image: &mut [u8], mut is_kept: impl FnMut(usize) -> bool) {
    let mut bytes = vec![0; entry.length];
    data.read_exact_at(&mut bytes, entry.data).unwrap();
    for (at, sector) in bytes.chunks(SECTOR).enumerate() {
        if is_kept(at) {
            let start = entry.offset + at * SECTOR;
            image[start..start + sector.len()].copy_from_slice(sector);
        }
    }
}

#[test]
fn what_a_flush_covered_is_there_and_the_rest_is_as_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = Vec::new();
    let mut note = |kind: u64, offset: u64, length: u64| {
        [kind, offset, length].iter().for_each(|number| index.extend_from_slice(&number.to_le_bytes()));
    };
    note(0, 0, 512);
    note(1, 0, 0);
    note(0, 512, 8192);
    fs::write(directory.path().join("index"), &index).unwrap();
    fs::write(directory.path().join("data"), vec![7; 512 + 8192]).unwrap();
    let after = |cut, unflushed| {
        let mut recording = Recording::open(directory.path(), 16_384);
        let image = recording.after_cut(cut, unflushed, &mut Numbers::new(1));
        image.iter().filter(|byte| **byte == 7).count()
    };
    assert_eq!(after(1, Unflushed::Dropped), 0);
    assert_eq!(after(1, Unflushed::Kept), 512);
    assert_eq!(after(2, Unflushed::Dropped), 512);
    assert_eq!(after(3, Unflushed::Dropped), 512);
    assert_eq!(after(3, Unflushed::Kept), 512 + 8192);
    let half = after(3, Unflushed::Half);
    assert!(half > 512 && half < 512 + 8192 && half % SECTOR == 0, "{half}");
}
