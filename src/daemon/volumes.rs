//! Which volumes are shown, and the namespace that leads to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Daemon, generations, namespace};
use crate::control::Failure;
use crate::fuse::mounts::PlatformView;
use crate::history::{Snapshot, SnapshotRecord};
use crate::live::{Access, Invalidation, NamespaceEntry, Volume, VolumeNumber};
use crate::site::{Generation, Site};
use crate::trees::Root;

/// The view of a platform's sites directory in one lane.
pub(super) struct LaneView {
    /// The view.
    pub(super) view: PlatformView,
    /// What the platform has there itself, less what sites cover, as the namespace is to show it.
    pub(super) own: BTreeMap<String, NamespaceEntry>,
    /// The same as the namespace shows it now.
    pub(super) shown: BTreeMap<String, NamespaceEntry>,
    /// Whether the directory is covered.
    pub(super) attached: bool,
}

impl LaneView {
    /// The view of a directory that is not covered yet.
    pub(super) fn new(view: PlatformView) -> Result<LaneView, Failure> {
        let own = view.own_entries()?;
        Ok(LaneView { view, own, shown: BTreeMap::new(), attached: false })
    }
}

impl Daemon {
    /// Shows every volume the catalog knows and discards the overlays of those it does not: a crash between two
    /// steps left them.
    pub(super) fn show_all_volumes(&self) -> Result<(), Failure> {
        let mut known = Vec::new();
        let mut show = |number: u32, base: &Root, access: Access| {
            known.push(VolumeNumber(number));
            self.show_volume(number, base, access).map(|_| ())
        };
        for (_, site) in self.store.catalog.list::<Site>("")? {
            show(site.data_volume, &site.data_base, Access::Writable)?;
        }
        for (_, generation) in self.store.catalog.list::<Generation>("")? {
            show(generation.volume, &generation.base, generations::access(generation.state))?;
        }
        for (_, record) in self.store.catalog.list::<SnapshotRecord>("")? {
            let snapshot = Snapshot::load(&self.store.trees.objects, record.id)?;
            show(record.volume, &snapshot.root, Access::ReadOnly)?;
        }
        self.store.volumes.discard_unknown(&known)?;
        Ok(())
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

    /// A shown volume.
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
        let own = {
            let mut views = self.views.lock();
            for (_, generation) in catalog.list::<Generation>("")? {
                // The directory a site was imported from may still be there under its name: the site covers it.
                let place = (generation.platform.clone(), generation.lane);
                if let Some(view) = views.get_mut(&place).filter(|_| generation.is_shown()) {
                    view.own.remove(generation.name.site.as_str());
                }
            }
            views.iter().map(|(place, view)| (place.clone(), view.own.clone())).collect()
        };
        let forgotten = self.filesystem.set_namespace(&namespace::describe(catalog, &self.root, &own)?);
        self.tell_kernel(forgotten);
        for view in self.views.lock().values_mut() {
            if view.attached {
                view.view.refresh(&self.mounts, &view.shown, &view.own)?;
            }
            view.shown = view.own.clone();
        }
        Ok(())
    }

    /// Has the kernel forget what changed otherwise than through it; when this returns, it has.
    pub(super) fn tell_kernel(&self, forgotten: Vec<Invalidation>) {
        for invalidation in forgotten {
            self.invalidations.invalidate(invalidation);
        }
        self.invalidations.flush();
    }
}
