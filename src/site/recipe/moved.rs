//! Directories that an application keeps below a data directory, and that belong to one generation all the same: what
//! they hold goes with the database, as Backdrop's active configuration does.

use std::path::Path;

use super::{DatabaseFilesError, Recipe, database};
use crate::base::RelativePath;
use crate::site::records::is_within;

impl Recipe {
    /// The directories of a site that are kept elsewhere than they are found: each with where it is, and where it is
    /// kept. Where nothing is found, nothing is moved: the site may have come out of sitefs.
    pub fn place_directories(
        &self,
        site: &Path,
    ) -> Result<Vec<(RelativePath, RelativePath)>, DatabaseFilesError> {
        let mut placed = Vec::new();
        for (pattern, kept) in &self.moved {
            let found = database::matching(site, pattern, |found| found.is_dir())?;
            if found.len() > 1 {
                let found = found.iter().map(RelativePath::as_str).collect::<Vec<_>>().join(", ");
                return Err(DatabaseFilesError::AmbiguousDirectory { found, kept: kept.clone() });
            }
            let Some(found) = found.into_iter().next() else { continue };
            if !database::matching(site, kept, |_| true)?.is_empty() {
                return Err(DatabaseFilesError::Occupied { file: found, kept: kept.clone() });
            }
            placed.push((found, kept.clone()));
        }
        Ok(placed)
    }

    /// What is wrong with the directories to be moved, for people.
    pub(super) fn wrong_in_moved(&self) -> Option<String> {
        self.moved.iter().find_map(|(pattern, kept)| {
            if let Some(reason) = database::wrong_pattern(pattern) {
                return Some(reason);
            }
            if kept.as_str().contains('*') {
                return Some(format!("{kept}: the place to keep {pattern} in cannot have a '*'"));
            }
            let data = self.data.iter().find(|data| is_within(kept, data))?;
            Some(format!("{kept} is in the data directory {data}, which all generations of a site share"))
        })
    }
}
