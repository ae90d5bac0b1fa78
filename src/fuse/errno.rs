//! What the kernel is told instead of an error of the live layer.

use fuser::Errno;

use crate::base::FileError;
use crate::live::LiveError;

/// The one table. An error that no caller can have caused is EIO, and the log has the rest.
pub(super) fn errno(error: &LiveError) -> Errno {
    match error {
        LiveError::NotFound => Errno::ENOENT,
        LiveError::Exists => Errno::EEXIST,
        LiveError::NotADirectory => Errno::ENOTDIR,
        LiveError::IsADirectory => Errno::EISDIR,
        LiveError::NotEmpty => Errno::ENOTEMPTY,
        LiveError::ReadOnly => Errno::EROFS,
        LiveError::NotPermitted => Errno::EPERM,
        LiveError::CrossVolume => Errno::EXDEV,
        LiveError::NameTooLong => Errno::ENAMETOOLONG,
        LiveError::Invalid => Errno::EINVAL,
        LiveError::NoAttribute => Errno::NO_XATTR,
        LiveError::TooLarge => Errno::EFBIG,
        LiveError::TooManyLinks => Errno::EMLINK,
        LiveError::NotSupported => Errno::EOPNOTSUPP,
        LiveError::NoSpace => Errno::ENOSPC,
        LiveError::Stale => Errno::ESTALE,
        LiveError::Busy => Errno::ETXTBSY,
        LiveError::BadHandle => Errno::EBADF,
        LiveError::File(error) => file(error),
        LiveError::Commit(_)
        | LiveError::Row(_)
        | LiveError::OtherBase
        | LiveError::OtherTime { .. }
        | LiveError::Trees(_)
        | LiveError::Snapshot(_)
        | LiveError::Tables(_) => Errno::EIO,
    }
}

/// Only what the caller can do something about is passed on: that a file of the store is missing (ENOENT) would
/// be read as a statement about the caller's own path.
fn file(error: &FileError) -> Errno {
    match error.source.raw_os_error().map(Errno::from_i32) {
        Some(
            errno @ (Errno::ENOSPC
            | Errno::EDQUOT
            | Errno::EFBIG
            | Errno::ENOMEM
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::EINTR
            | Errno::EROFS
            | Errno::EOPNOTSUPP),
        ) => errno,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_full_disk_is_told_and_a_missing_file_of_the_store_is_not() {
        let error = |source| LiveError::File(FileError { action: "write", path: PathBuf::new(), source });
        assert_eq!(errno(&error(io::Error::from_raw_os_error(Errno::ENOSPC.code()))), Errno::ENOSPC);
        assert_eq!(errno(&error(io::Error::from_raw_os_error(Errno::ENOENT.code()))), Errno::EIO);
        assert_eq!(errno(&error(io::Error::other("no number"))), Errno::EIO);
    }
}
