//! Which volumes are shown, and the namespace that leads to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::namespace::OwnEntries;
use super::{Daemon, generations, namespace};
use crate::base::{PlatformName, SiteName};
use crate::control::Failure;
use crate::fuse::mounts::PlatformView;
use crate::history::SnapshotRecord;
use crate::live::{Access, Invalidation, NamespaceEntry, Volume, VolumeNumber};
use crate::site::{Generation, GenerationState, Site};
use crate::trees::Root;

/// Entries of a directory of the namespace.
type Entries = BTreeMap<String, NamespaceEntry>;

/// The view of a platform's sites directory in one lane.
pub(super) struct LaneView {
    /// The view.
    pub(super) view: PlatformView,
    /// What the platform has there itself, covered by a site or not.
    native: Entries,
    /// What of that the namespace shows now.
    pub(super) shown: Entries,
    /// Whether the directory is covered.
    pub(super) attached: bool,
}

impl LaneView {
    /// The view of a directory that is not covered yet.
    pub(super) fn new(view: PlatformView) -> Result<LaneView, Failure> {
        let native = view.own_entries()?;
        Ok(LaneView { view, native, shown: BTreeMap::new(), attached: false })
    }

    /// What the namespace is to show of the platform's own entries: all but those that have the name of a site.
    fn own(&self, covered: &BTreeSet<(PlatformName, SiteName)>, platform: &PlatformName) -> Entries {
        let is_covered =
            |name: &str| covered.iter().any(|(on, site)| on == platform && site.as_str() == name);
        let own = self.native.iter().filter(|(name, _)| !is_covered(name));
        own.map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

impl Daemon {
    /// Shows every volume the catalog knows and discards the overlays of those it does not: a crash between two
    /// steps left them. What cannot be shown keeps nothing else down; `status` tells of it. Snapshots are not read
    /// before somebody looks at them, however many there are.
    pub(super) fn show_all_volumes(&self) -> Result<(), Failure> {
        let mut known = BTreeSet::new();
        let mut show = |what: &str, number: u32, base: &Root, access: Access| {
            known.insert(VolumeNumber(number));
            if let Err(failure) = self.show_volume(number, base, access) {
                log::error!("{what} cannot be shown: {}: {}", failure.message, failure.causes.join(": "));
            }
        };
        for (name, site) in self.store.catalog.list::<Site>("")? {
            show(&format!("the data of {name}"), site.data_volume, &site.data_base, Access::Writable);
        }
        for (_, generation) in self.store.catalog.list::<Generation>("")? {
            let access = match generation.state {
                GenerationState::Live => {
                    let site = self.site(&generation.name.site);
                    site.map_or(Access::Writable, |site| self.live_access(&site))
                }
                state => generations::access(state),
            };
            show(&generation.name.to_string(), generation.volume, &generation.base, access);
        }
        for (_, record) in self.store.catalog.list::<SnapshotRecord>("")? {
            known.insert(VolumeNumber(record.volume));
            self.show_snapshot(&record);
        }
        match self.refuse_while_records_are_damaged() {
            Ok(()) => self.store.volumes.discard_unknown(&known)?,
            Err(failure) => log::warn!("overlays that nobody has are kept: {}", failure.message),
        }
        Ok(())
    }

    /// Makes a snapshot reachable by the number of its volume.
    pub(super) fn show_snapshot(&self, record: &SnapshotRecord) {
        self.filesystem.add_snapshot(VolumeNumber(record.volume), record.id);
    }

    /// Takes a snapshot away: its volume has no overlay. The namespace must not lead to it any more.
    pub(super) fn hide_snapshot(&self, record: &SnapshotRecord) {
        self.filesystem.remove_volume(VolumeNumber(record.volume));
    }

    /// Whether the volume of a site or a generation is shown.
    pub(super) fn is_shown(&self, number: u32) -> bool {
        self.volumes.lock().contains_key(&number)
    }

    /// Makes a volume reachable by its number, unless it is.
    pub(super) fn show_volume(
        &self,
        number: u32,
        base: &Root,
        access: Access,
    ) -> Result<Arc<Volume>, Failure> {
        let mut volumes = self.volumes.lock();
        if let Some(volume) = volumes.get(&number) {
            return Ok(Arc::clone(volume));
        }
        let volume = self.store.volumes.attach(VolumeNumber(number), base.clone(), access)?;
        self.filesystem.add_volume(Arc::clone(&volume));
        volumes.insert(number, Arc::clone(&volume));
        Ok(volume)
    }

    /// The volume of a site or a generation.
    pub(super) fn volume(&self, number: u32) -> Result<Arc<Volume>, Failure> {
        self.volumes
            .lock()
            .get(&number)
            .cloned()
            .ok_or_else(|| Failure::failed(format!("volume {number} is not shown")))
    }

    /// Takes a volume away with its overlay. The namespace must not lead to it any more.
    pub(super) fn discard_volume(&self, number: u32) -> Result<(), Failure> {
        self.volumes.lock().remove(&number);
        self.filesystem.remove_volume(VolumeNumber(number));
        Ok(self.store.volumes.discard(VolumeNumber(number))?)
    }

    /// Shows what the catalog says now; when this returns, no path leads anywhere else any more.
    pub(super) fn publish(&self) -> Result<(), Failure> {
        let _one_at_a_time = self.publishing.lock();
        let catalog = &self.store.catalog;
        // The directory that a site was imported from may still be there under its name. It is not to be seen, in
        // either lane, while the site has any generation on the platform: when the site moves on, nobody must be
        // shown the site as it was before sitefs. It comes back when the site is removed.
        let covered: BTreeSet<(PlatformName, SiteName)> = catalog
            .list::<Generation>("")?
            .into_iter()
            .map(|(_, generation)| (generation.platform, generation.name.site))
            .collect();
        let own: OwnEntries = self
            .views
            .lock()
            .iter()
            .map(|(place, view)| (place.clone(), view.own(&covered, &place.0)))
            .collect();
        let forgotten = self.filesystem.set_namespace(&namespace::describe(
            catalog,
            &self.root,
            &own,
            &self.open_windows()?,
        )?);
        self.tell_kernel(forgotten);
        for (place, view) in self.views.lock().iter_mut() {
            // A view that came meanwhile is published by who brought it.
            let Some(own) = own.get(place) else { continue };
            if view.attached {
                view.view.refresh(&self.mounts, &view.shown, own)?;
            }
            view.shown = own.clone();
        }
        Ok(())
    }

    /// As [`Daemon::publish`] after changes of one site: costs as much as the site has generations and snapshots, however
    /// many other sites there are.
    pub(super) fn publish_site(&self, site: &SiteName) -> Result<(), Failure> {
        // Where it covers a directory that the platform has itself, the platform's entries change too.
        let covers = |view: &LaneView| view.native.contains_key(site.as_str());
        if self.views.lock().values().any(covers) {
            return self.publish();
        }
        let _one_at_a_time = self.publishing.lock();
        let window = self.open_window(site)?;
        let edits = namespace::describe_site(&self.store.catalog, &self.root, site, window.as_ref())?;
        let forgotten = self.filesystem.edit_namespace(&edits);
        self.tell_kernel(forgotten);
        Ok(())
    }

    /// The same after a snapshot of a site that is shown: costs the same however many others it has.
    pub(super) fn publish_snapshot(&self, record: &SnapshotRecord) {
        let _one_at_a_time = self.publishing.lock();
        let forgotten = self.filesystem.edit_namespace(&[namespace::describe_snapshot(record)]);
        self.tell_kernel(forgotten);
    }

    /// Has the kernel forget what changed otherwise than through it; when this returns, it has.
    pub(super) fn tell_kernel(&self, forgotten: Vec<Invalidation>) {
        for invalidation in forgotten {
            self.invalidations.invalidate(invalidation);
        }
        self.invalidations.flush();
    }
}
