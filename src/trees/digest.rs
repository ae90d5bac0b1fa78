//! The identity of a directory of the native file system, without storing it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::walk::{Found, Gather, walk};
use super::{NameKey, TreesError};
use crate::base::RelativePath;
use crate::base::files::At;
use crate::objects::ObjectId;

/// A hash over the names, types, contents, execute permissions and link targets of `directory` and all below it,
/// `exclude` left out, on all cores. Owners, times, other permissions and extended attributes do not matter, nor
/// do sockets and what is mounted below. A device node is an error.
pub fn digest_directory(directory: &Path, exclude: &[RelativePath]) -> Result<Digest, TreesError> {
    let hashing = Hashing::default();
    let (top, _skipped) = walk(&hashing, directory, exclude)?;
    Ok(Digest {
        id: ObjectId::from_bytes(*top.hash.as_bytes()),
        files: hashing.files.into_inner(),
        bytes: hashing.bytes.into_inner(),
    })
}

/// The identity of a directory, and how much was read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The hash.
    pub id: ObjectId,
    /// How many regular files.
    pub files: u64,
    /// Their sizes, in bytes.
    pub bytes: u64,
}

#[derive(Default)]
struct Hashing {
    files: AtomicU64,
    bytes: AtomicU64,
}

/// A node as its directory's hash takes it in.
struct Digested {
    /// Tells types and execute permission apart.
    tag: u8,
    hash: blake3::Hash,
}

impl Gather for Hashing {
    type Made = Digested;

    fn file(&self, file: &File, found: &Found<'_>) -> Result<Digested, TreesError> {
        let mut hasher = blake3::Hasher::new();
        self.files.fetch_add(1, Ordering::Relaxed);
        hasher.update_reader(file).at("read", &found.path())?;
        self.bytes.fetch_add(hasher.count(), Ordering::Relaxed);
        let executable = found.stat.mode & 0o111 != 0;
        Ok(Digested { tag: if executable { b'x' } else { b'f' }, hash: hasher.finalize() })
    }

    fn symlink(&self, target: &[u8], _found: &Found<'_>) -> Digested {
        Digested { tag: b'l', hash: blake3::hash(target) }
    }

    fn fifo(&self, _found: &Found<'_>) -> Digested {
        Digested { tag: b'p', hash: blake3::hash(b"") }
    }

    fn directory(
        &self,
        _directory: &OwnedFd,
        _found: &Found<'_>,
        within: Vec<(NameKey, Digested)>,
    ) -> Result<Digested, TreesError> {
        let mut hasher = blake3::Hasher::new();
        for (key, node) in within {
            // No name has a zero byte and all else is of fixed length, so no two directories hash the same bytes.
            hasher.update(&key.name).update(&[0, node.tag]).update(node.hash.as_bytes());
        }
        Ok(Digested { tag: b'd', hash: hasher.finalize() })
    }
}
