//! Switches of the live pointer.

use serde::{Deserialize, Serialize};

use super::SnapshotSummary;
use crate::base::{PlatformName, SiteName};

/// A generation, and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRef {
    /// Its number.
    pub generation: u64,
    /// Its platform.
    pub platform: PlatformName,
    /// The document root when it is live.
    pub document_root: String,
}

/// Answer to `cutover` and `rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switched {
    /// The site.
    pub site: SiteName,
    /// What was live before.
    pub from: GenerationRef,
    /// What is live now.
    pub to: GenerationRef,
    /// How long the whole request took.
    pub seconds: f64,
    /// How long the switch itself took: the transaction, until every path leads to the new generation.
    pub switch_seconds: f64,
}

/// Answer to `deploy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// The switch to the new generation.
    pub switched: Switched,
    /// The snapshot of what was deployed.
    pub snapshot: SnapshotSummary,
}
