//! Recipes: how to drive one kind of application. `docs/recipes.md` describes the format to those who write one.

mod command;
mod database;
mod library;
mod moved;
mod settings;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

pub use command::{Check, Command, Expectation, ExpectedPage};
pub use database::{DatabaseFile, DatabaseFilesError, DatabaseRecipe, Engine};
pub use library::Library;
pub use settings::{IncludeAt, Settings, WithSettings};

use super::records::is_within;
use crate::base::{FileError, RelativePath, files};

/// Seconds a command may take where neither it nor the recipe says otherwise. Database updates of large sites take
/// half an hour; nothing useful takes longer than this unless its recipe says so.
const TIMEOUT_SECONDS_DEFAULT: u32 = 3600;

/// What can be wrong with a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is not a recipe; the message shows the line and the keys that are known there.
    #[error("the recipe {origin} cannot be read: {source}")]
    Syntax {
        /// The file, or "NAME (built in)".
        origin: String,
        /// What is wrong, with the line.
        source: Box<toml::de::Error>,
    },
    /// The text is a recipe that contradicts itself.
    #[error("the recipe {origin} is wrong: {reason}")]
    Meaning {
        /// The file, or "NAME (built in)".
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// No recipe has this name.
    #[error("there is no recipe {name:?}; known: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// How to drive one kind of application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name by which sites refer to it: that of its file.
    #[serde(skip)]
    pub name: String,
    /// The text it was read from: what a run keeps, so that it ends with the recipe it began with.
    #[serde(skip)]
    pub text: String,
    /// The application's name for people.
    pub title: String,
    /// How the application is recognised.
    #[serde(default)]
    pub detect: Detect,
    /// How the application's version is found.
    pub version: Option<VersionSource>,
    /// Directories of a site whose content belongs to all its generations: uploads, private files.
    #[serde(default)]
    pub data: Vec<RelativePath>,
    /// Directories that lie below a data directory (the last component may contain one `*`) and belong to one generation
    /// all the same, each with the place where it is kept.
    #[serde(default)]
    pub moved: BTreeMap<RelativePath, RelativePath>,
    /// The site's database.
    pub database: Option<DatabaseRecipe>,
    /// A settings file that sitefs writes into each generation.
    pub settings: Option<Settings>,
    /// What a web server must know of it.
    #[serde(default)]
    pub web: WebRecipe,
    /// Programs that must be found for the commands to work.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Who runs the commands.
    #[serde(default)]
    pub user: User,
    /// Environment variables of every command, beside the facts.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Seconds a command may take that does not say otherwise.
    #[serde(default = "timeout_default")]
    pub timeout_seconds: u32,
    /// The application's read-only mode, when it has one: reading works, writing is refused in a friendly way.
    pub readonly: Option<Mode>,
    /// The application's maintenance mode: visitors see that it is closed. For writes to be held where there is no
    /// read-only mode.
    pub maintenance: Option<Mode>,
    /// How the database is brought to the state that the platform's code expects.
    #[serde(default)]
    pub update: UpdateRecipe,
    /// How what a copy must not have is taken out of it.
    pub sanitize: Option<SanitizeRecipe>,
    /// How it is found out whether the site works.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
}

/// How an application is recognised: every file named must exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Below the platform's directory.
    #[serde(default)]
    pub platform: Vec<RelativePath>,
    /// Below the docroot.
    #[serde(default)]
    pub docroot: Vec<RelativePath>,
    /// Below the site's directory.
    #[serde(default)]
    pub site: Vec<RelativePath>,
}

/// Where the version of a platform is written: in the first line of a file that contains `after`, from the end of
/// that text up to the first character that no version has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSource {
    /// The file, below the docroot.
    pub file: RelativePath,
    /// The text in front of the version.
    pub after: String,
}

/// How the files of a site are shown to visitors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebRecipe {
    /// Directories of a site that the application's pages name as if they were in the docroot.
    #[serde(default)]
    pub directories: Vec<RelativePath>,
    /// What is in a site's directory that no visitor may ask for.
    #[serde(default)]
    pub hidden: Vec<RelativePath>,
}

/// Who runs the commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum User {
    /// The owner of the site's files.
    #[default]
    SiteOwner,
    /// A user of this machine.
    Named(String),
}

/// A mode that is switched by commands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// Switches it on; no harm when it is on.
    pub on: Command,
    /// Switches it off; no harm when it is off.
    pub off: Command,
    /// Whether the database is locked as well while writes are held. `false` where the mode alone refuses all that
    /// is worth keeping, and the application has to write (caches, logs) to show a page: what it writes so is lost.
    #[serde(default = "yes")]
    pub lock_database: bool,
}

/// How a site is brought to the state that its platform's code expects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRecipe {
    /// The commands that update the database, in order.
    #[serde(default)]
    pub commands: Vec<Command>,
    /// The commands that rebuild caches after it, in order.
    #[serde(default)]
    pub rebuild: Vec<Command>,
    /// Whether writes are held until the checks after the switch have passed, so that switching back loses none.
    /// `false` for an application that cannot answer a page without writing to its database.
    #[serde(default = "yes")]
    pub hold_after_switch: bool,
}

/// How personal data and secrets are taken out of a clone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SanitizeRecipe {
    /// The commands that do it, in order.
    pub commands: Vec<Command>,
}

impl Default for UpdateRecipe {
    fn default() -> UpdateRecipe {
        UpdateRecipe { commands: Vec::new(), rebuild: Vec::new(), hold_after_switch: true }
    }
}

fn timeout_default() -> u32 {
    TIMEOUT_SECONDS_DEFAULT
}

fn yes() -> bool {
    true
}

