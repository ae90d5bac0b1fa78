//! Up to which number the names of upper files are durable.
//!
//! A new upper file that nobody has synced may be lost with the power although its row is there, and reads as an empty one
//! afterwards ([`super::recovery`]). Any other that is missing is damage, which must not be taken for that. So the names
//! are made durable a few seconds after files were made, and the number is written down below which all are: a row whose
//! upper file has a smaller one never refers to a file that was lost in that way.
//!
//! **Power fails here.** The row with the number is committed after the names are durable. Without it, fewer missing files
//! are known for damage, and no sound one is taken for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rows::{self, Engine, RowChange, VolumeRow};
use super::upper::Uppers;
use super::volumes::Shared;
use super::{LiveError, Volume, VolumeNumber};

/// How long a name may stay as it is after the first that was made: as long as ext4 takes by itself.
const NAMES_INTERVAL: Duration = Duration::from_secs(5);

/// The directories of upper files that have names which may not be durable.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    /// By volume, and the directory's number in it.
    pub(super) directories: BTreeSet<(VolumeNumber, u8)>,
    /// Since when there are some.
    since: Option<Instant>,
}

impl NewNames {
    /// A file was made.
    pub(super) fn note(&mut self, volume: VolumeNumber, directory: u8) {
        self.directories.insert((volume, directory));
        self.since.get_or_insert_with(Instant::now);
    }

    #[cfg(test)]
    pub(super) fn age(&mut self) {
        self.since = self.since.map(|since| since.checked_sub(NAMES_INTERVAL).unwrap_or(since));
    }

    /// When they are to be made durable.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + NAMES_INTERVAL)
    }

    /// What could not be made durable is tried again later.
    pub(super) fn restore(&mut self, taken: NewNames) {
        for (volume, directory) in taken.directories {
            self.note(volume, directory);
        }
    }
}

fn put(volume: VolumeNumber, end: u64) -> RowChange {
    RowChange::Put { table: rows::NAMED, key: rows::volume_key(volume), value: rows::encode(&end) }
}

/// Makes durable what a start finds, and says so of all volumes that have rows: nothing is being made yet.
pub(super) fn at_start(engine: &Engine, uppers: &Uppers) -> Result<Vec<RowChange>, LiveError> {
    if let Err(error) = uppers.sync_names_of_all() {
        // A disk that cannot be written to is no reason to show nothing.
        log::warn!("names of changed files are not known to be durable: {error}");
        return Ok(Vec::new());
    }
    let mut volumes = Vec::new();
    engine.scan(rows::VOLUMES, &[], |key, value| {
        // A damaged row is told of by whoever needs it.
        if let (Some(volume), Ok(row)) = (rows::volume_of(key), rows::decode::<VolumeRow>(value)) {
            volumes.push((volume, row.reserved));
        }
        Ok(())
    })?;
    volumes.retain(|(volume, end)| !matches!(named(engine, *volume), Ok(known) if known == *end));
    Ok(volumes.into_iter().map(|(volume, end)| put(volume, end)).collect())
}

/// The number below which the names of a volume's upper files are durable.
pub(super) fn named(engine: &Engine, volume: VolumeNumber) -> Result<u64, LiveError> {
    Ok(engine.get(rows::NAMED, &rows::volume_key(volume))?.unwrap_or_default())
}

impl Shared {
    /// Makes new names durable when it is time; the rows that say so, and what to restore should they not be committed.
    pub(super) fn settle_names(&self, volumes: &[Arc<Volume>]) -> (Vec<RowChange>, NewNames) {
        if self.uppers.names_due().is_none_or(|due| due > Instant::now()) {
            return Default::default();
        }
        // Before the directories are taken: each file with a smaller number that a row may refer to has been made.
        let ends: Vec<_> =
            volumes.iter().map(|volume| (volume.number, volume.state.lock().made_up_to())).collect();
        let names = self.uppers.take_new_names();
        if let Err(error) = self.uppers.sync_new_names(&names) {
            log::warn!("names of changed files are not durable so far: {error}");
            self.uppers.restore_new_names(names);
            return Default::default();
        }
        let has_new =
            |volume: VolumeNumber| names.directories.range((volume, 0)..=(volume, u8::MAX)).next().is_some();
        let changes = ends.into_iter().filter(|(volume, _)| has_new(*volume));
        (changes.map(|(volume, end)| put(volume, end)).collect(), names)
    }
}
