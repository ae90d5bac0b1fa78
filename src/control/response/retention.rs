//! Retention and space.

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::base::{SiteName, TagName};

/// What is decided about one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneDecision {
    /// Its id.
    pub id: String,
    /// When it was taken.
    pub created: Moment,
    /// Why it was taken.
    pub message: String,
    /// Its tags.
    pub tags: Vec<TagName>,
    /// Why it is kept: `newest`, `tagged`, `hourly`, `daily`, `weekly`, `monthly`; removed when there is no reason.
    pub kept_as: Vec<String>,
}

/// Answer to `prune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// The site.
    pub site: SiteName,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// How many snapshots were removed, or would be.
    pub removed: u64,
    /// All snapshots there were, newest first.
    pub snapshots: Vec<PruneDecision>,
    /// What `gc` would then free, in bytes; of a dry run only.
    pub would_free_bytes: Option<u64>,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `gc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// How many objects nobody referred to.
    pub objects_removed: u64,
    /// What they took, in bytes.
    pub garbage_bytes: u64,
    /// How many packs were emptied and removed.
    pub packs_removed: u64,
    /// By how much the store's files are shorter than before, in bytes. Less than the garbage while packs keep some.
    pub freed_bytes: u64,
    /// How many objects there are.
    pub objects: u64,
    /// What they take, in bytes.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}
