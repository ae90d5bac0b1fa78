//! Opening packs: what the index does not know yet is scanned, what a power cut tore is cut off.
//!
//! Only the newest pack is ever changed, and only where no flush can have vouched for the bytes: a torn end is cut
//! off; a torn place with whole records behind it (the kernel writes in any order) is covered by a filler. Damage
//! anywhere else is reported and left as it is; so is a pack of which a part cannot be read, since it may be whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::ObjectsError;
use super::appender::Appender;
use super::index::{Batch, Index};
use super::media::{Media, PackFile};
use super::packs::{Packs, Sizes};
use super::record::{HEADER_LEN, Header, PACK_HEADER_LEN, PackHeader, PackHeaderError};
use super::renewal::unread_place;
use super::scan::{Stretch, scan};
use crate::base::files;

/// How many objects go to the index together.
pub(super) const BATCH_OBJECTS: usize = 32_768;

/// A stretch of a pack that holds no record.
pub(super) struct Gap {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether the disk refused to be read there.
    pub(super) is_unread: bool,
}

/// What a scan of one pack found.
struct Scanned {
    gaps: Vec<Gap>,
    /// Parts that the disk refused to be read.
    unread: Vec<String>,
    /// How much of the pack was durable when its youngest record was made, in bytes.
    durable: u64,
}

impl Packs {
    /// Opens the packs in `media`, bringing the index in the file `index_path` up to date.
    pub(super) fn open(
        media: Arc<dyn Media>,
        index_path: &Path,
        sizes: Sizes,
    ) -> Result<Packs, ObjectsError> {
        match Packs::open_once(media.clone(), index_path, sizes) {
            // It is noted as damaged now, and made anew.
            Err(ObjectsError::Index(error)) if error.is_damaged() => {
                Packs::open_once(media, index_path, sizes)
            }
            result => result,
        }
    }

    fn open_once(media: Arc<dyn Media>, index_path: &Path, sizes: Sizes) -> Result<Packs, ObjectsError> {
        let numbers = media.list()?;
        let mut index = Index::open(index_path, media.clone())?;
        if !is_of_packs(&index, &*media, &numbers)? {
            drop(index);
            files::remove_file(index_path)?;
            index = Index::open(index_path, media.clone())?;
        }
        let known: BTreeMap<u32, u64> = index.packs().into_iter().collect();
        let mut previous_len = 0;
        let mut newest = None;
        let mut unread = Vec::new();
        for (place, &number) in numbers.iter().enumerate() {
            let from = known.get(&number).copied().unwrap_or(0);
            let file = match media.open(number) {
                Ok(file) => file,
                Err(error) => {
                    // Whoever needs its objects is told; all others are readable.
                    unread.push(error.to_string());
                    (previous_len, newest) = (from, None);
                    continue;
                }
            };
            match numbers.get(place + 1) {
                Some(&next) => {
                    previous_len = file.len()?;
                    if from < previous_len {
                        let vouched = vouched_len(&*media, number, next, &*file)?;
                        unread.extend(catch_up_sealed(&index, number, &*file, from, vouched)?);
                    }
                }
                None => {
                    let header = PackHeader { number, previous_len };
                    let (end, not_read) = catch_up_newest(&index, header, &*file, from)?;
                    unread.extend(not_read);
                    newest = Some((number, end, file));
                }
            }
        }
        media.sync_names()?;
        index.lacks(unread)?;
        index.complete();
        let totals = index.totals()?;
        let unused = numbers.last().map_or(1, |newest| newest + 1);
        let appender = match newest {
            Some((number, Some(len), file)) if number + 1 == unused => {
                Appender::resume(number, file, len, previous_len, totals)
            }
            Some((_, _, file)) => Appender::new(unused, file.len()?, totals),
            None => Appender::new(unused, previous_len, totals),
        };
        Ok(Packs::new(media, index, appender, sizes))
    }
}

