//! `sitefs platform add`.

use std::path::PathBuf;

use clap::Args;

use crate::base::{PlatformName, RelativePath};
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, seconds, size};
use crate::cli::page::Page;
use crate::control::request::{Docroot, PlatformAdd};

/// Make a directory with an application's code a platform
///
/// The code stays where it is and is served at native speed; only its sites directory is covered by a view, in which
/// the platform's own entries and the sites attached to it appear. The code is hashed, so that it can be proven later
/// what ran.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs platform add drupal-10.3 /var/aegir/platforms/drupal-10.3
  sitefs platform add wiki-1.43 /srv/wiki-1.43 --sites sites --docroot .")]
pub(in crate::cli) struct Add {
    /// A name for it
    platform: PlatformName,
    /// Its directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Its sites directory below that [default: web/sites, docroot/sites or sites, whichever is there]
    #[arg(long, value_name = "PATH")]
    sites: Option<RelativePath>,
    /// What the web server serves, below the directory, or '.' [default: where the sites directory is]
    #[arg(long, value_name = "PATH")]
    docroot: Option<Docroot>,
}

impl Add {
    pub(super) fn run(self, context: &Context) -> Ended {
        let directory = Context::absolute(&self.directory)?;
        let Add { platform, sites, docroot, .. } = self;
        context.show(PlatformAdd { platform, directory, sites, docroot }, |added, _| {
            let details = &added.details;
            let summary = &details.summary;
            let mut page = Page::default();
            page.line(format!(
                "added {}: {}, {}, {}, hashed in {}",
                summary.platform,
                summary.application.as_deref().unwrap_or("no application that a recipe knows"),
                counted(details.files, "file", "files"),
                size(details.size_bytes),
                seconds(added.seconds),
            ));
            page.note(format!(
                "its sites directory {}/{} now is a view of sitefs",
                summary.directory, details.sites_directory
            ));
            page.note(format!(
                "next: sitefs{} site import SITE DIR --platform {}",
                context.store_option(),
                summary.platform
            ));
            page
        })
    }
}
