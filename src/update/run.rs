//! The record of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Changes, HoldId, Verification};
use crate::base::{PlatformName, SiteName, Timestamp};
use crate::history::{Record, SnapshotId};
use crate::site::GenerationName;

/// Names a run. Letters, digits and hyphens that sort by the time the run began: `20261121-140300-4fa9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(String);

impl RunId {
    /// The name of a run that begins at `now`.
    pub fn at(now: Timestamp) -> RunId {
        let (_, nanoseconds) = now.parts();
        let text = now.to_string().replace(['-', ':', 'Z'], "").replace('T', "-");
        // Two runs of one site cannot begin in the same 16 microseconds, as the first has to end before.
        RunId(format!("{text}-{:04x}", nanoseconds >> 14))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = std::convert::Infallible;
    /// Any text may be asked for; one that names no run is not found.
    fn from_str(text: &str) -> Result<RunId, Self::Err> {
        Ok(RunId(text.to_owned()))
    }
}

/// How an update goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Updates a new generation with a database of its own and moves one pointer.
    Switch,
}

impl fmt::Display for Strategy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Strategy::Switch => "switch",
        })
    }
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Its steps are being done.
    Running,
    /// The daemon died with it, or its undoing failed: it waits to be resumed or aborted.
    Interrupted,
    /// The site is updated.
    Done,
    /// A step failed before the switch; the site is as it was.
    Failed,
    /// A check failed after the switch; the site is switched back.
    RolledBack,
    /// It was undone because somebody asked for it.
    Aborted,
}

impl RunState {
    /// Whether the run has ended, so that the site is free for another.
    pub fn is_final(self) -> bool {
        !matches!(self, RunState::Running | RunState::Interrupted)
    }
}

/// The steps there are. Their order in a run is the strategy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Snapshot of the live site, verified.
    Backup,
    /// The rehearsal's clone, on the new platform.
    Clone,
    /// The update commands on the clone.
    RehearseUpdate,
    /// Cache rebuild and checks on the clone.
    RehearseChecks,
    /// What the update changed on the clone.
    Compare,
    /// The clone deleted.
    Discard,
    /// Writes to the live site held.
    Hold,
    /// Snapshot of what is held.
    Freeze,
    /// The new generation, on the new platform.
    Prepare,
    /// The update commands on the new generation.
    Update,
    /// Cache rebuild and checks on the new generation.
    Checks,
    /// The live pointer moved.
    Switch,
    /// Checks of the live site.
    LiveChecks,
    /// The holds ended.
    Release,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun, or begun and taken back to be done again.
    Pending,
    /// Begun; half of it may be done.
    Started,
    /// Done.
    Done,
    /// Failed; half of it may be done.
    Failed,
    /// Taken back.
    Undone,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which.
    pub kind: StepKind,
    /// Where it is.
    pub state: StepState,
    /// When it was last begun.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub finished: Option<Timestamp>,
    /// In words, what it did or why it failed.
    pub message: String,
}

impl StepRecord {
    /// How long it took the last time, in seconds.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.finished?.seconds_since(self.started?))
    }
}

/// One execution of an update plan: the journal and, when it has ended, the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The site.
    pub site: SiteName,
    /// How it goes about it.
    pub strategy: Strategy,
    /// Who asked for it: a user name of this machine.
    pub who: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Where it is.
    pub state: RunState,
    /// Why it did not end as it should, in words.
    pub reason: String,
    /// Set when undoing has begun: the state that the run ends in.
    pub undoing: Option<RunState>,
    /// The name of the recipe.
    pub recipe: String,
    /// The recipe's text as it was when the run began.
    pub recipe_text: String,
    /// Shell lines that must succeed, beside the recipe's checks.
    pub checks: Vec<String>,
    /// Whether the rehearsal's clone is kept.
    pub keep_test: bool,
    /// The platform the site was on.
    pub from_platform: PlatformName,
    /// The platform it goes to.
    pub to_platform: PlatformName,
    /// The live generation at the start.
    pub from: GenerationName,
    /// The generation made; set before it is made.
    pub to: Option<GenerationName>,
    /// The rehearsal's clone.
    pub clone: SiteName,
    /// Whether the site was in read-only mode before, and is to be so after.
    pub read_only: bool,
    /// The steps, in order.
    pub steps: Vec<StepRecord>,
    /// The verified backup.
    pub backup: Option<SnapshotId>,
    /// What the verification read.
    pub verification: Option<Verification>,
    /// What the update changed on the clone.
    pub changes: Option<Changes>,
    /// The hold of the old generation.
    pub from_hold: Option<HoldId>,
    /// The hold of the new generation.
    pub to_hold: Option<HoldId>,
    /// When writes were first held.
    pub held: Option<Timestamp>,
    /// The snapshot of what was held.
    pub frozen: Option<SnapshotId>,
    /// When the pointer was moved.
    pub switched: Option<Timestamp>,
    /// When writes were accepted again.
    pub released: Option<Timestamp>,
    /// How long the rehearsal says that writes are held, in seconds.
    pub window_seconds_expected: Option<f64>,
    /// A snapshot of what the new generation held when it was switched back from after it had taken writes.
    pub left_behind: Option<SnapshotId>,
}

impl Record for Run {
    const TABLE: &'static str = "runs";
    const VERSION: u8 = 1;
}

impl Run {
    /// The key of the record: the runs of a site are in the order of their beginning.
    pub fn key(site: &SiteName, id: &RunId) -> String {
        format!("{site}/{id}")
    }

    /// The step of a kind.
    pub fn step(&self, kind: StepKind) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.kind == kind)
    }

    /// How long writes were held, in seconds.
    pub fn window_seconds(&self) -> Option<f64> {
        Some(self.released?.seconds_since(self.held?))
    }
}

/// What the commands of a step printed, bounded: the first lines and the last. The key is that of the run, a slash
/// and the step's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutput {
    /// The text.
    pub text: String,
}

impl Record for StepOutput {
    const TABLE: &'static str = "run-outputs";
    const VERSION: u8 = 1;
}
