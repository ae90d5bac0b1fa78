//! The record of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Changes, HoldId, Inspection, UpdateError, UpdateRequest, Verification};
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
    /// Moves the pointer first and updates the live database; restores what it was where that fails.
    InPlace,
}

impl Strategy {
    /// The steps, in order: the rehearsal is the same, what follows while writes are held is not.
    pub fn steps(self) -> Vec<StepKind> {
        use StepKind::*;
        let window = match self {
            Strategy::Switch => [Hold, Freeze, Prepare, Update, Checks, Switch, LiveChecks, Release],
            Strategy::InPlace => [Hold, Freeze, Prepare, Switch, Update, Checks, LiveChecks, Release],
        };
        [Backup, Clone, RehearseUpdate, RehearseChecks, Compare, Discard].into_iter().chain(window).collect()
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Strategy::Switch => "switch",
            Strategy::InPlace => "in-place",
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

/// The word that the environment of a step's commands has.
impl fmt::Display for StepKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            StepKind::Backup => "backup",
            StepKind::Clone => "clone",
            StepKind::RehearseUpdate => "rehearse-update",
            StepKind::RehearseChecks => "rehearse-checks",
            StepKind::Compare => "compare",
            StepKind::Discard => "discard",
            StepKind::Hold => "hold",
            StepKind::Freeze => "freeze",
            StepKind::Prepare => "prepare",
            StepKind::Update => "update",
            StepKind::Checks => "checks",
            StepKind::Switch => "switch",
            StepKind::LiveChecks => "live-checks",
            StepKind::Release => "release",
        })
    }
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
    /// Why it is being undone or was, in words.
    pub reason: String,
    /// Why it is interrupted, in words; empty when the daemon died.
    pub obstacle: String,
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
    /// The generation of the clone, once it is made.
    pub rehearsal: Option<GenerationName>,
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
    /// Whether the new generation may have taken writes that a switch back would leave behind: a hold did not
    /// outlive the daemon. Then only a person's word switches back.
    pub exposed: bool,
    /// A snapshot of what the new generation held when it was switched back from after it had taken writes.
    pub left_behind: Option<SnapshotId>,
    /// In place: the generation that the snapshot of what was held is restored to when it is taken back; set before
    /// it is made.
    pub restored: Option<GenerationName>,
    /// How long the backup's snapshot took, in seconds: another is taken while writes are held.
    pub capture_seconds: Option<f64>,
    /// How long the copy of a database on a server will take while writes are held, in seconds, by what the proof of the backup
    /// took: the rehearsal has taken that over.
    pub copy_seconds: Option<f64>,
}

impl Record for Run {
    const TABLE: &'static str = "runs";
    const VERSION: u8 = 3;

    fn added_since(version: u8) -> Option<usize> {
        match version {
            // `restored` and `capture_seconds` too.
            1 => Some(3),
            // `copy_seconds`.
            2 => Some(1),
            _ => None,
        }
    }
}

impl Run {
    /// A run that begins now.
    pub(super) fn new(
        request: &UpdateRequest,
        inspection: &Inspection,
        now: Timestamp,
    ) -> Result<Run, UpdateError> {
        let id = RunId::at(now);
        let clone = format!("{}--rehearsal-{id}", request.site).parse().map_err(|_| {
            UpdateError::Refused(format!(
                "the name {} is too long: there must be room for that of a clone",
                request.site
            ))
        })?;
        let pending = |kind: &StepKind| StepRecord {
            kind: *kind,
            state: StepState::Pending,
            started: None,
            finished: None,
            message: String::new(),
        };
        Ok(Run {
            id,
            site: request.site.clone(),
            strategy: request.strategy,
            who: request.who.clone(),
            started: now,
            finished: None,
            state: RunState::Running,
            reason: String::new(),
            obstacle: String::new(),
            undoing: None,
            recipe: inspection.recipe.name.clone(),
            recipe_text: inspection.recipe.text.clone(),
            checks: request.checks.clone(),
            keep_test: request.keep_test,
            from_platform: inspection.platform.clone(),
            to_platform: request.platform.clone(),
            from: GenerationName { site: request.site.clone(), number: inspection.live },
            to: None,
            restored: None,
            clone,
            rehearsal: None,
            read_only: inspection.read_only,
            steps: request.strategy.steps().iter().map(pending).collect(),
            backup: None,
            verification: None,
            changes: None,
            from_hold: None,
            to_hold: None,
            held: None,
            frozen: None,
            switched: None,
            released: None,
            capture_seconds: None,
            copy_seconds: None,
            window_seconds_expected: None,
            exposed: false,
            left_behind: None,
        })
    }

