//! All volumes of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::commit::Committer;
use super::mark::{self, KnownMark, Marks};
use super::names;
use super::recovery;
use super::remover::Remover;
use super::reserve::Reserve;
use super::rows::{self, Engine, RowChange};
use super::upper::{Uppers, failed};
use super::{Access, LiveError, SpaceReport, Volume, VolumeNumber};
use crate::base::files;
use crate::base::tables::Reader;
use crate::history::{HistoryError, Snapshot, SnapshotId};
use crate::trees::{Root, Trees};

/// What volumes share.
pub(super) struct Shared {
    pub(super) trees: Arc<Trees>,
    pub(super) engine: Engine,
    pub(super) uppers: Uppers,
    pub(super) committer: Committer,
    pub(super) remover: Remover,
    pub(super) reserve: Reserve,
    /// Held through a commit; whoever takes rows or files away holds it too.
    pub(super) commit_lock: Mutex<()>,
    pub(super) volumes: Mutex<BTreeMap<VolumeNumber, Arc<Volume>>>,
    pub(super) next_handle: AtomicU64,
    directory: PathBuf,
}

/// All volumes of a store: the overlay's tables, the files of changed content, the thread that commits and the one that
/// deletes.
///
/// Dropping it commits everything and ends the threads; volumes that are still around can then no longer be changed.
pub struct Volumes {
    shared: Arc<Shared>,
    threads: Option<Threads>,
}

struct Threads {
    committer: JoinHandle<()>,
    remover: JoinHandle<()>,
}

impl Volumes {
    /// Opens the overlay in `directory` (created when missing), recovers what a crash left, starts the committer.
    pub fn open(directory: &Path, trees: Arc<Trees>) -> Result<Arc<Volumes>, LiveError> {
        Volumes::open_marked(directory, trees, None)
    }

    /// As [`Volumes::open`], unless there are tables and they do not belong to records with the mark that is known: then nothing is changed.
    /// The caller's records are to get the next mark when this has returned.
    pub fn open_marked(
        directory: &Path,
        trees: Arc<Trees>,
        marks: Option<Marks>,
    ) -> Result<Arc<Volumes>, LiveError> {
        files::create_directories(directory)?;
        let path = directory.join("live.redb");
        let is_new = files::metadata(&path)?.is_none();
        // The engine's first writes make no file that it can open if the power fails among them.
        let first = directory.join("live.first.redb");
        files::remove_file(&first)?;
        let mut engine = Engine::open(if is_new { &first } else { &path })?;
        if !is_new && !mark::belongs(&engine.tables, marks.map_or(KnownMark::Any, |marks| marks.known))? {
            return Err(LiveError::OtherTime { path });
        }
        let uppers = Uppers::open(directory.join("upper"))?;
        if !engine.contains(rows::STATE, rows::CLEAN)? {
            recovery::recover(&engine, &uppers)?;
        }
        // From here on an end without `close` is a crash.
        let mut changes = vec![RowChange::Remove { table: rows::STATE, key: rows::CLEAN.to_vec() }];
        changes.extend(names::at_start(&engine, &uppers)?);
        changes.extend(marks.map(|marks| mark::put(marks.next, marks.known)));
        engine.apply(&changes)?;
        if is_new {
            engine.tables.rename(&path)?;
            files::sync_directory(directory)?;
        }
        let shared = Arc::new(Shared {
            trees,
            engine,
            uppers,
            committer: Committer::default(),
            remover: Remover::default(),
            reserve: Reserve::new(directory.join("reserve")),
            commit_lock: Mutex::new(()),
            volumes: Mutex::new(BTreeMap::new()),
            next_handle: AtomicU64::new(1),
            directory: directory.to_owned(),
        });
        let threads = Threads {
            committer: Committer::start(Arc::clone(&shared)),
            remover: Remover::start(Arc::clone(&shared)),
        };
        Ok(Arc::new(Volumes { shared, threads: Some(threads) }))
    }

    /// Shows `base` as the volume `number` with the changes its overlay holds from before. `base` must be the same
    /// for the life of the number: node numbers derive from it. A volume attached before is returned again.
    pub fn attach(
        self: &Arc<Self>,
        number: VolumeNumber,
        base: Root,
        access: Access,
    ) -> Result<Arc<Volume>, LiveError> {
        let mut volumes = self.shared.volumes.lock();
        if let Some(volume) = volumes.get(&number) {
            if *volume.base() != base {
                return Err(LiveError::OtherBase);
            }
            volume.set_access(access);
            return Ok(Arc::clone(volume));
        }
        let volume = Arc::new(Volume::new(Arc::clone(&self.shared), number, base, access)?);
        volumes.insert(number, Arc::clone(&volume));
        Ok(volume)
    }

    /// Makes the volume `number` of a snapshot: read-only, without an overlay, and known to nobody but the caller.
    pub(super) fn browse(
        &self,
        number: VolumeNumber,
        snapshot: SnapshotId,
    ) -> Result<Arc<Volume>, LiveError> {
        let root = match Snapshot::load(&self.shared.trees.objects, snapshot) {
            Ok(snapshot) => snapshot.root,
            Err(HistoryError::Objects(error)) => return Err(error.into()),
            Err(error) => return Err(LiveError::Snapshot(Box::new(error))),
        };
        Ok(Arc::new(Volume::new(Arc::clone(&self.shared), number, root, Access::ReadOnly)?))
    }

