//! Reading everything, and comparing it with its names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;

use super::packs::{Found, Stored};
use super::record::{Content, Location, PACK_HEADER_LEN, PackHeader};
use super::scan::{Stretch, scan};
use super::store::{LIST_ENTRIES, expand_checked};
use super::{ObjectId, Objects, ObjectsError, plain};
use crate::base::files;

/// How many damages a report names: a lost pack alone can be tens of thousands.
const DAMAGES_MAX: usize = 1000;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Objects read.
    pub objects: u64,
    /// Bytes read, as they are stored.
    pub bytes: u64,
    /// Bytes to be read, as they are stored; what comes in meanwhile is left out.
    pub bytes_total: u64,
}

/// Something that is not as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// An object whose bytes do not match its name.
    Object {
        /// The object.
        id: ObjectId,
        /// Where it is.
        place: String,
    },
    /// An object whose place holds no record any more.
    Lost {
        /// The object.
        id: ObjectId,
        /// Where it was.
        place: String,
    },
    /// Bytes that are no record. Objects that were in them are named as lost.
    Unreadable {
        /// Where they are.
        place: String,
        /// How many.
        bytes: u64,
    },
    /// The index was not as it was written. It has been made anew from the packs.
    Index {
        /// What was wrong.
        reason: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Object { id, place } => write!(out, "object {id} is damaged in {place}"),
            Damage::Lost { id, place } => write!(out, "object {id} is lost: it was in {place}"),
            Damage::Unreadable { place, bytes } => write!(out, "{bytes} bytes cannot be read in {place}"),
            Damage::Index { reason } => {
                write!(out, "{reason}: it only says where objects are, and was made anew from the packs")
            }
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Objects that are as their names say.
    pub sound: u64,
    /// What is damaged; of very much, the first thousand.
    pub damages: Vec<Damage>,
    /// How many damages there are.
    pub damages_count: u64,
    /// Every object that is damaged or lost.
    pub bad: BTreeSet<ObjectId>,
}

impl VerifyReport {
    /// Whether there is damage to what is stored. A damaged index is none any more.
    pub fn needs_repair(&self) -> bool {
        let mended = self.damages.iter().filter(|damage| matches!(damage, Damage::Index { .. })).count();
        self.damages_count > mended as u64
    }
}

/// A verification under way.
struct Verification<'a> {
    objects: &'a Objects,
    report: VerifyReport,
    progress: VerifyProgress,
    each: &'a mut dyn FnMut(VerifyProgress),
    /// Packs that could not be read in one go, and how far the reading came.
    unread: BTreeMap<u32, u64>,
}

fn place(location: &Location) -> String {
    format!("pack {:08} at byte {}", location.pack, location.offset)
}

impl Objects {
    /// Reads every object and compares it with its name; `each` is told how far it is after every object. Changes
    /// go on meanwhile; what they add is left out. A damaged index is made anew first. An error means that nothing is known about the rest: a place that
    /// cannot be read is damage, not an error.
    pub fn verify(&self, each: &mut dyn FnMut(VerifyProgress)) -> Result<VerifyReport, ObjectsError> {
        // Nothing is taken away meanwhile.
        let _maintenance = self.maintenance.lock();
        let index_damage = self.packs.index.mend()?;
        self.flush()?;
        self.packs.recount()?;
        let progress = VerifyProgress { bytes_total: self.usage().stored_bytes, ..VerifyProgress::default() };
        let mut verification = Verification {
            objects: self,
            report: VerifyReport::default(),
            progress,
            each,
            unread: BTreeMap::new(),
        };
        if let Some(reason) = index_damage {
            verification.damage(Damage::Index { reason });
        }
        let indexed = self.packs.index.totals()?.objects;
        let packs = self.packs.index.packs();
        for &(pack, len) in &packs {
            verification.pack(pack, len)?;
        }
        if verification.report.sound < indexed {
            verification.index(&packs)?;
        }
        verification.plain_files()?;
        Ok(verification.report)
    }
}

