//! What the tests of this layer share.

use std::sync::Arc;

use tempfile::TempDir;

use super::{Attributes, Entry, Node, Trees};
use crate::base::Timestamp;
use crate::objects::{FileContent, Kind, ObjectId, Objects};

/// An object store in a directory of its own, with trees over it.
pub(super) struct Store {
    pub(super) trees: Trees,
    _directory: TempDir,
}

/// An empty store.
pub(super) fn store() -> Store {
    let directory = tempfile::tempdir().unwrap();
    Objects::create(directory.path()).unwrap();
    let objects = Arc::new(Objects::open(directory.path()).unwrap());
    Store { trees: Trees::new(objects, 64 << 20), _directory: directory }
}

/// A file whose (absent) content and time tell it from files of other numbers.
pub(super) fn file(number: u64) -> Entry {
    let id = ObjectId::of(Kind::Chunk, &number.to_le_bytes());
    let mtime = Timestamp::from_parts(1_700_000_000 + number as i64, 123_456_789);
    Entry {
        attributes: Attributes { mode: 0o644, uid: 33, gid: 33, mtime, ..Attributes::default() },
        node: Node::File(FileContent::Chunk { id, size: number + 1 }),
    }
}

/// A symbolic link.
pub(super) fn symlink(target: &[u8]) -> Entry {
    Entry { attributes: Attributes::default(), node: Node::Symlink { target: target.into() } }
}
