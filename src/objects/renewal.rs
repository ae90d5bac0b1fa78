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
//! Power fails here: the mark is there before the renewal begins. The new index is made under another name, is durable as a
//! whole before it is renamed, and the mark goes when the new name is durable: there is the mark, or a good index.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::index::{Batch, Index, Shared, commit, damage_mark, new_name, open_tables, put_plain_totals};
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

    /// Makes the index anew, and tells who waits.
    fn renew(&self) -> Result<(), ObjectsError> {
        let result = self.replace();
        let mut renewal = self.renewal.lock();
        renewal.is_running = false;
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

    fn replace(&self) -> Result<Usage, ObjectsError> {
        let mut known = self.known.lock();
        let new = new_name(&self.path);
        files::remove_file(&new)?;
        let mut made = open_tables(&new)?;
        let packs = self.gather(&made, &known.packs)?;
        let totals = commit(&made, |writer| {
            put_plain_totals(writer, known.plain_totals)?;
            Batch::default().put(writer)
        })?;
        let mut tables = self.tables.write();
        made.rename(&self.path)?;
        *tables = made;
        known.packs = packs;
        self.renewals.fetch_add(1, Ordering::Release);
        drop(tables);
        // When this fails, the mark stays, and the next open makes another.
        files::sync_parent(&self.path)?;
        files::remove_file(&damage_mark(&self.path))?;
        Ok(totals)
    }

    /// Puts the records of all known packs into `made`; returns how far each pack is in it.
    fn gather(&self, made: &Tables, known: &BTreeMap<u32, u64>) -> Result<BTreeMap<u32, u64>, ObjectsError> {
        let mut packs = BTreeMap::new();
        for (&number, &len) in known {
            let file = match self.media.open(number) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    log::error!("{error}: its objects are lost");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let len = len.min(file.len()?);
            let mut header = [0; PACK_HEADER_LEN as usize];
            let header = file.read(&mut header, 0).ok().and_then(|()| PackHeader::decode(&header).ok());
            let start =
                if header.is_some_and(|header| header.number == number) { PACK_HEADER_LEN } else { 0 };
            let mut batch = Batch::default();
            scan(&*file, number, start, len, &mut |stretch, _| {
                if self.is_closing.load(Ordering::Acquire) {
                    return Err(ObjectsError::IndexRenewing);
                }
                if let Stretch::Object { id, location, .. } = stretch {
                    batch.entries.push((id, location));
                }
                if batch.entries.len() >= BATCH_OBJECTS {
                    add(made, std::mem::take(&mut batch))?;
                }
                Ok(())
            })?;
            batch.packs.push((number, len));
            add(made, batch)?;
            packs.insert(number, len);
        }
        Ok(packs)
    }
}

fn add(made: &Tables, mut batch: Batch) -> Result<(), TablesError> {
    batch.sort();
    commit(made, |writer| batch.put(writer)).map(|_| ())
}

impl Index {
    /// Compares the index with its checksums, and makes it anew where it is not as it was written; returns what was wrong.
    /// Whoever reads objects waits while the index is read.
    pub(super) fn mend(&self) -> Result<Option<String>, ObjectsError> {
        let shared = &self.0;
        let mut renewal = shared.renewal.lock();
        while renewal.is_running {
            shared.renewed.wait(&mut renewal);
        }
        let checked = shared.tables.read().check();
        let Err(error) = checked else { return Ok(None) };
        if error.is_disk_full() {
            return Err(error.into());
        }
        shared.mark(&error);
        renewal.is_running = true;
        renewal.begun = Some(Instant::now());
        drop(renewal);
        shared.renew()?;
        Ok(Some(error.to_string()))
    }

    /// Why not everything can be found now, if so.
    pub(super) fn problem(&self) -> Option<ObjectsError> {
        let renewal = self.0.renewal.lock();
        match &renewal.failed {
            _ if renewal.is_running => Some(ObjectsError::IndexRenewing),
            Some((_, reason)) => Some(ObjectsError::IndexDamaged { reason: reason.clone() }),
            None => None,
        }
    }

    /// The store is being closed: a renewal under way is left to the next open.
    pub(super) fn close(&self) {
        self.0.is_closing.store(true, Ordering::Release);
    }
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
