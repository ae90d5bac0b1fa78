//! The daemon as a whole.

use serde::{Deserialize, Serialize};

use super::{Moment, PlatformSummary, RunSummary, SiteSummary};

/// Answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version of the daemon's program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: Moment,
    /// The store's directory.
    pub store: String,
    /// Where the namespace is mounted.
    pub root: String,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
    /// What will happen by itself, one sentence each: clones that expire.
    pub notices: Vec<String>,
    /// Every mount there should be.
    pub mounts: Vec<MountStatus>,
    /// How much is stored.
    pub space: Space,
    /// The platforms, by name.
    pub platforms: Vec<PlatformSummary>,
    /// The sites, by name.
    pub sites: Vec<SiteSummary>,
    /// The runs that are under way or interrupted, and the newest of the others; newest first.
    pub runs: Vec<RunSummary>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStatus {
    /// Where.
    pub path: String,
    /// What is to be seen there: "namespace", "sites of drupal-10.3", "lane b of drupal-10.3".
    pub shows: String,
    /// Whether it is there.
    pub mounted: bool,
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// How many objects.
    pub objects: u64,
    /// Their length before compression.
    pub raw_bytes: u64,
    /// What they take on the disk.
    pub stored_bytes: u64,
    /// What is free on the store's file system.
    pub free_bytes: u64,
}

/// Answer to `stop`: the daemon takes no more requests, ends what can be ended, unmounts and exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The process that is about to exit.
    pub pid: u32,
}
