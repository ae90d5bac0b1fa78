//! A disk for packs that stops, fails, fills up, tears and forgets.
//!
//! It keeps what a running system sees (`live`) apart from what a power cut leaves (`durable`, and any part of what
//! was written since), as redb's tests do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::super::media::{Media, PackFile};
use crate::base::FileError;

/// What a power cut tears at: sectors are written whole or not at all.
const SECTOR: usize = 512;

#[derive(Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, which a power cut keeps, loses or tears.
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// What goes wrong.
#[derive(Default)]
pub(super) struct Faults {
    /// How many more changes succeed; then the machine stands still. `None`: no end.
    pub(super) steps: Option<u64>,
    /// How many syncs fail from now on, each forgetting what it should have written.
    pub(super) failing_syncs: u64,
    /// Bytes that still fit on the disk. `None`: any number.
    pub(super) free_bytes: Option<usize>,
    /// Bytes of packs that cannot be read.
    pub(super) unreadable: Vec<(u32, Range<usize>)>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u32, File>,
    durable_names: BTreeSet<u32>,
    faults: Faults,
}

/// The disk.
#[derive(Default)]
pub(super) struct Disk {
    state: Mutex<State>,
    this: Weak<Disk>,
}

struct Pack {
    number: u32,
    disk: Arc<Disk>,
}

/// Numbers that look random and are the same for the same seed.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        let hash = blake3::hash(&self.0.to_le_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % end
    }
}

fn error(kind: ErrorKind, action: &'static str, number: u32) -> FileError {
    FileError { action, path: PathBuf::from(format!("{number:08}.pack")), source: Error::from(kind) }
}

fn overwrite(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    let end = offset + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(new);
}

impl State {
    fn step(&mut self, action: &'static str, number: u32) -> Result<(), FileError> {
        if let Some(steps) = &mut self.faults.steps {
            *steps = steps.checked_sub(1).ok_or_else(|| error(ErrorKind::Other, action, number))?;
        }
        Ok(())
    }
}

impl Disk {
    pub(super) fn new() -> Arc<Disk> {
        Disk::with(State::default())
    }

