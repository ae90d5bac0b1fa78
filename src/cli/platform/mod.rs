//! `sitefs platform`.

mod add;
mod list;
mod remove;
mod show;
mod verify;

use clap::Subcommand;

use super::context::{Context, Ended};

pub(super) use list::table;

/// What can be done with platforms.
#[derive(Debug, Subcommand)]
pub(super) enum Platform {
    Add(add::Add),
    List(list::List),
    Show(show::Show),
    Verify(verify::Verify),
    Remove(remove::Remove),
}

impl Platform {
    pub(super) fn run(self, context: &Context) -> Ended {
        match self {
            Platform::Add(verb) => verb.run(context),
            Platform::List(verb) => verb.run(context),
            Platform::Show(verb) => verb.run(context),
            Platform::Verify(verb) => verb.run(context),
            Platform::Remove(verb) => verb.run(context),
        }
    }
}
