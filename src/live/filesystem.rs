//! The whole file system: the namespace and the volumes in it.

use std::fs::File;
use std::sync::Arc;

use super::{FileKind, Handle, LiveError, Namespace, NodeAttributes, NodeId, Volume};

/// An entry of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Where a listing goes on after this entry.
    pub cookie: u64,
    /// The name.
    pub name: Box<[u8]>,
    /// The node's attributes.
    pub attributes: NodeAttributes,
}

/// How the bytes of an open file are served.
#[derive(Clone, Debug)]
pub enum Served {
    /// By [`Volume::read`] and [`Volume::write`]; the kernel may keep its pages from earlier opens.
    Program,
    /// By the kernel from this file, past this program. One file per node while the node is open.
    Backing(Arc<File>),
}

/// An opened file.
#[derive(Clone, Debug)]
pub struct OpenedFile {
    /// The handle for [`Volume::read`] and the others.
    pub handle: Handle,
    /// How it is served.
    pub served: Served,
}

/// Something the kernel must forget, because it changed otherwise than through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Attributes and pages of a node.
    Node(NodeId),
    /// A name in a directory, with what the kernel believes of it (negative entries too).
    Entry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: Box<[u8]>,
    },
}

/// Where invalidations go. Called with no lock held; must not wait for an operation on the file system.
pub trait Invalidations: Send + Sync {
    /// Passes one on; returns when the kernel has taken it.
    fn invalidate(&self, invalidation: Invalidation);
}

/// The namespace and the attached volumes. Every operation of [`Volume`] is here too, dispatched by node id, with
/// the namespace's own answers (read-only) for volume 0.
pub struct FileSystem {}

impl FileSystem {
    /// An empty file system.
    pub fn new() -> Arc<FileSystem> {
        todo!()
    }

    /// Makes a volume reachable by its number.
    pub fn add_volume(&self, _volume: Arc<Volume>) {
        todo!()
    }

    /// Makes a volume unreachable; later operations on its nodes answer [`LiveError::NotFound`].
    pub fn remove_volume(&self, _number: super::VolumeNumber) {
        todo!()
    }

    /// Replaces the namespace in one step and returns what the kernel must forget.
    pub fn set_namespace(&self, _namespace: Namespace) -> Vec<Invalidation> {
        todo!()
    }

    /// The node under a name, in the namespace or a volume.
    pub fn lookup(&self, _parent: NodeId, _name: &[u8]) -> Result<NodeAttributes, LiveError> {
        todo!()
    }
}

#[expect(dead_code, reason = "keeps the imports of the signatures above until they are written")]
fn signatures(_: Handle, _: FileKind) {}
