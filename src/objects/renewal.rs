//! Making a damaged index anew from the packs while the store is in use.
//!
//! Whoever finds a damaged page has a thread begin; so do `verify` and a collection, which compare every page with its
//! checksum first: a collection that believed a damaged index could remove a pack that is needed. Readers go on with what
//! can be read of the old index, and wait a while for the new one where that is damaged; writers wait until it is there.
//! What was written to packs meanwhile waits in memory.
//!
//! What is read is the part of each pack that the index knew, so every record in it is durable. Objects that had been
//! reclaimed, and whose packs are still there, are in the new index: garbage for the next collection. So whoever has found
//! that nothing in a pack is used asks whether the index was made anew since ([`super::index::Index::remove_pack`]).
//!
//! A renewal takes no lock but those of the index, and reads packs, so whoever waits for it may hold any other.
//!
//! What the disk refuses to be read is named, and the rest goes on. Since the index then lacks what is there, the mark
//! stays, `verify` tries again, and no space is reclaimed, until all can be read or `verify --repair` has given it up.
//!
//! Power fails here: the mark is there before the renewal begins. The new index is made under another name, is durable as a
//! whole before it is renamed, and the mark goes when the new name is durable: there is the mark, or a good index.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::index::{Batch, Index, Shared, commit, damage_mark, new_name, open_tables, put_plain_totals};
use super::media::PackFile;
use super::record::{PACK_HEADER_LEN, PackHeader};
use super::recovery::BATCH_OBJECTS;
use super::scan::{Stretch, scan};
use super::{ObjectsError, Usage};
use crate::base::files;
use crate::base::tables::{Tables, TablesError};

/// How long after its beginning readers wait for a new index: as long as people wait for a page. It takes about a second
/// for each gigabyte of packs.
const READ_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long after a failure no thread tries again unasked.
const RETRY: Duration = Duration::from_secs(60);

/// What is known of renewals.
#[derive(Default)]
pub(super) struct Renewal {
    is_running: bool,
    /// When the newest began.
    begun: Option<Instant>,
    /// When and why the newest failed, if it did.
    failed: Option<(Instant, String)>,
    /// Parts of packs that could not be read, so that the index lacks what is in them.
    unread: Vec<String>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Notes that the index is to be made anew, at the next open if not before.
    fn mark(&self, error: &TablesError) {
        log::error!("{error}: the index of objects is made anew from the packs");
        let mark = damage_mark(&self.path);
        let marked = files::open_or_create(&mark).and_then(|_| files::sync_parent(&mark));
        if let Err(error) = marked {
            log::error!("{error}");
        }
    }

    /// Has a thread make the index anew that was found damaged, when it had been made anew `seen` times, and waits for
    /// that: a reader for a while, a writer to the end. An error when it is not there then.
    pub(super) fn have_renewed(
        self: &Arc<Self>,
        error: TablesError,
        seen: u64,
        is_writer: bool,
    ) -> Result<(), ObjectsError> {
        let is_open = self.is_complete.load(Ordering::Acquire) && !self.is_closing.load(Ordering::Acquire);
        let mut renewal = self.renewal.lock();
        if !is_open {
            // Who opens the store makes it anew.
            self.mark(&error);
            return Err(error.into());
        }
        while self.renewals.load(Ordering::Acquire) == seen {
            if !renewal.is_running {
                if let Some((at, reason)) = &renewal.failed
                    && at.elapsed() < RETRY
                {
                    return Err(ObjectsError::IndexDamaged { reason: reason.clone() });
                }
                self.mark(&error);
                self.start(&mut renewal)?;
            }
            if is_writer {
                self.renewed.wait(&mut renewal);
            } else {
                let until = renewal.begun.unwrap_or_else(Instant::now) + READ_WAIT_MAX;
                if self.renewed.wait_until(&mut renewal, until).timed_out() {
                    return Err(ObjectsError::IndexRenewing);
                }
            }
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, renewal: &mut Renewal) -> Result<(), ObjectsError> {
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || drop(shared.renew()))
            .map_err(|error| ObjectsError::IndexDamaged { reason: error.to_string() })?;
        renewal.thread = Some(thread);
        renewal.is_running = true;
        renewal.begun = Some(Instant::now());
        Ok(())
    }

