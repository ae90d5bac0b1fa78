//! The verb that updates a site.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::Daemon;
use super::locks::Turn;
use super::operations::RunOperations;
use crate::base::accounts::User as Account;
use crate::base::{SiteName, files};
use crate::control::request::{Strategy as AskedStrategy, UpdateAction, UpdateOptions};
use crate::control::response::{
    ChangeKind, DiffSummary, FileChange, PlannedStep, StepReport, TableChange, UpdateOutcome, UpdatePlan,
    UpdateReport, Updated,
};
use crate::control::{Caller, Event, Events, Failure, FailureKind, StepState as ShownStep, request};
use crate::history::SnapshotId;
use crate::site::{Site, User};
use crate::trees::{Node, Root, Totals, TreesError};
use crate::update::{
    self, Engine, Run, RunState, StepKind, StepOutput, StepState, Strategy, UpdateRequest, Verification,
    Verified, Wish, step_title,
};

/// A step's name in lists and reports, stable for machines.
pub(super) fn name(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Backup => "backup",
        StepKind::Clone => "clone",
        StepKind::RehearseUpdate => "rehearse update",
        StepKind::RehearseChecks => "rehearse checks",
        StepKind::Compare => "compare",
        StepKind::Discard => "discard clone",
        StepKind::Hold => "hold writes",
        StepKind::Freeze => "freeze",
        StepKind::Prepare => "prepare generation",
        StepKind::Update => "update",
        StepKind::Checks => "checks",
        StepKind::Switch => "switch",
        StepKind::LiveChecks => "live checks",
        StepKind::Release => "release writes",
    }
}

/// What takes a step back; `None` when it leaves nothing to take back.
fn undo(strategy: Strategy, kind: StepKind) -> Option<&'static str> {
    if strategy == Strategy::InPlace
        && matches!(kind, StepKind::Switch | StepKind::Update | StepKind::Checks | StepKind::LiveChecks)
    {
        return Some("restore what was held");
    }
    match kind {
        StepKind::Clone | StepKind::RehearseUpdate | StepKind::RehearseChecks => Some("delete the clone"),
        StepKind::Hold => Some("accept writes again"),
        StepKind::Prepare | StepKind::Update | StepKind::Checks => Some("discard the new generation"),
        StepKind::Switch | StepKind::LiveChecks => Some("switch back"),
        StepKind::Backup | StepKind::Compare | StepKind::Discard | StepKind::Freeze | StepKind::Release => {
            None
        }
    }
}

/// What becomes of the database on a server that was made to prove a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is dropped.
    Dropped,
    /// The next copy of this dump takes it over; [`super::spares::SpareGuard`] ends the wait for one.
    Kept,
}

/// How much of a file is read at once for verification, in bytes.
const READ_BYTES: usize = 1 << 20;

impl Daemon {
    /// `update`.
    pub(super) fn update(
        &self,
        caller: &Caller,
        request: request::Update,
        events: &dyn Events,
    ) -> Result<UpdateOutcome, Failure> {
        let site = request.site;
        let operations = RunOperations::new(self, caller, events);
        let announced = Mutex::default();
        let report = |event: update::Event| report(events, &announced, event);
        let wish = || if self.is_stopping() { Wish::Suspend } else { Wish::Continue };
        let engine =
            Engine { operations: &operations, journal: &self.store.catalog, events: &report, wish: &wish };
        // The engine refuses by itself a site that an unfinished run has; resume and abort need exactly that.
        let _lock = match request.action {
            UpdateAction::Plan(_) | UpdateAction::Start(_) => self.locks.take(&site, "update")?,
            UpdateAction::Resume | UpdateAction::Abort => self.take_when_settled(&site, events)?,
        };
        let is_abort = matches!(request.action, UpdateAction::Abort);
        let _spare = self.spare_for(&site);
        let _turn = match request.action {
            UpdateAction::Start(_) | UpdateAction::Resume => Some(self.wait_for_turn(&site, events)?),
            UpdateAction::Plan(_) | UpdateAction::Abort => None,
        };
        let ended = match request.action {
            UpdateAction::Plan(options) => {
                let asked = update_request(&site, caller, options)?;
                return Ok(UpdateOutcome::Planned(self.plan(&asked, engine.plan(&asked)?)?));
            }
            UpdateAction::Start(options) => engine.start(&update_request(&site, caller, options)?),
            UpdateAction::Resume => engine.resume(&site),
            UpdateAction::Abort => engine.abort(&site),
        };
        let run = ended?;
        // Whatever it was being undone for before: that it is undone is what was asked for now.
        if is_abort && run.state.is_final() {
            let log = self.write_log(&run)?;
            return Ok(UpdateOutcome::Aborted(update_report(&run, &log)));
        }
        self.outcome(run)
    }

