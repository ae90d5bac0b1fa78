//! Answers about runs.

use serde::{Deserialize, Serialize};

use super::{Moment, RunSummary};
use crate::base::PlatformName;

/// Runs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// How many more there are.
    pub left_out: u64,
}

/// One run with all its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetails {
    /// How it is listed.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// `switch` or `in-place`.
    pub strategy: String,
    /// The platform that the site was on.
    pub from: PlatformName,
    /// The generation that was live when it began.
    pub from_generation: u64,
    /// The generation that it made, if it did.
    pub to_generation: Option<u64>,
    /// The id of the snapshot with the verified backup.
    pub backup: Option<String>,
    /// Why it was taken back, or is interrupted, in words; empty where neither is so.
    pub reason: String,
    /// Its steps, in order.
    pub steps: Vec<RunStep>,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStep {
    /// Its name.
    pub name: String,
    /// `pending`, `started`, `done`, `failed` or `undone`.
    pub state: String,
    /// When it began, the last time.
    pub started: Option<Moment>,
    /// How long it took, the last time.
    pub seconds: Option<f64>,
    /// What it did, or why it failed, in words.
    pub message: String,
    /// What its commands printed, if that was asked for and there was anything.
    pub output: Option<String>,
}
