//! Doing a run's steps in order, and taking them back in reverse.

use super::commands::Transcript;
use super::{
    Failure, Journal, Moment, Operations, Plan, Run, RunState, StepKind, StepOutput, StepRecord, StepState,
    UpdateError, UpdateRequest,
};
use crate::base::SiteName;
use crate::history::SnapshotId;
use crate::site::Recipe;

/// What is told to whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A step begins.
    Started {
        /// Which.
        kind: StepKind,
        /// Its place, from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// What is being done.
        title: String,
    },
    /// A line that a command printed.
    Output(String),
    /// A step has ended.
    Finished {
        /// Which.
        kind: StepKind,
        /// How long it took, in seconds.
        seconds: f64,
        /// In words, what it did, or why it failed.
        result: Result<String, String>,
    },
    /// Taking back begins; the run says why.
    Undoing,
    /// Something to know that does not end the run.
    Warning(String),
}

/// What whoever watches wants of a run under way; asked between steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// It shall go on.
    #[default]
    Continue,
    /// It shall be undone.
    Abort,
    /// It shall stop where it is, to be resumed or aborted later: the daemon is being stopped.
    Suspend,
}

/// Does runs, by means of the operations of the layer above.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// What does the work.
    pub operations: &'a dyn Operations,
    /// Where runs are written down.
    pub journal: &'a dyn Journal,
    /// Who watches.
    pub events: &'a dyn Fn(Event),
    /// What they want.
    pub wish: &'a dyn Fn() -> Wish,
}

impl Engine<'_> {
    /// What an update would do; refuses what [`Engine::start`] would refuse. Changes nothing.
    pub fn plan(&self, request: &UpdateRequest) -> Result<Plan, UpdateError> {
        self.journal.refuse_if_busy(&request.site)?;
        let inspection = self.operations.inspect(&request.site, &request.platform);
        let former = self.journal.list(&request.site)?;
        Plan::new(request, &inspection.map_err(UpdateError::Inspection)?, &former)
    }

    /// Begins a run and does it to its end, or until it is interrupted; the run says how it ended.
    pub fn start(&self, request: &UpdateRequest) -> Result<Run, UpdateError> {
        self.journal.refuse_if_busy(&request.site)?;
        let inspection = self.operations.inspect(&request.site, &request.platform);
        let inspection = inspection.map_err(UpdateError::Inspection)?;
        let plan = Plan::new(request, &inspection, &[])?;
        for warning in plan.warnings {
            (self.events)(Event::Warning(warning));
        }
        let run = Run::new(request, &inspection, self.operations.now())?;
        self.journal.begin(&run)?;
        Execution::new(*self, run)?.go(|_| Ok(()))
    }

    /// Takes up the interrupted run of a site and does it to its end. A run that was being undone is undone.
    pub fn resume(&self, site: &SiteName) -> Result<Run, UpdateError> {
        Execution::new(*self, self.interrupted(site)?)?.go(|execution| {
            if execution.run.undoing.is_none() {
                execution.survey()?;
            }
            execution.take_up()
        })
    }

    /// For the daemon's start: lets a site that was interrupted while its writes were held take writes again, and
    /// finishes an undoing that had begun. A run that was going forward stays interrupted, for a person to decide.
    pub fn settle(&self, site: &SiteName) -> Result<Run, UpdateError> {
        let mut execution = Execution::new(*self, self.interrupted(site)?)?;
        if execution.run.undoing.is_some() {
            return execution.go(Execution::take_up);
        }
        execution.survey()?;
        execution.save()?;
        Ok(execution.run)
    }

    /// Undoes the interrupted run of a site.
    pub fn abort(&self, site: &SiteName) -> Result<Run, UpdateError> {
        Execution::new(*self, self.interrupted(site)?)?.go(|execution| {
            execution.take_up()?;
            if execution.run.undoing.is_none() {
                execution.turn_back(RunState::Aborted, "it was aborted".to_owned())?;
            }
            Ok(())
        })
    }

    fn interrupted(&self, site: &SiteName) -> Result<Run, UpdateError> {
        match self.journal.unfinished(site)? {
            None => Err(UpdateError::NothingInterrupted { site: site.clone() }),
            Some(run) if run.state == RunState::Running => {
                Err(UpdateError::Running { site: site.clone(), run: run.id })
            }
            Some(run) => Ok(run),
        }
    }
}

const SUSPENDED: &str = "the daemon was stopped";

