//! The recipes there are: those built in, and the administrator's own.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Recipe, RecipeError};
use crate::base::{FileError, files};

const BUILT_IN: [(&str, &str); 6] = [
    ("backdrop", include_str!("../../../recipes/backdrop.toml")),
    ("drupal", include_str!("../../../recipes/drupal.toml")),
    ("drupal7", include_str!("../../../recipes/drupal7.toml")),
    ("generic", include_str!("../../../recipes/generic.toml")),
    ("mediawiki", include_str!("../../../recipes/mediawiki.toml")),
    ("wordpress", include_str!("../../../recipes/wordpress.toml")),
];

/// All recipes, by name.
#[derive(Clone, Debug)]
pub struct Library {
    recipes: BTreeMap<String, Recipe>,
}

impl Library {
    /// The recipes built in.
    pub fn built_in() -> Library {
        let recipes = BUILT_IN.map(|(name, text)| {
            let recipe = Recipe::parse(name, text, &format!("{name} (built in)"))
                .expect("a test reads every recipe that is built in");
            (name.to_owned(), recipe)
        });
        Library { recipes: recipes.into() }
    }

    /// The recipes built in, and those in the files `NAME.toml` of `directory` (it may be missing), which replace
    /// those built in of the same name.
    pub fn load(directory: &Path) -> Result<Library, RecipeError> {
        let mut library = Library::built_in();
        if files::metadata(directory)?.is_none() {
            return Ok(library);
        }
        for entry in files::list(directory)? {
            let path = entry.path();
            let (Some(name), Some("toml")) = (
                path.file_stem().and_then(|name| name.to_str()),
                path.extension().and_then(|extension| extension.to_str()),
            ) else {
                continue;
            };
            let recipe = Recipe::parse(name, &files::read_to_string(&path)?, &path.display().to_string())?;
            library.recipes.insert(name.to_owned(), recipe);
        }
        Ok(library)
    }

    /// The recipe of a name, as [`Library::load`] and [`Library::get`]; others in the directory are not looked at.
    pub fn find(directory: &Path, name: &str) -> Result<Recipe, RecipeError> {
        // A name is a component of a path only if nothing leads elsewhere.
        let own =
            Some(directory.join(format!("{name}.toml"))).filter(|path| path.parent() == Some(directory));
        match own {
            Some(path) if files::metadata(&path)?.is_some() => {
                Recipe::parse(name, &files::read_to_string(&path)?, &path.display().to_string())
            }
            _ => match Library::built_in().recipes.remove(name) {
                Some(recipe) => Ok(recipe),
                None => Library::load(directory)?.get(name).cloned(),
            },
        }
    }

    /// The recipe of a name.
    pub fn get(&self, name: &str) -> Result<&Recipe, RecipeError> {
        self.recipes.get(name).ok_or_else(|| RecipeError::Unknown {
            name: name.to_owned(),
            known: self.recipes.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Every recipe, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }

    /// The recipe of the application whose code is in a platform: as [`Library::detect`], whatever the sites are like;
    /// `None` also where only recipes fit that ask for nothing of a platform.
    pub fn detect_platform(&self, platform: &Path, docroot: &Path) -> Result<Option<&Recipe>, FileError> {
        let mut found: Option<(usize, &Recipe)> = None;
        for recipe in self.recipes.values() {
            let count = recipe.detect.platform.len() + recipe.detect.docroot.len();
            if count > found.map_or(0, |(most, _)| most)
                && recipe.missing_from_platform(platform, docroot)?.is_empty()
            {
                found = Some((count, recipe));
            }
        }
        Ok(found.map(|(_, recipe)| recipe))
    }

    /// The recipe of the application that a site is of: of those whose files are all there, the one that names the
    /// most; of equals, the first by name.
    pub fn detect(&self, platform: &Path, docroot: &Path, site: &Path) -> Result<Option<&Recipe>, FileError> {
        let mut found: Option<(usize, &Recipe)> = None;
        for recipe in self.recipes.values() {
            let detect = &recipe.detect;
            let count = detect.platform.len() + detect.docroot.len() + detect.site.len();
            if found.is_some_and(|(most, _)| most >= count) {
                continue;
            }
            if recipe.missing_from_platform(platform, docroot)?.is_empty()
                && recipe.missing_from_site(site)?.is_empty()
            {
                found = Some((count, recipe));
            }
        }
        Ok(found.map(|(_, recipe)| recipe))
    }
}
