//! All packs with their index: appending, finding, making durable.
//!
//! Two locks. `appender` guards the end of the newest pack and is held for copying a record into the buffer and for
//! writing the buffer, never for a device flush (but for the little that is left when a pack is full). `flushing`
//! is held by the one thread that makes things durable; threads that wait for it usually find their work done. It
//! is taken before `appender`.
//!
//! A failed device flush: the kernel then marks what it could not write as clean, and says so once, so neither a
//! repetition nor the cached bytes can be trusted (<https://wiki.postgresql.org/wiki/Fsync_Errors>). Everything
//! since the last good flush is therefore read back, checked against the records' checksums, written into a new
//! pack and flushed there. Where that fails too, the store stops taking changes: an object that somebody put, and
//! that somebody else's flush lost, must not be referred to after a later flush that succeeds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::appender::Appender;
use super::index::{Batch, Index};
use super::media::{Media, PackFile};
use super::record::{Content, HEADER_LEN, Header, Location, PACK_HEADER_LEN};
use super::{Kind, ObjectId, ObjectsError, Usage};
use crate::base::FileError;

/// How many packs are kept open for reading. Ten million objects take some 800 packs.
const OPEN_PACKS: usize = 512;

/// How much is fetched around a page of a tree, in bytes: some hundred pages, for little more than one.
const FETCH_BYTES: u64 = 512 << 10;

/// The lengths that packs and buffers have; tests choose small ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// At this length a pack is full.
    pub(super) pack_bytes: u64,
    /// How much is buffered before it is written.
    pub(super) buffer_bytes: usize,
    /// How much is written before it is made durable unasked: bounds what a full pack or a failed flush has to
    /// repeat.
    pub(super) dirty_bytes: u64,
    /// How many objects wait in memory (about 100 bytes each) before they go to the index together. The index keeps
    /// names in order, so a batch touches about as many pages as it has entries: larger batches share more of them.
    pub(super) batch_objects: usize,
    /// How many objects a collection takes away together: what a put may wait for is one commit of the index.
    pub(super) sweep_objects: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            // Small enough to be rewritten in one go by garbage collection.
            pack_bytes: 256 << 20,
            // Large enough that the cost of a call vanishes.
            buffer_bytes: 2 << 20,
            dirty_bytes: 64 << 20,
            batch_objects: 32_768,
            sweep_objects: 4096,
        }
    }
}

pub(super) struct Packs {
    pub(super) sizes: Sizes,
    pub(super) media: Arc<dyn Media>,
    pub(super) index: Index,
    flushing: Mutex<()>,
    appender: Mutex<Appender>,
    /// Counts the batches that moved from `pending` to the index: who looked into the index first and finds
    /// nothing pending looks again when it changed.
    batches: AtomicU64,
    open_packs: RwLock<HashMap<u32, Arc<dyn PackFile>>>,
    /// The place that was fetched last: pack and number of the run of [`FETCH_BYTES`].
    fetched: AtomicU64,
}

/// The answer to where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In a pack, durably.
    Indexed(Location),
    /// In a pack or in the buffer, perhaps not durably.
    Pending(Location),
    /// In no pack.
    Nowhere(Ticket),
}

/// Until which batch of the index an object was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    batches: u64,
}

/// A record as it was read: header and payload.
pub(super) struct Stored {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

impl Packs {
    pub(super) fn new(media: Arc<dyn Media>, index: Index, appender: Appender, sizes: Sizes) -> Packs {
        Packs {
            sizes,
            media,
            index,
            flushing: Mutex::new(()),
            appender: Mutex::new(appender),
            batches: AtomicU64::new(0),
            open_packs: RwLock::default(),
            fetched: AtomicU64::new(u64::MAX),
        }
    }

    /// How much the packs hold.
    pub(super) fn totals(&self) -> Usage {
        self.appender.lock().totals
    }

    /// Where an object is, durable or not, or a ticket for [`Packs::append`].
    pub(super) fn find(&self, id: ObjectId) -> Result<Found, ObjectsError> {
        loop {
            let batches = self.batches.load(Ordering::Acquire);
            if let Some(location) = self.index.get(id)? {
                return Ok(Found::Indexed(location));
            }
            if let Some(location) = self.appender.lock().pending.get(&id) {
                return Ok(Found::Pending(*location));
            }
            if self.batches.load(Ordering::Acquire) == batches {
                return Ok(Found::Nowhere(Ticket { batches }));
            }
        }
    }

