//! One node as it is held in memory and written in its row.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::copies::Copied;
use super::upper::{self, UpperFacts};
use super::{Caller, FileKind, LiveError, NodeAttributes, NodeId, access_list, clock};
use crate::base::Timestamp;
use crate::objects::FileContent;
use crate::trees::{self, Entry, NameKey, TreeId};

/// The number of a volume's root.
pub(super) const ROOT: u64 = 1;
/// Hard-linked nodes of the base tree have this plus their link number.
pub(super) const LINKS: u64 = 1 << 38;
/// Nodes made later count up from here.
pub(super) const MADE: u64 = 1 << 39;
/// One past the last number.
pub(super) const NUMBERS_END: u64 = 1 << 40;

/// Where a node with one name has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Home {
    pub(super) directory: u64,
    pub(super) key: NameKey,
}

/// A node. What is not skipped is its row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of an upper file being written, the file's own time counts.
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
    /// When it was set by hand.
    pub(super) accessed: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// How many names it has; of a directory 2, and one more for each directory in it, or 1 where that is not known. 0
    /// once it is removed, and then it has no row.
    pub(super) names: u32,
    /// Its number among the hard-linked nodes, kept even when all names but one are gone.
    pub(super) link: Option<u64>,
    /// `None` for the root, for hard-linked nodes and for removed ones.
    pub(super) home: Option<Home>,
    pub(super) body: Body,
    #[serde(skip)]
    pub(super) open: Open,
    /// Whether it was used since the cache last considered dropping it.
    #[serde(skip)]
    pub(super) recent: bool,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// The entries of `base`, changed by the directory's slots.
    Directory {
        base: Option<TreeId>,
        totals: trees::Totals,
    },
    /// A regular file in the store.
    Stored(FileContent),
    /// A regular file with its content in an upper file.
    Upper(Upper),
    Symlink(Box<[u8]>),
    Fifo,
    Socket,
    CharacterDevice(u32),
    BlockDevice(u32),
}

/// The content of a file as an upper file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upper {
    /// Its number.
    pub(super) number: u64,
    /// Its size in bytes, unless it is being written.
    pub(super) size: u64,
    /// What it takes in units of 512 bytes, unless it is being written; `None` where nobody has looked. Not in the row:
    /// the file itself says it.
    #[serde(skip)]
    pub(super) blocks: Option<u64>,
    /// Whether it is open for writing, so that only the upper file knows size and time. True in a row that was
    /// read back only after a crash.
    pub(super) written: bool,
    /// Whether a freeze is reading it: it must not change, and whoever wants to write takes a copy.
    #[serde(skip)]
    pub(super) sealed: bool,
    /// The same content in the store, when a freeze put it there and the file has not been opened for writing
    /// since.
    #[serde(skip)]
    pub(super) stored: Option<FileContent>,
    /// Whether it was emptied to be written anew: its content is flushed when it is closed, so that a crash does
    /// not leave it empty.
    #[serde(skip)]
    pub(super) emptied: bool,
    /// What it was copied from, while it was not written otherwise (see `copies`).
    #[serde(skip)]
    pub(super) copied: Option<Copied>,
    /// Whether the file's name is known to be durable.
    #[serde(skip)]
    pub(super) named: bool,
}

impl Upper {
    pub(super) fn new(number: u64, size: u64) -> Upper {
        Upper {
            number,
            size,
            blocks: None,
            written: false,
            sealed: false,
            stored: None,
            emptied: false,
            copied: None,
            named: false,
        }
    }
}

/// How a node is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// Handles served by the program.
    pub(super) program: u32,
    /// Handles served by the kernel.
    pub(super) backing: u32,
    /// How many of either may write.
    pub(super) writers: u32,
    /// How many of either are of programs that run.
    pub(super) running: u32,
    /// The file all of them share, once one needed it.
    pub(super) file: Option<Arc<File>>,
    /// Whether its content is being copied up, outside of the lock.
    pub(super) busy: bool,
    /// Somebody is about to open it for writing: the kernel is not given its immutable file meanwhile.
    pub(super) wanted: bool,
    /// It was removed, and is to be voided when it is closed (see `spent`).
    pub(super) spent: bool,
}

/// The names of a directory that has so many directories in it.
fn directory_names(directories: Option<u64>) -> u32 {
    directories.map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(2))
}

impl Open {
    pub(super) fn is_open(&self) -> bool {
        self.program > 0 || self.backing > 0 || self.busy
    }
}

