//! The committer: one thread that makes what changed in all volumes durable, in batches.
//!
//! A batch is what was pending in all volumes at one instant: their locks are held together while it is gathered, so
//! that what is on the disk is always a state that existed. Contents that must not be lost are flushed before the
//! rows that refer to them are committed; upper files go after the commit that lets go of them. A commit that
//! fails is tried again every second; nothing of it is forgotten, and what takes space is refused meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::rows::{self, RowChange};
use super::state::State;
use super::volume::NUMBERS_RESERVED;
use super::volumes::Shared;
use super::{LiveError, Volume, VolumeNumber};

/// How long a change may stay uncommitted.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the thread, and the way to ask it for a commit.
#[derive(Default)]
pub(super) struct Committer {
    requests: Mutex<Requests>,
    /// Something may be pending.
    noted: AtomicBool,
    /// For the thread.
    wake: Condvar,
    /// For those who wait for a commit.
    done: Condvar,
}

#[derive(Default)]
struct Requests {
    /// The ticket of the newest request.
    newest: u64,
    /// All requests up to this one have been answered.
    answered: u64,
    /// Why the newest commit failed.
    failure: Option<Failure>,
    stop: bool,
}

/// A commit that was asked for.
#[must_use = "nothing is durable before the end of the commit"]
pub(super) struct Ticket(u64);

/// An error that can be told to many.
#[derive(Clone, Debug)]
enum Failure {
    NoSpace,
    Other(Arc<str>),
}

impl From<&LiveError> for Failure {
    fn from(error: &LiveError) -> Failure {
        match error {
            LiveError::NoSpace => Failure::NoSpace,
            other => Failure::Other(other.to_string().into()),
        }
    }
}

impl From<Failure> for LiveError {
    fn from(failure: Failure) -> LiveError {
        match failure {
            Failure::NoSpace => LiveError::NoSpace,
            Failure::Other(text) => LiveError::Commit(text),
        }
    }
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>) -> JoinHandle<()> {
        std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run(&shared))
            .expect("a process that is just starting can start a thread")
    }

    /// Ends the thread after the commit under way; later requests fail.
    pub(super) fn stop(&self) {
        self.requests.lock().stop = true;
        self.wake.notify_all();
        self.done.notify_all();
    }

    /// Something may be pending: there is a commit within the interval.
    pub(super) fn note(&self) {
        if !self.noted.swap(true, Ordering::AcqRel) {
            let _requests = self.requests.lock();
            self.wake.notify_all();
        }
    }

    /// Why the newest commit failed; `None` when it succeeded.
    pub(super) fn failure(&self) -> Option<LiveError> {
        self.requests.lock().failure.clone().map(LiveError::from)
    }

    /// Waits until a commit is due, or `names_due` is over; `None` at the end. Returns the ticket the commit will answer.
    fn wait(&self, names_due: Option<Instant>) -> Option<u64> {
        let mut requests = self.requests.lock();
        let mut deadline = None;
        loop {
            if requests.stop {
                return None;
            }
            if requests.newest > requests.answered {
                break;
            }
            if self.noted.load(Ordering::Acquire) {
                let due = *deadline.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
                if self.wake.wait_until(&mut requests, due).timed_out() {
                    break;
                }
            } else if let Some(due) = names_due {
                if self.wake.wait_until(&mut requests, due).timed_out() {
                    break;
                }
            } else {
                self.wake.wait(&mut requests);
            }
        }
        // Before anything is gathered: what is noted from now on needs another commit.
        self.noted.store(false, Ordering::Release);
        Some(requests.newest)
    }

    fn answer(&self, ticket: u64, result: &Result<(), LiveError>) {
        let mut requests = self.requests.lock();
        requests.answered = ticket;
        requests.failure = result.as_ref().err().map(Failure::from);
        if requests.failure.is_some() {
            self.noted.store(true, Ordering::Release);
        }
        self.done.notify_all();
    }
}

fn run(shared: &Shared) {
    let mut failing = false;
    while let Some(ticket) = shared.committer.wait(shared.uppers.names_due()) {
        let result = shared.commit_batch();
        match &result {
            Err(error) if !failing => {
                log::error!("changes cannot be made durable, trying again every second: {error}");
            }
            Ok(()) if failing => log::info!("changes are durable again"),
            _ => {}
        }
        failing = result.is_err();
        shared.committer.answer(ticket, &result);
    }
}

impl Shared {
    /// Makes everything that is pending now durable. Requests that come together share a commit.
    pub(super) fn commit(&self) -> Result<(), LiveError> {
        self.end_commit(self.begin_commit())
    }

