//! What can be asked about runs.

use serde::{Deserialize, Serialize};

use crate::base::SiteName;

/// `run list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunList {
    /// Of this site alone.
    pub site: Option<SiteName>,
    /// At most so many.
    pub limit: u64,
}

/// `run show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunShow {
    /// The site.
    pub site: SiteName,
    /// The name of the run, or its beginning or end; else the newest.
    pub run: Option<String>,
    /// With what the commands printed.
    pub output: bool,
}
