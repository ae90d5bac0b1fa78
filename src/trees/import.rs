//! Directories of the native file system to trees and back.

use std::path::{Path, PathBuf};

use super::{Root, Trees, TreesError};
use crate::base::RelativePath;

/// Progress of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportEvent {
    /// Nodes done so far.
    pub nodes: u64,
    /// Bytes of regular files read so far.
    pub bytes: u64,
}

/// What an import is asked to do differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Paths below the imported directory that are left out, with all below them, without being opened. They
    /// need not exist.
    pub exclude: Vec<RelativePath>,
}

/// Something an import left out, or took in a state it could not vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The path on the native file system.
    pub path: PathBuf,
    /// Why, in words for the administrator: "changed while it was read", "vanished", "is a socket".
    pub reason: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Nodes taken in.
    pub nodes: u64,
    /// Bytes of regular files taken in.
    pub bytes: u64,
    /// What was left out, and files that kept changing while they were read.
    pub skipped: Vec<Skipped>,
}

impl Trees {
    /// Stores the directory `directory` with everything below it, on all cores. A device node is an error that
    /// names it; sockets are left out; files that change or vanish meanwhile are read again, then reported.
    /// Does not cross mount points: what is mounted below `directory` is left out and reported.
    /// Objects already stored are not written again, so an interrupted import resumes by being repeated.
    pub fn import(
        &self,
        _directory: &Path,
        _options: &ImportOptions,
        _progress: &(dyn Fn(ImportEvent) + Sync),
    ) -> Result<(Root, ImportReport), TreesError> {
        todo!()
    }

    /// Writes the tree below the existing, empty directory `target`, with all attributes.
    pub fn export(&self, _root: &Root, _target: &Path) -> Result<(), TreesError> {
        todo!()
    }
}
