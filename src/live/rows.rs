//! The overlay's tables: their keys and values.
//!
//! Keys are numbers in big-endian order, so that a volume, and in it a directory, is one range. `docs/format.md`
//! ("Live overlay") states the bytes.

use std::ops::Bound;
use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{LiveError, VolumeNumber};
use crate::base::encoding::{self, EncodingError};
use crate::base::tables::{Prefix, Reader, Tables, TablesError, Writer};
use crate::trees::{NameKey, Root, TreeId};

/// (volume, node) to [`super::node::Node`]: every node that is not as in the base tree.
pub(super) const NODES: &str = "nodes";
/// (volume, directory, cookie, name) to [`Slot`].
pub(super) const ENTRIES: &str = "entries";
/// (volume, epoch, directory, cookie, name) to the node of a hard link, else 0: what a freeze must look at.
pub(super) const DIRTY: &str = "dirty";
/// (volume, directory) to `(Option<TreeId>, Totals)`: the directory's tree in the newest frozen state.
pub(super) const FROZEN: &str = "frozen";
/// (volume) to [`VolumeRow`].
pub(super) const VOLUMES: &str = "volumes";
/// (volume) to the number below which the names of its upper files are durable: see [`super::names`].
pub(super) const NAMED: &str = "named";
/// Facts about the whole overlay: [`CLEAN`], and [`super::mark`].
pub(super) const STATE: &str = "state";
/// The key in [`STATE`] that is there after an orderly end only.
pub(super) const CLEAN: &[u8] = b"clean";

/// The version of every value below.
const VERSION: u8 = 1;

/// Pages of the engine kept in memory, in bytes: the rows of a busy site's working set.
const CACHE_BYTES: usize = 32 << 20;

/// What a directory's overlay says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Slot {
    /// The name stands for this node.
    Node(u64),
    /// The base tree's entry is gone.
    Whiteout,
}

/// A run of numbers given to a subtree that was grafted in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// The number of the grafted directory; what is below it follows in pre-order.
    pub(super) first: u64,
    /// How many nodes are below it.
    pub(super) nodes: u64,
    /// Its entries when it was grafted.
    pub(super) tree: Option<TreeId>,
}

/// What is kept of a volume as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRow {
    /// BLAKE3 of the base's encoding: numbers mean nothing on another base.
    pub(super) base: [u8; 32],
    /// Numbers from here on were never given away.
    pub(super) reserved: u64,
    /// The next link number.
    pub(super) next_link: u64,
    /// The epoch of changes made now; dirty rows of earlier epochs belong to a freeze that did not finish.
    pub(super) epoch: u64,
    /// The newest frozen state.
    pub(super) frozen: Option<Root>,
    /// Grafted subtrees, in order of their first numbers.
    pub(super) blocks: Vec<Block>,
}

/// One change of the tables.
#[derive(Clone, Debug)]
pub(super) enum RowChange {
    Put {
        table: &'static str,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Remove {
        table: &'static str,
        key: Vec<u8>,
    },
    /// Removes the keys from `start` (included) to `end` (excluded).
    RemoveRange {
        table: &'static str,
        start: Vec<u8>,
        end: Vec<u8>,
    },
}

pub(super) fn volume_key(volume: VolumeNumber) -> Vec<u8> {
    volume.0.to_be_bytes().to_vec()
}

/// The volume that a row belongs to; `None` for a key that is too short to say.
pub(super) fn volume_of(key: &[u8]) -> Option<VolumeNumber> {
    Some(VolumeNumber(u32::from_be_bytes(key.get(..4)?.try_into().ok()?)))
}

/// The key of a node, and the prefix of a directory's entries.
pub(super) fn node_key(volume: VolumeNumber, local: u64) -> Vec<u8> {
    let mut key = volume_key(volume);
    key.extend_from_slice(&local.to_be_bytes());
    key
}

pub(super) fn entry_key(volume: VolumeNumber, directory: u64, name: &NameKey) -> Vec<u8> {
    let mut key = node_key(volume, directory);
    key.extend_from_slice(&name.cookie.to_be_bytes());
    key.extend_from_slice(&name.name);
    key
}

/// The prefix of the dirty rows of an epoch.
pub(super) fn epoch_key(volume: VolumeNumber, epoch: u64) -> Vec<u8> {
    node_key(volume, epoch)
}

