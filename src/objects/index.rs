//! The index: from the name of an object to its place (`docs/format.md`, "Index").
//!
//! Invariants: an entry is added only when its record is durable, so the index never points at bytes a power cut
//! could take away; everything in it can be read again from the packs. Who finds it damaged has it made anew
//! ([`super::renewal`]).
//!
//! Locks: `known`, then `tables`; no other lock is taken while one of them is held.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use super::media::Media;
use super::record::Location;
use super::renewal::Renewal;
use super::{ObjectId, ObjectsError, Usage};
use crate::base::encoding::{decode, encode};
use crate::base::files;
use crate::base::tables::{Reader, Tables, TablesError, Writer};

/// Memory for pages of the index: 10,000,000 objects take about 1 GB of them, and the kernel caches the file too.
const CACHE_BYTES: usize = 32 << 20;

/// How much of the file is read ahead when it is opened, in bytes: half a million objects.
const FETCH_BYTES_MAX: u64 = 64 << 20;

const OBJECTS: &str = "objects";
const PACKS: &str = "packs";
const STATE: &str = "state";
const TOTALS: &[u8] = b"totals";
const PLAIN_TOTALS: &[u8] = b"plain_totals";
const VERSION: u8 = 1;
const LOCATION_LEN: usize = 16;

/// The index of a store.
pub(super) struct Index(pub(super) Arc<Shared>);

/// What the threads that use an index share with the one that makes it anew.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) media: Arc<dyn Media>,
    pub(super) tables: RwLock<Tables>,
    /// Held by each writer, and by a renewal as long as it takes.
    pub(super) known: Mutex<Known>,
    /// How often the index was made anew since it was opened. Changes only while `known` and `tables` are locked.
    pub(super) renewals: AtomicU64,
    pub(super) renewal: Mutex<Renewal>,
    /// Told when a renewal ends.
    pub(super) renewed: Condvar,
    /// Whether all packs are in the index, so that it can be made anew beside its users.
    pub(super) is_complete: AtomicBool,
    /// Whether the store is being closed: a renewal need not come to its end.
    pub(super) is_closing: AtomicBool,
}

/// What an index says that cannot be read again from the packs alone; kept in memory for a renewal.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Packs with the length up to which their records are in the index.
    pub(super) packs: BTreeMap<u32, u64>,
    /// How much the plain files take, while that is written down.
    pub(super) plain_totals: Option<Usage>,
}

/// What to add to an index in one transaction.
#[derive(Default)]
pub(super) struct Batch {
    /// New entries; one for a name that is there already replaces it.
    pub(super) entries: Vec<(ObjectId, Location)>,
    /// Packs with the length up to which their records are in the index once this batch is.
    pub(super) packs: Vec<(u32, u64)>,
}