    /// Forgets the volume `number` and deletes its overlay, its upper files soon after. Open handles go on working until
    /// released.
    pub fn discard(&self, number: VolumeNumber) -> Result<(), LiveError> {
        let volume = self.shared.volumes.lock().remove(&number);
        if let Some(volume) = volume {
            volume.end();
        }
        // A commit under way may still write rows of the volume: they are removed after it.
        let _commit = self.shared.commit_lock.lock();
        let next = VolumeNumber(number.0 + 1);
        let tables = [rows::NODES, rows::ENTRIES, rows::DIRTY, rows::FROZEN, rows::NAMED, rows::VOLUMES];
        let changes = tables.map(|table| RowChange::RemoveRange {
            table,
            start: rows::volume_key(number),
            end: rows::volume_key(next),
        });
        self.shared.engine.apply(&changes)?;
        self.shared.remove_uppers_of(number);
        Ok(())
    }

    /// Deletes overlays of volumes that `known` does not contain: what a crash between two steps left.
    pub fn discard_unknown(&self, known: &BTreeSet<VolumeNumber>) -> Result<(), LiveError> {
        let mut found = recovery::volumes_with_rows(&self.shared.engine)?;
        found.extend(self.shared.uppers.volumes()?);
        found.retain(|number| !known.contains(number) && !self.shared.volumes.lock().contains_key(number));
        for number in found {
            self.discard(number)?;
        }
        Ok(())
    }

    /// A view of all rows of all volumes as they are now.
    pub(super) fn rows(&self) -> Result<Reader<'_>, LiveError> {
        self.shared.engine.view()
    }

    /// Space and nodes of the file system that holds the store.
    pub fn space(&self) -> Result<SpaceReport, LiveError> {
        self.shared.space()
    }

    /// Commits every pending change of every volume durably, files' contents included.
    pub fn sync_all(&self) -> Result<(), LiveError> {
        self.shared.uppers.sync_everything()?;
        self.shared.commit()
    }

    #[cfg(test)]
    pub(super) fn upper_path(&self, volume: VolumeNumber, number: u64) -> PathBuf {
        self.shared.uppers.path(volume, number)
    }

    /// As when new names have waited long enough.
    #[cfg(test)]
    pub(super) fn settle_names_now(&self) {
        self.shared.uppers.age_new_names();
        self.shared.commit().expect("the disk of a test takes a commit");
    }

    #[cfg(test)]
    pub(super) fn wait_for_removals(&self) {
        self.shared.remover.wait();
    }

    /// Ends the threads without a last commit, as a killed process would.
    #[cfg(test)]
    pub(super) fn crash(&mut self) {
        self.shared.committer.stop();
        self.shared.remover.forget();
        self.shared.remover.stop();
        if let Some(threads) = self.threads.take() {
            threads.committer.join().expect("the committer does not panic");
            threads.remover.join().expect("the remover does not panic");
        }
        self.shared.end_volumes();
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        let result = self.sync_all();
        self.shared.committer.stop();
        if threads.committer.join().is_err() {
            log::error!("the committer ended with a panic");
        }
        let closed = self.shared.end_volumes();
        self.shared.remover.stop();
        if threads.remover.join().is_err() {
            log::error!("the remover ended with a panic");
        }
        match result {
            Ok(()) if closed && !self.shared.remover.has_left() => {
                let mark = RowChange::Put { table: rows::STATE, key: rows::CLEAN.to_vec(), value: vec![1] };
                if let Err(error) = self.shared.engine.apply(&[mark]) {
                    log::warn!("the overlay will be checked at the next start: {error}");
                }
            }
            Ok(()) => {}
            Err(error) => log::error!("the last changes could not be made durable: {error}"),
        }
    }
}

impl Shared {
    pub(super) fn space(&self) -> Result<SpaceReport, LiveError> {
        let space = rustix::fs::statvfs(&self.directory).map_err(failed("look at the space for"))?;
        Ok(SpaceReport {
            block_size: u32::try_from(space.f_frsize).unwrap_or(4096),
            blocks: space.f_blocks,
            blocks_free: space.f_bfree,
            blocks_available: space.f_bavail,
            files: space.f_files,
            files_free: space.f_ffree,
        })
    }

    /// Ends all volumes; whether none had a file open for writing or an uncommitted change. Files that were only kept because
    /// somebody might have them open are deleted.
    fn end_volumes(&self) -> bool {
        let volumes = std::mem::take(&mut *self.volumes.lock());
        let mut closed = true;
        for (number, volume) in volumes {
            volume.end();
            let state = volume.state.lock();
            let committed = state.pending.is_empty();
            closed &= committed && state.handles.values().all(|handle| !handle.write);
            if committed {
                self.remove_uppers(number, state.orphans());
            }
        }
        closed
    }
}
