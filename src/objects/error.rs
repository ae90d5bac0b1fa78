//! What can go wrong with objects.

use std::io;
use std::path::PathBuf;

use super::ObjectId;
use crate::base::FileError;
use crate::base::tables::TablesError;

/// What can go wrong with objects.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The file system below failed (a full disk among it).
    #[error(transparent)]
    File(#[from] FileError),
    /// The index failed. It can be rebuilt: nothing is lost with it.
    #[error("the index of objects failed: {0}")]
    Index(#[from] TablesError),
    /// The index is damaged, and not there again yet.
    #[error(
        "the index of objects was damaged and is being made anew from the packs: try again when `sitefs status` does \
             not say so any more"
    )]
    IndexRenewing,
    /// The index is damaged, and stays so for now.
    #[error(
        "the index of objects is damaged and cannot be made anew from the packs ({reason}): put that right, and run \
             `sitefs verify --repair`"
    )]
    IndexDamaged {
        /// Why not.
        reason: String,
    },
    /// The index lacks what is in parts of packs that cannot be read.
    #[error(
        "the disk refuses to be read ({places}), so it is not known which objects are there: when it is well again, run \
             `sitefs verify`; if it stays so, `sitefs verify --repair` gives up what cannot be read"
    )]
    Unread {
        /// Which parts.
        places: String,
    },
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
    /// An object longer than any that sitefs makes.
    #[error(
        "an object of {length} bytes is longer than the limit of {} bytes",
        crate::base::limits::OBJECT_BYTES_MAX
    )]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The content given to [`super::Objects::put_file`] could not be read; the store itself is well.
    #[error("the content cannot be read: {0}")]
    Source(io::Error),
    /// Another process has the store open.
    #[error("another sitefs process (the daemon?) has the store open: {} is locked", lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// The directory holds no store, or one of a newer format.
    #[error("{} is not an object store that this sitefs can open: {reason}", path.display())]
    Format {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The device failed to make objects durable. What was put since the last successful flush is lost, and
    /// nothing more is written until the store is opened again.
    #[error("the store takes no more changes since its device failed ({reason}): restart the daemon")]
    Failed {
        /// What the device said.
        reason: String,
    },
}

impl ObjectsError {
    /// Whether the disk is full: what was refused can be repeated when there is room again.
    pub fn is_disk_full(&self) -> bool {
        match self {
            ObjectsError::File(error) => error.kind() == io::ErrorKind::StorageFull,
            ObjectsError::Index(error) => error.is_disk_full(),
            _ => false,
        }
    }
}
