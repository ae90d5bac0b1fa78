//! Recipes, read when they are needed: one that was written or mended is in force with the next command.

use std::path::Path;

use super::Daemon;
use crate::base::Lane;
use crate::control::{Failure, request};
use crate::site::{Library, Platform, Recipe, Site};

impl Daemon {
    /// All recipes. One that cannot be read is an error that names it.
    pub(super) fn recipes(&self) -> Result<Library, Failure> {
        Ok(Library::load(&self.options.recipes)?)
    }

    /// The recipe of a site, whatever the others are like.
    pub(super) fn recipe(&self, site: &Site) -> Result<Recipe, Failure> {
        self.recipe_named(&site.recipe)
    }

    /// The recipe for a site that is to be imported: the one asked for, or the one that recognises it.
    pub(super) fn recipe_for(
        &self,
        request: &request::SiteImport,
        platform: &Platform,
        directory: &Path,
    ) -> Result<Recipe, Failure> {
        if let Some(name) = &request.app {
            return self.recipe_named(name);
        }
        let recipes = self.recipes()?;
        let docroot = platform.docroot_in(Lane::A);
        let found = recipes.detect(Path::new(&platform.directory), &docroot, directory)?;
        found.cloned().ok_or_else(|| {
            let known = recipes.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("no recipe recognises {} on {}", directory.display(), platform.directory))
                .hint(format!("name one with --app ({known}), or write one: docs/recipes.md"))
        })
    }

    fn recipe_named(&self, name: &str) -> Result<Recipe, Failure> {
        Library::find(&self.options.recipes, name).map_err(|error| {
            Failure::from(error).hint(format!(
                "recipes of your own are files {}/NAME.toml: docs/recipes.md",
                self.options.recipes.display()
            ))
        })
    }
}
