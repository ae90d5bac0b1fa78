//! The store of objects.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustix::fs::FlockOperation;

use super::cache::Cache;
use super::census::Census;
use super::media::{Directory, Media};
use super::packs::{Found, Packs, Sizes, Stored};
use super::plain::Plain;
use super::record::{Codec, Content, Header};
use super::{Kind, ObjectId, ObjectsError, codec};
use crate::base::FileError;
use crate::base::files;
use crate::base::limits::OBJECT_BYTES_MAX;

/// Memory for chunks and chunk lists of files that are read in pieces: some sixty longest chunks.
const CACHE_BYTES: usize = 16 << 20;

/// How many entries of the index are in memory at once while all are gone through.
pub(super) const LIST_ENTRIES: usize = 4096;

/// How long an open waits for a process that was just killed to be gone.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many objects.
    pub objects: u64,
    /// Their length before compression, in bytes.
    pub raw_bytes: u64,
    /// What they take on the disk, in bytes.
    pub stored_bytes: u64,
}

/// An open object store. One process at a time; any number of threads.
pub struct Objects {
    pub(super) packs: Packs,
    pub(super) plain: Plain,
    pub(super) cache: Cache,
    /// Held for reading by whoever is about to refer to objects (see [`super::collection`]).
    pub(super) referring: RwLock<()>,
    /// The collection under way, once it has begun. Held for reading by each put, for writing by a sweep.
    pub(super) collecting: RwLock<Option<Arc<Census>>>,
    /// Held by whoever needs packs to stay where they are, or takes them away.
    pub(super) maintenance: Mutex<()>,
    /// Locked as long as the store is open.
    _lock: File,
}

impl Objects {
    /// Creates an empty store in the existing, empty directory `directory`.
    pub fn create(directory: &Path) -> Result<(), ObjectsError> {
        files::create_directory(&directory.join("packs"), 0o700)?;
        Plain::create(&directory.join("plain"))?;
        files::create_new(&directory.join("lock"))?;
        Ok(files::sync_directory(directory)?)
    }

    /// Opens a store; after a crash, the tail of the newest pack is scanned and what is torn is cut off.
    pub fn open(directory: &Path) -> Result<Objects, ObjectsError> {
        let media = Directory::new(&directory.join("packs"));
        Objects::open_on(directory, Arc::new(media), Sizes::default())
    }

    /// As [`Objects::open`], with the packs elsewhere.
    pub(super) fn open_on(
        directory: &Path,
        media: Arc<dyn Media>,
        sizes: Sizes,
    ) -> Result<Objects, ObjectsError> {
        if files::metadata(&directory.join("packs"))?.is_none() {
            let reason = "it has no packs".to_owned();
            return Err(ObjectsError::Format { path: directory.to_owned(), reason });
        }
        let lock = lock(&directory.join("lock"))?;
        let packs = Packs::open(media, &directory.join("index.redb"), sizes)?;
        let plain = Plain::open(&directory.join("plain"), &packs.index)?;
        Ok(Objects {
            packs,
            plain,
            cache: Cache::new(CACHE_BYTES),
            referring: RwLock::default(),
            collecting: RwLock::default(),
            maintenance: Mutex::default(),
            _lock: lock,
        })
    }

    /// Stores an object (nothing is written when it is there already) and returns its name. Durable after
    /// [`Objects::flush`].
    pub fn put(&self, kind: Kind, content: &[u8]) -> Result<ObjectId, ObjectsError> {
        if content.len() > OBJECT_BYTES_MAX {
            return Err(ObjectsError::TooLarge { length: content.len() });
        }
        debug_assert!(kind != Kind::Plain, "plain files are put with put_file");
        let id = ObjectId::of(kind, content);
        self.keep(id);
        let Found::Nowhere(ticket) = self.packs.find(id)? else { return Ok(id) };
        let compressed = codec::compress(content);
        let (codec, payload) = match &compressed {
            Some(shorter) => (Codec::Zstd, &shorter[..]),
            None => (Codec::Raw, content),
        };
        let raw_len = u32::try_from(content.len()).expect("the limit is far below 4 GiB");
        let header = Header::object(id, kind, codec, raw_len, payload, 0);
        self.packs.append(id, header, payload, ticket)?;
        Ok(id)
    }

