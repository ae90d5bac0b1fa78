//! What an operation on the live layer can answer instead of a result.

use crate::base::FileError;
use crate::base::tables::TablesError;
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
    /// A file below failed.
    #[error(transparent)]
    File(FileError),
    /// The store failed or is damaged.
    #[error(transparent)]
    Trees(#[from] TreesError),
    /// The metadata engine failed.
    #[error(transparent)]
    Tables(#[from] TablesError),
}
