//! What can be asked of the daemon: one structure per verb, one field per argument.
//!
//! A field that the daemon does not know is an error, never ignored: it might be the one that says "dry run".
//! Paths are absolute, as the daemon's working directory is not the caller's.

mod database;
mod run;

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use database::*;
pub use run::*;

use super::{Revision, Target};
use crate::base::{NameError, PlatformName, RelativePath, SiteName, Span, TagName};

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {}

/// `stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {}

/// `platform add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformAdd {
    /// Its name.
    pub platform: PlatformName,
    /// Its directory.
    pub directory: PathBuf,
    /// Its sites directory below that; found by looking when not given.
    pub sites: Option<RelativePath>,
    /// What the web server serves; the directory that the sites directory is in when not given.
    pub docroot: Option<Docroot>,
}

/// The directory of a platform that the web server serves, written `.` or as a path below the platform's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Docroot {
    /// The platform's directory itself.
    Platform,
    /// A directory below it.
    Below(RelativePath),
}

impl FromStr for Docroot {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Docroot, NameError> {
        if matches!(text, "." | "./") { Ok(Docroot::Platform) } else { text.parse().map(Docroot::Below) }
    }
}

impl TryFrom<String> for Docroot {
    type Error = NameError;
    fn try_from(text: String) -> Result<Docroot, NameError> {
        text.parse()
    }
}

impl From<Docroot> for String {
    fn from(docroot: Docroot) -> String {
        match docroot {
            Docroot::Platform => ".".to_owned(),
            Docroot::Below(path) => path.into(),
        }
    }
}

/// `platform list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformList {}

/// `platform show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformShow {
    /// Its name.
    pub platform: PlatformName,
}

/// `platform verify`: whether its code still is what it was when it was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformVerify {
    /// Its name.
    pub platform: PlatformName,
    /// Whether the code as it is found is from now on what it is to be.
    pub accept: bool,
}

/// `platform remove`. Refused while sites are attached to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformRemove {
    /// Its name.
    pub platform: PlatformName,
}

/// `site import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteImport {
    /// The site's name.
    pub site: SiteName,
    /// The directory that holds it now; it is only read.
    pub directory: PathBuf,
    /// The platform it is attached to.
    pub platform: PlatformName,
    /// The recipe of its application; found by looking when not given.
    pub app: Option<String>,
    /// Its database, as a URL (`sqlite:PATH`); found by the recipe when not given.
    pub database: Option<String>,
}

/// `site list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteList {}

/// `site show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteShow {
    /// The site.
    pub site: SiteName,
}

/// `site set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSet {
    /// The site.
    pub site: SiteName,
    /// The name of the setting.
    pub key: String,
    /// Its new value; `None` takes the setting away, so that the recipe's holds again.
    pub value: Option<String>,
}

/// `site remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteRemove {
    /// The site.
    pub site: SiteName,
    /// Removes even a site that is no clone: all that remains of it then are copies made elsewhere.
    pub force: bool,
}

/// `snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTake {
    /// The site.
    pub site: SiteName,
    /// Why.
    pub message: Option<String>,
    /// A tag for it.
    pub tag: Option<TagName>,
    /// Whether the database is captured too.
    pub database: bool,
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The site.
    pub site: SiteName,
    /// How many of the newest snapshots at most; all when not given.
    pub limit: Option<u64>,
    /// Whether it is told what they take of the store, which takes as long as a collection's first half.
    #[serde(default)]
    pub space: bool,
}

/// `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The snapshot; never [`super::At::Live`].
    pub snapshot: Revision,
}

/// How much a difference tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Which files and tables.
    Names,
    /// Also by how many lines and bytes.
    Stat,
    /// Also the changed lines, sent as data: a unified difference.
    Text,
}

/// `diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// The state to start from.
    pub old: Revision,
    /// The state to arrive at.
    pub new: Revision,
    /// How much to tell.
    pub detail: Detail,
}

/// `tag`. A tag names the same snapshot for ever: one that exists on another snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// The snapshot; never [`super::At::Live`].
    pub snapshot: Revision,
    /// The tag.
    pub tag: TagName,
}

/// `clone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteClone {
    /// The site to clone, and which of its states.
    pub from: Revision,
    /// The name of the clone.
    pub new: SiteName,
    /// The platform of the clone; the one of the state it is made from when not given.
    pub platform: Option<PlatformName>,
    /// Whether a platform of an older version is accepted.
    pub allow_downgrade: bool,
    /// Whether the database is cloned too.
    pub database: bool,
    /// Whether the database is restored and checked before anything is made of it.
    pub verify: bool,
    /// Whether the recipe's sanitize commands are run on it before it is handed out.
    pub sanitize: bool,
    /// When the clone is removed, counted from now; never by itself when not given.
    pub expires: Option<Span>,
}