    /// The record of an object as it is stored, payload not checked, and its place. `None` where there is no such object.
    pub(super) fn read(&self, id: ObjectId) -> Result<Option<(Location, Stored)>, ObjectsError> {
        let mut tried = None;
        loop {
            let found = self.find(id)?;
            let (Found::Indexed(location) | Found::Pending(location)) = found else { return Ok(None) };
            let error = match self.read_at(found, &location) {
                Ok(Some(stored)) => return Ok(Some((location, stored))),
                Ok(None) => self.damaged(id, &location),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.damaged(id, &location)
                }
                Err(error) => error.into(),
            };
            // It may have moved to another pack meanwhile.
            if tried == Some(location) {
                return Err(error);
            }
            tried = Some(location);
        }
    }

    /// The record at a place; `None` when what is there is not a record of this length.
    fn read_at(&self, found: Found, location: &Location) -> Result<Option<Stored>, FileError> {
        let buffered = match found {
            Found::Pending(_) => self.appender.lock().buffered(location).map(<[u8]>::to_vec),
            _ => None,
        };
        let mut bytes = match buffered {
            Some(bytes) => bytes,
            None => {
                let mut bytes = vec![0; HEADER_LEN + location.stored_len as usize];
                self.pack(location.pack)?.read(&mut bytes, u64::from(location.offset))?;
                bytes
            }
        };
        let header = Header::decode(&bytes).filter(|header| header.stored_len == location.stored_len);
        Ok(header.map(|header| {
            bytes.drain(..HEADER_LEN);
            Stored { header, payload: bytes }
        }))
    }

    /// The kind of an object that is in a pack, by its record's header; `None` where that cannot be told.
    pub(super) fn kind(&self, id: ObjectId) -> Result<Option<Kind>, ObjectsError> {
        let Found::Indexed(location) = self.find(id)? else { return Ok(None) };
        let mut bytes = [0; HEADER_LEN];
        self.pack(location.pack)?.read(&mut bytes, u64::from(location.offset))?;
        Ok(match Header::decode(&bytes).map(|header| header.content) {
            Some(Content::Object { id: found, kind, .. }) if found == id => Some(kind),
            _ => None,
        })
    }

    /// Has the disk read what lies around an object that was just read: pages of a tree lie next to each other.
    pub(super) fn fetch_around(&self, location: &Location) {
        let run = u64::from(location.offset) / FETCH_BYTES;
        let place = u64::from(location.pack) << 32 | run;
        if self.fetched.swap(place, Ordering::Relaxed) != place
            && let Ok(pack) = self.pack(location.pack)
        {
            pack.fetch(run * FETCH_BYTES, FETCH_BYTES);
        }
    }

    /// Whether a place holds the header of an object's record, whatever follows it.
    pub(super) fn has_header(&self, id: ObjectId, location: &Location) -> bool {
        let mut bytes = [0; HEADER_LEN];
        let file = self.pack(location.pack);
        let read = file.and_then(|file| file.read(&mut bytes, u64::from(location.offset)));
        read.ok().and_then(|()| Header::decode(&bytes)).is_some_and(|header| {
            let is_same = matches!(header.content, Content::Object { id: found, .. } if found == id);
            is_same && header.stored_len == location.stored_len
        })
    }

    pub(super) fn damaged(&self, id: ObjectId, location: &Location) -> ObjectsError {
        let place = format!("pack {:08} at byte {}", location.pack, location.offset);
        ObjectsError::Damaged { id, place }
    }

    /// An open pack.
    pub(super) fn pack(&self, number: u32) -> Result<Arc<dyn PackFile>, FileError> {
        if let Some(file) = self.open_packs.read().get(&number) {
            return Ok(file.clone());
        }
        let file = self.media.open(number)?;
        let mut open_packs = self.open_packs.write();
        if open_packs.len() >= OPEN_PACKS {
            open_packs.clear();
        }
        Ok(open_packs.entry(number).or_insert(file).clone())
    }

    /// Appends a record unless another thread did since `ticket`. It is durable after [`Packs::flush`].
    pub(super) fn append(
        &self,
        id: ObjectId,
        header: Header,
        payload: &[u8],
        mut ticket: Ticket,
    ) -> Result<(), ObjectsError> {
        let load = loop {
            let appender = self.appender.lock();
            appender.check()?;
            if appender.pending.contains_key(&id) {
                return Ok(());
            }
            if self.batches.load(Ordering::Acquire) != ticket.batches {
                drop(appender);
                match self.find(id)? {
                    Found::Nowhere(newer) => ticket = newer,
                    Found::Indexed(_) | Found::Pending(_) => return Ok(()),
                }
                continue;
            }
            if let Some(load) = self.push(appender, header, payload)? {
                break load;
            }
        };
        self.lighten(load)
    }

