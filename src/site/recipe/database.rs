//! Which database a site of this application has, in which files, and where sitefs keeps them.

use std::fmt;
use std::fs::Metadata;
use std::path::Path;

use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, de};

use super::{Recipe, settings};
use crate::base::{FileError, RelativePath, files};
use crate::site::records::{COMPANIONS, is_within};

/// Where a database is moved to that is found in a data directory, unless the recipe says otherwise.
const DIRECTORY_DEFAULT: &str = "database";

/// Why the database's files could not be told, or cannot be where they are.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFilesError {
    /// The site's directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Several files could be the main one.
    #[error("which of these is the site's database? {found}")]
    Ambiguous {
        /// Their paths in the site's directory.
        found: String,
    },
    /// It is in a data directory, and the recipe has no way to tell the application that it was moved.
    #[error("the database {file} is in {data}, which all generations of the site would share")]
    Shared {
        /// The file.
        file: RelativePath,
        /// The data directory.
        data: RelativePath,
    },
    /// Several directories could be the one that is kept elsewhere.
    #[error("which of these is to be kept as {kept}? {found}")]
    AmbiguousDirectory {
        /// Their paths in the site's directory.
        found: String,
        /// Where it is kept.
        kept: RelativePath,
    },
    /// The settings file that names it could not.
    #[error("a settings file cannot name the database {file:?}: its path has quotes or the like in it", file = file.as_str())]
    Unquotable {
        /// The file.
        file: RelativePath,
    },
    /// Something is in the way where it would be kept.
    #[error("{file} would be kept as {kept}, and there is something of that name already")]
    Occupied {
        /// The database, or the directory.
        file: RelativePath,
        /// Where it would be kept.
        kept: RelativePath,
    },
}

/// A site's database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRecipe {
    /// The engine.
    pub engine: Engine,
    /// For SQLite: where the file may be within the site's directory; the last component of each may contain one `*`
    /// for any text.
    #[serde(deserialize_with = "one_or_several")]
    pub file: Vec<RelativePath>,
    /// Further SQLite files that belong to it, named in the same way.
    #[serde(default)]
    pub additional: Vec<RelativePath>,
    /// The directory of the site that those found in a data directory are moved to.
    #[serde(default = "directory_default")]
    pub directory: RelativePath,
}

/// The engines that a recipe can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// SQLite: files in the site's directory.
    Sqlite,
}

/// A file of a site's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile {
    /// Where the site has it before it is imported.
    pub found: RelativePath,
    /// Where each of its generations has it.
    pub kept: RelativePath,
}

impl DatabaseFile {
    /// Whether it is moved.
    pub fn is_moved(&self) -> bool {
        self.found != self.kept
    }
}

impl DatabaseRecipe {
    /// The files of this database that are in the directory of a site, the main one first: that one (`main`) when it
    /// is known. None where there is no main one. More than one that could be the main one is an error that names them.
    pub fn files_in(
        &self,
        site: &Path,
        main: Option<&RelativePath>,
    ) -> Result<Vec<RelativePath>, DatabaseFilesError> {
        let mut additional = all_matching(site, &self.additional)?;
        let mut files = match main {
            Some(main) => vec![main.clone()],
            None => all_matching(site, &self.file)?,
        };
        if main.is_none() {
            // A general name may fit the additional files too.
            files.retain(|path| !additional.contains(path));
        }
        if files.len() > 1 {
            let found = files.iter().map(RelativePath::as_str).collect::<Vec<_>>().join(", ");
            return Err(DatabaseFilesError::Ambiguous { found });
        }
        if !files.is_empty() {
            additional.retain(|path| !files.contains(path));
            files.append(&mut additional);
        }
        Ok(files)
    }

    /// The places where the main file is looked for, for people.
    pub fn places(&self) -> String {
        self.file.iter().map(RelativePath::as_str).collect::<Vec<_>>().join(" or ")
    }
}

