//! Plain files: large incompressible contents, whole, beside the packs (`docs/format.md`, "Plain files").
//!
//! A new one is written under `plain/new/`; the flush makes its bytes durable, renames it to its name, and makes the
//! name durable. So a file under its name is whole, and what a crash leaves under `plain/new/` is removed on open.
//!
//! Whoever opens one may hand it to the kernel, which compares nothing. So it is compared with its name when it is opened
//! for the first time since the store was, and again when somebody has written to it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::index::Index;
use super::{Kind, ObjectId, ObjectsError, Usage};
use crate::base::FileError;
use crate::base::files::{self, At};

/// How much is read or hashed at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// From this length on, in bytes, comparing a file takes longer than others may be kept waiting for: 5 ms and more.
const LONG_BYTES: u64 = 8 << 20;

/// How many files are remembered to have been compared: 80 bytes each.
const COMPARED_MAX: usize = 65_536;

/// How many new files may wait for a flush: each is an open file.
const WAITING_FILES: usize = 64;

/// The plain files of a store.
pub(super) struct Plain {
    directory: PathBuf,
    next_name: AtomicU64,
    state: Mutex<State>,
    /// What was compared with its name, or stored, since the store was opened, as it was then.
    compared: Mutex<HashMap<ObjectId, Facts>>,
    /// Held while a long file is compared.
    comparing: Mutex<()>,
    /// Held by the one thread that makes files durable.
    flushing: Mutex<()>,
}

struct State {
    waiting: HashMap<ObjectId, New>,
    totals: Usage,
    /// Whether the index still says what the totals are.
    totals_known: bool,
    failed: Option<String>,
}

/// A file that is not durable yet.
#[derive(Clone)]
struct New {
    path: PathBuf,
    /// Open since before the first byte, so that a failure to write it back is reported to its flush.
    file: Arc<File>,
    size: u64,
}

