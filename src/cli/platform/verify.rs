//! `sitefs platform verify`.

use clap::Args;

use crate::base::PlatformName;
use crate::cli::context::{Context, Ended, Ending};
use crate::cli::format::counted;
use crate::cli::page::Page;
use crate::cli::verify::code_changes;
use crate::control::request::PlatformVerify;

/// Check that a platform's code is what it was when it was added
///
/// Reads and hashes the code again, and names each file that differs, with its owner and times. The exit code is 1 when
/// it differs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs platform verify drupal-10.3
  sitefs platform verify drupal-10.3 --accept")]
pub(in crate::cli) struct Verify {
    /// Its name
    platform: PlatformName,
    /// From now on the code is to be what it is now
    #[arg(long)]
    accept: bool,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Ended {
        let answer = context.ask(PlatformVerify { platform: self.platform, accept: self.accept })?;
        context.print(&answer, |answer, now| {
            let mut page = Page::default();
            let files = counted(answer.files, "file", "files");
            if answer.code_recorded == answer.code_found {
                page.line(format!("{}: {files}, the code is what was added", answer.platform));
                return page;
            }
            let verdict = if answer.accepted { "is accepted as it is now" } else { "IS NOT WHAT WAS ADDED" };
            page.line(match answer.accepted {
                true => format!("{}: {files}, the code {verdict}", answer.platform),
                false => format!("{}: {files}, THE CODE {verdict}", answer.platform),
            });
            page.line(format!("  recorded {}", answer.code_recorded));
            page.line(format!("  found    {}", answer.code_found));
            code_changes(&mut page, &answer.changes, answer.changes_count, now);
            page
        })?;
        Ok(if answer.matches() { Ending::Done } else { Ending::BadNews })
    }
}
