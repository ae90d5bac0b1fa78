//! What differs between two trees.

use std::path::PathBuf;

use super::{Entry, Root, Trees, TreesError};

/// One difference between two trees. Two entries are the same when they are so with hard links resolved: which
/// names share a node is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path from the root; bytes, as names need not be UTF-8.
    pub path: PathBuf,
    /// The entry in the first tree, hard links resolved.
    pub old: Option<Entry>,
    /// The entry in the second tree, hard links resolved.
    pub new: Option<Entry>,
}

impl Trees {
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
}