/// What shows that a file was written to, or is another one. Its time of change is none of it: that moves with its names.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Facts {
    fn of(file: &File, path: &Path) -> Result<Facts, FileError> {
        let found = file.metadata().at("look at", path)?;
        Ok(Facts { inode: found.ino(), size: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

fn usage(size: u64) -> Usage {
    Usage { objects: 1, raw_bytes: size, stored_bytes: size }
}

impl Plain {
    /// Makes the directories of an empty store.
    pub(super) fn create(directory: &Path) -> Result<(), FileError> {
        files::create_directory(directory, 0o700)?;
        files::create_directory(&directory.join("new"), 0o700)?;
        files::sync_directory(directory)
    }

    /// Opens the plain files in `directory`; what a crash left half-written is removed.
    pub(super) fn open(directory: &Path, index: &Index) -> Result<Plain, ObjectsError> {
        for entry in files::list(&directory.join("new"))? {
            files::remove_file(&entry.path())?;
        }
        let plain = Plain {
            directory: directory.to_owned(),
            next_name: AtomicU64::new(0),
            state: Mutex::new(State {
                waiting: HashMap::new(),
                totals: Usage::default(),
                totals_known: true,
                failed: None,
            }),
            compared: Mutex::default(),
            comparing: Mutex::default(),
            flushing: Mutex::new(()),
        };
        let totals = match index.plain_totals() {
            Some(totals) => totals,
            None => {
                // A process killed between a rename and its flush left names that are only in the kernel's cache.
                plain.sync_names()?;
                let mut totals = Usage::default();
                plain.each_durable(&mut |_, size| {
                    totals = totals.plus(usage(size));
                    Ok::<_, FileError>(())
                })?;
                index.set_plain_totals(Some(totals))?;
                totals
            }
        };
        plain.state.lock().totals = totals;
        Ok(plain)
    }

    fn sync_names(&self) -> Result<(), FileError> {
        files::sync_directory(&self.directory)?;
        for entry in files::list(&self.directory)? {
            files::sync_directory(&entry.path())?;
        }
        Ok(())
    }

    /// Calls `each` with the name and size in bytes of every durable plain file, in the order of names.
    pub(super) fn each_durable<E: From<FileError>>(
        &self,
        each: &mut dyn FnMut(ObjectId, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for first in 0..=u8::MAX {
            let directory = self.directory.join(format!("{first:02x}"));
            if files::metadata(&directory)?.is_none() {
                continue;
            }
            let mut found = Vec::new();
            for entry in files::list(&directory)? {
                let id = entry.file_name().to_str().and_then(|name| name.parse::<ObjectId>().ok());
                if let (Some(id), Some(metadata)) = (id, files::metadata(&entry.path())?) {
                    found.push((id, metadata.len()));
                }
            }
            found.sort_unstable();
            found.into_iter().try_for_each(|(id, size)| each(id, size))?;
        }
        Ok(())
    }

    pub(super) fn totals(&self) -> Usage {
        self.state.lock().totals
    }

    /// Where a durable file is.
    pub(super) fn path_of(&self, id: ObjectId) -> PathBuf {
        let name = id.to_string();
        self.directory.join(&name[..2]).join(name)
    }

    /// As [`Plain::open_file`]; an error where the content is not the name's.
    pub(super) fn open_compared(&self, id: ObjectId) -> Result<Option<(File, PathBuf)>, ObjectsError> {
        let Some((file, path)) = self.open_file(id)? else { return Ok(None) };
        let facts = Facts::of(&file, &path)?;
        if !self.is_compared(id, facts) {
            // One after the other: who wants the same file waits for the same comparison.
            let _comparing = (facts.size >= LONG_BYTES).then(|| self.comparing.lock());
            if !self.is_compared(id, facts) {
                let (found, _) = hash(&files::open(&path)?, &path)?;
                if found != id {
                    return Err(ObjectsError::Damaged { id, place: path.display().to_string() });
                }
                self.remember(id, facts);
            }
        }
        Ok(Some((file, path)))
    }

    /// Whether opening it is going to take long.
    pub(super) fn opens_slowly(&self, id: ObjectId, size: u64) -> bool {
        size >= LONG_BYTES && !self.compared.lock().contains_key(&id)
    }

    fn is_compared(&self, id: ObjectId, facts: Facts) -> bool {
        self.compared.lock().get(&id) == Some(&facts)
    }

    fn remember(&self, id: ObjectId, facts: Facts) {
        let mut compared = self.compared.lock();
        if compared.len() >= COMPARED_MAX {
            compared.clear();
        }
        compared.insert(id, facts);
    }

    /// Opens a file for reading; `None` where there is none of this name.
    pub(super) fn open_file(&self, id: ObjectId) -> Result<Option<(File, PathBuf)>, FileError> {
        let path = self.path_of(id);
        // Waiting files are renamed before they are forgotten, so one of the two looks finds it.
        let waiting = self.state.lock().waiting.get(&id).map(|new| new.path.clone());
        for path in waiting.into_iter().chain([path]) {
            match files::open(&path) {
                Ok(file) => return Ok(Some((file, path))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether there is a file of this name, durable or not.
    pub(super) fn contains(&self, id: ObjectId) -> Result<bool, FileError> {
        Ok(self.state.lock().waiting.contains_key(&id) || files::metadata(&self.path_of(id))?.is_some())
    }

    /// The size in bytes of a durable file; `None` where there is none of this name.
    pub(super) fn size(&self, id: ObjectId) -> Result<Option<u64>, FileError> {
        Ok(files::metadata(&self.path_of(id))?.map(|metadata| metadata.len()))
    }

    /// Removes a durable file that nobody refers to; returns what is no longer there. When the power fails the file
    /// may come back.
    pub(super) fn remove(&self, id: ObjectId, size: u64, index: &Index) -> Result<Usage, ObjectsError> {
        let mut state = self.state.lock();
        if state.totals_known {
            index.set_plain_totals(None)?;
            state.totals_known = false;
        }
        files::remove_file(&self.path_of(id))?;
        self.compared.lock().remove(&id);
        state.totals = state.totals.minus(usage(size));
        Ok(usage(size))
    }

    /// Moves a damaged file to `plain/damaged/`, so that its content can be stored again under its name. Most of it may
    /// still be of use to somebody, so it is kept.
    pub(super) fn set_aside(&self, id: ObjectId, index: &Index) -> Result<(), ObjectsError> {
        let path = self.path_of(id);
        let Some(metadata) = files::metadata(&path)? else { return Ok(()) };
        let directory = self.directory.join("damaged");
        if files::metadata(&directory)?.is_none() {
            files::create_directory(&directory, 0o700)?;
        }
        let mut state = self.state.lock();
        if state.totals_known {
            index.set_plain_totals(None)?;
            state.totals_known = false;
        }
        files::rename(&path, &directory.join(id.to_string()))?;
        self.compared.lock().remove(&id);
        state.totals = state.totals.minus(usage(metadata.len()));
        files::sync_directory(&directory)?;
        Ok(files::sync_parent(&path)?)
    }

    fn new_path(&self) -> PathBuf {
        self.directory.join("new").join(self.next_name.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn check(&self) -> Result<(), ObjectsError> {
        match &self.state.lock().failed {
            Some(reason) => Err(ObjectsError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Stores what `content` gives as a plain file; returns its name and size in bytes. `keep` is called with the name
    /// before it is looked for.
    pub(super) fn put(
        &self,
        content: &mut dyn Read,
        index: &Index,
        keep: &dyn Fn(ObjectId),
    ) -> Result<(ObjectId, u64), ObjectsError> {
        self.check()?;
        let path = self.new_path();
        let file = files::create_new(&path)?;
        let written = copy_and_hash(content, &file, &path);
        let (id, size) = written.inspect_err(|_| remove_quietly(&path))?;
        keep(id);
        self.enter(id, New { path, file: file.into(), size }, index)?;
        Ok((id, size))
    }

    /// Gives an existing file of the same file system a second name in the store; returns its name and size in
    /// bytes. `keep` is called with the name before it is looked for.
    pub(super) fn adopt(
        &self,
        source: &Path,
        index: &Index,
        keep: &dyn Fn(ObjectId),
    ) -> Result<(ObjectId, u64), ObjectsError> {
        self.check()?;
        let path = self.new_path();
        // For writing, though nothing is written: a flush through it reports what others failed to write back.
        let file = files::open_read_write(source)?;
        let (id, size) = hash(&file, source)?;
        files::hard_link(source, &path)?;
        keep(id);
        self.enter(id, New { path, file: file.into(), size }, index)?;
        Ok((id, size))
    }

    fn enter(&self, id: ObjectId, new: New, index: &Index) -> Result<(), ObjectsError> {
        if self.contains(id)? {
            return Ok(files::remove_file(&new.path)?);
        }
        let count = {
            let mut state = self.state.lock();
            if state.totals_known {
                index.set_plain_totals(None)?;
                state.totals_known = false;
            }
            let size = new.size;
            match state.waiting.entry(id) {
                Entry::Occupied(_) => files::remove_file(&new.path)?,
                Entry::Vacant(vacant) => {
                    vacant.insert(new);
                    state.totals = state.totals.plus(usage(size));
                }
            }
            state.waiting.len()
        };
        if count >= WAITING_FILES { self.flush() } else { Ok(()) }
    }

    /// Makes every file put so far durable under its name.
    ///
    /// When a device flush fails, its file may have lost bytes that the kernel still shows, and other threads may
    /// have been told its name: it is read back and written anew, as packs are. Where that fails too, nothing more is accepted
    /// until the store is opened again.
    pub(super) fn flush(&self) -> Result<(), ObjectsError> {
        let _flushing = self.flushing.lock();
        self.check()?;
        let waiting = self.state.lock().waiting.clone();
        if waiting.is_empty() {
            return Ok(());
        }
        let is_full =
            |error: &FileError| error.kind() == std::io::ErrorKind::StorageFull && error.action != "sync";
        let result = self.make_durable(&waiting).or_else(|error| {
            if is_full(&error) {
                return Err(error);
            }
            log::warn!("{error}: files are written anew");
            let anew = self.write_anew(&waiting)?;
            self.state.lock().waiting.extend(anew.clone());
            self.make_durable(&anew)
        });
        let mut state = self.state.lock();
        match result {
            Ok(()) => {
                state.waiting.retain(|id, _| !waiting.contains_key(id));
                Ok(())
            }
            Err(error) if is_full(&error) => Err(error.into()),
            Err(error) => {
                let reason = error.to_string();
                log::error!("the store takes no more changes: {reason}");
                for (_, new) in state.waiting.drain() {
                    remove_quietly(&new.path);
                }
                state.failed = Some(reason.clone());
                Err(ObjectsError::Failed { reason })
            }
        }
    }

    /// Files with the same content and names, of which nothing was lost.
    fn write_anew(&self, waiting: &HashMap<ObjectId, New>) -> Result<HashMap<ObjectId, New>, FileError> {
        let mut anew = HashMap::new();
        for (id, new) in waiting {
            // An earlier flush may have come as far as its name.
            let is_named = files::metadata(&new.path)?.is_none();
            let old = if is_named { self.path_of(*id) } else { new.path.clone() };
            let path = self.new_path();
            let file = files::create_new(&path)?;
            let copied = copy_and_hash(&mut files::open(&old)?, &file, &path);
            let is_same = copied.map(|copied| copied == (*id, new.size));
            if !is_same.unwrap_or(false) {
                remove_quietly(&path);
                return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
                    .at("read back", &old);
            }
            if !is_named {
                remove_quietly(&old);
            }
            anew.insert(*id, New { path, file: file.into(), size: new.size });
        }
        Ok(anew)
    }

    fn make_durable(&self, waiting: &HashMap<ObjectId, New>) -> Result<(), FileError> {
        for new in waiting.values() {
            new.file.sync_all().at("sync", &new.path)?;
        }
        let mut directories: Vec<PathBuf> = Vec::new();
        let mut made = false;
        for (id, new) in waiting {
            let path = self.path_of(*id);
            let directory = path.parent().expect("the path of a plain file has three parts").to_owned();
            if !directories.contains(&directory) {
                if files::metadata(&directory)?.is_none() {
                    files::create_directory(&directory, 0o700)?;
                    made = true;
                }
                directories.push(directory);
            }
            // An earlier flush may have come as far as this.
            if files::metadata(&new.path)?.is_some() {
                files::rename(&new.path, &path)?;
                self.remember(*id, Facts::of(&new.file, &path)?);
            }
        }
        if made {
            files::sync_directory(&self.directory)?;
        }
        directories.iter().try_for_each(|directory| files::sync_directory(directory))
    }

    /// Writes down the totals; everything must be durable.
    pub(super) fn settle(&self, index: &Index) -> Result<(), ObjectsError> {
        self.flush()?;
        let mut state = self.state.lock();
        if !state.totals_known {
            index.set_plain_totals(Some(state.totals))?;
            state.totals_known = true;
        }
        Ok(())
    }
}

fn remove_quietly(path: &Path) {
    if let Err(error) = files::remove_file(path) {
        log::warn!("{error}");
    }
}

fn copy_and_hash(
    content: &mut dyn Read,
    mut file: &File,
    path: &Path,
) -> Result<(ObjectId, u64), ObjectsError> {
    let mut hasher = ObjectId::hasher(Kind::Plain);
    let mut piece = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        let length = super::file::read_full(content, &mut piece)?;
        if length == 0 {
            break;
        }
        hasher.update(&piece[..length]);
        file.write_all(&piece[..length]).at("write", path)?;
        size += length as u64;
    }
    Ok((ObjectId::from(&hasher), size))
}

/// The name and size in bytes of a file's content.
pub(super) fn hash(mut file: &File, path: &Path) -> Result<(ObjectId, u64), FileError> {
    let mut hasher = ObjectId::hasher(Kind::Plain);
    let mut piece = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        let length = file.read(&mut piece).at("read", path)?;
        if length == 0 {
            return Ok((ObjectId::from(&hasher), size));
        }
        hasher.update(&piece[..length]);
        size += length as u64;
    }
}

#[cfg(test)]
mod tests;
