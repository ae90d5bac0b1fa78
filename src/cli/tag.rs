//! `sitefs tag`.

use clap::Args;

use super::context::{Context, Ended};
use super::format::short_id;
use super::page::Page;
use crate::base::TagName;
use crate::control::Revision;
use crate::control::request::Tag as Request;

/// Give a snapshot a name, which it keeps for ever
///
/// A tag is never moved: one that names another snapshot of the site already is refused.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sitefs tag shop.example@3fa9c1 release-7")]
pub(super) struct Tag {
    /// The snapshot
    #[arg(value_name = "SITE@ID", value_parser = Revision::parse_snapshot)]
    snapshot: Revision,
    /// The name
    tag: TagName,
}

impl Tag {
    pub(super) fn run(self, context: &Context) -> Ended {
        context.show(Request { snapshot: self.snapshot, tag: self.tag }, |tagged, _| {
            let mut page = Page::default();
            page.line(format!("{0}@{1} is {0}@{2}", tagged.site, tagged.tag, short_id(&tagged.snapshot)));
            page
        })
    }
}
