//! What the administrator has done before and after each step, beside what a recipe says.
//!
//! A hook that fails is as if its step had: before the switch the site is left as it was, afterwards it is switched
//! back or restored. Only when writes have been accepted again nothing is taken back any more, and a failure is told.
//! A step that is done again after an interruption has its hooks run again.

use std::collections::BTreeMap;

use super::engine::Execution;
use super::{Event, Failure, HookRequest, Moment, StepKind};

impl Execution<'_> {
    /// Runs the hooks of a step.
    pub(super) fn hooks(&mut self, kind: StepKind, moment: Moment) -> Result<(), Failure> {
        let request = HookRequest {
            site: self.run.site.clone(),
            step: kind,
            moment,
            environment: self.hook_environment(kind, moment),
        };
        let (engine, transcript) = (self.engine, &mut self.transcript);
        let outcome = engine.operations.run_hooks(&request, &mut |line| {
            transcript.push(line);
            (engine.events)(Event::Output(line.to_owned()));
        });
        match outcome {
            Err(failure) if (kind, moment) == (StepKind::Release, Moment::After) => {
                self.tell(Event::Warning(format!("the update is done all the same: {failure}")));
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// What a hook is told. What is not known yet is empty.
    fn hook_environment(&self, kind: StepKind, moment: Moment) -> BTreeMap<String, String> {
        let run = &self.run;
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let seconds = |seconds: Option<f64>| seconds.map(|it| format!("{it:.3}")).unwrap_or_default();
        [
            ("SITEFS_SITE", run.site.to_string()),
            ("SITEFS_RUN", run.id.to_string()),
            ("SITEFS_STEP", kind.to_string()),
            ("SITEFS_HOOK", moment.to_string()),
            ("SITEFS_STRATEGY", run.strategy.to_string()),
            ("SITEFS_USER", run.who.clone()),
            ("SITEFS_FROM_PLATFORM", run.from_platform.to_string()),
            ("SITEFS_TO_PLATFORM", run.to_platform.to_string()),
            ("SITEFS_FROM_GENERATION", run.from.number.to_string()),
            ("SITEFS_TO_GENERATION", number(run.to.as_ref().map(|to| to.number))),
            ("SITEFS_CLONE", run.rehearsal.as_ref().map(|of| of.site.to_string()).unwrap_or_default()),
            ("SITEFS_BACKUP", run.backup.map(|backup| backup.to_string()).unwrap_or_default()),
            ("SITEFS_PREDICTED_SECONDS", seconds(run.window_seconds_expected)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
