//! The catalog's records of platforms, sites and generations.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{Lane, PlatformName, RelativePath, SiteName, Timestamp};
use crate::history::{Record, SnapshotId};
use crate::objects::ObjectId;
use crate::trees::Root;

/// The directory of an application's code, which stays native; only its sites directory is covered by a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Its name; also the key of the record.
    pub name: PlatformName,
    /// The directory: absolute, every symbolic link resolved. Text, as it ends up in web server configuration.
    pub directory: String,
    /// Where the sites are, relative to the directory.
    pub sites: RelativePath,
    /// What the web server serves, relative to the directory; `None` is the directory itself.
    pub docroot: Option<RelativePath>,
    /// The hash over the code when it was added, the sites directory left out.
    pub code: ObjectId,
    /// How many files the code had then.
    pub files: u64,
    /// Their sizes, in bytes.
    pub size_bytes: u64,
    /// When it was added.
    pub added: Timestamp,
    /// The application that a recipe recognised in it, for people: "MediaWiki".
    pub application: Option<String>,
    /// The application's version as its recipe finds it: "1.43.1".
    pub version: Option<String>,
}

impl Record for Platform {
    const TABLE: &'static str = "platforms";
    const VERSION: u8 = 1;
}

impl Platform {
    /// The docroot that goes with a sites directory: the directory the sites directory is in.
    /// `web/sites` is below `web`; `sites` is in the platform's own directory.
    pub fn docroot_of(sites: &RelativePath) -> Option<RelativePath> {
        let (parent, _) = sites.as_str().rsplit_once('/')?;
        Some(parent.parse().expect("the parent of a relative path with a slash is a relative path"))
    }

    /// The platform's directory as one lane shows it: its own, or beside it the same name followed by `@b`.
    pub fn directory_in(&self, lane: Lane) -> PathBuf {
        match lane {
            Lane::A => PathBuf::from(&self.directory),
            Lane::B => PathBuf::from(format!("{}@{}", self.directory, lane)),
        }
    }

    /// The docroot as one lane shows it.
    pub fn docroot_in(&self, lane: Lane) -> PathBuf {
        below(self.directory_in(lane), self.docroot.as_ref())
    }

    /// Where the sites are for visitors, relative to the docroot; `None` where they are not below it.
    pub fn sites_below_docroot(&self) -> Option<RelativePath> {
        let below = match &self.docroot {
            None => self.sites.as_str(),
            Some(docroot) => self.sites.as_str().strip_prefix(docroot.as_str())?.strip_prefix('/')?,
        };
        below.parse().ok()
    }

    /// The sites directory as one lane shows it.
    pub fn sites_in(&self, lane: Lane) -> PathBuf {
        self.sites.below(&self.directory_in(lane))
    }
}

fn below(directory: PathBuf, path: Option<&RelativePath>) -> PathBuf {
    match path {
        Some(path) => path.below(&directory),
        None => directory,
    }
}

/// Which database a site has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseBinding {
    /// The engine: `sqlite`.
    pub engine: String,
    /// For SQLite: the database's files within the site's directory, the main one first. Never below a data
    /// directory.
    pub files: Vec<RelativePath>,
}

/// What a site is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SiteKind {
    /// It has visitors.
    Live,
    /// A copy-on-write copy of another site.
    Clone {
        /// The site it was cloned from.
        of: SiteName,
        /// The snapshot it was cloned from.
        snapshot: SnapshotId,
        /// When it is to be deleted; `None`: never.
        expires: Option<Timestamp>,
    },
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name; also the key of the record.
    pub name: SiteName,
    /// What it is for.
    pub kind: SiteKind,
    /// The name of its recipe.
    pub recipe: String,
    /// When it was imported or cloned.
    pub created: Timestamp,
    /// Its data directories, shared by all its generations.
    pub data: Vec<RelativePath>,
    /// The number of the volume that holds the data directories.
    pub data_volume: u32,
    /// What the data volume stands on.
    pub data_base: Root,
    /// Its database.
    pub database: Option<DatabaseBinding>,
    /// The user that owns its files, and runs its recipe's commands.
    pub uid: u32,
    /// The group that owns its files.
    pub gid: u32,
    /// Whether the administrator has put it in read-only mode; it then stays so over an update.
    pub read_only: bool,
    /// What `site set` was given. Known keys: `uri` (the site's address, scheme and host).
    pub settings: BTreeMap<String, String>,
}

impl Record for Site {
    const TABLE: &'static str = "sites";
    const VERSION: u8 = 1;
}

impl Site {
    /// The site's address, as far as it has been told: the setting `uri`.
    pub fn uri(&self) -> Option<&str> {
        self.settings.get("uri").map(String::as_str)
    }

    /// What commands are told as the site's address: the setting `uri`, or `http://` and the site's name.
    pub fn uri_or_name(&self) -> String {
        self.uri().map_or_else(|| format!("http://{}", self.name), str::to_owned)
    }

    /// The files of its SQLite database within the site's directory, the main one first; none without one.
    pub fn database_files(&self) -> &[RelativePath] {
        self.database.as_ref().map(|database| database.files.as_slice()).unwrap_or_default()
    }

