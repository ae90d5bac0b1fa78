//! The index: from the name of an object to its place (`docs/format.md`, "Index").
//!
//! Invariants: an entry is added only when its record is durable, so the index never points at bytes a power cut
//! could take away; everything in it can be read again from the packs.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::record::Location;
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
pub(super) struct Index {
    tables: Tables,
    /// A file that is there when the index was found damaged and has to be made anew.
    damage_mark: PathBuf,
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

/// Sees to it that a damaged index is made anew when the store is next opened.
fn note_damage(error: TablesError, damage_mark: &Path) -> ObjectsError {
    if error.is_damaged() {
        log::error!("{error}: it is made anew when the store is next opened");
        if let Err(error) = files::open_or_create(damage_mark) {
            log::error!("{error}");
        }
    }
    error.into()
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
    /// Opens the index, creating it empty where it is missing, or was found damaged.
    pub(super) fn open(path: &Path) -> Result<Index, ObjectsError> {
        let damage_mark = path.with_extension("damaged");
        if files::metadata(&damage_mark)?.is_some() {
            log::warn!("{} was damaged: it is made anew from the packs", path.display());
            files::remove_file(path)?;
            files::remove_file(&damage_mark)?;
        }
        // Names are hashes, so it is read at random: at once costs less than bit by bit.
        if let Ok(file) = files::open(path) {
            files::fetch(&file, 0, FETCH_BYTES_MAX);
        }
        let tables = match Tables::open(path, CACHE_BYTES) {
            Err(error) if error.is_damaged() => {
                log::error!("{error}: it is made anew from the packs");
                files::remove_file(path)?;
                Tables::open(path, CACHE_BYTES)
            }
            opened => opened,
        };
        Ok(Index { tables: tables?, damage_mark })
    }

    fn read<T>(&self, run: impl FnOnce(&Reader<'_>) -> Result<T, TablesError>) -> Result<T, ObjectsError> {
        let result = self.tables.read().and_then(|reader| run(&reader));
        result.map_err(|error| note_damage(error, &self.damage_mark))
    }

    /// Runs `change` as one durable transaction.
    fn write<T>(
        &self,
        change: impl FnOnce(&mut Writer<'_>) -> Result<T, TablesError>,
    ) -> Result<T, ObjectsError> {
        let result = self.tables.write().and_then(|mut writer| {
            let result = change(&mut writer)?;
            writer.commit()?;
            Ok(result)
        });
        result.map_err(|error| note_damage(error, &self.damage_mark))
    }

    /// Where the object is.
    pub(super) fn get(&self, id: ObjectId) -> Result<Option<Location>, ObjectsError> {
        let value = self.read(|reader| reader.get(OBJECTS, id.as_bytes()))?;
        Ok(value.and_then(|bytes| decode_location(&bytes)))
    }

    /// Every pack with the length up to which its records are in the index, in order.
    pub(super) fn packs(&self) -> Result<Vec<(u32, u64)>, ObjectsError> {
        let mut packs = Vec::new();
        self.read(|reader| {
            reader.scan(PACKS, .., |key, value| {
                let key = key.try_into().map(u32::from_be_bytes);
                packs.extend(key.ok().zip(value.try_into().map(u64::from_le_bytes).ok()));
                true
            })
        })?;
        Ok(packs)
    }

    /// How much all entries take.
    pub(super) fn totals(&self) -> Result<Usage, ObjectsError> {
        let totals = self.read(|reader| reader.get(STATE, TOTALS))?;
        Ok(totals.and_then(|bytes| Usage::decode(&bytes)).unwrap_or_default())
    }

    /// Adds a batch and returns the totals after it. Durable.
    pub(super) fn add(&self, mut batch: Batch) -> Result<Usage, ObjectsError> {
        batch.entries.sort_unstable_by_key(|(id, _)| *id);
        self.write(|writer| {
            let totals = writer.get(STATE, TOTALS)?;
            let mut totals = totals.and_then(|bytes| Usage::decode(&bytes)).unwrap_or_default();
            let rows = batch.entries.iter().map(|(id, location)| (id.as_bytes(), encode_location(location)));
            writer.replace_many(OBJECTS, rows, |old| {
                if let Some(location) = decode_location(old) {
                    totals = totals.minus(Usage::of(&location));
                }
            })?;
            for (_, location) in &batch.entries {
                totals = totals.plus(Usage::of(location));
            }
            for (pack, len) in &batch.packs {
                writer.put(PACKS, &pack.to_be_bytes(), &len.to_le_bytes())?;
            }
            writer.put(STATE, TOTALS, &encode(VERSION, &totals.numbers()))?;
            Ok(totals)
        })
    }

    /// Removes the entries that still are what they are said to be; returns how much they took. Durable.
    pub(super) fn remove(&self, entries: &[(ObjectId, Location)]) -> Result<Usage, ObjectsError> {
        self.write(|writer| {
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
        })
    }

    /// Forgets a pack that no entry refers to. Durable.
    pub(super) fn remove_pack(&self, number: u32) -> Result<(), ObjectsError> {
        self.write(|writer| writer.remove(PACKS, &number.to_be_bytes()).map(|_| ()))
    }

    /// Up to `count_max` entries whose name is greater than `after`, in the order of names.
    pub(super) fn list(
        &self,
        after: Option<ObjectId>,
        count_max: usize,
    ) -> Result<Vec<(ObjectId, Location)>, ObjectsError> {
        let mut entries = Vec::new();
        let start = match &after {
            Some(id) => Bound::Excluded(&id.as_bytes()[..]),
            None => Bound::Unbounded,
        };
        self.read(|reader| {
            reader.scan(OBJECTS, (start, Bound::Unbounded), |key, value| {
                let id = key.try_into().map(ObjectId::from_bytes);
                entries.extend(id.ok().zip(decode_location(value)));
                entries.len() < count_max
            })
        })?;
        Ok(entries)
    }

    /// How much the plain files take; `None` when they changed since that was written down.
    pub(super) fn plain_totals(&self) -> Result<Option<Usage>, ObjectsError> {
        let totals = self.read(|reader| reader.get(STATE, PLAIN_TOTALS))?;
        Ok(totals.and_then(|bytes| Usage::decode(&bytes)))
    }

    /// Writes down how much the plain files take, or (`None`) that this is about to change. Durable.
    pub(super) fn set_plain_totals(&self, totals: Option<Usage>) -> Result<(), ObjectsError> {
        self.write(|writer| match totals {
            Some(totals) => writer.put(STATE, PLAIN_TOTALS, &encode(VERSION, &totals.numbers())),
            None => writer.remove(STATE, PLAIN_TOTALS).map(|_| ()),
        })
    }
}
