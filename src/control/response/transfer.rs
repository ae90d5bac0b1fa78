//! Snapshots between stores.

use serde::{Deserialize, Serialize};

use super::{SiteSummary, SnapshotSummary};
use crate::base::SiteName;

/// Answer to `send`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The site.
    pub site: SiteName,
    /// The snapshot's id.
    pub snapshot: String,
    /// The id of the snapshot that the other store has.
    pub base: Option<String>,
    /// How many objects at the beginning were left out.
    pub skipped: u64,
    /// How many objects were sent.
    pub objects: u64,
    /// The length of the stream, in bytes.
    pub stream_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `receive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The snapshot.
    pub snapshot: SnapshotSummary,
    /// The site that was made from it, where one was asked for.
    pub site: Option<SiteSummary>,
    /// The id of the snapshot that was here before.
    pub base: Option<String>,
    /// How many objects came.
    pub objects: u64,
    /// The length of the stream, in bytes.
    pub stream_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}
