//! Which database a site of this application has, and in which files.

use std::path::Path;

use serde::Deserialize;

use crate::base::{FileError, RelativePath, files};

/// Why the database's files could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFilesError {
    /// The site's directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Several files could be the main one.
    #[error("which file is the site's database? {found}: name it with --database")]
    Ambiguous {
        /// Their paths in the site's directory.
        found: String,
    },
}

/// A site's database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRecipe {
    /// The engine.
    pub engine: Engine,
    /// For SQLite: the file within the site's directory; the last component may contain one `*` for any text.
    pub file: RelativePath,
    /// Further SQLite files that belong to it, named in the same way.
    #[serde(default)]
    pub additional: Vec<RelativePath>,
}

/// The engines that a recipe can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// SQLite: files in the site's directory.
    Sqlite,
}

impl DatabaseRecipe {
    /// The files of this database that are in the directory of a site, the main one first; none where there is no
    /// main one. More than one that could be the main one is an error that names them.
    pub fn files_in(&self, site: &Path) -> Result<Vec<RelativePath>, DatabaseFilesError> {
        let mut additional = Vec::new();
        for pattern in &self.additional {
            additional.extend(matching(site, pattern)?);
        }
        let mut main = matching(site, &self.file)?;
        main.retain(|path| !additional.contains(path));
        if main.len() > 1 {
            let found = main.iter().map(RelativePath::as_str).collect::<Vec<_>>().join(", ");
            return Err(DatabaseFilesError::Ambiguous { found });
        }
        if !main.is_empty() {
            main.append(&mut additional);
        }
        Ok(main)
    }
}

/// The files below `site` whose path is `pattern`, with one `*` in the last component for any text; in order.
fn matching(site: &Path, pattern: &RelativePath) -> Result<Vec<RelativePath>, FileError> {
    let (directory, name) = match pattern.as_str().rsplit_once('/') {
        Some((directory, name)) => (site.join(directory), name),
        None => (site.to_owned(), pattern.as_str()),
    };
    if files::metadata(&directory)?.is_none() {
        return Ok(Vec::new());
    }
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let mut found = Vec::new();
    for entry in files::list(&directory)? {
        let Ok(candidate) = entry.file_name().into_string() else { continue };
        let is_match = match name.contains('*') {
            true => candidate.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
            false => candidate == name,
        };
        if is_match && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = pattern.as_str().strip_suffix(name).unwrap_or_default().to_owned() + &candidate;
            found.extend(path.parse::<RelativePath>());
        }
    }
    found.sort();
    Ok(found)
}