    /// Appends the record of an object that is in the index already, at another place. The entry changes when this
    /// one is durable.
    pub(super) fn relocate(&self, header: Header, payload: &[u8]) -> Result<(), ObjectsError> {
        let load = loop {
            let appender = self.appender.lock();
            appender.check()?;
            if let Some(load) = self.push(appender, header, payload)? {
                break load;
            }
        };
        if let Content::Object { raw_len, .. } = header.content {
            // It was counted a second time.
            let counted =
                Usage { objects: 1, raw_bytes: u64::from(raw_len), stored_bytes: header.record_len() };
            let mut appender = self.appender.lock();
            appender.totals = appender.totals.minus(counted);
        }
        self.lighten(load)
    }

    /// Appends a record to the buffer; returns how many times over what waits in memory is a batch, or what waits
    /// for a flush is due. `None` where a new pack had to be begun: to be tried again.
    fn push(
        &self,
        mut appender: MutexGuard<'_, Appender>,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<usize>, ObjectsError> {
        if appender.end() + header.record_len() > self.sizes.pack_bytes && appender.end() > PACK_HEADER_LEN {
            drop(appender);
            self.roll(header.record_len())?;
            return Ok(None);
        }
        if appender.buffer.len() >= self.sizes.buffer_bytes {
            appender.write_out(&*self.media)?;
        }
        appender.push(header, payload);
        let dirty = (appender.written - appender.durable) / self.sizes.dirty_bytes;
        let dirty = usize::try_from(dirty).unwrap_or(usize::MAX);
        Ok(Some(dirty.max(appender.pending.len() / self.sizes.batch_objects)))
    }

    /// Flushes when much waits. One thread does the work while the others go on, up to twice the bound.
    fn lighten(&self, load: usize) -> Result<(), ObjectsError> {
        match load {
            0 => Ok(()),
            1 => match self.flushing.try_lock() {
                Some(flushing) => self.flush_as(&flushing),
                None => Ok(()),
            },
            _ => self.flush(),
        }
    }

