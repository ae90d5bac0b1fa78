//! Platforms.

use serde::{Deserialize, Serialize};

use super::{CodeChange, Moment, MountStatus};
use crate::base::{PlatformName, RelativePath, SiteName};

/// One platform in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformSummary {
    /// Its name.
    pub platform: PlatformName,
    /// Its directory.
    pub directory: String,
    /// The application found there and its version: "drupal 10.3.1".
    pub application: Option<String>,
    /// The sites whose live generation is on it.
    pub sites: Vec<SiteName>,
}

/// Answer to `platform list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platforms {
    /// By name.
    pub platforms: Vec<PlatformSummary>,
}

/// Answer to `platform show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformDetails {
    /// What the list shows too.
    #[serde(flatten)]
    pub summary: PlatformSummary,
    /// The sites directory below the platform's.
    pub sites_directory: RelativePath,
    /// The directory that the web server serves.
    pub document_root: String,
    /// The hash over its code: 64 hexadecimal digits.
    pub code: String,
    /// How many files its code has.
    pub files: u64,
    /// Their sizes.
    pub size_bytes: u64,
    /// When it was added.
    pub added: Moment,
    /// Its mounts.
    pub mounts: Vec<MountStatus>,
}

/// Answer to `platform add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformAdded {
    /// The new platform.
    #[serde(flatten)]
    pub details: PlatformDetails,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `platform verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformVerification {
    /// The platform.
    pub platform: PlatformName,
    /// The hash over its code when it was added.
    pub code_recorded: String,
    /// The hash over its code now.
    pub code_found: String,
    /// How many files were read.
    pub files: u64,
    /// What differs, by path; of very much, the beginning. Empty for a platform that was added before its files were
    /// written down one by one.
    pub changes: Vec<CodeChange>,
    /// How many files differ.
    pub changes_count: u64,
    /// Whether the code as it was found is from now on what it is to be.
    pub accepted: bool,
}

impl PlatformVerification {
    /// Whether the code is what it was.
    pub fn matches(&self) -> bool {
        self.accepted || self.code_recorded == self.code_found
    }
}

/// Answer to `platform remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformRemoved {
    /// The platform; its directory is as it was before it was added.
    pub platform: PlatformName,
    /// That directory.
    pub directory: String,
}
