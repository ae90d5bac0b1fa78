//! Recipes, read when they are needed: one that was written or mended is in force with the next command.

use std::path::Path;

use super::Daemon;
use crate::base::Lane;
use crate::control::{Failure, request};
use crate::site::{Detect, Library, Platform, Recipe, Site};

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
        // A site that is not what its platform asks for is not one of any files, but an incomplete one.
        if let Some(of_platform) = recipes.detect_platform(Path::new(&platform.directory), &docroot)?
            && found.is_none_or(|found| found.detect == Detect::default())
        {
            let missing = of_platform.missing_from_site(directory)?;
            let missing =
                missing.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!(
                "platform {} is one of {}, but its site lacks {missing}",
                platform.name, of_platform.title
            ))
            .hint(format!(
                "recipes/{0}.toml begins with what a site must be like; --app {0} imports it as it is, and --app generic \
                 as files without an application",
                of_platform.name
            )));
        }
        found.cloned().ok_or_else(|| {
            let known = recipes.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>().join(", ");
            Failure::usage(format!("no recipe recognises {} on {}", directory.display(), platform.directory))
                .hint(format!("name one with --app ({known}), or write one: docs/recipes.md"))
        })
    }

    /// The recipe of this name.
    pub(super) fn recipe_named(&self, name: &str) -> Result<Recipe, Failure> {
        Library::find(&self.options.recipes, name).map_err(|error| {
            Failure::from(error).hint(format!(
                "recipes of your own are files {}/NAME.toml: docs/recipes.md",
                self.options.recipes.display()
            ))
        })
    }
}
