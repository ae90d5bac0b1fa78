//! Putting damaged objects right from whatever is left of them.
//!
//! Nothing is believed but bytes that hash to the object's name, so whatever is tried, a wrong guess costs time only. An
//! object is looked for where the index says it is (its header may be all that is damaged), then in every record of
//! every pack; for that the index is made anew, which may be another store's. One that is nowhere is forgotten: until then it counts as present, and whoever stores the same content
//! again would be told that it is there.
//!
//! Power fails here: a copy is durable before the index refers to it, and damaged bytes are covered last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::media::PackFile;
use super::packs::{Found, Stored};
use super::record::{Codec, HEADER_LEN, Header, Location, PACK_HEADER_LEN, PackHeader};
use super::recovery::{Gap, cover};
use super::scan::{Stretch, scan};
use super::store::expand_checked;
use super::{Kind, ObjectId, Objects, ObjectsError, codec};
use crate::base::limits::OBJECT_BYTES_MAX;

/// What became of damaged objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Those of which there is a whole copy again.
    pub restored: BTreeSet<ObjectId>,
    /// Those of which nothing is left. They count as absent now: storing their content again brings them back.
    pub lost: BTreeSet<ObjectId>,
}

impl Objects {
    /// Looks for whole copies of `bad` objects and makes them the ones that are read; forgets those that have none, and
    /// covers what is no record in the packs, so that a later verification is clean but for what is lost.
    pub fn repair(&self, bad: &BTreeSet<ObjectId>) -> Result<Repaired, ObjectsError> {
        let _maintenance = self.maintenance.lock();
        self.flush()?;
        self.packs.settle()?;
        let mut repaired = Repaired::default();
        for id in bad {
            if self.salvage(*id)? {
                repaired.restored.insert(*id);
            }
        }
        self.packs.settle()?;
        let is_packed = |id: &&ObjectId| !matches!(self.plain.contains(**id), Ok(true));
        if bad.difference(&repaired.restored).any(|id| is_packed(&id)) {
            // What leads to nothing may lead elsewhere for other objects, too, and there may be more than it knows.
            self.packs.index.remake()?;
        }
        let mut gaps = Vec::new();
        let packs = self.packs.index.packs();
        let mut previous_len = 0;
        for &(number, len) in &packs {
            let copies = self.copies(number, len, bad, &repaired.restored, &mut gaps, previous_len)?;
            previous_len = len;
            for (id, location) in copies {
                let batch = super::index::Batch { entries: vec![(id, location)], packs: Vec::new() };
                self.packs.index.add(batch)?;
                repaired.restored.insert(id);
            }
        }
        repaired.lost = bad.difference(&repaired.restored).copied().collect();
        let mut lost = Vec::new();
        for id in &repaired.lost {
            lost.extend(self.packs.index.get(*id)?.map(|location| (*id, location)));
        }
        self.packs.forget(&lost)?;
        for id in &repaired.lost {
            self.plain.set_aside(*id, &self.packs.index)?;
        }
        for (file, gap, header) in gaps {
            let covered = cover(&*file, &gap, header).and_then(|_| Ok(file.sync()?));
            match covered {
                // What cannot be read can often not be written either; it is given up all the same.
                Err(error) if gap.is_unread => log::warn!("{error}"),
                other => other?,
            }
        }
        self.packs.index.give_up_unread()?;
        self.packs.recount()?;
        Ok(repaired)
    }

    /// Stores an object again whose payload is whole where the index says, whatever its header is.
    fn salvage(&self, id: ObjectId) -> Result<bool, ObjectsError> {
        let Found::Indexed(location) = self.packs.find(id)? else { return Ok(false) };
        let mut payload = vec![0; location.stored_len as usize];
        let read = self
            .packs
            .pack(location.pack)
            .and_then(|file| file.read(&mut payload, u64::from(location.offset) + HEADER_LEN as u64));
        if read.is_err() || location.raw_len as usize > OBJECT_BYTES_MAX {
            return Ok(false);
        }
        for codec in [Codec::Raw, Codec::Zstd] {
            let Some(content) = codec::expand(codec, payload.clone(), location.raw_len as usize) else {
                continue;
            };
            let kinds = [Kind::Chunk, Kind::ChunkList, Kind::TreePage, Kind::Snapshot];
            if let Some(kind) = kinds.into_iter().find(|kind| ObjectId::of(*kind, &content) == id) {
                let header = Header::object(id, kind, codec, location.raw_len, &payload, 0);
                self.packs.relocate(header, &payload)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The places of whole copies of wanted objects in one pack, of which `len` bytes are in the index; what is no record
    /// goes to `gaps`.
    fn copies(
        &self,
        number: u32,
        len: u64,
        bad: &BTreeSet<ObjectId>,
        restored: &BTreeSet<ObjectId>,
        gaps: &mut Vec<(Arc<dyn PackFile>, Gap, PackHeader)>,
        previous_len: u64,
    ) -> Result<BTreeMap<ObjectId, Location>, ObjectsError> {
        let mut copies = BTreeMap::new();
        // A pack that is gone has no copies.
        let Ok(file) = self.packs.media.open(number) else { return Ok(copies) };
        let len = len.min(file.len()?);
        let mut header = [0; PACK_HEADER_LEN as usize];
        let pack_header = PackHeader { number, previous_len };
        let start = match file.read(&mut header, 0).ok().and_then(|()| PackHeader::decode(&header).ok()) {
            Some(header) if header.number == number => PACK_HEADER_LEN,
            _ => 0,
        };
        let result = scan(&*file, number, start, len, &mut |stretch, payload| {
            match stretch {
                Stretch::Object { id, kind, header, location }
                    if bad.contains(&id) && !restored.contains(&id) =>
                {
                    if expand_checked(id, kind, Stored { header, payload: payload.to_vec() }).is_some() {
                        copies.insert(id, location);
                    }
                }
                Stretch::Gap { offset, length, id: None, is_unread } => {
                    gaps.push((Arc::clone(&file), Gap { offset, length, is_unread }, pack_header));
                }
                Stretch::Object { .. } | Stretch::Gap { .. } => {}
            }
            Ok::<_, ObjectsError>(())
        });
        match result {
            // A sector that cannot be read: what was found before it counts.
            Err(ObjectsError::File(error)) => log::warn!("{error}"),
            other => other?,
        }
        Ok(copies)
    }
}
