//! The synthetic part of the file system: directories and symbolic links that the daemon makes.

use std::collections::BTreeMap;

use super::VolumeNumber;

/// What a name of the namespace stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceEntry {
    /// A directory with these entries.
    Directory(BTreeMap<String, NamespaceEntry>),
    /// A symbolic link.
    Symlink(String),
    /// The root of a volume.
    Volume(VolumeNumber),
    /// An empty directory onto which something else is bind-mounted.
    DirectoryMountPoint,
    /// An empty file onto which something else is bind-mounted.
    FileMountPoint,
}

/// The whole namespace: a description that replaces the one before in one step.
///
/// A node's number is derived from its path and what it is (a symbolic link's target included), so it is the same
/// after a restart, and another number whenever it is something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The entries of the root.
    pub entries: BTreeMap<String, NamespaceEntry>,
}
