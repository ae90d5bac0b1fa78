//! The store of objects.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{FileContent, Kind, ObjectId};
use crate::base::FileError;

/// What can go wrong with objects.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The file system below failed (a full disk among it).
    #[error(transparent)]
    File(#[from] FileError),
    /// A reference to an object that is in no pack.
    #[error("object {id} is missing from the store: run `sitefs verify`")]
    Missing {
        /// The object.
        id: ObjectId,
    },
    /// The stored bytes are not what the name says.
    #[error("object {id} is damaged in {place}: run `sitefs verify --repair`")]
    Damaged {
        /// The object.
        id: ObjectId,
        /// The file and the offset.
        place: String,
    },
}

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
pub struct Objects {}

impl Objects {
    /// Creates an empty store in the existing, empty directory `directory`.
    pub fn create(_directory: &Path) -> Result<(), ObjectsError> {
        todo!()
    }

    /// Opens a store; after a crash, the tail of the newest pack is scanned and what is torn is cut off.
    pub fn open(_directory: &Path) -> Result<Objects, ObjectsError> {
        todo!()
    }

    /// Stores an object (nothing is written when it is there already) and returns its name. Durable after
    /// [`Objects::flush`].
    pub fn put(&self, _kind: Kind, _content: &[u8]) -> Result<ObjectId, ObjectsError> {
        todo!()
    }

    /// The content of an object, checked against its name.
    pub fn get(&self, _kind: Kind, _id: ObjectId) -> Result<Arc<[u8]>, ObjectsError> {
        todo!()
    }

    /// Whether the object is in the store (durably or not yet).
    pub fn contains(&self, _id: ObjectId) -> Result<bool, ObjectsError> {
        todo!()
    }

    /// Makes everything put so far durable: one or two device flushes, however much it is.
    pub fn flush(&self) -> Result<(), ObjectsError> {
        todo!()
    }

    /// Stores the content of a file, read to its end. `size_hint` (bytes) chooses how it is cut; a wrong hint
    /// costs speed, never correctness.
    pub fn put_file(&self, _content: &mut dyn Read, _size_hint: u64) -> Result<FileContent, ObjectsError> {
        todo!()
    }

    /// Reads up to `buffer.len()` bytes at `offset`; returns how many, fewer only at the end of the file.
    pub fn read_at(
        &self,
        _content: &FileContent,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Result<usize, ObjectsError> {
        todo!()
    }

    /// Writes the whole content into `target` from its start. Not synced.
    pub fn copy_to(&self, _content: &FileContent, _target: &File) -> Result<(), ObjectsError> {
        todo!()
    }

    /// Opens the plain file behind [`FileContent::Plain`] for reading; `None` for every other content.
    pub fn open_plain(&self, _content: &FileContent) -> Result<Option<File>, ObjectsError> {
        todo!()
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        todo!()
    }
}
