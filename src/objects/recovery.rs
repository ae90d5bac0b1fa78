//! Opening packs: what the index does not know yet is scanned, what a power cut tore is cut off.
//!
//! Only the newest pack is ever changed, and only where no flush can have vouched for the bytes: a torn end is cut
//! off; a torn place with whole records behind it (the kernel writes in any order) is covered by a filler. Damage
//! anywhere else is reported and left as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::ObjectsError;
use super::appender::Appender;
use super::index::{Batch, Index};
use super::media::{Media, PackFile};
use super::packs::{BATCH_OBJECTS, Packs};
use super::record::{HEADER_LEN, Header, PACK_HEADER_LEN, PackHeader, PackHeaderError};
use super::scan::{Stretch, scan};
use crate::base::files;

/// A stretch of a pack that holds no record.
struct Gap {
    offset: u64,
    length: u64,
}

/// What a scan of one pack found.
struct Scanned {
    gaps: Vec<Gap>,
    /// How much of the pack was durable when its youngest record was made, in bytes.
    durable: u64,
}

impl Packs {
    /// Opens the packs in `media`, bringing the index in the file `index_path` up to date.
    pub(super) fn open(media: Arc<dyn Media>, index_path: &Path) -> Result<Packs, ObjectsError> {
        let numbers = media.list()?;
        let index = match open_index(&*media, &numbers, index_path)? {
            Some(index) => index,
            None => {
                files::remove_file(index_path)?;
                Index::open(index_path)?
            }
        };
        let known: BTreeMap<u32, u64> = index.packs()?.into_iter().collect();
        let mut newest = None;
        for (place, &number) in numbers.iter().enumerate() {
            let file = media.open(number)?;
            let from = known.get(&number).copied().unwrap_or(0);
            match numbers.get(place + 1) {
                Some(&next) => {
                    if from < file.len()? {
                        let vouched = vouched_len(&*media, next, &*file)?;
                        catch_up_sealed(&index, number, &*file, from, vouched)?;
                    }
                }
                None => newest = Some((number, catch_up_newest(&index, number, &*file, from)?, file)),
            }
        }
        media.sync_names()?;
        let totals = index.totals()?;
        // A number is never used twice: neither one of a pack that is gone, nor one the index remembers.
        let unused =
            numbers.last().copied().max(known.last_key_value().map(|(number, _)| *number)).unwrap_or(0) + 1;
        let appender = match newest {
            Some((number, Some(len), file)) if number + 1 == unused => {
                let previous_len = match numbers.iter().rev().nth(1) {
                    Some(previous) => media.open(*previous)?.len()?,
                    None => 0,
                };
                Appender::resume(number, file, len, previous_len, totals)
            }
            Some((_, _, file)) => Appender::new(unused, file.len()?, totals),
            None => Appender::new(unused, 0, totals),
        };
        Ok(Packs::new(media, index, appender))
    }
}

/// The index, unless it has to be made anew: damaged, or about packs that are not there.
fn open_index(media: &dyn Media, numbers: &[u32], path: &Path) -> Result<Option<Index>, ObjectsError> {
    let index = match Index::open(path) {
        Ok(index) => index,
        Err(error) if error.is_damaged() => {
            log::warn!("{error}: the index is rebuilt from the packs");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    for (number, indexed) in index.packs()? {
        let len = match numbers.binary_search(&number) {
            Ok(_) => media.open(number)?.len()?,
            Err(_) => 0,
        };
        if len < indexed {
            log::error!(
                "pack {number:08} has {len} bytes and should have {indexed}: its objects are lost; \
                 the index is rebuilt from what is there"
            );
            return Ok(None);
        }
    }
    Ok(Some(index))
}

/// How much of a pack with a successor was ever durable, in bytes: the successor's header says so.
fn vouched_len(media: &dyn Media, next: u32, file: &dyn PackFile) -> Result<u64, ObjectsError> {
    let next_file = media.open(next)?;
    match pack_header(&*next_file)? {
        Ok(header) if header.number == next => Ok(header.previous_len.min(file.len()?)),
        _ => Ok(file.len()?),
    }
}

fn pack_header(file: &dyn PackFile) -> Result<Result<PackHeader, PackHeaderError>, ObjectsError> {
    let mut bytes = vec![0; file.len()?.min(PACK_HEADER_LEN) as usize];
    file.read(&mut bytes, 0)?;
    Ok(PackHeader::decode(&bytes))
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
    let mut scanned = Scanned { gaps: Vec::new(), durable: from };
    let mut batch = Batch::default();
    scan(file, number, from, len, &mut |stretch, _| {
        match stretch {
            Stretch::Object { id, header, location, .. } => {
                scanned.durable = scanned.durable.max(u64::from(header.durable_len));
                batch.entries.push((id, location));
                if batch.entries.len() >= BATCH_OBJECTS {
                    batch.packs.push((number, location.end()));
                    index.add(std::mem::take(&mut batch))?;
                }
            }
            Stretch::Gap { offset, length, .. } => scanned.gaps.push(Gap { offset, length }),
        }
        Ok::<_, ObjectsError>(())
    })?;
    index.add(batch)?;
    Ok(scanned)
}

fn report_damage(file: &dyn PackFile, gap: &Gap) {
    let Gap { offset, length } = gap;
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
) -> Result<(), ObjectsError> {
    let scanned = catch_up(index, number, file, from)?;
    for gap in scanned.gaps.iter().filter(|gap| gap.offset < vouched.max(scanned.durable)) {
        report_damage(file, gap);
    }
    set_known(index, number, file.len()?)
}

/// Returns where to go on appending; `None` where the pack must be left alone.
fn catch_up_newest(
    index: &Index,
    number: u32,
    file: &dyn PackFile,
    from: u64,
) -> Result<Option<u64>, ObjectsError> {
    let len = file.len()?;
    if from == len && from > 0 {
        return Ok(Some(len));
    }
    let mut scanned = catch_up(index, number, file, from)?;
    let mut end = len;
    while let Some(gap) = scanned.gaps.pop_if(|gap| gap.offset + gap.length == end) {
        end = gap.offset;
    }
    if end < len {
        log::warn!("{}: {} bytes that a crash cut short are removed", file.path().display(), len - end);
        file.truncate(end)?;
    }
    for gap in &scanned.gaps {
        let payload_len = gap.length.checked_sub(HEADER_LEN as u64).and_then(|len| u32::try_from(len).ok());
        match payload_len {
            Some(payload_len) if gap.offset >= scanned.durable && gap.offset > 0 => {
                log::warn!(
                    "{}: a crash tore {} bytes at byte {}",
                    file.path().display(),
                    gap.length,
                    gap.offset
                );
                file.write(&Header::filler(payload_len).encode(), gap.offset)?;
            }
            _ => report_damage(file, gap),
        }
    }
    file.sync()?;
    set_known(index, number, end)?;
    let header_damaged = scanned.gaps.first().is_some_and(|gap| gap.offset == 0);
    Ok((!header_damaged).then_some(end))
}