    /// Takes over the index's totals: an object that was stored again is counted once.
    pub(super) fn recount(&self) -> Result<(), ObjectsError> {
        let flushing = self.flushing.lock();
        self.flush_as(&flushing)?;
        self.index_pending(&flushing)?;
        let mut appender = self.appender.lock();
        if appender.pending.is_empty() {
            appender.totals = self.index.totals()?;
        }
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub(super) fn flush(&self) -> Result<(), ObjectsError> {
        self.flush_as(&self.flushing.lock())
    }

    fn flush_as(&self, flushing: &MutexGuard<'_, ()>) -> Result<(), ObjectsError> {
        let (file, written, name_new) = {
            let mut appender = self.appender.lock();
            appender.check()?;
            if !appender.is_dirty() {
                return Ok(());
            }
            (appender.write_out(&*self.media)?, appender.written, appender.name_new)
        };
        let result = file.sync().and_then(|()| if name_new { self.media.sync_names() } else { Ok(()) });
        let waiting = {
            let mut appender = self.appender.lock();
            match result {
                Ok(()) => {
                    appender.durable = written;
                    appender.name_new = false;
                }
                Err(error) => self.salvage(&mut appender, &error)?,
            }
            appender.pending.len()
        };
        if waiting >= self.sizes.batch_objects {
            self.index_pending(flushing)?;
        }
        Ok(())
    }

    /// Seals the pack when a record of `record_len` bytes does not fit any more, and goes on in a new one. All of a
    /// sealed pack is durable: after a crash only the newest can be torn.
    fn roll(&self, record_len: u64) -> Result<(), ObjectsError> {
        let flushing = self.flushing.lock();
        self.flush_as(&flushing)?;
        {
            let mut appender = self.appender.lock();
            appender.check()?;
            let fits = appender.end().saturating_add(record_len) <= self.sizes.pack_bytes;
            if fits || appender.end() <= PACK_HEADER_LEN {
                return Ok(());
            }
            if appender.is_dirty() {
                // What other threads appended during the flush above.
                let file = appender.write_out(&*self.media)?;
                match file.sync() {
                    Ok(()) => appender.durable = appender.written,
                    Err(error) => return self.salvage(&mut appender, &error),
                }
            }
            appender.seal();
            let (pack, durable) = (appender.pack, appender.durable);
            appender.start(pack + 1, durable);
        }
        self.index_pending(&flushing)
    }

    /// Seals the newest pack, however short it is, unless it is empty.
    pub(super) fn seal(&self) -> Result<(), ObjectsError> {
        self.roll(u64::MAX)
    }

    /// The number of the pack that records are appended to.
    pub(super) fn newest(&self) -> u32 {
        self.appender.lock().pack
    }

    /// Takes objects out of the index that are still at these places; returns how much they took. Their records stay
    /// until their packs are removed.
    pub(super) fn forget(&self, entries: &[(ObjectId, Location)]) -> Result<Usage, ObjectsError> {
        let removed = self.index.remove(entries)?;
        let mut appender = self.appender.lock();
        appender.totals = appender.totals.minus(removed);
        Ok(removed)
    }

    /// Removes a sealed pack of which nothing is used. First the index forgets it, durably: a pack that the index
    /// knows and that is not there would be lost data. `false`: the index was made anew since renewal `renewals`.
    pub(super) fn remove_pack(&self, number: u32, renewals: u64) -> Result<bool, ObjectsError> {
        if !self.index.remove_pack(number, renewals)? {
            return Ok(false);
        }
        self.media.remove(number)?;
        self.open_packs.write().remove(&number);
        self.media.sync_names().map(|()| true).map_err(ObjectsError::from)
    }

    /// Moves what is durable from memory to the index.
    fn index_pending(&self, _flushing: &MutexGuard<'_, ()>) -> Result<(), ObjectsError> {
        let (batch, pack, durable) = {
            let appender = self.appender.lock();
            let (pack, durable) = (appender.pack, appender.durable);
            if appender.sealed.is_empty() && appender.indexed == durable {
                return Ok(());
            }
            let entries = appender.pending.iter().filter(|(_, location)| appender.is_durable(location));
            let mut packs = appender.sealed.clone();
            packs.extend((durable > 0).then_some((pack, durable)));
            (
                Batch { entries: entries.map(|(id, location)| (*id, *location)).collect(), packs },
                pack,
                durable,
            )
        };
        let packs = batch.packs.clone();
        let ids: Vec<ObjectId> = batch.entries.iter().map(|(id, _)| *id).collect();
        self.index.add(batch)?;
        let mut appender = self.appender.lock();
        for id in ids {
            appender.pending.remove(&id);
        }
        appender.sealed.retain(|sealed| !packs.contains(sealed));
        if appender.pack == pack {
            appender.indexed = durable;
        }
        self.batches.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes everything durable, the index included.
    pub(super) fn settle(&self) -> Result<(), ObjectsError> {
        let flushing = self.flushing.lock();
        self.flush_as(&flushing)?;
        self.index_pending(&flushing)
    }

    /// After a failed device flush: everything since the last good one goes into a new pack (see the module).
    fn salvage(&self, appender: &mut Appender, error: &FileError) -> Result<(), ObjectsError> {
        log::error!("{error}: what was written since the last flush is written again to a new pack");
        let file = appender.file.clone().expect("a pack that was flushed was written");
        let (pack, durable) = (appender.pack, appender.durable);
        let start = durable.max(PACK_HEADER_LEN);
        let mut bytes = vec![0; (appender.written - start) as usize];
        if let Err(error) = file.read(&mut bytes, start) {
            return Err(appender.fail(&[(&file, durable)], error.to_string()));
        }
        bytes.extend_from_slice(&appender.buffer);
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while let Some(header) = Header::decode(rest) {
            let Some(payload) = rest.get(HEADER_LEN..header.record_len() as usize) else { break };
            if !header.matches(payload) {
                break;
            }
            records.push((header, payload));
            rest = &rest[header.record_len() as usize..];
        }
        if !rest.is_empty() {
            return Err(appender.fail(&[(&file, durable)], error.to_string()));
        }
        appender.seal();
        appender.start(pack + 1, durable);
        for (header, payload) in records {
            appender.push(header, payload);
        }
        let result = appender.write_out(&*self.media).and_then(|new| {
            new.sync()?;
            self.media.sync_names()
        });
        if let Err(error) = result {
            let mut files = vec![(&file, durable)];
            let new = appender.file.clone();
            files.extend(new.iter().map(|new| (new, 0)));
            return Err(appender.fail(&files, error.to_string()));
        }
        appender.durable = appender.written;
        appender.name_new = false;
        if let Err(error) = file.truncate(durable) {
            // Its records are whole or torn; each has a checksum, and all of them are in the new pack too.
            log::warn!("{error}");
        }
        Ok(())
    }
}