impl Node {
    /// A node made now, still without a home.
    pub(super) fn made(body: Body, mode: u32, owner: Caller) -> Node {
        let now = clock::now();
        let names = if matches!(body, Body::Directory { .. }) { directory_names(Some(0)) } else { 1 };
        Node {
            mode: mode & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            modified: now,
            changed: now,
            accessed: None,
            xattrs: BTreeMap::new(),
            names,
            link: None,
            home: None,
            body,
            open: Open::default(),
            recent: true,
        }
    }

    /// A node of a tree, unchanged. `Entry` must not be a hard link.
    pub(super) fn of_entry(entry: Entry, home: Option<Home>) -> Result<Node, LiveError> {
        let names = match &entry.node {
            trees::Node::Directory { totals, .. } => directory_names(totals.directories),
            _ => 1,
        };
        let body = match entry.node {
            trees::Node::File(content) => Body::Stored(content),
            trees::Node::Directory { tree, totals } => Body::Directory { base: tree, totals },
            trees::Node::Symlink { target } => Body::Symlink(target),
            trees::Node::Fifo => Body::Fifo,
            trees::Node::HardLink(_) => return Err(LiveError::NotFound),
        };
        let trees::Attributes { mode, uid, gid, mtime, xattrs } = entry.attributes;
        Ok(Node {
            mode: access_list::stored_mode(mode, &xattrs),
            uid,
            gid,
            modified: mtime,
            changed: mtime,
            accessed: None,
            xattrs,
            names,
            link: None,
            home,
            body,
            open: Open::default(),
            recent: true,
        })
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            Body::Directory { .. } => FileKind::Directory,
            Body::Stored(_) | Body::Upper(_) => FileKind::File,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Fifo => FileKind::Fifo,
            Body::Socket => FileKind::Socket,
            Body::CharacterDevice(number) => FileKind::CharacterDevice(number),
            Body::BlockDevice(number) => FileKind::BlockDevice(number),
        }
    }

    /// Whether a freeze is reading its upper file, or just did.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(&self.body, Body::Upper(upper) if upper.sealed || upper.stored.is_some())
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    /// So many directories more (or less) are in this one.
    pub(super) fn count_directories(&mut self, change: i32) {
        if self.names >= 2 {
            self.names = self.names.saturating_add_signed(change).max(2);
        }
    }

    /// What the upper file says, while only that is right.
    pub(super) fn written_facts(&self) -> Result<Option<UpperFacts>, LiveError> {
        match (&self.body, &self.open.file) {
            (Body::Upper(upper), Some(file)) if upper.written => {
                let mut facts = upper::facts(file)?;
                if self.is_untouched(&facts) {
                    facts.modified = self.modified;
                }
                Ok(Some(facts))
            }
            _ => Ok(None),
        }
    }

    /// When it was last changed, the content included: a time of modification that was set by hand, in the future
    /// perhaps, says nothing about that. A write in the same instant as another change came after it, as far as anybody
    /// can tell, and is shown.
    pub(super) fn changed_by(&self, facts: &UpperFacts) -> Timestamp {
        if facts.modified == self.modified || facts.modified < self.changed {
            return self.changed;
        }
        facts.modified.max(Timestamp(self.changed.0.saturating_add(1)))
    }

    pub(super) fn attributes(&self, id: NodeId) -> Result<NodeAttributes, LiveError> {
        let size = match &self.body {
            Body::Stored(content) => content.size(),
            Body::Upper(upper) => upper.size,
            Body::Symlink(target) => target.len() as u64,
            Body::Directory { .. }
            | Body::Fifo
            | Body::Socket
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_) => 0,
        };
        let mut attributes = NodeAttributes {
            id,
            kind: self.kind(),
            mode: self.mode,
            link_count: self.names,
            uid: self.uid,
            gid: self.gid,
            size,
            blocks: match &self.body {
                // A file with holes takes less than its size.
                Body::Upper(Upper { blocks: Some(blocks), .. }) => *blocks,
                Body::Upper(_) | Body::Stored(_) => size.div_ceil(512),
                _ => 0,
            },
            accessed: self.modified,
            modified: self.modified,
            changed: self.changed,
        };
        if let Some(facts) = self.written_facts()? {
            attributes.size = facts.size;
            attributes.blocks = facts.blocks;
            attributes.modified = facts.modified;
            attributes.changed = self.changed_by(&facts);
        }
        attributes.accessed = self.accessed.unwrap_or(attributes.modified);
        Ok(attributes)
    }

    /// The attributes a tree keeps.
    pub(super) fn tree_attributes(&self) -> trees::Attributes {
        trees::Attributes {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.modified,
            xattrs: self.xattrs.clone(),
        }
    }
}
