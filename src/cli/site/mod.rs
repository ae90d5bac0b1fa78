//! `sitefs site`.

mod import;
mod list;
mod remove;
mod set;
mod show;

use clap::Subcommand;

use super::context::{Context, Ended};
use crate::control::response::SettingValue;

pub(super) use list::table;

/// What can be done with sites.
#[derive(Debug, Subcommand)]
pub(super) enum Site {
    Import(import::Import),
    List(list::List),
    Show(show::Show),
    Set(set::Set),
    Remove(remove::Remove),
}

impl Site {
    pub(super) fn run(self, context: &Context) -> Ended {
        match self {
            Site::Import(verb) => verb.run(context),
            Site::List(verb) => verb.run(context),
            Site::Show(verb) => verb.run(context),
            Site::Set(verb) => verb.run(context),
            Site::Remove(verb) => verb.run(context),
        }
    }
}

/// Where the value of a setting is from, for people.
fn origin(setting: &SettingValue) -> &'static str {
    match setting.source.as_str() {
        "site" => "from the site",
        _ => "the default",
    }
}
