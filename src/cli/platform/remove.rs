//! `sitefs platform remove`.

use clap::Args;

use crate::base::PlatformName;
use crate::cli::context::{Context, Ended};
use crate::cli::page::Page;
use crate::control::request::PlatformRemove;

/// Forget a platform and uncover its sites directory
///
/// Its directory is left as it was before it was added. Refused while a generation of a site stands on it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs platform remove drupal-10.2")]
pub(in crate::cli) struct Remove {
    /// Its name
    platform: PlatformName,
}

impl Remove {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(PlatformRemove { platform: self.platform }, |removed, _| {
            let mut page = Page::default();
            page.line(format!("removed {}; {} is left as it was", removed.platform, removed.directory));
            page
        })
    }
}
