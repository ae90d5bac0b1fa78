//! `sitefs platform list`.

use clap::Args;

use crate::cli::context::{Context, Ended};
use crate::cli::format::list;
use crate::cli::page::{Page, Table};
use crate::control::request::PlatformList;
use crate::control::response::PlatformSummary;

/// List the platforms, and which sites are live on them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs platform list
  sitefs --json platform list")]
pub(in crate::cli) struct List {}

impl List {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(PlatformList {}, |answer, _| {
            let mut page = Page::default();
            if answer.platforms.is_empty() {
                page.note(format!(
                    "no platforms yet: sitefs{} platform add NAME DIR",
                    context.store_option()
                ));
            } else {
                page.table(table(&answer.platforms));
            }
            page
        })
    }
}

/// Platforms, one a row.
pub(in crate::cli) fn table(platforms: &[PlatformSummary]) -> Table {
    let mut table = Table::new(["PLATFORM", "APPLICATION", "SITES", "DIRECTORY"]);
    for platform in platforms {
        table.row([
            platform.platform.to_string(),
            platform.application.clone().unwrap_or_else(|| "-".to_owned()),
            list(&platform.sites, "-"),
            platform.directory.clone(),
        ]);
    }
    table
}
