//! What is going to be done, before it is.

use super::{StepKind, Strategy};
use crate::base::{PlatformName, SiteName};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRequest {
    /// The site.
    pub site: SiteName,
    /// The platform to go to.
    pub platform: PlatformName,
    /// How.
    pub strategy: Strategy,
    /// Shell lines that must succeed, beside the recipe's checks.
    pub checks: Vec<String>,
    /// Whether the rehearsal's clone is kept.
    pub keep_test: bool,
    /// Whether a platform of an older version is accepted.
    pub allow_downgrade: bool,
    /// Who asks: a user name of this machine.
    pub who: String,
}

/// What is going to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The site.
    pub site: SiteName,
    /// How.
    pub strategy: Strategy,
    /// The application, for people.
    pub application: String,
    /// The platform the site is on, with its version where known.
    pub from: String,
    /// The platform it goes to, with its version where known.
    pub to: String,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// How long writes will be held, in seconds, as the last run of the site had it.
    pub window_seconds_expected: Option<f64>,
    /// What the administrator should know and that is no reason to refuse.
    pub warnings: Vec<String>,
}

/// One step that is going to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Which.
    pub kind: StepKind,
    /// What will be done, with the names of what will be made.
    pub title: String,
    /// How long it took in the last run of the site, in seconds.
    pub seconds_expected: Option<f64>,
}
