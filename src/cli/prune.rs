//! `sitefs prune`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, list, seconds, short_id, size, time};
use super::page::{Page, Table};
use crate::base::SiteName;
use crate::control::request::{Keep, Prune as Request};

/// Remove the snapshots of a site that a schedule does not keep
///
/// Kept are the newest snapshot of each of the last so many hours, days, weeks and months that have any (UTC, weeks from
/// Monday), the newest of all, and every snapshot with a tag. Without any --keep option the schedule of the
/// configuration holds. The space is free after `sitefs gc`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs prune shop.example --keep-hourly 24 --keep-daily 7 --dry-run
  sitefs prune shop.example")]
pub(super) struct Prune {
    /// The site
    site: SiteName,
    /// Keep one snapshot for each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep one snapshot for each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep one snapshot for each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep one snapshot for each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Say what would be removed and what that would free, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub(super) fn run(self, context: &Context) -> Ended {
        let given = [self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly];
        let keep = given.iter().any(Option::is_some).then(|| {
            let [hourly, daily, weekly, monthly] = given.map(Option::unwrap_or_default);
            Keep { hourly, daily, weekly, monthly }
        });
        context.show(Request { site: self.site, keep, dry_run: self.dry_run }, |pruned, now| {
            let mut page = Page::default();
            let mut table = Table::new(["ID", "TAKEN", "FATE", "MESSAGE"]);
            for snapshot in &pruned.snapshots {
                let fate = match (snapshot.kept_as.as_slice(), pruned.dry_run) {
                    ([], true) => "would be removed".to_owned(),
                    ([], false) => "removed".to_owned(),
                    (reasons, _) => format!("kept: {}", list(reasons, "")),
                };
                let tags = match snapshot.tags.as_slice() {
                    [] => String::new(),
                    tags => format!("({}) ", list(tags, "")),
                };
                let subject = snapshot.message.lines().next().unwrap_or_default();
                table.row([
                    short_id(&snapshot.id).to_owned(),
                    time(snapshot.created, now),
                    fate,
                    format!("{tags}{subject}"),
                ]);
            }
            page.table(table);
            let removed = counted(pruned.removed, "snapshot", "snapshots");
            let took = seconds(pruned.seconds);
            page.note(match (pruned.would_free_bytes, pruned.removed) {
                (Some(bytes), _) => {
                    format!("{removed} would be removed, which frees {}; {took}", size(bytes))
                }
                (None, 0) => format!("nothing to remove; {took}"),
                (None, _) => format!("removed {removed}; {took}; `sitefs gc` frees the space"),
            });
            page
        })
    }
}