impl Recipe {
    /// Where the database's files `found` in the directory of a site are to be kept: each where it is, but out of the
    /// data directories, because those are shared by all generations and a database belongs to one.
    pub fn place_database(
        &self,
        site: &Path,
        found: Vec<RelativePath>,
    ) -> Result<Vec<DatabaseFile>, DatabaseFilesError> {
        let tells = self.settings.as_ref().is_some_and(super::Settings::names_file);
        let directory = self.database.as_ref().map_or_else(directory_default, |own| own.directory.clone());
        let mut placed: Vec<DatabaseFile> = Vec::new();
        for file in found {
            let data = self.data.iter().find(|directory| is_within(&file, directory));
            let kept = match data {
                None => file.clone(),
                Some(_) if tells => in_directory(&directory, &file),
                Some(data) => return Err(DatabaseFilesError::Shared { data: data.clone(), file }),
            };
            if tells && !settings::is_quotable(&kept) {
                return Err(DatabaseFilesError::Unquotable { file: kept });
            }
            let occupied = placed.iter().any(|other| other.kept == kept)
                || kept != file && !matching(site, &kept, |_| true)?.is_empty();
            if occupied {
                return Err(DatabaseFilesError::Occupied { file, kept });
            }
            placed.push(DatabaseFile { found: file, kept });
        }
        Ok(placed)
    }
}

/// The file's name in another directory.
fn in_directory(directory: &RelativePath, file: &RelativePath) -> RelativePath {
    let name = file.components().next_back().expect("a relative path has a component");
    format!("{directory}/{name}").parse().expect("a component keeps a path relative")
}

fn directory_default() -> RelativePath {
    DIRECTORY_DEFAULT.parse().expect("it is a relative path")
}

/// The files below `site` that match any of the patterns; in the patterns' order.
fn all_matching(site: &Path, patterns: &[RelativePath]) -> Result<Vec<RelativePath>, FileError> {
    let mut found: Vec<RelativePath> = Vec::new();
    for pattern in patterns {
        for path in matching(site, pattern, Metadata::is_file)? {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// What is wrong with a pattern, for people.
pub(super) fn wrong_pattern(pattern: &RelativePath) -> Option<String> {
    let (directory, name) = pattern.as_str().rsplit_once('/').unwrap_or(("", pattern.as_str()));
    (directory.contains('*') || name.matches('*').count() > 1)
        .then(|| format!("{pattern}: only the last component may contain a '*', and only one"))
}

/// Whether the last component of a pattern means this name; not what SQLite keeps beside a database.
pub(super) fn is_name_of(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
                && !COMPANIONS.iter().any(|suffix| name.ends_with(suffix))
        }
    }
}

/// What is below `site` under the path `pattern`; or, with one `*` in the last component for any text, what `is_meant` of
/// that; in order.
pub(super) fn matching(
    site: &Path,
    pattern: &RelativePath,
    is_meant: fn(&Metadata) -> bool,
) -> Result<Vec<RelativePath>, FileError> {
    let (parent, name) = pattern.as_str().rsplit_once('/').unwrap_or(("", pattern.as_str()));
    let directory = site.join(parent);
    // A link to a directory is as good.
    match files::metadata(&directory)? {
        Some(found) if found.is_dir() => {}
        Some(found)
            if found.is_symlink()
                && files::metadata(&files::canonical(&directory)?)?.is_some_and(|to| to.is_dir()) => {}
        _ => return Ok(Vec::new()),
    }
    if !name.contains('*') {
        let exists = files::metadata(&pattern.below(site))?.is_some();
        return Ok(exists.then(|| pattern.clone()).into_iter().collect());
    }
    let mut found = Vec::new();
    for entry in files::list(&directory)? {
        let Ok(found_name) = entry.file_name().into_string() else { continue };
        if is_name_of(name, &found_name) && files::metadata(&entry.path())?.as_ref().is_some_and(is_meant) {
            let path = if parent.is_empty() { found_name } else { format!("{parent}/{found_name}") };
            found.extend(path.parse::<RelativePath>());
        }
    }
    found.sort();
    Ok(found)
}

/// A path alone, or a list of them. Not an untagged enum: that could not say what is wrong.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RelativePath>, D::Error> {
    struct OneOrSeveral;
    impl<'de> Visitor<'de> for OneOrSeveral {
        type Value = Vec<RelativePath>;
        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a path, or a list of paths")
        }
        fn visit_str<E: de::Error>(self, path: &str) -> Result<Vec<RelativePath>, E> {
            Ok(vec![path.parse().map_err(E::custom)?])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<RelativePath>, A::Error> {
            let paths = Vec::deserialize(SeqAccessDeserializer::new(list))?;
            match paths.is_empty() {
                true => Err(de::Error::custom("the list of paths is empty")),
                false => Ok(paths),
            }
        }
    }
    deserializer.deserialize_any(OneOrSeveral)
}
