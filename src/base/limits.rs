//! Every limit of sitefs, each with its reason. An error that hits one names the setting or the limit.

/// Longest name of a directory entry, in bytes: what Linux allows (`NAME_MAX`).
pub const ENTRY_NAME_BYTES_MAX: usize = 255;

/// Largest file, in bytes: what ext4 allows with blocks of 4 KiB.
pub const FILE_BYTES_MAX: u64 = ((1 << 32) - 1) * 4096;

/// Longest target of a symbolic link, in bytes: what Linux allows (`PATH_MAX` less the closing zero).
pub const SYMLINK_TARGET_BYTES_MAX: usize = 4095;

/// Longest value of an extended attribute, in bytes: what Linux allows (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;

/// Longest site or platform name, in bytes: a host name has at most 253, and lanes and clones add a suffix.
pub const NAME_BYTES_MAX: usize = 200;

/// Longest message of a snapshot, in bytes: a note, not a document.
pub const MESSAGE_BYTES_MAX: usize = 16_384;

/// Longest request, in bytes: a message and a few paths.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Longest answer or event, in bytes: a difference that names a few hundred thousand files.
pub const REPLY_BYTES_MAX: u32 = 128 << 20;

/// Longest piece of bytes sent at once between command and daemon: what a socket takes in a few writes.
pub const DATA_BYTES_MAX: u32 = 64 << 10;

/// Most requests worked on at one time: beyond that the machine is no longer served by starting more.
pub const REQUESTS_MAX: usize = 64;

/// Longest object, in bytes: it is compressed, checked and cached in one piece. Files are cut into chunks of at most
/// 256 KiB, and lists and pages split long before this.
pub const OBJECT_BYTES_MAX: usize = 16 << 20;