impl Recipe {
    /// Reads the recipe `name` from `text`; errors say that it came from `origin`.
    pub fn parse(name: &str, text: &str, origin: &str) -> Result<Recipe, RecipeError> {
        let mut recipe: Recipe = toml::from_str(text)
            .map_err(|source| RecipeError::Syntax { origin: origin.to_owned(), source: Box::new(source) })?;
        recipe.name = name.to_owned();
        recipe.text = text.to_owned();
        match recipe.contradiction() {
            Some(reason) => Err(RecipeError::Meaning { origin: origin.to_owned(), reason }),
            None => Ok(recipe),
        }
    }

    /// The mode that the application is in while writes are held.
    pub fn holding_mode(&self) -> Option<&Mode> {
        self.readonly.as_ref().or(self.maintenance.as_ref())
    }

    /// Whether the database is locked while writes are held. If not, the application refuses them by itself, and
    /// writes all the same to show a page.
    pub fn locks_database(&self) -> bool {
        self.holding_mode().is_none_or(|mode| mode.lock_database)
    }

    /// How long `command` may take, in seconds.
    pub fn timeout_seconds_of(&self, command: &Command) -> u32 {
        command.timeout_seconds.unwrap_or(self.timeout_seconds)
    }

    /// The files, below `docroot` or the platform's `directory`, that this application has and the platform has
    /// not; none: it is a platform of this application.
    pub fn missing_from_platform(&self, directory: &Path, docroot: &Path) -> Result<Vec<PathBuf>, FileError> {
        let platform = self.detect.platform.iter().map(|path| path.below(directory));
        let docroot = self.detect.docroot.iter().map(|path| path.below(docroot));
        missing(platform.chain(docroot))
    }

    /// The version of the platform whose docroot is given; `None` when the recipe or the platform does not say.
    pub fn version_of(&self, docroot: &Path) -> Result<Option<String>, FileError> {
        let Some(source) = &self.version else { return Ok(None) };
        let file = source.file.below(docroot);
        if files::metadata(&file)?.is_none() {
            return Ok(None);
        }
        let bytes = files::read(&file)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().find_map(|line| source.version_in(line)))
    }

    /// The files below the site's directory that this application has and this site has not.
    pub fn missing_from_site(&self, site: &Path) -> Result<Vec<PathBuf>, FileError> {
        missing(self.detect.site.iter().map(|path| path.below(site)))
    }

    fn contradiction(&self) -> Option<String> {
        if let Some(reason) = self.database.as_ref().and_then(|database| self.wrong_in_database(database)) {
            return Some(reason);
        }
        if let Some(reason) = self.settings.as_ref().and_then(|settings| self.wrong_in_settings(settings)) {
            return Some(reason);
        }
        if let Some(reason) = self.wrong_in_moved() {
            return Some(reason);
        }
        for (place, outer) in self.data.iter().enumerate() {
            if let Some(inner) =
                self.data.iter().enumerate().find(|(other, inner)| *other != place && is_within(inner, outer))
            {
                return Some(format!("the data directory {} is named by {outer} already", inner.1));
            }
        }
        if self.sanitize.as_ref().is_some_and(|sanitize| sanitize.commands.is_empty()) {
            return Some(
                "[sanitize] has no command: a clone would be said to be clean and is not".to_owned(),
            );
        }
        if let Some(name) = self.environment.keys().find(|name| name.starts_with("SITEFS_")) {
            return Some(format!("the environment variable {name} is a fact that sitefs sets itself"));
        }
        None
    }

    fn wrong_in_database(&self, database: &DatabaseRecipe) -> Option<String> {
        let tells = self.settings.as_ref().is_some_and(Settings::names_file);
        for file in database.file.iter().chain(&database.additional) {
            if let Some(reason) = database::wrong_pattern(file) {
                return Some(reason);
            }
            let data = self.data.iter().find(|directory| is_within(file, directory));
            if let Some(directory) = data.filter(|_| !tells) {
                return Some(format!(
                    "the database {file} is in the data directory {directory}, which all generations of a site \
                     share; a database belongs to one generation: add [settings] with @DATABASE@ in its text, so \
                     that the application learns where the database is moved to"
                ));
            }
        }
        let data = self.data.iter().find(|data| is_within(&database.directory, data))?;
        Some(format!("the directory {} for databases is in the data directory {data}", database.directory))
    }

    fn wrong_in_settings(&self, settings: &Settings) -> Option<String> {
        if settings.included_by.is_some() != settings.include.is_some() {
            return Some("[settings] has one of `included_by` and `include` without the other".to_owned());
        }
        if settings.included_by.as_ref() == Some(&settings.file) {
            return Some(format!("the settings file {} cannot include itself", settings.file));
        }
        let mut files = std::iter::once(&settings.file).chain(&settings.included_by);
        let file = files.find(|file| self.data.iter().any(|data| is_within(file, data)))?;
        Some(format!(
            "the settings file {file} is in a data directory, which all generations of a site share"
        ))
    }
}

fn missing(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>, FileError> {
    let mut missing = Vec::new();
    for path in paths {
        if files::metadata(&path)?.is_none() {
            missing.push(path);
        }
    }
    Ok(missing)
}

impl VersionSource {
    fn version_in(&self, line: &str) -> Option<String> {
        let (_, rest) = line.split_once(&self.after)?;
        let version: String = rest
            .chars()
            .take_while(|character| character.is_ascii_alphanumeric() || "._+~-".contains(*character))
            .collect();
        (!version.is_empty()).then_some(version)
    }
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<User, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(if name == "site-owner" { User::SiteOwner } else { User::Named(name) })
    }
}
