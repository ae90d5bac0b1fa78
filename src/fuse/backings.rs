//! Which files the kernel reads and writes past this program.
//!
//! The kernel takes one backing file per node at a time, so a node's id is registered with its first open and given
//! up with its last release. The kernel closes its own side of an open before it sends the release, and the live
//! layer is told of a release only after it is taken out here: so an id is never used for another file.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use fuser::BackingId;
use parking_lot::Mutex;

use crate::live::{Handle, NodeId};

#[derive(Default)]
pub(super) struct Backings {
    of_nodes: Mutex<HashMap<NodeId, Backing>>,
}

struct Backing {
    id: Arc<BackingId>,
    handles: HashSet<Handle>,
    writable: bool,
}

impl Backings {
    /// The backing id for another open of a node; `register` gives the kernel the file on its first.
    pub(super) fn acquire(
        &self,
        node: NodeId,
        handle: Handle,
        writable: bool,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        let mut of_nodes = self.of_nodes.lock();
        if let Some(backing) = of_nodes.get_mut(&node) {
            backing.handles.insert(handle);
            backing.writable |= writable;
            return Ok(Arc::clone(&backing.id));
        }
        let id = Arc::new(register()?);
        of_nodes.insert(node, Backing { id: Arc::clone(&id), handles: HashSet::from([handle]), writable });
        Ok(id)
    }

    /// Whether a node may be written past this program now.
    pub(super) fn is_written(&self, node: NodeId) -> bool {
        self.of_nodes.lock().get(&node).is_some_and(|backing| backing.writable)
    }

    /// Takes an open out; whether the node may have been written past this program meanwhile.
    pub(super) fn release(&self, node: NodeId, handle: Handle) -> bool {
        let mut of_nodes = self.of_nodes.lock();
        let Some(backing) = of_nodes.get_mut(&node) else { return false };
        let writable = backing.writable;
        backing.handles.remove(&handle);
        if backing.handles.is_empty() {
            of_nodes.remove(&node);
        }
        writable
    }
}
