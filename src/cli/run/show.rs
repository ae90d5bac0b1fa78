//! `sitefs run show`.

use clap::Args;

use crate::base::{SiteName, Timestamp};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{printable, seconds, short_id, time};
use crate::cli::page::{Page, Table};
use crate::cli::status;
use crate::control::request::RunShow;
use crate::control::response::{RunDetails, RunState};

/// Show one update: who asked for it, its steps, times and how it ended
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs run show shop.example
  sitefs run show shop.example 20261121-140300-4fa9 --output")]
pub(in crate::cli) struct Show {
    /// The site
    site: SiteName,
    /// The run's name, or its beginning or end [default: the newest run of the site]
    run: Option<String>,
    /// What the commands of each step printed
    #[arg(long)]
    output: bool,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Ended {
        let store_option = context.store_option();
        context.show(RunShow { site: self.site, run: self.run, output: self.output }, |details, now| {
            let mut page = page(details, now);
            let site = &details.summary.site;
            page.note(match details.summary.state {
                RunState::Running => format!("it is under way: sitefs{store_option} status"),
                RunState::Interrupted => format!("sitefs{store_option} update {site} --resume, or --abort"),
                RunState::Done => format!("to go back: sitefs{store_option} rollback {site}"),
                RunState::Failed | RunState::RolledBack | RunState::Aborted => {
                    format!(
                        "what the commands printed: sitefs{store_option} run show {site} {} --output",
                        details.summary.run
                    )
                }
            });
            page
        })
    }
}

fn page(details: &RunDetails, now: Timestamp) -> Page {
    let summary = &details.summary;
    let mut page = Page::default();
    let length = |length: Option<f64>| length.map_or_else(|| "-".to_owned(), seconds);
    let to = details.to_generation.map_or_else(String::new, |number| format!(" (generation {number})"));
    page.fields([
        ("run", summary.run.clone()),
        ("site", summary.site.to_string()),
        ("what", format!("{}{to}, strategy {}", summary.what, details.strategy)),
        ("was on", format!("{} (generation {})", details.from, details.from_generation)),
        ("state", status::run_state(summary.state).to_owned()),
        ("at step", summary.step.clone().unwrap_or_else(|| "-".to_owned())),
        ("began", format!("{}, by {}", time(summary.started, now), summary.author)),
        ("ended", summary.ended.map_or_else(|| "-".to_owned(), |ended| time(ended, now))),
        (
            "writes held",
            format!(
                "{} (predicted {})",
                length(summary.held_seconds),
                length(summary.predicted_hold_seconds)
            ),
        ),
        (
            "backup",
            details
                .backup
                .as_deref()
                .map_or_else(|| "-".to_owned(), |id| format!("{}@{}", summary.site, short_id(id))),
        ),
    ]);
    for line in details.reason.lines() {
        page.line(format!("  {}", printable(line)));
    }
    page.gap();
    let mut table = Table::new([">", "STEP", "STATE", ">TOOK", "WHAT IT DID"]);
    for (place, step) in details.steps.iter().enumerate() {
        // Why a step failed is said above, and may be many lines.
        let message = step.message.lines().next().unwrap_or_default();
        table.row([
            (place + 1).to_string(),
            step.name.clone(),
            step.state.clone(),
            length(step.seconds),
            printable(message),
        ]);
    }
    page.table(table);
    for (place, step) in details.steps.iter().enumerate() {
        let Some(output) = &step.output else { continue };
        page.gap();
        page.line(format!("{}. {}", place + 1, step.name));
        for line in output.lines() {
            page.line(format!("  {}", printable(line)));
        }
    }
    page
}
