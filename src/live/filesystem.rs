//! The whole file system: the namespace and the volumes in it.

use std::fs::File;
use std::sync::Arc;

use parking_lot::RwLock;

use super::attached::{Attached, Attachments};
use super::namespace::{Listed, NAMESPACE, NumberedNamespace};
use super::node::ROOT;
use super::{
    Caller, FileKind, Handle, LiveError, Namespace, NamespaceEdit, NodeAttributes, NodeId, OpenMode,
    RenameMode, SetAttributes, SpaceReport, Volume, VolumeNumber, Volumes, XattrMode, clock,
};
use crate::history::SnapshotId;

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
    /// Attributes and pages of a node; of a directory its listing.
    Node(NodeId),
    /// A name in a directory, with what the kernel believes of it (negative entries too).
    Entry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: Box<[u8]>,
    },
}

/// Where invalidations go.
pub trait Invalidations: Send + Sync {
    /// Takes one on its way to the kernel; does not wait.
    fn invalidate(&self, invalidation: Invalidation);

    /// Waits until the kernel has taken everything passed on before: from then on nobody sees what was before.
    /// Never called while an operation of the file system is being answered, or with a lock held that one needs:
    /// the kernel may wait for that operation first.
    fn flush(&self);
}

/// The namespace and the attached volumes. Every operation of [`Volume`] is here too, dispatched by node id, with
/// the namespace's own answers (read-only) for volume 0.
pub struct FileSystem {
    namespace: RwLock<Arc<NumberedNamespace>>,
    attachments: Attachments,
}

/// The part of the file system that a node is in.
enum Place {
    Namespace(Arc<NumberedNamespace>),
    Volume(Arc<Attached>),
}

/// The handle of every opened file of the namespace: they are all empty.
const NAMESPACE_HANDLE: Handle = Handle(0);

impl FileSystem {
    /// An empty file system, whose space is that of the store `volumes` are in.
    pub fn new(volumes: Arc<Volumes>) -> Arc<FileSystem> {
        let namespace = NumberedNamespace::new(&Namespace::default(), None, clock::now());
        Arc::new(FileSystem {
            namespace: RwLock::new(Arc::new(namespace)),
            attachments: Attachments::new(volumes),
        })
    }

    /// Makes a volume reachable by its number: before the namespace names it, or the kernel would take the name for
    /// missing.
    pub fn add_volume(&self, volume: Arc<Volume>) {
        self.attachments.add(volume);
    }

    /// Makes a snapshot reachable as the volume of this number, likewise. It is read when somebody looks.
    pub fn add_snapshot(&self, number: VolumeNumber, snapshot: SnapshotId) {
        self.attachments.add_snapshot(number, snapshot);
    }

    /// Makes a volume unreachable: at once, or when the last open file in it is closed. Later operations on its
    /// nodes answer [`LiveError::NotFound`].
    pub fn remove_volume(&self, number: VolumeNumber) {
        self.attachments.remove(number);
    }

    /// Replaces the namespace in one step and returns what the kernel must forget.
    pub fn set_namespace(&self, namespace: &Namespace) -> Vec<Invalidation> {
        let mut current = self.namespace.write();
        let numbered = NumberedNamespace::new(namespace, Some(&current), clock::now());
        let invalidations = numbered.invalidations_from(&current);
        *current = Arc::new(numbered);
        invalidations
    }

    /// Changes a part of the namespace in one step and returns what the kernel must forget.
    pub fn edit_namespace(&self, edits: &[NamespaceEdit]) -> Vec<Invalidation> {
        let mut current = self.namespace.write();
        let (edited, invalidations) = current.with(edits, clock::now());
        *current = Arc::new(edited);
        invalidations
    }