    /// As [`Shared::commit`], without waiting for it.
    pub(super) fn begin_commit(&self) -> Ticket {
        let mut requests = self.committer.requests.lock();
        requests.newest += 1;
        self.committer.wake.notify_all();
        Ticket(requests.newest)
    }

    /// Waits for what was begun.
    pub(super) fn end_commit(&self, ticket: Ticket) -> Result<(), LiveError> {
        let committer = &self.committer;
        let mut requests = committer.requests.lock();
        while requests.answered < ticket.0 {
            if requests.stop {
                return Err(LiveError::Commit("the file system is being closed".into()));
            }
            committer.done.wait(&mut requests);
        }
        match requests.failure.clone() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn commit_batch(&self) -> Result<(), LiveError> {
        let _commit = self.commit_lock.lock();
        let volumes: Vec<Arc<Volume>> = self.volumes.lock().values().cloned().collect();
        let (mut changes, names) = self.settle_names(&volumes);
        let mut flush = Vec::new();
        {
            // In the order of their numbers, and nobody else ever holds two.
            let mut states: Vec<_> = volumes.iter().map(|volume| volume.state.lock()).collect();
            for (volume, state) in volumes.iter().zip(&mut states) {
                volume.gather(state, &mut changes, &mut flush);
            }
        }
        let mut result = self.write(&changes, &flush);
        if matches!(result, Err(LiveError::NoSpace)) {
            self.remover.wait();
            result = self.write(&changes, &flush);
        }
        if matches!(result, Err(LiveError::NoSpace)) && self.reserve.release() {
            log::warn!("the disk is full: using the space kept back for this");
            result = self.write(&changes, &flush);
        }
        for volume in &volumes {
            volume.finish_commit(result.is_ok());
        }
        match &result {
            Ok(()) => self.reserve.refill(),
            Err(_) => self.uppers.restore_new_names(names),
        }
        result
    }

    fn write(&self, changes: &[RowChange], flush: &[(VolumeNumber, u64)]) -> Result<(), LiveError> {
        if !flush.is_empty() {
            self.uppers.sync(flush)?;
        }
        if !changes.is_empty() {
            self.engine.apply(changes)?;
        }
        Ok(())
    }
}

impl Volume {
    /// Moves what is pending into a commit and appends its rows.
    fn gather(&self, state: &mut State, changes: &mut Vec<RowChange>, flush: &mut Vec<(VolumeNumber, u64)>) {
        if self.is_discarded() {
            return;
        }
        state.begin_commit();
        let change = |table, key, value: Option<Vec<u8>>| match value {
            Some(value) => RowChange::Put { table, key, value },
            None => RowChange::Remove { table, key },
        };
        let batch = &state.committing;
        flush.extend(batch.flush.iter().map(|number| (self.number, *number)));
        // Sorted, so that the engine meets each of its pages once.
        let mut locals: Vec<u64> = batch.nodes.iter().copied().collect();
        locals.sort_unstable();
        for local in locals {
            let alive = state.nodes.get(&local).filter(|node| node.names > 0);
            if alive.is_none() {
                let key = rows::node_key(self.number, local);
                changes.push(change(rows::FROZEN, key, None));
            }
            changes.push(change(rows::NODES, rows::node_key(self.number, local), alive.map(rows::encode)));
        }
        for (directory, keys) in &batch.entries {
            let slots = state.directories.get(directory);
            for key in keys {
                let slot = slots.and_then(|slots| slots.get(key));
                let row = rows::entry_key(self.number, *directory, key);
                changes.push(change(rows::ENTRIES, row, slot.map(rows::encode)));
            }
        }
        for (dirty, node) in &batch.dirty {
            let key = rows::dirty_key(self.number, dirty.epoch, dirty.directory, &dirty.key);
            changes.push(change(rows::DIRTY, key, Some(rows::encode(node))));
        }
        let running_out = state.next_number + NUMBERS_RESERVED / 2 > state.row.reserved;
        state.reserving = match state.reservation(NUMBERS_RESERVED) {
            Ok(reserved) if running_out && !batch.nodes.is_empty() => reserved.max(state.row.reserved),
            _ => state.row.reserved,
        };
        if batch.volume || state.reserving > state.row.reserved {
            let row = rows::VolumeRow { reserved: state.reserving, ..state.row.clone() };
            changes.push(change(rows::VOLUMES, rows::volume_key(self.number), Some(rows::encode(&row))));
        }
        changes.extend(batch.rows.iter().cloned());
    }

    fn finish_commit(&self, succeeded: bool) {
        let unused = {
            let mut state = self.state.lock();
            if succeeded {
                state.row.reserved = state.row.reserved.max(state.reserving);
                state.end_commit()
            } else {
                state.undo_commit();
                Vec::new()
            }
        };
        self.shared.remove_uppers(self.number, unused);
    }
}
