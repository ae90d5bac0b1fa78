//! One volume: a tree, and the overlay of what changed on it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{FileKind, LiveError, NodeAttributes, NodeId, SetAttributes, VolumeNumber};
use crate::base::RelativePath;
use crate::trees::{Root, Trees};

/// Who asks: new nodes belong to them. Permission checks are the kernel's (`default_permissions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whether a volume may be changed through the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every change is [`LiveError::ReadOnly`].
    ReadOnly,
    /// Changes go to the overlay.
    Writable,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Emptied first.
    pub truncate: bool,
}

/// An open file of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// What rename does with an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with [`LiveError::Exists`].
    NoReplace,
    /// Swaps the two.
    Exchange,
}

/// What setting an extended attribute expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Sets it either way.
    Set,
    /// It must not exist.
    Create,
    /// It must exist.
    Replace,
}

/// The state of a volume at one instant, as a tree. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenTree {
    /// The tree.
    pub root: Root,
    /// Files that a process kept writing, past this program (passthrough), while they were copied: their content is
    /// not one state. Empty when nothing was being written.
    pub unstable: Vec<std::path::PathBuf>,
}

/// All volumes of a store: the overlay's tables, the files of changed content, and the thread that commits.
pub struct Volumes {}

/// One volume. Node ids are those of [`NodeId`]; an id of another volume is a programming error.
pub struct Volume {}

impl Volumes {
    /// Opens the overlay in `directory` (created when missing), recovers what a crash left, starts the committer.
    pub fn open(_directory: &Path, _trees: Arc<Trees>) -> Result<Arc<Volumes>, LiveError> {
        todo!()
    }

    /// Shows `base` as the volume `number` with the changes its overlay holds from before. `base` must be the same
    /// for the life of the number: node numbers derive from it.
    pub fn attach(
        self: &Arc<Self>,
        _number: VolumeNumber,
        _base: Root,
        _access: Access,
    ) -> Result<Arc<Volume>, LiveError> {
        todo!()
    }

    /// Forgets the volume `number` and deletes its overlay. Open handles go on working until released.
    pub fn discard(&self, _number: VolumeNumber) -> Result<(), LiveError> {
        todo!()
    }

    /// Deletes overlays of volumes that `known` does not contain: what a crash between two steps left.
    pub fn discard_unknown(&self, _known: &[VolumeNumber]) -> Result<(), LiveError> {
        todo!()
    }

    /// Space and nodes of the file system that holds the store.
    pub fn space(&self) -> Result<super::SpaceReport, LiveError> {
        todo!()
    }

    /// Commits every pending change of every volume durably, files' contents included.
    pub fn sync_all(&self) -> Result<(), LiveError> {
        todo!()
    }
}

impl Volume {
    /// The number.
    pub fn number(&self) -> VolumeNumber {
        todo!()
    }

    /// Allows or forbids changes from now on.
    pub fn set_access(&self, _access: Access) {
        todo!()
    }

