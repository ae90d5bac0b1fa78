//! `sitefs show`.

use clap::Args;

use super::context::{Context, Ended};
use super::database::tables;
use super::format::{counted, list, size, time};
use super::page::Page;
use crate::base::Timestamp;
use crate::control::Revision;
use crate::control::request::Show as Request;
use crate::control::response::SnapshotDetails;

/// Show a snapshot: what it binds together, and where it can be browsed
///
/// SITE@ID takes the start of an id, a tag, or an age as in shop.example@{2h}.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs show shop.example@3fa9c1
  sitefs show shop.example@release-7
  sitefs show 'shop.example@{2h}'")]
pub(super) struct Show {
    /// The snapshot
    #[arg(value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    snapshot: Revision,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(Request { snapshot: self.snapshot }, page)
    }
}

fn page(details: &SnapshotDetails, now: Timestamp) -> Page {
    let snapshot = &details.snapshot;
    let mut page = Page::default();
    let platform = match (&snapshot.platform, &details.platform_code) {
        (Some(platform), Some(code)) => format!("{platform}, code {code}"),
        (Some(platform), None) => platform.to_string(),
        (None, _) => "none".to_owned(),
    };
    let database = snapshot.database.as_ref().map_or_else(
        || "none".to_owned(),
        |found| {
            if !found.verified && found.tables == 0 {
                return format!("{}, not read when it was taken", found.engine);
            }
            let verified = if found.verified { "verified" } else { "not verified" };
            let tables = counted(found.tables, "table", "tables");
            format!("{}, {tables}, {}, {verified}", found.engine, counted(found.rows, "row", "rows"))
        },
    );
    page.fields([
        ("snapshot", snapshot.id.clone()),
        ("site", snapshot.site.to_string()),
        ("taken", format!("{} by {}", time(snapshot.created, now), snapshot.author)),
        ("message", message(&snapshot.message)),
        ("tags", list(&snapshot.tags, "-")),
        ("before it", details.parent.clone().unwrap_or_else(|| "-".to_owned())),
        ("platform", platform),
        ("generation", snapshot.generation.map_or_else(|| "-".to_owned(), |number| number.to_string())),
        ("files", format!("{}, {}", counted(snapshot.nodes, "file", "files"), size(snapshot.size_bytes))),
        ("store grew by", size(snapshot.added_bytes)),
        ("data", list(&details.data, "-")),
        ("database", database),
        ("browse it at", details.path.clone()),
    ]);
    if !details.tables.is_empty() {
        page.gap();
        page.table(tables(&details.tables));
    }
    page
}

/// The lines of a message beside each other: the value of a field is one line.
fn message(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "-".to_owned() } else { lines.join(" / ") }
}
