//! What the daemon answers: one structure per verb. These are the documents that `--json` prints, so names and units
//! are stable: fields may be added, never renamed. Sizes are in bytes, lengths of time in seconds, points in time
//! RFC 3339 texts, paths texts in which bytes that are not UTF-8 are replaced.

mod database;
mod difference;
mod platform;
mod retention;
mod run;
mod site;
mod snapshot;
mod status;
mod switch;
mod transfer;
mod update;
mod verify;
mod web;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use database::{DatabaseCloned, DatabaseDumped, DatabaseRestored, DatabaseVerification, TableInfo};
pub use difference::{ChangeKind, CodeChange, DiffSummary, Differences, FileChange, TableChange};
pub use platform::{
    PlatformAdded, PlatformDetails, PlatformRemoved, PlatformSummary, PlatformVerification, Platforms,
};
pub use retention::{Collected, PruneDecision, Pruned};
pub use run::{RunDetails, RunStep, Runs};
pub use site::{
    DatabaseInfo, GenerationInfo, GenerationState, MovedFile, SettingValue, SiteCloned, SiteDetails,
    SiteImported, SiteRemoved, SiteSummary, Sites, SkippedFile,
};
pub use snapshot::{
    DatabaseCapture, Restored, SiteSpace, SnapshotDetails, SnapshotLog, SnapshotSummary, SnapshotTaken,
    Tagged,
};
pub use status::{MountStatus, Space, StatusReport, Stopping};
pub use switch::{Deployed, GenerationRef, Switched};
pub use transfer::{Received, Sent};
pub use update::{
    PlannedStep, RunState, RunSummary, StepReport, UpdateOutcome, UpdatePlan, UpdateReport, Updated,
};
pub use verify::{Affected, Repair, SiteVerification, Verification};
pub use web::{ReadonlyState, VhostMade};

use crate::base::Timestamp;

/// A point in time, as RFC 3339 text in UTC to the second: `2026-11-21T14:03:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Moment {
        Moment(time)
    }
}

impl TryFrom<String> for Moment {
    type Error = <Timestamp as FromStr>::Err;
    fn try_from(text: String) -> Result<Moment, Self::Error> {
        text.parse().map(Moment)
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> String {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
