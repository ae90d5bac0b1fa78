//! `sitefs database clone`.

use clap::Args;

use crate::base::SiteName;
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, seconds};
use crate::cli::page::Page;
use crate::control::Revision;
use crate::control::request::DatabaseClone;

/// Replace the database of a clone by that of another site
///
/// Brings a clone up to date with its site without touching the clone's files. Refused for a site that is no clone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs database clone shop.example shop-test
  sitefs database clone shop.example@release-7 shop-test")]
pub(in crate::cli) struct Clone {
    /// The site whose database is taken, or a snapshot of it
    #[arg(value_name = "SITE[@ID]")]
    from: Revision,
    /// The clone whose database is replaced
    to: SiteName,
}

impl Clone {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(DatabaseClone { from: self.from, to: self.to }, |cloned, _| {
            let mut page = Page::default();
            page.line(format!(
                "the database of {} is a clone of that of {} now: {}, {}, in {}",
                cloned.to,
                cloned.from,
                counted(cloned.tables, "table", "tables"),
                counted(cloned.rows, "row", "rows"),
                seconds(cloned.seconds),
            ));
            page
        })
    }
}
