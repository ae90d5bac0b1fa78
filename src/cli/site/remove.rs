//! `sitefs site remove`.

use clap::Args;

use crate::base::SiteName;
use crate::cli::context::{Context, Ended};
use crate::cli::format::counted;
use crate::cli::page::Page;
use crate::control::request::SiteRemove;

/// Remove a clone, or a site with all its generations and snapshots
///
/// A site that is no clone is only removed with --force: nothing of it remains in the store, uploads and database
/// included.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs site remove shop-test
  sitefs site remove old.example --force")]
pub(in crate::cli) struct Remove {
    /// The site
    site: SiteName,
    /// Remove even a site that is no clone
    #[arg(long)]
    force: bool,
}

impl Remove {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(SiteRemove { site: self.site, force: self.force }, |removed, _| {
            let mut page = Page::default();
            page.line(format!(
                "removed {} with {} and {}",
                removed.site,
                counted(removed.generations, "generation", "generations"),
                counted(removed.snapshots, "snapshot", "snapshots"),
            ));
            page
        })
    }
}
