//! `sitefs status`.

use clap::Args;

use super::context::{Context, Ended, Ending};
use super::format::{counted, relative, seconds, size, time};
use super::page::{Page, Table};
use super::{platform, site};
use crate::base::Timestamp;
use crate::control::request::Status as Request;
use crate::control::response::{RunState, RunSummary, StatusReport};

/// Show the daemon's health, platforms, sites, runs and space
///
/// The exit code is 1 when something is wrong: a mount that is gone, a run that was interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs status
  sitefs --json status")]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(self, context: &Context) -> Ended {
        let report = context.ask(Request {})?;
        context.print(&report, page)?;
        Ok(if report.problems.is_empty() { Ending::Done } else { Ending::BadNews })
    }
}

fn page(report: &StatusReport, now: Timestamp) -> Page {
    let mut page = Page::default();
    let space = &report.space;
    let mounted = report.mounts.iter().filter(|mount| mount.mounted).count();
    page.fields([
        (
            "daemon",
            format!(
                "version {}, process {}, since {}",
                report.version,
                report.pid,
                time(report.started, now)
            ),
        ),
        ("store", report.store.clone()),
        ("root", report.root.clone()),
        ("mounts", format!("{mounted} of {}", report.mounts.len())),
        (
            "space",
            format!(
                "{} for {} of content in {}; {} free",
                size(space.stored_bytes),
                size(space.raw_bytes),
                counted(space.objects, "object", "objects"),
                size(space.free_bytes)
            ),
        ),
        ("health", if report.problems.is_empty() { "good".to_owned() } else { "SEE BELOW".to_owned() }),
    ]);
    for problem in &report.problems {
        page.line(format!("  problem: {problem}"));
    }
    for notice in &report.notices {
        page.line(format!("  note: {notice}"));
    }
    for mount in report.mounts.iter().filter(|mount| !mount.mounted) {
        page.line(format!("  not mounted: {} ({})", mount.path, mount.shows));
    }
    if !report.platforms.is_empty() {
        page.gap();
        page.table(platform::table(&report.platforms));
    }
    if !report.sites.is_empty() {
        page.gap();
        page.table(site::table(&report.sites, now));
    }
    if !report.runs.is_empty() {
        page.gap();
        page.table(runs(&report.runs, now));
    }
    page
}

/// Runs, one a row.
pub(super) fn runs(runs: &[RunSummary], now: Timestamp) -> Table {
    let mut table =
        Table::new(["RUN", "SITE", "WHAT", "STATE", "STEP", "BEGAN", ">TOOK", ">HELD", ">PREDICTED", "BY"]);
    let length = |held: Option<f64>| held.map_or_else(|| "-".to_owned(), seconds);
    for run in runs {
        table.row([
            run.run.clone(),
            run.site.to_string(),
            run.what.clone(),
            run_state(run.state).to_owned(),
            run.step.clone().unwrap_or_else(|| "-".to_owned()),
            relative(run.started, now),
            run.ended.map_or_else(|| "-".to_owned(), |ended| took(ended.0.seconds_since(run.started.0))),
            length(run.held_seconds),
            length(run.predicted_hold_seconds),
            run.author.clone(),
        ]);
    }
    table
}

/// The state of a run, in words.
pub(super) fn run_state(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Interrupted => "INTERRUPTED",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::RolledBack => "rolled back",
        RunState::Aborted => "aborted",
    }
}

/// How long a run took: its times are whole seconds.
fn took(length: f64) -> String {
    if length < 1.0 { "< 1 s".to_owned() } else { seconds(length) }
}
