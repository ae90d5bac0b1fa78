//! Tells the kernel what to forget, from a thread of its own.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

use crate::live::{Invalidation, Invalidations};

/// How long what is not urgent waits for more of its kind: the thread is not woken for each small file.
const GATHERING_TIME: Duration = Duration::from_millis(20);

/// The queue of what the kernel must forget. Anyone may add to it; only its thread waits for the kernel.
#[derive(Default)]
pub(super) struct Invalidator {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Invalidation>,
    /// Somebody waits for the queue to be sent, or something in it is urgent.
    urgent: bool,
    /// How many were added, and how many of them the kernel has taken.
    added: u64,
    done: u64,
    closed: bool,
}

impl Invalidator {
    /// Starts the thread, which ends after [`Invalidator::close`].
    pub(super) fn start(self: &Arc<Self>, notifier: Notifier) -> io::Result<JoinHandle<()>> {
        let invalidator = Arc::clone(self);
        std::thread::Builder::new().name("invalidator".to_owned()).spawn(move || invalidator.run(&notifier))
    }

    /// Ends the thread; what is still queued concerns a mount that is no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.urgent = true;
        state.queue.clear();
        state.done = state.added;
        self.changed.notify_all();
    }

    /// As [`Invalidations::invalidate`], for what need not be seen at once.
    pub(super) fn invalidate_soon(&self, invalidation: Invalidation) {
        let mut state = self.state.lock();
        if !state.closed {
            state.queue.push_back(invalidation);
            state.added += 1;
            // Otherwise the thread is gathering already.
            if state.queue.len() == 1 {
                self.changed.notify_all();
            }
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
            let deadline = Instant::now() + GATHERING_TIME;
            while !state.urgent && !self.changed.wait_until(&mut state, deadline).timed_out() {}
            state.urgent = false;
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
            state.urgent = true;
            self.changed.notify_all();
        }
    }

    fn flush(&self) {
        let mut state = self.state.lock();
        let until = state.added;
        if state.done < until {
            state.urgent = true;
            self.changed.notify_all();
        }
        while state.done < until {
            self.changed.wait(&mut state);
        }
    }
}

/// Sends one. That the kernel knows nothing of it (ENOENT) is no error; the others mean that the mount has ended.
fn send(notifier: &Notifier, invalidation: &Invalidation) -> io::Result<()> {
    match invalidation {
        // A length of 0 is "to the end"; an offset of -1 is "no pages".
        Invalidation::Node(node) => notifier.inval_inode(INodeNo(node.0), 0, 0),
        Invalidation::Attributes(node) => notifier.inval_inode(INodeNo(node.0), -1, 0),
        Invalidation::Entry { parent, name } => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
        }
    }
}
