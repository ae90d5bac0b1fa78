//! `sitefs rollback`.

use clap::Args;

use super::context::{Context, Ended};
use super::cutover::switched;
use super::page::Page;
use crate::base::SiteName;
use crate::control::Target;
use crate::control::request::Rollback as Request;

/// Switch a site back to the generation that was live before
///
/// Code, settings and database go back together, as that generation left them; the data directories (uploads and the
/// like) stay, so no upload is lost. What visitors wrote to the newer generation's database stays with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sitefs rollback shop.example
  sitefs rollback shop.example --to 11
  sitefs rollback shop.example --code-only
  sitefs rollback shop.example --to shop.example@release-7")]
pub(super) struct Rollback {
    /// The site
    site: SiteName,
    /// What to go back to [default: what was live before]
    #[arg(long, value_name = "GENERATION|SITE@ID")]
    to: Option<Target>,
    /// Leave the database as it is now: a new generation with the code of the old one
    #[arg(long)]
    code_only: bool,
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> Ended {
        let Rollback { site, to, code_only } = self;
        context.show(Request { site, to, code_only }, |answer, _| {
            let mut page = Page::default();
            switched(&mut page, answer, &context.store_option());
            page
        })
    }
}
