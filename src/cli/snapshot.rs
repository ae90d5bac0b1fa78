//! `sitefs snapshot`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, short_id, size};
use super::page::Page;
use crate::base::{SiteName, TagName};
use crate::control::request::SnapshotTake;

/// Take a snapshot of a site, files and database, and print its id
///
/// Costs what changed since the last one. Visitors notice nothing: readers go on, writers wait for a moment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs snapshot shop.example -m 'before the sale'
  sitefs snapshot shop.example --tag release-7
  id=$(sitefs -q snapshot shop.example) && sitefs show shop.example@$id")]
pub(super) struct Snapshot {
    /// The site
    site: SiteName,
    /// Why it is taken
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// A name for it, which it keeps for ever
    #[arg(short, long)]
    tag: Option<TagName>,
    /// Leave the database out
    #[arg(long)]
    no_database: bool,
}

impl Snapshot {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Snapshot { site, message, tag, no_database } = self;
        context.show(SnapshotTake { site, message, tag, database: !no_database }, |taken, _| {
            let snapshot = &taken.snapshot;
            let mut page = Page::default();
            page.line(short_id(&snapshot.id));
            let database = snapshot.database.as_ref().map_or_else(
                || "no database".to_owned(),
                |found| {
                    let verified = if found.verified { ", verified" } else { "" };
                    format!("{} in {}{verified}", counted(found.rows, "row", "rows"), tables(found.tables))
                },
            );
            page.note(format!(
                "snapshot of {}: {}, {}; {database}; the store grew by {}; {}",
                snapshot.site,
                counted(snapshot.nodes, "file", "files"),
                size(snapshot.size_bytes),
                size(snapshot.added_bytes),
                seconds(taken.seconds),
            ));
            for path in &taken.unstable {
                page.note(format!(
                    "{path} was being written all the time: what was taken is not one state of it"
                ));
            }
            page
        })
    }
}

fn tables(number: u64) -> String {
    counted(number, "table", "tables")
}