    /// Waits until few enough other updates run. Nothing was begun so far; whoever asked need not wait for it.
    fn wait_for_turn(&self, site: &SiteName, events: &dyn Events) -> Result<Turn<'_>, Failure> {
        let waits = || {
            let max = self.options.updates_max;
            events.warn(format!("waiting for another update to end, as {max} run at once (updates = {max})"));
        };
        self.turns.wait(&waits, &|| self.is_stopping()).ok_or_else(|| {
            Failure::failed(format!("the update of {site} has not begun: the daemon was stopped"))
        })
    }

    fn outcome(&self, run: Run) -> Result<UpdateOutcome, Failure> {
        let log = self.write_log(&run)?;
        let see = format!("what the commands printed: {}", log.display());
        match run.state {
            RunState::Done => Ok(UpdateOutcome::Updated(self.updated(&run, &log)?)),
            RunState::Aborted => Ok(UpdateOutcome::Aborted(update_report(&run, &log))),
            RunState::Failed => {
                Err(Failure::failed(format!("the update of {} failed; the live site is as it was", run.site))
                    .because_of(run.reason.clone())
                    .hint(see))
            }
            RunState::RolledBack => {
                let what = match run.strategy {
                    Strategy::Switch => "switched back: a check failed after the switch",
                    Strategy::InPlace => {
                        "taken back: the live database is restored to what it was when writes were held"
                    }
                };
                let message = format!("the update of {} was {what}", run.site);
                Err(Failure::new(FailureKind::RolledBack, message)
                    .because_of(run.reason.clone())
                    .hint(format!("visitors have the old release again; {see}")))
            }
            RunState::Running | RunState::Interrupted => {
                let message = format!("the update of {} stopped in the middle", run.site);
                let causes = [run.reason, run.obstacle].into_iter().filter(|cause| !cause.is_empty());
                let failure = causes.fold(Failure::failed(message), Failure::because_of);
                Err(failure.hint(format!(
                    "go on: sitefs update {0} --resume; undo it: sitefs update {0} --abort; {see}",
                    run.site
                )))
            }
        }
    }

    fn updated(&self, run: &Run, log: &Path) -> Result<Updated, Failure> {
        let changes = run.changes.clone().unwrap_or_default();
        let tables: Vec<TableChange> = changes
            .tables
            .iter()
            .map(|table| TableChange {
                table: table.name.clone(),
                change: match (table.rows_before, table.rows_after) {
                    (None, _) => ChangeKind::Added,
                    (_, None) => ChangeKind::Removed,
                    _ => ChangeKind::Modified,
                },
                old_rows: table.rows_before,
                new_rows: table.rows_after,
            })
            .collect();
        let count = |kind| tables.iter().filter(|table| table.change == kind).count() as u64;
        let summary = DiffSummary {
            files_added: changes.files.added,
            files_removed: changes.files.removed,
            files_changed: changes.files.changed,
            tables_added: count(ChangeKind::Added),
            tables_removed: count(ChangeKind::Removed),
            tables_changed: count(ChangeKind::Modified),
            schema_changed: tables.iter().any(|table| table.change != ChangeKind::Modified),
        };
        let to = run.to.as_ref().ok_or_else(|| Failure::failed("the run made no generation"))?;
        Ok(Updated {
            report: update_report(run, log),
            backup: run.backup.map(|backup| backup.to_string()).unwrap_or_default(),
            old: self.generation_ref(&self.generation(&run.from)?)?,
            new: self.generation_ref(&self.generation(to)?)?,
            test: run.keep_test.then(|| run.clone.clone()),
            held_seconds: run.window_seconds().unwrap_or_default(),
            predicted_hold_seconds: run.window_seconds_expected.unwrap_or_default(),
            summary,
            files: changes.files.examples.iter().map(|example| file_change(example)).collect(),
            tables,
        })
    }

    fn plan(&self, asked: &UpdateRequest, plan: update::Plan) -> Result<UpdatePlan, Failure> {
        let site = self.site(&asked.site)?;
        Ok(UpdatePlan {
            from: self.live_generation(&site.name)?.platform,
            site: site.name,
            app: site.recipe,
            to: asked.platform.clone(),
            strategy: match plan.strategy {
                Strategy::Switch => AskedStrategy::Switch,
                Strategy::InPlace => AskedStrategy::InPlace,
            },
            choice: plan.choice,
            steps: plan
                .steps
                .iter()
                .map(|step| PlannedStep {
                    name: name(step.kind).to_owned(),
                    action: step.title.clone(),
                    undo: undo(asked.strategy, step.kind).map(str::to_owned),
                    holds_writes: (StepKind::Hold..=StepKind::Release).contains(&step.kind),
                })
                .collect(),
            predicted_hold_seconds: plan.window_seconds_expected,
            warnings: plan.warnings,
        })
    }

    /// Reads every object of a snapshot back and restores its database.
    pub(super) fn verify_snapshot(&self, id: SnapshotId, proof: Proof) -> Result<Verified, Failure> {
        let snapshot = self.load_snapshot(id)?;
        let (mut objects, mut bytes) = (0, 0);
        let empty = Root { tree: None, totals: Totals::default(), links: None, ..snapshot.root.clone() };
        let mut buffer = vec![0; READ_BYTES];
        self.store.trees.diff(&empty, &snapshot.root, &mut |difference| {
            if let Some(Node::File(content)) = difference.new.as_ref().map(|entry| &entry.node) {
                // Reading compares every object with its name.
                let mut offset = 0;
                while offset < content.size() {
                    let read = self.store.trees.objects.read_at(content, offset, &mut buffer)?;
                    if read == 0 {
                        return Err(TreesError::NotFound { path: difference.path.display().to_string() });
                    }
                    offset += read as u64;
                }
                objects += 1;
                bytes += offset;
            }
            Ok(())
        })?;
        let mut tables = 0;
        if let Some(recorded) = &snapshot.database {
            let site = self.site(&snapshot.site)?;
            if recorded.dump.is_some() {
                let copy = match proof {
                    Proof::Dropped => self.prove_dump(&site, recorded).map(|()| None)?,
                    Proof::Kept => Some(self.prove_and_keep(&site, recorded)?),
                };
                let tables = recorded.tables.len() as u64;
                return Ok(Verified { found: Verification { objects, bytes, tables }, copy });
            }
            let restored = self.summarise_database(&site, &snapshot.root)?;
            let restored = restored
                .ok_or_else(|| Failure::failed(format!("snapshot {} has lost its database", id.short())))?;
            let is_other = restored.tables != recorded.tables || restored.schema != recorded.schema;
            if recorded.is_read() && is_other {
                return Err(Failure::failed(format!(
                    "the database restored from snapshot {} is not the one recorded",
                    id.short()
                )));
            }
            tables = restored.tables.len() as u64;
        }
        Ok(Verified { found: Verification { objects, bytes, tables }, copy: None })
    }

    /// Reads the database in a snapshot back from the store, which compares each object with its name; how many bytes.
    pub(super) fn read_database_back(&self, id: SnapshotId) -> Result<u64, Failure> {
        let snapshot = self.load_snapshot(id)?;
        let mut contents = Vec::new();
        match snapshot.database.as_ref().and_then(|database| database.dump) {
            Some(dump) => contents.push(dump),
            None => {
                for path in self.site(&snapshot.site)?.state_paths() {
                    let entry = self.store.trees.entry_at(&snapshot.root, &path)?;
                    if let Some(Node::File(content)) = entry.map(|entry| entry.node) {
                        contents.push(content);
                    }
                }
            }
        }
        let (mut buffer, mut bytes) = (vec![0; READ_BYTES], 0);
        for content in contents {
            let mut offset = 0;
            while offset < content.size() {
                let read = self.store.trees.objects.read_at(&content, offset, &mut buffer)?;
                if read == 0 {
                    return Err(Failure::failed(format!("snapshot {} ends too early", id.short())));
                }
                offset += read as u64;
            }
            bytes += offset;
        }
        Ok(bytes)
    }

    /// Writes what the commands of a run printed into one file, for people.
    fn write_log(&self, run: &Run) -> Result<PathBuf, Failure> {
        let path = self.log_path(run);
        let mut text = String::new();
        for (place, step) in run.steps.iter().enumerate() {
            text.push_str(&format!("== {}. {}: {}\n", place + 1, step_title(step.kind, run), step.message));
            if let Some(output) = self.store.catalog.get::<StepOutput>(&StepOutput::key(run, place))? {
                text.push_str(&output.text);
                text.push('\n');
            }
        }
        if let Some(parent) = path.parent() {
            files::create_directories(parent)?;
        }
        files::write_atomically(&path, text.as_bytes())?;
        Ok(path)
    }

    pub(super) fn log_path(&self, run: &Run) -> PathBuf {
        self.store.directory().join("runs").join(format!("{}-{}.log", run.site, run.id))
    }

    /// The account that a recipe's commands run under.
    pub(super) fn account(&self, user: &User, site: &Site) -> Result<Account, Failure> {
        Ok(match user {
            User::SiteOwner => Account::by_id(site.uid, site.gid)?,
            User::Named(name) => Account::by_name(name)?,
        })
    }
}

