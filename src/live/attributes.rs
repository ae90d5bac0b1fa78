//! What operations take and return.

use crate::base::Timestamp;

/// The number of a volume, 0 to 2^24 - 1; 0 is the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeNumber(pub u32);

impl VolumeNumber {
    /// Whether a number can be one of a volume: neither the namespace's nor too large.
    pub fn is_valid(number: u32) -> bool {
        (1..1 << 24).contains(&number)
    }
}

/// The id of a node: volume number and number within the volume. The whole file system's root is
/// [`NodeId::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    const LOCAL_BITS: u32 = 40;

    /// The root of the namespace.
    pub const ROOT: NodeId = NodeId(1);
    /// The one file under all names that are [a sign of life](super::NamespaceEntry::SignOfLife).
    pub const SIGN_OF_LIFE: NodeId = NodeId(2);

    /// The node `local` (1 to 2^40 - 1) of a volume.
    pub fn new(volume: VolumeNumber, local: u64) -> NodeId {
        assert!(local >> NodeId::LOCAL_BITS == 0 && volume.0 < 1 << 24, "a node id has 24 + 40 bits");
        NodeId((u64::from(volume.0) << NodeId::LOCAL_BITS) | local)
    }

    /// The root of a volume.
    pub fn volume_root(volume: VolumeNumber) -> NodeId {
        NodeId::new(volume, 1)
    }

    /// The volume.
    pub fn volume(self) -> VolumeNumber {
        VolumeNumber((self.0 >> NodeId::LOCAL_BITS) as u32)
    }

    /// The number within the volume.
    pub fn local(self) -> u64 {
        self.0 & ((1 << NodeId::LOCAL_BITS) - 1)
    }
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket (never kept in snapshots).
    Socket,
    /// A character device with its number, as the kernel writes it; never kept in snapshots, and of no use on mounts
    /// without devices (`nodev`).
    CharacterDevice(u32),
    /// A block device; as above.
    BlockDevice(u32),
}

/// The attributes of a node, as `stat` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAttributes {
    /// The id.
    pub id: NodeId,
    /// The type.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// How many names it has; of a directory 2, and one more for each directory in it, or 1 where that is not known: then
    /// `find` does not count subdirectories with it.
    pub link_count: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size in bytes; of a symbolic link the length of its target.
    pub size: u64,
    /// What it takes, in units of 512 bytes.
    pub blocks: u64,
    /// Last read: not tracked; the time set by hand, else `modified`.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of content or attributes.
    pub changed: Timestamp,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// The time now.
    Now,
    /// This time.
    To(Timestamp),
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncates or extends with zeros.
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<TimeChange>,
    /// Modification time.
    pub modified: Option<TimeChange>,
}

/// Space and nodes of the file system that holds the store, as `statfs` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceReport {
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for unprivileged users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}
