//! `sitefs platform show`.

use clap::Args;

use crate::base::PlatformName;
use crate::cli::context::{Context, Ended};
use crate::cli::format::{counted, list, size, time};
use crate::cli::page::Page;
use crate::control::request::PlatformShow;

/// Show a platform: its code's hash, its sites, its mounts
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs platform show drupal-10.3")]
pub(in crate::cli) struct Show {
    /// Its name
    platform: PlatformName,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(PlatformShow { platform: self.platform }, |details, now| {
            let summary = &details.summary;
            let mut page = Page::default();
            page.fields([
                ("platform", summary.platform.to_string()),
                ("application", summary.application.clone().unwrap_or_else(|| "not known".to_owned())),
                ("directory", summary.directory.clone()),
                ("document root", details.document_root.clone()),
                ("sites directory", details.sites_directory.to_string()),
                ("live sites", list(&summary.sites, "none")),
                ("code", details.code.clone()),
                (
                    "size",
                    format!("{}, {}", counted(details.files, "file", "files"), size(details.size_bytes)),
                ),
                ("added", time(details.added, now)),
            ]);
            for mount in &details.mounts {
                page.line(format!(
                    "mount            {}: {}{}",
                    mount.path,
                    mount.shows,
                    if mount.mounted { "" } else { " - NOT MOUNTED" }
                ));
            }
            page
        })
    }
}
