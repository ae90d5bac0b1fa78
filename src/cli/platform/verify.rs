//! `sitefs platform verify`.

use clap::Args;

use crate::base::PlatformName;
use crate::cli::context::{Context, Ended, Ending};
use crate::cli::format::counted;
use crate::cli::page::Page;
use crate::control::request::PlatformVerify;

/// Check that a platform's code is what it was when it was added
///
/// Reads and hashes the code again. The exit code is 1 when it differs.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs platform verify drupal-10.3")]
pub(in crate::cli) struct Verify {
    /// Its name
    platform: PlatformName,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Ended {
        let answer = context.ask(PlatformVerify { platform: self.platform })?;
        context.print(&answer, |answer, _| {
            let mut page = Page::default();
            let files = counted(answer.files, "file", "files");
            if answer.matches() {
                page.line(format!("{}: {files}, the code is what was added", answer.platform));
                return page;
            }
            page.line(format!("{}: {files}, THE CODE IS NOT WHAT WAS ADDED", answer.platform));
            page.line(format!("  recorded {}", answer.code_recorded));
            page.line(format!("  found    {}", answer.code_found));
            crate::cli::diff::names(&mut page, &answer.changes, &[]);
            page
        })?;
        Ok(if answer.matches() { Ending::Done } else { Ending::BadNews })
    }
}
