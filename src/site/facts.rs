//! What the commands of a recipe are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{GenerationName, Platform};
use crate::base::{Lane, PlatformName, SiteName};

/// Where a generation is found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The platform's directory, as the generation's lane shows it.
    pub platform: PathBuf,
    /// What the web server serves.
    pub docroot: PathBuf,
    /// The site's directory as the platform sees it: `PLATFORM/web/sites/SITE`.
    pub site: PathBuf,
}

impl Place {
    /// The place of a site on a lane of a platform.
    pub fn new(platform: &Platform, lane: Lane, site: &SiteName) -> Place {
        Place {
            platform: platform.directory_in(lane),
            docroot: platform.docroot_in(lane),
            site: platform.sites_in(lane).join(site.as_str()),
        }
    }
}

/// What a command is told, in environment variables: never in the text of a shell line, where a value could be
/// taken for a part of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The generation the command is for; its site may be a clone.
    pub generation: GenerationName,
    /// Whether that site is a clone.
    pub is_clone: bool,
    /// The platform it is on.
    pub platform: PlatformName,
    /// Where it is.
    pub place: Place,
    /// The site's address, scheme and host.
    pub uri: String,
    /// The run that the command is a part of; empty outside of one.
    pub run: String,
    /// The step of that run; empty outside of one.
    pub step: String,
    /// The program that runs PHP on the command line.
    pub php: String,
}

/// How an application gets to its database on a server, for its settings file.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// The engine: `mariadb`, `postgresql`.
    pub engine: String,
    /// The host; empty where it is reached through a socket.
    pub host: String,
    /// The port; empty where it is the engine's own.
    pub port: String,
    /// The socket (PostgreSQL: its directory); empty where it is reached through a host.
    pub socket: String,
    /// The database's name.
    pub name: String,
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Facts {
    /// What the site is: `live` or `clone`.
    pub fn kind(&self) -> &'static str {
        if self.is_clone { "clone" } else { "live" }
    }

    /// The environment of the command: these facts and, of what a recipe sets itself, whatever is not a fact.
    pub fn environment(&self, recipe: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut environment = recipe.clone();
        environment.extend(
            [
                ("SITEFS_SITE", self.generation.site.to_string()),
                ("SITEFS_SITE_DIR", path(&self.place.site)),
                ("SITEFS_KIND", self.kind().to_owned()),
                ("SITEFS_GENERATION", self.generation.number.to_string()),
                ("SITEFS_PLATFORM", self.platform.to_string()),
                ("SITEFS_PLATFORM_DIR", path(&self.place.platform)),
                ("SITEFS_DOCROOT", path(&self.place.docroot)),
                ("SITEFS_URI", self.uri.clone()),
                ("SITEFS_RUN", self.run.clone()),
                ("SITEFS_STEP", self.step.clone()),
                ("SITEFS_PHP", self.php.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        environment
    }
}