/// Why a step did not end as it should.
pub(super) enum Stop {
    /// It failed.
    Failure(Failure),
    /// The journal cannot be written: nothing more may be done.
    Journal(UpdateError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<UpdateError> for Stop {
    fn from(error: UpdateError) -> Stop {
        Stop::Journal(error)
    }
}

/// A run being done.
pub(super) struct Execution<'a> {
    pub(super) engine: Engine<'a>,
    pub(super) recipe: Recipe,
    pub(super) run: Run,
    pub(super) transcript: Transcript,
    /// The snapshot of what is held, as it was begun in this process.
    pub(super) begun: Option<SnapshotId>,
}

impl<'a> Execution<'a> {
    fn new(engine: Engine<'a>, run: Run) -> Result<Execution<'a>, UpdateError> {
        let recipe = Recipe::parse(
            &run.recipe,
            &run.recipe_text,
            &format!("{} kept with run {}", run.recipe, run.id),
        )?;
        Ok(Execution { engine, recipe, run, transcript: Transcript::default(), begun: None })
    }

    pub(super) fn save(&self) -> Result<(), UpdateError> {
        self.engine.journal.save(&self.run)
    }

    /// Does what is left to do, forward or back, and returns the run as it then is.
    ///
    /// When the journal cannot be written, nothing more is done, as it could not be found out later; the holds are
    /// let go so that the site goes on, and the run is left for `resume` or `abort`.
    fn go(mut self, begin: impl FnOnce(&mut Self) -> Result<(), UpdateError>) -> Result<Run, UpdateError> {
        match begin(&mut self).and_then(|()| self.steps()) {
            Ok(()) => Ok(self.run),
            Err(error) => {
                for hold in [self.run.to_hold, self.run.from_hold].into_iter().flatten() {
                    if let Err(failure) = self.engine.operations.release_writes(hold) {
                        self.tell(Event::Warning(format!("writes are still held: {failure}")));
                    }
                }
                self.run.state = RunState::Interrupted;
                self.run.obstacle = error.to_string();
                // Very likely as impossible as what failed; then the daemon's next start marks the run.
                let _ = self.save();
                Err(error)
            }
        }
    }

    fn steps(&mut self) -> Result<(), UpdateError> {
        while self.run.undoing.is_none() {
            let Some(place) = self.run.steps.iter().position(|step| step.state != StepState::Done) else {
                self.run.finished = Some(self.engine.operations.now());
                self.run.state = RunState::Done;
                return self.save();
            };
            match (self.engine.wish)() {
                Wish::Continue => self.step(place)?,
                Wish::Abort => self.turn_back(RunState::Aborted, "it was aborted".to_owned())?,
                Wish::Suspend => return self.interrupt(SUSPENDED.to_owned()),
            }
            if self.run.state == RunState::Interrupted {
                return Ok(());
            }
        }
        self.back()
    }

    fn step(&mut self, place: usize) -> Result<(), UpdateError> {
        let kind = self.run.steps[place].kind;
        self.transcript = Transcript::default();
        self.tell(Event::Started {
            kind,
            number: place + 1,
            of: self.run.steps.len(),
            title: self.title(kind),
        });
        let started = self.engine.operations.now();
        let step = &mut self.run.steps[place];
        *step = StepRecord {
            kind,
            state: StepState::Started,
            started: Some(started),
            finished: None,
            message: String::new(),
        };
        self.save()?;
        let acted = match self.hooks(kind, Moment::Before) {
            Ok(()) => self.act(kind),
            Err(failure) => Err(Stop::Failure(failure)),
        };
        let acted = acted.and_then(|message| Ok(self.hooks(kind, Moment::After).map(|()| message)?));
        let result = match acted {
            Ok(message) => Ok(message),
            Err(Stop::Failure(failure)) => Err(failure),
            Err(Stop::Journal(error)) => return Err(error),
        };
        let finished = self.engine.operations.now();
        let text = self.transcript.text();
        if !text.is_empty() {
            self.engine.journal.save_output(&self.run, place, &StepOutput { text })?;
        }
        let (state, message) = match &result {
            Ok(message) => (StepState::Done, message.clone()),
            Err(failure) => (StepState::Failed, failure.to_string()),
        };
        let step = &mut self.run.steps[place];
        (step.state, step.finished, step.message) = (state, Some(finished), message.clone());
        self.save()?;
        let seconds = finished.seconds_since(started);
        let failed = result.is_err();
        self.tell(Event::Finished { kind, seconds, result: result.map_err(|failure| failure.to_string()) });
        if !failed {
            return Ok(());
        }
        let reason = format!("{}: {message}", self.title(kind));
        match self.run.switched {
            None => self.turn_back(RunState::Failed, reason),
            Some(_) if self.run.exposed => self.interrupt(format!(
                "{reason}; the new generation stays live, as it may have taken writes since the switch: put it right \
                 and resume, or abort to switch back (a snapshot of what is left behind is kept)"
            )),
            Some(_) => self.turn_back(RunState::RolledBack, reason),
        }
    }

    /// From now on the run is undone; what for is written down before anything is.
    fn turn_back(&mut self, result: RunState, reason: String) -> Result<(), UpdateError> {
        self.run.undoing = Some(result);
        self.run.reason = reason;
        self.save()?;
        self.tell(Event::Undoing);
        Ok(())
    }

    fn back(&mut self) -> Result<(), UpdateError> {
        for place in (0..self.run.steps.len()).rev() {
            if matches!(self.run.steps[place].state, StepState::Pending | StepState::Undone) {
                continue;
            }
            if (self.engine.wish)() == Wish::Suspend {
                return self.interrupt(SUSPENDED.to_owned());
            }
            let kind = self.run.steps[place].kind;
            match self.take_back(kind) {
                Ok(()) => {}
                Err(Stop::Journal(error)) => return Err(error),
                Err(Stop::Failure(failure)) => {
                    return self
                        .interrupt(format!("the step \"{}\" cannot be undone: {failure}", self.title(kind)));
                }
            }
            self.run.steps[place].state = StepState::Undone;
            self.save()?;
        }
        self.run.finished = Some(self.engine.operations.now());
        self.run.state = self.run.undoing.unwrap_or(RunState::Failed);
        self.save()
    }

    fn take_up(&mut self) -> Result<(), UpdateError> {
        self.run.state = RunState::Running;
        self.run.obstacle.clear();
        self.save()
    }

    fn interrupt(&mut self, obstacle: String) -> Result<(), UpdateError> {
        self.run.state = RunState::Interrupted;
        self.run.obstacle = obstacle;
        self.save()
    }

    /// Finds out where an interrupted run really is, and takes back what cannot be gone on from.
    fn survey(&mut self) -> Result<(), UpdateError> {
        let surveyed = self.is_switched().map_err(Stop::Failure).and_then(|is_switched| {
            if is_switched && self.run.is_half_updated() {
                // Visitors get the old release again, as it was when it was held, until somebody resumes.
                return self.rewind(StepKind::Hold);
            }
            if is_switched {
                self.after_switch();
                return Ok(());
            }
            let is_held = self.run.from_hold.is_some_and(|hold| self.engine.operations.is_held(hold));
            if self.run.has_begun(StepKind::Hold) && !is_held {
                // What was made from the held state lacks what was written since.
                return self.rewind(StepKind::Hold);
            }
            // An update that was cut off may not be repeatable: it is done again from the start, on a new copy.
            for (update, copy) in
                [(StepKind::RehearseUpdate, StepKind::Clone), (StepKind::Update, StepKind::Prepare)]
            {
                if self.run.step(update).is_some_and(|step| step.state == StepState::Started) {
                    self.rewind(copy)?;
                }
            }
            Ok(())
        });
        match surveyed {
            Ok(()) => Ok(()),
            Err(Stop::Journal(error)) => Err(error),
            Err(Stop::Failure(failure)) => Err(UpdateError::Survey(failure)),
        }
    }

    fn is_switched(&self) -> Result<bool, Failure> {
        let live = self.engine.operations.live_generation(&self.run.site)?;
        Ok(self.run.to.as_ref().is_some_and(|to| to.number == live))
    }

    /// The pointer was moved before the run was interrupted.
    fn after_switch(&mut self) {
        let now = self.engine.operations.now();
        self.run.switched.get_or_insert(now);
        if let Some(step) = self.run.steps.iter_mut().find(|step| step.kind == StepKind::Switch) {
            step.state = StepState::Done;
            step.finished.get_or_insert(now);
        }
        let is_held = self.run.to_hold.is_none_or(|hold| self.engine.operations.is_held(hold));
        self.run.exposed |= !is_held || self.run.has_begun(StepKind::Release);
    }

    /// Takes back the steps from `first` on, to do them again. They count as begun until all of them are taken back:
    /// whoever is interrupted here begins here again.
    fn rewind(&mut self, first: StepKind) -> Result<(), Stop> {
        let begin = self.run.steps.iter().position(|step| step.kind == first).unwrap_or(0);
        for place in (begin..self.run.steps.len()).rev() {
            if !matches!(self.run.steps[place].state, StepState::Pending | StepState::Undone) {
                self.take_back(self.run.steps[place].kind)?;
            }
        }
        for step in &mut self.run.steps[begin..] {
            step.state = StepState::Pending;
        }
        self.begin_with_restored();
        Ok(self.save()?)
    }

    pub(super) fn tell(&self, event: Event) {
        (self.engine.events)(event);
    }
}
