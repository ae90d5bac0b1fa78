//! The end of the newest pack: what is buffered, written and durable. Packs' locks are in [`super::packs`].

use std::collections::HashMap;
use std::sync::Arc;

use super::media::{Media, PackFile};
use super::record::{Content, HEADER_LEN, Header, Location, PACK_HEADER_LEN, PackHeader};
use super::{ObjectId, ObjectsError, Usage};
use crate::base::FileError;

pub(super) struct Appender {
    /// The number of the pack.
    pub(super) pack: u32,
    /// The pack; `None` until its first bytes are written.
    pub(super) file: Option<Arc<dyn PackFile>>,
    /// Whether the pack's name is not durable yet.
    pub(super) name_new: bool,
    /// What is not written yet.
    pub(super) buffer: Vec<u8>,
    /// How much is written: where `buffer` begins in the pack, in bytes.
    pub(super) written: u64,
    /// How much is durable, in bytes.
    pub(super) durable: u64,
    /// Up to where the index knows the pack, in bytes.
    pub(super) indexed: u64,
    /// Objects that are not in the index yet.
    pub(super) pending: HashMap<ObjectId, Location>,
    /// Packs that are complete and durable, with objects in `pending`, and their lengths.
    pub(super) sealed: Vec<(u32, u64)>,
    /// How much the index and `pending` hold together.
    pub(super) totals: Usage,
    /// Why nothing more is written.
    pub(super) failed: Option<String>,
}

impl Appender {
    /// An appender behind the first `len` bytes of an existing pack, all of them durable. Where nothing of the pack
    /// survived, its header is written again.
    pub(super) fn resume(
        pack: u32,
        file: Arc<dyn PackFile>,
        len: u64,
        previous_len: u64,
        totals: Usage,
    ) -> Appender {
        let mut appender = Appender::new(pack, previous_len, totals);
        appender.file = Some(file);
        if len > 0 {
            appender.buffer.clear();
            (appender.written, appender.durable, appender.indexed) = (len, len, len);
        }
        appender
    }

    /// An appender at the start of a new pack.
    pub(super) fn new(pack: u32, previous_len: u64, totals: Usage) -> Appender {
        let mut appender = Appender {
            pack,
            file: None,
            name_new: true,
            buffer: Vec::new(),
            written: 0,
            durable: 0,
            indexed: 0,
            pending: HashMap::new(),
            sealed: Vec::new(),
            totals,
            failed: None,
        };
        appender.start(pack, previous_len);
        appender
    }

    /// Goes on in a new pack. What is buffered must have been dealt with.
    pub(super) fn start(&mut self, pack: u32, previous_len: u64) {
        self.pack = pack;
        self.file = None;
        self.name_new = true;
        (self.written, self.durable, self.indexed) = (0, 0, 0);
        self.buffer.clear();
        self.buffer.extend_from_slice(&PackHeader { number: pack, previous_len }.encode());
    }

    /// The pack is complete and durable: notes it for the index.
    pub(super) fn seal(&mut self) {
        if self.durable > 0 {
            self.sealed.push((self.pack, self.durable));
        }
    }

    pub(super) fn check(&self) -> Result<(), ObjectsError> {
        match &self.failed {
            Some(reason) => Err(ObjectsError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a record is not durable yet. The header of a pack alone is nothing to keep.
    pub(super) fn is_dirty(&self) -> bool {
        self.end() > self.durable.max(PACK_HEADER_LEN)
    }

    /// Whether a record is durable.
    pub(super) fn is_durable(&self, location: &Location) -> bool {
        location.pack != self.pack || location.end() <= self.durable
    }

    /// Appends a record to the buffer; it must fit into the pack.
    pub(super) fn push(&mut self, mut header: Header, payload: &[u8]) {
        let Content::Object { id, raw_len, .. } = header.content else { return };
        let location = Location {
            pack: self.pack,
            offset: u32::try_from(self.end()).expect("a pack ends soon after 256 MiB"),
            stored_len: header.stored_len,
            raw_len,
        };
        header.durable_len = u32::try_from(self.durable).expect("a pack ends soon after 256 MiB");
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(payload);
        if self.pending.insert(id, location).is_none() {
            self.totals = self.totals.plus(Usage::of(&location));
        }
    }

    /// The bytes of a record that is still in the buffer.
    pub(super) fn buffered(&self, location: &Location) -> Option<&[u8]> {
        if location.pack != self.pack {
            return None;
        }
        let start = u64::from(location.offset).checked_sub(self.written)? as usize;
        self.buffer.get(start..start + HEADER_LEN + location.stored_len as usize)
    }

    /// Writes the buffer. When it fails the buffer is kept and the next attempt writes the same bytes to the same
    /// place: nothing that was accepted is lost to a full disk.
    pub(super) fn write_out(&mut self, media: &dyn Media) -> Result<Arc<dyn PackFile>, FileError> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(media.create(self.pack)?).clone(),
        };
        if !self.buffer.is_empty() {
            file.write(&self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(file)
    }

    /// Gives up: forgets every object that is not durable, and refuses more.
    ///
    /// The pack is cut to what is durable, also in the kernel's cache: otherwise a process that opens the store
    /// before the machine restarts would find records there that are on no disk.
    pub(super) fn fail(&mut self, files: &[(&Arc<dyn PackFile>, u64)], reason: String) -> ObjectsError {
        log::error!("the store takes no more changes: {reason}");
        for (file, durable) in files {
            if let Err(error) = file.truncate(*durable) {
                log::error!("{error}: restart the machine before the daemon");
            }
        }
        let (pack, durable) = (self.pack, self.durable);
        let totals = &mut self.totals;
        self.pending.retain(|_, location| {
            let kept = location.pack != pack || location.end() <= durable;
            if !kept {
                *totals = totals.minus(Usage::of(location));
            }
            kept
        });
        self.buffer = Vec::new();
        self.failed = Some(reason.clone());
        ObjectsError::Failed { reason }
    }
}
