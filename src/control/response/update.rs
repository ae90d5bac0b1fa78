//! Updates.

use serde::{Deserialize, Serialize};

use super::{DiffSummary, FileChange, GenerationRef, Moment, TableChange};
use crate::base::{PlatformName, SiteName};
use crate::control::request::Strategy;

/// Answer to `update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[expect(clippy::large_enum_variant, reason = "one at a time exists, the answer to one request")]
pub enum UpdateOutcome {
    /// To `--dry-run`: what it would do.
    Planned(UpdatePlan),
    /// It is done, and visitors get the new generation.
    Updated(Updated),
    /// To `--abort`: everything is as it was before the run.
    Aborted(UpdateReport),
}

/// What an update would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdatePlan {
    /// The site.
    pub site: SiteName,
    /// The recipe of its application.
    pub app: String,
    /// The platform it is on.
    pub from: PlatformName,
    /// The platform it would move to.
    pub to: PlatformName,
    /// How the live site would be treated.
    pub strategy: Strategy,
    /// What that means for this site, and what the other strategy would.
    pub choice: String,
    /// In order.
    pub steps: Vec<PlannedStep>,
    /// How long writes would be held, as an earlier run or rehearsal says; `None` before the first.
    pub predicted_hold_seconds: Option<f64>,
    /// What the administrator should know first.
    pub warnings: Vec<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it does.
    pub name: String,
    /// How: the command, or what sitefs itself does.
    pub action: String,
    /// What takes it back; `None` when there is nothing to take back.
    pub undo: Option<String>,
    /// Whether the site's writes are held meanwhile.
    pub holds_writes: bool,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What it does.
    pub name: String,
    /// How it ended; the same words as in [`crate::control::StepState`].
    pub state: String,
    /// How long it took.
    pub seconds: f64,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// The run's name: `20261121-140300-4fa9`.
    pub run: String,
    /// The site.
    pub site: SiteName,
    /// The platform it was on.
    pub from: PlatformName,
    /// The platform it was to move to.
    pub to: PlatformName,
    /// In order.
    pub steps: Vec<StepReport>,
    /// How long it took.
    pub seconds: f64,
    /// The file that holds what the application's commands wrote.
    pub log: String,
}

/// How an update went that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Updated {
    /// How the run went.
    #[serde(flatten)]
    pub report: UpdateReport,
    /// The id of the snapshot with the verified backup.
    pub backup: String,
    /// What was live before.
    pub old: GenerationRef,
    /// What is live now.
    pub new: GenerationRef,
    /// The clone of the rehearsal, when it was kept.
    pub test: Option<SiteName>,
    /// How long writes were held.
    pub held_seconds: f64,
    /// How long the rehearsal said they would be.
    pub predicted_hold_seconds: f64,
    /// Sums of what the update command changed.
    pub summary: DiffSummary,
    /// Files that the update command changed.
    pub files: Vec<FileChange>,
    /// Tables that the update command changed.
    pub tables: Vec<TableChange>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It is under way.
    Running,
    /// The daemon ended in the middle of it: `update SITE --resume` or `--abort`.
    Interrupted,
    /// It is done.
    Done,
    /// It failed before the switch; the live site was not touched.
    Failed,
    /// A check after the switch failed; the site was switched back.
    RolledBack,
    /// It was taken back by a person.
    Aborted,
}

/// One run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its name: `20261121-140300-4fa9`. Names sort by the time the runs began.
    pub run: String,
    /// The site.
    pub site: SiteName,
    /// What it does: "update to drupal-10.4".
    pub what: String,
    /// Where it stands.
    pub state: RunState,
    /// The step it is at, or ended at: "5 of 11, update command on the clone".
    pub step: Option<String>,
    /// When it began.
    pub started: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// How long writes were held.
    pub held_seconds: Option<f64>,
    /// How long its rehearsal said they would be.
    pub predicted_hold_seconds: Option<f64>,
    /// Who asked for it.
    pub author: String,
    /// The file that holds what the application's commands wrote.
    pub log: String,
}
