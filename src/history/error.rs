//! What can go wrong with snapshots and their names.

use super::{CatalogError, SnapshotId};
use crate::base::encoding::EncodingError;
use crate::base::{SiteName, TagName, Timestamp};
use crate::objects::ObjectsError;

/// What can go wrong with snapshots and their names.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The objects failed.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// A snapshot is damaged or from a newer sitefs.
    #[error("the snapshot {id} cannot be read: {source}")]
    Snapshot {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        source: EncodingError,
    },
    /// No snapshot of the site has the tag or an id that starts so.
    #[error("{site} has no snapshot {name:?}: `sitefs log {site}` lists them")]
    Unknown {
        /// The site.
        site: SiteName,
        /// The tag or the beginning of an id.
        name: String,
    },
    /// The ids of several snapshots start so.
    #[error("{name:?} may be any of {}: give more of the id", join(candidates))]
    Ambiguous {
        /// The beginning of an id.
        name: String,
        /// The snapshots.
        candidates: Vec<SnapshotId>,
    },
    /// The site has no snapshot that old.
    #[error("{site} has no snapshot from {time} or before: `sitefs log {site}` lists them")]
    NoneThen {
        /// The site.
        site: SiteName,
        /// The time asked for.
        time: Timestamp,
    },
    /// The tag is on another snapshot; tags never move.
    #[error("the tag {tag} of {site} is on {} already, and a tag never moves: choose another", id.short())]
    TagExists {
        /// The site.
        site: SiteName,
        /// The tag.
        tag: TagName,
        /// The snapshot that has it.
        id: SnapshotId,
    },
    /// The tag has a meaning of its own.
    #[error("{tag} cannot be a tag: it always means the state of that name")]
    TagReserved {
        /// The tag.
        tag: TagName,
    },
    /// All volume numbers are given out.
    #[error("the store has given out all its volume numbers: move the sites to a new store")]
    NoVolumes,
}

fn join(candidates: &[SnapshotId]) -> String {
    candidates.iter().map(|id| id.short()).collect::<Vec<_>>().join(", ")
}
