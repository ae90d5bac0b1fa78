//! `update`: plans, resumable steps with undo, the journal of runs.
//!
//! A [`Run`] is one execution of an update plan on one site. Each step is written to the journal before it begins,
//! with the names it is going to create, and after it has ended. So a run that was killed at any point is either
//! taken up again ([`Engine::resume`]) or undone ([`Engine::abort`]), and a site has one unfinished run at most.
//!
//! Invariants:
//! - Before the switch, nothing that visitors see changes but that writes are held; any failure is undone at once.
//! - What is switched to was made from a state that nothing was written to afterwards. A hold does not survive the
//!   daemon, so a run taken up again between hold and switch makes the new generation again; the switch itself
//!   refuses when the hold has ended.
//! - Switching back leaves no accepted write behind unseen: as long as the checks after the switch run, writes stay
//!   held; where they could not be, a snapshot of what is left behind is kept and named.
//! - Every step can be repeated, and every undo can be repeated, also after half of it was done.
//! - In place ([`Strategy::InPlace`]) the live database is updated only after a snapshot of it, taken while nothing
//!   could be written, was read back; what has happened since is kept in another before that one is restored.
//!
//! Absent: how anything is done. The layer above implements [`Operations`]; the journal is the catalog.

mod commands;
mod engine;
mod error;
mod hooks;
mod in_place;
mod journal;
mod operations;
mod plan;
mod run;
mod steps;
#[cfg(test)]
mod tests;

pub use engine::{Engine, Event, Wish};
pub use error::{Failure, UpdateError};
pub use journal::{Journal, interrupt_running, newest_runs, unfinished_runs};
pub use operations::{
    Begun, Changes, CommandEnd, CommandRequest, CopyForecast, DatabaseSource, FileChanges, HoldId,
    HookRequest, Inspection, Moment, Operations, Page, PageRequest, Pages, Reading, Switch, TableChange,
    Verification, Verified,
};
pub use plan::{Plan, PlannedStep, UpdateRequest};
pub use run::{Run, RunId, RunState, StepKind, StepOutput, StepRecord, StepState, Strategy};
pub use steps::title as step_title;
