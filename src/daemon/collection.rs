//! Garbage collection: the roots, and the verb `gc`.
//!
//! Roots are everything that names objects: the snapshots of the catalog, what volumes stand on (sites and
//! generations), what volumes refer to themselves, the lists of platforms' files, and what has arrived of streams that
//! broke off. Every command holds [`crate::objects::Objects::referring`] from its beginning to its end
//! ([`super::handler`]), so at the instant the roots are read no command is under way; why that is enough is said in
//! `objects::collection`. A root that cannot be read ends the collection before it takes anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Daemon;
use super::code_files::CodeFiles;
use super::transfer::ArrivedNames;
use crate::control::response::Collected;
use crate::control::{Events, Failure, Unit};
use crate::history::{Snapshot, SnapshotId, SnapshotRecord};
use crate::live::{References, VolumeNumber};
use crate::objects::{Collection, FileContent};
use crate::site::{Generation, Site};
use crate::trees::{Reference, Root};

/// How long an instant without commands is waited for: longer than most imports.
const QUIET_MAX: Duration = Duration::from_secs(15 * 60);

/// How often it is looked meanwhile whether anybody still wants the collection.
const QUIET_POLL: Duration = Duration::from_secs(1);

/// Everything that named objects at one instant.
pub(super) struct Roots<'a> {
    /// The snapshots of the catalog.
    pub(super) snapshots: Vec<SnapshotRecord>,
    /// What volumes stand on.
    bases: Vec<Root>,
    /// What volumes refer to.
    live: References<'a>,
    /// Lists of platforms' files.
    lists: Vec<FileContent>,
    /// What has arrived of streams that broke off.
    arrived: Vec<ArrivedNames>,
}

impl Daemon {
    /// `gc`.
    pub(super) fn collect(&self, events: &dyn Events) -> Result<Collected, Failure> {
        let started = Instant::now();
        let objects = &self.store.trees.objects;
        let before = objects.usage();
        self.forget_old_arrivals()?;
        let collection = objects.prepare_collection()?;
        let roots = self.begin_collection(&collection, &[], events)?;
        self.reach(&collection, roots, events)?;
        if events.cancelled() {
            return Err(Failure::failed("nobody waits for the collection any more"));
        }
        let total = before.objects;
        let swept = collection.sweep(&mut |looked_at| {
            events.progress("removing what nobody refers to", looked_at, Some(total), Unit::Objects);
        })?;
        let compacted = collection.compact(&swept, &mut |compacted| {
            events.progress("compacting packs", compacted.removed_bytes, None, Unit::Bytes);
        })?;
        if compacted.damaged > 0 {
            events.warn(format!(
                "{} packs are damaged and were left as they are: run `sitefs verify`",
                compacted.damaged
            ));
        }
        drop(collection);
        let after = objects.usage();
        Ok(Collected {
            objects_removed: swept.removed.objects,
            garbage_bytes: swept.removed.stored_bytes,
            packs_removed: compacted.packs,
            freed_bytes: (swept.plain_bytes + compacted.removed_bytes).saturating_sub(compacted.copied_bytes),
            objects: after.objects,
            stored_bytes: after.stored_bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Begins a collection at an instant at which no command is under way, and reads the roots then, but for the
    /// snapshots `without`.
    pub(super) fn begin_collection(
        &self,
        collection: &Collection<'_>,
        without: &[SnapshotRecord],
        events: &dyn Events,
    ) -> Result<Roots<'_>, Failure> {
        let volumes = without.iter().map(|record| VolumeNumber(record.volume)).collect();
        self.begin_collection_without(collection, without, &volumes, events)
    }

    /// As [`Daemon::begin_collection`], but for these volumes, too, and what they stand on.
    pub(super) fn begin_collection_without(
        &self,
        collection: &Collection<'_>,
        without: &[SnapshotRecord],
        volumes: &BTreeSet<VolumeNumber>,
        events: &dyn Events,
    ) -> Result<Roots<'_>, Failure> {
        let deadline = Instant::now() + QUIET_MAX;
        while Instant::now() < deadline && !events.cancelled() && !self.is_stopping() {
            if let Some(roots) = collection.begin(QUIET_POLL, || self.roots(without, volumes)) {
                return roots;
            }
        }
        Err(Failure::refused(
            "other commands are under way all the time, and space is reclaimed between them only",
        )
        .hint("see what is running: sitefs status; try again when it is done"))
    }

    fn roots(
        &self,
        without: &[SnapshotRecord],
        volumes: &BTreeSet<VolumeNumber>,
    ) -> Result<Roots<'_>, Failure> {
        let catalog = &self.store.catalog;
        self.refuse_while_records_are_damaged()?;
        let is_counted = |volume: u32| !volumes.contains(&VolumeNumber(volume));
        let sites = catalog.list::<Site>("")?.into_iter().map(|(_, site)| (site.data_volume, site.data_base));
        let generations = catalog.list::<Generation>("")?.into_iter();
        let generations = generations.map(|(_, generation)| (generation.volume, generation.base));
        let bases = sites.chain(generations).filter(|(volume, _)| is_counted(*volume));
        let bases = bases.map(|(_, base)| base).collect();
        let mut snapshots: Vec<SnapshotRecord> =
            catalog.list::<SnapshotRecord>("")?.into_iter().map(|(_, record)| record).collect();
        snapshots.retain(|record| !without.contains(record));
        let lists = catalog.list::<CodeFiles>("")?.into_iter().map(|(_, files)| files.list).collect();
        let arrived = catalog.list::<ArrivedNames>("")?.into_iter().map(|(_, arrived)| arrived);
        let live = self.filesystem.references(volumes)?;
        Ok(Roots { snapshots, bases, live, lists, arrived: arrived.collect() })
    }

