//! `sitefs deploy`.

use std::path::PathBuf;

use clap::Args;

use super::context::{Context, Ended};
use super::cutover::switched;
use super::format::{short_id, size};
use super::page::Page;
use crate::base::SiteName;
use crate::control::request::Deploy as Request;

/// Make a directory the site's next generation, and switch to it
///
/// The directory holds the site's code and settings as they shall be; the data directories (uploads and the like) and
/// the database are those of the site. Nobody gets a mix of old and new.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs deploy shop.example ./build/site -m 'release 8'")]
pub(super) struct Deploy {
    /// The site
    site: SiteName,
    /// The directory; it is only read
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What it is
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

impl Deploy {
    pub(super) fn run(self, context: &Context) -> Ended {
        let directory = Context::absolute(&self.directory)?;
        let Deploy { site, message, .. } = self;
        context.show(Request { site, directory, message }, |deployed, _| {
            let mut page = Page::default();
            switched(&mut page, &deployed.switched, &context.store_option());
            let snapshot = &deployed.snapshot;
            page.note(format!(
                "what was deployed is {}@{}; the store grew by {}",
                snapshot.site,
                short_id(&snapshot.id),
                size(snapshot.added_bytes)
            ));
            page
        })
    }
}
