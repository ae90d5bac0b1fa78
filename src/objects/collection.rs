//! Garbage collection: taking objects away that nobody refers to, beside writers.
//!
//! The argument why no object is lost that anybody refers to, now or later:
//!
//! 1. Whoever puts objects, or takes names out of a record to put them into another, holds [`Objects::referring`] from
//!    before the first until a durable record refers to all of them.
//! 2. A collection begins at an instant at which nobody holds it. So every name that is in use then is in a record, and
//!    the caller reads the records (the roots) at that very instant. What is reached from them stays (*reached*).
//! 3. From that instant on every put first marks its object (*kept*) and then looks for it. The mark is set under the
//!    lock (`collecting`) under which the sweep looks at marks and takes away what has none. So the mark is set before
//!    the sweep looks, and the object stays; or after the sweep, and the put finds nothing and stores it anew.
//! 4. A record that comes later refers to objects that were put since (kept), or to what records before it referred to
//!    (reached or kept, by induction). Nothing else can be named.
//! 5. Objects that are not in the census, which is taken before that instant, are never taken away.
//!
//! So a collection waits for the commands under way once, at its beginning; all that come later go on beside it.
//!
//! Power cuts: an entry of the index is taken away in a durable transaction; before or after it the object is garbage.
//! A pack is removed after all that is used of it has been copied, made durable, and is in the index at its new place;
//! then first the index forgets the pack, then its file is removed. A cut in between leaves a pack whose records are
//! read again: copies of objects that are used, and garbage for the next collection.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLockReadGuard};

use super::census::{Census, Names};
use super::packs::Found;
use super::record::Location;
use super::store::LIST_ENTRIES;
use super::{ObjectId, Objects, ObjectsError, Usage};

/// How long newcomers wait for a collection that wants to begin, at first. Each time in vain they wait twice as long the
/// next time, so that commands which follow each other closely keep no collection from beginning.
const QUIET_WAIT: Duration = Duration::from_millis(10);

/// How long newcomers wait at most: what people take for the machine's being busy.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);

/// How many times as long it then lets them go on.
const QUIET_PAUSE: u32 = 4;

/// Held by whoever is about to refer to objects (see the module).
pub struct Referring<'a>(#[expect(dead_code, reason = "it is held, not read")] RwLockReadGuard<'a, ()>);

/// What was taken away, and what is left where.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was taken away.
    pub removed: Usage,
    /// How much of it was plain files, whose space is free at once, in bytes.
    pub plain_bytes: u64,
    /// The bytes of each pack that are in use.
    pub(super) used: BTreeMap<u32, u64>,
}

/// A collection under way; one at a time, and not beside a verification.
pub struct Collection<'a> {
    pub(super) objects: &'a Objects,
    pub(super) census: Arc<Census>,
    /// Reached, and not in the census: they came after it.
    newer: Mutex<HashSet<ObjectId>>,
    /// How long newcomers wait the next time.
    quiet_wait: Mutex<Duration>,
    _maintenance: MutexGuard<'a, ()>,
}

impl Objects {
    /// Held from before objects are put, or names are taken out of a record, until a durable record refers to them.
    pub fn referring(&self) -> Referring<'_> {
        Referring(self.referring.read())
    }

    /// As [`Objects::referring`], for who cannot wait: `None` while a collection is about to begin.
    pub fn try_referring(&self) -> Option<Referring<'_>> {
        self.referring.try_read().map(Referring)
    }

    /// Takes the census that a collection is based on: reads the index once, and needs nine bytes of memory for each
    /// object. Waits for a collection or a verification under way. A damaged index is made anew first: what it does not
    /// show as used would be taken away. Refused while it lacks what is in packs that cannot be read, for the same reason.
    pub fn prepare_collection(&self) -> Result<Collection<'_>, ObjectsError> {
        let maintenance = self.maintenance.lock();
        self.packs.index.mend()?;
        self.packs.index.refuse_partial()?;
        let mut packed = Vec::new();
        self.plain.each_durable(&mut |id, _| {
            packed.push(id);
            Ok::<_, ObjectsError>(())
        })?;
        // Few, since each is a file of its own of a megabyte or more.
        let mut plain = packed.into_iter().peekable();
        self.packs.recount()?;
        let mut names = Names::new(self.usage().objects);
        let mut after = None;
        loop {
            let entries = self.packs.index.list(after, LIST_ENTRIES)?;
            let Some((last, _)) = entries.last() else { break };
            after = Some(*last);
            for (id, _) in entries {
                while let Some(before) = plain.next_if(|plain| *plain < id) {
                    names.push(before);
                }
                names.push(id);
            }
        }
        plain.for_each(|id| names.push(id));
        Ok(Collection {
            objects: self,
            census: Arc::new(names.finish()),
            newer: Mutex::default(),
            quiet_wait: Mutex::new(QUIET_WAIT),
            _maintenance: maintenance,
        })
    }

    /// Tells a collection under way that the object is put. Who then finds the object can rely on it.
    pub(super) fn keep(&self, id: ObjectId) {
        if let Some(census) = &*self.collecting.read() {
            census.keep(id);
        }
    }
}

