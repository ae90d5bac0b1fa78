//! `sitefs update`.

use std::thread;

use clap::{Args, ValueEnum};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::context::{Context, Ended};
use super::diff;
use super::format::{seconds, short_id};
use super::output::Loudness;
use super::page::Page;
use crate::base::{PlatformName, SiteName};
use crate::control::Failure;
use crate::control::request::{Strategy, Update as Request, UpdateAction, UpdateOptions};
use crate::control::response::{UpdateOutcome, UpdatePlan, UpdateReport, Updated};

/// Update a site to another platform: rehearsed on a clone, released by one switch
///
/// Takes a snapshot with a verified backup, rehearses the application's update on a clone, shows what that changed,
/// does the same on a new generation while writes to the site are held, and switches to it. Visitors go on reading
/// all the time. A failure before the switch leaves the site untouched; a failed check after it switches back (exit
/// code 4). The daemon does the work: closing the terminal does not stop it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs update shop.example --platform drupal-10.4 --dry-run
  sitefs update shop.example --platform drupal-10.4
  sitefs update shop.example --platform drupal-10.4 --check 'curl -sf $SITEFS_URI/cart' --keep-test
  sitefs update shop.example --resume")]
pub(super) struct Update {
    /// The site
    site: SiteName,
    /// The platform to move to
    #[arg(long, required_unless_present_any = ["resume", "abort"])]
    platform: Option<PlatformName>,
    /// How the live site is treated: switch updates a new generation and moves one pointer; in-place moves the pointer
    /// first, updates the live database, and restores it if that fails
    #[arg(long, value_enum, default_value_t = StrategyArg::Switch)]
    strategy: StrategyArg,
    /// A command that must succeed on the updated site, besides the recipe's own; may be given several times
    #[arg(long, value_name = "CMD")]
    check: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep the rehearsal's clone
    #[arg(long)]
    keep_test: bool,
    /// Accept a platform of an older version, whose code may not know the database's schema
    #[arg(long)]
    allow_downgrade: bool,
    /// Go on with the run that was interrupted
    #[arg(long, conflicts_with_all = ["platform", "strategy", "check", "dry_run", "keep_test", "allow_downgrade", "abort"])]
    resume: bool,
    /// Take back what the interrupted run has done
    #[arg(long, conflicts_with_all = ["platform", "strategy", "check", "dry_run", "keep_test", "allow_downgrade"])]
    abort: bool,
}

/// As [`Strategy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    Switch,
    InPlace,
}

impl Update {
    pub(super) fn run(self, context: &Context) -> Ended {
        let action = match self.platform {
            Some(platform) => {
                let strategy = match self.strategy {
                    StrategyArg::Switch => Strategy::Switch,
                    StrategyArg::InPlace => Strategy::InPlace,
                };
                let options = UpdateOptions {
                    platform,
                    strategy,
                    checks: self.check,
                    keep_test: self.keep_test,
                    allow_downgrade: self.allow_downgrade,
                };
                if self.dry_run { UpdateAction::Plan(options) } else { UpdateAction::Start(options) }
            }
            None if self.abort => UpdateAction::Abort,
            None => UpdateAction::Resume,
        };
        if matches!(action, UpdateAction::Start(_) | UpdateAction::Resume) {
            tell_on_interrupt(context, &self.site)?;
        }
        context.show(Request { site: self.site, action }, |outcome, _| match outcome {
            UpdateOutcome::Planned(plan) => plan_page(plan),
            UpdateOutcome::Updated(updated) => {
                updated_page(updated, &context.store_option(), context.output.loudness)
            }
            UpdateOutcome::Aborted(report) => aborted_page(report),
        })
    }
}

/// A person who interrupts this command learns that the run goes on: the daemon does it.
fn tell_on_interrupt(context: &Context, site: &SiteName) -> Result<(), Failure> {
    let option = context.store_option();
    let text = format!(
        "the update goes on in the daemon; `sitefs{option} status` shows it, `sitefs{option} site show {site}` how it ended"
    );
    let mut signals = Signals::new([SIGINT])
        .map_err(|error| Failure::failed("cannot catch the interrupt key").because(&error))?;
    let output = context.output;
    thread::spawn(move || {
        for signal in signals.forever() {
            output.warning(&text);
            // Ends this process as the signal would have.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

fn plan_page(plan: &UpdatePlan) -> Page {
    let mut page = Page::default();
    let strategy = match plan.strategy {
        Strategy::Switch => "switch",
        Strategy::InPlace => "in-place",
    };
    page.line(format!(
        "update of {} ({}) from {} to {}, strategy {strategy}",
        plan.site, plan.app, plan.from, plan.to
    ));
    page.line(format!("  {}", plan.choice));
    for warning in &plan.warnings {
        page.line(format!("  warning: {warning}"));
    }
    let width = plan.steps.len().to_string().len();
    for (place, step) in plan.steps.iter().enumerate() {
        let held = if step.holds_writes { " (writes held)" } else { "" };
        page.line(format!("{:>width$}. {}{held}", place + 1, step.name));
        page.line(format!("{:width$}    {}", "", step.action));
        if let Some(undo) = &step.undo {
            page.line(format!("{:width$}    taken back by: {undo}", ""));
        }
    }
    page.line(match plan.predicted_hold_seconds {
        Some(predicted) => format!("writes would be held for about {}", seconds(predicted)),
        None => "how long writes would be held is not known before the first rehearsal".to_owned(),
    });
    page.note("nothing was done: this was a dry run");
    page
}

fn updated_page(updated: &Updated, store_option: &str, loudness: Loudness) -> Page {
    let report = &updated.report;
    let mut page = Page::default();
    page.line(format!(
        "{} is on {} now (generation {}), was on {} (generation {})",
        report.site,
        updated.new.platform,
        updated.new.generation,
        updated.old.platform,
        updated.old.generation
    ));
    page.fields([
        ("  difference", diff::summary(&updated.summary)),
        (
            "  writes held",
            format!(
                "{} (predicted {})",
                seconds(updated.held_seconds),
                seconds(updated.predicted_hold_seconds)
            ),
        ),
        ("  took", format!("{} in {} steps", seconds(report.seconds), report.steps.len())),
        ("  backup", format!("{}@{}", report.site, short_id(&updated.backup))),
        ("  run", format!("{}, log {}", report.run, report.log)),
    ]);
    if let Some(test) = &updated.test {
        page.line(format!("  clone kept   {test}"));
    }
    if loudness >= Loudness::Verbose {
        diff::stat(&mut page, &updated.files, &updated.tables);
    }
    page.note(format!("to go back: sitefs{store_option} rollback {}", report.site));
    page
}

fn aborted_page(report: &UpdateReport) -> Page {
    let mut page = Page::default();
    page.line(format!("{} is on {} as before the run {}", report.site, report.from, report.run));
    page
}