    /// The key of the record: the runs of a site are in the order of their beginning.
    pub fn key(site: &SiteName, id: &RunId) -> String {
        format!("{site}/{id}")
    }

    /// The step of a kind.
    pub fn step(&self, kind: StepKind) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.kind == kind)
    }

    /// Whether a step was begun and not taken back.
    pub fn has_begun(&self, kind: StepKind) -> bool {
        self.step(kind).is_some_and(|step| !matches!(step.state, StepState::Pending | StepState::Undone))
    }

    /// Whether the live database may be in a state that belongs to neither release: then nobody goes on from it.
    pub fn is_half_updated(&self) -> bool {
        let is_updated = self.step(StepKind::Update).is_some_and(|step| step.state == StepState::Done);
        self.strategy == Strategy::InPlace && self.has_begun(StepKind::Switch) && !is_updated
    }

    /// What of the rehearsal happens again while writes are held, and how long it took, in seconds; `None` until it is
    /// done.
    pub fn rehearsed(&self) -> Option<Vec<(&'static str, f64)>> {
        let seconds = |kind| self.step(kind).and_then(StepRecord::seconds);
        let mut parts = vec![("snapshot", self.capture_seconds?)];
        if self.strategy == Strategy::Switch {
            parts.push(("copy", seconds(StepKind::Clone)? + self.copy_seconds.unwrap_or_default()));
        }
        parts.push(("update", seconds(StepKind::RehearseUpdate)?));
        parts.push(("checks", seconds(StepKind::RehearseChecks)?));
        Some(parts)
    }

    /// The sum of what was rehearsed, in seconds.
    pub(super) fn rehearsed_seconds(&self) -> Option<f64> {
        Some(self.rehearsed()?.iter().map(|(_, seconds)| seconds).sum())
    }

    /// How much longer writes were held than the rehearsal said, in seconds: it has no last writers, no switch, and nobody
    /// who loads the server. Without what was before, after or between the steps: hooks, and the time in which no daemon ran.
    fn beyond_rehearsal(&self) -> Option<f64> {
        let steps = self.steps.iter().skip_while(|step| step.kind != StepKind::Hold);
        let held = self.window_seconds()?.min(steps.filter_map(StepRecord::seconds).sum());
        Some((held - self.rehearsed_seconds()?).max(0.0))
    }

    /// The newest of a site's runs, of which the oldest comes first, that an update with this strategy is like.
    pub(super) fn last_like(former: &[Run], strategy: Strategy) -> Option<&Run> {
        former.iter().rev().find(|run| run.state == RunState::Done && run.strategy == strategy)
    }

    /// How long writes will be held, in seconds: what was rehearsed, and what came on top the last time. `None` until it is
    /// rehearsed.
    pub(super) fn foresee(&self, former: &[Run]) -> Option<f64> {
        let last = Run::last_like(former, self.strategy);
        Some(self.rehearsed_seconds()? + last.and_then(Run::beyond_rehearsal).unwrap_or_default())
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

impl StepOutput {
    /// The key of the record.
    pub fn key(run: &Run, place: usize) -> String {
        format!("{}/{place:02}", Run::key(&run.site, &run.id))
    }
}

impl Record for StepOutput {
    const TABLE: &'static str = "run-outputs";
    const VERSION: u8 = 1;
}
