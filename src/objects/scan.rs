//! Reading a pack from one end to the other, whatever state it is in.
//!
//! Where the disk refuses to be read, the rest is read block by block: a bad sector costs the records it is in. A disk that
//! refuses more than [`UNREAD_BYTES_MAX`] of one pack is away rather than bad in places, and that is an error.

use std::ops::Range;

use super::media::PackFile;
use super::record::{Content, HEADER_LEN, Header, Location, RECORD_MAGIC};
use super::{Kind, ObjectId};
use crate::base::FileError;
use crate::base::limits::OBJECT_BYTES_MAX;

/// How much is read at once, in bytes: as much as a disk reads ahead, with room for a few records.
const WINDOW_BYTES: usize = 4 << 20;

/// How much is read at once where not everything can be, in bytes: what the kernel reads at once, at least.
const BLOCK_BYTES: usize = 4096;

/// How much of a pack may refuse to be read, in bytes: a disk that is about to fail may take seconds for each block.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// One stretch of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// An object, whole: header and payload match their checksums.
    Object { id: ObjectId, kind: Kind, header: Header, location: Location },
    /// Bytes that are no record: damaged, or torn by a power cut.
    Gap {
        /// The first byte.
        offset: u64,
        /// How many bytes, up to the next whole record or the end.
        length: u64,
        /// The object, where its header is still whole.
        id: Option<ObjectId>,
        /// Whether the disk refused to be read there: it may be as it was written, and another time can tell.
        is_unread: bool,
    },
}

impl Stretch {
    /// The offset of the first byte after it.
    pub(super) fn end(&self) -> u64 {
        match self {
            Stretch::Object { location, .. } => location.end(),
            Stretch::Gap { offset, length, .. } => offset + length,
        }
    }
}

/// A part of a pack in memory.
struct Window<'a> {
    file: &'a dyn PackFile,
    /// The end of the stretch to scan, in the pack.
    end: u64,
    start: u64,
    bytes: Vec<u8>,
    /// What the disk refused to be read, in order; it is zeros here.
    unread: Vec<Range<u64>>,
}

impl Window<'_> {
    /// Up to `length` bytes at `offset`; fewer at the end.
    fn at(&mut self, offset: u64, length: usize) -> Result<&[u8], FileError> {
        let length = (self.end.saturating_sub(offset)).min(length as u64) as usize;
        let have = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > have {
            let read_len = (self.end - offset).min(length.max(WINDOW_BYTES) as u64) as usize;
            self.fill(offset, read_len)?;
        }
        let first = (offset - self.start) as usize;
        Ok(&self.bytes[first..first + length])
    }

    /// Reads `length` bytes at `offset` into memory; what cannot be read is zeros, and noted.
    fn fill(&mut self, offset: u64, length: usize) -> Result<(), FileError> {
        self.bytes.clear();
        self.bytes.resize(length, 0);
        self.start = offset;
        let Err(error) = self.file.read(&mut self.bytes, offset) else { return Ok(()) };
        log::error!("{error}: what can be read around it is looked for");
        self.bytes.fill(0);
        let mut at = 0;
        while at < length {
            // Up to the next block as the disk counts.
            let place = offset + at as u64;
            let block = (BLOCK_BYTES - (place % BLOCK_BYTES as u64) as usize).min(length - at);
            let bytes = &mut self.bytes[at..at + block];
            if let Err(error) = self.file.read(bytes, place) {
                bytes.fill(0);
                self.note_unread(place..place + block as u64, error)?;
            }
            at += block;
        }
        Ok(())
    }

    fn note_unread(&mut self, range: Range<u64>, error: FileError) -> Result<(), FileError> {
        if self.is_unread(&range) {
            return Ok(());
        }
        match self.unread.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.unread.push(range),
        }
        let length: u64 = self.unread.iter().map(|range| range.end - range.start).sum();
        if length > UNREAD_BYTES_MAX as u64 {
            self.bytes.clear();
            return Err(error);
        }
        Ok(())
    }

    /// Whether a part of the range could not be read.
    fn is_unread(&self, range: &Range<u64>) -> bool {
        self.unread.iter().any(|unread| unread.start < range.end && range.start < unread.end)
    }

    /// What is no record.
    fn gap(&self, offset: u64, length: u64, id: Option<ObjectId>) -> Stretch {
        Stretch::Gap { offset, length, id, is_unread: self.is_unread(&(offset..offset + length)) }
    }

    /// The whole record at `offset`: its header, and whether the payload is what it was.
    fn record(&mut self, offset: u64) -> Result<Option<(Header, bool)>, FileError> {
        let Some(header) = Header::decode(self.at(offset, HEADER_LEN)?) else { return Ok(None) };
        if offset + header.record_len() > self.end {
            return Ok(None);
        }
        // Fillers may be of any length; nobody looks at what they cover.
        let whole = match header.content {
            Content::Filler => true,
            Content::Object { .. } if header.stored_len as usize > OBJECT_BYTES_MAX => return Ok(None),
            Content::Object { .. } => {
                let record = self.at(offset, header.record_len() as usize)?;
                header.matches(&record[HEADER_LEN..])
            }
        };
        Ok(Some((header, whole)))
    }

    /// The offset of the next whole record after `offset`, or the end.
    fn next_record(&mut self, mut offset: u64) -> Result<u64, FileError> {
        while offset < self.end {
            let bytes = self.at(offset, WINDOW_BYTES)?;
            let Some(place) = bytes.windows(RECORD_MAGIC.len()).position(|four| four == RECORD_MAGIC) else {
                // The magic may straddle the end of the window.
                offset += (bytes.len() - bytes.len().min(RECORD_MAGIC.len() - 1)).max(1) as u64;
                continue;
            };
            offset += place as u64;
            if matches!(self.record(offset)?, Some((_, true))) {
                return Ok(offset);
            }
            offset += 1;
        }
        Ok(self.end)
    }
}

/// What a scan calls with each stretch, and with the stored payload of an object (empty for a gap).
pub(super) type Visit<'a, E> = dyn FnMut(Stretch, &[u8]) -> Result<(), E> + 'a;

/// Calls `each` with every stretch of the pack `number` between the offsets `from` (where a record starts) and
/// `to`, in order.
pub(super) fn scan<E: From<FileError>>(
    file: &dyn PackFile,
    number: u32,
    from: u64,
    to: u64,
    each: &mut Visit<'_, E>,
) -> Result<(), E> {
    let mut window = Window { file, end: to, start: from, bytes: Vec::new(), unread: Vec::new() };
    let mut offset = from;
    while offset < to {
        match window.record(offset)? {
            Some((header, true)) => {
                if let Content::Object { id, kind, raw_len, .. } = header.content {
                    let location = Location {
                        pack: number,
                        offset: u32::try_from(offset).expect("packs are shorter than 4 GiB"),
                        stored_len: header.stored_len,
                        raw_len,
                    };
                    let record = window.at(offset, header.record_len() as usize)?;
                    each(Stretch::Object { id, kind, header, location }, &record[HEADER_LEN..])?;
                }
                offset += header.record_len();
            }
            Some((header, false)) => {
                // The header vouches for the length. Searching inside the payload could find the records of a
                // pack that somebody stored as a file.
                let id = match header.content {
                    Content::Object { id, .. } => Some(id),
                    Content::Filler => None,
                };
                each(window.gap(offset, header.record_len(), id), &[])?;
                offset += header.record_len();
            }
            None => {
                let next = window.next_record(offset + 1)?;
                each(window.gap(offset, next - offset, None), &[])?;
                offset = next;
            }
        }
    }
    Ok(())
}
