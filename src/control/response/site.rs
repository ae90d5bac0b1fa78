//! Sites.

use serde::{Deserialize, Serialize};

use super::{Moment, RunSummary, SnapshotSummary};
use crate::base::{Lane, PlatformName, RelativePath, SiteName};

/// One site in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Its name.
    pub site: SiteName,
    /// The recipe of its application.
    pub app: String,
    /// The platform of the live generation.
    pub platform: PlatformName,
    /// The number of the live generation.
    pub generation: u64,
    /// The document root of the live generation: what `live/SITE` points to.
    pub document_root: String,
    /// The site it is a clone of.
    pub clone_of: Option<SiteName>,
    /// When it may be deleted.
    pub expires: Option<Moment>,
    /// How many snapshots it has.
    pub snapshots: u64,
    /// When the newest of them was taken.
    pub newest_snapshot: Option<Moment>,
}

/// Answer to `site list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sites {
    /// By name.
    pub sites: Vec<SiteSummary>,
}

/// Answer to `site show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteDetails {
    /// What the list shows too.
    #[serde(flatten)]
    pub summary: SiteSummary,
    /// The link that a web server resolves.
    pub live_link: String,
    /// The site's directory: always the live generation.
    pub path: String,
    /// Its data directories, shared by all generations.
    pub data: Vec<RelativePath>,
    /// Its database.
    pub database: Option<DatabaseInfo>,
    /// Its settings, by name.
    pub settings: Vec<SettingValue>,
    /// Its generations, newest first.
    pub generations: Vec<GenerationInfo>,
    /// Its newest runs, newest first.
    pub runs: Vec<RunSummary>,
}

/// One setting of a site; also the answer to `site set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingValue {
    /// Its name.
    pub key: String,
    /// Its value; `None` when there is none.
    pub value: Option<String>,
    /// Where the value is from: `site` when it was set, else `default`.
    pub source: String,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// `sqlite`, `mariadb`, `postgresql`.
    pub engine: String,
    /// Its file below the site's directory, or its name.
    pub name: String,
    /// How large it is.
    pub size_bytes: u64,
}

/// What becomes of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Made, and never live so far.
    Staged,
    /// What visitors get.
    Live,
    /// Live before; its last requests may still be running.
    Draining,
    /// Live before; read-only, kept for a rollback.
    Previous,
    /// No longer shown; its snapshot remains.
    Retired,
}

/// One generation of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    /// Its number.
    pub generation: u64,
    /// What becomes of it.
    pub state: GenerationState,
    /// The platform it stands on.
    pub platform: PlatformName,
    /// Where the platform is shown for it.
    pub lane: Lane,
    /// When it was made.
    pub created: Moment,
    /// The id of the snapshot it was made from.
    pub snapshot: Option<String>,
    /// Where it is to be seen.
    pub path: String,
}

/// A file that an import left out, or could not take in as one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Which.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A file that is kept elsewhere than it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFile {
    /// Where it was, below the site's directory.
    pub from: RelativePath,
    /// Where it is.
    pub to: RelativePath,
}

/// Answer to `site import`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteImported {
    /// The new site.
    pub site: SiteSummary,
    /// Its first snapshot.
    pub snapshot: SnapshotSummary,
    /// The link that a web server resolves.
    pub live_link: String,
    /// The site's directory.
    pub path: String,
    /// How many files, directories and other nodes were taken in.
    pub nodes: u64,
    /// The sizes of the files.
    pub size_bytes: u64,
    /// Databases that were in a data directory.
    pub moved: Vec<MovedFile>,
    /// What was left out.
    pub skipped: Vec<SkippedFile>,
    /// How long it took.
    pub seconds: f64,
}

/// Answer to `site remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRemoved {
    /// The site.
    pub site: SiteName,
    /// How many of its generations went with it.
    pub generations: u64,
    /// How many of its snapshots went with it.
    pub snapshots: u64,
}

/// Answer to `clone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteCloned {
    /// The clone.
    pub site: SiteSummary,
    /// The id of the snapshot it was made from; `None`: of the site as it was, of which no snapshot was taken.
    pub snapshot: Option<String>,
    /// The clone's directory.
    pub path: String,
    /// Its database, when that was cloned too.
    pub database: Option<DatabaseInfo>,
    /// How long it took.
    pub seconds: f64,
}