impl Verification<'_> {
    fn damage(&mut self, damage: Damage) {
        self.report.damages_count += 1;
        if let Damage::Object { id, .. } | Damage::Lost { id, .. } = &damage {
            self.report.bad.insert(*id);
        }
        if self.report.damages.len() < DAMAGES_MAX {
            self.report.damages.push(damage);
        }
    }

    fn count(&mut self, bytes: u64) {
        self.progress.objects += 1;
        self.progress.bytes += bytes;
        (self.each)(self.progress);
    }

    /// The pack `number`, of which `len` bytes are in the index.
    fn pack(&mut self, number: u32, len: u64) -> Result<(), ObjectsError> {
        let unreadable = |why: String, bytes| Damage::Unreadable { place: why, bytes };
        let file = match self.objects.packs.media.open(number) {
            Ok(file) => file,
            Err(error) => {
                self.unread.insert(number, 0);
                self.damage(unreadable(error.to_string(), len));
                return Ok(());
            }
        };
        let len = len.min(file.len()?);
        let mut reached = 0;
        let mut header = [0; PACK_HEADER_LEN as usize];
        let start = match file.read(&mut header, 0).ok().and_then(|()| PackHeader::decode(&header).ok()) {
            Some(header) if header.number == number => PACK_HEADER_LEN,
            _ => 0,
        };
        let result = scan(&*file, number, start, len, &mut |stretch, payload| {
            reached = stretch.end();
            self.stretch(number, stretch, payload)
        });
        match result {
            // A sector that cannot be read: in the rest of the pack each object that the index knows is read by itself.
            Err(ObjectsError::File(error)) => {
                self.unread.insert(number, reached);
                self.damage(unreadable(error.to_string(), len - reached));
            }
            other => other?,
        }
        Ok(())
    }

    fn stretch(&mut self, number: u32, stretch: Stretch, payload: &[u8]) -> Result<(), ObjectsError> {
        let is_current = |id, offset: u64| {
            let found = self.objects.packs.find(id)?;
            Ok::<_, ObjectsError>(matches!(
                found,
                Found::Indexed(location) if location.pack == number && u64::from(location.offset) == offset
            ))
        };
        match stretch {
            Stretch::Object { id, kind, header, location } => {
                // Another copy may be elsewhere, or nobody may need it any more.
                if !is_current(id, u64::from(location.offset))? {
                    return Ok(());
                }
                match expand_checked(id, kind, Stored { header, payload: payload.to_vec() }) {
                    Some(_) => self.report.sound += 1,
                    None => self.damage(Damage::Object { id, place: place(&location) }),
                }
                self.count(location.record_len());
            }
            Stretch::Gap { offset, length, id, is_unread } => {
                let place = format!("pack {number:08} at byte {offset}");
                let packs = &self.objects.packs;
                match id {
                    Some(id) if is_current(id, offset)? => self.damage(Damage::Object { id, place }),
                    // An index that was made anew meanwhile does not know it.
                    Some(id)
                        if is_unread
                            && packs.index.is_partial()
                            && matches!(packs.find(id)?, Found::Nowhere(_)) =>
                    {
                        self.damage(Damage::Object { id, place });
                    }
                    Some(_) => {}
                    None => self.damage(Damage::Unreadable { place, bytes: length }),
                }
                self.count(length);
            }
        }
        Ok(())
    }

    /// Looks for every object that the index has in the known part of the packs.
    fn index(&mut self, packs: &[(u32, u64)]) -> Result<(), ObjectsError> {
        let mut after = None;
        loop {
            let entries = self.objects.packs.index.list(after, LIST_ENTRIES)?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            after = Some(*last);
            for (id, location) in entries {
                let known = packs.iter().any(|(pack, len)| *pack == location.pack && location.end() <= *len);
                let unread =
                    self.unread.get(&location.pack).is_some_and(|from| u64::from(location.offset) >= *from);
                if known && unread {
                    self.single(id, &location);
                } else if known && !self.objects.packs.has_header(id, &location) {
                    self.damage(Damage::Lost { id, place: place(&location) });
                }
            }
        }
    }

    /// Reads one object by itself.
    fn single(&mut self, id: ObjectId, location: &Location) {
        let stored = self.objects.packs.read(id).ok().flatten().map(|(_, stored)| stored);
        let content = stored.and_then(|stored| match stored.header.content {
            Content::Object { kind, .. } => expand_checked(id, kind, stored),
            Content::Filler => None,
        });
        match content {
            Some(_) => self.report.sound += 1,
            None => self.damage(Damage::Object { id, place: place(location) }),
        }
        self.count(location.record_len());
    }

    fn plain_files(&mut self) -> Result<(), ObjectsError> {
        self.objects.plain.each_durable(&mut |id, size| {
            let path = self.objects.plain.path_of(id);
            match files::open(&path).and_then(|file| plain::hash(&file, &path)) {
                Ok((found, _)) if found == id => self.report.sound += 1,
                // A link that leads nowhere is still there.
                Err(error) if error.kind() == ErrorKind::NotFound && files::metadata(&path)?.is_none() => {}
                _ => self.damage(Damage::Object { id, place: path.display().to_string() }),
            }
            self.count(size);
            Ok(())
        })
    }
}
