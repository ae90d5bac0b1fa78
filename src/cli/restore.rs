//! `sitefs restore`.

use std::path::PathBuf;

use clap::Args;

use super::context::{Context, Ended};
use super::format::{counted, seconds, short_id, size};
use super::page::Page;
use crate::base::RelativePath;
use crate::control::Revision;
use crate::control::request::Restore as Request;

/// Put files of a snapshot back
///
/// Into the live site, of which a snapshot is taken first, or into another directory. Paths are below the site's
/// directory; directories are restored with everything below them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs restore shop.example@release-7 settings.php files/logo.png
  sitefs restore 'shop.example@{1d}' files --into /tmp/yesterday")]
pub(super) struct Restore {
    /// The snapshot
    #[arg(value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    snapshot: Revision,
    /// What to restore
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<RelativePath>,
    /// A directory to write to instead of the site
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Ended {
        let into = self.into.as_deref().map(Context::absolute).transpose()?;
        let Restore { snapshot, paths, .. } = self;
        let site = snapshot.site.clone();
        context.show(Request { snapshot, paths, into }, |restored, _| {
            let mut page = Page::default();
            page.line(format!(
                "restored {}, {}, from {site}@{} to {} in {}",
                counted(restored.nodes, "file", "files"),
                size(restored.size_bytes),
                short_id(&restored.snapshot),
                restored.into,
                seconds(restored.seconds),
            ));
            if let Some(safety) = &restored.safety_snapshot {
                page.note(format!("the site as it was before is {site}@{}", short_id(safety)));
            }
            page
        })
    }
}