    /// The node under a name.
    pub fn lookup(&self, _parent: NodeId, _name: &[u8]) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// The attributes of a node; of a file open past this program, as its backing file has them.
    pub fn attributes(&self, _node: NodeId) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// Sets attributes. Changing the owner or size clears set-user-id and set-group-id as on ext4.
    pub fn set_attributes(
        &self,
        _node: NodeId,
        _changes: &SetAttributes,
    ) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, _node: NodeId) -> Result<Box<[u8]>, LiveError> {
        todo!()
    }

    /// Makes a file, named pipe or socket. In a set-group-id directory the new node takes the directory's group.
    pub fn make_node(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _kind: FileKind,
        _mode: u32,
        _caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// Makes a directory; in a set-group-id directory it takes the group and the bit.
    pub fn make_directory(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _mode: u32,
        _caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// Makes a symbolic link.
    pub fn make_symlink(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _target: &[u8],
        _caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// Gives a file another name.
    pub fn link(&self, _node: NodeId, _parent: NodeId, _name: &[u8]) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

    /// Removes a name of something that is not a directory. An open file lives on until its last release.
    pub fn unlink(&self, _parent: NodeId, _name: &[u8]) -> Result<(), LiveError> {
        todo!()
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, _parent: NodeId, _name: &[u8]) -> Result<(), LiveError> {
        todo!()
    }

    /// Renames within the volume.
    pub fn rename(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _new_parent: NodeId,
        _new_name: &[u8],
        _mode: RenameMode,
    ) -> Result<(), LiveError> {
        todo!()
    }

    /// Up to `count_max` entries after `cookie` (0: the start) in cookie order, without `.` and `..`; entries of
    /// one cookie are never separated. An entry that is neither made nor removed during a listing is in it exactly
    /// once, whatever else changes.
    pub fn list(
        &self,
        _directory: NodeId,
        _cookie: u64,
        _count_max: usize,
    ) -> Result<Vec<super::DirectoryEntry>, LiveError> {
        todo!()
    }

    /// The directory that holds `directory`; the root's is itself.
    pub fn parent(&self, _directory: NodeId) -> Result<NodeId, LiveError> {
        todo!()
    }

    /// Opens a file. With `past_program`, a file whose bytes are in one plain file may be answered by
    /// [`super::Served::Backing`]: all opens of a node at one time are of one manner, as the kernel requires.
    pub fn open(
        &self,
        _node: NodeId,
        _mode: OpenMode,
        _past_program: bool,
    ) -> Result<super::OpenedFile, LiveError> {
        todo!()
    }

    /// Reads at `offset`; fewer bytes only at the end of the file.
    pub fn read(&self, _handle: Handle, _offset: u64, _buffer: &mut [u8]) -> Result<usize, LiveError> {
        todo!()
    }

    /// Writes at `offset` (at the end when `append`); returns how many bytes: all of them.
    pub fn write(
        &self,
        _handle: Handle,
        _offset: u64,
        _data: &[u8],
        _append: bool,
    ) -> Result<usize, LiveError> {
        todo!()
    }

    /// Allocates, extends or punches: `mode` as in fallocate(2), 0 or KEEP_SIZE or PUNCH_HOLE|KEEP_SIZE or
    /// ZERO_RANGE.
    pub fn allocate(&self, _handle: Handle, _offset: u64, _length: u64, _mode: u32) -> Result<(), LiveError> {
        todo!()
    }

    /// The next data or hole at or after `offset`; `hole` chooses. [`LiveError::NotFound`] past the end.
    pub fn seek(&self, _handle: Handle, _offset: u64, _hole: bool) -> Result<u64, LiveError> {
        todo!()
    }

    /// Closes. The last release of an unlinked file frees it; the last of a file that was open past this program
    /// takes over the backing file's size and times.
    pub fn release(&self, _handle: Handle) -> Result<(), LiveError> {
        todo!()
    }

    /// Makes the file's content and everything done before durable (fsync).
    pub fn sync(&self, _handle: Handle, _data_only: bool) -> Result<(), LiveError> {
        todo!()
    }

    /// Makes everything done in the volume before durable (fsync of a directory).
    pub fn sync_volume(&self) -> Result<(), LiveError> {
        todo!()
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, _node: NodeId, _name: &[u8]) -> Result<Box<[u8]>, LiveError> {
        todo!()
    }

    /// The names of the extended attributes.
    pub fn xattr_names(&self, _node: NodeId) -> Result<Vec<Box<[u8]>>, LiveError> {
        todo!()
    }

    /// Sets an extended attribute.
    pub fn set_xattr(
        &self,
        _node: NodeId,
        _name: &[u8],
        _value: &[u8],
        _mode: XattrMode,
    ) -> Result<(), LiveError> {
        todo!()
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, _node: NodeId, _name: &[u8]) -> Result<(), LiveError> {
        todo!()
    }

    /// The kernel no longer knows the node: an unlinked one that is not open is freed.
    pub fn forget(&self, _node: NodeId) {
        todo!()
    }

    /// The node at a path from the root, symbolic links not followed. For the daemon's own work.
    pub fn resolve(&self, _path: &RelativePath) -> Result<NodeAttributes, LiveError> {
        todo!()
    }

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

#[expect(dead_code, reason = "keeps the imports of the signatures above until they are written")]
fn signatures(_: Option<File>) {}
