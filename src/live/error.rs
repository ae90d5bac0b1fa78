//! What an operation on the live layer can answer instead of a result.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::FileError;
use crate::base::encoding::EncodingError;
use crate::base::tables::TablesError;
use crate::history::HistoryError;
use crate::objects::ObjectsError;
use crate::trees::TreesError;

/// Why an operation failed. `fuse` translates each into one errno, in one exhaustive table.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No such name, or the node is gone.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("it exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A directory cannot take this.
    #[error("is a directory")]
    IsADirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The volume or the namespace cannot be changed here.
    #[error("this part of the file system is read-only")]
    ReadOnly,
    /// The caller may not.
    #[error("operation not permitted")]
    NotPermitted,
    /// Across volumes.
    #[error("source and target are in different volumes")]
    CrossVolume,
    /// The name is longer than 255 bytes.
    #[error("the name is too long")]
    NameTooLong,
    /// The arguments do not fit (a directory into itself, a name with a slash).
    #[error("invalid argument")]
    Invalid,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// The value or file would be larger than the limit.
    #[error("too large")]
    TooLarge,
    /// Too many hard links.
    #[error("too many links")]
    TooManyLinks,
    /// Not supported on this kind of node (device nodes, xattrs of symlinks).
    #[error("not supported")]
    NotSupported,
    /// The disk is full.
    #[error("no space left on the device that holds the store")]
    NoSpace,
    /// The node has been replaced by another under the same name while it was open: look the name up again and
    /// repeat (`ESTALE`; the kernel does both by itself).
    #[error("the file was replaced meanwhile")]
    Stale,
    /// A program that runs cannot be emptied; a file with several names, which the kernel is reading from an
    /// immutable file, cannot be opened for writing until it is closed (`ETXTBSY`).
    #[error("the file is being run or read, and cannot be written to now")]
    Busy,
    /// The handle is not open, or not open for this.
    #[error("not an open file, or not open for this")]
    BadHandle,
    /// Changes could not be made durable; they are kept, and tried again every second.
    #[error("changes could not be made durable: {0}")]
    Commit(Arc<str>),
    /// A row of the overlay is damaged.
    #[error("the overlay of changed files is damaged: {0}")]
    Row(#[from] EncodingError),
    /// The volume was attached to another tree than the one its overlay was made on.
    #[error("the overlay was made on another tree")]
    OtherBase,
    /// The tables are older than the records, or another store's.
    #[error("{} is not of the same time as the catalog, or of another store: it lacks changes, or the catalog does", path.display())]
    OtherTime {
        /// The tables' file.
        path: PathBuf,
    },
    /// A file below failed.
    #[error(transparent)]
    File(FileError),
    /// The store failed or is damaged.
    #[error(transparent)]
    Trees(TreesError),
    /// A snapshot is damaged or from a newer sitefs.
    #[error(transparent)]
    Snapshot(Box<HistoryError>),
    /// The metadata engine failed.
    #[error(transparent)]
    Tables(TablesError),
}

/// Whether the error says that the disk, or the owner's share of it, is full.
fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<FileError> for LiveError {
    fn from(error: FileError) -> LiveError {
        match error.kind() {
            kind if is_full(kind) => LiveError::NoSpace,
            io::ErrorKind::FileTooLarge => LiveError::TooLarge,
            _ => LiveError::File(error),
        }
    }
}

impl From<TreesError> for LiveError {
    fn from(error: TreesError) -> LiveError {
        match &error {
            TreesError::Objects(ObjectsError::File(file)) | TreesError::File(file)
                if is_full(file.kind()) =>
            {
                LiveError::NoSpace
            }
            _ => LiveError::Trees(error),
        }
    }
}

impl From<ObjectsError> for LiveError {
    fn from(error: ObjectsError) -> LiveError {
        TreesError::from(error).into()
    }
}

impl From<TablesError> for LiveError {
    fn from(error: TablesError) -> LiveError {
        if error.is_disk_full() { LiveError::NoSpace } else { LiveError::Tables(error) }
    }
}
