//! Snapshots.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::HistoryError;
use crate::base::encoding::{decode, encode};
use crate::base::{PlatformName, RelativePath, SiteName, Timestamp};
use crate::objects::{FileContent, Kind, ObjectId, Objects, ParseIdError};
use crate::trees::Root;

/// The name of a snapshot: the name of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId(pub ObjectId);

/// The version of a snapshot's encoding; part of the format.
const VERSION: u8 = 1;

/// How many digits of an id are enough to tell a site's snapshots apart: a collision among a million of them has a
/// chance of one in five hundred, and every command takes more digits.
const SHORT_DIGITS: usize = 12;

impl SnapshotId {
    /// The first 12 of the 64 hexadecimal digits: for people, and as the name of a directory.
    pub fn short(&self) -> String {
        format!("{:.SHORT_DIGITS$}", self.to_string())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for SnapshotId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for SnapshotId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<SnapshotId, ParseIdError> {
        text.parse().map(SnapshotId)
    }
}

/// One table of a database, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSummary {
    /// How many rows.
    pub rows: u64,
    /// A hash of the rows that does not depend on their order.
    pub checksum: ObjectId,
}

/// A database, as it was when the snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSnapshot {
    /// The engine: `sqlite`, `mariadb`, `postgresql`.
    pub engine: String,
    /// For SQLite: the database's file within the snapshot's tree.
    pub file: Option<RelativePath>,
    /// For the others: the dump.
    pub dump: Option<FileContent>,
    /// Every table with its rows and checksum, taken in the transaction of the capture; none when it was not read.
    pub tables: BTreeMap<String, TableSummary>,
    /// A hash of the schema (tables, indexes, views, triggers as the engine states them); all zeros when it was not
    /// read.
    pub schema: ObjectId,
    /// Whether the capture was restored and compared, not only written.
    pub verified: bool,
}

impl DatabaseSnapshot {
    /// A database that nobody has read, in the snapshot's tree (`file`) or on a server: what its tables hold is not known.
    pub fn unread(engine: String, file: Option<RelativePath>) -> DatabaseSnapshot {
        DatabaseSnapshot {
            engine,
            file,
            dump: None,
            tables: BTreeMap::new(),
            schema: ObjectId::from_bytes([0; 32]),
            verified: false,
        }
    }

    /// Whether its tables are known.
    pub fn is_read(&self) -> bool {
        *self.schema.as_bytes() != [0; 32]
    }
}

/// The platform a site stood on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformBinding {
    /// Its name.
    pub name: PlatformName,
    /// The hash over the platform's code when it was added, the sites directory left out.
    pub code: ObjectId,
}

/// One commit record: files, database and platform of a site at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The site.
    pub site: SiteName,
    /// When it was taken.
    pub created: Timestamp,
    /// Who asked for it: a user name of this machine.
    pub author: String,
    /// Why.
    pub message: String,
    /// The snapshot before it on the same site.
    pub parent: Option<SnapshotId>,
    /// The site's directory as the application would have it without sitefs: data directories in their place.
    pub root: Root,
    /// Which directories of it are data (uploads and the like), shared by all generations of a site.
    pub data: Vec<RelativePath>,
    /// The database.
    pub database: Option<DatabaseSnapshot>,
    /// The platform.
    pub platform: Option<PlatformBinding>,
    /// The generation it was taken of.
    pub generation: Option<u64>,
    /// By how much the store grew, in bytes on disk.
    pub added_bytes: u64,
}

impl Snapshot {
    /// Stores the snapshot as an object and returns its name. Durable after [`Objects::flush`].
    pub fn store(&self, objects: &Objects) -> Result<SnapshotId, HistoryError> {
        Ok(SnapshotId(objects.put(Kind::Snapshot, &encode(VERSION, self))?))
    }

    /// The snapshot of this name.
    pub fn load(objects: &Objects, id: SnapshotId) -> Result<Snapshot, HistoryError> {
        let bytes = objects.get(Kind::Snapshot, id.0)?;
        decode(VERSION, &bytes).map_err(|source| HistoryError::Snapshot { id, source })
    }
}
