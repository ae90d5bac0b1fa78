//! Contents of files as objects: cutting them up and reading them back.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastcdc::v2020::FastCDC;

use super::list::{Builder, ChunkList, Part};
use super::{FileContent, Kind, ObjectId, Objects, ObjectsError, codec};
use crate::base::FileError;
use crate::base::files::{self, At};

/// Files of up to this many bytes are one chunk; longer ones have chunks of this length on average.
const CHUNK_BYTES: usize = 64 << 10;
/// Shortest chunk of a longer file (but for its last), in bytes.
const CHUNK_BYTES_MIN: usize = 16 << 10;
/// Longest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// How much of a file is looked at together, in bytes; also the length from which one may be kept plain.
const WINDOW_BYTES: usize = 1 << 20;

/// A file is kept plain when its samples shrink by less than a twentieth.
const SAMPLE_BYTES: usize = 32 << 10;
const SAMPLES: usize = 4;

/// Reads until `buffer` is full or the content ends; returns how many bytes.
pub(super) fn read_full(content: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, ObjectsError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ObjectsError::Source(error)),
        }
    }
    Ok(filled)
}

/// Whether compressing would gain next to nothing, judged by samples from all over `window`.
fn is_incompressible(window: &[u8]) -> bool {
    let step = window.len() / SAMPLES;
    let stored: usize = (0..SAMPLES)
        .map(|sample| {
            let sample = &window[sample * step..sample * step + SAMPLE_BYTES];
            codec::compress(sample).map_or(SAMPLE_BYTES, |shorter| shorter.len())
        })
        .sum();
    stored * 20 > SAMPLES * SAMPLE_BYTES * 19
}

/// What to call an open file in a message.
fn name_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    files::read_link(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
        .unwrap_or_else(|_| PathBuf::from("the target file"))
}

impl Objects {
    /// Stores the content of a file, read to its end. `size_hint` (bytes) sizes buffers; a wrong hint costs speed,
    /// never correctness: the same content always gives the same answer.
    pub fn put_file(&self, content: &mut dyn Read, size_hint: u64) -> Result<FileContent, ObjectsError> {
        // One byte more than the hint shows that the end is reached.
        let first = usize::try_from(size_hint).unwrap_or(usize::MAX).clamp(4096, WINDOW_BYTES - 1) + 1;
        let mut window = vec![0; first];
        let mut filled = read_full(content, &mut window)?;
        if filled == window.len() && filled < WINDOW_BYTES {
            window.resize(WINDOW_BYTES, 0);
            filled += read_full(content, &mut window[filled..])?;
        }
        if filled == 0 {
            return Ok(FileContent::Empty);
        }
        if filled <= CHUNK_BYTES {
            let id = self.put(Kind::Chunk, &window[..filled])?;
            return Ok(FileContent::Chunk { id, size: filled as u64 });
        }
        if filled == WINDOW_BYTES && is_incompressible(&window) {
            let (id, size) =
                self.plain
                    .put(&mut window.as_slice().chain(content), &self.packs.index, &|id| self.keep(id))?;
            return Ok(FileContent::Plain { id, size });
        }
        self.put_chunks(window, filled, content)
    }

    /// Cuts a content into chunks; its first `filled` bytes are in `window`.
    fn put_chunks(
        &self,
        mut window: Vec<u8>,
        mut filled: usize,
        content: &mut dyn Read,
    ) -> Result<FileContent, ObjectsError> {
        let mut put_list = |list: &[u8]| self.put(Kind::ChunkList, list);
        let mut lists = Builder::new(&mut put_list);
        let mut ended = filled < WINDOW_BYTES;
        let (mut start, mut size) = (0, 0);
        loop {
            if !ended && filled - start < CHUNK_BYTES_MAX {
                window.copy_within(start..filled, 0);
                (start, filled) = (0, filled - start);
                filled += read_full(content, &mut window[filled..])?;
                ended = filled < window.len();
            }
            let rest = &window[start..filled];
            let mut cutter = FastCDC::new(rest, CHUNK_BYTES_MIN, CHUNK_BYTES, CHUNK_BYTES_MAX);
            let Some(chunk) = cutter.next() else { break };
            let id = self.put(Kind::Chunk, &rest[..chunk.length])?;
            start += chunk.length;
            size += chunk.length as u64;
            if ended && start == filled && size == chunk.length as u64 {
                return Ok(FileContent::Chunk { id, size });
            }
            lists.push(id, chunk.length as u64)?;
        }
        Ok(FileContent::Chunks { list: lists.finish()?, size })
    }

    /// Takes the file at `path`, on the store's own file system, as a [`FileContent::Plain`] without copying it: it
    /// gets a second name in the store, and is durable there after [`Objects::flush`]. Nobody may write to it from
    /// now on; its first name is the caller's to remove.
    pub fn adopt_plain(&self, path: &Path) -> Result<FileContent, ObjectsError> {
        let (id, size) = self.plain.adopt(path, &self.packs.index, &|id| self.keep(id))?;
        Ok(FileContent::Plain { id, size })
    }

