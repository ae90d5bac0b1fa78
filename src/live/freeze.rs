//! Freezing: a volume's state at one instant as a durable tree, at the cost of what changed since the last time.
//!
//! In three parts. *Collect*, while the gate keeps every change out: the names marked dirty are turned into a
//! [`plan::Plan`]; upper files nobody writes are *sealed* (whoever wants to write takes a copy), those open for
//! writing are copied. *Store*, with everybody going on: contents are hashed and stored, directories rebuilt from the
//! deepest up, each from its tree in the newest frozen state. *Settle*: what was sealed and is still unchanged is
//! taken from the store from now on, and the dirty marks up to this freeze are removed, all in one commit with the
//! directories' new trees.
//!
//! A crash or an error at any point leaves the dirty marks, so that the next freeze does the work again; what it
//! stored already is found there. Objects are flushed before any row refers to them.

mod collect;
mod plan;
mod settle;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::{LiveError, Volume};
use crate::trees::Root;
use plan::Plan;

/// The state of a volume at one instant, as a tree. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenTree {
    /// The tree.
    pub root: Root,
    /// Files that a process kept writing, past this program (passthrough), while they were copied: their content is
    /// not one state. Empty when nothing was being written.
    pub unstable: Vec<PathBuf>,
}

impl Volume {
    /// Takes the volume's state at this instant as a durable tree. Costs what changed since the last freeze.
    /// Readers go on; writers wait only while the changed names and attributes are gathered and files open for
    /// writing are copied; contents are hashed and stored after that.
    pub fn freeze(&self) -> Result<FrozenTree, LiveError> {
        let mut frozen = Volume::freeze_together(&[self])?;
        Ok(frozen.pop().expect("as many as there were volumes"))
    }

    /// As [`Volume::freeze`] on each of `volumes`, all at the same instant. No volume may be there twice.
    pub fn freeze_together(volumes: &[&Volume]) -> Result<Vec<FrozenTree>, LiveError> {
        Volume::freeze_together_then(volumes, || ())
    }

    /// As [`Volume::freeze_together`]; calls `taken` once when the instant is taken and writers go on: nothing that
    /// changes from then on is in the result. Storing, which takes most of the time, comes after it. Who keeps
    /// writers of a database waiting for the instant lets them go here. Not called when the instant is not taken.
    pub fn freeze_together_then(
        volumes: &[&Volume],
        taken: impl FnOnce(),
    ) -> Result<Vec<FrozenTree>, LiveError> {
        // Locks are taken in the order of numbers, so that two freezes never wait for each other.
        let mut ordered: Vec<&Volume> = volumes.to_vec();
        ordered.sort_by_key(|volume| volume.number);
        if ordered.windows(2).any(|pair| pair[0].number == pair[1].number) {
            return Err(LiveError::Invalid);
        }
        let _freezing: Vec<_> = ordered.iter().map(|volume| volume.freezing.lock()).collect();
        for volume in &ordered {
            volume.commit_last_freeze()?;
        }
        let mut plans = Vec::with_capacity(ordered.len());
        let collected = {
            let _gates: Vec<_> = ordered.iter().map(|volume| volume.gate.write()).collect();
            ordered.iter().try_for_each(|volume| {
                plans.push(Plan::default());
                let plan = plans.last_mut().expect("just pushed");
                volume.collect(plan)
            })
        };
        let mut frozen = Vec::with_capacity(ordered.len());
        let stored = collected.and_then(|()| {
            taken();
            ordered.iter().zip(&mut plans).try_for_each(|(volume, plan)| {
                frozen.push((volume.number, volume.store(plan)?));
                Ok(())
            })
        });
        // Whatever happened, nothing stays sealed.
        for (volume, plan) in ordered.iter().zip(&plans) {
            volume.unseal(plan, stored.is_ok());
        }
        stored?;
        let position = |volume: &&Volume| volumes.iter().position(|other| other.number == volume.number);
        let mut frozen: Vec<_> = ordered.iter().map(position).zip(frozen).collect();
        frozen.sort_by_key(|(position, _)| *position);
        Ok(frozen.into_iter().map(|(_, (_, tree))| tree).collect())
    }

    /// The trees that the last freeze gave to directories are read from the tables: they must be there.
    fn commit_last_freeze(&self) -> Result<(), LiveError> {
        let uncommitted = {
            let state = self.state.lock();
            !state.pending.rows.is_empty() || !state.committing.rows.is_empty()
        };
        if uncommitted { self.shared.commit() } else { Ok(()) }
    }
}
