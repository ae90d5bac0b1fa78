//! Tells the kernel what to forget: from a thread of its own, because the kernel may wait for calls that are being
//! answered; and attributes of an open file at once.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

use crate::live::{Invalidation, Invalidations, NodeId};

/// The queue of what the kernel must forget. Anyone may add to it; only its thread waits for the kernel.
#[derive(Default)]
pub(super) struct Invalidator {
    state: Mutex<State>,
    changed: Condvar,
    notifier: OnceLock<Notifier>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Invalidation>,
    /// How many were added, and how many of them the kernel has taken.
    added: u64,
    done: u64,
    closed: bool,
}

impl Invalidator {
    /// Starts the thread, which ends after [`Invalidator::close`].
    pub(super) fn start(self: &Arc<Self>, notifier: Notifier) -> io::Result<JoinHandle<()>> {
        let invalidator = Arc::clone(self);
        let _ = self.notifier.set(notifier.clone());
        std::thread::Builder::new().name("invalidator".to_owned()).spawn(move || invalidator.run(&notifier))
    }

    /// Ends the thread; what is still queued concerns a mount that is no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.queue.clear();
        state.done = state.added;
        self.changed.notify_all();
    }

    /// Has the kernel ask for a node's attributes when it next needs them. Only while a call is answered for which the
    /// kernel holds the node (every one that names an open file): it then waits for nothing to take this.
    pub(super) fn forget_attributes(&self, node: NodeId) {
        // Nothing is asked before the session has begun.
        let Some(notifier) = self.notifier.get() else { return };
        // An offset of -1 is "no pages".
        if let Err(error) = notifier.inval_inode(INodeNo(node.0), -1, 0) {
            log::debug!("the kernel keeps the attributes of node {:#x}: {error}", node.0);
        }
    }

    fn run(&self, notifier: &Notifier) {
        let mut state = self.state.lock();
        loop {
            if state.queue.is_empty() {
                if state.closed {
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            }
            let batch = std::mem::take(&mut state.queue);
            let until = state.added;
            parking_lot::MutexGuard::unlocked(&mut state, || {
                for invalidation in &batch {
                    if let Err(error) = send(notifier, invalidation) {
                        log::debug!("the kernel did not take {invalidation:?}: {error}");
                    }
                }
            });
            state.done = state.done.max(until);
            self.changed.notify_all();
        }
    }
}

impl Invalidations for Invalidator {
    fn invalidate(&self, invalidation: Invalidation) {
        let mut state = self.state.lock();
        if !state.closed {
            state.queue.push_back(invalidation);
            state.added += 1;
            self.changed.notify_all();
        }
    }

    fn flush(&self) {
        let mut state = self.state.lock();
        let until = state.added;
        while state.done < until {
            self.changed.wait(&mut state);
        }
    }
}

/// Sends one. That the kernel knows nothing of it (ENOENT) is no error; the others mean that the mount has ended.
fn send(notifier: &Notifier, invalidation: &Invalidation) -> io::Result<()> {
    match invalidation {
        // A length of 0 is "to the end".
        Invalidation::Node(node) => notifier.inval_inode(INodeNo(node.0), 0, 0),
        Invalidation::Entry { parent, name } => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
        }
    }
}