    /// Reads up to `buffer.len()` bytes at `offset`; returns how many, fewer only at the end of the file.
    pub fn read_at(
        &self,
        content: &FileContent,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, ObjectsError> {
        let length = content.size().saturating_sub(offset).min(buffer.len() as u64) as usize;
        if length == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..length];
        match *content {
            FileContent::Empty => {}
            FileContent::Chunk { id, size } => {
                let chunk = check_length(id, self.get_cached(Kind::Chunk, id)?, size)?;
                copy_from(&chunk, offset, buffer);
            }
            FileContent::Chunks { list, size } => {
                self.read_chunks(&self.top_list(list, size)?, offset, buffer)?
            }
            FileContent::Plain { id, .. } => {
                let (file, path) = self.plain_file(id)?;
                file.read_exact_at(buffer, offset).at("read", &path)?;
            }
        }
        Ok(length)
    }

    fn read_chunks(
        &self,
        top: &ChunkList,
        mut offset: u64,
        mut buffer: &mut [u8],
    ) -> Result<(), ObjectsError> {
        while !buffer.is_empty() {
            // Where the part under way begins in the file, and the part.
            let mut start = 0;
            let mut below = None;
            let part = loop {
                let list = below.as_ref().unwrap_or(top);
                let part = list.part_at(offset - start).ok_or_else(|| damaged_list(list.id_at(0)))?;
                start += part.start;
                match part.kind {
                    Kind::Chunk => break part,
                    _ => below = Some(self.list_below(list, &part)?),
                }
            };
            let inside = offset - start;
            let length = (part.length() - inside).min(buffer.len() as u64) as usize;
            let (now, later) = buffer.split_at_mut(length);
            let chunk = check_length(part.id, self.get_cached(Kind::Chunk, part.id)?, part.length())?;
            copy_from(&chunk, inside, now);
            offset += length as u64;
            buffer = later;
        }
        Ok(())
    }

    /// The topmost list of a file of `size` bytes.
    fn top_list(&self, id: ObjectId, size: u64) -> Result<ChunkList, ObjectsError> {
        let list = ChunkList::new(self.get_cached(Kind::ChunkList, id)?);
        list.filter(|list| list.total() == size).ok_or_else(|| damaged_list(id))
    }

    /// The list that a part of the list `above` refers to.
    fn list_below(&self, above: &ChunkList, part: &Part) -> Result<ChunkList, ObjectsError> {
        let fits = |list: &ChunkList| list.level() + 1 == above.level() && list.total() == part.length();
        let list = ChunkList::new(self.get_cached(Kind::ChunkList, part.id)?);
        list.filter(fits).ok_or_else(|| damaged_list(part.id))
    }

    fn get_cached(&self, kind: Kind, id: ObjectId) -> Result<Arc<[u8]>, ObjectsError> {
        if let Some(content) = self.cache.get(id) {
            return Ok(content);
        }
        let content = self.get(kind, id)?;
        self.cache.put(id, content.clone());
        Ok(content)
    }

    /// Calls `each` with every chunk below a list, in order.
    fn each_chunk(
        &self,
        list: &ChunkList,
        each: &mut dyn FnMut(&Part) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        for place in 0..list.len() {
            let part = list.part(place).ok_or_else(|| damaged_list(list.id_at(place)))?;
            match part.kind {
                Kind::Chunk => each(&part)?,
                _ => self.each_chunk(&self.list_below(list, &part)?, each)?,
            }
        }
        Ok(())
    }

    /// Calls `first` with the name of every object that belongs to a content; looks into the lists for which it says
    /// that it meets them for the first time. Reads no chunk.
    pub fn reach_content(
        &self,
        content: &FileContent,
        first: &mut dyn FnMut(ObjectId) -> bool,
    ) -> Result<(), ObjectsError> {
        let mut lists = Vec::new();
        match *content {
            FileContent::Empty => {}
            FileContent::Chunk { id, .. } | FileContent::Plain { id, .. } => {
                first(id);
            }
            FileContent::Chunks { list, .. } => lists.push(list),
        }
        while let Some(id) = lists.pop() {
            if !first(id) {
                continue;
            }
            let list = ChunkList::new(self.get(Kind::ChunkList, id)?).ok_or_else(|| damaged_list(id))?;
            for place in 0..list.len() {
                let part = list.part(place).ok_or_else(|| damaged_list(id))?;
                match part.kind {
                    Kind::Chunk => {
                        first(part.id);
                    }
                    _ => lists.push(part.id),
                }
            }
        }
        Ok(())
    }