fn encode_location(location: &Location) -> [u8; LOCATION_LEN] {
    let mut bytes = [0; LOCATION_LEN];
    let numbers = [location.pack, location.offset, location.stored_len, location.raw_len];
    for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn decode_location(bytes: &[u8]) -> Option<Location> {
    let bytes: [u8; LOCATION_LEN] = bytes.try_into().ok()?;
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Some(Location { pack: number(0), offset: number(4), stored_len: number(8), raw_len: number(12) })
}

impl Usage {
    /// The share of one object.
    pub(super) fn of(location: &Location) -> Usage {
        Usage { objects: 1, raw_bytes: u64::from(location.raw_len), stored_bytes: location.record_len() }
    }

    pub(super) fn plus(self, other: Usage) -> Usage {
        Usage {
            objects: self.objects + other.objects,
            raw_bytes: self.raw_bytes + other.raw_bytes,
            stored_bytes: self.stored_bytes + other.stored_bytes,
        }
    }

    /// Saturating: totals are counted, not proven, and a wrong one must not stop the store.
    pub(super) fn minus(self, other: Usage) -> Usage {
        Usage {
            objects: self.objects.saturating_sub(other.objects),
            raw_bytes: self.raw_bytes.saturating_sub(other.raw_bytes),
            stored_bytes: self.stored_bytes.saturating_sub(other.stored_bytes),
        }
    }

    fn numbers(self) -> (u64, u64, u64) {
        (self.objects, self.raw_bytes, self.stored_bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Usage> {
        let (objects, raw_bytes, stored_bytes) = decode(VERSION, bytes).ok()?;
        Some(Usage { objects, raw_bytes, stored_bytes })
    }
}

impl Index {
    /// Opens the index, creating it empty where it is missing, or was found damaged. Until [`Index::complete`], damage is
    /// an error, and the index made anew when it is opened again.
    pub(super) fn open(path: &Path, media: Arc<dyn Media>) -> Result<Index, ObjectsError> {
        let damage_mark = damage_mark(path);
        if files::metadata(&damage_mark)?.is_some() {
            log::warn!("{} was damaged: it is made anew from the packs", path.display());
            files::remove_file(path)?;
            files::remove_file(&damage_mark)?;
        }
        set_aside_unless_file(path)?;
        // A renewal that did not come to its end.
        files::remove_file(&new_name(path))?;
        // Names are hashes, so it is read at random: at once costs less than bit by bit.
        if let Ok(file) = files::open(path) {
            files::fetch(&file, 0, FETCH_BYTES_MAX);
        }
        let tables = match open_tables(path) {
            Err(error) if error.is_damaged() => {
                log::error!("{error}: it is made anew from the packs");
                files::remove_file(path)?;
                open_tables(path)
            }
            opened => opened,
        };
        let index = Index(Arc::new(Shared {
            path: path.to_owned(),
            media,
            tables: RwLock::new(tables?),
            known: Mutex::default(),
            renewals: AtomicU64::new(0),
            renewal: Mutex::default(),
            renewed: Condvar::new(),
            is_complete: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        }));
        let packs = index.read(|reader| {
            let mut packs = BTreeMap::new();
            reader.scan(PACKS, .., |key, value| {
                let key = key.try_into().map(u32::from_be_bytes);
                packs.extend(key.ok().zip(value.try_into().map(u64::from_le_bytes).ok()));
                true
            })?;
            Ok(packs)
        })?;
        let plain_totals = index.state(PLAIN_TOTALS)?;
        *index.0.known.lock() = Known { packs, plain_totals };
        Ok(index)
    }

    /// All packs are in the index: from now on it is made anew beside its users when it is found damaged.
    pub(super) fn complete(&self) {
        self.0.is_complete.store(true, Ordering::Release);
    }

    /// How often the index was made anew since it was opened. Entries that were taken out may be back after each time.
    pub(super) fn renewals(&self) -> u64 {
        self.0.renewals.load(Ordering::Acquire)
    }

    fn read<T>(&self, run: impl Fn(&Reader<'_>) -> Result<T, TablesError>) -> Result<T, ObjectsError> {
        let mut is_first = true;
        loop {
            let (seen, result) = {
                let tables = self.0.tables.read();
                (self.renewals(), tables.read().and_then(|reader| run(&reader)))
            };
            match result {
                Err(error) if error.is_damaged() && is_first => self.0.have_renewed(error, seen, false)?,
                result => return Ok(result?),
            }
            is_first = false;
        }
    }

    /// Runs `change` as one durable transaction, and then `note`.
    fn write<T>(
        &self,
        change: impl Fn(&mut Writer<'_>) -> Result<T, TablesError>,
        note: impl FnOnce(&mut Known),
    ) -> Result<T, ObjectsError> {
        let mut is_first = true;
        loop {
            let mut known = self.0.known.lock();
            let seen = self.renewals();
            // The tables are let go of before anything is waited for.
            let committed = commit(&self.0.tables.read(), &change);
            match committed {
                Err(error) if error.is_damaged() && is_first => {
                    drop(known);
                    self.0.have_renewed(error, seen, true)?;
                }
                result => {
                    let result = result?;
                    note(&mut known);
                    return Ok(result);
                }
            }
            is_first = false;
        }
    }

    /// Where the object is.
    pub(super) fn get(&self, id: ObjectId) -> Result<Option<Location>, ObjectsError> {
        let value = self.read(|reader| reader.get(OBJECTS, id.as_bytes()))?;
        Ok(value.and_then(|bytes| decode_location(&bytes)))
    }

    /// Every pack with the length up to which its records are in the index, in order.
    pub(super) fn packs(&self) -> Vec<(u32, u64)> {
        self.0.known.lock().packs.iter().map(|(number, len)| (*number, *len)).collect()
    }

    fn state(&self, key: &[u8]) -> Result<Option<Usage>, ObjectsError> {
        let usage = self.read(|reader| reader.get(STATE, key))?;
        Ok(usage.and_then(|bytes| Usage::decode(&bytes)))
    }

    /// How much all entries take.
    pub(super) fn totals(&self) -> Result<Usage, ObjectsError> {
        Ok(self.state(TOTALS)?.unwrap_or_default())
    }

    /// Adds a batch and returns the totals after it. Durable.
    pub(super) fn add(&self, mut batch: Batch) -> Result<Usage, ObjectsError> {
        batch.sort();
        self.write(|writer| batch.put(writer), |known| known.packs.extend(batch.packs.iter().copied()))
    }

    /// Removes the entries that still are what they are said to be; returns how much they took. Durable.
    pub(super) fn remove(&self, entries: &[(ObjectId, Location)]) -> Result<Usage, ObjectsError> {
        let change = |writer: &mut Writer<'_>| {
            let mut removed = Usage::default();
            for (id, location) in entries {
                let found = writer.get(OBJECTS, id.as_bytes())?;
                if found.and_then(|bytes| decode_location(&bytes)) == Some(*location) {
                    writer.remove(OBJECTS, id.as_bytes())?;
                    removed = removed.plus(Usage::of(location));
                }
            }
            let totals = writer.get(STATE, TOTALS)?;
            let totals = totals.and_then(|bytes| Usage::decode(&bytes)).unwrap_or_default().minus(removed);
            writer.put(STATE, TOTALS, &encode(VERSION, &totals.numbers()))?;
            Ok(removed)
        };
        self.write(change, |_| ())
    }

    /// Forgets a pack, durably, that no entry has referred to since the renewal with the number `seen`. `false`, and nothing
    /// is forgotten, when the index was made anew since: its records may be in the index again.
    pub(super) fn remove_pack(&self, number: u32, seen: u64) -> Result<bool, ObjectsError> {
        self.write(
            |writer| {
                let is_unused = self.renewals() == seen;
                if is_unused {
                    writer.remove(PACKS, &number.to_be_bytes())?;
                }
                Ok(is_unused)
            },
            |known| {
                if self.renewals() == seen {
                    known.packs.remove(&number);
                }
            },
        )
    }

    /// Up to `count_max` entries whose name is greater than `after`, in the order of names.
    pub(super) fn list(
        &self,
        after: Option<ObjectId>,
        count_max: usize,
    ) -> Result<Vec<(ObjectId, Location)>, ObjectsError> {
        let start = match &after {
            Some(id) => Bound::Excluded(&id.as_bytes()[..]),
            None => Bound::Unbounded,
        };
        self.read(|reader| {
            let mut entries = Vec::new();
            reader.scan(OBJECTS, (start, Bound::Unbounded), |key, value| {
                let id = key.try_into().map(ObjectId::from_bytes);
                entries.extend(id.ok().zip(decode_location(value)));
                entries.len() < count_max
            })?;
            Ok(entries)
        })
    }

    /// How much the plain files take; `None` when they changed since that was written down.
    pub(super) fn plain_totals(&self) -> Option<Usage> {
        self.0.known.lock().plain_totals
    }

    /// Writes down how much the plain files take, or (`None`) that this is about to change. Durable.
    pub(super) fn set_plain_totals(&self, totals: Option<Usage>) -> Result<(), ObjectsError> {
        self.write(|writer| put_plain_totals(writer, totals), |known| known.plain_totals = totals)
    }
}

impl Batch {
    /// By name: faster to put. Of several entries for a name the last counts.
    pub(super) fn sort(&mut self) {
        self.entries.sort_by_key(|(id, _)| *id);
    }

    /// Puts all of it, sorted; returns the totals after it.
    pub(super) fn put(&self, writer: &mut Writer<'_>) -> Result<Usage, TablesError> {
        let totals = writer.get(STATE, TOTALS)?;
        let mut totals = totals.and_then(|bytes| Usage::decode(&bytes)).unwrap_or_default();
        let rows = self.entries.iter().map(|(id, location)| (id.as_bytes(), encode_location(location)));
        writer.replace_many(OBJECTS, rows, |old| {
            if let Some(location) = decode_location(old) {
                totals = totals.minus(Usage::of(&location));
            }
        })?;
        for (_, location) in &self.entries {
            totals = totals.plus(Usage::of(location));
        }
        for (pack, len) in &self.packs {
            writer.put(PACKS, &pack.to_be_bytes(), &len.to_le_bytes())?;
        }
        writer.put(STATE, TOTALS, &encode(VERSION, &totals.numbers()))?;
        Ok(totals)
    }
}

pub(super) fn put_plain_totals(writer: &mut Writer<'_>, totals: Option<Usage>) -> Result<(), TablesError> {
    match totals {
        Some(totals) => writer.put(STATE, PLAIN_TOTALS, &encode(VERSION, &totals.numbers())),
        None => writer.remove(STATE, PLAIN_TOTALS).map(|_| ()),
    }
}

/// Runs `change` as one durable transaction.
pub(super) fn commit<T>(
    tables: &Tables,
    change: impl FnOnce(&mut Writer<'_>) -> Result<T, TablesError>,
) -> Result<T, TablesError> {
    let mut writer = tables.write()?;
    let result = change(&mut writer)?;
    writer.commit()?;
    Ok(result)
}

/// Gives whatever has the index's name and is no file another name: nothing can be written there.
fn set_aside_unless_file(path: &Path) -> Result<(), ObjectsError> {
    if files::metadata(path)?.is_some_and(|metadata| !metadata.is_file()) {
        let aside = files::name_aside(path)?;
        log::error!("{} is no file: it is {} now", path.display(), aside.display());
        files::rename(path, &aside)?;
    }
    Ok(())
}

pub(super) fn open_tables(path: &Path) -> Result<Tables, TablesError> {
    Tables::open(path, CACHE_BYTES)
}

/// A file that is there when the index was found damaged and has to be made anew.
pub(super) fn damage_mark(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// Where a new index is made.
pub(super) fn new_name(path: &Path) -> PathBuf {
    path.with_extension("new.redb")
}
