//! The verb `prune`: snapshots that a schedule does not keep are removed.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Daemon;
use crate::base::SiteName;
use crate::control::response::{PruneDecision, Pruned};
use crate::control::{Events, Failure, request};
use crate::history::{Reason, Refs, Retention, SnapshotId, SnapshotRecord};

impl Daemon {
    /// `prune`.
    pub(super) fn prune(&self, request: &request::Prune, events: &dyn Events) -> Result<Pruned, Failure> {
        let started = Instant::now();
        let site = &request.site;
        let retention = retention(request.keep.unwrap_or(self.options.schedule.keep));
        if retention.is_empty() {
            return Err(Failure::usage("nothing says which snapshots are to be kept").hint(
                "say it here (--keep-daily 7), or for all sites under [retention] in the configuration",
            ));
        }
        let _lock = self.lock_site(site, "prune")?;
        let records = self.snapshot_records(site)?;
        if records.is_empty() {
            self.site(site)?;
        }
        let kept = self.kept_snapshots(site, &records, retention)?;
        let doomed: Vec<SnapshotRecord> =
            records.iter().filter(|record| !kept.contains_key(&record.id)).cloned().collect();
        let freed_bytes = match doomed.is_empty() {
            true => 0,
            false if request.dry_run => self.would_be_freed(&doomed, events)?,
            false => 0,
        };
        let decisions = self.decisions(site, &records, &kept)?;
        if !request.dry_run {
            self.remove_snapshots(site, &doomed)?;
        }
        Ok(Pruned {
            site: site.clone(),
            dry_run: request.dry_run,
            removed: doomed.len() as u64,
            snapshots: decisions,
            would_free_bytes: request.dry_run.then_some(freed_bytes),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Which snapshots of a site stay, and why.
    pub(super) fn kept_snapshots(
        &self,
        site: &SiteName,
        records: &[SnapshotRecord],
        retention: Retention,
    ) -> Result<BTreeMap<SnapshotId, Vec<Reason>>, Failure> {
        let tags = Refs::new(&self.store.catalog).tags(site)?;
        Ok(retention.keep(records, &tags.into_iter().map(|(_, id)| id).collect()))
    }

    /// Removes snapshots: their records, in one transaction, are all there is of them but objects, which are for the next
    /// collection.
    pub(super) fn remove_snapshots(&self, site: &SiteName, doomed: &[SnapshotRecord]) -> Result<(), Failure> {
        if doomed.is_empty() {
            return Ok(());
        }
        let removed =
            Refs::new(&self.store.catalog).remove(site, &doomed.iter().map(|record| record.id).collect())?;
        self.publish_site(site)?;
        removed.iter().for_each(|record| self.hide_snapshot(record));
        Ok(())
    }

    /// What a collection would free, in bytes, if these snapshots were gone: what they refer to and nobody else does.
    fn would_be_freed(&self, doomed: &[SnapshotRecord], events: &dyn Events) -> Result<u64, Failure> {
        let collection = self.store.trees.objects.prepare_collection()?;
        let roots = self.begin_collection(&collection, doomed, events)?;
        self.reach(&collection, roots, events)?;
        let mut freed = Vec::new();
        for record in doomed {
            self.reach_snapshot(record.id, &mut |object| {
                let is_first = collection.reach(object);
                freed.extend(is_first.then_some(object));
                is_first
            })?;
        }
        let mut bytes = 0;
        for object in freed {
            bytes += collection.stored_bytes(object)?;
        }
        Ok(bytes)
    }

    fn decisions(
        &self,
        site: &SiteName,
        records: &[SnapshotRecord],
        kept: &BTreeMap<SnapshotId, Vec<Reason>>,
    ) -> Result<Vec<PruneDecision>, Failure> {
        let mut tags = Refs::new(&self.store.catalog).tags_by_snapshot(site)?;
        let decision = |record: &SnapshotRecord| PruneDecision {
            id: record.id.to_string(),
            created: record.created.into(),
            message: record.message.clone(),
            tags: tags.remove(&record.id).unwrap_or_default(),
            kept_as: kept
                .get(&record.id)
                .map(|reasons| reasons.iter().map(word).collect())
                .unwrap_or_default(),
        };
        Ok(records.iter().map(decision).collect())
    }
}

/// What the layer below calls it.
fn retention(keep: request::Keep) -> Retention {
    let request::Keep { hourly, daily, weekly, monthly } = keep;
    Retention { hourly, daily, weekly, monthly }
}

/// A reason as answers have it.
fn word(reason: &Reason) -> String {
    match reason {
        Reason::Newest => "newest",
        Reason::Tagged => "tagged",
        Reason::Hourly => "hourly",
        Reason::Daily => "daily",
        Reason::Weekly => "weekly",
        Reason::Monthly => "monthly",
    }
    .to_owned()
}