    /// Writes the whole content into `target` from its start; what `target` holds beyond is left. Not synced. Where
    /// the file system can share bytes between files, a plain file is copied without copying them.
    pub fn copy_to(&self, content: &FileContent, target: &File) -> Result<(), ObjectsError> {
        match *content {
            FileContent::Empty => Ok(()),
            FileContent::Chunk { id, size } => {
                let chunk = check_length(id, self.get(Kind::Chunk, id)?, size)?;
                target.write_all_at(&chunk, 0).map_err(|error| write_error(target, error))
            }
            FileContent::Chunks { list, size } => {
                let mut offset = 0;
                self.each_chunk(&self.top_list(list, size)?, &mut |part| {
                    let chunk = check_length(part.id, self.get(Kind::Chunk, part.id)?, part.length())?;
                    target.write_all_at(&chunk, offset).map_err(|error| write_error(target, error))?;
                    offset += chunk.len() as u64;
                    Ok(())
                })
            }
            FileContent::Plain { id, size } => {
                let (source, path) = self.plain_file(id)?;
                copy_file(&source, &path, target, size)
            }
        }
    }

    /// Compares the plain file behind [`FileContent::Plain`] with its name, unless that was done since the store was opened.
    /// For those who must not be kept waiting by [`Objects::open_plain`], which does the same.
    pub fn compare_plain(&self, content: &FileContent) -> Result<(), ObjectsError> {
        self.open_plain(content).map(drop)
    }

    /// Opens the plain file behind [`FileContent::Plain`] for reading; `None` for every other content. Its bytes were compared
    /// with the name since the store was opened.
    pub fn open_plain(&self, content: &FileContent) -> Result<Option<File>, ObjectsError> {
        match *content {
            FileContent::Plain { id, .. } => Ok(Some(self.plain_file(id)?.0)),
            _ => Ok(None),
        }
    }

    /// Whether comparing the content for the first time is going to take long.
    pub fn opens_slowly(&self, content: &FileContent) -> bool {
        matches!(*content, FileContent::Plain { id, size } if self.plain.opens_slowly(id, size))
    }

    /// Calls `each` with every object that a content is made of: the lists among them before what they refer to. A list
    /// that cannot be read ends it.
    pub fn each_object(
        &self,
        content: &FileContent,
        each: &mut dyn FnMut(ObjectId) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        match *content {
            FileContent::Empty => Ok(()),
            FileContent::Chunk { id, .. } | FileContent::Plain { id, .. } => each(id),
            FileContent::Chunks { list, size } => {
                each(list)?;
                self.each_below(&self.top_list(list, size)?, each)
            }
        }
    }

    fn each_below(
        &self,
        list: &ChunkList,
        each: &mut dyn FnMut(ObjectId) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        for place in 0..list.len() {
            let part = list.part(place).ok_or_else(|| damaged_list(list.id_at(place)))?;
            each(part.id)?;
            if part.kind != Kind::Chunk {
                self.each_below(&self.list_below(list, &part)?, each)?;
            }
        }
        Ok(())
    }

    fn plain_file(&self, id: ObjectId) -> Result<(File, PathBuf), ObjectsError> {
        self.plain.open_compared(id)?.ok_or(ObjectsError::Missing { id })
    }
}

/// The chunk, unless it is not as long as what refers to it says.
fn check_length(id: ObjectId, chunk: Arc<[u8]>, length: u64) -> Result<Arc<[u8]>, ObjectsError> {
    if chunk.len() as u64 == length {
        return Ok(chunk);
    }
    Err(ObjectsError::Damaged { id, place: "a reference with another length".to_owned() })
}

/// Fills `buffer` from a chunk; both ends are within it.
fn copy_from(chunk: &[u8], offset: u64, buffer: &mut [u8]) {
    let offset = offset as usize;
    buffer.copy_from_slice(&chunk[offset..offset + buffer.len()]);
}

fn damaged_list(id: ObjectId) -> ObjectsError {
    ObjectsError::Damaged { id, place: "a chunk list that does not hold together".to_owned() }
}

fn write_error(target: &File, source: std::io::Error) -> ObjectsError {
    FileError { action: "write", path: name_of(target), source }.into()
}

/// Copies `size` bytes, inside the kernel where it can.
fn copy_file(source: &File, path: &Path, target: &File, size: u64) -> Result<(), ObjectsError> {
    let mut offset = 0;
    while offset < size {
        let (mut from, mut to) = (offset, offset);
        let rest = usize::try_from(size - offset).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), rest) {
            Ok(0) => break,
            Ok(length) => offset += length as u64,
            // Not between these two files: by hand.
            Err(_) => break,
        }
    }
    let mut piece = vec![0; if offset < size { WINDOW_BYTES } else { 0 }];
    while offset < size {
        let length = (size - offset).min(piece.len() as u64) as usize;
        source.read_exact_at(&mut piece[..length], offset).at("read", path)?;
        target.write_all_at(&piece[..length], offset).map_err(|error| write_error(target, error))?;
        offset += length as u64;
    }
    Ok(())
}