fn update_request(
    site: &SiteName,
    caller: &Caller,
    options: UpdateOptions,
) -> Result<UpdateRequest, Failure> {
    Ok(UpdateRequest {
        site: site.clone(),
        platform: options.platform,
        strategy: match options.strategy {
            AskedStrategy::Switch => Strategy::Switch,
            AskedStrategy::InPlace => Strategy::InPlace,
        },
        checks: options.checks,
        keep_test: options.keep_test,
        allow_downgrade: options.allow_downgrade,
        who: caller.user.clone(),
    })
}

fn update_report(run: &Run, log: &Path) -> UpdateReport {
    UpdateReport {
        run: run.id.to_string(),
        site: run.site.clone(),
        from: run.from_platform.clone(),
        to: run.to_platform.clone(),
        steps: run
            .steps
            .iter()
            .map(|step| StepReport {
                name: name(step.kind).to_owned(),
                state: match step.state {
                    StepState::Pending => "skipped",
                    StepState::Started => "started",
                    StepState::Done => "done",
                    StepState::Failed => "failed",
                    StepState::Undone => "undone",
                }
                .to_owned(),
                seconds: step.seconds().unwrap_or_default(),
            })
            .collect(),
        seconds: run.finished.map_or(0.0, |finished| finished.seconds_since(run.started)),
        log: log.display().to_string(),
    }
}

