//! Paths through a tree: finding and replacing what is at one.

use super::{Entry, Root, Trees, TreesError};
use crate::base::RelativePath;

impl Trees {
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
