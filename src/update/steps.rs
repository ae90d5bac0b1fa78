//! What each step does, and how it is taken back.

use super::commands::Runner;
use super::engine::{Execution, Stop};
use super::{
    DatabaseSource, Event, Failure, HoldId, Pages, Reading, Run, StepKind, StepState, Strategy, Switch,
};
use crate::site::{Check, Command, Expectation, GenerationName};

impl Execution<'_> {
    /// What a step does, for people.
    pub(super) fn title(&self, kind: StepKind) -> String {
        title(kind, &self.run)
    }

    /// Does a step; in words, what it did.
    pub(super) fn act(&mut self, kind: StepKind) -> Result<String, Stop> {
        match kind {
            StepKind::Backup => self.backup(),
            StepKind::Clone => self.clone_site(),
            StepKind::RehearseUpdate => {
                let rehearsal = self.rehearsal()?;
                self.update_commands(kind, &rehearsal)
            }
            StepKind::RehearseChecks => {
                let rehearsal = self.rehearsal()?;
                self.rebuild_and_check(kind, &rehearsal)
            }
            StepKind::Compare => self.compare(),
            StepKind::Discard => self.discard(),
            StepKind::Hold => self.hold(),
            StepKind::Freeze => self.freeze(),
            StepKind::Prepare => self.prepare(),
            StepKind::Update => {
                let to = self.to()?;
                self.end_mode_for(kind)?;
                self.update_commands(kind, &to)
            }
            StepKind::Checks => {
                let to = self.to()?;
                self.rebuild_and_check(kind, &to)
            }
            StepKind::Switch if self.is_in_place() => self.switch_in_place(),
            StepKind::Switch => self.switch(),
            StepKind::LiveChecks => self.live_checks(),
            StepKind::Release => self.release(),
        }
    }

    /// Takes back a step that was begun, done or not.
    pub(super) fn take_back(&mut self, kind: StepKind) -> Result<(), Stop> {
        match kind {
            // Snapshots stay: they are history, and what was verified is worth keeping.
            StepKind::Backup | StepKind::Freeze => {}
            // What these did is in the clone or in the new generation, and goes with it.
            StepKind::RehearseUpdate | StepKind::RehearseChecks | StepKind::Compare | StepKind::Discard => {}
            StepKind::Update | StepKind::Checks | StepKind::LiveChecks => {}
            // Taken back by the switch back, which first holds the writes again.
            StepKind::Release => {}
            StepKind::Clone => {
                if !self.run.keep_test {
                    self.engine.operations.delete_clone(&self.run.clone)?;
                }
                self.run.rehearsal = None;
            }
            StepKind::Hold => self.let_go_of_old()?,
            StepKind::Prepare => {
                if let Some(to) = &self.run.to {
                    self.engine.operations.discard_generation(to)?;
                }
                self.run.to = None;
            }
            StepKind::Switch if self.is_in_place() => self.restore_frozen()?,
            StepKind::Switch => self.switch_back()?,
        }
        Ok(())
    }

    fn backup(&mut self) -> Result<String, Stop> {
        let message = format!("before the update to {} (run {})", self.run.to_platform, self.run.id);
        let begun = self.engine.operations.now();
        let snapshot =
            self.engine.operations.snapshot(&self.run.from, &message, &self.run.who, Reading::Whole)?;
        self.run.capture_seconds = Some(self.engine.operations.now().seconds_since(begun));
        self.run.backup = Some(snapshot);
        let verified = self.engine.operations.verify(snapshot)?;
        let verification = verified.found;
        self.run.verification = Some(verification);
        if let Some(copy) = verified.copy {
            self.run.copy_seconds = Some(copy.seconds);
            if !self.is_in_place() {
                self.run.capture_seconds =
                    self.run.capture_seconds.map(|seconds| seconds * copy.snapshot_share);
            }
        }
        Ok(format!(
            "snapshot {}: {} objects and {} tables are as they should be",
            snapshot.0, verification.objects, verification.tables
        ))
    }

    fn clone_site(&mut self) -> Result<String, Stop> {
        let operations = self.engine.operations;
        // One that a crash left may be half made, or half updated.
        operations.delete_clone(&self.run.clone)?;
        let backup = self.run.backup.ok_or_else(|| missing("the backup"))?;
        let rehearsal = operations.create_clone(&self.run.clone, backup, &self.run.to_platform)?;
        self.run.rehearsal = Some(rehearsal.clone());
        if self.run.read_only {
            self.set_mode(StepKind::Clone, &rehearsal, false)?;
        }
        Ok(format!("{rehearsal} on {}", self.run.to_platform))
    }

    fn update_commands(&mut self, kind: StepKind, of: &GenerationName) -> Result<String, Stop> {
        let commands = self.recipe.update.commands.clone();
        self.runner(kind).commands(of, &commands)?;
        Ok(counted(commands.len(), "command"))
    }

    fn rebuild_and_check(&mut self, kind: StepKind, of: &GenerationName) -> Result<String, Stop> {
        // In place this one is live already, and may be closed: its pages are looked at when it is open.
        let pages = (kind == StepKind::RehearseChecks || !self.is_in_place()).then_some(Pages::Php);
        let rebuild = self.recipe.update.rebuild.clone();
        let checks = self.all_checks();
        let mut runner = self.runner(kind);
        runner.commands(of, &rebuild)?;
        let count = runner.checks(of, &checks, pages)?;
        Ok(format!("{}, {} passed", counted(rebuild.len(), "command"), counted(count, "check")))
    }

    fn compare(&mut self) -> Result<String, Stop> {
        let backup = self.run.backup.ok_or_else(|| missing("the backup"))?;
        let changes = self.engine.operations.compare(backup, &self.rehearsal()?)?;
        let files = &changes.files;
        let message = format!(
            "the update changed {}, added {}, removed {}, and touched {}",
            counted(files.changed, "file"),
            files.added,
            files.removed,
            counted(changes.tables.len(), "table"),
        );
        self.run.changes = Some(changes);
        // It is no more than told.
        let former = self.engine.journal.list(&self.run.site).unwrap_or_default();
        self.run.window_seconds_expected = self.run.foresee(&former);
        Ok(message)
    }

    fn discard(&mut self) -> Result<String, Stop> {
        if self.run.keep_test {
            return Ok(format!("kept: {}", self.run.clone));
        }
        self.engine.operations.delete_clone(&self.run.clone)?;
        self.run.rehearsal = None;
        Ok(String::new())
    }

    fn hold(&mut self) -> Result<String, Stop> {
        self.engine.operations.wait_for_lane(&self.run.site, &self.run.to_platform)?;
        self.run.held = Some(self.engine.operations.now());
        let from = self.run.from.clone();
        let locks_database = self.recipe.locks_database();
        if !locks_database {
            // The web server first: there writes can wait for the new generation.
            self.run.from_hold = Some(self.engine.operations.hold_requests(&from)?);
            self.save()?;
        }
        if !self.run.read_only {
            self.set_mode(StepKind::Hold, &from, true)?;
        }
        if locks_database {
            self.run.from_hold = Some(self.engine.operations.hold_writes(&from)?);
        } else {
            self.engine.operations.wait_for_last_writers(&from)?;
        }
        Ok(match (&self.recipe.readonly, &self.recipe.maintenance) {
            (Some(_), _) => "the application is in read-only mode",
            (None, Some(_)) => "the application is in maintenance mode",
            (None, None) => "writers wait",
        }
        .to_owned())
    }

    fn freeze(&mut self) -> Result<String, Stop> {
        let message = format!("what the update to {} began with (run {})", self.run.to_platform, self.run.id);
        let operations = self.engine.operations;
        // An earlier attempt's is of a hold that has ended.
        (self.run.frozen, self.begun) = (None, None);
        if self.is_in_place() {
            self.run.frozen =
                Some(operations.snapshot(&self.run.from, &message, &self.run.who, Reading::Nothing)?);
            self.required_hold()?;
            return Ok(self.read_frozen_back()?);
        }
        let begun = operations.begin_snapshot(&self.run.from, &message, &self.run.who)?;
        self.required_hold()?;
        self.begun = Some(begun.snapshot);
        if begun.is_finished {
            self.run.frozen = self.begun;
            return Ok(format!("snapshot {}", begun.snapshot.0));
        }
        Ok("the database is copied; its dump goes on until the switch".to_owned())
    }

    fn prepare(&mut self) -> Result<String, Stop> {
        let operations = self.engine.operations;
        if let Some(left) = &self.run.to {
            operations.discard_generation(left)?;
        }
        let frozen = self.begun.or(self.run.frozen).ok_or_else(|| missing("the snapshot of what is held"))?;
        let to = operations.reserve_generation(&self.run.site)?;
        self.run.to = Some(to.clone());
        self.save()?;
        if self.is_in_place() {
            let database = DatabaseSource::Of(&self.run.from);
            operations.prepare_generation(&to, frozen, &self.run.to_platform, database)?;
            return Ok(format!("{to} on {}", self.run.to_platform));
        }
        operations.prepare_generation(&to, frozen, &self.run.to_platform, DatabaseSource::Snapshot)?;
        // It was frozen in a mode in which no update would work.
        self.set_mode(StepKind::Prepare, &to, false)?;
        Ok(format!("{to} on {}", self.run.to_platform))
    }

    fn switch(&mut self) -> Result<String, Stop> {
        let operations = self.engine.operations;
        let to = self.to()?;
        let frozen = match (self.run.frozen, self.begun) {
            (Some(frozen), _) => frozen,
            (None, Some(begun)) => {
                let frozen = operations.finish_snapshot(begun, &to)?;
                self.run.frozen = Some(frozen);
                self.save()?;
                frozen
            }
            (None, None) => return Err(missing("the snapshot of what is held").into()),
        };
        // Writes must not be taken before the checks of the live site have passed: switching back would leave them
        // behind. A maintenance mode is of no use here, as there is nothing to check in it.
        if self.is_polite_after_switch() || self.run.read_only {
            self.set_mode(StepKind::Switch, &to, true)?;
        }
        if self.recipe.update.hold_after_switch && !self.is_polite_after_switch() {
            self.run.to_hold = Some(operations.hold_writes(&to)?);
            self.save()?;
        }
        let hold = self.required_hold()?;
        let (site, from) = (self.run.site.clone(), self.run.from.number);
        let drains_writable = !self.recipe.locks_database();
        operations.switch_live(&Switch { site, from, to: to.number, hold, drains_writable })?;
        self.run.switched = Some(operations.now());
        Ok(format!("{to} is live; snapshot {} is what it began with", frozen.0))
    }

    fn live_checks(&mut self) -> Result<String, Stop> {
        let (to, mut checks) = (self.to()?, self.all_checks());
        checks.retain(|check| check.after_switch);
        self.end_mode_for(StepKind::LiveChecks)?;
        let count = self.runner(StepKind::LiveChecks).checks(&to, &checks, Some(Pages::WebServer))?;
        Ok(format!("{} passed", counted(count, "check")))
    }

    fn release(&mut self) -> Result<String, Stop> {
        let to = self.to()?;
        self.end_hold(self.run.to_hold)?;
        if self.is_in_place() {
            self.engine.operations.give_up_database(&self.run.from)?;
        } else if self.is_polite_after_switch() && !self.run.read_only {
            self.set_mode(StepKind::Release, &to, false)?;
        }
        // The old generation is read-only since the switch: whoever still waits to write to it is refused.
        self.end_hold(self.run.from_hold)?;
        self.run.released = Some(self.engine.operations.now());
        Ok(match (self.run.window_seconds(), self.run.window_seconds_expected) {
            (Some(held), Some(expected)) => {
                format!("writes were held for {held:.1} s, {expected:.1} s expected")
            }
            _ => String::new(),
        })
    }

    /// Makes the old generation live again, if it is not. What the new one may have taken meanwhile is kept in a
    /// snapshot, taken after the switch back: by then the new generation takes nothing that must not be lost, and visitors do
    /// not wait.
    fn switch_back(&mut self) -> Result<(), Stop> {
        let operations = self.engine.operations;
        let Some(to) = self.run.to.clone() else { return Ok(()) };
        let (site, from) = (self.run.site.clone(), self.run.from.number);
        // It may take writes by now, which the snapshot below is to have; unless it refuses by itself what must not be lost,
        // and writes to show pages.
        let drains_writable = !self.recipe.locks_database()
            && self.is_polite_after_switch()
            && self.run.step(StepKind::Release).is_some_and(|step| step.state == StepState::Pending);
        if operations.live_generation(&site)? == to.number {
            self.run.switched.get_or_insert(operations.now());
            self.save()?;
            operations.switch_live(&Switch {
                site,
                from: to.number,
                to: from,
                hold: None,
                drains_writable,
            })?;
        }
        let was_held = self.run.to_hold.is_some_and(|hold| operations.is_held(hold));
        if self.run.switched.is_some() && !was_held && self.run.left_behind.is_none() {
            match self.keep_left_behind(&to) {
                // Somebody may be writing to it for long, and nothing of that is to be kept.
                Err(Stop::Failure(failure)) if drains_writable => {
                    (self.engine.events)(Event::Warning(format!(
                        "there is no snapshot of what {to} held: {failure}"
                    )));
                }
                result => result?,
            }
        }
        self.end_hold(self.run.to_hold)?;
        Ok(())
    }

    fn let_go_of_old(&mut self) -> Result<(), Stop> {
        let from = self.run.from.clone();
        let has_mode = !self.run.read_only && self.run.restored.is_none();
        // The application first, so that whoever waits at the web server is not refused by it after all; but where its
        // database is locked, telling it may need the end of that.
        let tells_first = has_mode && !self.recipe.locks_database();
        let told = if tells_first { self.set_mode(StepKind::Hold, &from, false) } else { Ok(()) };
        self.end_hold(self.run.from_hold)?;
        self.run.from_hold = None;
        told?;
        if has_mode && !tells_first {
            self.set_mode(StepKind::Hold, &from, false)?;
        }
        self.run.released = Some(self.engine.operations.now());
        Ok(())
    }

    pub(super) fn end_hold(&self, hold: Option<HoldId>) -> Result<(), Failure> {
        hold.map_or(Ok(()), |hold| self.engine.operations.release_writes(hold))
    }

    /// Whether it is the application itself that refuses writes from the switch to the release.
    fn is_polite_after_switch(&self) -> bool {
        self.recipe.update.hold_after_switch && self.recipe.readonly.is_some()
    }

    /// The hold of the old generation, if there has to be one; an error when it is not in force any more.
    pub(super) fn required_hold(&self) -> Result<Option<HoldId>, Failure> {
        match self.run.from_hold {
            Some(hold) if self.engine.operations.is_held(hold) => Ok(Some(hold)),
            _ => {
                Err("the hold of writes has ended too early: what was made lacks what was written since"
                    .into())
            }
        }
    }

    /// Switches the mode that the application is in while writes are held, if it has one.
    pub(super) fn set_mode(&mut self, kind: StepKind, of: &GenerationName, on: bool) -> Result<(), Failure> {
        let Some(mode) = self.recipe.holding_mode() else { return Ok(()) };
        let command: Command = if on { mode.on.clone() } else { mode.off.clone() };
        self.runner(kind).commands(of, &[command])
    }

    fn all_checks(&self) -> Vec<Check> {
        let given = self.run.checks.iter().map(|line| Check {
            title: line.clone(),
            expectation: Expectation::Command(line.clone()),
            seconds_max: self.recipe.timeout_seconds,
            after_switch: true,
        });
        self.recipe.checks.iter().cloned().chain(given).collect()
    }

    fn runner(&mut self, step: StepKind) -> Runner<'_> {
        Runner {
            operations: self.engine.operations,
            events: self.engine.events,
            recipe: &self.recipe,
            run: self.run.id.to_string(),
            step,
            transcript: &mut self.transcript,
        }
    }

    pub(super) fn to(&self) -> Result<GenerationName, Failure> {
        self.run.to.clone().ok_or_else(|| missing("the new generation"))
    }

    fn rehearsal(&self) -> Result<GenerationName, Failure> {
        self.run.rehearsal.clone().ok_or_else(|| missing("the clone"))
    }
}

