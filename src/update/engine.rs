//! Doing a run's steps, and taking them back.

use super::{Journal, Operations, Plan, Run, StepKind, UpdateError, UpdateRequest};
use crate::base::SiteName;

/// What is told to whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A step begins.
    Started {
        /// Which.
        kind: StepKind,
        /// Its place, from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// What is being done.
        title: String,
    },
    /// A line that a command printed.
    Output(String),
    /// A step has ended.
    Finished {
        /// Which.
        kind: StepKind,
        /// How long it took, in seconds.
        seconds: f64,
        /// In words, what it did, or why it failed.
        result: Result<String, String>,
    },
    /// Taking back begins.
    Undoing {
        /// Why.
        reason: String,
    },
    /// Something to know that does not end the run.
    Warning(String),
}

/// What whoever watches wants of a run under way; asked between steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// It shall go on.
    #[default]
    Continue,
    /// It shall be undone.
    Abort,
    /// It shall stop where it is, to be resumed or aborted later: the daemon is being stopped.
    Suspend,
}

/// Does runs, by means of the operations of the layer above.
pub struct Engine<'a> {
    /// What does the work.
    pub operations: &'a dyn Operations,
    /// Where runs are written down.
    pub journal: &'a dyn Journal,
    /// Who watches.
    pub events: &'a dyn Fn(Event),
    /// What they want.
    pub wish: &'a dyn Fn() -> Wish,
}

impl Engine<'_> {
    /// What an update would do; refuses what [`Engine::start`] would refuse. Changes nothing.
    pub fn plan(&self, _request: &UpdateRequest) -> Result<Plan, UpdateError> {
        todo!()
    }

    /// Begins a run and does it to its end; the run says how it ended.
    pub fn start(&self, _request: &UpdateRequest) -> Result<Run, UpdateError> {
        todo!()
    }

    /// Takes up the interrupted run of a site and does it to its end.
    pub fn resume(&self, _site: &SiteName) -> Result<Run, UpdateError> {
        todo!()
    }

    /// Undoes the interrupted run of a site.
    pub fn abort(&self, _site: &SiteName) -> Result<Run, UpdateError> {
        todo!()
    }
}