/// `deploy`: a directory becomes the site's next generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The site.
    pub site: SiteName,
    /// The directory; it is only read.
    pub directory: PathBuf,
    /// Why.
    pub message: Option<String>,
}

/// `readonly`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readonly {
    /// The site.
    pub site: SiteName,
    /// Whether writes are closed or open.
    pub on: bool,
    /// How long a write waits before it is refused; refused at once when not given.
    pub hold: Option<Span>,
    /// Whether load balancers are told to send visitors elsewhere.
    pub divert: bool,
}

/// `vhost`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vhost {
    /// The site.
    pub site: SiteName,
    /// The web server.
    pub server: WebServer,
    /// The file to write, once the server has accepted it.
    pub install: Option<PathBuf>,
    /// The server's main configuration file, if it is not the server's default.
    pub configuration: Option<PathBuf>,
}

/// A web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebServer {
    /// nginx.
    Nginx,
    /// Apache's httpd.
    Apache,
}

impl FromStr for WebServer {
    type Err = String;
    fn from_str(text: &str) -> Result<WebServer, String> {
        match text {
            "nginx" => Ok(WebServer::Nginx),
            "apache" => Ok(WebServer::Apache),
            _ => Err(format!("{text:?} is not a web server that sitefs knows: nginx, apache")),
        }
    }
}

/// `cutover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutover {
    /// The site.
    pub site: SiteName,
    /// The platform to move to; the present one when not given.
    pub platform: Option<PlatformName>,
    /// What to switch to; the newest generation when neither this nor a platform is given.
    pub to: Option<Target>,
    /// Whether a platform of an older version is accepted.
    pub allow_downgrade: bool,
}

/// `rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The site.
    pub site: SiteName,
    /// What to go back to; the generation that was live before when not given.
    pub to: Option<Target>,
    /// Whether only code and settings go back: the database stays as it is now.
    pub code_only: bool,
}

/// `restore`: paths of a snapshot are put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The snapshot; never [`super::At::Live`].
    pub snapshot: Revision,
    /// What to restore, below the site's directory; at least one.
    pub paths: Vec<RelativePath>,
    /// An existing directory to write them to; into the live site when not given.
    pub into: Option<PathBuf>,
}

/// How an update treats the live site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Files and database are cloned, the clone is updated, one pointer is switched.
    Switch,
    /// The pointer is switched first, and the live database updated; a failure restores it.
    InPlace,
}

/// `update`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The site.
    pub site: SiteName,
    /// What to do.
    pub action: UpdateAction,
}

/// What to do about an update of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateAction {
    /// Show what an update would do, and change nothing.
    Plan(UpdateOptions),
    /// Do it.
    Start(UpdateOptions),
    /// Go on with the run that was interrupted.
    Resume,
    /// Take back what the interrupted run has done.
    Abort,
}

/// How to update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateOptions {
    /// The platform to move to.
    pub platform: PlatformName,
    /// How the live site is treated.
    pub strategy: Strategy,
    /// Commands that must succeed on the updated site, besides the recipe's own.
    pub checks: Vec<String>,
    /// Whether the rehearsal's clone is kept for a person to look at.
    pub keep_test: bool,
    /// Whether a platform of an older version is accepted.
    pub allow_downgrade: bool,
}

/// `prune`: snapshots that a schedule does not keep are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The site.
    pub site: SiteName,
    /// What is kept; as the configuration says when not given.
    pub keep: Option<Keep>,
    /// Whether to say only what would be removed.
    pub dry_run: bool,
}

/// For how many hours, days, weeks and months the newest snapshot of each is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// `gc`: the space of what nobody refers to is reclaimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gc {}

/// `send`: a snapshot is sent as data, for `receive` on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The snapshot; never [`super::At::Live`].
    pub snapshot: Revision,
    /// A snapshot of the same site that the other store has; what it has is left out.
    pub base: Option<Revision>,
    /// How many objects have arrived already and are left out.
    pub skip: u64,
}

/// `receive`: a snapshot is received as input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// A tag for it.
    pub tag: Option<TagName>,
    /// The site to make from it.
    #[serde(default)]
    pub site: Option<ReceiveSite>,
}

/// A site to be made from a snapshot that is received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveSite {
    /// Its name; not necessarily that of the site the snapshot is of.
    pub name: SiteName,
    /// The platform it is to stand on.
    pub platform: PlatformName,
    /// Its recipe; that of the platform where none is named.
    pub app: Option<String>,
    /// For a snapshot with a dump: a database on the server where the site is to have its own.
    pub database: Option<String>,
}

/// `verify SITE --against`: whether a site's code still is that of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteVerify {
    /// The site, and the snapshot; never [`super::At::Live`].
    pub against: Revision,
}

/// `verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Whether what is damaged is put right where that is possible.
    pub repair: bool,
}
