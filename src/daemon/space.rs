//! `log --space`: what a site and each of its snapshots take of the store, and what would be free without them.

use std::collections::BTreeSet;

use super::Daemon;
use crate::base::SiteName;
use crate::control::response::SiteSpace;
use crate::control::{Events, Failure};
use crate::history::SnapshotRecord;
use crate::live::VolumeNumber;
use crate::objects::Shares;
use crate::site::{Generation, Site};
use crate::trees::Root;

impl Daemon {
    /// What a site takes, and what each of its snapshots `records` has alone. Counts as a collection would, in the same
    /// order, and takes nothing away.
    pub(super) fn site_space(
        &self,
        name: &SiteName,
        records: &[SnapshotRecord],
        events: &dyn Events,
    ) -> Result<(SiteSpace, Vec<u64>), Failure> {
        let catalog = &self.store.catalog;
        let trees = &self.store.trees;
        let mut own_volumes: BTreeSet<VolumeNumber> =
            records.iter().map(|record| VolumeNumber(record.volume)).collect();
        let mut bases: Vec<Root> = Vec::new();
        if let Some(site) = catalog.get::<Site>(name.as_str())? {
            own_volumes.insert(VolumeNumber(site.data_volume));
            bases.push(site.data_base);
        }
        for (_, generation) in catalog.list::<Generation>("")? {
            if &generation.name.site == name {
                own_volumes.insert(VolumeNumber(generation.volume));
                bases.push(generation.base);
            }
        }
        let collection = trees.objects.prepare_collection()?;
        let others = self.begin_collection_without(&collection, records, &own_volumes, events)?;
        self.reach(&collection, others, events)?;
        let mut shares = Shares::new(&collection);
        let mut all_volumes: BTreeSet<VolumeNumber> =
            self.volumes.lock().keys().map(|number| VolumeNumber(*number)).collect();
        // A snapshot's own volume is read-only and stands on the snapshot, which is counted as such.
        all_volumes.retain(|number| !own_volumes.contains(number));
        let snapshots = catalog.list::<SnapshotRecord>("")?;
        all_volumes.extend(snapshots.iter().map(|(_, record)| VolumeNumber(record.volume)));
        self.filesystem.references(&all_volumes)?.each(&mut |reference| {
            trees.reach(reference, &mut |id| shares.hold(id)).map_err(Failure::from)
        })?;
        for base in &bases {
            trees.reach_root(base, &mut |id| shares.hold(id))?;
        }
        let groups = u32::try_from(records.len()).unwrap_or(u32::MAX);
        for (group, record) in (0..groups).zip(records) {
            // One that is damaged counts as far as it can be read.
            if let Err(failure) = self.reach_snapshot(record.id, &mut |id| shares.has(group, id)) {
                events.warn(format!("snapshot {}: {}", record.id.short(), failure.message));
            }
        }
        let sums = shares.sums(groups)?;
        let snapshots_bytes = sums.several + sums.alone.iter().sum::<u64>();
        let space =
            SiteSpace { own_bytes: sums.held + snapshots_bytes, snapshots_bytes, shared_bytes: sums.shared };
        Ok((space, sums.alone))
    }
}