    /// The node under a name, in the namespace or a volume.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<NodeAttributes, LiveError> {
        match self.place(parent)? {
            Place::Volume(attached) => attached.volume.lookup(parent, name),
            Place::Namespace(namespace) => {
                let node = namespace.lookup(parent, name)?;
                if node.volume() == NAMESPACE { namespace.attributes(node) } else { self.attributes(node) }
            }
        }
    }

    /// The directory that holds a directory; the root's is itself. Above the root of a volume is the first place that
    /// the namespace shows it at.
    pub fn parent(&self, directory: NodeId) -> Result<NodeAttributes, LiveError> {
        let parent = match self.place(directory)? {
            Place::Volume(attached) if directory.local() != ROOT => attached.volume.parent(directory)?,
            Place::Volume(_) | Place::Namespace(_) => self.namespace.read().parent(directory)?,
        };
        self.attributes(parent)
    }

    /// As [`Volume::attributes`].
    pub fn attributes(&self, node: NodeId) -> Result<NodeAttributes, LiveError> {
        match self.place(node)? {
            Place::Namespace(namespace) => namespace.attributes(node),
            Place::Volume(attached) => attached.volume.attributes(node),
        }
    }

    /// As [`Volume::set_attributes`].
    pub fn set_attributes(&self, node: NodeId, changes: &SetAttributes) -> Result<NodeAttributes, LiveError> {
        self.changing(node)?.volume.set_attributes(node, changes)
    }

    /// As [`Volume::read_link`].
    pub fn read_link(&self, node: NodeId) -> Result<Box<[u8]>, LiveError> {
        match self.place(node)? {
            Place::Namespace(namespace) => namespace.read_link(node),
            Place::Volume(attached) => attached.volume.read_link(node),
        }
    }

    /// As [`Volume::make_node`].
    pub fn make_node(
        &self,
        parent: NodeId,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        self.changing(parent)?.volume.make_node(parent, name, kind, mode, caller)
    }

    /// As [`Volume::make_directory`].
    pub fn make_directory(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        self.changing(parent)?.volume.make_directory(parent, name, mode, caller)
    }

    /// As [`Volume::make_symlink`].
    pub fn make_symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<NodeAttributes, LiveError> {
        self.changing(parent)?.volume.make_symlink(parent, name, target, caller)
    }

    /// As [`Volume::link`]; across volumes [`LiveError::CrossVolume`].
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<NodeAttributes, LiveError> {
        let attached = self.changing(parent)?;
        same_volume(node, parent)?;
        attached.volume.link(node, parent, name)
    }

    /// As [`Volume::unlink`].
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), LiveError> {
        self.changing(parent)?.volume.unlink(parent, name)
    }

    /// As [`Volume::remove_directory`].
    pub fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<(), LiveError> {
        self.changing(parent)?.volume.remove_directory(parent, name)
    }

    /// As [`Volume::rename`]; across volumes [`LiveError::CrossVolume`].
    pub fn rename(
        &self,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), LiveError> {
        self.changing(new_parent)?;
        let attached = self.changing(parent)?;
        same_volume(parent, new_parent)?;
        attached.volume.rename(parent, name, new_parent, new_name, mode)
    }

    /// As [`Volume::list`].
    pub fn list(
        &self,
        directory: NodeId,
        cookie: u64,
        count_max: usize,
    ) -> Result<Vec<DirectoryEntry>, LiveError> {
        match self.place(directory)? {
            Place::Volume(attached) => attached.volume.list(directory, cookie, count_max),
            Place::Namespace(namespace) => {
                let listed = namespace.list(directory, cookie, count_max)?;
                let mut entries = Vec::with_capacity(listed.len());
                for item in listed {
                    match item {
                        Listed::Own(entry) => entries.push(entry),
                        Listed::Volume { cookie, name, root } => {
                            match self.attributes(root) {
                                Ok(attributes) => entries.push(DirectoryEntry { cookie, name, attributes }),
                                // Removed, and the namespace about to be replaced; or a snapshot that cannot be
                                // read, of which those are told who look at it, and which keeps no other down.
                                Err(LiveError::NotFound | LiveError::Trees(_) | LiveError::Snapshot(_)) => {}
                                Err(error) => return Err(error),
                            }
                        }
                    }
                }
                Ok(entries)
            }
        }
    }

    /// As [`Volume::opens_slowly`].
    pub fn opens_slowly(&self, node: NodeId) -> bool {
        matches!(self.place(node), Ok(Place::Volume(attached)) if attached.volume.opens_slowly(node))
    }

    /// As [`Volume::open`]. A file with set-user-id or set-group-id is not opened for writing past this program:
    /// nobody would clear them.
    pub fn open(&self, node: NodeId, mode: OpenMode, past_program: bool) -> Result<OpenedFile, LiveError> {
        match self.place(node)? {
            Place::Namespace(namespace) => {
                namespace.check_open(node)?;
                if mode.write || mode.truncate {
                    return Err(LiveError::ReadOnly);
                }
                Ok(OpenedFile { handle: NAMESPACE_HANDLE, served: Served::Program })
            }
            Place::Volume(_) => {
                let attached = self.attachments.open(node.volume())?;
                let past_program = past_program
                    && (!mode.write
                        || attached.volume.attributes(node).is_ok_and(|found| found.mode & 0o6000 == 0));
                let opened = attached.volume.open(node, mode, past_program);
                if opened.is_err() {
                    self.attachments.close(&attached);
                }
                opened
            }
        }
    }

    /// As [`Volume::read`].
    pub fn read(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, LiveError> {
        match self.place(node)? {
            Place::Namespace(namespace) => namespace.read(node, offset, buffer),
            Place::Volume(attached) => attached.volume.read(handle, offset, buffer),
        }
    }

    /// As [`Volume::write`].
    pub fn write(&self, node: NodeId, handle: Handle, offset: u64, data: &[u8]) -> Result<usize, LiveError> {
        self.changing(node)?.volume.write(handle, offset, data)
    }

    /// As [`Volume::clear_privileges`].
    pub fn clear_privileges(
        &self,
        node: NodeId,
        size: u64,
        in_group: impl FnOnce(u32) -> bool,
    ) -> Result<bool, LiveError> {
        self.changing(node)?.volume.clear_privileges(node, size, in_group)
    }

    /// As [`Volume::copy_range`], between volumes too.
    pub fn copy_range(
        &self,
        (node, handle, offset): (NodeId, Handle, u64),
        (from, from_handle, from_offset): (NodeId, Handle, u64),
        length: u64,
    ) -> Result<usize, LiveError> {
        let target = self.changing(node)?;
        match self.place(from)? {
            Place::Namespace(_) => Ok(0),
            Place::Volume(source) => {
                target.volume.copy_range(handle, offset, &source.volume, from_handle, from_offset, length)
            }
        }
    }

    /// As [`Volume::allocate`].
    pub fn allocate(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        length: u64,
        mode: u32,
    ) -> Result<(), LiveError> {
        self.changing(node)?.volume.allocate(handle, offset, length, mode)
    }

    /// As [`Volume::seek`].
    pub fn seek(&self, node: NodeId, handle: Handle, offset: u64, hole: bool) -> Result<u64, LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Err(LiveError::NotFound),
            Place::Volume(attached) => attached.volume.seek(handle, offset, hole),
        }
    }

    /// As [`Volume::release`].
    pub fn release(&self, node: NodeId, handle: Handle) -> Result<(), LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Ok(()),
            Place::Volume(attached) => {
                let result = attached.volume.release(handle);
                self.attachments.close(&attached);
                result
            }
        }
    }

    /// As [`Volume::sync`].
    pub fn sync(&self, node: NodeId, handle: Handle, data_only: bool) -> Result<(), LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Ok(()),
            Place::Volume(attached) => attached.volume.sync(handle, data_only),
        }
    }

    /// As [`Volume::sync_volume`], for the volume that `directory` is in.
    pub fn sync_directory(&self, directory: NodeId) -> Result<(), LiveError> {
        match self.place(directory)? {
            Place::Namespace(_) => Ok(()),
            Place::Volume(attached) => attached.volume.sync_volume(),
        }
    }

    /// As [`Volume::xattr`].
    pub fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Box<[u8]>, LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Err(LiveError::NoAttribute),
            Place::Volume(attached) => attached.volume.xattr(node, name),
        }
    }

    /// As [`Volume::xattr_names`].
    pub fn xattr_names(&self, node: NodeId) -> Result<Vec<Box<[u8]>>, LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Ok(Vec::new()),
            Place::Volume(attached) => attached.volume.xattr_names(node),
        }
    }

    /// As [`Volume::set_xattr`].
    pub fn set_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), LiveError> {
        self.changing(node)?.volume.set_xattr(node, name, value, mode)
    }

    /// As [`Volume::remove_xattr`].
    pub fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<(), LiveError> {
        self.changing(node)?.volume.remove_xattr(node, name)
    }

    /// As [`Volume::forget`].
    pub fn forget(&self, node: NodeId) {
        if let Some(attached) = self.attachments.get_attached(node.volume()) {
            attached.volume.forget(node);
        }
    }

    /// The space of the file system that holds the store.
    pub fn space(&self) -> Result<SpaceReport, LiveError> {
        self.attachments.volumes_of_store().space()
    }

    /// All volumes that are attached, those removed and still open among them.
    pub(super) fn attached_volumes(&self) -> Vec<Arc<Volume>> {
        self.attachments.all()
    }

    /// The volumes of the store, whose rows they are.
    pub(super) fn volumes_of_store(&self) -> &Volumes {
        self.attachments.volumes_of_store()
    }

    fn place(&self, node: NodeId) -> Result<Place, LiveError> {
        let number = node.volume();
        if number == NAMESPACE {
            return Ok(Place::Namespace(Arc::clone(&self.namespace.read())));
        }
        Ok(Place::Volume(self.attachments.get(number)?))
    }

    /// The volume of a node that is about to be changed.
    fn changing(&self, node: NodeId) -> Result<Arc<Attached>, LiveError> {
        match self.place(node)? {
            Place::Namespace(_) => Err(LiveError::ReadOnly),
            Place::Volume(attached) => Ok(attached),
        }
    }
}

fn same_volume(one: NodeId, other: NodeId) -> Result<(), LiveError> {
    if one.volume() == other.volume() { Ok(()) } else { Err(LiveError::CrossVolume) }
}
