//! Snapshots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{PlatformName, RelativePath, SiteName, Timestamp};
use crate::objects::{FileContent, ObjectId};
use crate::trees::Root;

/// The name of a snapshot: the name of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId(pub ObjectId);

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
    /// Every table with its rows and checksum, taken in the transaction of the capture.
    pub tables: BTreeMap<String, TableSummary>,
    /// A hash of the schema (tables, indexes, views, triggers as the engine states them).
    pub schema: ObjectId,
    /// Whether the capture was restored and compared, not only written.
    pub verified: bool,
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
