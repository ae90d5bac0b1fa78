//! `sitefs diff`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, printable, size};
use super::page::{Align, Page, Table};
use crate::control::Revision;
use crate::control::request::{Detail, Diff as Request};
use crate::control::response::{ChangeKind, DiffSummary, Differences, FileChange, TableChange};

/// Show what differs between two states of a site, files and tables
///
/// A state is SITE (as it is now), SITE@ID (a snapshot: the start of its id, or a tag) or SITE@{2h} (as of two hours
/// ago). The two may be of different sites: a site and its clone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs diff shop.example@release-7 shop.example
  sitefs diff shop.example shop-test --names
  sitefs diff 'shop.example@{1d}' shop.example --text | less")]
pub(super) struct Diff {
    /// The state to start from
    #[arg(value_name = "A")]
    old: Revision,
    /// The state to arrive at
    #[arg(value_name = "B")]
    new: Revision,
    #[command(flatten)]
    detail: DetailArgs,
}

/// How much to tell; at most one.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct DetailArgs {
    /// Sizes and lines of what differs, and sums [default]
    #[arg(long)]
    stat: bool,
    /// Only which files and tables differ, and how
    #[arg(long)]
    names: bool,
    /// A unified difference of the files that are text
    #[arg(long)]
    text: bool,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> Ended {
        let detail = match self.detail {
            DetailArgs { names: true, .. } => Detail::Names,
            DetailArgs { text: true, .. } => Detail::Text,
            DetailArgs { .. } => Detail::Stat,
        };
        let json = context.output.json;
        let mut kept = Vec::new();
        let mut answer = context.ask_for_data(Request { old: self.old, new: self.new, detail }, |bytes| {
            if json {
                kept.extend_from_slice(bytes);
                Ok(())
            } else {
                context.output.bytes(bytes)
            }
        })?;
        if json && detail == Detail::Text {
            answer.text = Some(String::from_utf8_lossy(&kept).into_owned());
        }
        context.print(&answer, |answer, _| page(answer, detail))
    }
}

fn page(answer: &Differences, detail: Detail) -> Page {
    let mut page = Page::default();
    match detail {
        Detail::Names => names(&mut page, &answer.files, &answer.tables),
        Detail::Stat => {
            stat(&mut page, &answer.files, &answer.tables);
            if !is_empty(&answer.summary) {
                page.line(summary(&answer.summary));
            }
        }
        Detail::Text => page.note(summary(&answer.summary)),
    }
    if is_empty(&answer.summary) && detail != Detail::Text {
        page.note(format!("no difference between {} and {}", answer.old, answer.new));
    }
    page
}

fn is_empty(summary: &DiffSummary) -> bool {
    *summary == DiffSummary::default()
}

/// One line for each file and table: how it differs, and its name.
pub(super) fn names(page: &mut Page, files: &[FileChange], tables: &[TableChange]) {
    let changes = files.iter().map(|file| (file.change, "", &file.path));
    let changes = changes.chain(tables.iter().map(|table| (table.change, "table ", &table.table)));
    for (change, kind, name) in changes {
        page.line(format!("{:10}  {kind}{name}", word(change)));
    }
}

/// How something differs, in a word.
pub(super) fn word(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Modified => "modified",
        ChangeKind::Attributes => "attributes",
        ChangeKind::Type => "type",
    }
}

/// As [`names`], with lines and sizes.
pub(super) fn stat(page: &mut Page, files: &[FileChange], tables: &[TableChange]) {
    let mut table = Table::bare([Align::Left, Align::Left, Align::Right, Align::Left]);
    for file in files {
        let lines = match (file.lines_added, file.lines_removed) {
            (Some(added), Some(removed)) => format!("+{added} -{removed}"),
            _ => String::new(),
        };
        let sizes = from_to(file.old_size_bytes.map(size), file.new_size_bytes.map(size));
        table.row([word(file.change).to_owned(), file.path.clone(), lines, sizes]);
    }
    for change in tables {
        let rows = |number: Option<u64>| number.map(|number| counted(number, "row", "rows"));
        let rows = from_to(rows(change.old_rows), rows(change.new_rows));
        let name = format!("table {}", change.table);
        table.row([word(change.change).to_owned(), name, String::new(), rows]);
    }
    page.table(table);
}

fn from_to(old: Option<String>, new: Option<String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old != new => format!("{old} -> {new}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => String::new(),
    }
}

/// `3 files changed, 1 added; 2 tables changed; the schema changed`.
pub(super) fn summary(summary: &DiffSummary) -> String {
    let part = |changed, added, removed, one, many| {
        let mut parts = Vec::new();
        for (number, what) in [(changed, "changed"), (added, "added"), (removed, "removed")] {
            if number > 0 {
                // The noun is said once.
                parts.push(if parts.is_empty() {
                    format!("{} {what}", counted(number, one, many))
                } else {
                    format!("{} {what}", super::format::count(number))
                });
            }
        }
        parts.join(", ")
    };
    let files = part(summary.files_changed, summary.files_added, summary.files_removed, "file", "files");
    let tables =
        part(summary.tables_changed, summary.tables_added, summary.tables_removed, "table", "tables");
    let schema = if summary.schema_changed { "the schema changed" } else { "" };
    let parts: Vec<String> =
        [files, tables, schema.to_owned()].into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "no difference".to_owned() } else { printable(&parts.join("; ")) }
}
