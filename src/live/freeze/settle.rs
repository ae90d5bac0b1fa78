//! Settling: what a freeze leaves behind.

use std::collections::HashMap;

use super::plan::{Plan, PlannedContent};
use super::store::Built;
use crate::live::Volume;
use crate::live::node::{Body, Node};
use crate::live::rows::{self, RowChange};
use crate::live::state::State;
use crate::objects::FileContent;
use crate::trees::Root;

impl Volume {
    /// The content was read to its end: its file may change again.
    pub(super) fn content_stored(&self, content: &PlannedContent, stored: FileContent) {
        let unused = {
            let mut state = self.state.lock();
            if let Some(upper) = sealed(&mut state, content) {
                upper.stored = Some(stored);
            }
            self.release_content(&mut state, content)
        };
        self.remove_unused(unused);
    }

    /// Ends what of the plan is still held or sealed, however the freeze ended. After a failure nothing refers to
    /// what it stored, so that must not be relied on.
    pub(super) fn unseal(&self, plan: &Plan, succeeded: bool) {
        for content in &plan.contents {
            let mut state = self.state.lock();
            if let Some(upper) = sealed(&mut state, content)
                && !succeeded
            {
                upper.stored = None;
            }
            let unused = self.release_content(&mut state, content);
            drop(state);
            self.remove_unused(unused);
        }
    }

    /// Unseals the node and lets go of the upper file; its number, when nobody else refers to it.
    fn release_content(&self, state: &mut State, content: &PlannedContent) -> Option<u64> {
        if content.open.is_some() {
            return Some(content.number);
        }
        if let Some(upper) = sealed(state, content) {
            upper.sealed = false;
            self.settled.notify_all();
        }
        state.held.remove(&content.number);
        state.held_unused.take(&content.number)
    }

    fn remove_unused(&self, number: Option<u64>) {
        if let Some(number) = number {
            self.shared.remove_uppers(self.number, vec![number]);
        }
    }

    /// Takes stored contents from the store from now on, and replaces the dirty marks by the directories' new trees.
    pub(super) fn settle(&self, plan: &Plan, built: &HashMap<u64, Built>, root: &Root) {
        let Some(epoch) = plan.epoch else { return };
        let mut state = self.state.lock();
        for content in &plan.contents {
            if content.open.is_none() {
                self.let_go_of_upper(&mut state, content.local);
            }
        }
        state.row.frozen = Some(root.clone());
        state.pending.volume = true;
        for (local, built) in built {
            let key = rows::node_key(self.number, *local);
            state.pending.rows.push(RowChange::Put { table: rows::FROZEN, key, value: rows::encode(built) });
        }
        state.pending.rows.push(RowChange::RemoveRange {
            table: rows::DIRTY,
            start: rows::epoch_key(self.number, 0),
            end: rows::epoch_key(self.number, epoch + 1),
        });
        drop(state);
        self.shared.committer.note();
    }
}

/// The upper file of a node, if it is still the one that was planned.
fn sealed<'s>(state: &'s mut State, content: &PlannedContent) -> Option<&'s mut crate::live::node::Upper> {
    match state.nodes.get_mut(&content.local) {
        Some(Node { body: Body::Upper(upper), .. }) if upper.number == content.number => Some(upper),
        _ => None,
    }
}
