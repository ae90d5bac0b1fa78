//! `sitefs site list`.

use clap::Args;

use crate::base::Timestamp;
use crate::cli::context::{Context, Ended};
use crate::cli::format::{count, relative};
use crate::cli::page::{Page, Table};
use crate::control::request::SiteList;
use crate::control::response::SiteSummary;

/// List the sites and clones
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs site list
  sitefs --json site list")]
pub(in crate::cli) struct List {}

impl List {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(SiteList {}, |answer, now| {
            let mut page = Page::default();
            if answer.sites.is_empty() {
                let option = context.store_option();
                page.note(format!("no sites yet: sitefs{option} site import SITE DIR --platform PLATFORM"));
            } else {
                page.table(table(&answer.sites, now));
            }
            page
        })
    }
}

/// Sites, one a row.
pub(in crate::cli) fn table(sites: &[SiteSummary], now: Timestamp) -> Table {
    let mut table =
        Table::new(["SITE", "APP", "PLATFORM", ">GENERATION", ">SNAPSHOTS", "NEWEST SNAPSHOT", "NOTE"]);
    for site in sites {
        let clone = site.clone_of.as_ref().map(|origin| format!("clone of {origin}"));
        let expires = site.expires.map(|time| format!("expires {}", relative(time, now)));
        table.row([
            site.site.to_string(),
            site.app.clone(),
            site.platform.to_string(),
            site.generation.to_string(),
            count(site.snapshots),
            site.newest_snapshot.map_or_else(|| "-".to_owned(), |time| relative(time, now)),
            [clone, expires].into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}
