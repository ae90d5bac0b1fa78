//! Snapshots.

use serde::{Deserialize, Serialize};

use super::{Moment, TableInfo};
use crate::base::{PlatformName, RelativePath, SiteName, TagName};

/// One snapshot in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The site.
    pub site: SiteName,
    /// When it was taken.
    pub created: Moment,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Its tags.
    pub tags: Vec<TagName>,
    /// The platform the site stood on.
    pub platform: Option<PlatformName>,
    /// The generation it was taken of.
    pub generation: Option<u64>,
    /// How many files, directories and other nodes it holds.
    pub nodes: u64,
    /// The sizes of its files.
    pub size_bytes: u64,
    /// By how much the store grew for it.
    pub added_bytes: u64,
    /// Its database.
    pub database: Option<DatabaseCapture>,
    /// What removing it alone would free, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone_bytes: Option<u64>,
    /// Why it cannot be read, if it cannot; what is not known is then empty or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// The database of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseCapture {
    /// `sqlite`, `mariadb`, `postgresql`.
    pub engine: String,
    /// How many tables.
    pub tables: u64,
    /// How many rows in all of them.
    pub rows: u64,
    /// Whether it was restored and compared, not only written.
    pub verified: bool,
}

/// Answer to `snapshot`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// The snapshot.
    pub snapshot: SnapshotSummary,
    /// Files that a process kept writing meanwhile: their content is not one state.
    pub unstable: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLog {
    /// The site.
    pub site: SiteName,
    /// Newest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// What the site takes of the store, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SiteSpace>,
}

/// What a site takes of the store, in bytes on the disk. Files of changed content that no snapshot has are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSpace {
    /// What nobody else has: removing the site with all its snapshots would free it.
    pub own_bytes: u64,
    /// How much of that only snapshots have: removing all of them would free it.
    pub snapshots_bytes: u64,
    /// What other sites have too: clones, and whose files are the same.
    pub shared_bytes: u64,
}

/// Answer to `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDetails {
    /// The snapshot.
    pub snapshot: SnapshotSummary,
    /// The id of the snapshot before it.
    pub parent: Option<String>,
    /// The hash over the platform's code.
    pub platform_code: Option<String>,
    /// Where it can be browsed.
    pub path: String,
    /// Which directories of it are data.
    pub data: Vec<RelativePath>,
    /// The tables of its database, by name.
    pub tables: Vec<TableInfo>,
}

/// Answer to `tag`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagged {
    /// The site.
    pub site: SiteName,
    /// The snapshot's id.
    pub snapshot: String,
    /// The tag.
    pub tag: TagName,
}

/// Answer to `restore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// The snapshot's id.
    pub snapshot: String,
    /// What was restored, below the site's directory.
    pub paths: Vec<RelativePath>,
    /// The directory they were written to.
    pub into: String,
    /// The id of the snapshot taken of the site before its files were replaced.
    pub safety_snapshot: Option<String>,
    /// How many files, directories and other nodes.
    pub nodes: u64,
    /// The sizes of the files.
    pub size_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}