    /// The paths that belong to the state of a generation and not to its code: the database's files, and what
    /// SQLite may keep beside each.
    pub fn state_paths(&self) -> Vec<RelativePath> {
        self.database_files().iter().flat_map(with_companions).collect()
    }
}

/// A SQLite database's file, and what SQLite may keep beside it that is a part of its committed state
/// (<https://www.sqlite.org/tempfiles.html>).
pub fn with_companions(file: &RelativePath) -> Vec<RelativePath> {
    ["", "-wal", "-journal"]
        .iter()
        .map(|suffix| {
            format!("{file}{suffix}").parse().expect("a suffix without a slash keeps a path relative")
        })
        .collect()
}

/// What SQLite keeps beside a database's file: `-shm` is the index of `-wal`, made anew by whoever opens the database
/// first.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Whether a path is one that SQLite keeps beside one of these databases: how it stores what the database holds, and no
/// content of its own.
pub fn is_companion(path: &str, databases: &[RelativePath]) -> bool {
    let mut names = COMPANIONS.iter().filter_map(|suffix| path.strip_suffix(suffix));
    names.any(|name| databases.iter().any(|database| database.as_str() == name))
}

/// Names one generation of one site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GenerationName {
    /// The site.
    pub site: SiteName,
    /// Its number on that site, from 1.
    pub number: u64,
}

impl Generation {
    /// Whether a view of its platform shows it.
    pub fn is_shown(&self) -> bool {
        self.state != GenerationState::Retired
    }
}

impl GenerationName {
    /// The key of the record: numbers are padded, so the order of the keys is the order of the numbers.
    pub fn key(&self) -> String {
        format!("{}{:010}", GenerationName::prefix(&self.site), self.number)
    }

    /// What the keys of all generations of a site start with.
    pub fn prefix(site: &SiteName) -> String {
        // A site's name has no slash, so no other site's keys start so.
        format!("{site}/")
    }

    /// The name of the counter that gives out a site's generation numbers; it outlives the site, so that a site
    /// made again under an old name does not use an old path again.
    pub fn counter(site: &SiteName) -> String {
        format!("generation/{site}")
    }
}

impl fmt::Display for GenerationName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.site, self.number)
    }
}

/// Where a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenerationState {
    /// Being made by a run: reachable at its platform, writable, with no visitors.
    Prepared,
    /// The one visitors get: writable.
    Live,
    /// Was live: read-only, kept to go back to.
    Previous,
    /// Out of view, its lane taken by a newer one: read-only, still below `generations/` until it is discarded.
    Retired,
    /// Was live until an update was switched back: still in view for the requests that began on it, and discarded when they
    /// have ended.
    Abandoned,
}

/// One release of a site: its code and settings and the database that belongs to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Which one.
    pub name: GenerationName,
    /// The number of its volume.
    pub volume: u32,
    /// What the volume stands on: fixed for the volume's life.
    pub base: Root,
    /// The platform it lives on.
    pub platform: PlatformName,
    /// The lane that shows it.
    pub lane: Lane,
    /// When it was made.
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: GenerationState,
    /// The snapshot it was made from; `None` for an import.
    pub snapshot: Option<SnapshotId>,
    /// The hash over its platform's code when it was made.
    pub platform_code: ObjectId,
}

impl Record for Generation {
    const TABLE: &'static str = "generations";
    const VERSION: u8 = 1;
}

/// The pointer whose durable change is a release. The key is the site's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePointer {
    /// The generation visitors get.
    pub generation: u64,
    /// The one they got before.
    pub previous: Option<u64>,
    /// When it was switched.
    pub switched: Timestamp,
}

impl Record for LivePointer {
    const TABLE: &'static str = "live";
    const VERSION: u8 = 1;
}

/// Whether `path` is `directory` or below it.
pub(super) fn is_within(path: &RelativePath, directory: &RelativePath) -> bool {
    Path::new(path.as_str()).starts_with(directory.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_generations_are_in_the_order_of_their_numbers() {
        let key = |number| GenerationName { site: "example.com".parse().unwrap(), number }.key();
        assert!(key(9) < key(10) && key(99) < key(100) && key(1) < key(1_000_000));
        assert!(key(3).starts_with(&GenerationName::prefix(&"example.com".parse().unwrap())));
        assert!(!key(3).starts_with(&GenerationName::prefix(&"example.co".parse().unwrap())));
    }

    #[test]
    fn what_is_beside_a_database_is_known_by_its_name() {
        let databases = ["database/site.sqlite".parse().unwrap()];
        for name in ["database/site.sqlite-wal", "database/site.sqlite-shm", "database/site.sqlite-journal"] {
            assert!(is_companion(name, &databases), "{name}");
        }
        for name in ["database/site.sqlite", "site.sqlite-wal", "files/notes-wal", "-wal"] {
            assert!(!is_companion(name, &databases), "{name}");
        }
    }

    #[test]
    fn the_docroot_is_what_the_sites_directory_is_in() {
        let of = |sites: &str| Platform::docroot_of(&sites.parse().unwrap());
        assert_eq!(of("web/sites").unwrap().as_str(), "web");
        assert_eq!(of("a/b/sites").unwrap().as_str(), "a/b");
        assert_eq!(of("sites"), None);
    }
}