impl Collection<'_> {
    /// Waits up to `wait_max` for an instant at which nobody holds [`Objects::referring`], and calls `roots` at it.
    /// `None` when there was no such instant.
    pub fn begin<T>(&self, wait_max: Duration, roots: impl FnOnce() -> T) -> Option<T> {
        let deadline = Instant::now() + wait_max;
        loop {
            let wait = *self.quiet_wait.lock();
            // Newcomers queue up behind this, so it is tried for a short time only.
            if let Some(_quiet) = self.objects.referring.try_write_for(wait) {
                *self.objects.collecting.write() = Some(Arc::clone(&self.census));
                return Some(roots());
            }
            *self.quiet_wait.lock() = (wait * 2).min(QUIET_WAIT_MAX);
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(wait * QUIET_PAUSE);
        }
    }

    /// Marks an object as one that stays; whether it was not marked before. Whoever reaches an object that refers to
    /// others must reach those.
    pub fn reach(&self, id: ObjectId) -> bool {
        self.census.reach(id).unwrap_or_else(|| self.newer.lock().insert(id))
    }

    /// What an object takes on the disk, in bytes; 0 for one that is not there.
    pub fn stored_bytes(&self, id: ObjectId) -> Result<u64, ObjectsError> {
        Ok(match self.objects.packs.find(id)? {
            Found::Indexed(location) | Found::Pending(location) => location.record_len(),
            Found::Nowhere(_) => self.objects.plain.size(id)?.unwrap_or_default(),
        })
    }

    /// Takes away what was neither reached nor put since [`Collection::begin`]. Everything that is to stay must have
    /// been reached. `each` is told how many objects were looked at.
    pub fn sweep(&self, each: &mut dyn FnMut(u64)) -> Result<Swept, ObjectsError> {
        let mut swept = Swept::default();
        let sweep_objects = self.objects.packs.sizes.sweep_objects;
        let (mut after, mut looked_at, mut garbage) = (None, 0, Vec::new());
        loop {
            let entries = self.objects.packs.index.list(after, sweep_objects)?;
            let ended = entries.is_empty();
            after = entries.last().map(|(last, _)| *last).or(after);
            looked_at += entries.len() as u64;
            for (id, location) in entries {
                if self.census.is_garbage(id) {
                    garbage.push((id, location));
                } else {
                    *swept.used.entry(location.pack).or_default() += location.record_len();
                }
            }
            if garbage.len() >= sweep_objects || ended {
                self.take_away(&mut garbage, &mut swept)?;
            }
            each(looked_at);
            if ended {
                break;
            }
        }
        let mut plain = Vec::new();
        self.objects.plain.each_durable(&mut |id, size| {
            if self.census.is_garbage(id) {
                plain.push((id, size));
            }
            Ok::<_, ObjectsError>(())
        })?;
        for (id, size) in plain {
            let _collecting = self.objects.collecting.write();
            if self.census.is_garbage(id) {
                let removed = self.objects.plain.remove(id, size, &self.objects.packs.index)?;
                swept.removed = swept.removed.plus(removed);
                swept.plain_bytes += size;
            }
        }
        Ok(swept)
    }

    /// Takes entries away that are still garbage.
    fn take_away(
        &self,
        garbage: &mut Vec<(ObjectId, Location)>,
        swept: &mut Swept,
    ) -> Result<(), ObjectsError> {
        if garbage.is_empty() {
            return Ok(());
        }
        let _collecting = self.objects.collecting.write();
        let (doomed, kept): (Vec<_>, Vec<_>) =
            garbage.drain(..).partition(|(id, _)| self.census.is_garbage(*id));
        for (_, location) in kept {
            *swept.used.entry(location.pack).or_default() += location.record_len();
        }
        swept.removed = swept.removed.plus(self.objects.packs.forget(&doomed)?);
        Ok(())
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        *self.objects.collecting.write() = None;
    }
}
