//! The verbs that tell of runs, under way and past.

use super::Daemon;
use super::runs::name;
use crate::base::SiteName;
use crate::control::response::{RunDetails, RunState as ShownState, RunStep, RunSummary, Runs};
use crate::control::{Failure, request};
use crate::update::{Journal, Run, RunState, StepOutput, StepState};

impl Daemon {
    /// `run list`.
    pub(super) fn run_list(&self, request: &request::RunList) -> Result<Runs, Failure> {
        let mut runs = match &request.site {
            Some(site) => self.runs_of(site)?,
            None => self.store.catalog.list::<Run>("")?.into_iter().map(|(_, run)| run).collect(),
        };
        runs.sort_by(|one, other| other.id.cmp(&one.id));
        let count = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let left_out = runs.len().saturating_sub(count) as u64;
        runs.truncate(count);
        Ok(Runs { runs: runs.iter().map(|run| self.run_summary(run)).collect(), left_out })
    }

    /// `run show`.
    pub(super) fn run_show(&self, request: &request::RunShow) -> Result<RunDetails, Failure> {
        let site = &request.site;
        let runs = self.runs_of(site)?;
        let is_meant = |run: &&Run| match &request.run {
            Some(part) => run.id.as_str().starts_with(part) || run.id.as_str().ends_with(part),
            None => true,
        };
        let mut meant: Vec<&Run> = runs.iter().filter(is_meant).collect();
        if request.run.is_none() {
            meant.drain(..meant.len().saturating_sub(1));
        }
        let [run] = meant.as_slice() else {
            return Err(match (&request.run, meant.len()) {
                (None, _) => Failure::failed(format!("{site} has had no run yet")),
                (Some(part), 0) => Failure::failed(format!("{site} has no run {part:?}"))
                    .hint(format!("sitefs run list {site}")),
                (Some(part), count) => {
                    Failure::failed(format!("{count} runs of {site} are meant by {part:?}"))
                        .hint(format!("sitefs run list {site}"))
                }
            });
        };
        let mut steps = Vec::new();
        for (place, step) in run.steps.iter().enumerate() {
            let output = match request.output {
                true => self.store.catalog.get::<StepOutput>(&StepOutput::key(run, place))?,
                false => None,
            };
            steps.push(RunStep {
                name: name(step.kind).to_owned(),
                state: state(step.state).to_owned(),
                started: step.started.map(Into::into),
                seconds: step.seconds(),
                message: step.message.clone(),
                output: output.map(|output| output.text),
            });
        }
        Ok(RunDetails {
            summary: self.run_summary(run),
            strategy: run.strategy.to_string(),
            from: run.from_platform.clone(),
            from_generation: run.from.number,
            to_generation: run.to.as_ref().map(|to| to.number),
            backup: run.backup.map(|backup| backup.to_string()),
            reason: match (run.reason.is_empty(), run.obstacle.is_empty()) {
                (_, true) => run.reason.clone(),
                (true, false) => run.obstacle.clone(),
                (false, false) => format!("{}; {}", run.reason, run.obstacle),
            },
            steps,
        })
    }

    /// The runs of a site that there is, the oldest first.
    fn runs_of(&self, site: &SiteName) -> Result<Vec<Run>, Failure> {
        self.site(site)?;
        Ok(Journal::list(&self.store.catalog, site)?)
    }

    /// A run as lists show it.
    pub(super) fn run_summary(&self, run: &Run) -> RunSummary {
        let mut steps = run.steps.iter().enumerate();
        let current = if run.undoing.is_some() {
            // What came last before all was taken back.
            steps.rfind(|(_, step)| step.started.is_some())
        } else {
            let is_to_do =
                |state| matches!(state, StepState::Started | StepState::Failed | StepState::Pending);
            steps.find(|(_, step)| is_to_do(step.state))
        };
        RunSummary {
            run: run.id.to_string(),
            site: run.site.clone(),
            what: format!("update to {}", run.to_platform),
            state: match run.state {
                RunState::Running => ShownState::Running,
                RunState::Interrupted => ShownState::Interrupted,
                RunState::Done => ShownState::Done,
                RunState::Failed => ShownState::Failed,
                RunState::RolledBack => ShownState::RolledBack,
                RunState::Aborted => ShownState::Aborted,
            },
            step: current
                .map(|(place, step)| format!("{} of {}, {}", place + 1, run.steps.len(), name(step.kind))),
            started: run.started.into(),
            ended: run.finished.map(Into::into),
            held_seconds: run.window_seconds(),
            predicted_hold_seconds: run.window_seconds_expected,
            author: run.who.clone(),
            log: self.log_path(run).display().to_string(),
        }
    }
}

fn state(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Started => "started",
        StepState::Done => "done",
        StepState::Failed => "failed",
        StepState::Undone => "undone",
    }
}
