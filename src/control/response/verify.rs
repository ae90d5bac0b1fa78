//! Verification of the store.

use serde::{Deserialize, Serialize};

use super::CodeChange;
use crate::base::SiteName;

/// Answer to `verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Objects that are what their names say.
    pub objects: u64,
    /// Snapshots whose directories were gone through.
    pub snapshots: u64,
    /// Live directories that were gone through: each generation, and each site's data.
    pub volumes: u64,
    /// What is damaged in the store's files, one sentence each; of very much, the beginning.
    pub damages: Vec<String>,
    /// How many damages there are.
    pub damages_count: u64,
    /// What cannot be read for that, after a repair if one was asked for; of very much, the beginning.
    pub affected: Vec<Affected>,
    /// How many paths are affected.
    pub affected_count: u64,
    /// What the repair did, if one was asked for.
    pub repair: Option<Repair>,
    /// How long it took.
    pub seconds: f64,
}

impl Verification {
    /// Whether all is well, now.
    pub fn is_sound(&self) -> bool {
        let repaired = self.repair.as_ref().is_some_and(|repair| repair.lost + repair.records_forgotten == 0);
        self.affected_count == 0 && (self.damages_count == 0 || repaired)
    }
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Damaged objects of which there is a whole copy again.
    pub restored: u64,
    /// Damaged objects of which nothing is left. Storing the same content again, by a deploy or a snapshot, brings them
    /// back.
    pub lost: u64,
    /// Records of the catalog that could not be read and were forgotten.
    pub records_forgotten: u64,
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// The site; none for records that belong to no site.
    pub site: Option<SiteName>,
    /// Which of its states: `snapshot 3fa9c1…`, `generation 12`, `data`.
    pub state: String,
    /// The snapshot's id, where it is one.
    pub snapshot: Option<String>,
    /// The path within it; of a directory that cannot be listed, the directory; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// Answer to `verify SITE --against`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteVerification {
    /// The site.
    pub site: SiteName,
    /// The id of the snapshot.
    pub against: String,
    /// Code that differs from the snapshot's, by path; of very much, the beginning. Databases are no code.
    pub code: Vec<CodeChange>,
    /// How many files that is.
    pub code_count: u64,
    /// Files that web servers execute (PHP, and what tells them to), that appeared or changed in data directories.
    pub executables: Vec<CodeChange>,
    /// How many files that is.
    pub executables_count: u64,
    /// How long it took.
    pub seconds: f64,
}

impl SiteVerification {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.code_count == 0 && self.executables_count == 0
    }
}