    fn with(state: State) -> Arc<Disk> {
        Arc::new_cyclic(|this| Disk { state: Mutex::new(state), this: this.clone() })
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// The lengths of all files, in bytes.
    pub(super) fn lengths(&self) -> Vec<u64> {
        self.state.lock().files.values().map(|file| file.live.len() as u64).collect()
    }

    /// Whether the machine stands still.
    pub(super) fn stopped(&self) -> bool {
        self.state.lock().faults.steps == Some(0)
    }

    /// The disk after a kill: the kernel still has everything.
    pub(super) fn after_kill(&self) -> Arc<Disk> {
        let state = self.state.lock();
        let files = state.files.iter().map(|(number, file)| {
            let unsynced = file.unsynced.clone();
            (*number, File { live: file.live.clone(), durable: file.durable.clone(), unsynced })
        });
        Disk::with(State {
            files: files.collect(),
            durable_names: state.durable_names.clone(),
            ..State::default()
        })
    }

    /// The disk after a power cut: of each write since the last sync some sectors, of each new name perhaps.
    pub(super) fn after_power_cut(&self, seed: u64) -> Arc<Disk> {
        let mut numbers = Numbers::new(seed << 32);
        let state = self.state.lock();
        let mut after = State::default();
        for (number, file) in &state.files {
            if !state.durable_names.contains(number) && numbers.below(2) == 0 {
                continue;
            }
            // Every third cut keeps all sectors, every third none, so that the extremes are seen too.
            let keep = numbers.below(3);
            let mut bytes = file.durable.clone();
            for (offset, written) in &file.unsynced {
                let mut start = 0;
                while start < written.len() {
                    let end = ((offset + start) / SECTOR + 1) * SECTOR - offset;
                    let end = end.min(written.len());
                    if keep == 1 || (keep == 2 && numbers.below(2) == 0) {
                        overwrite(&mut bytes, offset + start, &written[start..end]);
                    }
                    start = end;
                }
            }
            after.durable_names.insert(*number);
            after.files.insert(*number, File { live: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        }
        Disk::with(after)
    }
}

impl Media for Disk {
    fn list(&self) -> Result<Vec<u32>, FileError> {
        Ok(self.state.lock().files.keys().copied().collect())
    }

    fn create(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError> {
        let mut state = self.state.lock();
        state.step("create", number)?;
        assert!(!state.files.contains_key(&number), "a pack's number is never used twice");
        state.files.insert(number, File::default());
        drop(state);
        self.open(number)
    }

    fn open(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError> {
        if !self.state.lock().files.contains_key(&number) {
            return Err(error(ErrorKind::NotFound, "open", number));
        }
        Ok(Arc::new(Pack { number, disk: self.this.upgrade().unwrap() }))
    }

    fn remove(&self, number: u32) -> Result<(), FileError> {
        let mut state = self.state.lock();
        state.step("remove", number)?;
        state.files.remove(&number);
        // The name may be durable for longer; that it comes back is what a kill before the removal shows.
        state.durable_names.remove(&number);
        Ok(())
    }

    fn sync_names(&self) -> Result<(), FileError> {
        let mut state = self.state.lock();
        state.step("sync", 0)?;
        state.durable_names = state.files.keys().copied().collect();
        Ok(())
    }
}

impl Pack {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> Result<T, FileError>) -> Result<T, FileError> {
        run(&mut self.disk.state.lock())
    }
}

impl PackFile for Pack {
    fn len(&self) -> Result<u64, FileError> {
        self.with(|state| Ok(state.files[&self.number].live.len() as u64))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        self.with(|state| {
            state.step("write", self.number)?;
            let fits = state.faults.free_bytes.unwrap_or(usize::MAX).min(bytes.len());
            if let Some(free) = &mut state.faults.free_bytes {
                *free -= fits;
            }
            let file = state.files.get_mut(&self.number).unwrap();
            overwrite(&mut file.live, offset as usize, &bytes[..fits]);
            file.unsynced.push((offset as usize, bytes[..fits].to_vec()));
            if fits < bytes.len() { Err(error(ErrorKind::StorageFull, "write", self.number)) } else { Ok(()) }
        })
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        self.with(|state| {
            let live = &state.files[&self.number].live;
            let range = offset as usize..offset as usize + buffer.len();
            let is_hit = |(number, bad): &(u32, Range<usize>)| {
                *number == self.number && bad.start < range.end && range.start < bad.end
            };
            if state.faults.unreadable.iter().any(is_hit) {
                return Err(error(ErrorKind::Other, "read", self.number));
            }
            let found = live.get(range);
            buffer
                .copy_from_slice(found.ok_or_else(|| error(ErrorKind::UnexpectedEof, "read", self.number))?);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), FileError> {
        self.with(|state| {
            state.step("sync", self.number)?;
            let fails = state.faults.failing_syncs > 0;
            state.faults.failing_syncs -= u64::from(fails);
            let file = state.files.get_mut(&self.number).unwrap();
            let unsynced = std::mem::take(&mut file.unsynced);
            if fails {
                // Linux: the pages are clean now, and no later sync writes them.
                return Err(error(ErrorKind::Other, "sync", self.number));
            }
            for (offset, bytes) in unsynced {
                overwrite(&mut file.durable, offset, &bytes);
            }
            // A cut is durable with the sync after it.
            let len = file.live.len();
            file.durable.resize(len, 0);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> Result<(), FileError> {
        self.with(|state| {
            state.step("truncate", self.number)?;
            let file = state.files.get_mut(&self.number).unwrap();
            file.live.truncate(len as usize);
            file.unsynced.retain(|(offset, _)| (*offset as u64) < len);
            for (offset, bytes) in &mut file.unsynced {
                bytes.truncate(len as usize - *offset);
            }
            Ok(())
        })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("{:08}.pack", self.number))
    }
}
