//! The strategy `in-place`: the pointer first, the update on the live database, and the way back.
//!
//! The new generation has the code of the old one and, on a server, its very database. What is restored when the
//! update fails is the snapshot that was taken while nothing could be written: it becomes a generation of its own on
//! the platform the site was on, and is made live like any other. So power may fail anywhere: the site is on the old
//! release, on the new one, or on the restored one, and the journal says which is next. What was written between the
//! two snapshots is in the second, which is taken before the database is given up.

use super::engine::{Execution, Stop};
use super::steps::missing;
use super::{DatabaseSource, Failure, Reading, StepKind, Strategy, Switch};
use crate::site::GenerationName;

impl Execution<'_> {
    /// Whether the live database is what is updated.
    pub(super) fn is_in_place(&self) -> bool {
        self.run.strategy == Strategy::InPlace
    }

    /// Reads back what would be restored: afterwards there is nothing else to go back to.
    pub(super) fn read_frozen_back(&self) -> Result<String, Failure> {
        let frozen = self.run.frozen.ok_or_else(|| missing("the snapshot of what is held"))?;
        let bytes = self.engine.operations.read_back(frozen)?;
        Ok(format!("snapshot {}, {} KiB of database read back", frozen.0, bytes.div_ceil(1 << 10)))
    }

    /// Makes the new generation live, with the old database, and lets go of the lock on that: the update needs it.
    pub(super) fn switch_in_place(&mut self) -> Result<String, Stop> {
        let operations = self.engine.operations;
        let to = self.to()?;
        self.run.to_hold = Some(operations.hold_requests(&to)?);
        self.save()?;
        let hold = self.required_hold()?;
        let (site, from) = (self.run.site.clone(), self.run.from.number);
        operations.switch_live(&Switch { site, from, to: to.number, hold, drains_writable: false })?;
        self.run.switched = Some(operations.now());
        self.end_hold(self.run.from_hold)?;
        self.run.from_hold = None;
        Ok(format!("{to} is live, and is updated now"))
    }

    /// Ends the mode that the step at hand cannot work in: an application that refuses writes refuses those of its own
    /// update, and one that is closed shows no page to check. The web server goes on keeping writers out.
    pub(super) fn end_mode_for(&mut self, kind: StepKind) -> Result<(), Failure> {
        let ends = match kind {
            StepKind::Update => self.recipe.readonly.is_some(),
            StepKind::LiveChecks => self.recipe.readonly.is_none() && self.recipe.maintenance.is_some(),
            _ => false,
        };
        match ends && self.is_in_place() {
            true => self.to().and_then(|to| self.set_mode(kind, &to, false)),
            false => Ok(()),
        }
    }

    /// Undoes the switch: the snapshot of what was held is live again, on the platform it was taken from, in a
    /// generation of its own. Nothing is done if the switch was not.
    pub(super) fn restore_frozen(&mut self) -> Result<(), Stop> {
        let operations = self.engine.operations;
        let live = operations.live_generation(&self.run.site)?;
        let to = self.run.to.clone().filter(|to| to.number == live);
        if let Some(to) = &to {
            let now = operations.now();
            self.run.switched.get_or_insert(now);
            let restored = match self.run.restored.clone() {
                Some(restored) => restored,
                None => operations.reserve_generation(&self.run.site)?,
            };
            self.run.restored = Some(restored.clone());
            self.save()?;
            let frozen = self.run.frozen.ok_or_else(|| missing("the snapshot of what is held"))?;
            let platform = self.run.from_platform.clone();
            operations.prepare_generation(&restored, frozen, &platform, DatabaseSource::Snapshot)?;
            self.set_mode(StepKind::Switch, &restored, false)?;
            let (site, from) = (self.run.site.clone(), to.number);
            operations.switch_live(&Switch {
                site,
                from,
                to: restored.number,
                hold: None,
                drains_writable: false,
            })?;
        }
        if self.is_restored(operations.live_generation(&self.run.site)?) {
            if let (Some(to), None) = (self.run.to.clone(), self.run.left_behind) {
                self.keep_left_behind(&to)?;
            }
            // Its database is what was updated, or is let go with it.
            operations.discard_generation(&self.run.from)?;
        }
        self.end_hold(self.run.to_hold)?;
        Ok(())
    }

    /// Keeps what a generation holds that was switched back from, half updated or not.
    pub(super) fn keep_left_behind(&mut self, to: &GenerationName) -> Result<(), Stop> {
        // Not read: a database that the update has damaged must not be in the way of the way back.
        let message = format!("what generation {to} held when run {} was switched back", self.run.id);
        let left = self.engine.operations.snapshot(to, &message, &self.run.who, Reading::Nothing)?;
        self.run.left_behind = Some(left);
        Ok(self.save()?)
    }

    /// Whether the live generation is the one that was restored.
    pub(super) fn is_restored(&self, live: u64) -> bool {
        self.run.restored.as_ref().is_some_and(|restored| restored.number == live)
    }

    /// From now on the restored generation is the one to update.
    pub(super) fn begin_with_restored(&mut self) {
        if let Some(restored) = self.run.restored.take() {
            self.run.from = restored;
            self.run.switched = None;
            self.run.left_behind = None;
        }
    }
}