pub(super) fn dirty_key(volume: VolumeNumber, epoch: u64, directory: u64, name: &NameKey) -> Vec<u8> {
    let mut key = epoch_key(volume, epoch);
    key.extend_from_slice(&directory.to_be_bytes());
    key.extend_from_slice(&name.cookie.to_be_bytes());
    key.extend_from_slice(&name.name);
    key
}

/// The eight bytes at `at`; `None` when the key is too short.
pub(super) fn number_at(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?))
}

/// The cookie and the name that end a key, from `at` on.
pub(super) fn name_at(key: &[u8], at: usize) -> Option<NameKey> {
    Some(NameKey { cookie: number_at(key, at)?, name: key.get(at + 8..)?.into() })
}

/// The name of an `entries` row, whose value's checksum does not cover it: a damaged name does not have the hash that is
/// in front of it.
pub(super) fn entry_name(key: &[u8], at: usize) -> Result<NameKey, LiveError> {
    let found = name_at(key, at).filter(|found| NameKey::new(&found.name).cookie == found.cookie);
    Ok(found.ok_or(EncodingError::Damaged)?)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encoding::encode(VERSION, value)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LiveError> {
    Ok(encoding::decode(VERSION, bytes)?)
}

impl RowChange {
    fn puts_into(&self) -> Option<&'static str> {
        match self {
            RowChange::Put { table, .. } => Some(table),
            RowChange::Remove { .. } | RowChange::RemoveRange { .. } => None,
        }
    }

    fn row(&self) -> Option<(&[u8], &[u8])> {
        match self {
            RowChange::Put { key, value, .. } => Some((key, value)),
            RowChange::Remove { .. } | RowChange::RemoveRange { .. } => None,
        }
    }
}

/// Applies changes that are all `Put` into one table, or one change of another kind.
fn apply_run(writer: &mut Writer<'_>, run: &[RowChange]) -> Result<(), TablesError> {
    if let Some(table) = run[0].puts_into() {
        return writer.put_many(table, run.iter().filter_map(RowChange::row));
    }
    for change in run {
        match change {
            RowChange::Put { .. } => {}
            RowChange::Remove { table, key } => {
                writer.remove(table, key)?;
            }
            RowChange::RemoveRange { table, start, end } => {
                let range = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                writer.remove_range(table, range)?;
            }
        }
    }
    Ok(())
}

/// The tables' file.
pub(super) struct Engine {
    pub(super) tables: Tables,
}

impl Engine {
    pub(super) fn open(path: &Path) -> Result<Engine, LiveError> {
        Ok(Engine { tables: Tables::open_checked(path, CACHE_BYTES)? })
    }

    /// The decoded row under a key.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, LiveError> {
        let row = self.tables.read()?.get(table, key)?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Whether there is a row under a key.
    pub(super) fn contains(&self, table: &'static str, key: &[u8]) -> Result<bool, LiveError> {
        Ok(self.tables.read()?.get(table, key)?.is_some())
    }

    /// A view of all rows as they are now.
    pub(super) fn view(&self) -> Result<Reader<'_>, LiveError> {
        Ok(self.tables.read()?)
    }

    /// Calls `each` with every row whose key starts with `prefix`, in key order.
    pub(super) fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), LiveError>,
    ) -> Result<(), LiveError> {
        let mut outcome = Ok(());
        self.tables.read()?.scan(table, Prefix::new(prefix), |key, value| {
            outcome = each(key, value);
            outcome.is_ok()
        })?;
        outcome
    }

    /// Calls `each` with every key from `start` (included) to `end` (excluded).
    pub(super) fn scan_keys(
        &self,
        table: &'static str,
        start: &[u8],
        end: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), LiveError> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        Ok(self.tables.read()?.scan(table, range, |key, _| {
            each(key);
            true
        })?)
    }

    /// Applies the changes in order as one durable transaction.
    pub(super) fn apply(&self, changes: &[RowChange]) -> Result<(), LiveError> {
        let mut writer = self.tables.write()?;
        let same_table = |one: &RowChange, next: &RowChange| {
            one.puts_into().is_some_and(|table| next.puts_into() == Some(table))
        };
        for run in changes.chunk_by(same_table) {
            apply_run(&mut writer, run)?;
        }
        Ok(writer.commit()?)
    }
}