    /// Reaches everything that the roots name.
    pub(super) fn reach(
        &self,
        collection: &Collection<'_>,
        roots: Roots<'_>,
        events: &dyn Events,
    ) -> Result<(), Failure> {
        let trees = &self.store.trees;
        let mut first = |id| collection.reach(id);
        // First what is read from the view of the volumes' rows, which is kept open meanwhile. Directories and long
        // files are looked into after that.
        let mut later = BTreeSet::new();
        roots.live.each(&mut |reference| {
            match reference {
                Reference::Tree(tree) => {
                    later.insert(tree);
                }
                Reference::Content(_) => trees.reach(reference, &mut first)?,
            }
            Ok::<_, Failure>(())
        })?;
        for tree in later {
            trees.reach(Reference::Tree(tree), &mut first)?;
        }
        for base in &roots.bases {
            trees.reach_root(base, &mut first)?;
        }
        for list in roots.lists {
            trees.reach(Reference::Content(list), &mut first)?;
        }
        let total = roots.snapshots.len() as u64;
        for (done, record) in roots.snapshots.iter().enumerate() {
            self.reach_snapshot(record.id, &mut first)?;
            events.progress("looking through snapshots", done as u64 + 1, Some(total), Unit::Snapshots);
        }
        for arrived in &roots.arrived {
            for list in &arrived.lists {
                trees.reach(Reference::Content(*list), &mut first)?;
            }
            // What they refer to has arrived too, or is still to come, and is not looked for. So they come last: a page that is
            // marked here is passed over by whatever comes to it later, and with it all that is below it.
            self.each_arrived(arrived, &mut |name| {
                first(name);
            })?;
        }
        Ok(())
    }

    /// Calls `first` with every object of a snapshot, as [`crate::trees::Trees::reach`] does.
    pub(super) fn reach_snapshot(
        &self,
        id: SnapshotId,
        first: &mut dyn FnMut(crate::objects::ObjectId) -> bool,
    ) -> Result<(), Failure> {
        let trees = &self.store.trees;
        first(id.0);
        let snapshot = Snapshot::load(&trees.objects, id)?;
        trees.reach_root(&snapshot.root, first)?;
        if let Some(dump) = snapshot.database.and_then(|database| database.dump) {
            trees.reach(Reference::Content(dump), first)?;
        }
        Ok(())
    }
}
