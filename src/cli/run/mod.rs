//! `sitefs run`.

mod list;
mod show;

use clap::Subcommand;

use super::context::{Context, Ended};

/// What can be asked about runs.
#[derive(Debug, Subcommand)]
pub(super) enum Run {
    List(list::List),
    Show(show::Show),
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Ended {
        match self {
            Run::List(verb) => verb.run(context),
            Run::Show(verb) => verb.run(context),
        }
    }
}
