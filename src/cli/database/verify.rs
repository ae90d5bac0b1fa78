//! `sitefs database verify`.

use clap::Args;

use super::tables;
use crate::cli::context::{Context, Ended, Ending};
use crate::cli::format::{counted, seconds};
use crate::cli::page::Page;
use crate::control::Revision;
use crate::control::request::DatabaseVerify;

/// Check a site's database, or that of a snapshot, and show the checksum of every table
///
/// Runs the engine's own integrity check; a snapshot's database is restored for that, and its tables are compared with
/// what the snapshot recorded. The exit code is 1 when something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs database verify shop.example
  sitefs database verify shop.example@release-7")]
pub(in crate::cli) struct Verify {
    /// The site, or a snapshot of it
    #[arg(value_name = "SITE[@ID]")]
    of: Revision,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Ended {
        let answer = context.ask(DatabaseVerify { of: self.of })?;
        context.print(&answer, |answer, _| {
            let mut page = Page::default();
            page.table(tables(&answer.tables));
            page.gap();
            let verdict = if answer.problems.is_empty() { "sound" } else { "NOT SOUND" };
            page.line(format!(
                "{} ({}): {verdict}, {} checked in {}",
                answer.of,
                answer.engine,
                counted(answer.tables.len() as u64, "table", "tables"),
                seconds(answer.seconds),
            ));
            for problem in &answer.problems {
                page.line(format!("  problem: {problem}"));
            }
            page
        })?;
        Ok(if answer.problems.is_empty() { Ending::Done } else { Ending::BadNews })
    }
}