/// From the journal's short form: `+`, `~` or `-`, and the path.
fn file_change(example: &str) -> FileChange {
    let (mark, path) = example.split_at_checked(1).unwrap_or(("", example));
    FileChange {
        path: path.to_owned(),
        change: match mark {
            "+" => ChangeKind::Added,
            "-" => ChangeKind::Removed,
            _ => ChangeKind::Modified,
        },
        old_size_bytes: None,
        new_size_bytes: None,
        lines_added: None,
        lines_removed: None,
    }
}

/// The step under way, as whoever watches was told of it: number, count and title.
type Announced = (u32, u32, String);

/// Tells whoever watches what the engine says.
fn report(events: &dyn Events, announced: &Mutex<Announced>, event: update::Event) {
    use update::Event as Said;
    let tell = |state| {
        let (number, count, name) = announced.lock().clone();
        events.send(Event::Step { number, count, name, state });
    };
    match event {
        Said::Started { number, of, title, .. } => {
            let in_range = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            *announced.lock() = (in_range(number), in_range(of), title);
            tell(ShownStep::Started);
        }
        Said::Output(line) => events.send(Event::Output { line }),
        Said::Finished { seconds, result, .. } => match result {
            Ok(_) => tell(ShownStep::Done { seconds }),
            // Why is said once, by the failure that the run ends with: it may be many lines.
            Err(_) => tell(ShownStep::Failed { seconds }),
        },
        Said::Undoing => events.warn("taking back what was done".to_owned()),
        Said::Warning(text) => events.warn(text),
    }
}