    /// The content of an object, checked against its name.
    pub fn get(&self, kind: Kind, id: ObjectId) -> Result<Arc<[u8]>, ObjectsError> {
        let (location, stored) = self.packs.read(id)?.ok_or(ObjectsError::Missing { id })?;
        if kind == Kind::TreePage {
            self.packs.fetch_around(&location);
        }
        match stored.header.content {
            Content::Object { id: stored_id, kind: stored_kind, .. }
                if stored_id == id && stored_kind != kind =>
            {
                Err(ObjectsError::Missing { id })
            }
            _ => match expand_checked(id, kind, stored) {
                Some(content) => Ok(content.into()),
                None => Err(self.packs.damaged(id, &location)),
            },
        }
    }

    /// Whether the object is in the store (durably or not yet). One that is may be referred to as if it had been put.
    pub fn contains(&self, id: ObjectId) -> Result<bool, ObjectsError> {
        self.keep(id);
        match self.packs.find(id)? {
            Found::Indexed(_) | Found::Pending(_) => Ok(true),
            Found::Nowhere(_) => Ok(self.plain.contains(id)?),
        }
    }

    /// Makes everything put so far durable: one or two device flushes, however much it is, and one for each new
    /// plain file.
    pub fn flush(&self) -> Result<(), ObjectsError> {
        self.plain.flush()?;
        self.packs.flush()
    }

    /// Calls `each` with the name of every object that is there when this is called, and perhaps of some that come
    /// meanwhile. What came before is durable then.
    pub fn each_id(
        &self,
        each: &mut dyn FnMut(ObjectId) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        self.plain.flush()?;
        self.packs.settle()?;
        let mut after = None;
        loop {
            let entries = self.packs.index.list(after, LIST_ENTRIES)?;
            let Some((last, _)) = entries.last() else { break };
            after = Some(*last);
            entries.iter().try_for_each(|(id, _)| each(*id))?;
        }
        self.plain.each_durable(&mut |id, _| each(id))
    }

    /// As [`Objects::each_id`], for the objects of one kind in packs. Reads the header of each object.
    pub fn each_of(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(ObjectId) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        self.each_id(&mut |id| if self.packs.kind(id)? == Some(kind) { each(id) } else { Ok(()) })
    }

    /// What is the matter with the index of objects, if anything is: not all of them may be found now.
    pub fn index_problem(&self) -> Option<ObjectsError> {
        self.packs.index.problem()
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        self.packs.totals().plus(self.plain.totals())
    }
}

/// Leaves an index that needs no scan at the next open. Nothing depends on it.
impl Drop for Objects {
    fn drop(&mut self) {
        self.packs.index.close();
        if let Err(error) = self.plain.settle(&self.packs.index).and_then(|()| self.packs.settle()) {
            log::warn!("closing the store: {error}");
        }
    }
}

/// The content of a record; `None` when it is not that of the object.
pub(super) fn expand_checked(id: ObjectId, kind: Kind, stored: Stored) -> Option<Vec<u8>> {
    let Content::Object { codec, raw_len, .. } = stored.header.content else { return None };
    let raw_len = usize::try_from(raw_len).ok().filter(|length| *length <= OBJECT_BYTES_MAX)?;
    let content = codec::expand(codec, stored.payload, raw_len)?;
    (ObjectId::of(kind, &content) == id).then_some(content)
}

fn lock(path: &Path) -> Result<File, ObjectsError> {
    let file = files::open_or_create(path)?;
    let started = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_WAIT_MAX => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ObjectsError::Locked { lock: path.to_owned() });
            }
            Err(error) => {
                let source = error.into();
                return Err(FileError { action: "lock", path: path.to_owned(), source }.into());
            }
        }
    }
}
