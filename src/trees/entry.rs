//! What a directory holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::objects::{FileContent, ObjectId};

/// The name of the topmost page of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeId(pub ObjectId);

/// The order of entries in a directory, and the cookie of `readdir`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NameKey {
    /// The first eight bytes of BLAKE3 of the name, big-endian, shifted right by one so that it is a positive
    /// offset; the values 0, 1 and 2 are raised to 3 (0 is the start of a directory, 1 and 2 are `.` and `..`).
    pub cookie: u64,
    /// The name: 1 to 255 bytes without `/` and zero bytes.
    pub name: Box<[u8]>,
}

impl NameKey {
    /// The key of a name.
    pub fn new(name: &[u8]) -> NameKey {
        NameKey::from_name(name.into())
    }

    /// The key of a name.
    pub(super) fn from_name(name: Box<[u8]>) -> NameKey {
        let hash = blake3::hash(&name);
        let first: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        NameKey { cookie: (u64::from_be_bytes(first) >> 1).max(3), name }
    }
}

/// Extended attributes: names with values.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What every node has. Access and change times are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content (of a directory: its names) last changed.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Sums over a directory and all below it, itself not counted. A hard-linked file counts once per name for
/// `nodes` and `hard_links`, and not at all for `bytes`, at the root either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenTotals", into = "WrittenTotals")]
pub struct Totals {
    /// How many names there are.
    pub nodes: u64,
    /// The sizes of the regular files, in bytes.
    pub bytes: u64,
    /// How many of the names are [`Node::HardLink`]: whoever looks for them passes by what has none.
    pub hard_links: u64,
    /// How many entries of the directory itself are directories; `None` in what was stored before this was counted.
    pub directories: Option<u64>,
}

/// Sums as they are written. The bits of the first number from [`WrittenTotals::DIRECTORIES_SHIFT`] on are the number of
/// directories plus one, or zero where that is not known: node numbers have no more bits than those below, and sums
/// written before directories were counted read as what they are.
#[derive(Serialize, Deserialize)]
struct WrittenTotals {
    nodes_and_directories: u64,
    bytes: u64,
    hard_links: u64,
}

impl WrittenTotals {
    const DIRECTORIES_SHIFT: u32 = 40;
    const NODES_MAX: u64 = (1 << WrittenTotals::DIRECTORIES_SHIFT) - 1;
    /// More are written as not known.
    const DIRECTORIES_MAX: u64 = (1 << (64 - WrittenTotals::DIRECTORIES_SHIFT)) - 2;
}

impl From<WrittenTotals> for Totals {
    fn from(written: WrittenTotals) -> Totals {
        let WrittenTotals { nodes_and_directories, bytes, hard_links } = written;
        Totals {
            nodes: nodes_and_directories & WrittenTotals::NODES_MAX,
            bytes,
            hard_links,
            directories: (nodes_and_directories >> WrittenTotals::DIRECTORIES_SHIFT).checked_sub(1),
        }
    }
}

impl From<Totals> for WrittenTotals {
    fn from(totals: Totals) -> WrittenTotals {
        let Totals { nodes, bytes, hard_links, directories } = totals;
        let known = directories.filter(|count| *count <= WrittenTotals::DIRECTORIES_MAX);
        let directories = known.map_or(0, |count| count + 1) << WrittenTotals::DIRECTORIES_SHIFT;
        let nodes_and_directories = nodes.min(WrittenTotals::NODES_MAX) | directories;
        WrittenTotals { nodes_and_directories, bytes, hard_links }
    }
}

impl Default for Totals {
    /// Those of an empty directory.
    fn default() -> Totals {
        Totals { nodes: 0, bytes: 0, hard_links: 0, directories: Some(0) }
    }
}

impl Totals {
    /// The sums of both. A damaged page may hold anything, so this saturates.
    #[must_use]
    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
            hard_links: self.hard_links.saturating_add(other.hard_links),
            directories: self.directories.zip(other.directories).map(|(one, two)| one.saturating_add(two)),
        }
    }
}

/// One kind of node with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file with one name.
    File(FileContent),
    /// A directory.
    Directory {
        /// Its entries; `None` for an empty directory.
        tree: Option<TreeId>,
        /// Sums over what is below it.
        totals: Totals,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, 1 to 4095 bytes.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A name of a node with several names: the node itself is in [`Root::links`] under this number, and the
    /// attributes of this entry are all default.
    HardLink(u64),
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its attributes.
    pub attributes: Attributes,
    /// What it is.
    pub node: Node,
}

impl Entry {
    /// What this entry adds to the sums of its directory: itself and all below it.
    pub fn totals(&self) -> Totals {
        let itself = Totals { nodes: 1, ..Totals::default() };
        match &self.node {
            Node::File(content) => Totals { bytes: content.size(), ..itself },
            Node::Directory { totals, .. } => Totals { directories: Some(1), ..itself.plus(*totals) },
            Node::Symlink { .. } | Node::Fifo => itself,
            Node::HardLink(_) => Totals { hard_links: 1, ..itself },
        }
    }
}

/// A whole tree: what a snapshot or a branch stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The attributes of the topmost directory.
    pub attributes: Attributes,
    /// Its entries; `None` when it is empty.
    pub tree: Option<TreeId>,
    /// Sums over everything.
    pub totals: Totals,
    /// The nodes with several names: a tree whose names are link numbers as eight big-endian bytes and whose
    /// entries are files (or symlinks, fifos); `None` when there are none.
    pub links: Option<TreeId>,
    /// The next link number to give away: greater than any in [`Root::links`].
    pub next_link: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::encoding;

    #[test]
    fn sums_written_before_directories_were_counted_are_read_and_written_as_they_were() {
        let before = encoding::encode(1, &(300_u64, 4000_u64, 2_u64));
        let read: Totals = encoding::decode(1, &before).unwrap();
        assert_eq!(read, Totals { nodes: 300, bytes: 4000, hard_links: 2, directories: None });
        assert_eq!(encoding::encode(1, &read), before);
        let directories = |directories| Totals { directories, ..read };
        for known in [Some(0), Some(1), Some(100_000), Some(WrittenTotals::DIRECTORIES_MAX)] {
            let bytes = encoding::encode(1, &directories(known));
            assert_eq!(encoding::decode::<Totals>(1, &bytes).unwrap(), directories(known));
        }
        let too_many = encoding::encode(1, &directories(Some(WrittenTotals::DIRECTORIES_MAX + 1)));
        assert_eq!(too_many, before);
        // What is not known of a part is not known of the whole; of a directory it is known that it is one.
        assert_eq!(read.plus(directories(Some(1))).directories, None);
        let entry =
            Entry { attributes: Attributes::default(), node: Node::Directory { tree: None, totals: read } };
        assert_eq!(entry.totals(), Totals { nodes: 301, directories: Some(1), ..read });
    }
}
