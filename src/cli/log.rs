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
  sitefs log shop.example -n 5
  sitefs log shop.example --space")]
pub(super) struct Log {
    /// The site
    site: SiteName,
    /// Only this many of the newest
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Count what the site takes of the store, and what removing each snapshot alone would free
    #[arg(long)]
    space: bool,
}

impl Log {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Log { site, limit, space } = self;
        context.show(Request { site, limit, space }, |log, now| {
            let mut page = Page::default();
            if log.snapshots.is_empty() {
                page.note(format!(
                    "{0} has no snapshots yet: sitefs{1} snapshot {0}",
                    log.site,
                    context.store_option()
                ));
                return page;
            }
            let bytes = if log.space.is_some() { ">ALONE" } else { ">ADDED" };
            let mut table = Table::new(["ID", "TAKEN", bytes, "PLATFORM", "AUTHOR", "MESSAGE"]);
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
                    size(snapshot.alone_bytes.unwrap_or(snapshot.added_bytes)),
                    snapshot.platform.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                    snapshot.author.clone(),
                    format!("{damaged}{tags}{subject}"),
                ]);
            }
            page.table(table);
            if let Some(space) = &log.space {
                page.gap();
                page.line(format!(
                    "{} that no other site has, {} of it in snapshots alone; {} shared with others",
                    size(space.own_bytes),
                    size(space.snapshots_bytes),
                    size(space.shared_bytes)
                ));
            }
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
