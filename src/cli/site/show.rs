//! `sitefs site show`.

use clap::Args;

use crate::base::{SiteName, Timestamp};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{list, relative, short_id, size, time};
use crate::cli::page::{Page, Table};
use crate::cli::status;
use crate::control::request::SiteShow;
use crate::control::response::{GenerationInfo, GenerationState, SiteDetails};

/// Show a site: where it is, its generations, settings and runs
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs site show shop.example")]
pub(in crate::cli) struct Show {
    /// Its name
    site: SiteName,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(SiteShow { site: self.site }, page)
    }
}

fn page(details: &SiteDetails, now: Timestamp) -> Page {
    let summary = &details.summary;
    let mut page = Page::default();
    let database = details.database.as_ref().map_or_else(
        || "none".to_owned(),
        |found| format!("{} {}, {}", found.engine, found.name, size(found.size_bytes)),
    );
    let snapshots = match summary.newest_snapshot {
        Some(newest) => format!("{}, the newest {}", summary.snapshots, relative(newest, now)),
        None => summary.snapshots.to_string(),
    };
    page.fields([
        ("site", summary.site.to_string()),
        ("application", summary.app.clone()),
        ("live generation", format!("{} on {}", summary.generation, summary.platform)),
        ("live link", details.live_link.clone()),
        ("document root", summary.document_root.clone()),
        ("directory", details.path.clone()),
        ("data directories", list(&details.data, "none")),
        ("database", database),
        ("snapshots", snapshots),
    ]);
    if let Some(origin) = &summary.clone_of {
        page.line(format!("clone of          {origin}"));
    }
    if let Some(expires) = summary.expires {
        page.line(format!("expires           {}", time(expires, now)));
    }
    for setting in &details.settings {
        let value = setting.value.as_deref().unwrap_or("(not set)");
        page.line(format!("setting           {} = {value} ({})", setting.key, super::origin(setting)));
    }
    page.gap();
    page.table(generations(&details.generations, now));
    if !details.runs.is_empty() {
        page.gap();
        page.table(status::runs(&details.runs, now));
    }
    page
}

fn generations(generations: &[GenerationInfo], now: Timestamp) -> Table {
    let mut table =
        Table::new([">GENERATION", "STATE", "PLATFORM", "LANE", "MADE", "FROM SNAPSHOT", "DIRECTORY"]);
    for generation in generations {
        let state = match generation.state {
            GenerationState::Staged => "staged",
            GenerationState::Live => "LIVE",
            GenerationState::Draining => "draining",
            GenerationState::Previous => "previous",
            GenerationState::Retired => "retired",
        };
        table.row([
            generation.generation.to_string(),
            state.to_owned(),
            generation.platform.to_string(),
            generation.lane.to_string(),
            relative(generation.created, now),
            generation.snapshot.as_deref().map_or("-", short_id).to_owned(),
            generation.path.clone(),
        ]);
    }
    table
}