    /// Waits until nobody makes the index anew; nobody begins while the lock is held.
    fn at_rest(&self) -> MutexGuard<'_, Renewal> {
        let mut renewal = self.renewal.lock();
        while renewal.is_running {
            self.renewed.wait(&mut renewal);
        }
        renewal
    }

    /// Has this thread make the index anew; nobody else is at it.
    fn renew_now(&self, mut renewal: MutexGuard<'_, Renewal>) -> Result<(), ObjectsError> {
        renewal.is_running = true;
        renewal.begun = Some(Instant::now());
        drop(renewal);
        self.renew()
    }

    /// Makes the index anew, and tells who waits.
    fn renew(&self) -> Result<(), ObjectsError> {
        let mut unread = Vec::new();
        let result = self.replace(&mut unread);
        let mut renewal = self.renewal.lock();
        renewal.is_running = false;
        if result.is_ok() {
            renewal.unread = unread;
        }
        renewal.failed = result.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        match &result {
            Ok(usage) => {
                log::warn!("{} was made anew from the packs: {} objects", self.path.display(), usage.objects)
            }
            Err(error) => log::error!("the index of objects cannot be made anew now: {error}"),
        }
        self.renewed.notify_all();
        result.map(|_| ()).map_err(|error| ObjectsError::IndexDamaged { reason: error.to_string() })
    }

    /// Parts of packs that cannot be read go to `unread`.
    fn replace(&self, unread: &mut Vec<String>) -> Result<Usage, ObjectsError> {
        let mut known = self.known.lock();
        let new = new_name(&self.path);
        files::remove_file(&new)?;
        let mut made = open_tables(&new)?;
        let packs = self.gather(&made, &known.packs, unread)?;
        let totals = commit(&made, |writer| {
            put_plain_totals(writer, known.plain_totals)?;
            Batch::default().put(writer)
        })?;
        let mut tables = self.tables.write();
        made.rename(&self.path)?;
        std::mem::replace(&mut *tables, made).give_up();
        known.packs = packs;
        self.renewals.fetch_add(1, Ordering::Release);
        drop(tables);
        // When this fails, the mark stays, and the next open makes another.
        files::sync_parent(&self.path)?;
        if unread.is_empty() {
            files::remove_file(&damage_mark(&self.path))?;
        }
        Ok(totals)
    }

    /// Puts the records of all known packs into `made`; returns how far each pack is in it.
    fn gather(
        &self,
        made: &Tables,
        known: &BTreeMap<u32, u64>,
        unread: &mut Vec<String>,
    ) -> Result<BTreeMap<u32, u64>, ObjectsError> {
        let mut packs = BTreeMap::new();
        for (&number, &len) in known {
            let file = match self.media.open(number) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    log::error!("{error}: its objects are lost");
                    continue;
                }
                Err(error) => {
                    note_unread(unread, error.to_string());
                    add(made, Batch { entries: Vec::new(), packs: vec![(number, len)] })?;
                    packs.insert(number, len);
                    continue;
                }
            };
            let len = len.min(file.len()?);
            let mut header = [0; PACK_HEADER_LEN as usize];
            let header = file.read(&mut header, 0).ok().and_then(|()| PackHeader::decode(&header).ok());
            let start =
                if header.is_some_and(|header| header.number == number) { PACK_HEADER_LEN } else { 0 };
            let mut batch = Batch::default();
            let scanned = scan(&*file, number, start, len, &mut |stretch, _| {
                if self.is_closing.load(Ordering::Acquire) {
                    return Err(ObjectsError::IndexRenewing);
                }
                match stretch {
                    Stretch::Object { id, location, .. } => batch.entries.push((id, location)),
                    Stretch::Gap { offset, length, is_unread: true, .. } => {
                        note_unread(unread, unread_place(&*file, offset, length));
                    }
                    Stretch::Gap { .. } => {}
                }
                if batch.entries.len() >= BATCH_OBJECTS {
                    add(made, std::mem::take(&mut batch))?;
                }
                Ok(())
            });
            match scanned {
                // More than bad sectors: what was found before it counts.
                Err(ObjectsError::File(error)) => note_unread(unread, error.to_string()),
                other => other?,
            }
            batch.packs.push((number, len));
            add(made, batch)?;
            packs.insert(number, len);
        }
        Ok(packs)
    }
}

