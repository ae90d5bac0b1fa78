//! Freezing: a volume's state at one instant as a durable tree.

use super::{LiveError, Volume};
use crate::trees::Root;

/// The state of a volume at one instant, as a tree. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenTree {
    /// The tree.
    pub root: Root,
    /// Files that a process kept writing, past this program (passthrough), while they were copied: their content is
    /// not one state. Empty when nothing was being written.
    pub unstable: Vec<std::path::PathBuf>,
}

impl Volume {
    /// Takes the volume's state at this instant as a durable tree. Costs what changed since the last freeze.
    /// Readers go on; writers wait only while the changed names and attributes are gathered and files open for
    /// writing are copied; contents are hashed and stored after that.
    pub fn freeze(&self) -> Result<FrozenTree, LiveError> {
        todo!()
    }

    /// As [`Volume::freeze`] on each of `volumes`, all at the same instant.
    pub fn freeze_together(_volumes: &[&Volume]) -> Result<Vec<FrozenTree>, LiveError> {
        todo!()
    }
}