/// A step needs what an earlier one has written down; that it is not there means a damaged journal.
pub(super) fn missing(what: &str) -> Failure {
    format!("the journal does not say which {what} is: abort the run").into()
}

fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Times are shown in tenths of a second.
const SECONDS_SHOWN_MIN: f64 = 0.05;

/// What a step of a run does, for people.
pub fn title(kind: StepKind, run: &Run) -> String {
    let (site, clone, target) = (&run.site, &run.clone, &run.to_platform);
    match kind {
        StepKind::Backup => format!("take a snapshot of {site} and verify that it can be restored"),
        StepKind::Clone => format!("clone files and database to {clone} on {target}"),
        StepKind::RehearseUpdate => format!("update {clone}"),
        StepKind::RehearseChecks => format!("rebuild the caches of {clone} and check it"),
        StepKind::Compare => "compare the clone with the snapshot".to_owned(),
        StepKind::Discard if run.keep_test => format!("keep {clone}"),
        StepKind::Discard => format!("delete {clone}"),
        StepKind::Hold => match (run.window_seconds_expected, run.rehearsed()) {
            (Some(expected), Some(parts)) => {
                let on_top = expected - run.rehearsed_seconds().unwrap_or_default();
                let parts: Vec<String> =
                    parts.iter().map(|(what, seconds)| format!("{what} {seconds:.1} s")).collect();
                let parts = parts.join(", ");
                let on_top = match on_top >= SECONDS_SHOWN_MIN {
                    true => format!(", and {on_top:.1} s on top as the last time"),
                    false => String::new(),
                };
                format!(
                    "hold writes to {site}, for about {expected:.1} s as in the rehearsal ({parts}){on_top}"
                )
            }
            _ => format!("hold writes to {site}"),
        },
        StepKind::Freeze => "take a snapshot of what is held".to_owned(),
        StepKind::Prepare if run.strategy == Strategy::InPlace => {
            format!("make a new generation of {site} on {target}, with the live database")
        }
        StepKind::Prepare => format!("make a new generation of {site} on {target}"),
        StepKind::Update if run.strategy == Strategy::InPlace => format!("update {site}"),
        StepKind::Update => "update the new generation".to_owned(),
        StepKind::Checks => "rebuild the caches of the new generation and check it".to_owned(),
        StepKind::Switch => "make the new generation live".to_owned(),
        StepKind::LiveChecks => format!("check {site} as visitors see it"),
        StepKind::Release => "accept writes again".to_owned(),
    }
}
