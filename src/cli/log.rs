//! `sitefs log`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{list, short_id, size, time};
use super::page::{Page, Table};
use crate::base::SiteName;
use crate::control::request::Log as Request;

/// List a site's snapshots, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs log shop.example
  sitefs log shop.example -n 5")]
pub(super) struct Log {
    /// The site
    site: SiteName,
    /// Only this many of the newest
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Log {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Log { site, limit } = self;
        context.show(Request { site, limit }, |log, now| {
            let mut page = Page::default();
            if log.snapshots.is_empty() {
                page.note(format!(
                    "{0} has no snapshots yet: sitefs{1} snapshot {0}",
                    log.site,
                    context.store_option()
                ));
                return page;
            }
            let mut table = Table::new(["ID", "TAKEN", ">ADDED", "PLATFORM", "AUTHOR", "MESSAGE"]);
            for snapshot in &log.snapshots {
                let subject = snapshot.message.lines().next().unwrap_or_default();
                let damaged = if snapshot.damaged.is_some() { "CANNOT BE READ: " } else { "" };
                let tags = match snapshot.tags.as_slice() {
                    [] => String::new(),
                    tags => format!("({}) ", list(tags, "")),
                };
                table.row([
                    short_id(&snapshot.id).to_owned(),
                    time(snapshot.created, now),
                    size(snapshot.added_bytes),
                    snapshot.platform.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                    snapshot.author.clone(),
                    format!("{damaged}{tags}{subject}"),
                ]);
            }
            page.table(table);
            if log.snapshots.iter().any(|snapshot| snapshot.damaged.is_some()) {
                page.note(format!(
                    "what is damaged, and what it affects: sitefs{} verify",
                    context.store_option()
                ));
            }
            page
        })
    }
}
