//! `live`: the writable layer. File-system semantics live here, without one FUSE type.
//!
//! A [`Volume`] shows a tree ([`crate::trees::Root`]): read-only, or writable through an overlay of changed nodes.
//! A [`FileSystem`] is a synthetic namespace (directories and symbolic links made by the daemon) whose leaves are
//! the roots of volumes; it dispatches every operation by node id.
//!
//! Node ids: 24 bits of volume number, 40 bits of number within the volume. Volume numbers are never reused; volume
//! 0 is the namespace. Within a volume, 1 is the root; a node of the base tree has its pre-order number (the root's
//! 1, plus one, plus the nodes before it), so no number is stored and any number can be found again after it was
//! forgotten; a hard-linked node of the base tree has 2^38 plus its link number; a node made later has a number
//! from 2^39 up, counted by the volume and never reused.
//!
//! Invariants: what an operation returned is seen by every later one; after [`Volume::sync`] (fsync) returns, what
//! was done before survives a power cut; otherwise changes are committed in order, at the latest a second later,
//! so a crash loses at most the end of history, never its middle; a frozen tree is a state that existed.
//!
//! Absent: FUSE, errno numbers, sites and generations.

mod access_list;
mod attached;
mod attributes;
mod audit;
mod bulk;
mod change;
mod clock;
mod commit;
mod copies;
mod copy_up;
mod directory;
mod error;
mod filesystem;
mod freeze;
mod handles;
mod load;
mod mark;
mod names;
mod namespace;
mod node;
mod recovery;
mod references;
mod remover;
mod reserve;
mod rows;
mod salvage;
mod settings;
mod spent;
mod state;
mod unsynced;
mod upper;
mod volume;
mod volumes;

pub use attributes::{
    FileKind, NodeAttributes, NodeId, SetAttributes, SpaceReport, TimeChange, VolumeNumber,
};
pub use error::LiveError;
pub use filesystem::{DirectoryEntry, FileSystem, Invalidation, Invalidations, OpenedFile, Served};
pub use freeze::FrozenTree;
pub use mark::{KnownMark, Mark, Marks};
pub use namespace::{Namespace, NamespaceEdit, NamespaceEntry};
pub use references::References;
pub use salvage::{Salvaged, put_in_place, salvage};
pub use volume::{Access, Caller, Handle, OpenMode, RenameMode, Volume, XattrMode};
pub use volumes::Volumes;

#[cfg(test)]
mod tests;
