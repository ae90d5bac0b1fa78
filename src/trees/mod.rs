//! `trees`: directories as paged Merkle trees.
//!
//! A directory is an ordered map from names to entries, cut into pages where the names' hashes say, so that the
//! same entries always give the same pages, whatever the order in which they came, and one change rewrites one page
//! a level. Entries are ordered by [`NameKey`]: first by a 63-bit hash of the name, which doubles as the directory
//! cookie of `readdir`, then by the name. Every reference to a directory carries the number of nodes below it, so
//! that the nodes of a tree are numbered in pre-order without storing a number anywhere.
//!
//! Invariants: a tree never changes; all functions that "change" one return a new one and cost what changed.
//!
//! Absent: who refers to a tree, anything writable, any number that differs between two trees of the same content.

mod audit;
mod cache;
mod cursor;
mod diff;
mod digest;
mod entry;
mod export;
mod held;
mod import;
mod links;
mod native;
mod page;
mod path;
mod reach;
mod tree;
mod update;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use audit::{Audit, Finding};
pub use diff::Difference;
pub use digest::{Digest, DigestedNode, Listed, digest_directory, list_directory};
pub use entry::{Attributes, Entry, NameKey, Node, Root, Totals, TreeId, Xattrs};
pub use import::{ImportEvent, ImportOptions, ImportReport, Skipped};
pub use reach::Reference;
pub use tree::{Change, Located, Trees, TreesError};
