//! What web servers are told.

use serde::{Deserialize, Serialize};

use crate::base::SiteName;

/// Answer to `readonly`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadonlyState {
    /// The site.
    pub site: SiteName,
    /// Whether it is read-only.
    pub read_only: bool,
    /// How long a write waits before it is refused; `None`: not at all.
    pub hold_seconds: Option<u64>,
    /// Whether load balancers are told that it is in maintenance.
    pub divert: bool,
}

/// Answer to `vhost`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostMade {
    /// The site.
    pub site: SiteName,
    /// The configuration.
    pub text: String,
    /// The file it was written to.
    pub installed: Option<String>,
}