/// How a part of a pack is called that cannot be read.
pub(super) fn unread_place(file: &dyn PackFile, offset: u64, length: u64) -> String {
    format!("{}: {length} bytes at byte {offset}", file.path().display())
}

fn note_unread(unread: &mut Vec<String>, place: String) {
    log::error!("{place}: the disk refuses to be read there");
    unread.push(place);
}

fn add(made: &Tables, mut batch: Batch) -> Result<(), TablesError> {
    batch.sort();
    commit(made, |writer| batch.put(writer)).map(|_| ())
}

impl Index {
    /// Compares the index with its checksums, and makes it anew where it is not as it was written; returns what was wrong.
    /// Whoever writes objects waits while the index is read.
    pub(super) fn mend(&self) -> Result<Option<String>, ObjectsError> {
        let shared = &self.0;
        let renewal = shared.at_rest();
        let checked = {
            let _known = shared.known.lock();
            shared.tables.read().check_beside_readers()
        };
        let damage = match checked {
            // What could not be read may be readable by now.
            Ok(()) if !renewal.unread.is_empty() => None,
            Ok(()) => return Ok(None),
            Err(error) if error.is_disk_full() => return Err(error.into()),
            Err(error) => {
                shared.mark(&error);
                Some(error.to_string())
            }
        };
        shared.renew_now(renewal)?;
        Ok(damage)
    }

    /// Makes the index anew, whatever it says.
    pub(super) fn remake(&self) -> Result<(), ObjectsError> {
        self.0.renew_now(self.0.at_rest())
    }

    /// Notes parts of packs that could not be read when the store was opened: the index lacks what is in them, and is made
    /// anew when it is opened again.
    pub(super) fn lacks(&self, unread: Vec<String>) -> Result<(), ObjectsError> {
        if unread.is_empty() {
            return Ok(());
        }
        let mark = damage_mark(&self.0.path);
        files::open_or_create(&mark)?;
        files::sync_parent(&mark)?;
        let mut renewal = self.0.renewal.lock();
        unread.into_iter().for_each(|place| note_unread(&mut renewal.unread, place));
        Ok(())
    }

    /// Whether the index lacks what is in parts of packs that cannot be read.
    pub(super) fn is_partial(&self) -> bool {
        !self.0.renewal.lock().unread.is_empty()
    }

    /// An error while the index lacks what is in parts of packs that cannot be read.
    pub(super) fn refuse_partial(&self) -> Result<(), ObjectsError> {
        match unread_error(&self.0.renewal.lock()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// What is in parts of packs that cannot be read counts as lost from now on.
    pub(super) fn give_up_unread(&self) -> Result<(), ObjectsError> {
        let mut renewal = self.0.renewal.lock();
        if !renewal.unread.is_empty() {
            files::remove_file(&damage_mark(&self.0.path))?;
            renewal.unread.clear();
        }
        Ok(())
    }

    /// Why not everything can be found now, if so.
    pub(super) fn problem(&self) -> Option<ObjectsError> {
        let renewal = self.0.renewal.lock();
        match &renewal.failed {
            _ if renewal.is_running => Some(ObjectsError::IndexRenewing),
            Some((_, reason)) => Some(ObjectsError::IndexDamaged { reason: reason.clone() }),
            None => unread_error(&renewal),
        }
    }

    /// The store is being closed: a renewal under way is left to the next open.
    pub(super) fn close(&self) {
        self.0.is_closing.store(true, Ordering::Release);
    }
}

fn unread_error(renewal: &Renewal) -> Option<ObjectsError> {
    let places = (!renewal.unread.is_empty()).then(|| renewal.unread.join("; "))?;
    Some(ObjectsError::Unread { places })
}

impl Drop for Index {
    fn drop(&mut self) {
        self.close();
        let thread = self.0.renewal.lock().thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that makes the index anew has panicked");
        }
    }
}
