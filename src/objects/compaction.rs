//! Compaction: what is still used of a pack is copied to the newest one, and the pack removed.
//!
//! One pack at a time, so the disk must have room for what is used of one pack (192 MiB at most) beyond what is stored.
//! Packs of which nothing is used go first, then those of which least is: each makes room for the next.

use super::collection::{Collection, Swept};
use super::packs::Found;
use super::record::{PACK_HEADER_LEN, PackHeader};
use super::scan::{Stretch, scan};
use super::{Objects, ObjectsError};

/// A pack is compacted when this part of it (a quarter), or more, is unused. Less is not worth the writing: a store
/// holds a third more than is used, at most.
const UNUSED_SHARE: u64 = 4;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// How many packs were removed.
    pub packs: u64,
    /// Their lengths, in bytes.
    pub removed_bytes: u64,
    /// What was copied out of them, in bytes.
    pub copied_bytes: u64,
    /// How many packs are damaged, and were therefore left alone.
    pub damaged: u64,
}

impl Collection<'_> {
    /// Compacts the packs of which much is unused after `swept`. `each` is told after each pack.
    pub fn compact(
        &self,
        swept: &Swept,
        each: &mut dyn FnMut(&Compacted),
    ) -> Result<Compacted, ObjectsError> {
        let packs = &self.objects.packs;
        let is_worth_it = |(number, len): &(u32, u64)| {
            let used = swept.used.get(number).copied().unwrap_or_default();
            let unused = len.saturating_sub(PACK_HEADER_LEN + used);
            unused > 0 && unused * UNUSED_SHARE >= *len
        };
        let mut chosen: Vec<(u32, u64)> = packs.index.packs().into_iter().filter(is_worth_it).collect();
        chosen.sort_by_key(|(number, _)| swept.used.get(number).copied().unwrap_or_default());
        // Nothing may be appended to a pack that is about to go.
        if chosen.iter().any(|(number, _)| *number >= packs.newest()) {
            packs.seal()?;
        }
        let mut done = Compacted::default();
        for (number, len) in chosen {
            if number >= packs.newest() {
                continue;
            }
            loop {
                let renewals = packs.index.renewals();
                let Some(copied) = self.objects.empty_pack(number)? else {
                    done.damaged += 1;
                    break;
                };
                done.copied_bytes += copied;
                // Else the index was made anew meanwhile, and may refer to the pack again.
                if packs.remove_pack(number, renewals)? {
                    done.packs += 1;
                    done.removed_bytes += len;
                    break;
                }
            }
            each(&done);
        }
        Ok(done)
    }
}

impl Objects {
    /// Copies what is used of a sealed pack to the newest, durably and with its new place in the index; returns how
    /// many bytes. `None` when a part of the pack cannot be read: it may hold what is used, and stays.
    pub(super) fn empty_pack(&self, number: u32) -> Result<Option<u64>, ObjectsError> {
        let file = self.packs.media.open(number)?;
        let len = file.len()?;
        let mut header = [0; PACK_HEADER_LEN as usize];
        let has_header = len >= PACK_HEADER_LEN
            && file.read(&mut header, 0).is_ok()
            && PackHeader::decode(&header).is_ok_and(|header| header.number == number);
        if !has_header {
            log::error!("{} is damaged and not compacted: run `sitefs verify`", file.path().display());
            return Ok(None);
        }
        let (mut copied, mut whole) = (0, true);
        scan(&*file, number, PACK_HEADER_LEN, len, &mut |stretch, payload| {
            match stretch {
                Stretch::Object { id, header, location, .. } => {
                    if self.packs.find(id)? == Found::Indexed(location) {
                        self.packs.relocate(header, payload)?;
                        copied += location.record_len();
                    }
                }
                Stretch::Gap { offset, length, .. } => {
                    let path = file.path();
                    log::error!(
                        "{}: {length} bytes at byte {offset} are damaged, so it is not compacted: \
                         run `sitefs verify`",
                        path.display()
                    );
                    whole = false;
                }
            }
            Ok::<_, ObjectsError>(())
        })?;
        self.packs.settle()?;
        Ok(whole.then_some(copied))
    }
}