/// Whether the packs hold all that the index speaks of, and end where it says, or go on there. One that comes from elsewhere
/// would have records taken for torn ones.
fn is_of_packs(index: &Index, media: &dyn Media, numbers: &[u32]) -> Result<bool, ObjectsError> {
    for (number, indexed) in index.packs() {
        let len = match numbers.binary_search(&number) {
            Ok(_) => match media.open(number).and_then(|file| Ok((file.len()?, file))) {
                Ok((len, file)) => {
                    if len > indexed && !is_between_records(&*file, indexed) {
                        log::error!(
                            "pack {number:08}: no record ends at byte {indexed}, as the index says: it is made anew"
                        );
                        return Ok(false);
                    }
                    len
                }
                Err(error) => {
                    log::error!("{error}");
                    continue;
                }
            },
            Err(_) => 0,
        };
        if len < indexed {
            log::error!(
                "pack {number:08} has {len} bytes and should have {indexed}: its objects are lost; \
                 the index is made anew from what is there"
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a record ends at an offset, going from header to header. `true`, too, where that cannot be read.
fn is_between_records(file: &dyn PackFile, offset: u64) -> bool {
    let mut at = PACK_HEADER_LEN;
    while at < offset {
        let mut bytes = [0; HEADER_LEN];
        match file.read(&mut bytes, at) {
            Ok(()) => match Header::decode(&bytes) {
                Some(header) => at += header.record_len(),
                None => return false,
            },
            Err(error) => return error.kind() != ErrorKind::UnexpectedEof,
        }
    }
    at == offset || offset == 0
}

/// How much of a pack with a successor was ever durable, in bytes: the successor's header says so.
fn vouched_len(media: &dyn Media, number: u32, next: u32, file: &dyn PackFile) -> Result<u64, ObjectsError> {
    if next != number + 1 {
        // The header speaks of a pack between them, which a compaction removed.
        return file.len().map_err(ObjectsError::from);
    }
    let next_file = media.open(next)?;
    match pack_header(&*next_file)? {
        Ok(header) if header.number == next => Ok(header.previous_len.min(file.len()?)),
        _ => Ok(file.len()?),
    }
}

fn pack_header(file: &dyn PackFile) -> Result<Result<PackHeader, PackHeaderError>, ObjectsError> {
    let mut bytes = vec![0; file.len()?.min(PACK_HEADER_LEN) as usize];
    Ok(match file.read(&mut bytes, 0) {
        Ok(()) => PackHeader::decode(&bytes),
        // The scan finds out what can be read.
        Err(_) => Err(PackHeaderError::Damaged),
    })
}

/// Scans a pack from `from` to its end and adds what is found to the index, telling it that the pack is known up
/// to there.
fn catch_up(index: &Index, number: u32, file: &dyn PackFile, from: u64) -> Result<Scanned, ObjectsError> {
    let len = file.len()?;
    let from = match (from, pack_header(file)?) {
        (0, Ok(header)) if header.number == number => PACK_HEADER_LEN,
        (0, Err(PackHeaderError::Version(version))) => {
            let reason = format!("it has format version {version}: use a newer sitefs");
            return Err(ObjectsError::Format { path: file.path(), reason });
        }
        (from, _) => from,
    };
    // What a killed process left in the kernel's cache must be on the disk before the index speaks of it.
    file.sync()?;
    let mut scanned = Scanned { gaps: Vec::new(), unread: Vec::new(), durable: from };
    let mut batch = Batch::default();
    let result = scan(file, number, from, len, &mut |stretch, _| {
        match stretch {
            Stretch::Object { id, header, location, .. } => {
                scanned.durable = scanned.durable.max(u64::from(header.durable_len));
                batch.entries.push((id, location));
                if batch.entries.len() >= BATCH_OBJECTS {
                    batch.packs.push((number, location.end()));
                    index.add(std::mem::take(&mut batch))?;
                }
            }
            Stretch::Gap { offset, length, is_unread, .. } => {
                scanned.gaps.push(Gap { offset, length, is_unread });
            }
        }
        Ok::<_, ObjectsError>(())
    });
    match result {
        // More than bad sectors: what was found before it counts.
        Err(ObjectsError::File(error)) => scanned.unread.push(error.to_string()),
        other => other?,
    }
    index.add(batch)?;
    let unread = scanned.gaps.iter().filter(|gap| gap.is_unread);
    scanned.unread.extend(unread.map(|gap| unread_place(file, gap.offset, gap.length)));
    Ok(scanned)
}

fn report_damage(file: &dyn PackFile, gap: &Gap) {
    let Gap { offset, length, .. } = gap;
    log::error!("{} is damaged: {length} bytes at byte {offset}: run `sitefs verify`", file.path().display());
}

fn set_known(index: &Index, number: u32, len: u64) -> Result<(), ObjectsError> {
    let batch = Batch { entries: Vec::new(), packs: vec![(number, len)] };
    index.add(batch)?;
    Ok(())
}

fn catch_up_sealed(
    index: &Index,
    number: u32,
    file: &dyn PackFile,
    from: u64,
    vouched: u64,
) -> Result<Vec<String>, ObjectsError> {
    let scanned = catch_up(index, number, file, from)?;
    for gap in scanned.gaps.iter().filter(|gap| gap.offset < vouched.max(scanned.durable)) {
        report_damage(file, gap);
    }
    set_known(index, number, file.len()?)?;
    Ok(scanned.unread)
}

/// Covers a torn place so that scans skip it; `header` is that of the pack, in case it is torn too. `false` where the
/// place cannot be one that was torn.
pub(super) fn cover(file: &dyn PackFile, gap: &Gap, header: PackHeader) -> Result<bool, ObjectsError> {
    let mut cover = Vec::new();
    if gap.offset == 0 {
        cover.extend_from_slice(&header.encode());
    }
    let rest = gap.length.checked_sub(cover.len() as u64);
    match rest.map(|rest| rest.checked_sub(HEADER_LEN as u64).map(u32::try_from)) {
        Some(Some(Ok(payload_len))) => cover.extend_from_slice(&Header::filler(payload_len).encode()),
        _ if rest == Some(0) => {}
        _ => return Ok(false),
    }
    file.write(&cover, gap.offset)?;
    Ok(true)
}

/// Returns where to go on appending, `None` where the pack must be left alone, and what of it could not be read. `header` is
/// what the pack's header should be.
fn catch_up_newest(
    index: &Index,
    header: PackHeader,
    file: &dyn PackFile,
    from: u64,
) -> Result<(Option<u64>, Vec<String>), ObjectsError> {
    let len = file.len()?;
    if from == len && from > 0 {
        return Ok((Some(len), Vec::new()));
    }
    let number = header.number;
    let mut scanned = catch_up(index, number, file, from)?;
    if !scanned.unread.is_empty() {
        scanned.gaps.iter().for_each(|gap| report_damage(file, gap));
        set_known(index, number, len)?;
        return Ok((None, scanned.unread));
    }
    let mut end = len;
    while let Some(gap) = scanned.gaps.pop_if(|gap| gap.offset + gap.length == end) {
        end = gap.offset;
    }
    if end < len {
        log::warn!("{}: {} bytes that a crash cut short are removed", file.path().display(), len - end);
        file.truncate(end)?;
    }
    let mut header_damaged = false;
    for gap in &scanned.gaps {
        if gap.offset >= scanned.durable && cover(file, gap, header)? {
            log::warn!("{}: a crash tore {} bytes at byte {}", file.path().display(), gap.length, gap.offset);
        } else {
            report_damage(file, gap);
            header_damaged |= gap.offset == 0;
        }
    }
    file.sync()?;
    set_known(index, number, end)?;
    Ok(((!header_damaged).then_some(end), Vec::new()))
}
