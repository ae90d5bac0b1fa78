//! Reading, changing and comparing trees.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Entry, NameKey, Root, Totals, TreeId};
use crate::base::RelativePath;
use crate::base::encoding::EncodingError;
use crate::objects::{Objects, ObjectsError};

/// What can go wrong with trees.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// An object could not be read or written.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// A file outside the store could not be read or written (import, export).
    #[error(transparent)]
    File(#[from] crate::base::FileError),
    /// A page is not what it should be.
    #[error("a directory page is damaged: {0}")]
    Page(#[from] EncodingError),
    /// A path leads nowhere, or through something that is not a directory.
    #[error("{path} is not in the tree")]
    NotFound {
        /// The path from the root.
        path: String,
    },
}

/// An entry with its place among the nodes of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The key of its name.
    pub key: NameKey,
    /// The entry.
    pub entry: Entry,
    /// How many nodes of the directory (with all below them) come before it: the entry's pre-order number is that
    /// of the directory, plus one, plus this.
    pub preceding: u64,
}

/// A new entry under a name, or (`None`) its removal.
pub type Change = (NameKey, Option<Entry>);

/// One difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path from the root; bytes, as names need not be UTF-8.
    pub path: PathBuf,
    /// The entry in the first tree, hard links resolved.
    pub old: Option<Entry>,
    /// The entry in the second tree, hard links resolved.
    pub new: Option<Entry>,
}

/// Trees over an object store, with a cache of decoded pages bounded in bytes.
pub struct Trees {
    /// The objects below.
    pub objects: Arc<Objects>,
}

impl Trees {
    /// Trees over `objects`, keeping at most `cache_bytes_max` of decoded pages.
    pub fn new(_objects: Arc<Objects>, _cache_bytes_max: usize) -> Trees {
        todo!()
    }

    /// The entry under a name.
    pub fn lookup(&self, _tree: Option<TreeId>, _key: &NameKey) -> Result<Option<Located>, TreesError> {
        todo!()
    }

    /// The entry that holds the node at `position` (0 is the first node of the directory): itself, or the
    /// directory the node is somewhere below. Resolves a pre-order number step by step.
    pub fn at_position(&self, _tree: Option<TreeId>, _position: u64) -> Result<Option<Located>, TreesError> {
        todo!()
    }

    /// Up to `count_max` entries whose cookie is greater than `after` (0: from the start), in order. Entries of
    /// one cookie are never separated: the last group may exceed `count_max`.
    pub fn list(
        &self,
        _tree: Option<TreeId>,
        _after: u64,
        _count_max: usize,
    ) -> Result<Vec<Located>, TreesError> {
        todo!()
    }

    /// The directory with `changes` (sorted by key, one per key) applied, and its sums. Touches only the pages
    /// around the changes.
    pub fn update(
        &self,
        _tree: Option<TreeId>,
        _changes: &[Change],
    ) -> Result<(Option<TreeId>, Totals), TreesError> {
        todo!()
    }

    /// Calls `each` for every entry that differs, in path order; descends only where trees differ. Entries that
    /// appear or vanish as a whole directory are reported with everything below them.
    pub fn diff(
        &self,
        _old: &Root,
        _new: &Root,
        _each: &mut dyn FnMut(Difference) -> Result<(), TreesError>,
    ) -> Result<(), TreesError> {
        todo!()
    }

    /// The entry at a path, hard links resolved; `None` where there is none.
    pub fn entry_at(&self, _root: &Root, _path: &RelativePath) -> Result<Option<Entry>, TreesError> {
        todo!()
    }

    /// `root` with `entry` at `path` (`None` removes it). Missing parent directories are created with the
    /// attributes of their parent. Rewrites only the directories along the path. The totals are kept right.
    pub fn replace_at(
        &self,
        _root: &Root,
        _path: &RelativePath,
        _entry: Option<Entry>,
    ) -> Result<Root, TreesError> {
        todo!()
    }
}
