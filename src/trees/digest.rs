//! The identity of a directory of the native file system, without storing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::walk::{Found, Gather, walk};
use super::{NameKey, TreesError};
use crate::base::files::At;
use crate::base::{RelativePath, Timestamp};
use crate::objects::ObjectId;

/// A hash over the names, types, contents, execute permissions and link targets of `directory` and all below it,
/// `exclude` left out, on all cores. Owners, times, other permissions and extended attributes do not matter, nor
/// do sockets and what is mounted below. A device node is an error.
pub fn digest_directory(directory: &Path, exclude: &[RelativePath]) -> Result<Digest, TreesError> {
    Ok(digest(Hashing::default(), directory, exclude)?.0)
}

/// As [`digest_directory`], and what each node is, by path.
pub fn list_directory(
    directory: &Path,
    exclude: &[RelativePath],
) -> Result<(Digest, Vec<Listed>), TreesError> {
    let hashing = Hashing { listed: Some(Mutex::default()), ..Hashing::default() };
    let (digest, listed) = digest(hashing, directory, exclude)?;
    // A file that changed while it was read was read again; the last time counts.
    let by_path: BTreeMap<_, _> =
        listed.into_iter().map(|listed| (listed.node.path.clone(), listed)).collect();
    Ok((digest, by_path.into_values().collect()))
}

fn digest(
    hashing: Hashing,
    directory: &Path,
    exclude: &[RelativePath],
) -> Result<(Digest, Vec<Listed>), TreesError> {
    let (top, _skipped) = walk(&hashing, directory, exclude)?;
    let digest = Digest {
        id: ObjectId::from_bytes(*top.hash.as_bytes()),
        files: hashing.files.into_inner(),
        bytes: hashing.bytes.into_inner(),
    };
    Ok((digest, hashing.listed.map(Mutex::into_inner).unwrap_or_default()))
}

/// What a digest takes in of a node that is no directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestedNode {
    /// The path from the directory's top; bytes, as names need not be UTF-8.
    pub path: Box<[u8]>,
    /// `f` a file, `x` a file that may be executed, `l` a symbolic link, `p` a named pipe.
    pub tag: u8,
    /// BLAKE3 of the content or of the link's target.
    pub hash: ObjectId,
    /// The size of a file, in bytes; 0 of others.
    pub size: u64,
}

/// A node, and what is known of who made it what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What the digest takes in.
    pub node: DigestedNode,
    /// The owner's user id.
    pub uid: u32,
    /// When the content last changed, as the owner may have set it.
    pub modified: Timestamp,
    /// When content or attributes last changed; only the system sets that.
    pub changed: Timestamp,
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
    /// The nodes, where they are wanted.
    listed: Option<Mutex<Vec<Listed>>>,
}

impl Hashing {
    /// Makes what a directory's hash takes in of a node that is none itself.
    fn digested(&self, tag: u8, hash: blake3::Hash, found: &Found<'_>) -> Digested {
        if let Some(listed) = &self.listed {
            let is_file = matches!(tag, b'f' | b'x');
            let node = DigestedNode {
                path: found.relative().as_os_str().as_bytes().into(),
                tag,
                hash: ObjectId::from_bytes(*hash.as_bytes()),
                size: if is_file { found.stat.size } else { 0 },
            };
            let stat = &found.stat;
            let entry = Listed { node, uid: stat.uid, modified: stat.mtime, changed: stat.ctime };
            listed.lock().push(entry);
        }
        Digested { tag, hash }
    }
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
        Ok(self.digested(if executable { b'x' } else { b'f' }, hasher.finalize(), found))
    }

    fn symlink(&self, target: &[u8], found: &Found<'_>) -> Digested {
        self.digested(b'l', blake3::hash(target), found)
    }

    fn fifo(&self, found: &Found<'_>) -> Digested {
        self.digested(b'p', blake3::hash(b""), found)
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
