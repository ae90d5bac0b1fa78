//! `site`: what a site, a generation, a platform and an application recipe are.
//!
//! A [`Platform`] is the native directory of an application's code; a [`Site`] lives on one through its
//! [`Generation`]s, of which the [`LivePointer`] names the one that visitors get. A [`Recipe`] says how to drive one
//! kind of application. [`layout`] turns the tree of a snapshot into the trees a generation consists of, and back.
//!
//! Invariants: the number of a generation is never used again on its site, so neither is its path; facts reach a
//! recipe's commands through the environment ([`Facts`]) and never through the text of a shell line; a path of the
//! database is never below a data directory, because then generations would share it.
//!
//! Absent: anything that runs, mounts or waits. These are descriptions, and functions on trees.

mod facts;
pub mod layout;
mod recipe;
mod records;
#[cfg(test)]
pub(crate) mod testing;
mod version;

pub use facts::{DatabaseFacts, Facts, Place};
pub use recipe::{
    Check, Command, DatabaseFile, DatabaseFilesError, DatabaseRecipe, Detect, Engine, Expectation,
    ExpectedPage, IncludeAt, Library, Mode, Recipe, RecipeError, SanitizeRecipe, Settings, UpdateRecipe,
    User, VersionSource, WebRecipe, WithSettings,
};
pub use records::{
    DatabaseBinding, Generation, GenerationName, GenerationState, LivePointer, Platform, Site, SiteKind,
    is_companion, with_companions,
};
pub use version::is_older_version;
